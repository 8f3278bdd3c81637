"""Settings as the request path uses them: compiled once, immutable, one generation."""

from urllib.parse import urlsplit

import msgspec

from gatekeeper.config.identity_checks import header_names
from gatekeeper.config.rules import rules_of
from gatekeeper.config.schema import CookieCache, Duration, IdentitySettings, Settings
from gatekeeper.core.assertion import Terms
from gatekeeper.core.cookies import CookieNames, Keys, cookie_names
from gatekeeper.core.decide import Policy
from gatekeeper.core.forwarding import TrustedProxies
from gatekeeper.core.headers import OwnNames
from gatekeeper.core.identity import HeaderNames, reserved_by
from gatekeeper.core.lifecycle import Lifetimes
from gatekeeper.core.model import Access, Target
from gatekeeper.core.routing import RouteTable, compile_rules
from gatekeeper.core.session_cookies import CookieScope
from gatekeeper.core.session_data_writing import SessionDataFormat
from gatekeeper.core.urls import origin_of, parse_target

OWN_PATHS = ((".gatekeeper",), (".well-known", "gatekeeper"))
ACCOUNT_PAGES = (("sign-in",), ("sign-up",))
"""The own paths of accounts mode beside its calls."""

POMERIUM_JWKS = (".well-known", "pomerium", "jwks.json")


class Snapshot(msgspec.Struct, frozen=True):
    """What one configuration means for a request.

    `data_format` is None where no session_data cookies are written.  `bearer`: an Authorization header may carry a
    session.  `account_path` is where the app's account calls begin, with a slash at its end, and `get_session_path` the
    one that the gate answers in its stead, or may answer at once in accounts mode; both are "" where it answers none.
    `own_paths` are the folded segments with which the gate's own paths begin.  `has_accounts`: accounts mode.  `names`
    are those of identity headers, `own_names` what clients may not send because of them; `terms` is None where no
    assertions are made.
    """

    table: RouteTable
    keys: Keys
    cookies: CookieNames
    cookie_scope: CookieScope
    data_format: SessionDataFormat | None
    lifetimes: Lifetimes
    bearer: bool
    account_path: str
    get_session_path: str
    own_paths: tuple[tuple[str, ...], ...]
    has_accounts: bool
    policy: Policy
    trusted: TrustedProxies
    default_host: str
    secure_cookies: bool
    strip_session_cookies: bool | None
    head_bytes: int
    body_bytes: int | None
    names: HeaderNames
    own_names: OwnNames | None
    terms: Terms | None


def compile_settings(settings: Settings) -> Snapshot:
    """The snapshot of settings that `config.load` has found without problems."""
    secure = uses_secure_cookies(settings)
    account_path = settings.accounts.base_path.rstrip("/") + "/" if settings.session.serve_get_session else ""
    data_format = _data_format(settings.session.cookie_cache)
    is_answered = settings.session.serve_get_session or (settings.accounts.enabled and data_format is not None)
    return Snapshot(
        table=compile_rules(rules_of(settings), Access(settings.default)),
        keys=Keys([secret.value for secret in settings.secrets]),
        cookies=cookie_names(settings.session.cookie.prefix, secure=secure),
        cookie_scope=CookieScope(settings.session.cookie.domain, secure, settings.session.cookie.same_site),
        data_format=data_format,
        lifetimes=Lifetimes(_milliseconds(settings.session.expires_in), _milliseconds(settings.session.update_age)),
        bearer=settings.session.bearer == "signed",
        account_path=account_path,
        get_session_path=f"{account_base(settings).path}/get-session" if is_answered else "",
        own_paths=_own_paths(settings),
        has_accounts=settings.accounts.enabled,
        policy=Policy(
            fresh_age_s=settings.session.fresh_age,
            public_origin=origin_of(settings.public_url) if settings.public_url else None,
            websocket_origins=frozenset(settings.websocket.origins),
            websocket_no_origin=settings.websocket.allow_no_origin,
        ),
        trusted=TrustedProxies(settings.trusted_proxies),
        default_host=urlsplit(settings.public_url or settings.upstream.url).netloc,
        secure_cookies=secure,
        strip_session_cookies=_strips(settings),
        head_bytes=settings.limits.header_bytes,
        body_bytes=settings.limits.body_bytes,
        names=header_names(settings.identity),
        own_names=_own_names(settings.identity),
        terms=terms_of(settings),
    )


def uses_secure_cookies(settings: Settings) -> bool:
    """Whether cookies are Secure and their names begin with `__Secure-`: as set, else where `public_url` is https."""
    secure = settings.session.cookie.secure
    if isinstance(secure, bool):
        return secure
    return settings.public_url is not None and settings.public_url.lower().startswith("https://")


def account_base(settings: Settings) -> Target:
    """Where account calls begin, as a target of ours; its path has a slash at its end only if it is the root."""
    target = parse_target("GET", settings.accounts.base_path.rstrip("/"))
    if not isinstance(target, Target):
        raise ValueError("accounts.base_path is no path")  # cannot be: `config.load` looked at it
    return target


def terms_of(settings: Settings) -> Terms | None:
    """What assertions have in common; None where none are made: without `public_url` nobody could say for whom."""
    assertion = settings.identity.assertion
    issuer = origin_of(settings.public_url) if settings.public_url else None
    if issuer is None or not assertion.enabled or not header_names(settings.identity).assertion:
        return None
    return Terms(issuer, int(assertion.ttl))


def _own_paths(settings: Settings) -> tuple[tuple[str, ...], ...]:
    jwks = (POMERIUM_JWKS,) if settings.identity.headers == "pomerium" else ()
    accounts = (*ACCOUNT_PAGES, account_base(settings).folded) if settings.accounts.enabled else ()
    return (*OWN_PATHS, *jwks, *accounts)


def _strips(settings: Settings) -> bool | None:
    """As set, else always in accounts mode, where sessions are none of the app's business."""
    strip = settings.identity.strip_session_cookies
    return strip if isinstance(strip, bool) else True if settings.accounts.enabled else None


def _own_names(identity: IdentitySettings) -> OwnNames | None:
    reserved = reserved_by(identity.headers, header_names(identity))
    return None if reserved is None else OwnNames(reserved)


def _data_format(cache: CookieCache) -> SessionDataFormat | None:
    if not cache.enabled or cache.max_age < 1:
        return None
    return SessionDataFormat(cache.strategy, cache.version, int(cache.max_age))


def _milliseconds(duration: Duration) -> int:
    return round(duration * 1000)
