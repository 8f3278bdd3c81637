"""The reverse proxy: a request in, decided by the gate, and passed to the app behind or answered here.

This is the coroutine path, which can do everything.  It reads the request body as the upstream takes it, while the
response is pushed back by a `Relay`.  What the gate answers itself is written whole.
"""

import asyncio
import logging
from secrets import token_hex
from typing import cast

from aiohttp import web

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
from gatekeeper.server.pages import PageSettings, answer, error_answer
from gatekeeper.server.portal import Portal, owns
from gatekeeper.server.relay import Relay
from gatekeeper.server.upstream import UpstreamConnection, UpstreamPool

logger = logging.getLogger("gatekeeper")

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS"})
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BodyTooLarge(Exception):
    """The request body is longer than `limits.body_bytes`."""


class Proxy:
    """The request handler of the public listener."""

    def __init__(self, gate: Gate, portal: Portal, *, scheme: str = "http") -> None:
        self.gate = gate
        self.portal = portal
        self.pages = gate.pages
        self.scheme = scheme

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request.  The boundary where an unforeseen error becomes a 500 and a closed connection."""
        try:
            return await self._handle(request)
        except BadBody:
            return write_answer(request, error_answer(400, Reason.BAD_FRAMING, None, self.pages), keep_alive=False)
        except Exception:
            logger.exception("unforeseen error while answering a request")
            return write_answer(request, error_answer(500, Reason.INTERNAL_ERROR, None, self.pages), keep_alive=False)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        http_1_0 = request.version < (1, 1)
        parsed = read_request(
            request.method,
            request.raw_path,
            request.raw_headers,
            http_1_0=http_1_0,
            peer=peer_of(request),
            scheme=self.scheme,
            trusted=self.gate.runtime.snapshot.trusted,
            default_host=self.gate.runtime.snapshot.default_host,
        )
        if isinstance(parsed, Reason):
            return write_answer(request, error_answer(400, parsed, None, self.pages), keep_alive=False)
        facts = parsed.facts
        if owns(facts.target):
            return self._write(request, facts, await self.portal.answer(facts, request.content))
        runtime = self.gate.runtime
        admission = self.gate.try_admit(facts)
        if not isinstance(admission, Admission):
            admission = await self.gate.admit(facts)
        decision = admission.decision
        if isinstance(decision, Allow) and admission.route is not None:
            return await self._forward(request, runtime, parsed, decision, admission.route)
        if isinstance(decision, Allow):
            decision = Deny(500, Reason.INTERNAL_ERROR)  # cannot be: what has no route is never allowed
        return self._write(request, facts, answer(decision, facts, self.pages, now_ms=self.gate.clock()))

    async def _forward(
        self, request: web.BaseRequest, runtime: Runtime, parsed: Parsed, decision: Allow, route: Route
    ) -> web.StreamResponse:
        facts, head = parsed.facts, parsed.head
        limit = runtime.snapshot.body_bytes
        if limit is not None and isinstance(head.framing, int) and head.framing > limit:
            return self._write(request, facts, error_answer(413, Reason.BODY_TOO_LARGE, facts, self.pages))
        if route.methods is not None:
            head = without_method_override(head)
        raw = upstream_head(
            facts.method,
            facts.target.path_and_query,
            head,
            cookie=_cookie_for(runtime, facts, route),
            forwarding=forwarding_lines(parsed.forwarding) + _request_id_line(parsed),
            identity=identity_lines(decision.identity),
        )
        pool = runtime.upstreams[route.upstream]
        try:
            return await self._exchange(request, pool, parsed, route, raw, limit)
        except BodyTooLarge:
            return self._write(request, facts, error_answer(413, Reason.BODY_TOO_LARGE, facts, self.pages), end=True)
        except UpstreamError as error:
            logger.warning("%s %s: %s", facts.method, route.name, error)
            return self._write(request, facts, _upstream_answer(error, facts, self.pages))

    async def _exchange(
        self,
        request: web.BaseRequest,
        pool: UpstreamPool,
        parsed: Parsed,
        route: Route,
        raw: bytes,
        limit: int | None,
    ) -> web.StreamResponse:
        """One request to the upstream, and once more where a reused connection turned out to be dead."""
        facts = parsed.facts
        connection = await pool.take()
        while True:
            relay = Relay(
                cast(ClientConnection, request.protocol),
                connection,
                http_1_0=request.version < (1, 1),
                keep_alive=request.keep_alive,
                protected=route.access is not Access.PUBLIC,
                varies=route.access is Access.PUBLIC and route.identity == "optional",
            )
            try:
                return await self._run(request, connection, relay, parsed, raw, limit)
            except UpstreamError:
                lost_idle = connection.is_reused and not connection.has_answered
                if not lost_idle or facts.has_body or facts.method not in _IDEMPOTENT:
                    raise
                connection = await pool.open()

    async def _run(
        self,
        request: web.BaseRequest,
        connection: UpstreamConnection,
        relay: Relay,
        parsed: Parsed,
        raw: bytes,
        limit: int | None,
    ) -> web.StreamResponse:
        has_body = parsed.facts.has_body
        connection.start(relay, parsed.facts.method, raw, has_body=has_body)
        body: asyncio.Future[None] | None = None
        try:
            if has_body:
                if parsed.head.expects_continue and request.version >= (1, 1):
                    write_raw(request, _CONTINUE)
                sending = send_body(request, connection, chunked=parsed.head.framing == "chunked", limit=limit)
                body = asyncio.ensure_future(sending)
                await asyncio.wait((body, relay.done), return_when=asyncio.FIRST_COMPLETED)
                if body.done() and not relay.done.done():
                    body.result()
            whole = await relay.done
        finally:
            relay.detach()
            if not relay.done.done() or (body is not None and not body.done()):
                connection.abort()
            if body is not None:
                await _give_up(body)
        if not whole:
            break_off(request)
            return SENT_AND_CLOSE
        return SENT if relay.keep_alive else SENT_AND_CLOSE

    def _write(
        self, request: web.BaseRequest, facts: RequestFacts, what: Answer, *, end: bool = False
    ) -> web.StreamResponse:
        """Write a whole answer.  A request body that nobody read ends the connection: it is never kept with bytes
        left in it.
        """
        unread = end or (facts.has_body and not request.content.at_eof())
        return write_answer(request, what, keep_alive=request.keep_alive and not unread)


async def send_body(
    request: web.BaseRequest, connection: UpstreamConnection, *, chunked: bool, limit: int | None
) -> None:
    """Pass the request body on as it arrives, in our own framing.

    An upstream that no longer takes it is not an error: its response says why.  Raises BodyTooLarge and BadBody.
    """
    total = 0
    try:
        while data := await read_piece(request.content):
            total += len(data)
            if limit is not None and total > limit:
                raise BodyTooLarge
            await connection.write_body(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        if chunked:
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


def _request_id_line(parsed: Parsed) -> bytes:
    return b"X-Request-Id: %b\r\n" % (parsed.forwarding.request_id or token_hex(8)).encode()


def _upstream_answer(error: UpstreamError, facts: RequestFacts, pages: PageSettings) -> Answer:
    if isinstance(error, UpstreamTimeout):
        return error_answer(504, Reason.UPSTREAM_TIMEOUT, facts, pages)
    if isinstance(error, UpstreamRefused):
        return error_answer(502, Reason.UPSTREAM_REFUSED, facts, pages)
    return error_answer(502, Reason.UPSTREAM_PROTOCOL, facts, pages)
