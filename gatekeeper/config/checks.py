"""What types cannot say: addresses, origins, numbers, and how settings fit together.

Each check yields the path of the setting and what is wrong with it; `load` adds the place.  No message holds a secret.
Secrets and rules have modules of their own.
"""

import ipaddress
import re
from collections.abc import Iterator

from gatekeeper.config.account_checks import check_accounts
from gatekeeper.config.addresses import (
    exact_origin,
    is_same_listener,
    is_same_place,
    is_unix_socket,
    named_upstreams,
    parse_listen,
    split_url,
    trust_everybody_together,
    trusts_everybody,
    upstream_problem,
)
from gatekeeper.config.branding_checks import check_branding
from gatekeeper.config.identity_checks import check_identity
from gatekeeper.config.rule_checks import check_rules_and_sign_in
from gatekeeper.config.schema import MOST_WORKERS, Settings
from gatekeeper.config.secret_checks import check_secrets
from gatekeeper.config.store_checks import check_store
from gatekeeper.config.tls import TlsProblem, listener_context, upstream_context
from gatekeeper.core.cookies import MAX_AGE_LIMIT_S
from gatekeeper.core.urls import is_valid_host

Finding = tuple[str, str]

_PREFIX = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ZERO = "this must be longer than nothing"


def findings(settings: Settings) -> Iterator[Finding]:
    """Everything that is wrong with settings whose types are right."""
    yield from _check_addresses(settings)
    yield from _check_tls(settings)
    yield from _check_admin(settings)
    yield from _check_log(settings)
    yield from check_store(settings)
    yield from check_accounts(settings)
    yield from check_branding(settings)
    yield from check_secrets(settings)
    yield from _check_public_url(settings)
    yield from _check_origins(settings)
    yield from _check_cookie(settings)
    yield from _check_numbers(settings)
    yield from _check_durations(settings)
    yield from _check_trusted_proxies(settings)
    yield from check_rules_and_sign_in(settings)
    yield from check_identity(settings)


def _check_addresses(settings: Settings) -> Iterator[Finding]:
    listen = parse_listen(settings.listen)
    if listen is None and not is_unix_socket(settings.listen):
        yield "listen", "expected host:port, like 0.0.0.0:8080, or unix:/run/gatekeeper.sock"
    for path, upstream in named_upstreams(settings).items():
        wrong = upstream_problem(upstream)
        if wrong:
            yield f"{path}.url", wrong
        elif upstream.url == settings.listen or (listen is not None and is_same_place(listen, upstream.url)):
            yield f"{path}.url", "this is the gate's own address: requests would go round in a circle"
    for name in settings.upstreams:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            yield f"upstreams.{name}", "a name is made of letters, digits, - and _"


def _check_tls(settings: Settings) -> Iterator[Finding]:
    if settings.tls is not None:
        try:
            listener_context(settings.tls)
        except TlsProblem as problem:
            yield f"tls.{problem.setting}", str(problem)
    for path, upstream in named_upstreams(settings).items():
        if upstream.tls is None:
            continue
        if not upstream.url.startswith("https://"):
            yield f"{path}.tls", "certificates are for an https:// upstream"
            continue
        try:
            upstream_context(upstream.tls)
        except TlsProblem as problem:
            yield f"{path}.tls.{problem.setting}", str(problem)


def _check_admin(settings: Settings) -> Iterator[Finding]:
    text = settings.admin.listen
    if text is None or is_unix_socket(text):
        if text is not None and text == settings.listen:
            yield "admin.listen", "this is the address of `listen`: the admin listener needs one of its own"
        return
    own, public = parse_listen(text), parse_listen(settings.listen)
    if own is None:
        yield "admin.listen", "expected host:port, like 127.0.0.1:9091, or unix:/path; null turns it off"
    elif public is not None and is_same_listener(own, public):
        yield "admin.listen", "this is the address of `listen`: the admin listener needs one of its own"


def _check_log(settings: Settings) -> Iterator[Finding]:
    file = settings.log.file
    if file is not None and "\0" in file:
        yield "log.file", "expected the name of a file; leave it out for standard error"


def _check_public_url(settings: Settings) -> Iterator[Finding]:
    url = settings.public_url
    if url is None:
        return
    parts = split_url(url)
    if exact_origin(url) is None or parts is None or parts.path not in ("", "/") or set(url) & set("?#"):
        yield "public_url", "expected an origin, like https://app.example.com"


