"""The client's side: aiohttp's connection handler, adapted.  All that is leaned on of aiohttp's inside stands here.

aiohttp parses requests and closes idle connections.  The loop over a connection's requests is ours: one request at a
time, in order, each handed to the handler as a `ClientRequest`; answers are written to the transport whole, or pushed
there by a `Relay`.  A request that the parser refuses is answered 400 in our own words, and closed.

While a request is answered, what its client sends of the next ones waits unparsed, and beyond a little the socket is
no longer read: a client can make us hold one head and one piece, not more.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from aiohttp import EMPTY_PAYLOAD, HttpVersion10, HttpVersion11, StreamReader, http_parser, web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import _ErrInfo  # pyright: ignore[reportPrivateUsage]  (its place: test_connection.py)

from gatekeeper.core.errors import GatekeeperError
from gatekeeper.core.forwarding import UNIX_PEER
from gatekeeper.core.model import Reason
from gatekeeper.server.answers import json_answer, phrase, render_answer
from gatekeeper.server.crowd import Crowd
from gatekeeper.server.deadlines import Deadlines

logger = logging.getLogger("gatekeeper")

MAX_TARGET_BYTES = 8190
MAX_FIELDS = 100
LINGER_S = 2.0
"""How long the rest of a refused request is still read before its connection is closed."""

_CHUNK_COST = 8
"""Bytes on the wire for each byte of a body in the smallest chunks, with something to spare."""

_HELD_BYTES = 64 * 1024
"""How much of a client's next requests waits in memory before its socket is no longer read."""

_RETRY_AFTER_CROWD_S = 5


class FlowControlled(Protocol):
    """What wants to know when the client's connection is full, and when it drains again.

    `progress` changes whenever something arrives to be written to the client.  `is_stream` is true for what does not
    end by itself: a tunnel, an event stream.
    """

    @property
    def progress(self) -> float: ...

    @property
    def is_stream(self) -> bool: ...

    def client_is_full(self) -> None: ...

    def client_has_drained(self) -> None: ...


class ClientTunnel(Protocol):
    """Who gets a connection's bytes once it is no longer HTTP."""

    def from_client(self, data: bytes) -> None: ...

    def client_ended(self) -> bool: ...


class ClientRequest:
    """One request as it was parsed, and the connection that it came by.  `target` and fields are as they came.

    `keep_alive` is whether the connection may serve another request; the handler answers whether it will.
    """

    __slots__ = ("client", "content", "headers", "http_1_0", "is_http_1", "keep_alive", "method", "target")

    def __init__(self, client: "ClientConnection", message: RawRequestMessage, content: StreamReader) -> None:
        self.client = client
        self.method = message.method
        self.target = message.path
        self.headers = message.raw_headers
        self.http_1_0 = message.version == HttpVersion10
        self.is_http_1 = self.http_1_0 or message.version == HttpVersion11
        self.keep_alive = not (message.should_close or message.upgrade or client.server.draining)
        self.content = content


Handler = Callable[[ClientRequest], Awaitable[bool]]
"""Answers a request; returns whether its connection may serve another.  Raises nothing but CancelledError."""


