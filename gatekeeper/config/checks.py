"""What types cannot say: addresses, origins, secrets, rules, and how settings fit together.

Each check yields the path of the setting and what is wrong with it; `load` adds the place.  No message holds a secret.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

from gatekeeper.config.rules import rules_of
from gatekeeper.config.schema import Settings, Upstream
from gatekeeper.core.model import Access, Route, Target
from gatekeeper.core.routing import check_rules, compile_rules, match_route
from gatekeeper.core.urls import is_valid_host, origin_of, parse_target

Finding = tuple[str, str]

MIN_SECRET_BYTES = 32

_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to

_EXAMPLES = re.compile(
    r"secret|change[-_ ]?me|example|password|your[-_ ]|better[-_]auth|0123456789|abcdef", re.IGNORECASE
)
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Z-]+")
_PREFIX = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOW_TO_MAKE_ONE = "make one with `openssl rand -base64 32`, and use the app's own BETTER_AUTH_SECRET"


def findings(settings: Settings) -> Iterator[Finding]:
    """Everything that is wrong with settings whose types are right."""
    yield from _check_addresses(settings)
    yield from _check_secrets(settings)
    yield from _check_origins(settings)
    yield from _check_numbers(settings)
    yield from _check_trusted_proxies(settings)
    rules_fine = True
    for finding in _check_rules(settings):
        rules_fine = False
        yield finding
    if rules_fine:
        yield from _check_sign_in(settings)


def parse_listen(text: str) -> tuple[str, int] | None:
    """Host and port of `host:port`, `[v6]:port`; None for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not port.isascii() or int(port) > 65_535 or not host:
        return None
    return (host, int(port)) if is_valid_host(host) else None


def is_loopback_only(settings: Settings) -> bool:
    """Whether listener, upstreams and public URL are all on this machine: then weak secrets do no harm."""
    hosts = [urlsplit(upstream.url).hostname for upstream in (settings.upstream, *settings.upstreams.values())]
    listen = parse_listen(settings.listen)
    hosts.append(listen[0].strip("[]") if listen else None)
    if settings.public_url is not None:
        hosts.append(urlsplit(settings.public_url).hostname)
    return all(map(_is_loopback, hosts))


def _is_loopback(host: str | None) -> bool:
    if host is None:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _check_addresses(settings: Settings) -> Iterator[Finding]:
    listen = parse_listen(settings.listen)
    if listen is None and not settings.listen.startswith("unix:"):
        yield "listen", "expected host:port, like 0.0.0.0:8080"
    upstreams = {"upstream": settings.upstream} | {f"upstreams.{n}": u for n, u in settings.upstreams.items()}
    for path, upstream in upstreams.items():
        wrong = _upstream_problem(upstream)
        if wrong:
            yield f"{path}.url", wrong
        elif listen is not None and _is_same_place(listen, upstream.url):
            yield f"{path}.url", "this is the gate's own address: requests would go round in a circle"
    for name in settings.upstreams:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            yield f"upstreams.{name}", "a name is made of letters, digits, - and _"


def _upstream_problem(upstream: Upstream) -> str | None:
    try:
        parts = urlsplit(upstream.url)
        port = parts.port
    except ValueError:
        return "this is no URL"
    if parts.scheme not in ("http", "https", "unix") or (parts.scheme != "unix" and not parts.hostname):
        return "expected scheme, host and port, like http://127.0.0.1:3000"
    if parts.username is not None or parts.password is not None:
        return "a URL with user and password is not possible here"
    if parts.scheme != "unix" and (parts.path not in ("", "/") or parts.query or parts.fragment):
        return "an upstream has no path: requests keep their own"
    return "port 0 is none" if port == 0 else None


def _is_same_place(listen: tuple[str, int], url: str) -> bool:
    parts = urlsplit(url)
    if (parts.port or 80) != listen[1] or listen[1] == 0:
        return False
    host = listen[0].strip("[]")
    both_here = _is_loopback(parts.hostname) and (_is_loopback(host) or host in _ANY_ADDRESS)
    return both_here or parts.hostname == host


def _check_secrets(settings: Settings) -> Iterator[Finding]:
    if not settings.secrets:
        yield "secrets", "there is no secret"
        return
    versions = Counter(secret.version for secret in settings.secrets)
    for version, count in versions.items():
        if count > 1:
            yield "secrets", f"version {version} is there {count} times"
    weak_is_fine = is_loopback_only(settings)
    for index, secret in enumerate(settings.secrets):
        wrong = _secret_problem(secret.value, weak_is_fine)
        if wrong:
            yield f"secrets[{index}].value", wrong


def _secret_problem(value: str, weak_is_fine: bool) -> str | None:
    """What is wrong with a secret, without a word of it."""
    if not value.strip():
        return f"the secret is empty; {_HOW_TO_MAKE_ONE}"
    if weak_is_fine:
        return None
    if len(value.encode()) < MIN_SECRET_BYTES:
        return f"the secret is shorter than {MIN_SECRET_BYTES} bytes; {_HOW_TO_MAKE_ONE}"
    if len(set(value)) < 12 or _EXAMPLES.search(value):
        return f"the secret looks like an example, not like chance; {_HOW_TO_MAKE_ONE}"
    return None


