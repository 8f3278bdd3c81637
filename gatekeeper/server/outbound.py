"""What follows from a decision: a request for the upstream, or an answer.  Pure, and the same for both paths."""

import msgspec

from gatekeeper.core.cookies import dedupe_cookie, strip_cookies
from gatekeeper.core.forwarding import forwarding_lines
from gatekeeper.core.headers import upstream_head
from gatekeeper.core.identity import identity_lines
from gatekeeper.core.model import Access, Allow, Deny, Identity, Reason, RequestFacts, Route
from gatekeeper.core.websocket import accept_for
from gatekeeper.server.answers import Answer
from gatekeeper.server.facts import Parsed
from gatekeeper.server.gate import Admission, Runtime
from gatekeeper.server.pages import PageSettings, answer
from gatekeeper.server.upstream import UpstreamPool


class Outbound(msgspec.Struct, frozen=True):
    """A request on its way to the upstream, by a connection of `pool`.

    The request head is `before_id`, the request id, and `after_id`.  `accept` is what a WebSocket handshake waits for,
    None for no handshake.  `protected` and `varies` say what the response's caching must respect (see
    `core.response_headers.client_head`).  `set_cookies` are Set-Cookie values that the gate adds to the response, which
    no cache may then keep.
    """

    pool: UpstreamPool
    method: str
    before_id: bytes
    after_id: bytes
    has_body: bool
    accept: bytes | None
    protected: bool
    varies: bool
    set_cookies: tuple[bytes, ...] = ()

    def head(self, request_id: str) -> bytes:
        return b"%b%b%b" % (self.before_id, request_id.encode(), self.after_id)


def plan_for(
    admission: Admission, parsed: Parsed, runtime: Runtime, pages: PageSettings, *, now_ms: int, request_id: str
) -> Outbound | Answer:
    """A request to send on, or an answer to write."""
    decision, route = admission.decision, admission.route
    if isinstance(decision, Allow):
        if route is not None:
            return _outbound(runtime, parsed, decision.identity, route)
        decision = Deny(500, Reason.INTERNAL_ERROR)  # cannot be: what has no route is never allowed
    return answer(decision, parsed.facts, pages, now_ms=now_ms, request_id=request_id)


def _outbound(runtime: Runtime, parsed: Parsed, identity: Identity, route: Route) -> Outbound:
    facts, head = parsed.facts, parsed.head
    key = head.websocket_key if facts.method == "GET" else None  # nothing else opens a WebSocket (RFC 6455 §4.1)
    if route.methods is not None:
        head = head.without_method_override()
    before_id, after_id = upstream_head(
        facts.method,
        facts.target.path_and_query,
        head,
        cookie=_cookie_for(runtime, facts, route),
        forwarding=forwarding_lines(parsed.forwarding),
        identity=identity_lines(identity),
        upgrade=key is not None,
    )
    is_public = route.access is Access.PUBLIC
    return Outbound(
        runtime.upstreams[route.upstream],
        facts.method,
        before_id,
        after_id,
        facts.has_body,
        None if key is None else accept_for(key),
        not is_public,
        is_public and route.identity == "optional",
    )


def _cookie_for(runtime: Runtime, facts: RequestFacts, route: Route) -> str | None:
    """What of the client's Cookie header the upstream gets: the session cookie once, or not at all."""
    header = facts.cookie
    if header is None:
        return None
    snapshot = runtime.snapshot
    strip = snapshot.strip_session_cookies
    if strip or (strip is None and route.upstream):
        return strip_cookies(header, snapshot.cookies)
    return dedupe_cookie(header, snapshot.cookies.session_token)