class ClientConnection(web.RequestHandler):
    """A client's connection, which tells whoever pushes into it when it is full."""

    __slots__ = (
        "_body",
        "_discards",
        "_had_open_body",
        "_held",
        "_overhead",
        "_wire",
        "has_ended",
        "head_bytes",
        "peer",
        "pushing",
        "server",
        "tunnel",
    )

    def __init__(self, server: "GateServer", *, loop: asyncio.AbstractEventLoop, **settings: Any):
        super().__init__(server, loop=loop, **settings)
        self.server = server
        self.pushing: FlowControlled | None = None
        self.tunnel: ClientTunnel | None = None
        self.head_bytes = 0
        self.has_ended = False
        self.peer = UNIX_PEER
        self._body: StreamReader | None = None
        self._discards = False
        self._held = bytearray()
        self._overhead = 0
        self._had_open_body = False
        self._wire: asyncio.Transport | None = None

    @property
    def has_whole_body(self) -> bool:
        """Whether the body of the request that is being answered has come to its end."""
        return self._body is None or self._body.is_eof()

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self._body is None and not self._messages

    @property
    def is_streaming(self) -> bool:
        """Whether what is written does not end by itself."""
        return self.pushing is not None and self.pushing.is_stream

    @property
    def task(self) -> asyncio.Task[None] | None:
        return self._task_handler

    def write(self, data: bytes) -> None:
        transport = self.transport
        if transport is not None:
            transport.write(data)

    def break_off(self) -> None:
        """Abort the connection, so that an unfinished answer does not look like a finished one."""
        if self._wire is not None:
            self._wire.abort()

    def take_tail(self) -> bytes:
        """What came behind an upgrade request: the beginning of the tunnel's bytes."""
        tail = self._message_tail + bytes(self._held)
        self._message_tail = b""
        self._held.clear()
        if self._buffer_paused:
            self._resume_reading_for_buffer()
        return tail

    async def drained(self) -> None:
        """Wait until the client has taken most of what was written.  Raises ConnectionError when it has left."""
        await self._drain_helper()

    def force_close(self) -> None:
        """Close once everything is written, if the client takes it in time; what waits for that holds a deadline."""
        super().force_close()
        if self._wire is not None:
            self.server.deadlines.client_closes(self)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wire = self.transport
        address = self.peername
        self.peer = address[0] if isinstance(address, tuple) and address else UNIX_PEER
        if not self.server.crowd.enter(self.peer):
            self._refuse_crowd()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._manager is not None:
            self.server.crowd.leave(self.peer)
            self.server.deadlines.forget(self)
        self._wire = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, hold back, or pass on, as the connection stands.

        Refuses a head that is still unfinished after as many bytes as a whole one may have: aiohttp limits each
        field, not all of them together.
        """
        if self.tunnel is not None:
            self.tunnel.from_client(data)
            return
        if self._discards:
            return
        body = self._body
        if body is not None and data and body.is_eof():
            self._hold(data)
            return
        if body is not None:
            self._receive_body(body, data)
            return
        super().data_received(data)
        if not data:
            return
        if not self._messages:
            self._note_unfinished(len(data))
            return
        if self.head_bytes:
            self.server.deadlines.head_is_complete(self)
        self.head_bytes = 0 if self._ends_with_request(data) else 1

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp's never keeps the connection
        """The client sends no more; it may still wait for answers (RFC 9112 §9.6).  Whether to keep the connection.

        A client that has left looks just the same: see `Deadlines.client_ended`.
        """
        is_encrypted = self._wire is None or self._wire.get_extra_info("ssl_object") is not None
        if self.tunnel is not None:
            return self.tunnel.client_ended() and not is_encrypted
        is_waiting = bool(self._messages) or (self._body is not None and self._body.is_eof())
        if self._discards or not is_waiting or is_encrypted:
            return False
        self.has_ended = True
        self.server.deadlines.client_ended(self)
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self.server.deadlines.client_is_full(self)
        if self.pushing is not None:
            self.pushing.client_is_full()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.server.deadlines.client_has_drained(self)
        if self.pushing is not None:
            self.pushing.client_has_drained()

    # the loop

    async def start(self) -> None:
        """Answer the connection's requests, one after the other, until it ends."""
        messages, handler = self._messages, self.server.handler
        try:
            while not self._force_close and (messages or await self._next_head()):
                message, body = messages.popleft()
                if self._parser is not None:
                    self._parser.message_consumed()
                if isinstance(message, _ErrInfo):
                    self._refuse_malformed(message)
                    await self._linger()
                    return
                self._body = body
                if not body.is_eof():
                    self._expect_rest_of(body)
                kept = await handler(ClientRequest(self, message, body))
                if not kept or not body.is_eof():
                    if not body.is_eof():
                        await self._linger()
                    return
                self._body = None
                self._await_next_within(self._keepalive_timeout)
        finally:
            self._body = None
            if not self._force_close:
                self.force_close()

    async def _next_head(self) -> bool:
        """Wait for the next request; False when there is none to come.

        While the server drains, too: a request may be on its way, and only its answer tells the client to go elsewhere.
        """
        self._feed_held()
        if self._buffer_paused or self._had_open_body:
            super().data_received(b"")  # the parser may have stopped at its limit of requests: go on from there
            if self._buffer_paused and not self._messages:
                self._resume_reading_for_buffer()
        if self._messages:
            return True
        if self.has_ended or self._close:
            return False
        if self.head_bytes:
            self.server.deadlines.head_has_begun(self)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        return True

    def _feed_held(self) -> None:
        """Parse what was held back."""
        if self._held:
            data = bytes(self._held)
            self._held.clear()
            super().data_received(data)
            self.head_bytes = 0 if self._messages and self._ends_with_request(data) else len(data)

    def _ends_with_request(self, data: bytes) -> bool:
        """Whether no further head has begun behind the last request in this piece; behind a body one cannot tell."""
        return data.endswith(b"\r\n\r\n") or self._messages[-1][1] is not EMPTY_PAYLOAD

    def _expect_rest_of(self, body: StreamReader) -> None:
        """Go on reading: the body of the request whose turn it is has not come to its end."""
        self._had_open_body = True
        self._overhead = 0
        self._feed_held()
        self._note_broken(body)
        if self._buffer_paused:
            self._resume_reading_for_buffer()

    def _receive_body(self, body: StreamReader, data: bytes) -> None:
        """Parse a piece of the body that is being read.

        Chunk extensions and trailers come beside it, and aiohttp keeps the latter: they are bounded as a head is.
        """
        before = body.total_bytes
        super().data_received(data)
        self._note_broken(body)
        if not body.is_eof():
            self._overhead = max(0, self._overhead + len(data) - _CHUNK_COST * (body.total_bytes - before))
            if self._overhead > 2 * self.max_field_size:
                body.set_exception(web.RequestPayloadError("more beside the body than in it"))
                self._discards = True

    def _await_next_within(self, seconds: float) -> None:
        """Let aiohttp close the connection when the next request takes longer than this."""
        self._next_keepalive_close_time = close_time = self._loop.time() + seconds
        if self._keepalive_handle is None and not self._force_close:
            self._keepalive_handle = self._loop.call_at(close_time, self._process_keepalive)

    def _note_broken(self, body: StreamReader) -> None:
        """Tell whoever reads the body when its framing broke: the parser speaks of a malformed next request."""
        if self._messages and isinstance(self._messages[-1][0], _ErrInfo) and not body.is_eof():
            body.set_exception(web.RequestPayloadError("the body's framing broke"))

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > _HELD_BYTES and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _note_unfinished(self, size: int) -> None:
        if not self.head_bytes:
            self.server.deadlines.head_has_begun(self)
        self.head_bytes += size
        if self.head_bytes > self.max_field_size:
            self.give_up(431, Reason.HEAD_TOO_LARGE)

    # refusals

    def give_up(self, status: int, reason: Reason, retry_after: int | None = None) -> None:
        """Refuse whatever is coming, and end the connection: there is no request yet that could be answered."""
        self.server.deadlines.head_is_complete(self)
        if self._discards:
            return
        self._write_refusal(status, reason, retry_after)
        self._write_nothing_more()
        self._loop.call_later(LINGER_S, self.force_close)

    def _refuse_crowd(self) -> None:
        if self.server.crowd.is_overrun:
            self.break_off()  # not even a refusal can be afforded
            return
        self.give_up(503, Reason.TOO_MANY_CONNECTIONS, _RETRY_AFTER_CROWD_S)

    def _refuse_malformed(self, what: _ErrInfo) -> None:
        """Answer a request that the parser refuses.  The answer tells nothing of the bytes that were sent."""
        status, reason = 400, Reason.BAD_HEADER
        if isinstance(what.exc, BadHttpMethod):
            reason = Reason.BAD_METHOD
        elif isinstance(what.exc, LineTooLong):
            status, reason = 431, Reason.HEAD_TOO_LARGE
        logger.debug("malformed request refused: %s", type(what.exc).__name__)
        self._write_refusal(status, reason)

    def _write_refusal(self, status: int, reason: Reason, retry_after: int | None = None) -> None:
        headers = () if retry_after is None else ((b"Retry-After", b"%d" % retry_after),)
        answer = json_answer(status, {"error": phrase(status), "code": reason.value}, headers)
        self.write(render_answer(answer, keep_alive=False))
        self.server.refused(self, status, reason)

    def _write_nothing_more(self) -> None:
        """The last answer is written, and nothing that still comes is looked at."""
        self._discards = True
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()

    async def _linger(self) -> None:
        """Take what the client still sends, for a moment: to close at once could lose it the answer (RFC 9112 §9.6)."""
        self._discards = True
        if self.transport is not None and not self._force_close:
            self.transport.resume_reading()
            self._write_nothing_more()
            await asyncio.sleep(LINGER_S)