def _check_origins(settings: Settings) -> Iterator[Finding]:
    url = settings.public_url
    if url is not None and (origin_of(url) is None or urlsplit(url).path not in ("", "/") or set(url) & set("?#@")):
        yield "public_url", "expected an origin, like https://app.example.com"
    for path, origins in (
        ("trusted_origins", settings.trusted_origins),
        ("websocket.origins", settings.websocket.origins),
    ):
        for index, origin in enumerate(origins):
            if origin_of(origin) != origin:
                hint = origin_of(origin)
                wanted = hint if hint is not None and "*" not in origin else "https://app.example.com"
                yield f"{path}[{index}]", f"expected an exact origin, like {wanted}"
    cookie = settings.session.cookie
    if cookie.secure is False and url is not None and url.lower().startswith("https://"):
        yield "session.cookie.secure", "cookies of an https public_url must be Secure"
    if cookie.same_site == "none" and cookie.secure is not True and not (url or "").lower().startswith("https://"):
        yield "session.cookie.same_site", "SameSite=None needs Secure cookies: browsers drop it otherwise"
    if not _PREFIX.fullmatch(cookie.prefix):
        yield "session.cookie.prefix", "a cookie name has letters, digits and - _ . only"
    if cookie.domain is not None and not is_valid_host(cookie.domain.removeprefix(".")):
        yield "session.cookie.domain", "expected a domain, like example.com"


def _check_numbers(settings: Settings) -> Iterator[Finding]:
    for name in ("expires_in", "update_age"):
        if getattr(settings.session, name) <= 0:
            yield f"session.{name}", "this must be longer than nothing"
    if settings.session.update_age > settings.session.expires_in:
        yield "session.update_age", "this is longer than expires_in: a session would never be extended"
    if isinstance(settings.workers, int) and settings.workers < 1:
        yield "workers", "at least one worker is needed"
    if settings.store.pool < 1:
        yield "store.pool", "at least one connection is needed"
    if settings.session.memory_cache.entries < 1:
        yield "session.memory_cache.entries", "at least one entry is needed; for no caching, set max_age to 0"
    if settings.limits.header_bytes < 1024:
        yield "limits.header_bytes", "no browser gets by with less than 1 KiB"
    for name in ("headers", "keep_alive", "body_idle"):
        if getattr(settings.timeouts, name) <= 0:
            yield f"timeouts.{name}", "this must be longer than nothing"
    upstreams = {"upstream": settings.upstream} | {f"upstreams.{n}": u for n, u in settings.upstreams.items()}
    for path, upstream in upstreams.items():
        for name in ("connect_timeout", "response_timeout", "idle_timeout"):
            if getattr(upstream, name) <= 0:
                yield f"{path}.{name}", "this must be longer than nothing"
        if upstream.max_connections < 1:
            yield f"{path}.max_connections", "at least one connection is needed"


def _check_trusted_proxies(settings: Settings) -> Iterator[Finding]:
    for index, entry in enumerate(settings.trusted_proxies):
        path = f"trusted_proxies[{index}]"
        if entry == "unix":
            continue
        try:
            network = ipaddress.ip_network(entry, strict=False)
        except ValueError:
            yield path, "expected an address, a network like 10.0.0.0/8, or unix"
            continue
        if network.prefixlen == 0:
            yield path, "this trusts everybody: any client could say who it is; name your proxies"


def _check_rules(settings: Settings) -> Iterator[Finding]:
    rules = rules_of(settings)
    for problem in check_rules(rules):
        yield f"{_rule_path(settings, problem.index)}.path", problem.message
    for index, rule in enumerate(rules):
        path = _rule_path(settings, index)
        if rule.upstream is not None and rule.upstream not in settings.upstreams:
            known = ", ".join(settings.upstreams) or "none"
            yield f"{path}.upstream", f"there is no upstream {rule.upstream!r}; there are: {known}"
        for method in rule.methods or ():
            if not _METHOD.fullmatch(method):
                yield f"{path}.methods", f"{method!r} is no method; methods are written in capitals"
        if rule.methods is not None and not rule.methods:
            yield f"{path}.methods", "this allows no method at all; leave it out to allow all"
        for domains in rule.require.email_domains:
            for domain in domains:
                if "@" in domain or not is_valid_host(domain):
                    yield f"{path}.require.email_domains", f"{domain!r} is no domain; write it without @"


def _rule_path(settings: Settings, index: int) -> str:
    count = len(settings.protect)
    return f"protect[{index}]" if index < count else f"public[{index - count}]"


def _check_sign_in(settings: Settings) -> Iterator[Finding]:
    """Signing in must be possible: the page is no protected one, and with `default: session` neither is the API."""
    sign_in = settings.sign_in
    if not sign_in.startswith("/"):
        origin = origin_of(sign_in)
        own = origin_of(settings.public_url) if settings.public_url else None
        if origin is None or (origin != own and origin not in settings.trusted_origins):
            yield "sign_in", "expected a path, or an absolute URL of one of the trusted_origins"
            return
        if origin != own:
            return
        sign_in = "/" + sign_in.partition("://")[2].partition("/")[2]
    target = parse_target("GET", sign_in)
    if not isinstance(target, Target) or sign_in.startswith("//") or target.slash_reading is not None:
        yield "sign_in", "expected a path with one slash at its beginning, like /sign-in"
        return
    rules = rules_of(settings)
    table = compile_rules(rules, Access(settings.default))
    route = match_route(table, target)
    if isinstance(route, Route) and route.access is not Access.PUBLIC:
        where = f"{_rule_path(settings, rules.index(route.rules[0]))}.path" if route.rules else "default"
        yield where, f"this covers the sign-in page {target.path}, so nobody could sign in; list that under public"
    api = parse_target("GET", f"{settings.accounts.base_path}/get-session")
    guarded = match_route(table, api) if settings.default == "session" and isinstance(api, Target) else None
    if isinstance(guarded, Route) and guarded.access is not Access.PUBLIC:
        yield "default", f"with `session` the app's {settings.accounts.base_path} must be listed under public"
