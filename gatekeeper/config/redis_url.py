"""The URL of a Redis: where it is, who asks, and what its keys begin with.

`redis://[[user]:password@]host[:port][/database]`, `rediss://` for TLS, `unix://[[user]:password@]/path/of/socket`.
After a `?`: `prefix=`, what Better Auth's keys begin with (empty where the app's storage puts nothing before them);
`ssl_ca_certs=`, a file with the authority of a TLS server; `db=`, the database behind a socket.  All parts are
percent-decoded.  Nothing else is understood, and nothing is ignored.

Knows nothing of connections.  No message quotes the URL, since any part of it may be a piece of a password that was
not percent-encoded.
"""

from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from gatekeeper.core.errors import GatekeeperError

DEFAULT_PORT = 6379
DEFAULT_PREFIX = "better-auth:"
"""What Better Auth's own Redis storage puts before each key."""

_OPTIONS = {"redis": ("prefix",), "rediss": ("prefix", "ssl_ca_certs"), "unix": ("prefix", "db")}


class RedisAddress(msgspec.Struct, frozen=True):
    """Where a Redis is.  `label` is what messages call it; `socket` is a path, and then there is no host."""

    label: str
    host: str = ""
    port: int = DEFAULT_PORT
    socket: str = ""
    database: int = 0
    username: str | None = None
    password: str | None = None
    tls: bool = False
    ca_file: str | None = None
    prefix: str = DEFAULT_PREFIX


def parse_redis_url(url: str) -> RedisAddress:
    """The address that this URL says.  Raises GatekeeperError for what is not understood."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _not_understood("its port is no number") from None
    if parts.scheme not in _OPTIONS:
        raise _not_understood("it does not begin with redis://, rediss:// or unix://")
    if "#" in url:
        raise _not_understood("it has a '#'")
    options = _options_of(parts)
    username, password = _credentials_of(parts)
    prefix = options.get("prefix", DEFAULT_PREFIX)
    if parts.scheme == "unix":
        return _socket_address(parts, options, username=username, password=password, prefix=prefix)
    if not parts.hostname:
        raise _not_understood("it names no host")
    host, port = parts.hostname, DEFAULT_PORT if port is None else port
    database = _database_of(parts.path.removeprefix("/"))
    shown = f"[{host}]" if ":" in host else host
    return RedisAddress(
        label=f"{parts.scheme}://{shown}:{port}/{database}",
        host=host,
        port=port,
        database=database,
        username=username,
        password=password,
        tls=parts.scheme == "rediss",
        ca_file=options.get("ssl_ca_certs"),
        prefix=prefix,
    )


def _socket_address(
    parts: SplitResult, options: dict[str, str], *, username: str | None, password: str | None, prefix: str
) -> RedisAddress:
    if parts.netloc.rpartition("@")[2] or not parts.path.removeprefix("/"):
        raise _not_understood("a socket is written unix:///path, with three slashes")
    socket, database = unquote(parts.path), _database_of(options.get("db", ""))
    label = f"unix://{socket}" + (f"?db={database}" if database else "")
    return RedisAddress(
        label=label, socket=socket, database=database, username=username, password=password, prefix=prefix
    )


def _options_of(parts: SplitResult) -> dict[str, str]:
    known = _OPTIONS[parts.scheme]
    options: dict[str, str] = {}
    for option in filter(None, parts.query.split("&")):
        name, _, value = option.partition("=")
        if name not in known or name in options:
            raise _not_understood(f"after '?' a {parts.scheme}:// URL has {' and '.join(known)}, each once")
        options[name] = unquote(value)
    return options


def _credentials_of(parts: SplitResult) -> tuple[str | None, str | None]:
    """User and password.  A password alone is the default user's."""
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    if username and not password:
        raise _not_understood("its user has no password")
    return username or None, password or None


def _database_of(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise _not_understood("its database is no number")
    return int(text or "0")


def _not_understood(why: str) -> GatekeeperError:
    return GatekeeperError(
        f"the Redis URL is not understood: {why} (other characters than letters, digits and -._~ in a password must be "
        "percent-encoded)"
    )
