"""What is wrong with `store`: each kind's URL, and settings that do not fit together."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from gatekeeper.config.app_url import parse_app_url
from gatekeeper.config.redis_url import parse_redis_url
from gatekeeper.config.schema import Columns, Settings, Tables
from gatekeeper.config.server_url import KINDS, parse_server_url
from gatekeeper.core.errors import GatekeeperError

Finding = tuple[str, str]

SQLITE = "sqlite"
SQLITE_FILE = "sqlite:///"
"""What stands before the path of the file."""

REDIS = ("redis", "rediss", "unix")
APP = ("http", "https")

_SQLITE_URL = re.compile(r"sqlite:///(?!:memory:)[^\x00-\x1f\x7f?#]+")
_PARSERS: dict[str, Callable[[str], object]] = {
    **dict.fromkeys(KINDS, parse_server_url),
    **dict.fromkeys(REDIS, parse_redis_url),
    **dict.fromkeys(APP, parse_app_url),
}
_EXPECTED = (
    "expected a URL: sqlite:///auth.db, postgresql://…, mysql://…, redis://…, or https://app/api/auth to ask the app"
)


def kind_of(url: str) -> str:
    """The scheme of a store's URL."""
    return url.partition(":")[0]


def sqlite_path(url: str) -> Path:
    """The file that a SQLite store's URL names."""
    return Path(url.removeprefix(SQLITE_FILE))


def check_store(settings: Settings) -> Iterator[Finding]:
    """Everything that is wrong with where sessions are kept."""
    store = settings.store
    kind = kind_of(store.url)
    if kind == SQLITE:
        if not _SQLITE_URL.fullmatch(store.url):
            yield "store.url", "expected a file: sqlite:///auth.db beside this one, sqlite:////var/lib/auth.db anywhere"
    elif kind in _PARSERS and "://" in store.url:
        yield from _check_url("store.url", store.url)
    else:
        yield "store.url", _EXPECTED
    if settings.session.serve_get_session and kind in APP:
        yield "session.serve_get_session", "this store asks the app's get-session itself: leave the call to the app"
    if settings.session.extend == "gate" and kind in APP:
        yield "session.extend", "the app is asked for its sessions, and extends them itself: leave this out"
    yield from _check_combination(settings, is_database=kind == SQLITE or kind in KINDS)


def _check_combination(settings: Settings, *, is_database: bool) -> Iterator[Finding]:
    store = settings.store
    if store.secondary is not None:
        if kind_of(store.secondary) not in REDIS:
            yield "store.secondary", "expected a Redis: redis://host:6379"
        else:
            yield from _check_url("store.secondary", store.secondary)
        if not is_database:
            yield "store.secondary", "this stands in front of a database; for Redis alone, make it store.url"
    if not is_database and (store.tables, store.columns) != (Tables(), Columns()):
        yield "store", "tables and columns are those of a database, and store.url is none"
    if is_database and store.secondary is None:
        return
    for index, rule in enumerate(settings.protect):
        if rule.require.organizations:
            path = f"protect[{index}].require.organizations"
            yield path, "memberships are read with sessions from a database, and these sessions are elsewhere"


def _check_url(path: str, url: str) -> Iterator[Finding]:
    try:
        _PARSERS[kind_of(url)](url)
    except GatekeeperError as error:
        yield path, str(error)
