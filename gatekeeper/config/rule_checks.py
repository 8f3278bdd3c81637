"""Whether the rules can be kept, and people can sign in under them.

Pattern syntax and conflicts are the business of `core.routing`; here they get their place in the file.
"""

import re
from collections.abc import Iterator

from gatekeeper.config.addresses import exact_origin, split_url
from gatekeeper.config.rules import rules_of
from gatekeeper.config.schema import ProtectRule, Settings
from gatekeeper.core.model import Access, Reason, Route, Target
from gatekeeper.core.routing import RouteTable, check_rules, compile_rules, match_route
from gatekeeper.core.urls import is_valid_host, parse_target

Finding = tuple[str, str]

_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Z-]+")
_API_CALLS = ("get-session", "sign-in/email", "callback/x")
"""Calls of Better Auth without which nobody signs in: a rule for one of them alone is not enough."""


def check_rules_and_sign_in(settings: Settings) -> Iterator[Finding]:
    """Path and message of what is wrong; whether a rule covers sign-in is looked up only where all of it is right."""
    rules_found = [*_check_patterns(settings), *_check_upstreams(settings)]
    for index, rule in enumerate(settings.protect):
        rules_found += _check_conditions(rule, f"protect[{index}]")
    sign_in = _sign_in_target(settings)
    if sign_in is Reason.BAD_TARGET:
        message = (
            "expected a path with one slash at its beginning, like /sign-in, or a URL of one of the trusted_origins"
        )
        rules_found.append(("sign_in", message))
    base_path = settings.accounts.base_path
    if not isinstance(_plain_target(base_path), Target) or set(base_path) & set("?#"):
        rules_found.append(("accounts.base_path", "expected a path with one slash at its beginning, like /api/auth"))
    yield from rules_found
    if not rules_found and isinstance(sign_in, Target):
        yield from _check_coverage(settings, sign_in)


def _check_patterns(settings: Settings) -> Iterator[Finding]:
    for problem in check_rules(rules_of(settings)):
        yield f"{_rule_path(settings, problem.index)}.path", problem.message


def _check_upstreams(settings: Settings) -> Iterator[Finding]:
    for index, rule in enumerate(rules_of(settings)):
        if rule.upstream is not None and rule.upstream not in settings.upstreams:
            known = ", ".join(settings.upstreams) or "none"
            message = f"there is no upstream {rule.upstream!r}; there are: {known}"
            yield f"{_rule_path(settings, index)}.upstream", message


def _check_conditions(rule: ProtectRule, path: str) -> Iterator[Finding]:
    for index, method in enumerate(rule.methods or ()):
        if not _METHOD.fullmatch(method):
            yield f"{path}.methods[{index}]", f"{method!r} is no method; methods are written in capitals"
    if rule.methods is not None and not rule.methods:
        yield f"{path}.methods", "this allows no method at all; leave it out to allow all"
    for index, domain in enumerate(rule.require.email_domains):
        if "@" in domain or ":" in domain or not is_valid_host(domain):
            yield f"{path}.require.email_domains[{index}]", f"{domain!r} is no domain; write it without @"


def _rule_path(settings: Settings, index: int) -> str:
    count = len(settings.protect)
    return f"protect[{index}]" if index < count else f"public[{index - count}]"


def _sign_in_target(settings: Settings) -> Target | Reason | None:
    """The sign-in page as a target of ours; None where it is on another, trusted origin; a Reason where it is wrong."""
    sign_in = settings.sign_in
    if sign_in.startswith("/"):
        return _plain_target(sign_in)
    origin, parts = exact_origin(sign_in), split_url(sign_in)
    if origin is None or parts is None or "#" in sign_in:
        return Reason.BAD_TARGET
    if settings.public_url is not None and origin == exact_origin(settings.public_url):
        return _plain_target((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
    return None if origin in settings.trusted_origins else Reason.BAD_TARGET


def _plain_target(path: str) -> Target | Reason:
    """A path that means the same to everybody who reads it."""
    target = parse_target("GET", path) if path.startswith("/") and not path.startswith("//") else Reason.BAD_TARGET
    return Reason.BAD_TARGET if isinstance(target, Reason) or target.slash_reading is not None else target


def _check_coverage(settings: Settings, sign_in: Target) -> Iterator[Finding]:
    """Signing in must be possible: the page is no protected one, and with `default: session` neither is the API."""
    rules = rules_of(settings)
    table = compile_rules(rules, Access(settings.default))
    route = match_route(table, sign_in)
    is_companion = not settings.accounts.enabled  # whose own paths are open whatever the rules say
    if is_companion and isinstance(route, Route) and route.access is not Access.PUBLIC:
        where = f"{_rule_path(settings, rules.index(route.rules[0]))}.path" if route.rules else "default"
        yield where, f"this covers the sign-in page {sign_in.path}, so nobody could sign in; list that under public"
    base_path = settings.accounts.base_path
    if (
        is_companion
        and settings.default == "session"
        and not all(_is_public(table, f"{base_path}/{call}") for call in _API_CALLS)
    ):
        yield "default", f"with `session` the app's {base_path} must be listed under public"
    path = f"{base_path.rstrip('/')}/get-session"
    if settings.session.serve_get_session and not _is_public(table, path):
        yield "session.serve_get_session", f"{path} is a protected path, so the client could not ask there who it is"


def _is_public(table: RouteTable, path: str) -> bool:
    target = parse_target("GET", path)
    route = match_route(table, target) if isinstance(target, Target) else None
    return isinstance(route, Route) and route.access is Access.PUBLIC
