"""The fast lane: requests that can be decided at once are answered inside `data_received`, without waking a task.

A shortcut of scheduling, never a second policy: what is read, decided, sent, counted and logged is done by the code of
the coroutine path, step by step the same.  The lane takes a request that came alone and whole, with its body if it has
one, on a connection that waits for one, if its session is in memory.  Everything else goes to the coroutine path, also
when the lane has begun: a request for which no connection to the app is idle, or whose connection turned out to be
dead, or whose client does not take the answer.

A whole head that came before, byte for byte, is known by what followed from it, as long as the same session record
stands behind it and time alone changes nothing; a block of header lines by what it was read as.  What comes once is not
remembered: that would cost more than it saves.  Of heads that are not known, the lane reads only what is plain: a usual
request line, header lines that every parser reads alike, each name once.  Whatever else there may be in a head is for
aiohttp's parser, and then for the lane all the same.
"""

import re

from aiohttp.http_parser import RawRequestMessage

from gatekeeper.core.errors import UpstreamError
from gatekeeper.core.headers import ClientHead, read_head
from gatekeeper.core.model import Allow, Deny, Reason, SessionRecord, SignIn, Target
from gatekeeper.core.policy import next_change_ms
from gatekeeper.server.answers import Answer, render_answer
from gatekeeper.server.connection import ClientConnection, ClientRequest
from gatekeeper.server.exchange import UpstreamConnection
from gatekeeper.server.facts import Parsed, fields_size, read_target, with_facts
from gatekeeper.server.gate import OWN_ROUTE, Admission, Case, Runtime
from gatekeeper.server.heads import HEAD_END, MAX_KNOWN_BYTES, Memo, PlainHeads
from gatekeeper.server.outbound import Outbound, plan_for
from gatekeeper.server.portal import owns
from gatekeeper.server.proxy import Failure, Proxy
from gatekeeper.server.record import Exchanged
from gatekeeper.server.relay import Relay
from gatekeeper.stores.cache import Absent

_MAX_LINE_BYTES = 2048
_LINE = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/[!-~]*) HTTP/1\.1")


_UNDECIDED = Admission(Deny(500, Reason.INTERNAL_ERROR), None)


class Known:
    """A request head that came before, and what followed from it the last time.

    `plan` holds for a request under the record `session` at any time from `since_ms` until before `until_ms`; `raw` is
    the answer that it renders to, if it is one.
    """

    __slots__ = (
        "admission",
        "body_bytes",
        "case",
        "parsed",
        "peer",
        "plan",
        "raw",
        "runtime",
        "session",
        "since_ms",
        "until_ms",
    )

    def __init__(self, runtime: Runtime, peer: str, parsed: Parsed, case: Case) -> None:
        self.runtime = runtime
        self.peer = peer
        self.parsed = parsed
        self.case = case
        self.body_bytes = parsed.head.framing if isinstance(parsed.head.framing, int) else 0
        self.session: SessionRecord | Absent | None = None
        self.since_ms = 0
        self.until_ms = 0
        self.admission: Admission
        self.plan: Outbound | Answer
        self.raw = b""


