"""What a request without a user gets, where the app needs one: the gate's own answers.

A signed-out person is led to sign in and a signed-out program gets a JSON 401, by the gate's rules and with its
headers.  Signing in helps nobody whose assertion is refused, so that is a 401 for persons, too: no redirect can
run in a circle.  What cannot be told just now is a 503.
"""

import json
from html import escape

from gatekeeper.core.callbacks import MAX_CALLBACK, encode_uri_component, is_on_origin, safe_callback
from gatekeeper.core.negotiation import prefers_page
from gatekeeper.integrations.model import Answer, Reason, Request

RETRY_AFTER_S = 5

_PHRASES = {401: "Unauthorized", 503: "Service Unavailable"}
_TEXTS = {
    401: "This app could not make out who you are, although the gate let you through.",
    503: "It cannot be checked just now who you are. Please try again in a moment.",
}
_HEADERS = (("Vary", "Cookie, Authorization, Accept, Sec-Fetch-Mode"),)
_NO_STORE, _NO_SNIFF = ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_PAGE = (
    ("Content-Type", "text/html; charset=utf-8"),
    _NO_STORE,
    ("Content-Security-Policy", _POLICY),
    _NO_SNIFF,
    ("Referrer-Policy", "same-origin"),
)


def refusal(request: Request, reason: Reason, *, sign_in: str, own_origin: str) -> Answer:
    """A redirect to `sign_in`, a 401 or a 503, as a page or as JSON."""
    status = request.header("x-auth-status") if reason is Reason.MISSING else None
    location = _sign_in_url(request, sign_in, own_origin)
    if status == "unknown" or reason is Reason.KEYS_UNAVAILABLE:
        code = "STORE_UNAVAILABLE" if status == "unknown" else f"ASSERTION_{reason}"
        return _error(request, 503, {"code": code}, (("Retry-After", str(RETRY_AFTER_S)),))
    # The gate knows this person and sent no assertion: that is a matter of settings, which signing in cannot change.
    if reason is Reason.MISSING and status != "authenticated" and _wants_page(request):
        return _redirect(307 if request.method in ("GET", "HEAD") else 303, location)
    return _error(request, 401, {"code": f"ASSERTION_{reason}", "signInUrl": location})


def _redirect(status: int, location: str) -> Answer:
    page = _document("Sign in", f'<a href="{escape(location)}">Go on to sign in</a>')
    return Answer(status, (*_PAGE, ("Location", location), *_HEADERS), page)


def _error(request: Request, status: int, fields: dict[str, str], headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    if _wants_page(request):
        page = _document(_PHRASES[status], f"{_TEXTS[status]} ({fields['code']})")
        return Answer(status, (*_PAGE, *_HEADERS, *headers), page)
    body = json.dumps({"error": _PHRASES[status], **fields}, separators=(",", ":")).encode()
    return Answer(status, (("Content-Type", "application/json"), _NO_STORE, _NO_SNIFF, *_HEADERS, *headers), body)


def _document(title: str, paragraph: str) -> bytes:
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    return f"{head}<p>{paragraph}</p></html>\n".encode()


def _wants_page(request: Request) -> bool:
    if (request.header("upgrade") or "").strip().lower() == "websocket":
        return False
    return prefers_page(request.header("sec-fetch-mode"), request.header("accept"))


def _sign_in_url(request: Request, sign_in: str, own_origin: str) -> str:
    return_to = _return_to(request, own_origin)
    if not sign_in.startswith("/"):
        return_to = own_origin + return_to
    return f"{sign_in}{'&' if '?' in sign_in else '?'}callbackUrl={encode_uri_component(return_to)}"


def _return_to(request: Request, own_origin: str) -> str:
    """The page to come back to: the one asked for, or the one that a form was sent from."""
    referer = request.header("referer")
    if request.method not in ("GET", "HEAD") and referer is not None and is_on_origin(referer, own_origin):
        return _callback(referer[len(own_origin) :].partition("#")[0] or "/")
    return _callback(request.target)


def _callback(target: str) -> str:
    """Path and query, or the path alone where the query is too long or odd, or "/"."""
    for text in (target, target.partition("?")[0]):
        if len(text) <= MAX_CALLBACK and safe_callback(text) == text:
            return text
    return "/"
