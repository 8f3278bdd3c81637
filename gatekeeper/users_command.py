"""`gatekeeper users`: the accounts that the gate keeps, and what a person changes about them.

Users are named by id or e-mail address.  Passwords come in as text and go out as hashes; none is printed.
"""

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import click
import msgspec

from gatekeeper.config.schema import Settings
from gatekeeper.core.accounts import SALT_BYTES, UNUSABLE_HASH, hash_password, is_email, make_id, password_fault
from gatekeeper.core.errors import GatekeeperError, MissingTable
from gatekeeper.core.model import User
from gatekeeper.server.documents import user_document
from gatekeeper.sessions_command import minute, printable
from gatekeeper.stores.accounts import RESET_LINK, Credential, EmailTaken, NewUser, NewVerification
from gatekeeper.stores.opening_accounts import open_accounts
from gatekeeper.stores.sql_accounts import SqlAccounts

HEADINGS = ("id", "e-mail", "name", "verified", "created", "state")
LINK_MS = 3_600_000
"""How long a link to set a password can be followed."""

LINK_TOKEN_LENGTH = 24

_COLOURS = {"active": "green", "disabled": "red", "no password": "yellow"}


class Done(msgspec.Struct, frozen=True):
    """What was done to a user, and how many sessions ended with it.  `hint` is what remains to be said."""

    user: User
    revoked: int = 0
    hint: str | None = None


class Link(msgspec.Struct, frozen=True):
    """A link that sets a new password once, and when it ends (milliseconds since the epoch)."""

    user: User
    url: str
    expires_at_ms: int


async def add_user(settings: Settings, email: str, name: str, password: str, *, verified: bool, now_ms: int) -> User:
    """Make a user.  Raises GatekeeperError where the address is taken or none, or the password is too short or long."""
    if not is_email(email):
        raise GatekeeperError("this is no e-mail address")
    _refuse_password(settings, password)
    user = NewUser(
        id=make_id(os.urandom),
        account_id=make_id(os.urandom),
        name=name,
        email=email.lower(),
        password=_hash(password),
        email_verified=verified,
    )
    async with _accounts(settings) as accounts:
        made = await accounts.create_user(user, None, now_ms=now_ms)
    if isinstance(made, EmailTaken):
        raise GatekeeperError("there is a user with this address already")
    return made.user


async def list_users(settings: Settings, limit: int) -> tuple[Sequence[Credential], bool]:
    """Users, newest first, at most so many, and whether there are others."""
    async with _accounts(settings) as accounts:
        found = await accounts.list_users(limit=limit + 1)
    return found[:limit], len(found) > limit


async def disable_user(settings: Settings, name: str, now_ms: int) -> Done:
    """Keep the user from signing in, and end all sessions.  Raises GatekeeperError where there is no such user."""
    async with _accounts(settings) as accounts:
        user = await _find(accounts, name)
        done = await accounts.disable_user(user.id, now_ms=now_ms)
    if done is None:
        raise _no_user()
    hint = None if done.is_banned else "the password was taken away: only a new one lets this user in again"
    return Done(done.user, len(done.revoked), hint)


async def enable_user(settings: Settings, name: str, now_ms: int) -> Done:
    """Undo it, as far as it can be: a password that was taken away is to be set anew."""
    async with _accounts(settings) as accounts:
        user = await _find(accounts, name)
        found = await accounts.enable_user(user.id, now_ms=now_ms)
    if found is None:
        raise _no_user()
    hint = "the password was taken away: set a new one" if found.password == UNUSABLE_HASH else None
    return Done(found.user, hint=hint)


async def verify_user(settings: Settings, name: str, now_ms: int) -> Done:
    """Count the e-mail address as verified."""
    async with _accounts(settings) as accounts:
        user = await _find(accounts, name)
        changed = await accounts.update_user(user.id, {"emailVerified": True}, now_ms=now_ms)
    if changed is None:
        raise _no_user()
    return Done(changed)


