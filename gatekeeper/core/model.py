"""The records that cross module borders, and the two vocabularies: `Access` and `Reason`.

Wire values: header names and values that are forwarded stay `bytes` as they came; values that are judged are
`str`, decoded as latin-1, so that no byte is lost.  Paths and queries are ASCII `str`.
Times: whole milliseconds since the epoch, named `*_ms`, since Better Auth's dates have exactly that precision;
durations are seconds.  The clock is always passed in.
"""

from enum import StrEnum
from typing import Any, Literal, NewType

import msgspec

SessionToken = NewType("SessionToken", str)
"""A session token whose signature has been verified.  Made only by `core.cookies`."""


class Access(StrEnum):
    """What a route asks for, from open to strict (design: access of a rule)."""

    PUBLIC = "public"
    PRESENCE = "presence"
    SESSION = "session"
    FRESH = "fresh"


class Reason(StrEnum):
    """Why a request was answered as it was: one vocabulary for answers, logs, metrics, `explain` and tests."""

    # allowed
    PUBLIC = "PUBLIC"
    PRESENCE = "PRESENCE"
    SESSION = "SESSION"
    PREFLIGHT = "PREFLIGHT"
    # no session, and why
    NO_COOKIE = "NO_COOKIE"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    SESSION_UNKNOWN = "SESSION_UNKNOWN"
    SESSION_EXPIRED = "SESSION_EXPIRED"
    USER_BANNED = "USER_BANNED"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    # a session, but not enough
    SESSION_NOT_FRESH = "SESSION_NOT_FRESH"
    EMAIL_NOT_VERIFIED = "EMAIL_NOT_VERIFIED"
    EMAIL_DOMAIN_REQUIRED = "EMAIL_DOMAIN_REQUIRED"
    TWO_FACTOR_REQUIRED = "TWO_FACTOR_REQUIRED"
    ROLE_REQUIRED = "ROLE_REQUIRED"
    ORGANIZATION_REQUIRED = "ORGANIZATION_REQUIRED"
    # refused whoever asks
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    PREFLIGHT_DENIED = "PREFLIGHT_DENIED"
    ENCODED_SLASH = "ENCODED_SLASH"
    SIGN_IN_LOOP = "SIGN_IN_LOOP"
    FOREIGN_ORIGIN = "FOREIGN_ORIGIN"
    NOT_FOUND = "NOT_FOUND"
    # malformed
    BAD_TARGET = "BAD_TARGET"
    BAD_METHOD = "BAD_METHOD"
    BAD_VERSION = "BAD_VERSION"
    BAD_HOST = "BAD_HOST"
    BAD_HEADER = "BAD_HEADER"
    BAD_FRAMING = "BAD_FRAMING"
    HEAD_TOO_LARGE = "HEAD_TOO_LARGE"
    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    BAD_UPGRADE = "BAD_UPGRADE"
    # too slow, too many
    HEAD_TIMEOUT = "HEAD_TIMEOUT"
    BODY_TIMEOUT = "BODY_TIMEOUT"
    TOO_MANY_CONNECTIONS = "TOO_MANY_CONNECTIONS"
    CLIENT_LEFT = "CLIENT_LEFT"
    CLIENT_STALLED = "CLIENT_STALLED"
    SESSION_ENDED = "SESSION_ENDED"
    GATE_STOPS = "GATE_STOPS"
    # the app behind, and ourselves
    UPSTREAM_REFUSED = "UPSTREAM_REFUSED"
    UPSTREAM_TIMEOUT = "UPSTREAM_TIMEOUT"
    UPSTREAM_PROTOCOL = "UPSTREAM_PROTOCOL"
    INTERNAL_ERROR = "INTERNAL_ERROR"


class AuthStatus(StrEnum):
    """The value of `X-Auth-Status`."""

    AUTHENTICATED = "authenticated"
    ANONYMOUS = "anonymous"
    UNKNOWN = "unknown"


ORGANIZATION_ID = "id:"
"""What stands before an organization's id where its slug could stand."""


class User(msgspec.Struct, frozen=True):
    """A user as Better Auth stores it; plugin columns are None where the table has none.

    `extra` holds the columns that `store.fields.user` declares, by their configured names.  `organizations` has the
    slug of each one that the user is a member of, and its id after ORGANIZATION_ID; it is empty where no rule asks,
    and the store was not either.  `present` names the plugin columns that the table has, as Better Auth calls them.
    """

    id: str
    name: str
    email: str
    email_verified: bool
    image: str | None
    created_at_ms: int
    updated_at_ms: int
    two_factor_enabled: bool | None = None
    role: str | None = None
    banned: bool = False
    ban_expires_ms: int | None = None
    extra: dict[str, Any] = {}
    organizations: frozenset[str] = frozenset()
    ban_reason: str | None = None
    present: tuple[str, ...] = ()


class Session(msgspec.Struct, frozen=True):
    """A session as Better Auth stores it.  `extra` as in `User`, from `store.fields.session`; `present`, too."""

    id: str
    token: str
    user_id: str
    expires_at_ms: int
    created_at_ms: int
    updated_at_ms: int
    ip_address: str | None
    user_agent: str | None
    impersonated_by: str | None = None
    active_organization_id: str | None = None
    extra: dict[str, Any] = {}
    present: tuple[str, ...] = ()


