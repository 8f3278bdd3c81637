"""Ends of connections that are no sockets, a loop whose timers wait, and a clock that stands.

What the gate writes is taken at once, and what it reads comes by `call_soon`: no kernel, no waiting, the same again
each time.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

from bench.workloads import PAGE_BYTES, POST_BYTES

_NEVER_S = 1e6

ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Wed, 25 Nov 2026 18:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: %d\r\nConnection: keep-alive\r\n\r\n" % PAGE_BYTES
) + b"x" * PAGE_BYTES


class RigLoop(uvloop.Loop):
    """A loop whose connections lead to the app of the rig.  While `is_still`, no new timer fires."""

    is_still = False

    # Narrower than what a loop takes: these are all the ways in which the gate calls them.

    async def create_connection(  # type: ignore[override]
        self, factory: Callable[[], Any], *_: Any, **__: Any
    ) -> Any:
        protocol = factory()
        transport = AppTransport(self, protocol)
        protocol.connection_made(transport)
        return transport, protocol

    def call_later(self, delay: float, *arguments: Any, **more: Any) -> Any:  # type: ignore[override]
        return super().call_later(delay + _NEVER_S if self.is_still else delay, *arguments, **more)

    def call_at(self, when: float, *arguments: Any, **more: Any) -> Any:  # type: ignore[override]
        return super().call_at(when + _NEVER_S if self.is_still else when, *arguments, **more)


class Wire(asyncio.Transport):
    """A transport that takes everything at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: Any) -> None:
        super().__init__({"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 8080)})
        self._loop = loop
        self._protocol = protocol
        self._is_closing = False

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_reading(self) -> bool:
        return True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol


class AppTransport(Wire):
    """The gate's connection to the app: answers each request once it is there, its body included."""

    _missing = 0

    def write(self, data: Any) -> None:
        if self._missing:
            self._missing -= len(data)
        elif data[:5] == b"POST ":
            self._missing = POST_BYTES - (len(data) - data.index(b"\r\n\r\n") - 4)
        if not self._missing:
            self._loop.call_soon(self._protocol.data_received, ANSWER)


@contextmanager
def standing_clock() -> Iterator[None]:
    """Let `time.monotonic` stand, so that nothing ages.  Called as cheaply as the real one: it is C, too."""
    real = time.monotonic
    time.monotonic = itertools.repeat(real()).__next__
    try:
        yield
    finally:
        time.monotonic = real