async def set_password(settings: Settings, name: str, password: str, now_ms: int) -> Done:
    """Give the user this password and end all sessions, since whoever had the old one may have some."""
    _refuse_password(settings, password)
    async with _accounts(settings) as accounts:
        user = await _find(accounts, name)
        changed = await accounts.change_password(
            user.id, _hash(password), account_id=make_id(os.urandom), now_ms=now_ms, revoke=True
        )
    if changed is None:
        raise _no_user()
    hint = "this user is banned, and cannot sign in for all that" if user.banned else None
    return Done(user, len(changed.revoked), hint)


async def reset_link(settings: Settings, name: str, now_ms: int) -> Link:
    """A link by which the user sets a new password, once.  Raises GatekeeperError for who was disabled."""
    if settings.public_url is None:
        raise GatekeeperError("public_url: say where the gate is, for the link to lead there")
    async with _accounts(settings) as accounts:
        user = await _find(accounts, name)
        credential = await accounts.find_by_id(user.id)
        if user.banned or credential is None or credential.password == UNUSABLE_HASH:
            raise GatekeeperError("this user was disabled: no link would let them in")
        token = make_id(os.urandom, LINK_TOKEN_LENGTH)
        expires_at_ms = now_ms + LINK_MS
        identifier = f"{RESET_LINK}{token}"
        await accounts.create_verification(
            NewVerification(make_id(os.urandom), identifier, user.id, expires_at_ms), now_ms=now_ms
        )
    url = f"{settings.public_url.rstrip('/')}/.gatekeeper/reset-password?token={token}"
    return Link(user, url, expires_at_ms)


def state_of(credential: Credential) -> str:
    """`active`, `disabled`, or `no password` for who never had one."""
    if credential.user.banned or credential.password == UNUSABLE_HASH:
        return "disabled"
    return "active" if credential.password else "no password"


def documents_of(credentials: Sequence[Credential]) -> list[dict[str, Any]]:
    """For programs: each user with the state."""
    return [{"user": user_document(one.user), "state": state_of(one)} for one in credentials]


def table_of(credentials: Sequence[Credential]) -> list[str]:
    """For people: a line of headings and one for each user, the state in colour."""
    rows = [HEADINGS, *map(_row, credentials)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for number, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        state = row[-1] if number == 0 else click.style(row[-1], fg=_COLOURS[row[-1]])
        lines.append("  ".join([*cells, state]))
    return [click.style(lines[0], bold=True), *lines[1:]]


def _row(credential: Credential) -> tuple[str, ...]:
    user = credential.user
    verified = "yes" if user.email_verified else "no"
    return (
        printable(user.id),
        printable(user.email),
        printable(user.name),
        verified,
        minute(user.created_at_ms),
        state_of(credential),
    )


@asynccontextmanager
async def _accounts(settings: Settings) -> AsyncGenerator[SqlAccounts, None]:
    if not settings.accounts.enabled:
        raise GatekeeperError("accounts.enabled: it is off, so the app keeps its users itself")
    accounts, _ = open_accounts(settings)
    try:
        yield accounts
    except MissingTable as error:
        raise GatekeeperError(f"{error}: run `gatekeeper migrate` first") from error
    finally:
        await accounts.close()


async def _find(accounts: SqlAccounts, name: str) -> User:
    """The user with this address, or this id."""
    found = await accounts.find_by_email(name) if "@" in name else await accounts.find_by_id(name)
    if found is None:
        raise _no_user()
    return found.user


def _no_user() -> GatekeeperError:
    return GatekeeperError("there is no such user")


def _refuse_password(settings: Settings, password: str) -> None:
    fault = password_fault(password, settings.accounts.min_password_length)
    if fault is not None:
        raise GatekeeperError(f"the password is too {fault.name.removeprefix('TOO_').lower()}")


def _hash(password: str) -> str:
    return hash_password(password, os.urandom(SALT_BYTES))
