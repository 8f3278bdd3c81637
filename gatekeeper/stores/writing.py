"""What the gate writes to a store when it is asked to: sessions are revoked and extended, as the app itself would.

Nothing here is opened, nor a right to write needed, before somebody asks.  `open_writer` is the one list of kinds.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from gatekeeper.config.schema import Settings, Store
from gatekeeper.config.server_url import parse_server_url
from gatekeeper.config.store_checks import APP, REDIS, SQLITE, kind_of
from gatekeeper.core.errors import GatekeeperError
from gatekeeper.core.model import Session, SessionRecord
from gatekeeper.stores import open_database, open_redis, tables_of
from gatekeeper.stores.secondary_writing import SecondaryWriter
from gatekeeper.stores.sql import SqlStore
from gatekeeper.stores.sql_writing import SqlWriter

if TYPE_CHECKING:
    from gatekeeper.stores.redis_writing import RedisWriter


class SessionWriter(Protocol):
    """A place where sessions can be listed, revoked and extended, in Better Auth's form.

    Every call raises StoreUnavailable when the store cannot answer, within the time of a read.  A write that was given
    up may have been made.
    """

    async def list_sessions(self, user: str | None, *, limit: int) -> Sequence[SessionRecord]:
        """The sessions that are stored, newest first, at most so many; expired ones among them.

        `user` is an id or an e-mail address in any case, None for everybody.  What cannot be read as a session, and
        what was revoked although it is still there, is left out.
        """
        ...

    async def find(self, token_or_id: str) -> Session | None:
        """The session with this token, else the one with this id; None where there is neither."""
        ...

    async def revoke(self, sessions: Sequence[Session]) -> int:
        """Remove these sessions; how many of them were there."""
        ...

    async def revoke_all(self, user_id: str, *, now_ms: int, expires_in_s: int) -> int:
        """Remove all sessions of this user, those that cannot be read too; how many there were.

        `now_ms` is the time and `expires_in_s` how long a session lives at most: a secondary storage keeps that they
        were revoked for as long.
        """
        ...

    async def extend(self, session: Session, *, expires_at_ms: int, now_ms: int) -> bool:
        """Make it end at `expires_at_ms` and say that it was updated `now_ms`.  False, and nothing written, where the
        session no longer ends when `session` says: it was extended, changed or revoked meanwhile.
        """
        ...

    async def close(self) -> None:
        """Close every connection.  Safe to call twice."""
        ...


def open_writer(settings: Settings) -> SessionWriter:
    """What writes to the store of these settings, which `config.load` has found without problems.

    Raises GatekeeperError where the gate cannot write, and where what the store needs is not installed.
    """
    store = settings.store
    kind = kind_of(store.url)
    if kind in APP:
        raise GatekeeperError("store.url: the app owns these sessions; revoke them there")
    if kind in REDIS:
        return _open_redis(store.url, store)
    behind = _open_sql(settings)
    return behind if store.secondary is None else SecondaryWriter(_open_redis(store.secondary, store), behind)


def _open_redis(url: str, store: Store) -> "RedisWriter":
    reader = open_redis(url, store)
    from gatekeeper.stores.redis_writing import RedisWriter

    return RedisWriter(url, reader, pool=store.pool)


def _open_sql(settings: Settings) -> SqlWriter:
    store, tables = settings.store, replace(tables_of(settings), with_organizations=False)
    reader = SqlStore(open_database(store.url), tables, pool=store.pool)
    if kind_of(store.url) != SQLITE:
        return SqlWriter(reader, reader, tables, ZoneInfo(parse_server_url(store.url).timezone))
    # One connection: SQLite has one writer at a time.
    return SqlWriter(reader, SqlStore(open_database(store.url, writable=True), tables, pool=1), tables)
