"""PostgreSQL, and MySQL or MariaDB: databases that are asked over connections, which are kept.

The drivers are asyncpg and asyncmy, through SQLAlchemy.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from typing import Any, TypeVar, cast
from zoneinfo import ZoneInfo

from sqlalchemy import URL, Connection, Executable, SelectBase
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gatekeeper.config.server_url import Kind, ServerUrl
from gatekeeper.core.errors import GatekeeperError
from gatekeeper.stores.sql import Execute, Opened

_T = TypeVar("_T")

_DRIVERS: dict[Kind, str] = {"postgresql": "asyncpg", "mysql": "asyncmy"}
_EXTRAS: dict[Kind, str] = {"postgresql": "postgres", "mysql": "mysql"}
_QUERY: dict[Kind, dict[str, str]] = {
    "postgresql": {"target_session_attrs": "primary"},  # on a replica, a revoked session would live on for a while
    "mysql": {"charset": "utf8mb4"},
}


class ServerDatabase:
    """A Database that is reached over the network or a Unix socket.

    Raises GatekeeperError where its driver is not installed.
    """

    def __init__(self, url: ServerUrl) -> None:
        if find_spec(_DRIVERS[url.kind]) is None:
            raise GatekeeperError(
                f"store: {_DRIVERS[url.kind]} is not installed: pip install 'gatekeeper[{_EXTRAS[url.kind]}]'"
            )
        self.label = url.label
        self._url = url

    def state(self) -> object:
        """Nothing to look at: a server says itself when it ends."""
        return None

    def open(self, pool: int, timeout_s: float) -> Opened:
        url = self._url
        connect_args: dict[str, Any] = {"timeout": timeout_s} if url.kind == "postgresql" else {}
        if url.kind == "postgresql":
            connect_args["server_settings"] = {"application_name": "gatekeeper"}
        if url.ssl_mode is not None:
            connect_args["ssl"] = url.ssl_context() or False
        engine = create_async_engine(
            _driver_url(url),
            connect_args=connect_args,
            pool_size=pool,
            max_overflow=0,
            pool_timeout=10 * timeout_s,  # who waits for a connection is given up as any read is
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,  # a token is a parameter
        )
        return _Connections(engine, ZoneInfo(url.timezone))


class _Connections(Opened):
    """A pool of connections to a server.  `zone` is what dates without a zone are in."""

    def __init__(self, engine: AsyncEngine, zone: ZoneInfo) -> None:
        self._engine = engine
        self._zone = zone
        self._readers = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def look(self, look: Callable[[Connection], _T]) -> _T:
        async with self._engine.connect() as connection:
            return await connection.run_sync(look)

    async def run(self, work: Callable[[Execute], _T]) -> _T:
        """As `Opened.run`; once more where a connection turned out to be dead, as all are after a restart."""
        self._readers += 1
        self._idle.clear()
        try:
            try:
                return await self._run_once(work)
            except DBAPIError as exc:
                if not exc.connection_invalidated:
                    raise
            return await self._run_once(work)
        finally:
            self._readers -= 1
            if not self._readers:
                self._idle.set()

    async def close(self) -> None:
        """As `Opened.close`: a pool forgets those that are out when it is disposed."""
        await self._idle.wait()
        await self._engine.dispose()

    async def _run_once(self, work: Callable[[Execute], _T]) -> _T:
        async with self._engine.connect() as connection:
            return await connection.run_sync(self._work_on, work)

    def _work_on(self, connection: Connection, work: Callable[[Execute], _T]) -> _T:
        def execute(statement: SelectBase, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
            rows = connection.execute(cast(Executable, statement), parameters).all()
            return [[_with_zone(value, self._zone) for value in row] for row in rows]

        return work(execute)


def _driver_url(url: ServerUrl) -> URL:
    query = {**_QUERY[url.kind], **url.query}
    driver = f"{url.kind}+{_DRIVERS[url.kind]}"
    return URL.create(driver, url.user, url.password, url.host, url.port, url.database, query)


def _with_zone(value: Any, zone: ZoneInfo) -> Any:
    """A date without a zone in this one; the earlier moment where a clock that is set back shows it twice."""
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=zone)
    return value
