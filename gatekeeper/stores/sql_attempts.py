"""Tries of passwords, counted in the table `gatekeeper_attempt`: the same counts for all workers and all replicas.

Changes that come at the same time are committed together (`grouping`): in a flood of wrong passwords each try would
else wait for the disk by itself, and whoever comes from a known device with them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Connection,
    Executable,
    Integer,
    String,
    case,
    column,
    delete,
    literal,
    select,
    table,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite

from gatekeeper.core.attempts import Limit, Tally
from gatekeeper.stores.grouping import Grouped
from gatekeeper.stores.sql import SqlStore
from gatekeeper.stores.transactions import in_transaction

SWEEP_MS = 60_000
"""How often each process removes windows that have ended."""

_TABLE: Any = table(
    "gatekeeper_attempt", column("name", String()), column("count", Integer()), column("ends", BigInteger())
)
_NAME, _COUNT, _ENDS = _TABLE.c.name, _TABLE.c["count"], _TABLE.c.ends


class _Try(msgspec.Struct, frozen=True):
    """One try, which counts for each of these keys once."""

    keys: frozenset[str]
    limit: Limit
    now_ms: int


class _Change(msgspec.Struct, frozen=True):
    """What becomes of a key's tally."""

    key: str
    statement: Executable


class SqlAttempts:
    """`Attempts` in a database that `gatekeeper migrate` has prepared.  `reader` and `writer` may be one."""

    def __init__(self, reader: SqlStore, writer: SqlStore) -> None:
        self._reader = reader
        self._writer = writer
        self._sweep_at_ms = 0
        self._tries = Grouped(self._note)
        self._changes = Grouped(self._change)

    async def read(self, keys: Iterable[str]) -> Mapping[str, Tally]:
        wanted = list(keys)
        return await self._reader.work(lambda connection: _read(connection, wanted)) or {}

    async def note(self, keys: Iterable[str], limit: Limit, now_ms: int) -> Mapping[str, Tally]:
        return await self._tries.do(_Try(frozenset(keys), limit, now_ms))

    async def take_back(self, key: str, ends_ms: int) -> None:
        fewer = case((_COUNT > 0, _COUNT - 1), else_=0)
        statement = update(_TABLE).where(key == _NAME, ends_ms == _ENDS).values({_COUNT: fewer})
        await self._changes.do(_Change(key, statement))

    async def forget(self, key: str) -> None:
        await self._changes.do(_Change(key, delete(_TABLE).where(key == _NAME)))

    async def _note(self, tries: Sequence[_Try]) -> Sequence[Mapping[str, Tally]]:
        now_ms = max(one.now_ms for one in tries)
        is_time = now_ms >= self._sweep_at_ms

        def note(connection: Connection) -> dict[str, Tally]:
            _count(connection, tries, now_ms)
            return _read(connection, list({key for one in tries for key in one.keys}))

        def work(connection: Connection) -> dict[str, Tally]:
            _spare_the_disk(connection)
            if is_time:
                in_transaction(connection, lambda within: within.execute(delete(_TABLE).where(now_ms >= _ENDS)))
            return in_transaction(connection, note)

        await self._reader.check()  # connections that have died are replaced when reading
        found = await self._writer.work(work) or {}
        if is_time:
            self._sweep_at_ms = now_ms + SWEEP_MS
        return _apart(tries, found)

    async def _change(self, changes: Sequence[_Change]) -> Sequence[None]:
        ordered = sorted(changes, key=lambda change: change.key)  # as in `_count`

        def change(connection: Connection) -> None:
            for one in ordered:
                connection.execute(one.statement)

        await self._reader.check()

        def work(connection: Connection) -> None:
            _spare_the_disk(connection)
            in_transaction(connection, change)

        await self._writer.work(work)
        return [None] * len(changes)


def _spare_the_disk(connection: Connection) -> None:
    """Wait for SQLite's disk no more than the file's integrity asks for: a loss of power may lose the latest counts.

    Without a write-ahead log it might lose the file.
    """
    if connection.dialect.name == "sqlite":
        with connection.begin():  # of itself the driver begins nothing here
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
            connection.exec_driver_sql(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")


def _read(connection: Connection, keys: list[str]) -> dict[str, Tally]:
    rows = connection.execute(select(_NAME, _COUNT, _ENDS).where(_NAME.in_(keys)))
    return {name: Tally(count, ends) for name, count, ends in rows}


def _count(connection: Connection, tries: Sequence[_Try], now_ms: int) -> None:
    """Count all of them.  One statement, so that of two at the same time one finds the other counted."""
    many = Counter(key for one in tries for key in one.keys)
    per_ms = {key: one.limit.per_ms for one in tries for key in one.keys}
    # always in the same order, so that two never wait for one another
    rows = [{"name": key, "count": many[key], "ends": now_ms + per_ms[key]} for key in sorted(many)]
    if not rows:
        return
    has_ended = literal(now_ms, BigInteger()) >= _ENDS
    if connection.dialect.name in ("mysql", "mariadb"):
        inserting = mysql.insert(_TABLE).values(rows)
        changes = _changes(has_ended, inserting.inserted)
        connection.execute(inserting.on_duplicate_key_update(list(changes.items())))
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    adding = insert(_TABLE).values(rows)
    changes = _changes(has_ended, adding.excluded)
    connection.execute(adding.on_conflict_do_update(index_elements=["name"], set_=changes))


def _changes(has_ended: Any, given: Any) -> dict[str, Any]:
    """What is set where the key has a tally.  MySQL sets it in this order, and each sees those before it."""
    return {
        "count": case((has_ended, given["count"]), else_=_COUNT + given["count"]),
        "ends": case((has_ended, given.ends), else_=_ENDS),
    }


def _apart(tries: Sequence[_Try], found: Mapping[str, Tally]) -> list[Mapping[str, Tally]]:
    """For each try the tallies as if it had been counted before those that come after it."""
    later: Counter[str] = Counter()
    tallies: list[Mapping[str, Tally]] = []
    for one in reversed(tries):
        tallies.append({key: Tally(found[key].count - later[key], found[key].ends_ms) for key in one.keys})
        later.update(one.keys)
    return tallies[::-1]
