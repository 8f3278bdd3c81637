"""Sessions in a SQL database, in Better Auth's tables.  Read only.

One statement reads a session with its user.  Nothing is opened before the store is first asked, so a gate may start
before its database.  What is open goes with the statements that fit the tables, and is dropped when the database gives
an error: the next read opens it anew, and so finds a migrated table, or a database that came back.  Optional columns
that are added meanwhile are read from the next opening on.

How a database is asked is its own business: `sqlite` in threads, `servers` over connections.  Whatever error comes
from there becomes StoreUnavailable here.  Its message names the database and the cause, and no value.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, SelectBase, inspect
from sqlalchemy.exc import DBAPIError

from gatekeeper.core.errors import GatekeeperError, SchemaFault, StoreUnavailable
from gatekeeper.core.model import SessionRecord, SessionToken
from gatekeeper.stores.feeds.feed import Channel, Memory
from gatekeeper.stores.protocol import TIMEOUT_S, can_be_sent
from gatekeeper.stores.records import record_of
from gatekeeper.stores.tables import BATCH, BETTER_AUTH, Plan, Tables, plan_read

_T = TypeVar("_T")
_Found = tuple[dict[str, Any], dict[str, Any], Sequence[Sequence[Any]]]
"""Fields of a session and of its user, id and slug of each of the user's organizations."""

Execute = Callable[[SelectBase, Mapping[str, Any]], Sequence[Sequence[Any]]]
"""Rows of a statement with these parameters.  Called where waiting is allowed: see `Opened.run`."""


_NO_SUCH = ("no such table:", "no such column:")
"""How SQLite begins to say that there is no such thing; others have numbers for it."""
_NO_SUCH_CODES = frozenset({"42P01", "42703", 1146, 1054})
"""What PostgreSQL and MySQL call a table, and a column, that is not there."""


class Opened(ABC):
    """A database that is open."""

    plan: Plan
    state: object = None
    is_retired = False
    outlives_timeouts = True
    """Whether it is read from again after a read that took too long."""

    @abstractmethod
    async def look(self, look: Callable[[Connection], _T]) -> _T:
        """What this finds on a connection."""

    @abstractmethod
    async def run(self, work: Callable[[Execute], _T]) -> _T:
        """What this makes of the rows that it asks for, all on one connection.  It may be run twice."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connections when the reads under way have ended."""


class Database(Protocol):
    """Where a database is.  `label` is what messages call it."""

    @property
    def label(self) -> str: ...

    def state(self) -> object:
        """What must be as it was for an open database to be the one that is there now.  Raises StoreUnavailable."""
        ...

    def open(self, pool: int, timeout_s: float) -> Opened:
        """Begin to use it, over so many connections at most.  Nothing is connected yet."""
        ...


class SqlStore:
    """A SessionStore on a SQL database.

    Raises StoreUnavailable from every call when the database cannot answer, and works again when it can.
    `open_channel` is how the database tells of changes, if it can.
    """

    recheck_s = 1.0

    def __init__(
        self,
        database: Database,
        tables: Tables = BETTER_AUTH,
        *,
        pool: int = 10,
        timeout_s: float = TIMEOUT_S,
        open_channel: Callable[[Memory], Channel] | None = None,
    ) -> None:
        self._database = database
        self._tables = tables
        self._pool = pool
        self._timeout_s = timeout_s
        self._open_channel = open_channel
        self._opening = asyncio.Lock()
        self._opened: Opened | None = None
        self._closings: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<SqlStore {self._database.label}, {'open' if self._opened else 'not open'}>"

    def channel(self, memory: Memory) -> Channel | None:
        return None if self._open_channel is None else self._open_channel(memory)

    async def check(self) -> None:
        """Raise StoreUnavailable as a read would."""
        await self.ask(lambda plan, execute: _find(plan, "", execute))

    async def read_session(self, token: SessionToken, client_address: str | None = None) -> SessionRecord | None:
        if not is_text(token):
            return None
        found = await self.ask(lambda plan, execute: _find(plan, token, execute))
        if found is None:
            return None
        session, user, organizations = found
        return record_of(session, user, self._tables.session.extra, self._tables.user.extra, organizations)

    async def read_sessions(self, tokens: Sequence[SessionToken]) -> dict[SessionToken, SessionRecord]:
        wanted = list(filter(is_text, tokens))
        found = await self.ask(lambda plan, execute: _find_all(plan, wanted, execute)) if wanted else []
        if found is None:  # one of them cannot be read: the others are none the worse
            records = {token: await self.read_session(token) for token in wanted}
        else:
            extra = self._tables.session.extra, self._tables.user.extra
            records = {token: record_of(session, user, *extra) for token, session, user in found}
        return {token: record for token, record in records.items() if record is not None}

    async def close(self) -> None:
        """Close every connection, once the reads under way have ended.  What is asked later is unavailable."""
        self._closed = True
        async with self._opening:
            self._retire(self._opened)
        await asyncio.gather(*self._closings, return_exceptions=True)

    async def ask(self, question: Callable[[Plan, Execute], _T]) -> _T | None:
        """What this finds; None where a text that is none cannot be read.  It may be asked twice."""
        return await self._within_time(lambda opened: opened.run(lambda execute: question(opened.plan, execute)))

    async def work(self, work: Callable[[Connection], _T]) -> _T | None:
        """What this gives on a connection, each of whose statements is committed by itself; None as for `ask`.

        It is done once: a connection that turns out to be dead makes the database unavailable.
        """
        return await self.work_as_planned(lambda _, connection: work(connection))

    async def work_as_planned(self, work: Callable[[Plan, Connection], _T]) -> _T | None:
        """As `work`, with the plan that fits the tables as they are."""
        return await self._within_time(lambda opened: opened.look(lambda connection: work(opened.plan, connection)))

    async def _within_time(self, use: Callable[[Opened], Awaitable[_T]]) -> _T | None:
        opened = None
        try:
            async with asyncio.timeout(self._timeout_s):
                opened = await self._open()
                return await use(opened)
        except StoreUnavailable:
            raise
        except TimeoutError as exc:
            if opened is not None and not opened.outlives_timeouts:
                self._retire(opened)
            raise self._unavailable(f"no answer within {self._timeout_s:g} s") from exc
        except Exception as exc:  # each driver has errors of its own, and not all of them are wrapped
            if _is_undecodable(exc):
                return None
            self._retire(opened)
            kind = SchemaFault if _is_of_schema(exc) else StoreUnavailable
            raise kind(f"{self._database.label}: {_cause_of(exc)}") from exc

    async def _open(self) -> Opened:
        """What is open on the database as it is now."""
        if self._closed:
            raise self._unavailable("the store was closed")
        state = self._database.state()
        if self._opened is not None and self._opened.state == state:
            return self._opened
        async with self._opening:
            if self._opened is None or self._opened.state != state:
                self._retire(self._opened)
                self._opened = await self._begin(state)
            return self._opened

    async def _begin(self, state: object) -> Opened:
        opened = self._database.open(self._pool, self._timeout_s)
        opened.state = state
        try:
            opened.plan = await opened.look(self._plan)
        except BaseException:
            self._spawn(opened.close())
            raise
        return opened

    def _plan(self, connection: Connection) -> Plan:
        try:
            return plan_read(inspect(connection), self._tables)
        except StoreUnavailable as exc:
            raise type(exc)(f"{self._database.label}: {exc}") from exc.__cause__

    def _unavailable(self, cause: str) -> StoreUnavailable:
        return StoreUnavailable(f"{self._database.label}: {cause}")

    def _retire(self, opened: Opened | None) -> None:
        """Read from it no more, and close it when nobody does."""
        if opened is None or opened.is_retired:
            return
        opened.is_retired = True
        if self._opened is opened:
            self._opened = None
        self._spawn(opened.close())

    def _spawn(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(closing)
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)


