"""The feed of PostgreSQL: LISTEN on a connection of its own, NOTIFY by triggers (`postgres_setup`).

Why nothing is missed.  A transaction that notifies takes one lock of the whole server before it commits, puts its
messages into the one queue that all channels share, becomes visible to others, and only then lets go of the lock
(async.c, xact.c).  So the queue is in the order of commits, a listener is given a message when its transaction is
visible to every read that begins from then on, and what comes back through the queue comes after all that was committed
before.

Why a turn seldom sends a NOTIFY.  Each one wakes every listener of the database, whatever its channel: 90 processes
with four a second took 1.1 cores of the server, and it grows with their square; with questions instead, 0.09.  A commit
signals every listener *before* its own client is answered (since PostgreSQL 15), and a backend passes on what it was
signalled before it says that it is ready again (postgres.c).  So the answer to any question, asked over the listening
connection, comes after the messages of everything whose commit was answered before the question was sent: the question
is the marker.  Servers before 15 signal later, and get a NOTIFY on a channel of this process's own.

What could swallow messages stands between: a pooler that gives each transaction another connection keeps LISTEN,
answers questions, and throws away what arrives meanwhile.  So `open` has another connection send a message first, while
this one rests, and waits for it.

A replica refuses LISTEN; a server that becomes one starts anew, and the connection is lost.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from secrets import token_hex

from gatekeeper.config.server_url import ServerUrl
from gatekeeper.core.errors import MissingTable, StoreUnavailable
from gatekeeper.stores.feeds.feed import Changes, FeedNotSetUp
from gatekeeper.stores.feeds.postgres_connection import PostgresConnection
from gatekeeper.stores.feeds.postgres_setup import CHANNEL, triggers
from gatekeeper.stores.lease import MARKER_S
from gatekeeper.stores.protocol import TIMEOUT_S
from gatekeeper.stores.tables import Tables

CHECK_TURNS = 4
"""At every so many turns is looked whether the triggers are as they were."""

DIGEST_BYTES = 32

SIGNALS_AT_COMMIT = 15
"""The first version that signals listeners before it answers the commit."""

_CHECK = """
with wanted as (
    select * from unnest($1::text[], $2::text[], $3::bytea[]) as w(relation, name, arguments)
), tree as (
    select distinct w.name, t.relid from wanted w, pg_catalog.pg_partition_tree(pg_catalog.to_regclass(w.relation)) t
    union select name, pg_catalog.to_regclass(relation) from wanted
), placed as (
    select g.oid, g.xmin, g.tgname, g.tgrelid, g.tgargs, g.tgenabled, p.xmin as function_xmin, c.relfilenode
    from tree join pg_catalog.pg_trigger g on g.tgrelid = tree.relid and g.tgname = tree.name
    join pg_catalog.pg_proc p on p.oid = g.tgfoid join pg_catalog.pg_class c on c.oid = g.tgrelid
)
select
    $4::text in (select pg_catalog.pg_listening_channels()),
    array(
        select name from wanted where not exists (
            select from placed where tgrelid = pg_catalog.to_regclass(relation) and tgname = name and tgargs = arguments
        )
        union select tgname from placed where tgenabled <> 'A'
        order by 1
    ),
    array(
        select pg_catalog.concat_ws(' ', tree.name, relid, oid, xmin, function_xmin, relfilenode)
        from tree left join placed on tgrelid = relid and tgname = tree.name order by 1
    )
