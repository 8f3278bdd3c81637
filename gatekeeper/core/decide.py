"""The decision: one total function of the facts, for every front end.

Precedence, top to bottom; the first line that applies answers:

1. a method that no rule may open (TRACE, CONNECT);
2. a CORS preflight, where the rule says `pass` or `answer`;
3. a public route: open, with the identity if the rule asks for it and the store can tell;
4. a `presence` route: the cookie is there, or sign in;
5. a store that cannot answer: 503, since unknown means neither yes nor "sign in again";
6. no live session: sign in (pages), 401 (programs);
7. a WebSocket handshake from a foreign origin: 403;
8. a method that the rule does not list: 405;
9. a session that is not fresh where that is asked: 403;
10. a condition on the user that does not hold: 403.

`now` and the outcome of the session look-up are passed in: nothing here waits, reads a clock or logs.
"""

import msgspec

from gatekeeper.core.loop import read_redirects
from gatekeeper.core.model import (
    ANONYMOUS,
    NO_CONDITION,
    UNKNOWN,
    Access,
    Allow,
    AnswerPreflight,
    AuthStatus,
    Decision,
    Deny,
    Identity,
    Reason,
    RequestFacts,
    Route,
    SessionRecord,
    SignIn,
)
from gatekeeper.core.negotiation import prefers_page
from gatekeeper.core.policy import fault_of, is_fresh, unmet_condition
from gatekeeper.core.urls import callback_for, callback_from_referer, is_on_origin

RETRY_AFTER_S = 5
"""Seconds that a client is asked to wait when the session store cannot answer."""

MAX_REDIRECTS = 2
"""Redirects of one path within the loop breaker's time; the next one is answered with a page instead."""

_REFUSED_METHODS = frozenset({"TRACE", "CONNECT"})
_USUAL_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


class Policy(msgspec.Struct, frozen=True):
    """The settings that a decision depends on beside its route.

    `public_origin` is the origin of `public_url`, or None: then the scheme and Host that the request came with
    count as the own origin.  `websocket_origins` may open WebSockets beside the own origin, and so may clients that
    send no Origin, if `websocket_no_origin` says so.
    """

    fresh_age_s: float
    public_origin: str | None = None
    websocket_origins: frozenset[str] = frozenset()
    websocket_no_origin: bool = True

    def own_origin(self, facts: RequestFacts) -> str:
        return self.public_origin or f"{facts.scheme}://{facts.host}"

    def refuses_websocket(self, facts: RequestFacts) -> bool:
        """Whether this is a WebSocket handshake that another site may have made a visitor's browser send."""
        if not facts.is_websocket:
            return False
        if facts.origin is None:
            return not self.websocket_no_origin
        return facts.origin not in self.websocket_origins and facts.origin.lower() != self.own_origin(facts).lower()


def needs_session(route: Route) -> bool:
    """Whether the decision on this route looks at the session itself, not only at the cookie's presence."""
    if route.access is Access.PUBLIC:
        return route.identity == "optional"
    return route.access is not Access.PRESENCE or route.require != NO_CONDITION


def decide(
    facts: RequestFacts,
    route: Route,
    record: SessionRecord | None,
    missing: Reason | None,
    policy: Policy,
    *,
    now_ms: int,
) -> Decision:
    """What to do with this request.

    `record` is what the look-up found, live or not; `missing` says why there is none: NO_COOKIE, BAD_SIGNATURE,
    SESSION_UNKNOWN or STORE_UNAVAILABLE.  On a `presence` route, and on a public one without identity, `missing` is
    NO_COOKIE or None and says only whether the cookie is there.
    """
    if facts.method in _REFUSED_METHODS:
        return Deny(405, Reason.METHOD_NOT_ALLOWED, allow=_USUAL_METHODS)
    if is_preflight(facts) and route.access is not Access.PUBLIC and route.preflight != "deny":
        if route.preflight == "answer":
            return AnswerPreflight(tuple(sorted(_USUAL_METHODS if route.methods is None else route.methods)))
        return Allow(ANONYMOUS, Reason.PREFLIGHT)
    if record is not None:
        missing = fault_of(record, now_ms)
    if route.access is Access.PUBLIC:
        return Allow(_optional_identity(facts, route, record, missing, policy), Reason.PUBLIC)
    if not needs_session(route):
        return (
            _refuse_anonymous(facts, missing, policy, now_ms) if missing else _check_request(facts, route, None, policy)
        )
    if record is None or missing is not None:
        return _refuse_anonymous(facts, missing or Reason.SESSION_UNKNOWN, policy, now_ms)
    return _judge(facts, route, record, policy, now_ms)


