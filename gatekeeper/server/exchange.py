"""One connection to an app: a request out, its answer pushed straight into whoever asked.

A connection carries one exchange at a time and pushes what arrives into it, synchronously: an `Exchange` gets
`on_head`, `on_body` for each piece, and then `on_end` or `on_error`, once.  There is no buffer in between; a slow
client is answered by `pause_reading`, so memory stays the same whatever is sent.
"""

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

from gatekeeper.core.errors import ClientStalled, UpstreamError, UpstreamProtocolError, UpstreamTimeout
from gatekeeper.core.responses import ResponseHead, ResponseParser
from gatekeeper.server.sized import Piece

if TYPE_CHECKING:
    from gatekeeper.server.upstream import UpstreamPool

_HINT_MARGIN_S = 1.0
"""An idle connection is given up this long before the upstream said that it would close it."""


class Exchange(Protocol):
    """Who receives a response.  Nothing here may raise.

    A response that comes in one piece is told by `on_whole`, and nothing else.  Of any other, `flush` follows whatever
    came together.
    """

    def on_whole(self, head: ResponseHead, body: bytes) -> None: ...

    def on_head(self, head: ResponseHead) -> None: ...

    def on_body(self, data: bytes) -> None: ...

    def flush(self) -> None: ...

    def on_end(self) -> None: ...

    def on_error(self, error: UpstreamError) -> None: ...


class TunnelExchange(Exchange, Protocol):
    """An exchange that goes on after a 101, both ways at once."""

    def upstream_is_full(self) -> None: ...

    def upstream_has_drained(self) -> None: ...


