"""The reverse proxy: a request in, decided by the gate, and passed to the app behind or answered here.

This is the coroutine path, which can do everything.  It reads the request body as the upstream takes it, while the
response is pushed back by a `Relay`; after a WebSocket handshake a `Tunnel` takes over.  What the gate answers itself
is written whole.
"""

import asyncio
import logging
from collections.abc import Awaitable
from secrets import token_hex

from gatekeeper.core.errors import ClientStalled, UpstreamError, UpstreamRefused, UpstreamTimeout
from gatekeeper.core.model import Reason
from gatekeeper.server.answers import Answer, render_answer
from gatekeeper.server.body import NO_BODY, BadBody, BodyTimeout, BodyTooLarge, RequestBody
from gatekeeper.server.connection import ClientRequest, ParsedRequest
from gatekeeper.server.exchange import UpstreamConnection
from gatekeeper.server.facts import Parsed, read_request
from gatekeeper.server.gate import Admission, Gate, Runtime
from gatekeeper.server.held import HeldRelay
from gatekeeper.server.outbound import Outbound, plan_for
from gatekeeper.server.pages import error_answer
from gatekeeper.server.portal import Portal, owns
from gatekeeper.server.record import Exchanged
from gatekeeper.server.relay import AwaitedRelay, Relay
from gatekeeper.server.sized import Piece
from gatekeeper.server.streams import Streams
from gatekeeper.server.tunnel import Tunnel
from gatekeeper.server.upload import PROGRESS_BYTES, Upload

logger = logging.getLogger("gatekeeper")

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS"})
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_MALFORMED_STATUS = {Reason.HEAD_TOO_LARGE: 431, Reason.BAD_VERSION: 505}
_BODY_FAULTS: dict[type[Exception], tuple[int, Reason]] = {
    BadBody: (400, Reason.BAD_FRAMING),
    BodyTooLarge: (413, Reason.BODY_TOO_LARGE),
    BodyTimeout: (408, Reason.BODY_TIMEOUT),
}
_BODY_ERRORS = (BadBody, BodyTooLarge, BodyTimeout)


Failure = tuple[UpstreamConnection, UpstreamError] | None


