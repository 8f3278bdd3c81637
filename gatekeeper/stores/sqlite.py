"""A SQLite file, read in threads that keep their connections (decision 12).

The file is opened read-only, unless sessions are to be written, and never made.  A file that was replaced is noticed
before the next read: a connection to a deleted file would answer for ever from what it once held.
"""

import asyncio
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote

from sqlalchemy import URL, Connection, PoolProxiedConnection, SelectBase, create_engine
from sqlalchemy.pool import NullPool

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.stores.sql import Execute, Opened

_T = TypeVar("_T")


class SqliteFile:
    """A Database that is the file at this path, read-only or not."""

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        self.label = str(path)
        self._path = path
        self._log = f"{path}-wal"
        self._mode = "rw" if writable else "ro"

    def state(self) -> object:
        """Which file it is, and which write-ahead log: a connection reads on from either when it was removed."""
        identity = self.identity()
        try:
            return identity, os.stat(self._log).st_ino
        except OSError:
            return identity, None

    def identity(self) -> tuple[int, int]:
        """Device and inode of the file.  Raises StoreUnavailable where there is none."""
        try:
            status = os.stat(self._path)
        except OSError as exc:
            raise StoreUnavailable(f"{self.label}: {exc.strerror}") from exc
        if not stat.S_ISREG(status.st_mode):
            raise StoreUnavailable(f"{self.label}: not a file")
        return status.st_dev, status.st_ino

    def open(self, pool: int, timeout_s: float) -> Opened:
        return _Threads(self._path, self._mode, pool, timeout_s)


class _Threads(Opened):
    """Threads that ask the file, each on a connection of its own."""

    def __init__(self, path: Path, mode: str, threads: int, timeout_s: float) -> None:
        self._engine = create_engine(
            URL.create("sqlite", database=f"file:{quote(str(path))}", query={"mode": mode, "uri": "true"}),
            # Half of the time for a writer's lock.  Each thread uses its own, but another one closes them.
            connect_args={"timeout": timeout_s / 2, "check_same_thread": False},
            poolclass=NullPool,
            paramstyle="named",
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,  # a token is a parameter
        )
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="gatekeeper-store")
        self._own = threading.local()
        self._connections: list[PoolProxiedConnection] = []
        self._texts: dict[SelectBase, str] = {}

    async def look(self, look: Callable[[Connection], _T]) -> _T:
        def on_connection() -> _T:
            with self._engine.connect() as connection:
                return look(connection)

        return await self._in_thread(on_connection)

    async def run(self, work: Callable[[Execute], _T]) -> _T:
        return await self._in_thread(work, self._execute)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._connections:
            connection.close()

    def _in_thread(self, call: Callable[..., _T], *args: object) -> "asyncio.Future[_T]":
        return asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    def _execute(self, statement: SelectBase, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        return self._connection().execute(self._text_of(statement), parameters).fetchall()

    def _text_of(self, statement: SelectBase) -> str:
        text = self._texts.get(statement)
        if text is None:
            text = self._texts[statement] = str(statement.compile(dialect=self._engine.dialect))
        return text

    def _connection(self) -> sqlite3.Connection:
        """The connection of the thread that asks."""
        found: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if found is None:
            connection = self._engine.raw_connection()
            self._connections.append(connection)
            found = self._own.connection = cast(sqlite3.Connection, connection.driver_connection)
        return found