class FastLane:
    """The lane of one listener, in front of its proxy."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self._gate = proxy.gate
        self._heads: Memo[Known] = Memo()
        self._plain = PlainHeads()

    def forget(self) -> None:
        """Work out anew what follows from each head: what was signed with keys of before is not sent any more."""
        self._heads.clear()

    def recognise(self, client: ClientConnection, data: bytes) -> bool:
        """Answer what arrived, if it is one request whose header lines are known; returns whether it is taken."""
        raw, body = data, b""
        if not data.endswith(HEAD_END) or len(data) > MAX_KNOWN_BYTES:
            end = data.find(HEAD_END) + len(HEAD_END)
            raw, body = data[:end], data[end:]
        known = self._heads.get(raw)
        if known is None or known.peer != client.peer or known.runtime is not self._gate.runtime:
            end = raw.find(b"\r\n")
            line = None if end > _MAX_LINE_BYTES else _LINE.fullmatch(raw, 0, end)
            head = None if line is None else self._plain.read(raw[end + 2 :], self._gate.runtime.snapshot.own_names)
            if head is None or line is None:
                return False
            known = self._prepare(client, line[1].decode(), line[2].decode(), head)
            if known is None:
                return False
            self._heads.note(raw, known)
        return len(body) == known.body_bytes and self.answer_known(client, known, body)

    def take(self, client: ClientConnection, data: bytes, message: RawRequestMessage) -> bool:
        """Answer a request that was parsed, and came alone and whole; returns whether it is taken."""
        line = f"{message.method} {message.path} HTTP/1.1\r\n".encode("utf-8", "surrogateescape")
        if message.should_close or message.upgrade or not data.startswith(line) or not _LINE.match(line):
            return False
        head = read_head(message.raw_headers, own=self._gate.runtime.snapshot.own_names)
        if isinstance(head, Reason) or head.framing == "chunked" or head.wants_websocket or head.expects_continue:
            return False
        head.size = fields_size(message.raw_headers)
        end = data.find(HEAD_END) + len(HEAD_END)
        self._plain.blocks.note(data[len(line) : end], head)
        known = self._prepare(client, message.method, message.path, head)
        body = data[end:]
        return known is not None and len(body) == known.body_bytes and self.answer_known(client, known, body)

    def _prepare(self, client: ClientConnection, method: str, raw_target: str, head: ClientHead) -> Known | None:
        """All that is known of a request without its session; None for what is none of the lane's business."""
        runtime = self._gate.runtime
        snapshot = runtime.snapshot
        target = read_target(method, raw_target)
        if not isinstance(target, Target) or len(raw_target) + head.size > snapshot.head_bytes:
            return None
        is_own = owns(target, snapshot.own_paths)
        if is_own and target.path != snapshot.get_session_path:
            return None
        if snapshot.body_bytes is not None and isinstance(head.framing, int) and head.framing > snapshot.body_bytes:
            return None
        peer, scheme = client.peer, self.proxy.scheme
        parsed = with_facts(method, target, head, peer=peer, scheme=scheme, trusted=snapshot.trusted)
        case = self._gate.prepare(runtime, parsed.facts)
        if not isinstance(case, Case) or (is_own and not case.is_get_session):
            return None
        return Known(runtime, peer, parsed, case)

    def answer_known(self, client: ClientConnection, known: Known, body: bytes) -> bool:
        """Answer a request of which all but the session is known; False where that must be looked up."""
        token = known.case.token
        session = None
        if token is not None:
            session = known.runtime.known(known.case, token, self._gate.clock)
            if session is None:
                return False
        try:
            now_ms = self._gate.clock()
            holds = session is known.session and known.since_ms <= now_ms < known.until_ms
            if not holds and (_may_carry_cookies(known, session, now_ms) or self._is_portals(known, session, now_ms)):
                return False
        except Exception:  # the coroutine path will meet it as well, and answer
            return False
        client.begin_in_lane()
        asked = _Asked(self.proxy, client, known, body)
        try:
            if not holds:
                self._decide(asked, session, now_ms)
            else:
                asked.admission = known.admission
            plan = known.plan
            if isinstance(plan, Outbound):
                asked.send(plan)
            else:
                asked.write(plan)
        except Exception:
            asked.fail()
        return True

    def _is_portals(self, known: Known, session: SessionRecord | Absent | None, now_ms: int) -> bool:
        """Whether a call of the gate's own has more to do than to answer."""
        if known.case.route is not OWN_ROUTE:
            return False
        return self._gate.decide(known.runtime, known.case, session, now_ms).own is None

    def _decide(self, asked: "_Asked", session: SessionRecord | Absent | None, now_ms: int) -> None:
        """Work out what follows now, and how long it holds."""
        gate, known = self._gate, asked.known
        runtime = known.runtime
        admission = asked.admission = gate.decide(runtime, known.case, session, now_ms)
        plan = plan_for(admission, known.parsed, runtime, gate.pages, now_ms=now_ms, request_id=asked.request_id)
        known.admission = admission
        known.plan = plan
        known.session = session
        known.since_ms = now_ms
        known.until_ms = _holds_until(admission, session, runtime.snapshot.policy.fresh_age_s, now_ms)
        if runtime.extender is not None and isinstance(session, SessionRecord):
            known.until_ms = min(known.until_ms, runtime.extender.next_change_ms(session, now_ms))
        if isinstance(plan, Outbound):
            known.until_ms = min(known.until_ms, plan.until_ms)
        known.raw = b""