def _check_origins(settings: Settings) -> Iterator[Finding]:
    lists = {"trusted_origins": settings.trusted_origins, "websocket.origins": settings.websocket.origins}
    for path, origins in lists.items():
        for index, origin in enumerate(origins):
            exact = exact_origin(origin)
            if exact != origin:
                yield f"{path}[{index}]", f"expected an exact origin, like {exact or 'https://app.example.com'}"


def _check_cookie(settings: Settings) -> Iterator[Finding]:
    cookie = settings.session.cookie
    is_https = (settings.public_url or "").lower().startswith("https://")
    if cookie.secure is False and is_https:
        yield "session.cookie.secure", "cookies of an https public_url must be Secure"
    if cookie.same_site == "none" and cookie.secure is not True and not is_https:
        yield "session.cookie.same_site", "SameSite=None needs Secure cookies: browsers drop it otherwise"
    if not _PREFIX.fullmatch(cookie.prefix):
        yield "session.cookie.prefix", "a cookie name has letters, digits and - _ . only"
    domain = cookie.domain
    if domain is not None and (":" in domain or not is_valid_host(domain.removeprefix("."))):
        yield "session.cookie.domain", "expected a domain, like example.com"


def _check_numbers(settings: Settings) -> Iterator[Finding]:
    if isinstance(settings.workers, int) and settings.workers < 1:
        yield "workers", "at least one worker is needed; auto is one a core"
    if isinstance(settings.workers, int) and settings.workers > MOST_WORKERS:
        yield "workers", f"at most {MOST_WORKERS} workers are possible; auto is one a core"
    if settings.store.pool < 1:
        yield "store.pool", "at least one connection is needed"
    if settings.session.memory_cache.entries < 1:
        yield "session.memory_cache.entries", "at least one entry is needed; for no caching, set max_age to 0"
    if settings.limits.header_bytes < 1024:
        yield "limits.header_bytes", "no browser gets by with less than 1 KiB"
    for path, upstream in named_upstreams(settings).items():
        if upstream.max_connections < 1:
            yield f"{path}.max_connections", "at least one connection is needed"
    for name in ("connections", "per_address"):
        limit = getattr(settings.limits, name)
        if limit is not None and limit < 1:
            yield f"limits.{name}", "at least one connection is needed; null is no limit"


def _check_durations(settings: Settings) -> Iterator[Finding]:
    for name in ("expires_in", "update_age"):
        if getattr(settings.session, name) <= 0:
            yield f"session.{name}", _ZERO
    if settings.session.update_age > settings.session.expires_in:
        yield "session.update_age", "this is longer than expires_in: a session would never be extended"
    if settings.session.extend == "gate" or settings.accounts.enabled:
        cache = settings.session.cookie_cache
        ages = {"expires_in": settings.session.expires_in}
        ages |= {"cookie_cache.max_age": cache.max_age} if cache.enabled else {}
        for name, age in ages.items():
            if not 1 <= age <= MAX_AGE_LIMIT_S:
                yield f"session.{name}", "cookies that the gate sets live for a second at least, and 400 days at most"
    for name in ("headers", "keep_alive", "body_idle"):
        if getattr(settings.timeouts, name) <= 0:
            yield f"timeouts.{name}", _ZERO
    for path, upstream in named_upstreams(settings).items():
        for name in ("connect_timeout", "response_timeout", "idle_timeout"):
            if getattr(upstream, name) <= 0:
                yield f"{path}.{name}", _ZERO


def _check_trusted_proxies(settings: Settings) -> Iterator[Finding]:
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for index, entry in enumerate(settings.trusted_proxies):
        path = f"trusted_proxies[{index}]"
        if entry == "unix":
            continue
        try:
            network = ipaddress.ip_network(entry, strict=False)
        except ValueError:
            yield path, "expected an address, a network like 10.0.0.0/8, or unix"
            continue
        if trusts_everybody(network):
            yield path, "this trusts everybody: any client could say who it is; name your proxies"
            continue
        networks.append(network)
    if trust_everybody_together(networks):
        yield "trusted_proxies", "together these trust everybody: any client could say who it is; name your proxies"
