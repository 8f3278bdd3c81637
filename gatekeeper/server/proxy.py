"""The reverse proxy: a request in, decided by the gate, and passed to the app behind or answered here.

This is the coroutine path, which can do everything.  It reads the request body as the upstream takes it, while the
response is pushed back by a `Relay`.  What the gate answers itself is written whole.
"""

import asyncio
import logging
from secrets import token_hex
from typing import cast

import msgspec
from aiohttp import HttpVersion10, HttpVersion11, web

from gatekeeper.core.cookies import dedupe_cookie, strip_cookies
from gatekeeper.core.errors import UpstreamError, UpstreamRefused, UpstreamTimeout
from gatekeeper.core.forwarding import forwarding_lines
from gatekeeper.core.headers import upstream_head, without_method_override
from gatekeeper.core.identity import identity_lines
from gatekeeper.core.model import Access, Allow, Deny, Reason, RequestFacts, Route
from gatekeeper.server.answers import Answer
from gatekeeper.server.connection import (
    SENT,
    SENT_AND_CLOSE,
    BadBody,
    ClientConnection,
    break_off,
    peer_of,
    read_piece,
    write_answer,
    write_raw,
)
from gatekeeper.server.facts import Parsed, read_request
from gatekeeper.server.gate import Admission, Gate, Runtime
from gatekeeper.server.pages import answer, error_answer
from gatekeeper.server.portal import Portal, owns
from gatekeeper.server.relay import Relay
from gatekeeper.server.upstream import UpstreamConnection, UpstreamPool

logger = logging.getLogger("gatekeeper")

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS"})
_VERSIONS = (HttpVersion11, HttpVersion10)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BodyTooLarge(Exception):
    """The request body is longer than `limits.body_bytes`."""


class Outbound(msgspec.Struct, frozen=True):
    """A request on its way to the upstream.

    `head` is the finished request head; `limit` the longest body in bytes.  `protected` and `varies` say what the
    response's caching must respect (see `core.headers.client_head`).
    """

    method: str
    head: bytes
    has_body: bool
    is_chunked: bool
    expects_continue: bool
    limit: int | None
    protected: bool
    varies: bool


