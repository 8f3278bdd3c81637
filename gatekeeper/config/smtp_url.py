"""The URL of a mail server: where it is, who signs in, whom mails are from, and how the way there is encrypted.

    smtp://user:password@mail.example.com?from=no-reply@example.com
    smtps://user%40example.com:password@mail.example.com

`smtps://` is TLS from the first byte, by default on port 465 (RFC 8314 §3.3).  `smtp://`, by default on port 587, is
encrypted by STARTTLS (RFC 3207): always where there are user and password, and to every other machine; never to this
machine without them, where a relay rarely has a certificate.  `starttls=never` turns it off where no password would
go to another machine.  Nothing is encrypted only "if possible": who sits in between could make it impossible.

Knows nothing of connections.  No message quotes the URL, since any part of it may be a piece of a password that was
not percent-encoded.
"""

import re
from collections.abc import Iterator
from typing import Literal
from urllib.parse import SplitResult, unquote

import msgspec

from gatekeeper.config.addresses import is_loopback, split_url
from gatekeeper.config.schema import Settings
from gatekeeper.core.errors import GatekeeperError
from gatekeeper.core.urls import is_valid_host

Security = Literal["starttls", "tls", "none"]

DEFAULT_PORTS = {"smtp": 587, "smtps": 465}
"""By the scheme of the URL."""

_OPTIONS = ("from", "starttls")
_ATOM = r"[A-Za-z0-9!#$&'*+/=^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")
_MAX_ADDRESS = 254
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


class SmtpServer(msgspec.Struct, frozen=True):
    """A mail server.  Without `user` there is no `password`, and nobody signs in.  `sender` is a bare address."""

    host: str
    port: int
    user: str | None
    password: str | None
    security: Security
    sender: str

    def __repr__(self) -> str:
        return f"SmtpServer({self.label})"

    @property
    def label(self) -> str:
        """What messages call it: host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_smtp_url(url: str) -> SmtpServer:
    """The mail server that this URL says.  Raises GatekeeperError for what is not understood, and what is not safe."""
    parts = split_url(url)
    if parts is None:
        raise _not_understood("this is no URL")
    if parts.scheme not in DEFAULT_PORTS:
        raise _not_understood("it does not begin with smtp:// or smtps://")
    if "#" in url or parts.path not in ("", "/"):
        raise _not_understood("after the host and the port there is only ?from=… and ?starttls=never")
    options = _options_of(parts)
    host = _host_of(parts)
    user, password = _credentials_of(parts)
    return SmtpServer(
        host=host,
        port=parts.port or DEFAULT_PORTS[parts.scheme],
        user=user,
        password=password,
        security=_security_of(parts.scheme, host, options.get("starttls"), signs_in=user is not None),
        sender=_sender_of(options.get("from"), user),
    )


def check_smtp(settings: Settings) -> Iterator[tuple[str, str]]:
    """Everything that is wrong with where mail goes."""
    accounts = settings.accounts
    if accounts.smtp is None:
        return
    try:
        parse_smtp_url(accounts.smtp)
    except GatekeeperError as error:
        yield "accounts.smtp", str(error)
    if accounts.enabled and settings.public_url is None:
        # Links would begin with the Host of whoever asks for the mail, who need not be whom it goes to.
        yield "accounts.smtp", "links in mails need public_url: else anybody could have them lead to another site"


def _options_of(parts: SplitResult) -> dict[str, str]:
    options: dict[str, str] = {}
    for option in filter(None, parts.query.split("&")):
        name, _, value = option.partition("=")
        if name not in _OPTIONS or name in options:
            raise _not_understood("after '?' there are from and starttls, each once")
        options[name] = _decoded(value)
    return options


def _host_of(parts: SplitResult) -> str:
    if not parts.hostname:
        raise _not_understood("it names no host")
    if parts.port == 0:
        raise _not_understood("port 0 is none")
    try:
        parts.hostname.encode("idna")  # as it is looked up: no label is empty or too long
    except UnicodeError:
        is_name = False
    else:
        is_name = is_valid_host(parts.netloc.rpartition("@")[2])
    if not is_name:
        raise _not_understood("its host is no name or address; write names with other letters in their xn-- form")
    return parts.hostname


def _credentials_of(parts: SplitResult) -> tuple[str | None, str | None]:
    user, password = _decoded(parts.username or ""), _decoded(parts.password or "")
    if bool(user) != bool(password):
        raise _not_understood("user and password come together: smtp://user:password@host")
    return user or None, password or None


def _decoded(text: str) -> str:
    try:
        plain = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise _not_understood("what is percent-encoded in it is no UTF-8") from None
    if _CONTROLS.search(plain):
        raise _not_understood("it has control characters")
    return plain


def _security_of(scheme: str, host: str, starttls: str | None, *, signs_in: bool) -> Security:
    if starttls not in (None, "never"):
        raise _not_understood("starttls is never, or left out: then it is used wherever it is needed")
    if scheme == "smtps":
        if starttls is not None:
            raise GatekeeperError("smtps:// is encrypted from the first byte: leave out starttls, or write smtp://")
        return "tls"
    is_here = is_loopback(host)
    if starttls == "never":
        if signs_in and not is_here:
            raise GatekeeperError(
                "with starttls=never user and password would go to another machine unencrypted: leave it out, or "
                "use smtps://"
            )
        return "none"
    return "starttls" if signs_in or not is_here else "none"


def _sender_of(given: str | None, user: str | None) -> str:
    sender = user if given is None else given
    if sender is not None and len(sender) <= _MAX_ADDRESS and _ADDRESS.fullmatch(sender):
        return sender
    if given is None:
        raise GatekeeperError("say whom mails are from: smtp://…?from=no-reply@example.com")
    raise GatekeeperError("from: expected a mail address alone, like no-reply@example.com")


def _not_understood(why: str) -> GatekeeperError:
    return GatekeeperError(
        f"the SMTP URL is not understood: {why} (other characters than letters, digits and -._~ in user and password "
        "must be percent-encoded)"
    )
