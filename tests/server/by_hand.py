"""A gate without sockets: an event loop that goes on turn by turn, its time in hand, clients and an app on both sides.

Nothing waits for anything, so thousands of conversations take seconds; nothing depends on chance, so two gates that
are told the same must do the same, to the byte and to the millisecond.
"""

import asyncio
import re
import selectors
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Any

_TICK_S = 0.25
"""Time passes in steps as long as those of the gate's tickers."""

_MAX_TURNS = 5_000


class HandLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still unless `pass_s` is called.  Apps are reached by their port."""

    def __init__(self) -> None:
        self.at = 1_000.0
        self.scheduled = 0
        self.apps: dict[int, HandApp] = {}
        self.troubles: list[str] = []
        super().__init__(selectors.SelectSelector())
        self.set_exception_handler(lambda _, context: self.troubles.append(f"{context!r}"))

    def time(self) -> float:
        return self.at

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        self.scheduled += 1
        return super().call_soon(callback, *args, context=context)

    async def create_connection(self, factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        await asyncio.sleep(0)
        return self.apps[port].connect(factory())

    def turn(self) -> bool:
        """One turn; returns whether it led to another one."""
        before = self.scheduled
        self.call_soon(self.stop)
        self.run_forever()
        return self.scheduled > before + 1

    def settle(self) -> None:
        """Turns until nothing happens any more."""
        for _ in range(_MAX_TURNS):
            if not self.turn():
                return
        raise AssertionError("it does not come to rest")

    def do(self, *steps: Callable[[], object]) -> None:
        """Take these steps in one turn, as a real loop does with what its sockets report together; then settle."""
        for step in steps:
            self.call_soon(step)
        self.settle()

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        end = self.at + seconds
        while self.at < end:
            self.at = min(end, self.at + _TICK_S)
            self.settle()


class _End(asyncio.Transport):
    """The gate's end of a connection.  `got` is what has reached the other side."""

    def __init__(self, loop: HandLoop, peer: str) -> None:
        super().__init__({"peername": (peer, 4711)})
        self.loop = loop
        self.protocol: Any = None
        self.got = bytearray()
        self.ends: list[str] = []
        """What became of the connection, in order."""
        self.is_lost = False
        self._is_closing = False
        self._reads = True
        self._inbox: list[bytes | None] = []

    # what the gate does

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_lost:
            self.got += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if "eof" not in self.ends:
            self.ends.append("eof")

    def pause_reading(self) -> None:
        self._reads = False

    def resume_reading(self) -> None:
        self._reads = True
        self.loop.call_soon(self._deliver)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self.loop.call_soon(self.lose, None)

    def abort(self) -> None:
        self._is_closing = True
        if not self.is_lost and "aborted" not in self.ends:
            self.ends.append("aborted")
            self.loop.call_soon(self.lose, None)

    # what the other side does

    def say(self, data: bytes | None) -> None:
        """Send; None is the end of what is sent."""
        self._inbox.append(data)
        self._deliver()

    def lose(self, error: Exception | None) -> None:
        """The connection is gone."""
        if not self.is_lost:
            self.is_lost = self._is_closing = True
            self.ends.append("over")
            self.protocol.connection_lost(error)

    def _deliver(self) -> None:
        while self._inbox and self._reads and not self._is_closing:
            data = self._inbox.pop(0)
            if data is not None:
                self.protocol.data_received(data)
            elif not self.protocol.eof_received():
                self.close()


class HandClient(_End):
    """A client: with `takes` false it leaves what is sent to it, and the gate's buffer fills up beyond `room`."""

    room = 500

    def __init__(self, loop: HandLoop, peer: str = "203.0.113.7") -> None:
        super().__init__(loop, peer)
        self.takes = True
        self._buffer = bytearray()
        self._is_full = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.is_lost:
            return
        if self.takes:
            self.got += data
            return
        self._buffer += data
        if len(self._buffer) > self.room and not self._is_full:
            self._is_full = True
            self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def close(self) -> None:
        if self._buffer:
            self._is_closing = True
        else:
            super().close()

    def abort(self) -> None:
        self._buffer.clear()
        super().abort()

    def take(self) -> None:
        """Go on reading."""
        self.takes = True
        self.got += self._buffer
        self._buffer.clear()
        if self.is_lost:
            return
        if self._is_full:
            self._is_full = False
            self.protocol.resume_writing()
        if self._is_closing:
            self.loop.call_soon(self.lose, None)


