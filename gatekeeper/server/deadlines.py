"""Clients that take too long: with a request head, with taking an answer, with letting go.

One ticker looks after all connections of a server, and runs only while there is something to look after; a request that
comes whole and an answer that is taken at once never get here.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from gatekeeper.core.model import Reason

if TYPE_CHECKING:
    from gatekeeper.server.connection import ClientConnection

TICK_S = 0.25
HALF_CLOSED_S = 2.0
"""How long a client that sends no more may wait in silence for its answer before it counts as gone."""

STALLED_BYTES = 64 * 2**20
"""What all clients together that do not take their answers may keep in memory; beyond, the slowest are cut off."""


class _Stall:
    """A client that does not take its answer: since when, and how much waited for it then."""

    __slots__ = ("at_first", "bytes_waiting", "since")

    def __init__(self, since: float, bytes_waiting: int) -> None:
        self.since = since
        self.at_first = bytes_waiting
        self.bytes_waiting = bytes_waiting


class Deadlines:
    """The connections of a server that something is expected of.  Durations are seconds, `now` is monotonic."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        head_s: float,
        stall_s: float,
        stalled_bytes: int = STALLED_BYTES,
    ) -> None:
        self.now: Callable[[], float] = loop.time
        self._loop = loop
        self._head_s = head_s
        self._stall_s = stall_s
        self._stalled_limit = stalled_bytes
        self._heads: dict[ClientConnection, float] = {}
        self._stalled: dict[ClientConnection, _Stall] = {}
        self._stalled_bytes = 0
        self._ended: dict[ClientConnection, tuple[float, float]] = {}
        self._closing: dict[ClientConnection, float] = {}
        self.ticker: asyncio.TimerHandle | None = None

    def head_has_begun(self, client: "ClientConnection") -> None:
        """The first bytes of a request head are there: the rest is due within the time for heads."""
        self._heads.setdefault(client, self.now() + self._head_s)
        self._wake()

    def head_is_complete(self, client: "ClientConnection") -> None:
        self._heads.pop(client, None)

    def client_is_full(self, client: "ClientConnection") -> None:
        """The client does not take what is written.  Cuts off those that stalled first when all hold too much."""
        waiting = _waiting_for(client)
        self._stalled[client] = _Stall(self.now(), waiting)
        self._stalled_bytes += waiting
        while self._stalled_bytes > self._stalled_limit and len(self._stalled) > 1:
            self._cut(next(iter(self._stalled)))
        self._wake()

    def client_has_drained(self, client: "ClientConnection") -> None:
        stall = self._stalled.pop(client, None)
        if stall is not None:
            self._stalled_bytes -= stall.at_first

    def client_ended(self, client: "ClientConnection") -> None:
        """The client sends no more.  Until something is written to it and comes back refused, nobody can tell whether
        it still listens: silence for a moment counts as having left.
        """
        self._ended[client] = (self.now() + HALF_CLOSED_S, _progress_of(client))
        self._wake()

    def client_closes(self, client: "ClientConnection") -> None:
        """The connection closes once its client has taken what is left: that must not take longer than a stall."""
        self._closing.setdefault(client, self.now() + self._stall_s)
        self._wake()

    def forget(self, client: "ClientConnection") -> None:
        """The connection is gone."""
        self._heads.pop(client, None)
        self._ended.pop(client, None)
        self._closing.pop(client, None)
        self.client_has_drained(client)

    def close(self) -> None:
        if self.ticker is not None:
            self.ticker.cancel()
            self.ticker = None

    def tick(self) -> None:
        """End what is overdue; called again by itself while anything is looked after."""
        self.ticker = None
        if self._heads or self._stalled or self._ended or self._closing:
            self._wake()
        now = self.now()
        while self._heads:
            client, due = next(iter(self._heads.items()))
            if due > now:
                break
            del self._heads[client]
            client.give_up(408, Reason.HEAD_TIMEOUT)
        for client, stall in tuple(self._stalled.items()):
            if now - stall.since >= self._stall_s:
                self._look_at(client, stall, now)
        for client, (due, progress) in tuple(self._ended.items()):
            if due <= now:
                self._look_again(client, progress, now)
        for client, due in tuple(self._closing.items()):
            if due <= now:
                del self._closing[client]
                client.break_off()

    def _look_at(self, client: "ClientConnection", stall: _Stall, now: float) -> None:
        """A client that took something meanwhile is slow, not gone."""
        waiting = _waiting_for(client)
        if waiting >= stall.bytes_waiting:
            self._cut(client)
        else:
            stall.since, stall.bytes_waiting = now, waiting

    def _look_again(self, client: "ClientConnection", progress: float, now: float) -> None:
        latest = _progress_of(client)
        if latest != progress or _waiting_for(client):  # what waits to be taken has a deadline of its own
            self._ended[client] = (now + HALF_CLOSED_S, latest)
        else:
            del self._ended[client]
            client.break_off()

    def _cut(self, client: "ClientConnection") -> None:
        self.client_has_drained(client)
        client.break_off()

    def _wake(self) -> None:
        if self.ticker is None:
            self.ticker = self._loop.call_later(TICK_S, self.tick)


def _progress_of(client: "ClientConnection") -> float:
    return client.pushing.progress if client.pushing is not None else 0.0


def _waiting_for(client: "ClientConnection") -> int:
    """Bytes that the client has not taken yet."""
    return client.transport.get_write_buffer_size() if client.transport is not None else 0
