"""URLs of databases on servers: read once here, for `check` and for the store.

    postgresql://user:password@host:port/name?sslmode=verify-full&sslrootcert=/etc/ca.pem
    postgresql://user@/name?host=/run/postgresql
    mysql://user:password@host:port/name?timezone=Europe/Berlin

`sslmode` and `sslrootcert` are libpq's, and mean the same for MySQL.  Other parameters go to the driver as they are.
"""

import ssl
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from gatekeeper.core.errors import GatekeeperError

Kind = Literal["postgresql", "mysql"]

KINDS: dict[str, Kind] = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
}
"""By the scheme of the URL."""

_SSL_MODES = ("disable", "require", "verify-ca", "verify-full")


class ServerUrl(msgspec.Struct, frozen=True):
    """Where a database is and how to get there.  `label` says it without secrets.

    `host` is None for a Unix socket, which `query` names.  `ssl_mode` is None where the driver may choose.  `timezone`
    is the zone that dates without one are in.
    """

    kind: Kind
    label: str
    user: str | None
    password: str | None
    host: str | None
    port: int | None
    database: str
    query: dict[str, str]
    ssl_mode: str | None
    ssl_root: str | None
    timezone: str

    def __repr__(self) -> str:
        return f"ServerUrl({self.label})"

    def ssl_context(self) -> ssl.SSLContext | None:
        """How the server's certificate is judged; None where none is asked for.  Raises OSError for a bad file."""
        if self.ssl_mode in (None, "disable"):
            return None
        context = ssl.create_default_context(cafile=self.ssl_root)
        context.check_hostname = self.ssl_mode == "verify-full"
        if self.ssl_mode == "require" and self.ssl_root is None:  # with one it is verify-ca, as for libpq
            context.verify_mode = ssl.CERT_NONE
        return context


def parse_server_url(url: str) -> ServerUrl:
    """The parts of the URL.  Raises GatekeeperError; its message quotes nothing that may be secret."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise GatekeeperError("this is no URL: escape / ? # @ : and % in user and password, / as %2F") from exc
    if parts.scheme not in KINDS:
        raise GatekeeperError(f"expected one of {', '.join(KINDS)}")
    database = unquote(parts.path.removeprefix("/"))
    if not database or "/" in database or parts.fragment:
        raise GatekeeperError(f"expected the name of a database at the end: {parts.scheme}://user:password@host/name")
    query = dict(parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True))  # libpq's + is no blank
    if not parts.hostname and not ({"host", "unix_socket"} & query.keys()):
        raise GatekeeperError(f"expected a host: {parts.scheme}://user:password@host/name")
    return _with_query(parts, port, database, query)


def _with_query(parts: SplitResult, port: int | None, database: str, query: dict[str, str]) -> ServerUrl:
    mode, root, zone = query.pop("sslmode", None), query.pop("sslrootcert", None), query.pop("timezone", "UTC")
    if root is not None:
        mode = mode or "verify-full"
        if not root.startswith("/"):
            raise GatekeeperError("sslrootcert: expected the absolute path of a file")
    if mode is not None and mode not in _SSL_MODES:
        raise GatekeeperError(f"sslmode: expected one of {', '.join(_SSL_MODES)}")
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise GatekeeperError("timezone: expected a time zone, like Europe/Berlin") from exc
    found = ServerUrl(
        kind=KINDS[parts.scheme],
        label=_label(parts, port, database),
        user=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        host=parts.hostname,
        port=port,
        database=database,
        query=query,
        ssl_mode=mode,
        ssl_root=root,
        timezone=zone,
    )
    try:
        found.ssl_context()
    except OSError as exc:
        raise GatekeeperError(f"sslrootcert: {exc.strerror or exc}") from exc
    return found


def _label(parts: SplitResult, port: int | None, database: str) -> str:
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}/{database}"
