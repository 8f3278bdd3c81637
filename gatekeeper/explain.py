"""Why a request is answered as it is: the gate's own functions, asked about a made-up request.

Nothing here decides.  The request is parsed, routed and admitted by what serves real requests; this module only says
in words what they found.  No cookie or token is printed.
"""

import re

from gatekeeper.config.schema import Settings
from gatekeeper.core.assertion import audience_of
from gatekeeper.core.cookies import find_cookie, find_session_data, verify_token
from gatekeeper.core.identity import identity_headers
from gatekeeper.core.model import (
    NO_CONDITION,
    Access,
    Allow,
    AnswerPreflight,
    Decision,
    Deny,
    Reason,
    Require,
    Route,
    SignIn,
)
from gatekeeper.core.routing import match_route
from gatekeeper.core.session_data import SessionDataFault, decode
from gatekeeper.core.urls import origin_of
from gatekeeper.server.app import open_gate
from gatekeeper.server.facts import Parsed, read_request
from gatekeeper.server.gate import Admission, Gate
from gatekeeper.server.pages import answer
from gatekeeper.server.portal import owns

Explanation = list[tuple[str, str]]
"""Name and text of each line, in reading order."""

_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE)

MEANINGS = {
    Reason.PUBLIC: "the path is public",
    Reason.PRESENCE: "the rule asks only for the cookie's presence",
    Reason.SESSION: "a live session, verified",
    Reason.PREFLIGHT: "a CORS preflight, let through by the rule",
    Reason.NO_COOKIE: "no session cookie was sent",
    Reason.BAD_SIGNATURE: "the session cookie's signature does not fit any configured secret",
    Reason.SESSION_UNKNOWN: "the signature is right, but the store has no such session",
    Reason.SESSION_EXPIRED: "the session has expired",
    Reason.USER_BANNED: "the session's user is banned",
    Reason.STORE_UNAVAILABLE: "the session store cannot be asked",
    Reason.SESSION_NOT_FRESH: "the person signed in longer ago than session.fresh_age",
    Reason.EMAIL_NOT_VERIFIED: "the rule requires a verified e-mail address",
    Reason.EMAIL_DOMAIN_REQUIRED: "the rule requires another e-mail domain",
    Reason.TWO_FACTOR_REQUIRED: "the rule requires that the user has two-factor authentication on",
    Reason.ROLE_REQUIRED: "the rule requires a role that the user does not have",
    Reason.ORGANIZATION_REQUIRED: "the rule requires an organization that the user is not a member of",
    Reason.METHOD_NOT_ALLOWED: "the rule's methods do not list this one, or no rule may open it",
    Reason.PREFLIGHT_DENIED: "a CORS preflight from an origin that is not trusted",
    Reason.ENCODED_SLASH: "the path has an encoded slash, and its rule does not let that pass",
    Reason.SIGN_IN_LOOP: "the third redirect of this path within 30 s",
    Reason.FOREIGN_ORIGIN: "the request comes from another origin",
    Reason.NOT_FOUND: "the gate has no such page of its own",
    Reason.BAD_TARGET: "the request target is malformed, or two apps could read it differently",
    Reason.BAD_METHOD: "the method is none that HTTP knows",
    Reason.BAD_VERSION: "the request is neither HTTP/1.1 nor HTTP/1.0",
    Reason.BAD_HOST: "Host is missing, doubled or malformed",
    Reason.BAD_HEADER: "a header is malformed",
    Reason.BAD_FRAMING: "the length of the body is unclear",
    Reason.HEAD_TOO_LARGE: "the request head is longer than limits.header_bytes",
    Reason.BODY_TOO_LARGE: "the body is longer than limits.body_bytes",
    Reason.BAD_UPGRADE: "a WebSocket handshake that is malformed or has a body",
    Reason.HEAD_TIMEOUT: "the request head was not complete within timeouts.headers",
    Reason.BODY_TIMEOUT: "the request body paused for longer than timeouts.body_idle, or came too slowly",
    Reason.TOO_MANY_CONNECTIONS: "there are limits.connections, or limits.per_address, connections already",
    Reason.CLIENT_LEFT: "the client left before its answer was complete",
    Reason.CLIENT_STALLED: "the client did not take its answer",
    Reason.SESSION_ENDED: "the session of this stream ended",
    Reason.GATE_STOPS: "the gate was told to stop, and this stream with it",
    Reason.UPSTREAM_REFUSED: "no connection to the app could be opened",
    Reason.UPSTREAM_TIMEOUT: "the app did not answer in time",
    Reason.UPSTREAM_PROTOCOL: "the app's answer broke HTTP, or off",
    Reason.INTERNAL_ERROR: "an unforeseen error, which the log has",
}


async def explain_request(
    settings: Settings, method: str, url: str, cookie: str | None, headers: tuple[str, ...]
) -> Explanation:
    """What the gate does with this request.  Raises ValueError for a header or URL that is none."""
    async with open_gate(settings) as gate:
        host, target = _split_url(url, gate)
        fields = [(b"Host", host.encode()), *map(_header, headers)]
        if cookie:
            fields.append((b"Cookie", cookie.encode("latin-1", "replace")))
        if not any(name.lower() in (b"accept", b"sec-fetch-mode") for name, _ in fields):
            fields.append((b"Accept", b"text/html"))
        parsed = read_request(
            method.upper(),
            target,
            fields,
            http_1_0=False,
            peer="127.0.0.1",
            scheme="http",
            trusted=gate.runtime.snapshot.trusted,
            default_host=host,
            head_limit=settings.limits.header_bytes,
            own=gate.runtime.snapshot.own_names,
        )
        if isinstance(parsed, Reason):
            return [("request", f"{method.upper()} {target}"), *_verdict("refused: 400", parsed)]
        return await _explain(settings, gate, parsed)


