"""The WebSocket tunnel: after a right 101, bytes both ways, untouched and with backpressure, until both sides ended.

A tunnel that is cut tells both sides so with a Close frame, if the stream stands between two frames (RFC 6455 §5.5.1),
and ends then.
"""

import asyncio
from typing import Protocol

from gatekeeper.core.errors import UpstreamError
from gatekeeper.core.model import Reason
from gatekeeper.core.responses import ResponseHead
from gatekeeper.core.websocket import GOING_AWAY, POLICY_VIOLATION, FrameTracker, close_frame
from gatekeeper.server.connection import ClientConnection

CLOSE_GRACE_S = 1.0
"""How long the two sides have to end after a Close frame of ours, and how long the end of a frame is waited for."""


class TunnelUpstream(Protocol):
    """The upstream's side of a tunnel."""

    def write(self, data: bytes) -> None: ...

    def write_eof(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Tunnel:
    """Joins a client's connection and an upstream's.  `done` ends when nothing more can pass."""

    is_stream = True

    def __init__(self, client: ClientConnection, upstream: TunnelUpstream, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        self.cut_for: Reason | None = None
        self.sent_bytes = 0
        self._client = client
        self._upstream = upstream
        self._loop = loop
        self._down = FrameTracker()
        self._up = FrameTracker()
        self._client_ended = False
        self._upstream_ended = False
        self._is_cut = False
        self._close_up = 0
        self._close_down = 0
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Take over the client's connection, from the first byte behind its request."""
        tail = self._client.take_tail()
        self._client.tunnel = self
        self._client.pushing = self
        if tail:
            self.from_client(tail)

    # from the client

    def from_client(self, data: bytes) -> None:
        if self._close_up:
            self._up.feed(data)
            self._upstream.write(data)
            self._say_goodbye()
        elif not self._is_cut:
            self._up.feed(data)
            self._upstream.write(data)

    def client_ended(self) -> bool:
        """The client sends no more: so do we towards the upstream.  Whether the other direction goes on."""
        self._client_ended = True
        self._upstream.write_eof()
        self._end_if_both_ended()
        return not self.done.done()

    # from the upstream (an `Exchange`)

    @property
    def progress(self) -> float:
        return float(self.sent_bytes)

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        """There is no response: it came before the tunnel."""

    def on_head(self, head: ResponseHead) -> None:
        """See `on_whole`."""

    def on_body(self, data: bytes) -> None:
        if self._is_cut and not self._close_down:
            return
        self._down.feed(data)
        self.sent_bytes += len(data)
        self._client.write(data)
        self._say_goodbye()

    def flush(self) -> None:
        """After what came in one piece: stop reading what the client does not take."""
        if self._client.writing_paused:
            self._upstream.pause_reading()

    def on_end(self) -> None:
        """The upstream sends no more: so do we towards the client."""
        self._upstream_ended = True
        transport = self._client.transport
        if transport is not None and transport.can_write_eof():
            transport.write_eof()
        else:
            self._client_ended = True
        self._end_if_both_ended()

    def on_error(self, error: UpstreamError) -> None:
        self._end()

    # backpressure

    def client_is_full(self) -> None:
        self._upstream.pause_reading()

    def client_has_drained(self) -> None:
        self._upstream.resume_reading()

    def upstream_is_full(self) -> None:
        transport = self._client.transport
        if transport is not None and not transport.is_closing():
            transport.pause_reading()

    def upstream_has_drained(self) -> None:
        transport = self._client.transport
        if transport is not None and not transport.is_closing():
            transport.resume_reading()

    # the end

    def cut(self, reason: Reason) -> None:
        """End both sides: SESSION_ENDED or GATE_STOPS."""
        if self._is_cut:
            return
        self._is_cut = True
        self.cut_for = reason
        self._close_up = self._close_down = GOING_AWAY if reason is Reason.GATE_STOPS else POLICY_VIOLATION
        self._timer = self._loop.call_later(CLOSE_GRACE_S, self._end)
        self._say_goodbye()

    def _say_goodbye(self) -> None:
        """Send each side its Close frame once its stream stands between two frames; nothing else follows it.

        A side that was told already that nothing more comes is told nothing more.
        """
        if self._close_down and self._down.is_between and not self._upstream_ended:
            self._client.write(close_frame(self._close_down, masked=False))
            self._close_down = 0
        if self._close_up and self._up.is_between and not self._client_ended:
            self._upstream.write(close_frame(self._close_up, masked=True))
            self._close_up = 0

    def _end_if_both_ended(self) -> None:
        if (self._client_ended and self._upstream_ended) or self._is_cut:
            self._end()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.done.done():
            self.done.set_result(None)