class Proxy:
    """The request handler of the public listener."""

    def __init__(self, gate: Gate, portal: Portal, streams: Streams, *, scheme: str, body_idle_s: float) -> None:
        self.gate = gate
        self.portal = portal
        self.pages = gate.pages
        self.streams = streams
        self.telemetry = gate.telemetry
        self.scheme = scheme
        self.body_idle_s = body_idle_s
        self._process_id = token_hex(4)
        self._requests = 0

    async def __call__(self, request: ParsedRequest) -> bool:
        """Answer one request; returns whether its connection may serve another."""
        exchanged = Exchanged(request.client)
        return await self._within_bounds(request, exchanged, self._handle(request, exchanged))

    async def go_on(
        self, request: ClientRequest, exchanged: Exchanged, outbound: Outbound, body: bytes, failed: Failure
    ) -> bool:
        """Answer a request that the fast lane has decided but cannot send on, with its whole body; as `__call__` does.

        `failed` is the connection by which it was tried, if it was, with the error that came instead of an answer.
        """
        return await self._within_bounds(request, exchanged, self._send_on(request, exchanged, outbound, body, failed))

    async def settle(self, request: ClientRequest, exchanged: Exchanged, *, kept: bool) -> bool:
        """Wait until the client has taken the answer of the fast lane; as `__call__` does."""

        async def is_kept() -> bool:
            return kept

        return await self._within_bounds(request, exchanged, is_kept())

    async def _within_bounds(self, request: ClientRequest, exchanged: Exchanged, answering: Awaitable[bool]) -> bool:
        """The boundary where an unforeseen error becomes a 500 and a closed connection.  A client that sends requests
        and reads no answers waits here: the next one is not looked at before.  Who was cut off takes nothing any more.
        """
        try:
            kept = await answering
            if request.client.writing_paused and not request.client.is_over:
                await request.client.drained()
            return kept
        except ConnectionError:
            exchanged.reason = Reason.CLIENT_LEFT
            return False
        except asyncio.CancelledError:
            if exchanged.status != 101:  # a WebSocket's client leaves when it is done
                exchanged.reason = Reason.CLIENT_LEFT
            raise
        except Exception:
            return self.fail(request, exchanged)
        finally:
            exchanged.report(self.telemetry)

    def fail(self, request: ClientRequest, exchanged: Exchanged) -> bool:
        """What becomes of a request whose answering raised an unforeseen error, which is the current exception."""
        logger.exception("unforeseen error while answering a request")
        if exchanged.status:
            request.client.break_off()
            return False
        return self._write(request, exchanged, 500, Reason.INTERNAL_ERROR)

    async def _handle(self, request: ParsedRequest, exchanged: Exchanged) -> bool:
        parsed = self._read(request)
        if isinstance(parsed, Reason):
            return self._write(request, exchanged, _MALFORMED_STATUS.get(parsed, 400), parsed)
        facts = exchanged.facts = parsed.facts
        exchanged.request_id = parsed.forwarding.request_id or self.new_request_id()
        if owns(facts.target, self.gate.runtime.snapshot.own_paths):
            return await self._own(request, exchanged, parsed)
        if facts.is_websocket and (facts.has_body or (facts.method == "GET" and parsed.head.websocket_key is None)):
            return self._write(request, exchanged, 400, Reason.BAD_UPGRADE)
        runtime = self.gate.runtime
        admission = self.gate.try_admit(facts)
        if not isinstance(admission, Admission):
            admission = await self.gate.admit(facts)
        exchanged.decided(admission)
        plan = plan_for(
            admission, parsed, runtime, self.pages, now_ms=self.gate.clock(), request_id=exchanged.request_id
        )
        if isinstance(plan, Answer):
            return self.write_answer(request, exchanged, plan, close=plan.status == 400)
        if runtime.extender is not None and exchanged.record is not None:
            exchanged.claim = runtime.extender.claim(exchanged.record, facts.cookie)
        return await self._forward(request, exchanged, runtime, parsed, plan)

    def _read(self, request: ParsedRequest) -> Parsed | Reason:
        if not request.is_http_1:
            return Reason.BAD_VERSION
        snapshot = self.gate.runtime.snapshot
        return read_request(
            request.method,
            request.target,
            request.headers,
            http_1_0=request.http_1_0,
            peer=request.client.peer,
            scheme=self.scheme,
            trusted=snapshot.trusted,
            default_host=snapshot.default_host,
            head_limit=snapshot.head_bytes,
            own=snapshot.own_names,
        )

    async def _own(self, request: ClientRequest, exchanged: Exchanged, parsed: Parsed) -> bool:
        """Answer a path of the gate's own."""
        exchanged.route_name = "own"
        body = self._body_of(request, parsed)
        if parsed.facts.has_body and parsed.head.expects_continue and not request.http_1_0:
            body.before_reading = lambda: request.client.write(_CONTINUE)
        try:
            what = await self.portal.answer(parsed, body)
        except _BODY_ERRORS as fault:
            return self._refuse_body(request, exchanged, fault)
        exchanged.reason = what.reason or Reason.PUBLIC
        return self.write_answer(request, exchanged, what)

    async def _forward(
        self, request: ClientRequest, exchanged: Exchanged, runtime: Runtime, parsed: Parsed, outbound: Outbound
    ) -> bool:
        body = self._body_of(request, parsed)
        try:
            early: Piece = b""
            if outbound.has_body:
                _refuse_too_long(parsed, runtime)
                if parsed.head.expects_continue and not request.http_1_0:
                    request.client.write(_CONTINUE)
                pool = outbound.pool
                early = await body.begin(lambda: pool.is_crowded)
                if self.gate.clock() >= outbound.until_ms:  # the client took so long that the head has aged
                    plan = await self._plan_anew(exchanged, runtime, parsed)
                    if isinstance(plan, Answer):
                        return self.write_answer(request, exchanged, plan)
                    outbound = plan
            return await self._exchange(request, exchanged, outbound, body, early)
        except _BODY_ERRORS as fault:
            return self._refuse_body(request, exchanged, fault)
        except UpstreamError as error:
            return self._give_up(request, exchanged, outbound, error)

    async def _plan_anew(self, exchanged: Exchanged, runtime: Runtime, parsed: Parsed) -> Outbound | Answer:
        """What follows from a request now: who asks is told as of this moment, and may have been signed out."""
        admission = await self.gate.admit(parsed.facts)
        exchanged.decided(admission)
        now_ms = self.gate.clock()
        return plan_for(admission, parsed, runtime, self.pages, now_ms=now_ms, request_id=exchanged.request_id)

    async def _send_on(
        self, request: ClientRequest, exchanged: Exchanged, outbound: Outbound, body: bytes, failed: Failure
    ) -> bool:
        try:
            if failed is None:
                return await self._exchange(request, exchanged, outbound, NO_BODY, body)
            if not _was_dead(outbound, *failed):
                raise failed[1]
            return await self._run(request, exchanged, await outbound.pool.open(), outbound, NO_BODY, body)
        except UpstreamError as error:
            return self._give_up(request, exchanged, outbound, error)

    def _give_up(self, request: ClientRequest, exchanged: Exchanged, outbound: Outbound, error: UpstreamError) -> bool:
        logger.warning("%s %s, request %s: %s", outbound.method, exchanged.route_name, exchanged.request_id, error)
        return self._write(request, exchanged, *_status_of(error))

    def _body_of(self, request: ClientRequest, parsed: Parsed) -> RequestBody:
        if not parsed.facts.has_body:
            return NO_BODY
        limit = self.gate.runtime.snapshot.body_bytes
        return RequestBody(request.content, parsed.head.framing, limit=limit, idle_s=self.body_idle_s)

    async def _exchange(
        self, request: ClientRequest, exchanged: Exchanged, outbound: Outbound, body: RequestBody, early: Piece
    ) -> bool:
        """One request to the upstream, and once more where a reused connection turned out to be dead."""
        connection = await outbound.pool.take()
        try:
            return await self._run(request, exchanged, connection, outbound, body, early)
        except UpstreamError as error:
            if not _was_dead(outbound, connection, error):
                raise
        return await self._run(request, exchanged, await outbound.pool.open(), outbound, body, early)

    async def _run(
        self,
        request: ClientRequest,
        exchanged: Exchanged,
        connection: UpstreamConnection,
        outbound: Outbound,
        body: RequestBody,
        early: Piece,
    ) -> bool:
        """One exchange on this connection.  Raises UpstreamError and what a body may raise as long as nothing was
        answered; later, the client's connection is broken off.
        """
        relay = self._relay(request, exchanged, connection, outbound)
        done = relay.done
        sending = not body.is_whole
        head = outbound.head(exchanged.request_id)
        early = body.encode(early) if early or body.is_chunked else b""
        exchanged.upstream_began()
        feeder: asyncio.Future[None] | None = None
        upload: Upload | None = None
        try:
            connection.start(relay, outbound.method, head, has_body=sending, accept=outbound.accept, early=early)
            if sending:
                if body.sized is not None:
                    upload = Upload(body, body.sized, connection)
                    upload.start()
                    feeder = upload.done
                else:
                    feeder = asyncio.ensure_future(_send_body(connection, body))
                await asyncio.wait((feeder, done), return_when=asyncio.FIRST_COMPLETED)
                if not relay.is_over:
                    feeder.result()
            await done
            if relay.error is not None:
                raise relay.error
            whole = relay.is_whole
        except _BODY_ERRORS:
            if not relay.has_begun:
                raise
            whole = False
        except asyncio.CancelledError:
            if relay.status == 101:
                connection.abort()  # the client left before the tunnel could take over
            raise
        finally:
            relay.detach()
            if upload is not None:
                upload.stop()
            exchanged.took_from(relay)
            if not relay.is_over or (feeder is not None and not _has_sent_all(feeder)):
                connection.abandon(relay)
            if feeder is not None:
                await _give_up(feeder)
        if relay.status == 101:
            await self._tunnel(request, exchanged, connection, outbound, relay.early)
            return False
        if not whole:
            self.break_off(request, exchanged, relay)
        return whole and relay.keep_alive

    def _relay(
        self, request: ClientRequest, exchanged: Exchanged, connection: UpstreamConnection, outbound: Outbound
    ) -> AwaitedRelay:
        client, record, claim = request.client, exchanged.record, exchanged.claim
        http_1_0, keep_alive = request.http_1_0, request.keep_alive
        if claim is None:
            return AwaitedRelay(
                client, connection, outbound, self.streams, record, http_1_0=http_1_0, keep_alive=keep_alive
            )
        return HeldRelay(
            client,
            connection,
            outbound,
            self.streams,
            record,
            claim=claim,
            session_token=self.gate.runtime.snapshot.cookies.session_token,
            http_1_0=http_1_0,
            keep_alive=keep_alive,
        )

    def break_off(self, request: ClientRequest, exchanged: Exchanged, relay: Relay) -> None:
        """The answer ended before its end: the client must not take it for whole."""
        request.client.break_off()
        if relay.broken is not None and relay.cut_for is None:
            exchanged.reason = _status_of(relay.broken)[1]
            logger.warning("request %s broke off: %s", exchanged.request_id, relay.broken)

    async def _tunnel(
        self,
        request: ClientRequest,
        exchanged: Exchanged,
        connection: UpstreamConnection,
        outbound: Outbound,
        early: bytes,
    ) -> None:
        """Pass bytes both ways until both sides have ended, or the session has."""
        tunnel = Tunnel(request.client, connection, connection.pool.loop)
        connection.become_tunnel(tunnel)
        self.streams.add(tunnel, exchanged.record, outbound.require)
        try:
            tunnel.open()
            if early:
                tunnel.on_body(early)
            await tunnel.done
        finally:
            self.streams.discard(tunnel)
            exchanged.took(101, exchanged.sent_bytes + tunnel.sent_bytes, tunnel.cut_for)
            connection.close()

    def new_request_id(self) -> str:
        """16 hex digits that no other request of this process has, nor by chance one of another process."""
        self._requests += 1
        return f"{self._process_id}{self._requests & 0xFFFF_FFFF:08x}"

    # answers of our own

    def _write(self, request: ClientRequest, exchanged: Exchanged, status: int, reason: Reason) -> bool:
        """Answer with an error.  Malformed requests, and errors of ours, end the connection."""
        exchanged.reason = reason
        what = error_answer(status, reason, exchanged.facts, self.pages, request_id=exchanged.request_id)
        close = exchanged.facts is None or status in (400, 408, 500)
        return self.write_answer(request, exchanged, what, close=close)

    def _refuse_body(self, request: ClientRequest, exchanged: Exchanged, fault: Exception) -> bool:
        status, reason = _BODY_FAULTS[type(fault)]
        return self._write(request, exchanged, status, reason)

    def write_answer(self, request: ClientRequest, exchanged: Exchanged, what: Answer, *, close: bool = False) -> bool:
        """Write a whole answer.  A request body that nobody read ends the connection: it is never kept with bytes
        left in it.
        """
        unread = exchanged.facts is not None and exchanged.facts.has_body and not request.content.at_eof()
        kept = request.keep_alive and not (close or unread or request.client.server.draining)
        raw = render_answer(what, keep_alive=kept, http_1_0=request.http_1_0, is_head=request.method == "HEAD")
        exchanged.took(what.status, len(raw), None)
        request.client.write(raw)
        return kept