class _Asked:
    """A request in the lane, until it is answered or handed on.

    What was decided is its own: until it is answered, an equal one may be decided otherwise.
    """

    __slots__ = ("admission", "answered", "began", "body", "client", "known", "proxy", "request_id")

    def __init__(self, proxy: Proxy, client: ClientConnection, known: Known, body: bytes) -> None:
        self.admission = _UNDECIDED
        self.answered: tuple[int, int] | None = None
        """Status and bytes of the answer, once all of it is written."""
        self.body = body
        self.proxy = proxy
        self.client = client
        self.known = known
        self.began = client.server.now()
        self.request_id = known.parsed.forwarding.request_id or proxy.new_request_id()

    def send(self, outbound: Outbound) -> None:
        """Send it on, or have the coroutine path do that, which can wait for a connection."""
        connection = outbound.pool.take_free()
        if connection is None:
            self.client.hand_on(_Waiting(self, outbound, None))
            return
        relay = _LaneRelay(self, connection, outbound)
        self.client.in_lane = relay
        try:
            connection.start(relay, outbound.method, outbound.head(self.request_id), has_body=False, early=self.body)
        except UpstreamError as error:
            connection.abandon(relay)
            relay.on_error(error)

    def write(self, plan: Answer) -> None:
        """Answer it from here.  What is malformed, and a body that is not passed on, end the connection."""
        known, facts = self.known, self.known.case.facts
        kept = plan.status != 400 and not facts.has_body
        raw = known.raw
        if not raw:
            raw = known.raw = render_answer(plan, keep_alive=kept, is_head=facts.method == "HEAD")
        self.client.write(raw)
        self.end(plan.status, len(raw), None, kept=kept)

    def end(self, status: int, sent_bytes: int, answered_at: float | None, *, kept: bool) -> None:
        """The answer is written.  The next request waits until the client has taken it."""
        client, known, began = self.client, self.known, self.began
        self.answered = (status, sent_bytes)
        if client.writing_paused:
            client.hand_on(_Taking(self, status, sent_bytes, answered_at, kept=kept))
            return
        client.in_lane = None
        admission = self.admission
        self.proxy.telemetry.record(
            known.case.facts,
            known.case.route.name,
            admission.decision.reason,
            admission.record,
            status,
            self.request_id,
            client.server.now() - began,
            None if answered_at is None else answered_at - began,
            sent_bytes,
            known.peer,
        )
        client.end_in_lane(kept=kept)

    def fail(self) -> None:
        """Its answering raised an unforeseen error, which is the current exception."""
        exchanged, relay = self.exchanged(), self.client.in_lane
        if self.answered is not None:
            exchanged.took(*self.answered, None)
        elif isinstance(relay, _LaneRelay):  # what the upstream still says is for nobody
            relay.detach()
            relay.upstream.abandon(relay)
        self.client.in_lane = None
        kept = self.proxy.fail(self.request(), exchanged)
        exchanged.report(self.proxy.telemetry)
        self.client.end_in_lane(kept=kept)

    def request(self) -> ClientRequest:
        return ClientRequest(self.client, self.known.case.facts.method)

    def exchanged(self) -> Exchanged:
        """What the coroutine path would know of it by now."""
        exchanged = Exchanged(self.client)
        exchanged.began = self.began
        exchanged.facts = self.known.case.facts
        exchanged.request_id = self.request_id
        exchanged.decided(self.admission)
        return exchanged


