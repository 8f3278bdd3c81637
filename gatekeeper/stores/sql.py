"""Sessions in a SQL database, in Better Auth's tables.  Read only.

One statement reads a session with its user.  Nothing is opened before the store is first asked, so a gate may start
before its database.  The engine is opened together with the statement that fits the tables, and dropped when the
database gives an error: the next read opens it anew, and so finds a migrated table, or a database that came back.
Optional columns that are added while the engine is open are read from the next opening on.

SQLite: the file is opened read-only and never made.  A file that was replaced is noticed before the next read: a
connection to a deleted file would answer for ever from what it once held.  A read is one step in a thread that keeps
its connection (decision 12).

Foreign errors become StoreUnavailable here.  Its message names the database and the cause, and no value.
"""

import asyncio
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote

import msgspec
from sqlalchemy import URL, Connection, Engine, PoolProxiedConnection, create_engine, inspect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import SessionRecord, SessionToken
from gatekeeper.stores.records import record_of
from gatekeeper.stores.tables import Mapped, Plan, plan_read

TIMEOUT_S = 2.0
"""How long a read may take before the store counts as unavailable."""

_T = TypeVar("_T")
_FileId = tuple[int, int]


class Database(msgspec.Struct, frozen=True):
    """Where a database is.  `label` is what messages call it; `file` is watched for being replaced."""

    url: URL
    label: str
    connect_args: dict[str, Any] = {}
    file: Path | None = None


def sqlite_database(path: Path, timeout_s: float = TIMEOUT_S) -> Database:
    """The SQLite file at this path, opened read-only.  Waits for a writer's lock for half of the time-out."""
    url = URL.create("sqlite", database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})
    return Database(url, str(path), {"timeout": timeout_s / 2, "check_same_thread": False}, path)


class SqlStore:
    """A SessionStore on a SQL database.

    Raises StoreUnavailable from every call when the database cannot answer, and works again when it can.
    """

    def __init__(
        self, database: Database, *, session: Mapped, user: Mapped, pool: int = 10, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._database = database
        self._session = session
        self._user = user
        self._pool = pool
        self._timeout_s = timeout_s
        self._opening = asyncio.Lock()
        self._opened: _Opened | None = None
        self._closings: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<SqlStore {self._database.label}, {'open' if self._opened else 'not open'}>"

    async def check(self) -> None:
        """Raise StoreUnavailable as a read would."""
        await self._read("")

    async def read_session(self, token: SessionToken) -> SessionRecord | None:
        if not _is_text(token):
            return None
        for session, user in await self._read(token):
            if session["token"] == token:  # a collation may find what was not asked for
                return record_of(session, user, self._session.extra, self._user.extra)
        return None

    async def close(self) -> None:
        """Close every connection, once the reads under way have ended.  What is asked later is unavailable."""
        self._closed = True
        async with self._opening:
            self._retire(self._opened)
        await asyncio.gather(*self._closings, return_exceptions=True)

    async def _read(self, token: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        opened = None
        try:
            async with asyncio.timeout(self._timeout_s):
                opened = await self._open()
                return await opened.read(token)
        except TimeoutError as exc:
            raise StoreUnavailable(f"{self._database.label}: no answer within {self._timeout_s:g} s") from exc
        except (SQLAlchemyError, sqlite3.Error) as exc:
            if _is_undecodable(exc):
                return []
            self._retire(opened)
            raise StoreUnavailable(f"{self._database.label}: {_cause_of(exc)}") from exc

    async def _open(self) -> "_Opened":
        """What is open on the database as it is now."""
        file_id = self._file_id()
        if self._opened is not None and self._opened.file_id == file_id:
            return self._opened
        async with self._opening:
            if self._opened is None or self._opened.file_id != file_id:
                self._retire(self._opened)
                self._opened = await self._connect(file_id)
            return self._opened

    def _file_id(self) -> _FileId | None:
        if self._closed:
            raise StoreUnavailable(f"{self._database.label}: the store was closed")
        if self._database.file is None:
            return None
        try:
            status = os.stat(self._database.file)
        except OSError as exc:
            raise StoreUnavailable(f"{self._database.label}: {exc.strerror}") from exc
        if not stat.S_ISREG(status.st_mode):
            raise StoreUnavailable(f"{self._database.label}: not a file")
        return status.st_dev, status.st_ino

    async def _connect(self, file_id: _FileId | None) -> "_Opened":
        engine = create_engine(
            self._database.url,
            connect_args=self._database.connect_args,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,  # a token is a parameter
        )
        opened = _Opened(engine, self._pool, file_id)
        try:
            await opened.open(self._plan)
        except BaseException:
            self._spawn(opened.close())
            raise
        return opened

    def _plan(self, connection: Connection) -> Plan:
        try:
            return plan_read(inspect(connection), self._session, self._user)
        except StoreUnavailable as exc:
            raise StoreUnavailable(f"{self._database.label}: {exc}") from exc.__cause__

    def _retire(self, opened: "_Opened | None") -> None:
        """Read from it no more, and close it when nobody does."""
        if opened is None or opened.retired:
            return
        opened.retired = True
        if self._opened is opened:
            self._opened = None
        self._spawn(opened.close())

    def _spawn(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(closing)
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)


class _Opened:
    """Threads that read from the database, each on a connection of its own, with the plan that fits the tables."""

    plan: Plan
    _statement: str

    def __init__(self, engine: Engine, threads: int, file_id: _FileId | None) -> None:
        self.file_id = file_id
        self.retired = False
        self._engine = engine
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="gatekeeper-store")
        self._own = threading.local()
        self._connections: list[PoolProxiedConnection] = []

    async def open(self, make_plan: Callable[[Connection], Plan]) -> None:
        """Look at the tables.  To be awaited once, before the first read."""

        def look() -> Plan:
            with self._engine.connect() as connection:
                return make_plan(connection)

        self.plan = await self._in_thread(look)
        self._statement = str(self.plan.statement.compile(dialect=self._engine.dialect))

    async def read(self, token: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """The fields of each session with this token, and of its user."""
        return await self._in_thread(self._read, token)

    async def close(self) -> None:
        """Close the connections when the reads under way have ended."""
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._connections:
            connection.close()

    def _in_thread(self, call: Callable[..., _T], *args: object) -> "asyncio.Future[_T]":
        return asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    def _read(self, token: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        rows = self._connection().execute(self._statement, (token,)).fetchall()
        return [self.plan.split(row) for row in rows]

    def _connection(self) -> sqlite3.Connection:
        """The connection of the thread that asks."""
        found: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if found is None:
            connection = self._engine.raw_connection()
            self._connections.append(connection)
            found = self._own.connection = cast(sqlite3.Connection, connection.driver_connection)
        return found


def _is_text(token: str) -> bool:
    """Whether a database can be asked for it: half of a surrogate pair cannot be sent."""
    try:
        token.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cause_of(exc: SQLAlchemyError | sqlite3.Error) -> str:
    if isinstance(exc, DBAPIError):
        return str(exc.orig)
    return str(exc) if isinstance(exc, sqlite3.Error) else type(exc).__name__


def _is_undecodable(exc: SQLAlchemyError | sqlite3.Error) -> bool:
    """Whether a text in the row is not UTF-8: a row that cannot be read, not a database that cannot.

    sqlite3 says so in a message that quotes the value.
    """
    return _cause_of(exc).startswith("Could not decode to UTF-8")
