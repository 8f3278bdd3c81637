"""The URL of an app's Better Auth, whose `get-session` is asked: `http(s)://host[:port]/api/auth`.

With https, `?ca=FILE` names the only authority to trust instead of the system's.
"""

import ssl
from urllib.parse import SplitResult, parse_qsl, urlsplit

import msgspec

from gatekeeper.core.errors import GatekeeperError


class AppUrl(msgspec.Struct, frozen=True):
    """`base` is what endpoints are appended to; `label` is what messages call it, without secrets."""

    label: str
    base: str
    ca: str | None

    def __repr__(self) -> str:
        return f"AppUrl({self.label})"

    def ssl_context(self) -> ssl.SSLContext | bool:
        """How the app's certificate is judged; True for the usual way.  Raises GatekeeperError for a bad file."""
        if self.ca is None:
            return True
        try:
            return ssl.create_default_context(cafile=self.ca)
        except OSError as exc:  # of which SSLError is one
            raise GatekeeperError(f"{self.label}: cannot use {self.ca}: {exc.strerror}") from exc


def parse_app_url(url: str) -> AppUrl:
    """The parts of the URL.  Raises GatekeeperError; its message quotes nothing that may be secret."""
    parts = _parts_of(url)
    path = parts.path.rstrip("/")
    label = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    ca = options.pop("ca", None)
    if options or ca == "" or (ca is not None and parts.scheme != "https"):
        raise GatekeeperError(f"{label}: the only parameter of this URL is ca, a file, for https")
    found = AppUrl(label, f"{parts.scheme}://{parts.netloc}{path}", ca)
    found.ssl_context()
    return found


def _parts_of(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    except ValueError:  # whose message may hold a password
        pass
    raise GatekeeperError("expected the base path of an app's Better Auth: http(s)://host/api/auth")