class SessionRecord(msgspec.Struct, frozen=True):
    """A session together with its user: what one store read yields."""

    session: Session
    user: User


class Require(msgspec.Struct, frozen=True):
    """Conditions on a verified user; all that are set must hold.

    `roles`, `email_domains` and `organizations` are tuples of alternatives that each must hold: two overlapping rules
    add one alternative each.
    """

    email_verified: bool = False
    two_factor: bool = False
    roles: tuple[frozenset[str], ...] = ()
    email_domains: tuple[frozenset[str], ...] = ()
    organizations: tuple[frozenset[str], ...] = ()


NO_CONDITION = Require()

Preflight = Literal["deny", "pass", "answer"]


class Rule(msgspec.Struct, frozen=True):
    """One entry of `protect` or `public`, as configured.

    `pattern` is the path pattern as written; `upstream` is a name from `upstreams`, or None for not named.
    `identity` says whether a public rule looks at the session ("optional") or not ("none").
    """

    pattern: str
    access: Access
    identity: Literal["none", "optional"] = "none"
    require: Require = NO_CONDITION
    methods: frozenset[str] | None = None
    preflight: Preflight = "deny"
    encoded_slash: Literal["reject", "pass"] = "reject"
    upstream: str | None = None


class Route(msgspec.Struct, frozen=True):
    """What holds for one request path: the rules that win there, folded into one.

    `name` says which rules these are, for logs, metrics and `explain`; `upstream` is "" for the default one.
    """

    name: str
    access: Access
    identity: Literal["none", "optional"]
    require: Require
    methods: frozenset[str] | None
    preflight: Preflight
    encoded_slash: Literal["reject", "pass"]
    upstream: str
    rules: tuple[Rule, ...] = ()


class Target(msgspec.Struct, frozen=True):
    """A request target after `core.urls.parse_target`: the one path of the request.

    `path` is canonical and begins with one slash; `query` is None without a `?`, else the untouched text after
    it.  `segments` are the path's segments decoded once (latin-1, for `public` rules); `folded` the same for
    `protect` rules: lower-case, `;…` and trailing dots and blanks removed, empty ones dropped.  `slash_reading`
    is set when the path holds an encoded slash: the target as a backend reads it that takes `%2F` for `/`.
    """

    path: str
    query: str | None
    segments: tuple[str, ...]
    folded: tuple[str, ...]
    slash_reading: "Target | None" = None

    @property
    def path_and_query(self) -> str:
        return self.path if self.query is None else f"{self.path}?{self.query}"


class RequestFacts(msgspec.Struct, frozen=True):
    """Everything about a request that a decision may look at.  Filled by `server.facts`, for every front end alike.

    `scheme`, `host` and `client_address` are the verified ones: from the socket, or from a trusted proxy.
    `cookie` joins several Cookie header lines with "; ".  Values that were not sent are None; of a repeated
    header the first counts.  `has_body` is true for a message with a body of unknown or positive length.
    """

    method: str
    target: Target
    scheme: str
    host: str
    client_address: str
    cookie: str | None = None
    accept: str | None = None
    authorization: str | None = None
    origin: str | None = None
    referer: str | None = None
    sec_fetch_mode: str | None = None
    sec_fetch_site: str | None = None
    access_control_request_method: str | None = None
    is_websocket: bool = False
    has_body: bool = False
    accept_language: str | None = None


class Identity(msgspec.Struct, frozen=True):
    """Who is asking, as forwarded: the record is there only when `status` is authenticated."""

    status: AuthStatus
    record: SessionRecord | None = None


ANONYMOUS = Identity(AuthStatus.ANONYMOUS)
UNKNOWN = Identity(AuthStatus.UNKNOWN)


class Allow(msgspec.Struct, frozen=True, tag=True):
    """Let the request through to the upstream as `identity`."""

    identity: Identity
    reason: Reason


class SignIn(msgspec.Struct, frozen=True, tag=True):
    """Send a page navigation to the sign-in page.

    `status` is 307 or 303; `return_to` a same-origin path and query; `redirects` counts this one among the
    recent redirects of the same path (loop breaker).
    """

    status: int
    return_to: str
    reason: Reason
    redirects: int = 1


class Deny(msgspec.Struct, frozen=True, tag=True):
    """Answer with an error.

    `return_to` is where sign-in should lead back to, on 401 only.  `allow` are the methods for a 405's Allow
    header.  `retry_after` is in seconds.  `cause` is the missing session's reason where `reason` itself is
    SIGN_IN_LOOP.
    """

    status: int
    reason: Reason
    return_to: str | None = None
    allow: tuple[str, ...] = ()
    retry_after: int | None = None
    cause: Reason | None = None


class AnswerPreflight(msgspec.Struct, frozen=True, tag=True):
    """Answer a CORS preflight ourselves (rule `preflight: answer`), 204 with CORS headers for trusted origins."""

    methods: tuple[str, ...]
    reason: Reason = Reason.PREFLIGHT


Decision = Allow | SignIn | Deny | AnswerPreflight
