"""Sessions in a SQL database, in Better Auth's tables.  Read only.

One statement reads a session with its user.  Nothing is opened before the store is first asked, so a gate may start
before its database.  The engine is opened together with the statement that fits the tables, and dropped when the
database gives an error: the next read opens it anew, and so finds a migrated table, or a database that came back.
Optional columns that are added while the engine is open are read from the next opening on.

SQLite: the file is opened read-only and never made.  A file that was replaced is noticed before the next read: a
connection to a deleted file would answer for ever from what it once held.

Foreign errors become StoreUnavailable here.  Its message names the database and the cause, and no value.
"""

import asyncio
import os
import stat
from collections.abc import Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from sqlalchemy import URL, Connection, Row, inspect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import SessionRecord, SessionToken
from gatekeeper.stores.records import record_of
from gatekeeper.stores.tables import Mapped, Plan, plan_read

TIMEOUT_S = 2.0
"""How long a read may take before the store counts as unavailable."""

_FileId = tuple[int, int]


class Database(msgspec.Struct, frozen=True):
    """Where a database is.  `label` is what messages call it; `file` is watched for being replaced."""

    url: URL
    label: str
    connect_args: dict[str, Any] = {}
    file: Path | None = None


def sqlite_database(path: Path, timeout_s: float = TIMEOUT_S) -> Database:
    """The SQLite file at this path, opened read-only.  Waits for a writer's lock for half of the time-out."""
    url = URL.create("sqlite+aiosqlite", database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})
    return Database(url, str(path), {"timeout": timeout_s / 2}, path)


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
                rows = await opened.fetch(token)
        except TimeoutError as exc:
            raise StoreUnavailable(f"{self._database.label}: no answer within {self._timeout_s:g} s") from exc
        except SQLAlchemyError as exc:
            if _is_undecodable(exc):
                return []
            self._retire(opened)
            raise StoreUnavailable(f"{self._database.label}: {_cause_of(exc)}") from exc
        return [opened.plan.split(row) for row in rows]

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
        engine = create_async_engine(
            self._database.url,
            connect_args=self._database.connect_args,
            poolclass=AsyncAdaptedQueuePool,
            pool_size=self._pool,
            max_overflow=0,
            pool_timeout=self._timeout_s,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,  # a token is a parameter
        )
        try:
            async with engine.connect() as connection:
                plan = await connection.run_sync(self._plan)
        except BaseException:
            self._spawn(engine.dispose())
            raise
        return _Opened(engine, plan, file_id)

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
    """An engine with the plan that fits its tables, and how many are reading from it."""

    def __init__(self, engine: AsyncEngine, plan: Plan, file_id: _FileId | None) -> None:
        self.plan = plan
        self.file_id = file_id
        self.retired = False
        self._engine = engine
        self._readers = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def fetch(self, token: str) -> list[Row[Any]]:
        self._readers += 1
        self._idle.clear()
        try:
            async with self._engine.connect() as connection:
                return list(await connection.execute(self.plan.statement, {"token": token}))
        finally:
            self._readers -= 1
            if not self._readers:
                self._idle.set()

    async def close(self) -> None:
        """Close the connections when the reads have ended: a pool forgets those that are out when it is disposed."""
        await self._idle.wait()
        await self._engine.dispose()


def _is_text(token: str) -> bool:
    """Whether a database can be asked for it: half of a surrogate pair cannot be sent."""
    try:
        token.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cause_of(exc: SQLAlchemyError) -> str:
    return str(exc.orig) if isinstance(exc, DBAPIError) else type(exc).__name__


def _is_undecodable(exc: SQLAlchemyError) -> bool:
    """Whether a text in the row is not UTF-8: a row that cannot be read, not a database that cannot.

    sqlite3 says so in a message that quotes the value.
    """
    return isinstance(exc, DBAPIError) and str(exc.orig).startswith("Could not decode to UTF-8")