@dataclass(frozen=True)
class Reply:
    """What an app answers: pieces, and how the connection goes on: keep, close, reset.

    `is_early` does not wait for the end of the request's body.
    """

    pieces: tuple[bytes, ...]
    then: str = "keep"
    is_early: bool = False


class _AppEnd(_End):
    def __init__(self, loop: HandLoop, app: "HandApp", protocol: Any) -> None:
        super().__init__(loop, "127.0.0.1")
        self.app = app
        self.protocol = protocol
        self.reads = _RequestReader()
        self.reply = Reply(())

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_lost:
            self.got += data
            for event in self.reads.feed(bytes(data)):
                self.app.happened(self, event)


class HandApp:
    """An app.  `reply_to` says what it answers to a request's head; with `holds`, not before `release`."""

    def __init__(self, loop: HandLoop, port: int, reply_to: Callable[[bytes], Reply]) -> None:
        self.loop = loop
        self.connections: list[_AppEnd] = []
        self.reply_to = reply_to
        self.holds = False
        self.refuses = False
        self.requests = 0
        self._due: list[Callable[[], None]] = []
        loop.apps[port] = self

    def connect(self, protocol: Any) -> tuple[_AppEnd, Any]:
        if self.refuses:
            raise ConnectionRefusedError(111, "refused")
        end = _AppEnd(self.loop, self, protocol)
        self.connections.append(end)
        protocol.connection_made(end)
        return end, protocol

    def happened(self, end: _AppEnd, event: "_Event") -> None:
        if event.is_begin:
            self.requests += 1
            end.reply = self.reply_to(event.head)
        reply = end.reply
        if event.is_begin if reply.is_early else event.is_end:
            self._due.append(lambda: self._answer(end, reply))
            if not self.holds:
                self.loop.call_soon(self.release)

    @property
    def owes(self) -> int:
        """How many answers are held."""
        return len(self._due)

    def release(self, number: int = 1_000) -> None:
        """Give answers that are due."""
        due, self._due = self._due[:number], self._due[number:]
        for answer in due:
            answer()

    def hang_up(self) -> None:
        """Close all connections."""
        for end in self.connections:
            if not end.is_lost:
                end.say(None)

    def _answer(self, end: _AppEnd, reply: Reply, at: int = 0) -> None:
        if end.is_lost:
            return
        if at < len(reply.pieces):
            end.say(reply.pieces[at])
            self.loop.call_soon(self._answer, end, reply, at + 1)
        elif reply.then == "close":
            end.say(None)
        elif reply.then == "reset":
            end.lose(ConnectionResetError("reset"))


@dataclass
class _Event:
    head: bytes
    is_begin: bool
    is_end: bool


class _RequestReader:
    """Reads what a gate sends to an app, which is well-formed."""

    def __init__(self) -> None:
        self._data = b""
        self._head: bytes | None = None
        self._left = 0
        self._is_chunked = False

    def feed(self, data: bytes) -> list[_Event]:
        self._data += data
        events: list[_Event] = []
        while True:
            if self._head is None:
                head, end, rest = self._data.partition(b"\r\n\r\n")
                if not end:
                    return events
                self._data, self._head = rest, head
                length = re.search(rb"\r\nContent-Length: (\d+)", head)
                self._left = int(length[1]) if length else 0
                self._is_chunked = b"\r\nTransfer-Encoding: chunked" in head
                events.append(_Event(head, is_begin=True, is_end=False))
            if self._is_chunked:
                end_at = re.search(rb"(?:\A|\r\n)0\r\n\r\n", self._data)
                if end_at is None:
                    return events
                self._data = self._data[end_at.end() :]
            elif len(self._data) < self._left:
                return events
            else:
                self._data = self._data[self._left :]
            events.append(_Event(self._head, is_begin=False, is_end=True))
            self._head = None
