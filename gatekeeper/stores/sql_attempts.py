"""Tries of passwords, counted in the table `gatekeeper_attempt`: the same counts for all workers and all replicas."""

from collections.abc import Iterable, Mapping
from typing import Any

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
from gatekeeper.stores.sql import SqlStore
from gatekeeper.stores.transactions import in_transaction

SWEEP_MS = 60_000
"""How often each process removes windows that have ended."""

_TABLE: Any = table(
    "gatekeeper_attempt", column("name", String()), column("count", Integer()), column("ends", BigInteger())
)
_NAME, _COUNT, _ENDS = _TABLE.c.name, _TABLE.c["count"], _TABLE.c.ends


class SqlAttempts:
    """`Attempts` in a database that `gatekeeper migrate` has prepared.  `reader` and `writer` may be one."""

    def __init__(self, reader: SqlStore, writer: SqlStore) -> None:
        self._reader = reader
        self._writer = writer
        self._sweep_at_ms = 0

    async def read(self, keys: Iterable[str]) -> Mapping[str, Tally]:
        wanted = list(keys)
        return await self._reader.work(lambda connection: _read(connection, wanted)) or {}

    async def note(self, keys: Iterable[str], limit: Limit, now_ms: int) -> Mapping[str, Tally]:
        wanted = sorted(set(keys))  # always in the same order, so that two never wait for one another
        is_time = now_ms >= self._sweep_at_ms

        def note(connection: Connection) -> dict[str, Tally]:
            for key in wanted:
                _note(connection, key, limit, now_ms)
            return _read(connection, wanted)

        def work(connection: Connection) -> dict[str, Tally]:
            if is_time:
                in_transaction(connection, lambda within: within.execute(delete(_TABLE).where(now_ms >= _ENDS)))
            return in_transaction(connection, note)

        await self._reader.check()  # connections that have died are replaced when reading
        found = await self._writer.work(work) or {}
        if is_time:
            self._sweep_at_ms = now_ms + SWEEP_MS
        return found

    async def take_back(self, key: str, ends_ms: int) -> None:
        fewer = case((_COUNT > 0, _COUNT - 1), else_=0)
        await self._change(update(_TABLE).where(key == _NAME, ends_ms == _ENDS).values({_COUNT: fewer}))

    async def forget(self, key: str) -> None:
        await self._change(delete(_TABLE).where(key == _NAME))

    async def _change(self, statement: Executable) -> None:
        def change(connection: Connection) -> None:
            in_transaction(connection, lambda within: within.execute(statement))

        await self._reader.check()
        await self._writer.work(change)


def _read(connection: Connection, keys: list[str]) -> dict[str, Tally]:
    rows = connection.execute(select(_NAME, _COUNT, _ENDS).where(_NAME.in_(keys)))
    return {name: Tally(count, ends) for name, count, ends in rows}


def _note(connection: Connection, key: str, limit: Limit, now_ms: int) -> None:
    """One statement, so that of two at the same time one finds the other counted."""
    has_ended = literal(now_ms, BigInteger()) >= _ENDS
    count = case((has_ended, 1), else_=_COUNT + 1)
    ends = case((has_ended, literal(now_ms + limit.per_ms, BigInteger())), else_=_ENDS)
    first = {"name": key, "count": 1, "ends": now_ms + limit.per_ms}
    if connection.dialect.name in ("mysql", "mariadb"):
        # The values are set in this order there, and each sees those before it.
        connection.execute(
            mysql.insert(_TABLE).values(first).on_duplicate_key_update([("count", count), ("ends", ends)])
        )
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    changes = {"count": count, "ends": ends}
    connection.execute(insert(_TABLE).values(first).on_conflict_do_update(index_elements=["name"], set_=changes))
