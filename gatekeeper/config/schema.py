"""The configuration's shape: every setting with its default and one line on what it means.

The names are the contract.  Durations are seconds (`Duration`), sizes bytes (`Size`); `load` reads `5m` and `64KiB`.
Short forms of the YAML (`upstream: http://…`) are long forms here.  The text of each `Annotated` is what
`gatekeeper schema` and the documentation say of the setting.
"""

from typing import Annotated, Literal, NewType

import msgspec

Duration = NewType("Duration", float)
"""Seconds; written as `250ms`, `5s`, `5m`, `1h`, `2d`, `1w`."""

Size = NewType("Size", int)
"""Bytes; written as `4096`, `64KiB`, `10MB`."""


MOST_WORKERS = 256


class Rate(msgspec.Struct, frozen=True):
    """So many in so many seconds; written as `5/1m`."""

    count: int
    per: Duration


class Tls(msgspec.Struct, frozen=True):
    cert: Annotated[str, "File of the certificate chain, PEM."]
    key: Annotated[str, "File of the private key, PEM."]


class UpstreamTls(msgspec.Struct, frozen=True):
    ca: Annotated[str | None, "File of the authorities to trust, PEM; the system's without it."] = None
    cert: Annotated[str | None, "File of the client certificate, PEM."] = None
    key: Annotated[str | None, "File of the client certificate's key, PEM."] = None


class Upstream(msgspec.Struct, frozen=True):
    url: Annotated[str, "Where the app listens: scheme, host and port."]
    connect_timeout: Annotated[Duration, "How long opening a connection may take."] = Duration(5.0)
    response_timeout: Annotated[Duration, "How long the app may take until it begins to answer."] = Duration(60.0)
    idle_timeout: Annotated[Duration, "How long an answer may pause, and an unused connection stay open."] = Duration(
        300
    )
    max_connections: Annotated[
        int, "Connections to the app at the same time, besides streams; divided among the workers."
    ] = 256
    tls: Annotated[UpstreamTls | None, "Certificates for an https upstream."] = None


class Secret(msgspec.Struct, frozen=True):
    version: Annotated[int, "A number of your choice that no other secret has."]
    value: Annotated[str, "The secret itself."]

    def __repr__(self) -> str:
        return f"Secret(version={self.version})"


class Accounts(msgspec.Struct, frozen=True):
    enabled: Annotated[bool, "Accounts mode: the gate keeps accounts and sessions itself."] = False
    base_path: Annotated[str, "Where the account calls live."] = "/api/auth"
    sign_up: Annotated[bool, "Whether visitors may make accounts."] = False
    min_password_length: Annotated[int, "The shortest password that is accepted."] = 8
    smtp: Annotated[str | None, "Where mail goes: smtp://user:password@host:587?from=no-reply@example.com."] = None


class Branding(msgspec.Struct, frozen=True):
    name: Annotated[str | None, "What pages and mails call the site; mails the host of public_url without it."] = None
    logo: Annotated[str | None, "File of the logo: SVG, PNG, JPEG or WebP, at most 512 KiB."] = None
    accent: Annotated[str | None, "Accent colour, #rrggbb in quotes; lightened or darkened to be readable."] = None


class Cookie(msgspec.Struct, frozen=True):
    prefix: Annotated[str, "Better Auth's cookiePrefix."] = "better-auth"
    secure: Annotated[
        Literal["auto"] | bool, "`__Secure-` names and Secure cookies; auto: where public_url is https."
    ] = "auto"
    domain: Annotated[str | None, "Domain of the cookies, for sessions across subdomains."] = None
    same_site: Annotated[Literal["lax", "strict", "none"], "SameSite of the cookies that the gate sets."] = "lax"


class CookieCache(msgspec.Struct, frozen=True):
    enabled: Annotated[bool, "Whether `session_data` cookies are read, and with `extend: gate` written."] = True
    max_age: Annotated[Duration, "How old a `session_data` cookie may be: the app's cookieCache.maxAge."] = Duration(
        300
    )
    strategy: Annotated[Literal["compact", "jwt", "jwe"], "Better Auth's cookieCache.strategy."] = "compact"
    version: Annotated[str, "Better Auth's cookieCache.version."] = "1"