"""
"""Whether this connection listens, which triggers are missing or not enabled, and what differs
when one was changed, a partition came or went, or a table was rewritten, as TRUNCATE does.
"""

_HAS_TABLE = "select pg_catalog.to_regclass($1)::pg_catalog.text"


class PostgresChannel:
    """A Channel.  `timeout_s` is how long opening it, or a turn, may take in all."""

    names_all = True
    interval_s = MARKER_S

    def __init__(self, url: ServerUrl, tables: Tables, *, timeout_s: float = TIMEOUT_S) -> None:
        self.label = url.label
        self._url = url
        self._timeout_s = timeout_s
        wanted = triggers(tables)
        self._may_have_no_table = tables.session.name == "session"
        self._wanted = (
            [trigger.table for trigger in wanted],
            [trigger.name for trigger in wanted],
            [b"".join(argument.encode() + b"\0" for argument in trigger.arguments) for trigger in wanted],
        )
        self._own_channel = f"{CHANNEL}_{token_hex(8)}"  # or each marker would be sent to all
        self._connection: PostgresConnection | None = None
        self._marker = ""
        self._arrived: asyncio.Future[bool] | None = None
        self._seen: list[str] | None = None
        self._turns = 0
        self._sends_markers = False

    def __repr__(self) -> str:
        return f"<PostgresChannel {self.label}, {'open' if self._connection else 'not open'}>"

    async def open(self, changes: Changes) -> None:
        """As the protocol says; MissingTable where sessions have no table."""
        await self.close()
        async with self._ending_on_failure():
            self._connection = connection = await PostgresConnection.open(self._url, self._timeout_s)
            connection.on_end(lambda: self._lost(connection))
            self._turns, self._seen = 0, None
            self._sends_markers = connection.version < SIGNALS_AT_COMMIT
            await connection.execute("set plan_cache_mode = force_generic_plan")  # planning is most of a check
            await connection.listen(CHANNEL, lambda payload: _tell(changes, payload))
            await connection.listen(self._own_channel, self._hear)
            await self._check(connection)
            await self._hear_another()

    async def turn(self) -> None:
        async with self._ending_on_failure():
            connection = self._connection
            if connection is None:
                raise StoreUnavailable(f"{self.label}: the connection is closed")
            self._turns += 1
            if self._turns % CHECK_TURNS == 0:
                await self._check(connection)
            elif not self._sends_markers:
                await connection.row("select 1")
            if self._sends_markers:
                await self._mark(connection)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _check(self, connection: PostgresConnection) -> None:
        listens, missing, seen = await connection.row(_CHECK, *self._wanted, CHANNEL)
        if missing:
            await self._look_for_table(connection)
            names = ", ".join(missing)
            raise FeedNotSetUp(
                f"{self.label}: triggers are missing or not enabled ({names}): run `gatekeeper migrate --feed`"
            )
        if not listens:
            raise StoreUnavailable(f"{self.label}: another connection listens; a pooler must be in session mode")
        if self._seen not in (None, seen):
            raise StoreUnavailable(f"{self.label}: tables or triggers were changed")
        self._seen = seen

    async def _look_for_table(self, connection: PostgresConnection) -> None:
        """Raise MissingTable where sessions have no table, nor was one named."""
        if self._may_have_no_table and (await connection.row(_HAS_TABLE, self._wanted[0][0]))[0] is None:
            raise MissingTable(f"{self.label}: no table 'session' (setting store.tables.session)")

    async def _hear_another(self) -> None:
        """Wait for a message that another connection sends while this one rests."""
        other = await PostgresConnection.open(self._url, self._timeout_s)
        try:
            async with asyncio.timeout(self._timeout_s / 2):
                await self._mark(other)
        except TimeoutError as exc:
            cause = f"no notification arrives within {self._timeout_s / 2:g} s: a pooler must be in session mode"
            raise StoreUnavailable(f"{self.label}: {cause}") from exc
        finally:
            await other.close()

    async def _mark(self, sender: PostgresConnection) -> None:
        """Have a marker sent over this connection, and wait until the one that listens has it."""
        self._arrived = arrived = asyncio.get_running_loop().create_future()
        self._marker = token_hex(4)
        await sender.row("select pg_catalog.pg_notify($1, $2)", self._own_channel, self._marker)
        if not await arrived:
            raise StoreUnavailable(f"{self.label}: the connection was lost")

    def _hear(self, payload: str) -> None:
        if payload == self._marker and self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(True)

    def _lost(self, connection: PostgresConnection) -> None:
        if connection is self._connection and self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(False)

    @asynccontextmanager
    async def _ending_on_failure(self) -> AsyncGenerator[None]:
        """End the connection whatever happens but success; a block that takes too long is StoreUnavailable."""
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except BaseException as exc:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.end()
            if isinstance(exc, TimeoutError):
                raise StoreUnavailable(f"{self.label}: no answer within {self._timeout_s:g} s") from exc
            raise


def _tell(changes: Changes, payload: str) -> None:
    """Pass a message of the triggers on.  What is not understood may be of a later version, and mean anything."""
    kind, digest = payload[:1], _digest(payload[1:])
    if kind == "s" and digest is not None:
        changes.session_changed(digest)
    elif kind == "u" and digest is not None:
        changes.user_changed(digest)
    else:
        changes.all_changed()


def _digest(text: str) -> bytes | None:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        return None
    return digest if len(digest) == DIGEST_BYTES else None
