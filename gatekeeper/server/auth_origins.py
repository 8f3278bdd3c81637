"""Where an account call comes from, and where it may lead to: Better Auth's checks of origins.

Trusted are the own origin and the exact ones of the configuration.  A URL that two readers could take for different
ones is trusted by nobody.  Format: Better Auth wire format, origin and CSRF.
"""

import re
from collections.abc import Mapping

from gatekeeper.core.urls import origin_of
from gatekeeper.server.auth_bodies import Body, Query, is_truthy
from gatekeeper.server.auth_call import AuthRequest
from gatekeeper.server.auth_refusals import CROSS_SITE_SIGN_IN, INVALID_CALLBACK, INVALID_ORIGIN, NO_ORIGIN, Refusal

_AMBIGUOUS = re.compile("[\\x00-\\x20\\x7f-\\x9f\\\\]")
_CONTROLS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\\\]")
_ESCAPED_SLASH = re.compile("%2f|%5c", re.IGNORECASE)
_ABSOLUTE = re.compile("https?://[^/?#@]+(?:[/?#]|$)", re.IGNORECASE)

_CALLBACKS = (
    ("callbackURL", "callbackURL", "INVALID_CALLBACK_URL"),
    ("redirectTo", "redirectURL", "INVALID_REDIRECT_URL"),
    ("errorCallbackURL", "errorCallbackURL", "INVALID_ERROR_CALLBACK_URL"),
    ("newUserCallbackURL", "newUserCallbackURL", "INVALID_NEW_USER_CALLBACK_URL"),
)
"""Fields that lead somewhere: their name, and what an answer calls them."""


def origin_fault(request: AuthRequest, trusted: frozenset[str], *, is_always: bool = False) -> Refusal | None:
    """Why a call that changes something is refused for its origin, or None.

    Who sends no cookie at all is not asked, unless `is_always`: nobody else's session can be used by that.
    """
    facts = request.facts
    if facts.cookie is None and not is_always:
        return None
    origin = facts.origin or facts.referer or ""
    if facts.origin == "null" and facts.sec_fetch_site == "same-origin":
        origin = request.own_origin
    if not origin or origin == "null":
        return NO_ORIGIN
    return None if _is_trusted(origin, request, trusted) else INVALID_ORIGIN


def form_origin_fault(request: AuthRequest, trusted: frozenset[str]) -> Refusal | None:
    """Why a sign-in or sign-up is refused that another site may have made a browser send, or None.

    A browser tells by `Sec-Fetch-…`, Origin or Referer; a program that sends none of them is let through.
    """
    facts = request.facts
    fetch_metadata = (facts.sec_fetch_site, facts.sec_fetch_mode, request.sec_fetch_dest)
    if any(value and value.strip() for value in fetch_metadata):
        if facts.sec_fetch_site == "cross-site" and facts.sec_fetch_mode == "navigate":
            return CROSS_SITE_SIGN_IN
        return origin_fault(request, trusted, is_always=True)
    return origin_fault(request, trusted, is_always=bool(facts.origin or facts.referer))


def callback_fault(body: Body, query: Query, request: AuthRequest, trusted: frozenset[str]) -> Refusal | None:
    """Why a call is refused for where it would lead to, or None: the first field that is not trusted."""
    fields: Mapping[str, object] = body if isinstance(body, dict) else {}
    for name, label, code in _CALLBACKS:
        url = fields.get(name)
        if name == "callbackURL" and not _is_set(url):
            url = query.get(name)
        if not _is_set(url):
            continue
        if not isinstance(url, str):
            return Refusal(400, f"Invalid {label}: expected a string")
        if not is_trusted_target(url, request, trusted):
            return Refusal(403, f"Invalid {label}", code)
    return None


def link_fault(query: Query, request: AuthRequest, trusted: frozenset[str]) -> Refusal | None:
    """Why a link from a mail is refused for where it would lead to, or None."""
    url = query.get("callbackURL")
    return None if not isinstance(url, str) or not url or is_trusted_target(url, request, trusted) else INVALID_CALLBACK


def is_trusted_target(url: str, request: AuthRequest, trusted: frozenset[str]) -> bool:
    """Whether one may be led there: a path that no reader takes for another host, or a URL of a trusted origin."""
    if not url.startswith("/"):
        return _is_trusted(url, request, trusted)
    path = re.split("[?#]", url, maxsplit=1)[0]
    return not url.startswith("//") and not _CONTROLS.search(url) and not _ESCAPED_SLASH.search(path)


def _is_trusted(url: str, request: AuthRequest, trusted: frozenset[str]) -> bool:
    if _AMBIGUOUS.search(url) or not _ABSOLUTE.match(url):
        return False
    origin = origin_of(url)
    return origin is not None and (origin == request.own_origin.lower() or origin in trusted)


def _is_set(value: object) -> bool:
    return value is not None and is_truthy(value)  # type: ignore[arg-type]  # whatever JSON says