class GateServer(web.Server):
    """aiohttp's low-level server with our connections.

    `crowd` counts them; `deadlines` ends what takes too long; `on_refused` hears of refusals of what is no request.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        crowd: Crowd,
        deadlines: Deadlines,
        on_refused: Callable[[str, int, Reason], None],
        **settings: Any,
    ) -> None:
        super().__init__(cast(Any, handler), handler_cancellation=True, access_log=None, **settings)
        self.handler = handler
        self.crowd = crowd
        self.deadlines = deadlines
        self.draining = False
        self.now: Callable[[], float] = self._loop.time
        self._on_refused = on_refused

    def __call__(self) -> ClientConnection:
        return ClientConnection(self, loop=self._loop, **self._kwargs)

    def refused(self, client: ClientConnection, status: int, reason: Reason) -> None:
        self._on_refused(client.peer, status, reason)

    def clients(self) -> list[ClientConnection]:
        """The connections that are open."""
        return cast(list[ClientConnection], self.connections)


def require_c_parser() -> None:
    """Refuse to serve on aiohttp's pure-Python parser, which has had advisories of its own."""
    if http_parser.HttpRequestParser.__module__ != "aiohttp._http_parser":
        raise GatekeeperError(
            "aiohttp's C parser is missing: unset AIOHTTP_NO_EXTENSIONS, or install an aiohttp wheel for this platform"
        )