def is_preflight(facts: RequestFacts) -> bool:
    """Whether this is a CORS preflight as browsers send it, without body and credentials (Fetch, CORS-preflight)."""
    return (
        facts.method == "OPTIONS"
        and facts.origin is not None
        and facts.access_control_request_method is not None
        and not facts.has_body
        and facts.cookie is None
        and facts.authorization is None
    )


def wants_page(facts: RequestFacts) -> bool:
    """Whether a person waits for a page (see `core.negotiation`).  Never for a WebSocket handshake."""
    return not facts.is_websocket and prefers_page(facts.sec_fetch_mode, facts.accept)


def _optional_identity(
    facts: RequestFacts, route: Route, record: SessionRecord | None, missing: Reason | None, policy: Policy
) -> Identity:
    if route.identity == "none" or policy.refuses_websocket(facts):
        return ANONYMOUS
    if missing is Reason.STORE_UNAVAILABLE:
        return UNKNOWN
    return ANONYMOUS if record is None or missing else Identity(AuthStatus.AUTHENTICATED, record)


def _refuse_anonymous(facts: RequestFacts, missing: Reason, policy: Policy, now_ms: int) -> Decision:
    if missing is Reason.STORE_UNAVAILABLE:
        return Deny(503, missing, retry_after=RETRY_AFTER_S)
    return_to = _return_to(facts, policy)
    if not wants_page(facts):
        return Deny(401, missing, return_to=return_to)
    redirects = read_redirects(facts.cookie, facts.target.path, now_ms)
    if redirects >= MAX_REDIRECTS:
        return Deny(401, Reason.SIGN_IN_LOOP, return_to=return_to, cause=missing)
    status = 307 if facts.method in ("GET", "HEAD") else 303
    return SignIn(status, return_to, missing, redirects + 1)


def _judge(facts: RequestFacts, route: Route, record: SessionRecord, policy: Policy, now_ms: int) -> Decision:
    allowed = _check_request(facts, route, record, policy)
    if isinstance(allowed, Deny):
        return allowed
    if route.access is Access.FRESH and not is_fresh(record, policy.fresh_age_s, now_ms):
        return Deny(403, Reason.SESSION_NOT_FRESH)
    unmet = unmet_condition(route.require, record.user)
    return allowed if unmet is None else Deny(403, unmet)


def _check_request(facts: RequestFacts, route: Route, record: SessionRecord | None, policy: Policy) -> Allow | Deny:
    if policy.refuses_websocket(facts):
        return Deny(403, Reason.FOREIGN_ORIGIN)
    method = "GET" if facts.method == "HEAD" else facts.method
    if route.methods is not None and not route.methods & {method, facts.method}:
        return Deny(405, Reason.METHOD_NOT_ALLOWED, allow=tuple(sorted(route.methods)))
    if record is None:
        return Allow(ANONYMOUS, Reason.PRESENCE)
    return Allow(Identity(AuthStatus.AUTHENTICATED, record), Reason.SESSION)


def _return_to(facts: RequestFacts, policy: Policy) -> str:
    """The page to come back to: the one asked for, or the one that a form was sent from."""
    own_origin = policy.own_origin(facts)
    if facts.method not in ("GET", "HEAD") and facts.referer is not None and is_on_origin(facts.referer, own_origin):
        return callback_from_referer(facts.referer, own_origin)
    return callback_for(facts.target)
