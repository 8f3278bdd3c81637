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
from gatekeeper.server.sized import BodySource, Piece, SizedBody

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
_HEAD_END = b"\r\n\r\n"
_LONG_BYTES = 16 * 1024
"""From here on, the beginning of a body is not copied out of the piece in which its head came."""


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
    """One request, and the connection that it came by.

    `keep_alive` is whether the connection may serve another request; the handler answers whether it will.
    """

    __slots__ = ("client", "content", "http_1_0", "keep_alive", "method")

    def __init__(
        self,
        client: "ClientConnection",
        method: str,
        http_1_0: bool = False,
        keep_alive: bool = True,
        content: BodySource = EMPTY_PAYLOAD,
    ) -> None:
        self.client = client
        self.method = method
        self.http_1_0 = http_1_0
        self.keep_alive = keep_alive
        self.content = content


class ParsedRequest(ClientRequest):
    """A request as aiohttp's parser gave it.  `target` and fields are as they came."""

    __slots__ = ("headers", "is_http_1", "target")

    def __init__(self, client: "ClientConnection", message: RawRequestMessage, content: BodySource) -> None:
        http_1_0 = message.version == HttpVersion10
        keep_alive = not (message.should_close or message.upgrade or client.server.draining)
        super().__init__(client, message.method, http_1_0, keep_alive, content)
        self.target = message.path
        self.headers = message.raw_headers
        self.is_http_1 = http_1_0 or message.version == HttpVersion11


Handler = Callable[[ParsedRequest], Awaitable[bool]]
"""Answers a request; returns whether its connection may serve another.  Raises nothing but CancelledError."""


class Lane(Protocol):
    """Who may answer a request inside `data_received`: see `fastlane`.  `recognise` and `take` return whether it is.

    A request that is taken is announced by `begin_in_lane`, and ended by `end_in_lane` or `hand_on`.
    """

    def recognise(self, client: "ClientConnection", data: bytes) -> bool:
        """Take what arrived, if it is one whole request of a kind that is known."""
        ...

    def take(self, client: "ClientConnection", data: bytes, message: RawRequestMessage) -> bool:
        """Take the request that was parsed from what arrived, and was all of it."""
        ...

    def forget(self) -> None:
        """Forget what was worked out for requests that came before."""
        ...


class InLane(Protocol):
    """A request in the lane, or handed on by it."""

    def client_left(self) -> None: ...


class HandedOn(InLane, Protocol):
    """A request that the lane has begun, and the task finishes."""

    async def go_on(self) -> bool:
        """What a `Handler` does, for a request that was handed on."""
        ...