class MemoryCache(msgspec.Struct, frozen=True):
    max_age: Annotated[
        Duration, "How long a session is believed from memory; 1 s at most while no feed tells of revocations."
    ] = Duration(300)
    entries: Annotated[int, "Sessions in memory, of each worker."] = 100_000


class SessionSettings(msgspec.Struct, frozen=True):
    expires_in: Annotated[Duration, "How long a session lives: the app's session.expiresIn."] = Duration(172_800)
    update_age: Annotated[Duration, "How often a used session is extended: the app's session.updateAge."] = Duration(
        86_400
    )
    fresh_age: Annotated[Duration, "How long after signing in a session counts as fresh; 0 turns the check off."] = (
        Duration(86_400)
    )
    cookie: Annotated[Cookie, "How session cookies are called."] = Cookie()
    cookie_cache: Annotated[CookieCache, "The signed cookie that holds a copy of the session."] = CookieCache()
    memory_cache: Annotated[MemoryCache, "Sessions kept in memory."] = MemoryCache()
    extend: Annotated[Literal["app", "gate"], "Who extends sessions in companion mode."] = "app"
    serve_get_session: Annotated[bool, "Whether the gate answers the browser client's get-session."] = False
    bearer: Annotated[
        Literal["none", "signed"], "Whether `Authorization: Bearer <token.signature>` counts as a session."
    ] = "none"
    stale_if_error: Annotated[
        Duration, "How much longer a session is believed while the store is down, even one that was revoked meanwhile."
    ] = Duration(0)


class Tables(msgspec.Struct, frozen=True):
    session: Annotated[str, "The table of sessions."] = "session"
    user: Annotated[str, "The table of users."] = "user"
    member: Annotated[str, "The table of memberships; read where a rule requires organizations."] = "member"
    organization: Annotated[str, "The table of organizations; read where a rule requires them."] = "organization"


class Columns(msgspec.Struct, frozen=True):
    session: Annotated[dict[str, str], "Column names that differ: `expiresAt: expires_at`."] = {}
    user: Annotated[dict[str, str], "Column names that differ: `emailVerified: email_verified`."] = {}
    member: Annotated[dict[str, str], "Column names that differ: `organizationId: organization_id`."] = {}
    organization: Annotated[dict[str, str], "Column names that differ."] = {}


class Fields(msgspec.Struct, frozen=True):
    user: Annotated[tuple[str, ...], "Further columns of the user; a missing one is an error."] = ()
    session: Annotated[tuple[str, ...], "Further columns of the session; a missing one is an error."] = ()


class Store(msgspec.Struct, frozen=True):
    url: Annotated[
        str,
        "Where sessions are: sqlite:///auth.db, postgresql://…, mysql://…, redis://…, or http://app/api/auth.",
    ]
    tables: Annotated[Tables, "How Better Auth's tables are called."] = Tables()
    columns: Annotated[Columns, "How their columns are called, where the names differ."] = Columns()
    fields: Annotated[Fields, "Further columns to read."] = Fields()
    secondary: Annotated[str | None, "Better Auth's secondary storage in front of the database: redis://…."] = None
    pool: Annotated[int, "Connections to the store; divided among the workers."] = 10


class RequireSettings(msgspec.Struct, frozen=True):
    email_verified: Annotated[bool, "The user's e-mail address is verified."] = False
    two_factor: Annotated[bool, "The user has two-factor authentication on."] = False
    roles: Annotated[tuple[str, ...], "The user has one of these roles."] = ()
    email_domains: Annotated[tuple[str, ...], "The user's verified address is in one of these domains."] = ()
    organizations: Annotated[
        tuple[str, ...], "The user is a member of one of these, each a slug or `id:` and an id."
    ] = ()


