"""A request body of known length, which goes round aiohttp's parser: nothing in it needs to be looked at.

It offers what `body` uses of aiohttp's `StreamReader`, and keeps as little as that does: beyond a limit, the client's
socket is no longer read until the body is.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

LIMIT_BYTES = 128 * 1024

Piece = bytes | memoryview
"""What arrived of a body; as a view where a copy would cost."""


class BodySource(Protocol):
    """Where a body is read from: aiohttp's `StreamReader`, or a `SizedBody`."""

    def is_eof(self) -> bool:
        """Whether all of it has arrived."""
        ...

    def at_eof(self) -> bool:
        """Whether all of it has been read."""
        ...

    def read_nowait(self) -> Piece: ...

    async def readany(self) -> Piece: ...


class SizedBody:
    """What has arrived of a body of `missing` bytes.  `transport` is the client's."""

    __slots__ = ("_buffered", "_loop", "_paused", "_pieces", "_push", "_transport", "_waiter", "missing")

    def __init__(self, missing: int, transport: asyncio.Transport | None, loop: asyncio.AbstractEventLoop) -> None:
        self.missing = missing
        self._transport = transport
        self._loop = loop
        self._pieces: list[Piece] = []
        self._buffered = 0
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._push: Callable[[Piece], None] | None = None

    def push_to(self, receiver: Callable[[Piece], None] | None) -> None:
        """Have what is there, and each piece that comes, taken at once; None for keeping it again."""
        self._push = receiver
        if receiver is not None and self._pieces:
            receiver(self.read_nowait())

    def feed(self, data: Piece) -> Piece:
        """Take what arrived; returns what comes behind the body."""
        rest: Piece = b""
        if len(data) > self.missing:
            data, rest = data[: self.missing], data[self.missing :]
        self.missing -= len(data)
        if self._push is not None:
            self._push(data)
            return rest
        self._pieces.append(data)
        self._buffered += len(data)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._buffered > LIMIT_BYTES:
            self.pause()
        return rest

    def pause(self) -> None:
        """Read no more from the client, if anything is missing."""
        if self.missing and not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def is_eof(self) -> bool:
        return self.missing == 0

    def at_eof(self) -> bool:
        return self.missing == 0 and not self._pieces

    def read_nowait(self) -> Piece:
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._buffered = 0
        self.resume()
        return data

    async def readany(self) -> Piece:
        """What is there, or comes next; empty at the end."""
        if not self._pieces and self.missing:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self.read_nowait()
