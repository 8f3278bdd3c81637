"""Where sessions are kept.  `open_store` is the one list of kinds."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import asdict

from gatekeeper.config.schema import Settings, Store
from gatekeeper.config.server_url import parse_server_url
from gatekeeper.config.store_checks import APP, REDIS, SQLITE, kind_of, sqlite_path
from gatekeeper.core.cookies import Keys
from gatekeeper.stores.feeds.feed import Channel, Memory
from gatekeeper.stores.feeds.sqlite import SqliteChannel
from gatekeeper.stores.http import HttpStore
from gatekeeper.stores.installed import require
from gatekeeper.stores.protocol import SessionStore
from gatekeeper.stores.secondary import SecondaryStore
from gatekeeper.stores.sql import Database, SqlStore
from gatekeeper.stores.sqlite import SqliteFile
from gatekeeper.stores.tables import Mapped, Tables

if TYPE_CHECKING:
    from gatekeeper.stores.redis import RedisStore


def open_store(settings: Settings, keys: Keys, cookie_name: str) -> SessionStore:
    """The store of these settings, which `config.load` has found without problems.  Nothing is connected yet.

    `keys` sign and `cookie_name` names the cookie by which an app is asked.  Raises GatekeeperError where what the
    store needs is not installed.
    """
    store = settings.store
    kind = kind_of(store.url)
    if kind in APP:
        return HttpStore(
            store.url,
            cookie_name=cookie_name,
            keys=keys,
            session_extra=store.fields.session,
            user_extra=store.fields.user,
            pool=store.pool,
        )
    if kind in REDIS:
        return open_redis(store.url, store)
    tables = tables_of(settings)
    channel = _channel_of(store.url, tables)
    behind = SqlStore(open_database(store.url), tables, pool=store.pool, open_channel=channel)
    return behind if store.secondary is None else SecondaryStore(open_redis(store.secondary, store), behind)


def tables_of(settings: Settings) -> Tables:
    """Better Auth's tables as they are called here, and whether memberships are read."""
    store = settings.store
    names, columns = asdict(store.tables), asdict(store.columns)
    fields = asdict(store.fields)
    mapped = {key: Mapped(name, columns[key], fields.get(key, ())) for key, name in names.items()}
    return Tables(**mapped, with_organizations=any(rule.require.organizations for rule in settings.protect))


def open_redis(url: str, store: Store) -> "RedisStore":
    """The Redis at this URL, for sessions with the fields of these settings."""
    require("redis", "redis")
    from gatekeeper.stores.redis import RedisStore

    return RedisStore(url, session_extra=store.fields.session, user_extra=store.fields.user, pool=store.pool)


def open_database(url: str, *, writable: bool = False) -> Database:
    """The database at this URL.  Only a SQLite file is opened otherwise for writing than for reading."""
    if kind_of(url) == SQLITE:
        return SqliteFile(sqlite_path(url), writable=writable)
    from gatekeeper.stores.servers import ServerDatabase  # takes 7 MB, which SQLite has no use for

    return ServerDatabase(parse_server_url(url))


def _channel_of(url: str, tables: Tables) -> Callable[[Memory], Channel] | None:
    """How the database at this URL tells of changes, if it can."""
    if kind_of(url) == SQLITE:
        return partial(SqliteChannel, sqlite_path(url), tables)
    address = parse_server_url(url)
    if address.kind != "postgresql":
        return None
    from gatekeeper.stores.feeds.postgres import PostgresChannel  # takes as much

    return lambda _: PostgresChannel(address, tables)