class ProtectRule(msgspec.Struct, frozen=True):
    path: Annotated[str, "The path pattern: whole segments, `*` for one segment or any characters inside one."]
    access: Annotated[Literal["presence", "session", "fresh"], "What is asked for."] = "session"
    require: Annotated[RequireSettings, "Conditions on the user."] = RequireSettings()
    upstream: Annotated[str | None, "The name of the upstream that serves this path."] = None
    methods: Annotated[tuple[str, ...] | None, "The methods that are allowed; all without it."] = None
    preflight: Annotated[Literal["deny", "pass", "answer"], "What happens to CORS preflights."] = "deny"
    encoded_slash: Annotated[Literal["reject", "pass"], "What happens to paths with an encoded slash."] = "reject"


class PublicRule(msgspec.Struct, frozen=True):
    path: Annotated[str, "The path pattern; `/` is the root page alone."]
    identity: Annotated[Literal["none", "optional"], "Whether the app learns who asks, where there is a session."] = (
        "none"
    )
    upstream: Annotated[str | None, "The name of the upstream that serves this path."] = None
    encoded_slash: Annotated[Literal["reject", "pass"], "What happens to paths with an encoded slash."] = "reject"


class Assertion(msgspec.Struct, frozen=True):
    enabled: Annotated[bool, "Whether a signed assertion is sent to the app; it needs public_url."] = True
    keys: Annotated[
        str | None,
        "The folder of the signing keys, relative to this file; `gatekeeper-keys` beside it unless said, or a key in "
        "memory where that cannot be made. Replicas must share it.",
    ] = None
    algorithm: Annotated[Literal["ES256", "EdDSA", "RS256"], "How it is signed; new keys are for this one."] = "ES256"
    ttl: Annotated[Duration, "How long it is valid: 10 seconds to 5 minutes."] = Duration(120)


class IdentitySettings(msgspec.Struct, frozen=True):
    headers: Annotated[
        Literal["gatekeeper", "remote-user", "x-forwarded", "x-auth-request", "pomerium"], "Which set of header names."
    ] = "gatekeeper"
    rename: Annotated[dict[str, str], "Other names for single headers, or empty for none: `X-Auth-Email: X-Mail`."] = {}
    strip_session_cookies: Annotated[
        Literal["auto"] | bool,
        "Whether session cookies are kept from the app; auto: in accounts mode, and from named upstreams.",
    ] = "auto"
    assertion: Annotated[Assertion, "The signed assertion."] = Assertion()


class ForwardAuth(msgspec.Struct, frozen=True):
    enabled: Annotated[bool, "Whether check endpoints answer trusted proxies."] = True
    envoy_grpc: Annotated[str | None, "Address of the gRPC listener for Envoy."] = None


class WebSocket(msgspec.Struct, frozen=True):
    origins: Annotated[tuple[str, ...], "Origins that may open WebSockets; the own one always may."] = ()
    allow_no_origin: Annotated[bool, "Whether clients that send no Origin may open WebSockets."] = True


class Limits(msgspec.Struct, frozen=True):
    header_bytes: Annotated[Size, "The longest request head."] = Size(65_536)
    body_bytes: Annotated[Size | None, "The longest request body; no limit without it."] = None
    connections: Annotated[int | None, "Client connections at the same time, of all workers; null is off."] = 10_000
    per_address: Annotated[int | None, "Client connections of one address; null is off."] = 500
    sign_in_attempts: Annotated[Rate, "Tries of a password, of one address and of one account."] = Rate(5, Duration(60))


class Timeouts(msgspec.Struct, frozen=True):
    headers: Annotated[Duration, "How long a request head may take."] = Duration(10)
    keep_alive: Annotated[Duration, "How long an idle client connection is kept."] = Duration(75)
    body_idle: Annotated[Duration, "How long a request body may pause."] = Duration(60)
    drain: Annotated[Duration, "How long requests may take to finish at the end."] = Duration(30)
    drain_delay: Annotated[Duration, "How long the gate goes on after the signal to stop."] = Duration(5)


