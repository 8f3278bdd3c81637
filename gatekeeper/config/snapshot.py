"""Settings as the request path uses them: compiled once, immutable, one generation."""

from urllib.parse import urlsplit

import msgspec

from gatekeeper.config.rules import rules_of
from gatekeeper.config.schema import Settings
from gatekeeper.core.cookies import MAX_AGE_LIMIT_S, CookieAttributes, CookieNames, Keys, cookie_names
from gatekeeper.core.decide import Policy
from gatekeeper.core.forwarding import TrustedProxies
from gatekeeper.core.model import Access
from gatekeeper.core.routing import RouteTable, compile_rules
from gatekeeper.core.urls import origin_of


class GetSession(msgspec.Struct, frozen=True):
    """How the app's get-session is answered in its stead: where, and when a session is due for the app to extend it.

    `base_path` ends with a slash: everything below are the app's account calls.
    """

    base_path: str
    expires_in_s: float
    update_age_s: float

    @property
    def path(self) -> str:
        return f"{self.base_path}get-session"


class Snapshot(msgspec.Struct, frozen=True):
    """What one configuration means for a request.

    `bearer`: an Authorization header may carry a session.  `cookie_attributes` are those of the cookies that the gate
    sets.  `get_session` is None where the app answers it; `get_session_path` is its path, or else "".
    """

    table: RouteTable
    keys: Keys
    cookies: CookieNames
    cookie_attributes: CookieAttributes
    bearer: bool
    get_session: GetSession | None
    get_session_path: str
    policy: Policy
    trusted: TrustedProxies
    default_host: str
    secure_cookies: bool
    strip_session_cookies: bool | None
    head_bytes: int
    body_bytes: int | None


def compile_settings(settings: Settings) -> Snapshot:
    """The snapshot of settings that `config.load` has found without problems."""
    secure = uses_secure_cookies(settings)
    strip = settings.identity.strip_session_cookies
    get_session = _get_session(settings)
    return Snapshot(
        table=compile_rules(rules_of(settings), Access(settings.default)),
        keys=Keys([secret.value for secret in settings.secrets]),
        cookies=cookie_names(settings.session.cookie.prefix, secure=secure),
        cookie_attributes=CookieAttributes(
            max_age_s=min(int(settings.session.expires_in), MAX_AGE_LIMIT_S),
            domain=settings.session.cookie.domain,
            secure=secure,
            same_site=settings.session.cookie.same_site,
        ),
        bearer=settings.session.bearer == "signed",
        get_session=get_session,
        get_session_path="" if get_session is None else get_session.path,
        policy=Policy(
            fresh_age_s=settings.session.fresh_age,
            public_origin=origin_of(settings.public_url) if settings.public_url else None,
            websocket_origins=frozenset(settings.websocket.origins),
            websocket_no_origin=settings.websocket.allow_no_origin,
        ),
        trusted=TrustedProxies(settings.trusted_proxies),
        default_host=urlsplit(settings.public_url or settings.upstream.url).netloc,
        secure_cookies=secure,
        strip_session_cookies=None if strip == "auto" else strip,
        head_bytes=settings.limits.header_bytes,
        body_bytes=settings.limits.body_bytes,
    )


def _get_session(settings: Settings) -> GetSession | None:
    if not settings.session.serve_get_session:
        return None
    base_path = settings.accounts.base_path.rstrip("/") + "/"
    return GetSession(base_path, settings.session.expires_in, settings.session.update_age)


def uses_secure_cookies(settings: Settings) -> bool:
    """Whether cookies are Secure and their names begin with `__Secure-`: as set, else where `public_url` is https."""
    secure = settings.session.cookie.secure
    if isinstance(secure, bool):
        return secure
    return settings.public_url is not None and settings.public_url.lower().startswith("https://")