class Pushed(Protocol):
    """A request body that is pushed here, and stops when there is no room for it."""

    def upstream_is_full(self) -> None: ...

    def upstream_has_drained(self) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """One connection; in the pool's idle queue, or lent to an exchange."""

    def __init__(self, pool: "UpstreamPool") -> None:
        self.pool = pool
        self.transport: asyncio.Transport | None = None
        self.is_reused = False
        self.has_answered = False
        self.deadline = 0.0
        self.idle_until = 0.0
        self._parser = ResponseParser()
        self._exchange: Exchange | None = None
        self._owner: Exchange | None = None
        """The exchange that has this connection, from its start until both its directions are over."""
        self._tunnel: TunnelExchange | None = None
        self.upload: Pushed | None = None
        self._head_passed = False
        self._sending = False
        self._read_paused = False
        self._writable: asyncio.Future[None] | None = None
        self.waits_for_piece = False
        """Whether the next piece of the request body has not come from the client: no fault of the upstream's."""

    def __repr__(self) -> str:
        state = "closed" if self.transport is None else "busy" if self._exchange else "idle"
        return f"<UpstreamConnection {self.pool.address.name or 'default'} {state}>"

    def start(
        self,
        exchange: Exchange,
        method: str,
        head: bytes,
        *,
        has_body: bool,
        accept: bytes | None = None,
        early: Piece = b"",
    ) -> None:
        """Send a request head and what there is of its body; the response goes to `exchange`.

        With `has_body`, the rest of the body follows: by `write_body` or `push_body`, and `end_body`.

        `accept` is the Sec-WebSocket-Accept that a WebSocket handshake waits for.
        """
        transport = self.transport
        self._exchange = self._owner = exchange
        self._head_passed = False
        self._sending = has_body
        self.waits_for_piece = False
        self.has_answered = False
        self._parser.begin(method, accept)
        pool = self.pool
        self.deadline = pool.now() + pool.address.response_timeout_s
        if transport is None:
            self._fail(UpstreamProtocolError("the upstream closed the connection"))
        elif early:
            transport.writelines((head, early))
        else:
            transport.write(head)

    async def write_body(self, data: Piece) -> None:
        """Send a piece of the request body, and wait while the upstream does not take it.

        Raises ConnectionError when the connection is gone.
        """
        self.push_body(data)
        if self._writable is not None:
            await self._writable

    def push_body(self, data: Piece) -> None:
        """Send a piece of the request body, full or not.  Raises ConnectionError when the connection is gone."""
        if self.transport is None:
            raise ConnectionResetError("the upstream is gone")
        self.touch(self.pool.address.response_timeout_s)
        self.transport.write(data)

    def end_body(self) -> None:
        """The whole request has been sent."""
        self.goes_on()
        self._sending = False
        if self._exchange is None:
            self._settle()
        else:
            self.touch(self.pool.address.response_timeout_s)

    def become_tunnel(self, tunnel: TunnelExchange) -> None:
        """After a 101: everything from here on is the tunnel's, which ends at once where the upstream has left."""
        if self.transport is None:
            tunnel.on_error(UpstreamProtocolError("the upstream closed the connection"))
            return
        self._exchange = self._tunnel = tunnel
        self._sending = True
        self.becomes_stream()

    def becomes_stream(self) -> None:
        """What comes next does not end by itself: it takes no place among `max_connections`."""
        self.pool.becomes_stream(self)

    def write(self, data: bytes) -> None:
        """Send bytes of a tunnel."""
        if self.transport is not None:
            self.touch(self.pool.address.idle_timeout_s)
            self.transport.write(data)

    def write_eof(self) -> None:
        """Nothing more will be sent through a tunnel."""
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()

    def waits_for_client(self) -> None:
        """The exchange cannot go on until its client sends or takes something."""
        self.pool.has_stalled(self)

    def goes_on(self) -> None:
        self.pool.goes_on(self)

    def abandon(self, exchange: Exchange) -> None:
        """End what is left of this exchange; the connection may have gone on to another one already."""
        if self._owner is exchange:
            self.abort()

    def abort(self) -> None:
        """Give the exchange up; the connection cannot be used again."""
        self._exchange = None
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """End a tunnel; what was written still goes out."""
        self._exchange = None
        if self.transport is not None:
            self.transport.close()

    def pause_reading(self) -> None:
        """Stop the response until `resume_reading`: the client does not keep up."""
        if not self._read_paused and self.transport is not None:
            self._read_paused = True
            self.waits_for_client()
            self.transport.pause_reading()

    def hold_reading(self) -> None:
        """Stop the response for a moment, until `resume_reading`; that is no fault of the client's."""
        if not self._read_paused and self.transport is not None:
            self._read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._read_paused and self.transport is not None:
            self._read_paused = False
            self.goes_on()
            self.transport.resume_reading()
            self.touch(self.pool.address.idle_timeout_s)

    @property
    def is_full(self) -> bool:
        """Whether the upstream does not take what is written: it says so once, by `upstream_is_full`."""
        return self._writable is not None

    def touch(self, seconds: float) -> None:
        """Progress was made: the next is due within `seconds`."""
        self.deadline = self.pool.now() + seconds

    def expire(self, now: float) -> None:
        """Fail the exchange if its deadline has passed.  A client that does not read is not the upstream's fault.

        Closing has the same deadline: an app that does not take the rest would keep the connection for ever.
        """
        if now < self.deadline:
            return
        if self._exchange is not None:
            if not self._waits_for_client:
                self._fail(UpstreamTimeout("the upstream did not answer in time"))
        elif self.transport is not None and self.transport.is_closing():
            self.transport.abort()

    @property
    def _waits_for_client(self) -> bool:
        return self._read_paused or self.waits_for_piece

    def give_up_client(self) -> None:
        """End an exchange whose client does not keep up."""
        self._fail(ClientStalled("the client did not keep up while others waited for the upstream"))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:  # nobody asked: whatever this is, it is not the next visitor's answer
            self.abort()
            return
        self.has_answered = True
        parser, pool = self._parser, self.pool
        try:
            body = parser.feed(data)
        except UpstreamProtocolError as error:
            self._fail(error)
            return
        self.deadline = pool.now() + pool.address.idle_timeout_s
        head = parser.head
        if head is None:
            return
        if not self._head_passed:
            if parser.is_done:
                self._exchange = None
                exchange.on_whole(head, body)  # may stop this connection's reading: before anybody else can have it
                if not self._sending:
                    self._settle()
                return
            self._head_passed = True
            exchange.on_head(head)
        if body:
            exchange.on_body(body)
        if parser.is_done and self._exchange is exchange:
            self._exchange = None
            exchange.on_end()
            if not self._sending:
                self._settle()
        else:
            exchange.flush()

    def eof_received(self) -> bool:
        """Whether to go on sending: only a tunnel has two directions that end apart."""
        tunnel = self._tunnel
        if tunnel is None or tunnel is not self._exchange:
            return False
        self._parser.feed_eof()
        tunnel.on_end()
        return not cast(asyncio.Transport, self.transport).get_extra_info("ssl_object")

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.pool.forget(self)
        if self._writable is not None and not self._writable.done():
            self._writable.set_exception(ConnectionResetError("the upstream is gone"))
            self._writable.exception()  # taken note of: the body's sender may have left already
        exchange = self._exchange
        if exchange is None:
            return
        if exchange is self._tunnel:
            self._fail(UpstreamProtocolError("the upstream closed the connection"))
            return
        if exc is not None:
            self._fail(UpstreamProtocolError("the upstream reset the connection"))
            return
        try:
            self._parser.feed_eof()
        except UpstreamProtocolError as error:
            self._fail(error)
        else:
            self._exchange = None
            exchange.on_end()

    def pause_writing(self) -> None:
        self._writable = self.pool.loop.create_future()
        if self._tunnel is not None:
            self._tunnel.upstream_is_full()
        if self.upload is not None:
            self.upload.upstream_is_full()

    def resume_writing(self) -> None:
        if self._tunnel is not None:
            self._tunnel.upstream_has_drained()
        if self.upload is not None:
            self.upload.upstream_has_drained()
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None

    def _settle(self) -> None:
        """The exchange is over in both directions: back into the pool, or closed."""
        self._owner = None
        if self.transport is None:
            return
        parser, pool = self._parser, self.pool
        if not parser.is_clean:
            self.transport.close()
            return
        if self._read_paused:
            self.resume_reading()
        hint = parser.head.keep_alive_s if parser.head is not None else None
        keep = pool.address.idle_timeout_s
        if hint is not None:
            keep = min(keep, hint - _HINT_MARGIN_S)
        self.idle_until = pool.now() + keep
        pool.give_back(self)

    def _fail(self, error: UpstreamError) -> None:
        exchange = self._exchange
        self.abort()
        if exchange is not None:
            exchange.on_error(error)
