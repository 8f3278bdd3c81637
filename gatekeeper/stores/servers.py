"""PostgreSQL, and MySQL or MariaDB: databases that are asked over connections, which are kept.

The drivers are asyncpg and asyncmy, through SQLAlchemy.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast
from weakref import WeakSet
from zoneinfo import ZoneInfo

from sqlalchemy import URL, Connection, Executable, SelectBase, event
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gatekeeper.config.server_url import Kind, ServerUrl
from gatekeeper.stores.installed import require
from gatekeeper.stores.sql import Execute, Opened

_T = TypeVar("_T")

CLOSE_S = 1.0
"""How long a server may take to say farewell."""

_DRIVERS: dict[Kind, str] = {"postgresql": "asyncpg", "mysql": "asyncmy"}
_EXTRAS: dict[Kind, str] = {"postgresql": "postgres", "mysql": "mysql"}
_INFINITE = (datetime.min, datetime.max)  # noqa: DTZ901 - as the driver of PostgreSQL gives it

_OF_THE_POOL = frozenset({"async_creator_fn", "prepared_statement_cache_size", "prepared_statement_name_func"})
"""Parameters of URLs that SQLAlchemy keeps to itself."""

_QUERY: dict[Kind, dict[str, str]] = {
    "postgresql": {"target_session_attrs": "primary"},  # on a replica, a revoked session would live on for a while
    "mysql": {"charset": "utf8mb4"},
}


def asyncpg_arguments(url: ServerUrl, timeout_s: float) -> dict[str, Any]:
    """What `asyncpg.connect` is called with for a connection like those of the pool.  Raises as `ServerDatabase`."""
    require(_DRIVERS[url.kind], _EXTRAS[url.kind])
    dialect: Any = PGDialect_asyncpg
    _, arguments = dialect().create_connect_args(_driver_url(url))
    found = {name: value for name, value in arguments.items() if name not in _OF_THE_POOL}
    return {**found, **_connect_args(url, timeout_s)}


class ServerDatabase:
    """A Database that is reached over the network or a Unix socket.

    Raises GatekeeperError where its driver is not installed.
    """

    def __init__(self, url: ServerUrl) -> None:
        require(_DRIVERS[url.kind], _EXTRAS[url.kind])
        self.label = url.label
        self._url = url

    def state(self) -> object:
        """Nothing to look at: a server says itself when it ends."""
        return None

    def open(self, pool: int, timeout_s: float) -> Opened:
        url = self._url
        engine = create_async_engine(
            _driver_url(url),
            connect_args=_connect_args(url, timeout_s),
            pool_size=pool,
            max_overflow=0,
            pool_timeout=10 * timeout_s,  # who waits for a connection is given up as any read is
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,  # a token is a parameter
        )
        return _Connections(engine, ZoneInfo(url.timezone))


class _Connections(Opened):
    """A pool of connections to a server.  `zone` is what dates without a zone are in."""

    # Where something between has forgotten one connection, the others are as old: each would cost a time-out.
    outlives_timeouts = False

    def __init__(self, engine: AsyncEngine, zone: ZoneInfo) -> None:
        self._engine = engine
        self._zone = zone
        self._under_way: set[asyncio.Future[Any]] = set()
        self._made: WeakSet[Any] = WeakSet()
        if engine.dialect.driver == "asyncpg":
            event.listen(engine.sync_engine, "connect", self._note_made)

    async def look(self, look: Callable[[Connection], _T]) -> _T:
        looking: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way.add(looking)
        try:
            async with self._engine.connect() as connection:
                return await connection.run_sync(look)
        finally:
            self._under_way.discard(looking)
            looking.set_result(None)

    async def run(self, work: Callable[[Execute], _T]) -> _T:
        """As `Opened.run`; once more where a connection turned out to be dead, as all are after a restart.

        Who is cancelled leaves at once: a driver may take its time to end what it has begun.
        """
        reading = asyncio.get_running_loop().create_task(self._run(work))
        self._under_way.add(reading)
        reading.add_done_callback(self._was_read)
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            reading.cancel()
            raise

    async def close(self) -> None:
        """As `Opened.close`: a pool forgets those that are out when it is disposed.

        asyncpg's connections are closed before, all at once and within a time: of itself it waits for ever for a
        server that has gone without a word.
        """
        while self._under_way:
            await asyncio.wait(self._under_way)
        await asyncio.gather(*(made.close(timeout=CLOSE_S) for made in self._made), return_exceptions=True)
        await self._engine.dispose()

    def _note_made(self, connection: Any, _record: object) -> None:
        self._made.add(connection.driver_connection)

    def _was_read(self, reading: asyncio.Task[Any]) -> None:
        """Look at a failure: where nobody waits any more, asyncio would complain."""
        self._under_way.discard(reading)
        if not reading.cancelled():
            reading.exception()

    async def _run(self, work: Callable[[Execute], _T]) -> _T:
        try:
            return await self._run_once(work)
        except DBAPIError as exc:
            if not exc.connection_invalidated:
                raise
        return await self._run_once(work)

    async def _run_once(self, work: Callable[[Execute], _T]) -> _T:
        async with self._engine.connect() as connection:
            return await connection.run_sync(self._work_on, work)

    def _work_on(self, connection: Connection, work: Callable[[Execute], _T]) -> _T:
        def execute(statement: SelectBase, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
            rows = connection.execute(cast(Executable, statement), parameters).all()
            return [[_with_zone(value, self._zone) for value in row] for row in rows]

        return work(execute)


def _connect_args(url: ServerUrl, timeout_s: float) -> dict[str, Any]:
    """What the driver is told besides the URL."""
    arguments: dict[str, Any] = {}
    if url.kind == "postgresql":
        arguments = {"timeout": timeout_s, "server_settings": {"application_name": "gatekeeper"}}
    if url.ssl_mode is not None:
        arguments["ssl"] = url.ssl_context() or False
    return arguments


def _driver_url(url: ServerUrl) -> URL:
    query = {**_QUERY[url.kind], **url.query}
    driver = f"{url.kind}+{_DRIVERS[url.kind]}"
    return URL.create(driver, url.user, url.password, url.host, url.port, url.database, query)


def _with_zone(value: Any, zone: ZoneInfo) -> Any:
    """A date without a zone in this one; the earlier moment where a clock that is set back shows it twice.

    What stands for infinity stays as it is, and is no date.
    """
    if isinstance(value, datetime) and value.tzinfo is None and value not in _INFINITE:
        return value.replace(tzinfo=zone)
    return value