async def work_alone(database: Database, work: Callable[[Connection], _T], *, timeout_s: float) -> _T:
    """What this gives on a connection that is opened and closed for it, whatever tables there are.

    Raises StoreUnavailable as `SqlStore.work`, and what `work` raises on purpose.
    """
    database.state()
    opened = database.open(1, timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            return await opened.look(work)
    except GatekeeperError:
        raise
    except TimeoutError as exc:
        raise StoreUnavailable(f"{database.label}: no answer within {timeout_s:g} s") from exc
    except Exception as exc:  # as in `SqlStore`
        raise StoreUnavailable(f"{database.label}: {_cause_of(exc)}") from exc
    finally:
        await opened.close()


def _find(plan: Plan, token: str, execute: Execute) -> _Found | None:
    for row in execute(plan.statement, {"token": token}):
        session, user = plan.split(row)
        if session["token"] != token:  # a collation may find what was not asked for
            continue
        if plan.memberships is None:
            return session, user, []
        return session, user, execute(plan.memberships, {"user": user["id"]})
    return None


def _find_all(
    plan: Plan, tokens: Sequence[SessionToken], execute: Execute
) -> list[tuple[SessionToken, dict[str, Any], dict[str, Any]]]:
    wanted, found = set(tokens), list[tuple[SessionToken, dict[str, Any], dict[str, Any]]]()
    for start in range(0, len(tokens), BATCH):
        some = list(tokens[start : start + BATCH])
        some += some[-1:] * (BATCH - len(some))
        for row in execute(plan.batch, {f"token{number}": token for number, token in enumerate(some)}):
            session, user = plan.split(row)
            if session["token"] in wanted:
                found.append((session["token"], session, user))
    return found


def is_text(token: str) -> bool:
    """Whether a database can be asked for it: PostgreSQL takes no NUL."""
    return "\0" not in token and can_be_sent(token)


def _cause_of(exc: Exception) -> str:
    if isinstance(exc, DBAPIError):
        return str(exc.orig)
    return str(exc) or type(exc).__name__


def _is_of_schema(exc: Exception) -> bool:
    """Whether a table or a column is not there."""
    if _cause_of(exc).startswith(_NO_SUCH):
        return True
    orig = exc.orig if isinstance(exc, DBAPIError) else None
    arguments: tuple[object, ...] = getattr(orig, "args", ())
    codes = {getattr(orig, "sqlstate", None), *(code for code in arguments[:1] if isinstance(code, int))}
    return not codes.isdisjoint(_NO_SUCH_CODES)


def _is_undecodable(exc: Exception) -> bool:
    """Whether a text in the row is not UTF-8: a row that cannot be read, not a database that cannot.

    sqlite3 says so in a message that quotes the value.
    """
    return _cause_of(exc).startswith("Could not decode to UTF-8")
