"""Accounts mode, put together: what account calls are given by a running gate."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from gatekeeper.config.schema import Settings
from gatekeeper.config.smtp_url import parse_smtp_url
from gatekeeper.config.snapshot import account_base
from gatekeeper.core.attempts import Limit
from gatekeeper.server.auth_api import AuthApi
from gatekeeper.server.auth_call import AuthSettings, Services
from gatekeeper.server.gate import Gate, new_uuid
from gatekeeper.server.known_sessions import KnownSessions
from gatekeeper.server.mail import SmtpMail
from gatekeeper.server.passwords import Passwords, threads_for
from gatekeeper.server.streams import Streams
from gatekeeper.server.throttle import Throttle

_WAITING = "Passwords that wait to be looked at."


@asynccontextmanager
async def open_accounts_mode(settings: Settings, gate: Gate, streams: Streams) -> AsyncGenerator[AuthApi | None]:
    """The account calls of these settings until the block ends; None where the app has the accounts."""
    if not settings.accounts.enabled:
        yield None
        return
    from gatekeeper.stores.opening_accounts import open_accounts  # companion mode does without

    accounts, attempts = open_accounts(settings)
    mail = _open_mail(settings)
    passwords = Passwords(threads_for(*_shares(settings)))
    rate = settings.limits.sign_in_attempts
    services = Services(
        accounts=accounts,
        sessions=KnownSessions(gate, streams),
        passwords=passwords,
        throttle=Throttle(attempts, Limit(rate.count, round(rate.per * 1000))),
        mail=mail,
        random_bytes=os.urandom,
        new_uuid=new_uuid,
        audit=gate.telemetry.audit,
        data_cookies=gate.runtime.data_cookies,
    )
    gate.telemetry.gauge("gatekeeper_passwords_waiting", _WAITING, lambda: {(): passwords.waiting})
    api = AuthApi(_auth_settings(settings, gate), services, gate.clock)
    try:
        yield api
    finally:
        await api.close()
        await passwords.close()
        if mail is not None:
            await mail.close()
        await accounts.close()


def _open_mail(settings: Settings) -> SmtpMail | None:
    """What sends mail; None where none is sent."""
    url = settings.accounts.smtp
    if url is None:
        return None
    host = urlsplit(settings.public_url or "").hostname
    return SmtpMail(parse_smtp_url(url), settings.branding.name or host or "")


def _shares(settings: Settings) -> tuple[int, int]:
    """The cores there are, and how many workers share them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores, cores if settings.workers == "auto" else settings.workers


def _auth_settings(settings: Settings, gate: Gate) -> AuthSettings:
    snapshot = gate.runtime.snapshot
    accounts, fields = settings.accounts, settings.store.fields
    return AuthSettings(
        keys=snapshot.keys,
        names=snapshot.cookies,
        scope=snapshot.cookie_scope,
        data_format=snapshot.data_format,
        lifetimes=snapshot.lifetimes,
        fresh_age_s=settings.session.fresh_age,
        base_path=account_base(settings).path,
        trusted_origins=frozenset(settings.trusted_origins),
        sign_up=accounts.sign_up,
        min_password_length=accounts.min_password_length,
        bearer=snapshot.bearer,
        user_fields=fields.user,
        session_fields=fields.session,
        look=gate.pages.look,
    )