class Proxy:
    """The request handler of the public listener."""

    def __init__(self, gate: Gate, portal: Portal, *, scheme: str = "http") -> None:
        self.gate = gate
        self.portal = portal
        self.pages = gate.pages
        self.scheme = scheme

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request.  The boundary where an unforeseen error becomes a 500 and a closed connection.

        A client that sends requests and reads no answers waits here: the next one is not looked at before.
        """
        client = cast(ClientConnection, request.protocol)
        try:
            sent = await self._handle(request)
            if client.writing_paused:
                await client.drained()
            return sent
        except ConnectionError:
            return SENT_AND_CLOSE
        except BadBody:
            return write_answer(request, error_answer(400, Reason.BAD_FRAMING, None, self.pages), keep_alive=False)
        except Exception:
            logger.exception("unforeseen error while answering a request")
            return write_answer(request, error_answer(500, Reason.INTERNAL_ERROR, None, self.pages), keep_alive=False)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.version not in _VERSIONS:
            return write_answer(request, error_answer(505, Reason.BAD_VERSION, None, self.pages), keep_alive=False)
        snapshot = self.gate.runtime.snapshot
        parsed = read_request(
            request.method,
            request.raw_path,
            request.raw_headers,
            http_1_0=request.version < (1, 1),
            peer=peer_of(request),
            scheme=self.scheme,
            trusted=snapshot.trusted,
            default_host=snapshot.default_host,
            head_limit=snapshot.head_bytes,
        )
        if isinstance(parsed, Reason):
            status = 431 if parsed is Reason.HEAD_TOO_LARGE else 400
            return write_answer(request, error_answer(status, parsed, None, self.pages), keep_alive=False)
        facts = parsed.facts
        if owns(facts.target):
            return self._write(request, facts, await self.portal.answer(facts, request.content))
        runtime = self.gate.runtime
        admission = self.gate.try_admit(facts)
        if not isinstance(admission, Admission):
            admission = await self.gate.admit(facts)
        decision, route = admission.decision, admission.route
        request_id = parsed.forwarding.request_id or token_hex(8)
        if isinstance(decision, Allow) and route is not None:
            return await self._forward(request, runtime, parsed, decision, route, request_id)
        if isinstance(decision, Allow):
            decision = Deny(500, Reason.INTERNAL_ERROR)  # cannot be: what has no route is never allowed
        refusal = answer(decision, facts, self.pages, now_ms=self.gate.clock(), request_id=request_id)
        return self._write(request, facts, refusal, close=refusal.status == 400)

    async def _forward(
        self,
        request: web.BaseRequest,
        runtime: Runtime,
        parsed: Parsed,
        decision: Allow,
        route: Route,
        request_id: str,
    ) -> web.StreamResponse:
        facts = parsed.facts
        outbound = _outbound(runtime, parsed, decision, route, request_id)
        length = parsed.head.framing
        try:
            if outbound.limit is not None and isinstance(length, int) and length > outbound.limit:
                raise BodyTooLarge
            return await self._exchange(request, runtime.upstreams[route.upstream], outbound)
        except BodyTooLarge:
            refusal = error_answer(413, Reason.BODY_TOO_LARGE, facts, self.pages, request_id=request_id)
        except UpstreamError as error:
            logger.warning("%s %s, request %s: %s", facts.method, route.name, request_id, error)
            status, reason = _status_of(error)
            refusal = error_answer(status, reason, facts, self.pages, request_id=request_id)
        return self._write(request, facts, refusal)

    async def _exchange(self, request: web.BaseRequest, pool: UpstreamPool, outbound: Outbound) -> web.StreamResponse:
        """One request to the upstream, and once more where a reused connection turned out to be dead."""
        connection = await pool.take()
        try:
            return await _run(request, connection, outbound)
        except UpstreamError:
            was_dead = connection.is_reused and not connection.has_answered
            if not was_dead or outbound.has_body or outbound.method not in _IDEMPOTENT:
                raise
        return await _run(request, await pool.open(), outbound)

    def _write(
        self, request: web.BaseRequest, facts: RequestFacts, what: Answer, *, close: bool = False
    ) -> web.StreamResponse:
        """Write a whole answer.  A request body that nobody read ends the connection: it is never kept with bytes
        left in it.
        """
        close = close or (facts.has_body and not request.content.at_eof())
        return write_answer(request, what, keep_alive=request.keep_alive and not close)


async def _run(request: web.BaseRequest, connection: UpstreamConnection, outbound: Outbound) -> web.StreamResponse:
    """One exchange on this connection.  Raises UpstreamError, BodyTooLarge and BadBody as long as nothing was
    answered; later, the client's connection is broken off.
    """
    relay = Relay(
        cast(ClientConnection, request.protocol),
        connection,
        http_1_0=request.version < (1, 1),
        keep_alive=request.keep_alive,
        protected=outbound.protected,
        varies=outbound.varies,
    )
    body: asyncio.Future[None] | None = None
    try:
        connection.start(relay, outbound.method, outbound.head, has_body=outbound.has_body)
        if outbound.has_body:
            if outbound.expects_continue and request.version >= (1, 1):
                write_raw(request, _CONTINUE)
            body = asyncio.ensure_future(send_body(request, connection, outbound))
            await asyncio.wait((body, relay.done), return_when=asyncio.FIRST_COMPLETED)
            if not relay.done.done():
                body.result()
        whole = await relay.done
    except (BodyTooLarge, BadBody):
        if not relay.has_begun:
            raise
        whole = False
    finally:
        relay.detach()
        if not relay.is_over or (body is not None and not body.done()):
            connection.abort()
        if body is not None:
            await _give_up(body)
    if not whole:
        break_off(request)
    return SENT if whole and relay.keep_alive else SENT_AND_CLOSE


async def send_body(request: web.BaseRequest, connection: UpstreamConnection, outbound: Outbound) -> None:
    """Pass the request body on as it arrives, in our own framing.

    An upstream that no longer takes it is not an error: its response says why.  Raises BodyTooLarge and BadBody.
    """
    total = 0
    try:
        while data := await read_piece(request.content):
            total += len(data)
            if outbound.limit is not None and total > outbound.limit:
                raise BodyTooLarge
            await connection.write_body(b"%x\r\n%b\r\n" % (len(data), data) if outbound.is_chunked else data)
        if outbound.is_chunked:
            await connection.write_body(b"0\r\n\r\n")
    except ConnectionError:
        return
    connection.end_body()


async def _give_up(body: asyncio.Future[None]) -> None:
    """End the sender of a body whose exchange is over, whatever became of it."""
    body.cancel()
    await asyncio.wait({body})
    if not body.cancelled():
        body.exception()


def _outbound(runtime: Runtime, parsed: Parsed, decision: Allow, route: Route, request_id: str) -> Outbound:
    facts, head = parsed.facts, parsed.head
    if route.methods is not None:
        head = without_method_override(head)
    raw = upstream_head(
        facts.method,
        facts.target.path_and_query,
        head,
        cookie=_cookie_for(runtime, facts, route),
        forwarding=forwarding_lines(parsed.forwarding) + b"X-Request-Id: %b\r\n" % request_id.encode(),
        identity=identity_lines(decision.identity),
    )
    is_public = route.access is Access.PUBLIC
    return Outbound(
        method=facts.method,
        head=raw,
        has_body=facts.has_body,
        is_chunked=head.framing == "chunked",
        expects_continue=head.expects_continue,
        limit=runtime.snapshot.body_bytes,
        protected=not is_public,
        varies=is_public and route.identity == "optional",
    )


def _cookie_for(runtime: Runtime, facts: RequestFacts, route: Route) -> str | None:
    """What of the client's Cookie header the upstream gets: the session cookie once, or not at all."""
    header = facts.cookie
    if header is None:
        return None
    snapshot = runtime.snapshot
    strip = snapshot.strip_session_cookies
    if strip or (strip is None and route.upstream):
        header = strip_cookies(header, snapshot.cookies)
    else:
        header = dedupe_cookie(header, snapshot.cookies.session_token)
    return header


def _status_of(error: UpstreamError) -> tuple[int, Reason]:
    if isinstance(error, UpstreamTimeout):
        return 504, Reason.UPSTREAM_TIMEOUT
    if isinstance(error, UpstreamRefused):
        return 502, Reason.UPSTREAM_REFUSED
    return 502, Reason.UPSTREAM_PROTOCOL