async def _send_body(connection: UpstreamConnection, body: RequestBody) -> None:
    """Pass the rest of the request body on as it arrives.

    An upstream that no longer takes it is not an error: its response says why.  Raises what `RequestBody.piece` does.
    """
    try:
        while not body.is_whole:
            connection.waits_for_client()
            connection.waits_for_piece = True
            piece = await body.piece()
            connection.waits_for_piece = False
            if len(piece) >= PROGRESS_BYTES:
                connection.goes_on()
            await connection.write_body(body.encode(piece))
    except ConnectionError:
        return
    connection.end_body()


def _has_sent_all(feeder: asyncio.Future[None]) -> bool:
    return feeder.done() and not feeder.cancelled() and feeder.exception() is None


async def _give_up(feeder: asyncio.Future[None]) -> None:
    """End the sender of a body whose exchange is over, whatever became of it."""
    feeder.cancel()
    await asyncio.wait({feeder})
    if not feeder.cancelled():
        feeder.exception()


def _refuse_too_long(parsed: Parsed, runtime: Runtime) -> None:
    limit, length = runtime.snapshot.body_bytes, parsed.head.framing
    if limit is not None and isinstance(length, int) and length > limit:
        raise BodyTooLarge


def _was_dead(outbound: Outbound, connection: UpstreamConnection, error: UpstreamError) -> bool:
    """Whether the upstream had closed this connection before it got the request, so that it may be sent again."""
    if isinstance(error, UpstreamTimeout):
        return False  # it was sent, and may still be at work
    never_came = connection.is_reused and not connection.has_answered
    return never_came and not outbound.has_body and outbound.method in _IDEMPOTENT


def _status_of(error: UpstreamError) -> tuple[int, Reason]:
    if isinstance(error, UpstreamTimeout):
        return 504, Reason.UPSTREAM_TIMEOUT
    if isinstance(error, UpstreamRefused):
        return 502, Reason.UPSTREAM_REFUSED
    if isinstance(error, ClientStalled):
        return 408, Reason.CLIENT_STALLED
    return 502, Reason.UPSTREAM_PROTOCOL