class _LaneRelay(Relay):
    """Passes on the answer to a request in the lane."""

    def __init__(self, asked: _Asked, connection: UpstreamConnection, outbound: Outbound) -> None:
        self.asked = asked
        super().__init__(asked.client, connection, outbound, asked.proxy.streams, asked.admission.record)

    def on_over(self) -> None:
        asked = self.asked
        if self.error is not None:
            asked.client.hand_on(_Waiting(asked, self.outbound, (self.upstream, self.error)))
        elif self.is_whole:
            try:
                asked.end(self.status, self.sent_bytes, self.answered_at, kept=self.keep_alive)
            except Exception:  # else the client would wait for ever, and the app's connection be lost
                asked.fail()
        else:
            exchanged = self._exchanged()
            asked.client.in_lane = None
            asked.proxy.break_off(asked.request(), exchanged, self)
            exchanged.report(asked.proxy.telemetry)
            asked.client.end_in_lane(kept=False)

    def client_left(self) -> None:
        self.detach()
        exchanged = self._exchanged()
        self.upstream.abandon(self)
        exchanged.reason = Reason.CLIENT_LEFT
        exchanged.report(self.asked.proxy.telemetry)

    def _exchanged(self) -> Exchanged:
        exchanged = self.asked.exchanged()
        exchanged.upstream_began(self.asked.began)
        exchanged.took_from(self)
        return exchanged


class _HandedOn:
    """A request that the lane has begun, on its way to the task."""

    def __init__(self, asked: _Asked) -> None:
        self._proxy = asked.proxy
        self._request = asked.request()
        self._exchanged = asked.exchanged()

    def client_left(self) -> None:
        self._exchanged.reason = Reason.CLIENT_LEFT
        self._exchanged.report(self._proxy.telemetry)


class _Waiting(_HandedOn):
    """A request that waits for a connection to the app; `failed` is the one that was tried, and how that ended."""

    def __init__(self, asked: _Asked, outbound: Outbound, failed: Failure) -> None:
        super().__init__(asked)
        self._outbound = outbound
        self._body = asked.body
        self._failed = failed

    async def go_on(self) -> bool:
        return await self._proxy.go_on(self._request, self._exchanged, self._outbound, self._body, self._failed)


class _Taking(_HandedOn):
    """An answer that its client has not taken yet: the next request waits for that."""

    def __init__(self, asked: _Asked, status: int, sent_bytes: int, answered_at: float | None, *, kept: bool) -> None:
        super().__init__(asked)
        self._exchanged.took(status, sent_bytes, None)
        if answered_at is not None:
            self._exchanged.upstream_s = answered_at - asked.began
        self._kept = kept

    async def go_on(self) -> bool:
        return await self._proxy.settle(self._request, self._exchanged, kept=self._kept)


def _may_carry_cookies(known: Known, session: SessionRecord | Absent | None, now_ms: int) -> bool:
    """Whether the answer may have to wait for cookies that the gate adds, which the lane cannot."""
    extender = known.runtime.extender
    if extender is None or not isinstance(session, SessionRecord):
        return False
    return extender.concerns(session, known.case.facts.cookie, now_ms)


def _holds_until(admission: Admission, session: SessionRecord | Absent | None, fresh_age_s: float, now_ms: int) -> int:
    """Until when the same request gets the same plan, as far as time alone changes it; 0 for not even once more."""
    decision = admission.decision
    if isinstance(decision, Allow):
        record = session if isinstance(session, SessionRecord) else None
        until_ms = now_ms + _FAR_MS if record is None else next_change_ms(record, fresh_age_s, now_ms)
        return until_ms if admission.own is None else min(until_ms, admission.own.until_ms)
    says_no_id = isinstance(decision, SignIn) or (
        isinstance(decision, Deny) and decision.status == 401 and decision.reason is not Reason.SIGN_IN_LOOP
    )
    # The loop breaker counts in seconds, in a cookie of the request and in one of the answer.
    return now_ms // 1000 * 1000 + 1000 if session is None and says_no_id else 0


_FAR_MS = 3_600_000
