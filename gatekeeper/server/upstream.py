"""Connections to the apps behind: pools, deadlines, and the mapping of everything that goes wrong.

Deadlines are kept by one ticker for each pool, not by a timer for each request: `deadline` is when the exchange on a
connection must have made progress, else it fails with UpstreamTimeout.

`max_connections` protects the app, and clients that do not keep up must not use it up.  An exchange that waits for
its client is stalled.  Where more than half of the connections are stalled, those that stalled first are given up:
after STALL_GRACE_S, or at once when three quarters of all are in use.  WebSockets and event streams, which last, are
counted apart and not limited here: each belongs to a client's connection, and those are.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from ssl import SSLContext

import msgspec

from gatekeeper.core.errors import UpstreamRefused, UpstreamTimeout
from gatekeeper.server.exchange import UpstreamConnection

_TICK_S = 0.25
STALL_GRACE_S = 5.0
"""How long an exchange may wait for its client while others wait for a connection."""

_FEW = 8
"""Of fewer connections than this, none is taken from a client that does not keep up."""


class UpstreamAddress(msgspec.Struct, frozen=True):
    """Where an app listens, and how long and how often it is asked.  Durations are seconds.

    `unix_path` stands in for host and port; with `tls` the connection is encrypted and the host's name checked.
    """

    name: str
    host: str
    port: int
    unix_path: str | None = None
    tls: SSLContext | None = None
    connect_timeout_s: float = 5.0
    response_timeout_s: float = 60.0
    idle_timeout_s: float = 300.0
    max_connections: int = 256

    @property
    def label(self) -> str:
        """How errors and logs call it."""
        return f"{self.host}:{self.port}" if self.unix_path is None else f"unix:{self.unix_path}"


class UpstreamPool:
    """The connections to one app, at most `max_connections`; idle ones are used again, the newest first."""

    def __init__(self, address: UpstreamAddress, loop: asyncio.AbstractEventLoop) -> None:
        self.address = address
        self.loop = loop
        self.now: Callable[[], float] = loop.time
        self._idle: deque[UpstreamConnection] = deque()
        self._open: set[UpstreamConnection] = set()
        self._opening = 0
        self._stalled: dict[UpstreamConnection, float] = {}
        self._streaming: set[UpstreamConnection] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.ticker: asyncio.TimerHandle | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<UpstreamPool {self.address.name or 'default'}: {len(self._open)} open, {len(self._idle)} idle>"

    @property
    def idle(self) -> int:
        """How many open connections nobody uses."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """How many connections are lent to an exchange."""
        return len(self._open) - len(self._idle)

    @property
    def streaming(self) -> int:
        """How many connections carry a WebSocket or an event stream."""
        return len(self._streaming)

    def take_idle(self) -> UpstreamConnection | None:
        """An open connection that nobody uses, or None; never waits."""
        now = self.now()
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.transport is None or connection.transport.is_closing():
                continue
            if connection.idle_until <= now:
                connection.transport.close()
                continue
            connection.is_reused = True
            return connection
        return None

    def take_free(self) -> UpstreamConnection | None:
        """An idle connection that nobody waits for, or None."""
        return None if self._waiting else self.take_idle()

    async def take(self) -> UpstreamConnection:
        """An idle or a new connection; who waits already comes first.  Raises UpstreamRefused or UpstreamTimeout."""
        connection = self.take_free()
        return connection if connection is not None else await self.open()

    async def open(self) -> UpstreamConnection:
        """A new connection, its name looked up anew.  Raises UpstreamRefused, or UpstreamTimeout where neither a
        place among `max_connections` nor the connection itself is had within `connect_timeout_s`.
        """
        address = self.address
        try:
            async with asyncio.timeout(address.connect_timeout_s):
                while len(self._open) + self._opening >= address.max_connections:
                    await self._wait_for_place()
                    idle = self.take_idle()
                    if idle is not None:
                        if self._idle:
                            self._wake_one()  # who came since left those to us
                        return idle
                self._opening += 1
                try:
                    connection = await self._connect()
                finally:
                    self._opening -= 1
                    self._wake_one()
        except TimeoutError as exc:
            raise UpstreamTimeout(f"no connection to {address.label} in time") from exc
        except OSError as exc:
            raise UpstreamRefused(f"no connection to {address.label}: {exc.strerror or exc}") from exc
        self._open.add(connection)
        if self.ticker is None:
            self.ticker = self.loop.call_later(_TICK_S, self.tick)
        return connection

    @property
    def is_crowded(self) -> bool:
        """Whether more than half of the connections are in use."""
        return self._in_use * 2 > self.address.max_connections

    @property
    def _in_use(self) -> int:
        return len(self._open) + self._opening - len(self._idle)

    def has_stalled(self, connection: UpstreamConnection) -> None:
        """The exchange on this connection waits for its client."""
        if connection in self._open:
            self._stalled.setdefault(connection, self.now())
            self._relieve()

    def goes_on(self, connection: UpstreamConnection) -> None:
        self._stalled.pop(connection, None)

    def becomes_stream(self, connection: UpstreamConnection) -> None:
        """This connection's place is free for another."""
        if connection in self._open:
            self._open.discard(connection)
            self._stalled.pop(connection, None)
            self._streaming.add(connection)
            self._wake_one()

    def give_back(self, connection: UpstreamConnection) -> None:
        """Take a connection into the idle queue, or close it when the pool is closed or has no place for it."""
        if (
            self._streaming
            and connection in self._streaming
            and len(self._open) + self._opening < self.address.max_connections
        ):
            self._streaming.discard(connection)
            self._open.add(connection)
        if self._closed or connection not in self._open:
            if connection.transport is not None:
                connection.transport.close()
            return
        self._idle.append(connection)
        if self._waiting:
            self._wake_one()

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection is gone."""
        self._open.discard(connection)
        self._streaming.discard(connection)
        self._stalled.pop(connection, None)
        if connection in self._idle:
            self._idle.remove(connection)
        self._wake_one()

    def close(self) -> None:
        """Close idle connections now, and busy ones when their exchange ends."""
        self._closed = True
        if self.ticker is not None:
            self.ticker.cancel()
            self.ticker = None
        while self._idle:
            transport = self._idle.pop().transport
            if transport is not None:
                transport.close()

    async def _connect(self) -> UpstreamConnection:
        address = self.address
        if address.unix_path is not None:
            _, connection = await self.loop.create_unix_connection(lambda: UpstreamConnection(self), address.unix_path)
        else:
            _, connection = await self.loop.create_connection(
                lambda: UpstreamConnection(self), address.host, address.port, ssl=address.tls
            )
        return connection

    def _relieve(self) -> None:
        """Give up exchanges whose clients do not keep up, where too many do not."""
        most = self.address.max_connections
        if most < _FEW:
            return
        while len(self._stalled) > most // 2:
            connection, since = next(iter(self._stalled.items()))
            if since > self.now() - STALL_GRACE_S and self._in_use <= most * 3 // 4:
                return
            self.goes_on(connection)
            connection.give_up_client()

    async def _wait_for_place(self) -> None:
        place: asyncio.Future[None] = self.loop.create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._wake_one()  # the place was given to one who has left: pass it on
            raise
        finally:
            self._waiting.remove(place)

    def _wake_one(self) -> None:
        """Who is woken stays among the waiting until they have looked: nobody takes the place in between."""
        for place in self._waiting:
            if not place.done():
                place.set_result(None)
                return

    def tick(self) -> None:
        """Fail what is overdue and close what was idle too long; called again by itself while anything is open."""
        alive = bool(self._open or self._streaming) and not self._closed
        self.ticker = self.loop.call_later(_TICK_S, self.tick) if alive else None
        now = self.now()
        for connection in (*self._open, *self._streaming):
            connection.expire(now)
        self._relieve()
        while self._idle and self._idle[0].idle_until <= now:
            transport = self._idle.popleft().transport
            if transport is not None:
                transport.close()
