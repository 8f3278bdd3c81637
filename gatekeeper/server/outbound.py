"""What follows from a decision: a request for the upstream, or an answer.  Pure, and the same for both paths."""

from collections.abc import Callable

import msgspec

from gatekeeper.config.snapshot import Snapshot
from gatekeeper.core.cookies import (
    MAX_AGE_LIMIT_S,
    Keys,
    dedupe_cookie,
    replace_cookies,
    strip_cookies,
    strip_session_data,
)
from gatekeeper.core.credentials import (
    bearer_header,
    bearer_token,
    is_outdated,
    resigned_cookies,
    resigned_set_cookies,
)
from gatekeeper.core.forwarding import forwarding_lines
from gatekeeper.core.headers import ClientHead, upstream_head
from gatekeeper.core.identity import identity_lines
from gatekeeper.core.model import (
    NO_CONDITION,
    Access,
    Allow,
    Deny,
    Identity,
    Reason,
    RequestFacts,
    Require,
    Route,
    SessionRecord,
    SessionToken,
)
from gatekeeper.core.websocket import accept_for
from gatekeeper.server.answers import Answer
from gatekeeper.server.data_cookies import NEVER_MS
from gatekeeper.server.facts import Parsed
from gatekeeper.server.gate import Admission, Runtime, token_of
from gatekeeper.server.get_session import is_account_call
from gatekeeper.server.pages import PageSettings, answer
from gatekeeper.server.upstream import UpstreamPool
from gatekeeper.stores.feeds.feed import digest_of


class Outbound(msgspec.Struct, frozen=True):
    """A request on its way to the upstream, by a connection of `pool`.

    The request head is `before_id`, the request id, and `after_id`.  `accept` is what a WebSocket handshake waits for,
    None for no handshake.  `protected`, `varies` and `vary` say what the response's caching must respect (see
    `core.response_headers.client_head`).  `set_cookies` are Set-Cookie values that the gate adds to the response, which
    no cache may then keep.  `on_answer` is called when the response begins, before the client gets any of it.
    `require` is what must go on to hold of the user of a stream.  From `until_ms` on the head is not to be sent again.
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
    vary: bytes = b"Cookie"
    on_answer: Callable[[], None] | None = None
    require: Require = NO_CONDITION
    until_ms: int = NEVER_MS

    def head(self, request_id: str) -> bytes:
        return b"%b%b%b" % (self.before_id, request_id.encode(), self.after_id)


def plan_for(
    admission: Admission, parsed: Parsed, runtime: Runtime, pages: PageSettings, *, now_ms: int, request_id: str
) -> Outbound | Answer:
    """A request to send on, or an answer to write."""
    decision, route = admission.decision, admission.route
    if isinstance(decision, Allow):
        if admission.own is not None:
            return admission.own.answer
        if route is not None:
            return _outbound(runtime, parsed, decision.identity, route, now_ms)
        decision = Deny(500, Reason.INTERNAL_ERROR)  # cannot be: what has no route is never allowed
    return answer(decision, parsed.facts, pages, now_ms=now_ms, request_id=request_id)


def _outbound(runtime: Runtime, parsed: Parsed, identity: Identity, route: Route, now_ms: int) -> Outbound:
    facts, head, snapshot = parsed.facts, parsed.head, runtime.snapshot
    strips = snapshot.strip_session_cookies
    if strips is None:
        strips = bool(route.upstream)
    key = head.websocket_key if facts.method == "GET" else None  # nothing else opens a WebSocket (RFC 6455 §4.1)
    if route.methods is not None:
        head = head.without_method_override()
    if snapshot.bearer and facts.authorization is not None:
        head = _with_bearer(head, facts.authorization, snapshot.keys, strips=strips)
    cookie = _current_cookie(runtime, facts.cookie, identity.record, now_ms)
    resigned = resigned_cookies(facts.cookie, snapshot.cookies, snapshot.keys) if snapshot.keys.has_older else {}
    identity_block, until_ms = _identity_block(runtime, identity, route, now_ms)
    before_id, after_id = upstream_head(
        facts.method,
        facts.target.path_and_query,
        head,
        cookie=_cookie_for(snapshot, cookie, resigned, strips=strips),
        forwarding=forwarding_lines(parsed.forwarding),
        identity=identity_block,
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
        _set_cookies(snapshot, facts, resigned) if resigned else (),
        b"Cookie, Authorization" if snapshot.bearer else b"Cookie",
        _forgetting(runtime, facts) if is_account_call(facts, snapshot) else None,
        route.require,
        until_ms,
    )


def _identity_block(runtime: Runtime, identity: Identity, route: Route, now_ms: int) -> tuple[bytes, int]:
    """The header lines that say who asks, and until when they may be sent."""
    lines, record = identity_lines(identity, runtime.snapshot.names), identity.record
    if runtime.assertions is None or record is None:
        return lines, NEVER_MS
    minted = runtime.assertions.mint(record, route.upstream, now_ms)
    return lines + minted.line, minted.until_ms


def _forgetting(runtime: Runtime, facts: RequestFacts) -> Callable[[], None] | None:
    """What forgets the request's session, and its user's other ones: the client asks again at once who it is."""
    found = token_of(runtime, facts)
    if isinstance(found, Reason):
        return None
    token, sessions = found.token, runtime.sessions

    def forget() -> None:
        known = sessions.peek(token)
        sessions.forget(token)
        if isinstance(known, SessionRecord):
            sessions.user_changed(digest_of(known.user.id))

    return forget


def _current_cookie(runtime: Runtime, header: str | None, record: SessionRecord | None, now_ms: int) -> str | None:
    """The Cookie header without a session_data cookie that is from before a change: the app would believe it."""
    if header is None or record is None:
        return header
    if not runtime.claims.is_outdated(header, SessionToken(record.session.token), now_ms):
        return header
    return strip_session_data(header, runtime.snapshot.cookies.session_data)


def _cookie_for(snapshot: Snapshot, header: str | None, resigned: dict[str, str], *, strips: bool) -> str | None:
    """What of the client's Cookie header the upstream gets: the session cookie once, or not at all.

    One that an older secret signed is signed anew: the app takes the current one's alone.
    """
    if header is None:
        return None
    if strips:
        return strip_cookies(header, snapshot.cookies)
    header = dedupe_cookie(header, snapshot.cookies.session_token)
    return replace_cookies(header, resigned) if resigned else header


def _set_cookies(snapshot: Snapshot, facts: RequestFacts, resigned: dict[str, str]) -> tuple[bytes, ...]:
    names, scope = snapshot.cookies, snapshot.cookie_scope
    max_age_s = min(snapshot.lifetimes.expires_in_ms // 1000, MAX_AGE_LIMIT_S)
    return resigned_set_cookies(resigned, facts.cookie, names, scope, max_age_s, snapshot.keys)


def _with_bearer(head: ClientHead, authorization: str, keys: Keys, *, strips: bool) -> ClientHead:
    """The head as far as the upstream may see its Authorization header.

    The first of several counts, and is the only one that the app gets, so that it cannot read another one.  One that
    carries a session goes where the session's cookies go, under the current secret; any other is the app's business.
    """
    carried = bearer_token(authorization, keys)
    if carried is not None and strips:
        return head.with_authorization(None)
    if carried is not None and is_outdated(carried):
        return head.with_authorization(bearer_header(carried, keys))
    is_single = sum(name.lower() == b"authorization" for name, _ in head.kept) < 2
    return head if is_single else head.with_authorization(authorization.encode("latin-1"))