class ClientConnection(web.RequestHandler):
    """A client's connection, which tells whoever pushes into it when it is full."""

    __slots__ = (
        "_at_rest",
        "_body",
        "_discards",
        "_filling",
        "_had_open_body",
        "_held",
        "_is_between",
        "_limits",
        "_overhead",
        "_wire",
        "has_ended",
        "head_bytes",
        "in_lane",
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
        self._body: StreamReader | SizedBody | None = None
        self._filling: SizedBody | None = None
        """The body whose bytes are arriving, whether or not it is its request's turn."""
        self._limits = settings
        self._discards = False
        self._held = b""
        self._overhead = 0
        self._had_open_body = False
        self._wire: asyncio.Transport | None = None
        self._at_rest = False
        """Whether the task waits for a request, and the parser for its first byte: the lane may have it."""
        self._is_between = True
        """Whether the parser certainly stands between two requests."""
        self.in_lane: InLane | None = None

    @property
    def has_whole_body(self) -> bool:
        """Whether the body of the request that is being answered has come to its end."""
        return self._body is None or self._body.is_eof()

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self._body is None and not self._messages

    @property
    def is_over(self) -> bool:
        """Whether the connection has ended, or is about to."""
        return self._wire is None or self._wire.is_closing()

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
        tail = self._message_tail + self._take_held()
        self._message_tail = b""
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
        self._at_rest = False
        if self.in_lane is not None:
            self.in_lane.client_left()
            self.in_lane = None
        self._wire = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, hold back, or pass on, as the connection stands.

        Refuses a head that is still unfinished after as many bytes as a whole one may have: aiohttp limits each
        field, not all of them together.
        """
        if self._at_rest:
            self._receive_at_rest(data)
            return
        if self.tunnel is not None:
            self.tunnel.from_client(data)
            return
        if self._discards:
            return
        if self._filling is not None:
            self._fill(self._filling, data)
            return
        body = self._body
        if data and (self._held or (body is not None and body.is_eof())):
            self._hold(data)
            return
        if isinstance(body, StreamReader):
            self._receive_body(body, data)
            return
        self._receive_head(data)

    # the lane

    def begin_in_lane(self) -> None:
        """A request is being answered, and the task knows nothing of it: what comes behind it is held back."""
        self._at_rest = False
        self._body = EMPTY_PAYLOAD

    def end_in_lane(self, *, kept: bool) -> None:
        """The request is answered.  `kept` is whether the connection may serve another."""
        if not kept:
            self._body = None
            self.force_close()
            return
        self._await_next_within(self._keepalive_timeout)
        if self._held or self.has_ended:
            self._wake()  # `_body` stays: what comes before the task looks stands behind what is held
        else:
            self._body = None
            self._at_rest = True

    def hand_on(self, request: HandedOn) -> None:
        """Let the task go on with a request that was begun in the lane."""
        self.in_lane = request
        self._messages.append((cast(Any, request), EMPTY_PAYLOAD))
        self._wake()

    def _receive_at_rest(self, data: bytes) -> None:
        """Let the lane have what arrived, or parse it first: what is one whole request then, the lane may have, too."""
        lane = self.server.lane
        if (
            lane is None
            or self._force_close
            or self._close
            or (not self.server.draining and lane.recognise(self, data))
        ):
            return
        self._at_rest = False
        waiter, self._waiter = self._waiter, None  # whether the task is to be woken is not clear yet
        self._receive_head(data)
        self._waiter = waiter
        messages = self._messages
        if not messages:
            self._at_rest = self._is_between and not self._discards and not self.head_bytes
            return
        message, body = messages[0]
        is_whole = self._is_between and len(messages) == 1 and body.is_eof() and not self._held
        if is_whole and not self.server.draining and not isinstance(message, _ErrInfo):
            messages.clear()
            if lane.take(self, data, message):
                self._consumed_one()
                return
            messages.append((message, body))
        self._wake()

    def _wake(self) -> None:
        """Let the task look at what there is to do."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _process_keepalive(self) -> None:
        """aiohttp's timer.  It closes a connection whose task waits, and would not know of a request in the lane."""
        if self._body is not None:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()

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
                self._body = body
                if self.in_lane is not None:
                    handed_on, self.in_lane = cast(HandedOn, self.in_lane), None
                    kept = await handed_on.go_on()
                else:
                    self._consumed_one()
                    if isinstance(message, _ErrInfo):
                        self._refuse_malformed(message)
                        await self._linger()
                        return
                    if not body.is_eof():
                        self._expect_rest_of(body)
                    kept = await handler(ParsedRequest(self, message, body))
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
        while True:
            if self._held:
                self._receive_head(self._take_held())
            if self._buffer_paused or self._had_open_body:
                self._feed_on()
            if self._messages:
                return True
            if self.has_ended or self._close:
                return False
            if self.head_bytes:
                self.server.deadlines.head_has_begun(self)
            self._at_rest = self._is_ready_for_lane
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._body = self._waiter = None
                self._at_rest = False

    @property
    def _is_ready_for_lane(self) -> bool:
        return self.server.lane is not None and self._is_between and not (self.head_bytes or self._discards)

    def _consumed_one(self) -> None:
        parser = cast(http_parser.HttpRequestParser | None, self._parser)  # None once the connection is lost
        if parser is not None:
            parser.message_consumed()

    def _feed_on(self) -> None:
        """Let the parser go on where it stopped at its limit of requests."""
        super().data_received(b"")
        if self._buffer_paused and not self._messages:
            self._resume_reading_for_buffer()

    def _take_held(self) -> bytes:
        """What was held back."""
        held, self._held = self._held, b""
        return held

    def _receive_head(self, data: bytes) -> None:
        if data == b"\r\n" and self._is_between and not (self.head_bytes or self._messages):
            return  # RFC 9112 §2.2: some clients send one behind a body
        end = data.find(_HEAD_END) + len(_HEAD_END)
        if end < len(_HEAD_END) or not self._is_between or self.head_bytes or self._messages:
            super().data_received(data)
        else:
            super().data_received(data[:end] if end < len(data) else data)
            sized = self._sized_body()
            if sized is not None:
                if self._buffer_paused:  # for what was held back, which is the body's now
                    self._resume_reading_for_buffer()
                self._fill(sized, data[end:] if len(data) - end < _LONG_BYTES else memoryview(data)[end:])
                return
            if end < len(data):
                super().data_received(data[end:])
        if not data:
            return
        if not self._messages:
            self._is_between = False
            self._note_unfinished(len(data))
            return
        if self.head_bytes:
            self._is_between = False
            self.server.deadlines.head_is_complete(self)
        self.head_bytes = 0 if self._ends_with_request(data) else 1
        has_stopped = len(self._messages) >= self._max_msg_queue_size
        self._is_between = self.head_bytes == 0 and self._messages[-1][1] is EMPTY_PAYLOAD and not has_stopped

    def _sized_body(self) -> SizedBody | None:
        """The body of the one request that has come, if that says how long it is.

        It is taken away from the parser, which makes place for a new one.
        """
        message, body = self._messages[0] if len(self._messages) == 1 else (None, EMPTY_PAYLOAD)
        if message is None or body is EMPTY_PAYLOAD or isinstance(message, _ErrInfo):
            return None
        length = message.headers.get("Content-Length", "")
        if message.chunked or message.upgrade or not (length.isascii() and length.isdigit()):
            return None
        sized = SizedBody(int(length), self.transport, self._loop)
        self._messages[0] = (message, cast(Any, sized))
        self._parser = self._new_parser()
        return sized

    def _new_parser(self) -> http_parser.HttpRequestParser:
        """A parser like the one that aiohttp gave the connection."""
        settings = self._limits
        names = ("max_line_size", "max_field_size", "max_headers", "auto_decompress")
        return http_parser.HttpRequestParser(
            self,
            self._loop,
            self._read_bufsize,
            payload_exception=web.RequestPayloadError,
            max_msg_queue_size=self._max_msg_queue_size,
            **{name: settings[name] for name in names if name in settings},
        )

    def _fill(self, body: SizedBody, data: Piece) -> None:
        """Take what arrived of this body; what comes behind it waits."""
        behind = bytes(body.feed(data)) if data else b""
        self._filling = body if body.missing else None
        if behind:
            self._hold(behind)

    def _ends_with_request(self, data: bytes) -> bool:
        """Whether no further head has begun behind the last request in this piece; behind a body one cannot tell."""
        return data.endswith(_HEAD_END) or self._messages[-1][1] is not EMPTY_PAYLOAD

    def _expect_rest_of(self, body: StreamReader | SizedBody) -> None:
        """Go on reading: the body of the request whose turn it is has not come to its end."""
        if isinstance(body, StreamReader):
            self._had_open_body = True
            self._overhead = 0
            if self._held:
                data = self._take_held()
                super().data_received(data)
                # Without a further request in it, all of it was the body's, as far as one can tell.
                self.head_bytes = 0 if not self._messages or self._ends_with_request(data) else len(data)
                self._is_between = False
            self._note_broken(body)
        if self._buffer_paused:
            self._resume_reading_for_buffer()

    def _receive_body(self, body: StreamReader, data: bytes) -> None:
        """Parse a piece of the body that is being read.

        Chunk extensions and trailers come beside it, and aiohttp keeps the latter: they are bounded as a head is.
        """
        self._is_between = False
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
        self._held = self._held + data if self._held else data
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
        self._at_rest = False
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

    `crowd` counts them; `deadlines` ends what takes too long; `on_refused` hears of refusals of what is no
    request; `lane` answers what it can before a task is woken.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        crowd: Crowd,
        deadlines: Deadlines,
        on_refused: Callable[[str, int, Reason], None],
        lane: Lane | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(cast(Any, handler), handler_cancellation=True, access_log=None, **settings)
        self.handler = handler
        self.crowd = crowd
        self.deadlines = deadlines
        self.draining = False
        self.lane = lane
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
