"""The log that the settings ask for.  Imports nothing of the server: whoever only supervises workers logs, too."""

from urllib.parse import unquote, urlsplit

from gatekeeper.config.schema import Settings
from gatekeeper.config.snapshot import uses_secure_cookies
from gatekeeper.core.cookies import cookie_names
from gatekeeper.telemetry.log import Log, open_log


def open_configured_log(settings: Settings, *, turns: int | None = None) -> Log:
    """The log of these settings, which holds none of their secrets.  Raises LogFileError.

    `turns` is the file descriptor by which processes that write to the same place take turns (see `Sink`).
    """
    return open_log(
        format=settings.log.format,
        file=settings.log.file,
        access=settings.log.access,
        secrets=secrets_of(settings),
        cookie_names=_cookie_names_of(settings),
        turns=turns,
    )


def secrets_of(settings: Settings) -> list[str]:
    """Everything in the settings that must not stand in a log."""
    found = [secret.value for secret in settings.secrets]
    for url in (settings.store.url, settings.store.secondary, settings.accounts.smtp):
        password = urlsplit(url).password if url else None
        if password:
            found += [password, unquote(password)]
    if settings.admin.token:
        found.append(settings.admin.token)
    return found


def _cookie_names_of(settings: Settings) -> tuple[str, ...]:
    names = cookie_names(settings.session.cookie.prefix, secure=uses_secure_cookies(settings))
    return (names.session_token, names.session_data, names.dont_remember)
