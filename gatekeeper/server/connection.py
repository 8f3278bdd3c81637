"""The client's side: aiohttp's connection handler, adapted.  All that is leaned on of aiohttp's inside stands here.

Answers are written to the transport whole, or pushed there by a `Relay`; aiohttp parses requests, keeps their order
and the connection's life.  A request that its parser refuses is answered 400 in our own words, and closed.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import Any, Protocol, cast

from aiohttp import StreamReader, http_parser, web
from aiohttp.http_exceptions import BadHttpMethod, HttpProcessingError, LineTooLong

from gatekeeper.core.errors import GatekeeperError
from gatekeeper.core.forwarding import UNIX_PEER
from gatekeeper.core.model import Reason
from gatekeeper.server.answers import Answer, json_answer, phrase

logger = logging.getLogger("gatekeeper")

MAX_TARGET_BYTES = 8190
MAX_FIELDS = 100
LINGER_S = 2.0
"""How long the rest of a refused request is still read before its connection is closed."""


class BadBody(Exception):
    """The request body breaks its framing, or ends too early."""


class FlowControlled(Protocol):
    """What wants to know when the client's connection is full, and when it drains again."""

    def client_is_full(self) -> None: ...

    def client_has_drained(self) -> None: ...


class Sent:
    """What a handler hands back to aiohttp when the answer is written already."""

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to be written."""

    async def write_eof(self) -> None:
        """Nothing is left to be written."""


SENT = cast(web.StreamResponse, Sent(keep_alive=True))
SENT_AND_CLOSE = cast(web.StreamResponse, Sent(keep_alive=False))


class ClientConnection(web.RequestHandler):
    """A client's connection, which tells whoever pushes into it when it is full."""

    __slots__ = ("head_bytes", "pushing")

    def __init__(self, manager: web.Server, *, loop: asyncio.AbstractEventLoop, **settings: Any):
        super().__init__(manager, loop=loop, **settings)
        self.pushing: FlowControlled | None = None
        self.head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Parse; refuse a head that is still unfinished after as many bytes as a whole one may have.

        aiohttp limits each field, not all of them together.  `_waiter` is pending exactly while it waits for a head.
        """
        super().data_received(data)
        waiter = self._waiter
        if waiter is None or waiter.done():
            self.head_bytes = 0
            return
        self.head_bytes += len(data)
        if self.head_bytes > self.max_field_size and self.transport is not None:
            self.transport.write(render_answer(_error(431, Reason.HEAD_TOO_LARGE), keep_alive=False))
            self.force_close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.pushing is not None:
            self.pushing.client_is_full()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.pushing is not None:
            self.pushing.client_has_drained()

    async def drained(self) -> None:
        """Wait until the client has taken most of what was written.  Raises ConnectionError when it has left."""
        await self._drain_helper()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that the parser refuses.  It tells nothing of the bytes that were sent."""
        reason = Reason.BAD_HEADER
        if isinstance(exc, BadHttpMethod):
            reason = Reason.BAD_METHOD
        elif isinstance(exc, LineTooLong):
            status, reason = 431, Reason.HEAD_TOO_LARGE
        logger.debug("malformed request refused: %s", type(exc).__name__)
        return write_answer(request, _error(status, reason), keep_alive=False)


class GateServer(web.Server):
    """aiohttp's low-level server with our connections."""

    def __call__(self) -> ClientConnection:
        return ClientConnection(self, loop=self._loop, **self._kwargs)


def write_answer(request: web.BaseRequest, answer: Answer, *, keep_alive: bool) -> web.StreamResponse:
    """Write a finished answer to the client's connection."""
    http_1_0, is_head = request.version < (1, 1), request.method == "HEAD"
    write_raw(request, render_answer(answer, keep_alive=keep_alive, http_1_0=http_1_0, is_head=is_head))
    return SENT if keep_alive else SENT_AND_CLOSE


def render_answer(answer: Answer, *, keep_alive: bool, http_1_0: bool = False, is_head: bool = False) -> bytes:
    """The answer as it stands on the wire; to HEAD without its body."""
    lines = [b"HTTP/1.1 %d %b\r\n" % (answer.status, _reason_phrase(answer.status))]
    lines += [b"%b: %b\r\n" % field for field in answer.headers]
    if answer.status not in (204, 304):
        lines.append(b"Content-Length: %d\r\n" % len(answer.body))
    if not keep_alive:
        lines.append(b"Connection: close\r\n")
    elif http_1_0:
        lines.append(b"Connection: keep-alive\r\n")
    lines.append(b"\r\n")
    if not is_head:
        lines.append(answer.body)
    return b"".join(lines)


async def read_piece(content: StreamReader) -> bytes:
    """The next piece of a request body, empty at its end.  Raises BadBody."""
    try:
        return await content.readany()
    except (web.RequestPayloadError, HttpProcessingError) as exc:
        raise BadBody from exc


def write_raw(request: web.BaseRequest, data: bytes) -> None:
    transport = request.transport
    if transport is not None:
        transport.write(data)


def break_off(request: web.BaseRequest) -> None:
    """Abort the client's connection, so that an unfinished answer does not look like a finished one."""
    transport = request.transport
    if transport is not None:
        transport.abort()


def peer_of(request: web.BaseRequest) -> str:
    """The address of the socket's other end, or `unix`."""
    peer = request.protocol.peername
    return peer[0] if isinstance(peer, tuple) and peer else UNIX_PEER


def require_c_parser() -> None:
    """Refuse to serve on aiohttp's pure-Python parser, which has had advisories of its own."""
    if http_parser.HttpRequestParser.__module__ != "aiohttp._http_parser":
        raise GatekeeperError(
            "aiohttp's C parser is missing: unset AIOHTTP_NO_EXTENSIONS, or install an aiohttp wheel for this platform"
        )


def _error(status: int, reason: Reason) -> Answer:
    return json_answer(status, {"error": phrase(status), "code": reason.value})


def _reason_phrase(status: int) -> bytes:
    return HTTPStatus(status).phrase.encode()