class Admin(msgspec.Struct, frozen=True):
    listen: Annotated[
        str | None, "Where health, metrics and the keys of assertions are served: host:port or unix:/path; null is off."
    ] = "127.0.0.1:9091"
    token: Annotated[str | None, "The token of the admin page."] = None


class Log(msgspec.Struct, frozen=True):
    format: Annotated[Literal["auto", "human", "json"], "auto: for people on a terminal, else JSON."] = "auto"
    access: Annotated[bool, "Whether each request is logged."] = True
    level: Annotated[Literal["debug", "info", "warning", "error"], "What is logged."] = "info"
    file: Annotated[str | None, "File that the log goes to, relative to this one; standard error without it."] = None


class Settings(msgspec.Struct, frozen=True):
    upstream: Annotated[Upstream, "The app behind the gate."]
    secrets: Annotated[
        tuple[Secret, ...], "Several secrets, the current one first; older ones verify session_token only."
    ]
    store: Annotated[Store, "Where sessions are kept."]
    listen: Annotated[str, "The address to listen on."] = "0.0.0.0:8080"
    public_url: Annotated[str | None, "The app's address as visitors see it."] = None
    workers: Annotated[
        Literal["auto"] | int, "Processes that serve, 1 to 256; auto: one for each core that the gate may use."
    ] = 1
    tls: Annotated[Tls | None, "Certificates of the listener."] = None
    upstreams: Annotated[dict[str, Upstream], "Further apps, by name; a rule may send its paths there."] = {}
    accounts: Annotated[Accounts, "Accounts mode."] = Accounts()
    branding: Annotated[Branding, "How the gate's pages look."] = Branding()
    session: Annotated[SessionSettings, "Sessions and their cookies."] = SessionSettings()
    sign_in: Annotated[str, "The sign-in page: a path, or an absolute URL of a trusted origin."] = "/sign-in"
    keep_fragment: Annotated[bool, "Whether a page with a script carries `#…` to the app's sign-in page."] = False
    trusted_origins: Annotated[tuple[str, ...], "Origins whose scripts may read the gate's answers."] = ()
    default: Annotated[Literal["public", "session"], "What holds where no rule does."] = "public"
    protect: Annotated[tuple[ProtectRule, ...], "What only signed-in people may see."] = ()
    public: Annotated[tuple[PublicRule, ...], "What stays open inside of that."] = ()
    identity: Annotated[IdentitySettings, "What the app is told about the user."] = IdentitySettings()
    forward_auth: Annotated[ForwardAuth, "The check endpoints for other proxies."] = ForwardAuth()
    trusted_proxies: Annotated[
        tuple[str, ...], "Addresses and networks whose forwarding headers are believed; or `unix`."
    ] = ()
    websocket: Annotated[WebSocket, "WebSockets."] = WebSocket()
    limits: Annotated[Limits, "Limits."] = Limits()
    timeouts: Annotated[Timeouts, "Time limits."] = Timeouts()
    admin: Annotated[Admin, "The admin listener."] = Admin()
    log: Annotated[Log, "Logging."] = Log()


SHORT_FORMS: dict[type[msgspec.Struct], str] = {Upstream: "url", Store: "url", ProtectRule: "path", PublicRule: "path"}
"""Which setting a plain text stands for, where a mapping is expected."""

SENSITIVE = frozenset({"secret", "secrets", "store", "accounts", "admin"})
"""Sections that hold a secret or a URL with a password: no problem quotes what stands there."""

WORD_HINTS: dict[tuple[str, str], str] = {
    ("protect[].access", "public"): "list the path under `public:` instead",
}
"""What to do about words that are wrong at one setting, but make sense."""

KEY_HINTS: dict[str, str] = {
    "public[].access": "a path that asks for something belongs under `protect:`",
    "public[].require": "a path that asks for something belongs under `protect:`",
    "public[].methods": "methods are a matter of `protect:`",
}
"""The same for settings that are wrong in one place."""