async def _explain(settings: Settings, gate: Gate, parsed: Parsed) -> Explanation:
    facts, target = parsed.facts, parsed.facts.target
    lines = [("request", f"{facts.method} {target.path_and_query}")]
    if target.folded:
        lines.append(("read as", "/" + "/".join(target.folded) + " (by rules under protect)"))
    if target.slash_reading is not None:
        lines.append(("or as", target.slash_reading.path + " (encoded slashes taken for slashes)"))
    if owns(target, gate.runtime.snapshot.own_paths):
        return [*lines, ("rule", "the gate's own path, never forwarded"), ("decision", "answered by the gate")]
    route = match_route(gate.runtime.snapshot.table, target)
    if isinstance(route, Route):
        lines += _describe_route(route)
    lines += _describe_cookies(settings, gate, facts.cookie)
    admission = await gate.admit(facts)
    return lines + _describe_decision(gate, parsed, admission)


def _describe_route(route: Route) -> Explanation:
    lines = [("rule", "none: the default holds" if not route.rules else route.name), ("access", route.access.value)]
    if route.access is Access.PUBLIC:
        lines.append(("identity", route.identity))
    if route.require != NO_CONDITION:
        lines.append(("requires", _describe_require(route.require)))
    if route.methods is not None:
        lines.append(("methods", ", ".join(sorted(route.methods))))
    if route.upstream:
        lines.append(("upstream", route.upstream))
    return lines


def _describe_require(require: Require) -> str:
    parts = [name for name in ("email_verified", "two_factor") if getattr(require, name)]
    parts += ["roles " + " or ".join(sorted(roles)) for roles in require.roles]
    parts += ["e-mail domain " + " or ".join(sorted(domains)) for domains in require.email_domains]
    parts += ["organization " + " or ".join(sorted(names)) for names in require.organizations]
    return " and ".join(parts)


def _describe_cookies(settings: Settings, gate: Gate, header: str | None) -> Explanation:
    snapshot = gate.runtime.snapshot
    names = snapshot.cookies
    raw = find_cookie(header, names.session_token)
    if not raw:
        return [("cookie", f"{names.session_token}: not sent")]
    verified = verify_token(raw, snapshot.keys)
    if verified is None:
        return [("cookie", f"{names.session_token}: {MEANINGS[Reason.BAD_SIGNATURE]}")]
    which = "the current secret" if verified.key_index == 0 else f"older secret number {verified.key_index}"
    lines = [("cookie", f"{names.session_token}: signed with {which}")]
    data = find_session_data(header, names.session_data)
    if data:
        lines.append(("session_data", _describe_data(settings, gate, data, verified.token)))
    return lines


def _describe_data(settings: Settings, gate: Gate, raw: str, token: str) -> str:
    cache = settings.session.cookie_cache
    found = decode(raw, gate.runtime.snapshot.keys, strategy=cache.strategy, version=cache.version, now_ms=gate.clock())
    if isinstance(found, SessionDataFault):
        return f"not usable: {found.value}"
    if found.record.session.token != token:
        return "not usable: it is of another session"
    age = (gate.clock() - found.updated_at_ms) / 1000
    return f"usable, {age:.0f} s old, of user {found.record.user.id} (read, but not used to decide)"


def _describe_decision(gate: Gate, parsed: Parsed, admission: Admission) -> Explanation:
    decision: Decision = admission.decision
    if isinstance(decision, Allow):
        lines = _verdict(f"allowed as {decision.identity.status.value}", decision.reason)
        snapshot, route = gate.runtime.snapshot, admission.route
        headers = identity_headers(decision.identity, snapshot.names)
        lines += [("header", f"{name}: {value}") for name, value in headers.items()]
        if snapshot.terms is not None and route is not None and decision.identity.record is not None:
            audience = audience_of(snapshot.terms, route.upstream)
            lines.append(("header", f"{snapshot.names.assertion}: signed for {audience}, {snapshot.terms.ttl_s} s"))
        return lines
    rendered = answer(decision, parsed.facts, gate.pages, now_ms=gate.clock())
    location = dict(rendered.headers).get(b"Location")
    match decision:
        case SignIn():
            return _verdict(f"sign in: {rendered.status} to {(location or b'').decode()}", decision.reason)
        case Deny():
            return _verdict(f"refused: {rendered.status}", decision.reason)
        case AnswerPreflight():
            return _verdict(f"preflight answered: {rendered.status}", decision.reason)


def _verdict(decision: str, reason: Reason) -> Explanation:
    return [("decision", decision), ("reason", f"{reason.value}: {MEANINGS[reason]}")]


def _split_url(url: str, gate: Gate) -> tuple[str, str]:
    absolute = _ABSOLUTE.fullmatch(url)
    if absolute is not None:
        path = absolute[2]
        return absolute[1], path if path.startswith("/") else "/" + path
    origin = gate.runtime.snapshot.policy.public_origin or origin_of("http://localhost")
    return (origin or "").partition("://")[2], url


def _header(text: str) -> tuple[bytes, bytes]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError(f"--header takes 'NAME: VALUE', not {text!r}")
    if name.strip().lower() == "cookie":
        raise ValueError("give the Cookie header on standard input with --cookie -, as arguments leak")
    return name.strip().encode(), value.strip().encode("latin-1", "replace")
