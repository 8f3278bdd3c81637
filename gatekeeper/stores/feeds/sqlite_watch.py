"""Looking at a SQLite file for what others have committed, in a thread of its own.

A look is one read transaction, so version, schema and rows belong together.  While a writer holds the file for itself
nothing can be known; what it committed is found afterwards.

A connection reads on from a file that was removed, or whose write-ahead log was.  So the files are looked at first.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from gatekeeper.core.errors import GatekeeperError, MissingTable, StoreUnavailable
from gatekeeper.stores.feeds.feed import FeedNotSetUp, digest_of
from gatekeeper.stores.feeds.sqlite_setup import TABLE, definitions
from gatekeeper.stores.sqlite import SqliteFile
from gatekeeper.stores.tables import Tables

BUSY_S = 0.25
"""How long one try waits for a writer."""

BUSY_TRIES = 8
"""How often is tried before the file counts as unavailable."""

_T = TypeVar("_T")
_Row = tuple[int, str, str | None]


class News(msgspec.Struct, frozen=True):
    """What was found after a commit: digests, and whether anything at all may have changed."""

    is_everything: bool = False
    sessions: frozenset[bytes] = frozenset()
    users: frozenset[bytes] = frozenset()


class Watch:
    """A connection to the file at this path, its thread, and how much it has seen.

    `has_table` says whether triggers tell.
    """

    has_table = False

    def __init__(self, path: Path, tables: Tables, busy_s: float) -> None:
        self._path = path
        self._tables = tables
        self._busy_s = busy_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gatekeeper-feed")
        self._connection: sqlite3.Connection | None = None
        self._file: object = None
        self._beside: dict[str, int] = {}
        self._version: int = 0
        self._schema: int = 0
        self._newest: _Row | None = None

    async def ask(self, look: Callable[[], _T]) -> _T:
        """What this finds, in the thread.  Raises StoreUnavailable where the file cannot be read."""
        loop = asyncio.get_running_loop()
        for _ in range(BUSY_TRIES):
            try:
                return await loop.run_in_executor(self._thread, look)
            except sqlite3.Error as exc:
                if not _is_busy(exc):
                    raise self._unavailable(str(exc)) from exc
        raise self._unavailable("a writer has held it for too long")

    async def close(self) -> None:
        closing = asyncio.wrap_future(self._thread.submit(self._close))
        self._thread.shutdown(wait=False)
        await asyncio.shield(closing)

    def begin(self) -> None:
        """Take what is there now for known."""
        if self._connection is None:
            self._file = SqliteFile(self._path).identity()
            self._connection = self._connect()
        with self._transaction():
            self._version, self._schema = self._number("data_version"), self._number("schema_version")
            self.has_table = self._is_set_up()
            self._newest = self._read_newest()
        self._beside = self._files_beside()

    def look(self) -> News | None:
        """What is new since the last look that found something; None where nobody has committed anything."""
        self._look_at_files()
        with self._transaction():
            version = self._number("data_version")
            if version == self._version:
                return None
            schema = self._number("schema_version")
            if schema != self._schema:
                found = self._after_migration()
            else:
                found = self._read_changes() if self.has_table else News()
        self._version, self._schema = version, schema
        return found

    def _after_migration(self) -> News:
        if self._is_set_up() != self.has_table:
            raise self._unavailable("its triggers were installed or removed meanwhile")
        self._newest = self._read_newest()
        return News(is_everything=True)

    def _read_changes(self) -> News:
        """The rows after the newest that was seen, which must still be there: else some may have come and gone."""
        seen = self._newest
        if seen is None:
            self._newest = self._read_newest()
            return News(is_everything=self._newest is not None)
        rows = self._rows("WHERE seq >= ? ORDER BY seq", seen[0])
        if rows[:1] != [seen]:
            self._newest = self._read_newest()
            return News(is_everything=True)
        self._newest = rows[-1]
        named = {kind: frozenset(digest_of(key) for _, k, key in rows[1:] if k == kind and key) for kind in "su"}
        return News(any(kind not in named for _, kind, _ in rows[1:]), named["s"], named["u"])

    def _read_newest(self) -> _Row | None:
        rows = self._rows("ORDER BY seq DESC LIMIT 1") if self.has_table else []
        return rows[0] if rows else None

    def _rows(self, which: str, *values: int) -> list[_Row]:
        return self._execute(f"SELECT seq, kind, key FROM {TABLE} {which}", *values)  # noqa: S608

    def _is_set_up(self) -> bool:
        """Whether the change table and the triggers are there, exactly as this version makes them for these tables."""
        present = {name.lower() for (name,) in self._execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        _, session = self._tables.session.schema_and_name
        if session.lower() not in present:
            kind = MissingTable if self._tables.session.name == "session" else StoreUnavailable
            raise kind(f"{self._path}: no table {session!r} (setting store.tables.session)")
        made = {sql for (sql,) in self._execute("SELECT sql FROM sqlite_master WHERE name LIKE 'gatekeeper%'")}
        if made.issuperset(self._definitions()):
            return True
        if self._tables.with_organizations:
            raise FeedNotSetUp(f"{self._path}: nothing tells of changed memberships: run `gatekeeper migrate --feed`")
        return False

    def _definitions(self) -> list[str]:
        try:
            return definitions(self._tables)
        except GatekeeperError as exc:
            raise self._unavailable(str(exc)) from exc

    def _look_at_files(self) -> None:
        if SqliteFile(self._path).identity() != self._file:
            raise self._unavailable("the file was replaced")
        beside = self._files_beside()
        if any(beside.get(suffix) != inode for suffix, inode in self._beside.items()):
            raise self._unavailable("its write-ahead log was removed")
        self._beside = beside

    def _files_beside(self) -> dict[str, int]:
        """Inodes of the files of WAL mode, which nobody who knows SQLite removes while this connection is there."""
        found: dict[str, int] = {}
        for suffix in ("-wal", "-shm"):
            try:
                found[suffix] = os.stat(f"{self._path}{suffix}").st_ino
            except OSError:
                continue
        return found

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._execute("BEGIN")
        try:
            yield
        finally:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.rollback()

    def _number(self, pragma: str) -> int:
        number: int = self._execute(f"PRAGMA {pragma}")[0][0]
        return number

    def _execute(self, statement: str, *values: int) -> list[Any]:
        if self._connection is None:
            raise self._unavailable("it is not open")
        return self._connection.execute(statement, values).fetchall()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode=ro", uri=True, isolation_level=None, timeout=self._busy_s
        )
        # A token that is no text is no session's: all that matters is that the others can be read.
        connection.text_factory = _text_of
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _unavailable(self, cause: str) -> StoreUnavailable:
        return StoreUnavailable(f"{self._path}: {cause}")


def _text_of(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _is_busy(error: sqlite3.Error) -> bool:
    """Whether a writer holds the file: the first byte of SQLite's code says so, the rest says how."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
