"""Decisions as finished answers: redirect, page or JSON.

Pure and synchronous, for every front end alike: nothing here knows a connection, a clock or a store.  Header values
are ASCII, and nothing of a cookie or token gets into an answer.  The words are in `texts`, the forms in `answers`.
"""

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from html import escape
from types import SimpleNamespace
from typing import Any, assert_never
from urllib.parse import quote

import msgspec

from gatekeeper.core.cookies import set_cookie
from gatekeeper.core.decide import wants_page
from gatekeeper.core.loop import COOKIE as REDIRECTS_COOKIE
from gatekeeper.core.loop import redirects_cookie
from gatekeeper.core.model import AnswerPreflight, Deny, Reason, RequestFacts, SessionRecord, SignIn
from gatekeeper.core.urls import callback_for, callback_from_referer, encode_uri_component, origin_of, safe_callback
from gatekeeper.server.answers import (
    NO_STORE,
    Answer,
    Headers,
    json_answer,
    page_answer,
    page_headers,
    phrase,
    to_ascii,
)
from gatekeeper.server.answers import static as static
from gatekeeper.server.documents import session_document, user_document
from gatekeeper.server.look import PLAIN, Look
from gatekeeper.server.texts import LANGUAGES, Words, cause_for, text_for, words_for

CLEAR_COOKIES = "/.gatekeeper/clear-cookies"
SIGN_OUT = "/.gatekeeper/sign-out"

_VARY = ("Cookie", "Authorization", "Accept", "Sec-Fetch-Mode")
_IDENTITY_VARY = ("Cookie", "Authorization")
_PREFLIGHT_HEADERS = b"authorization, content-type, x-requested-with"
_PREFLIGHT_AGE_S = b"600"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_COOKIE_SIZE_LIMIT = 256


class PageSettings(msgspec.Struct, frozen=True):
    """What answers depend on beside the request.

    `sign_in` is a path, or an absolute URL of a trusted origin; `trusted_origins` are compared byte for byte.
    `secure_cookies` is what `public_url` or `session.cookie.secure` decided, `cookie_domain` what
    `session.cookie.domain` says.  `keep_fragment`: what stands after `#` is carried across signing in.
    `asks_again`: the sign-in page is ours, and takes `reauth`; who signed in too long ago is led there.
    """

    sign_in: str
    public_origin: str | None = None
    trusted_origins: frozenset[str] = frozenset()
    secure_cookies: bool = False
    cookie_domain: str | None = None
    look: Look = PLAIN
    keep_fragment: bool = False
    asks_again: bool = False


def answer(
    decision: SignIn | Deny | AnswerPreflight,
    facts: RequestFacts,
    settings: PageSettings,
    *,
    now_ms: int,
    request_id: str | None = None,
) -> Answer:
    """What the client gets for a decision that does not let the request through."""
    match decision:
        case SignIn():
            return _sign_in(decision, facts, settings, now_ms)
        case Deny():
            return _deny(decision, facts, settings, request_id)
        case AnswerPreflight():
            return _preflight(decision, facts, settings)
    assert_never(decision)


def error_answer(
    status: int,
    reason: Reason,
    facts: RequestFacts | None,
    settings: PageSettings,
    *,
    retry_after: int | None = None,
    request_id: str | None = None,
) -> Answer:
    """A page or JSON, as the client accepts it, for what went wrong outside a decision.

    Without facts, that is for a request too malformed to have any, it is JSON.
    """
    if facts is None:
        return json_answer(status, {"error": phrase(status), "code": reason.value}, _retry_after(retry_after))
    denial = _deny(Deny(status, reason, retry_after=retry_after), facts, settings, request_id)
    return msgspec.structs.replace(denial, reason=reason)


def whoami(
    record: SessionRecord | None,
    facts: RequestFacts | None = None,
    settings: PageSettings | None = None,
    *,
    reason: Reason = Reason.NO_COOKIE,
) -> Answer:
    """`{"user", "session"}` of a live session, without its token; 401 without one, for `reason`.

    Given facts and settings, a trusted origin may read it, too.
    """
    headers = _read_headers(facts, settings, _IDENTITY_VARY)
    if record is None:
        denial = json_answer(401, {"error": phrase(401), "code": reason.value}, headers)
        return msgspec.structs.replace(denial, reason=reason)
    return json_answer(200, {"user": user_document(record.user), "session": session_document(record.session)}, headers)


def cleared(names: Iterable[str], settings: PageSettings, return_to: str | None) -> Answer:
    """Sign-in anew, with these cookies and our own removed: the answer to the loop page's form.

    `return_to` is the form's `callbackUrl` as it came.  Names that cannot be a cookie's are passed over.
    """
    kept = dict.fromkeys(name for name in names if len(name) <= _COOKIE_SIZE_LIMIT and _TOKEN.fullmatch(name))
    lines = [line for name in kept | {REDIRECTS_COOKIE: None} for line in _clearing(name, settings)]
    location = sign_in_url(settings, safe_callback(return_to, settings.public_origin))
    cookies = tuple((b"Set-Cookie", to_ascii(line)) for line in lines)
    return _redirect(303, location, (_vary(("Cookie",)), *cookies))


def sign_in_url(settings: PageSettings, return_to: str | None) -> str:
    """Where signing in begins, and comes back to `return_to`, a path with its query; ASCII.

    On another origin the way back is an absolute URL, as far as the own origin is known.
    """
    base = _ascii_url(settings.sign_in)
    if return_to is None:
        return base
    if settings.public_origin is not None and not base.startswith("/"):
        return_to = settings.public_origin + return_to
    return f"{base}{'&' if '?' in base else '?'}callbackUrl={encode_uri_component(return_to)}"


def dress(words: Words, look: Look) -> dict[str, Any]:
    """What every page is given: the words, and how the site looks."""
    return {"t": _texts(words.tag), "lang": words.tag, "site": look}


@cache
def _texts(tag: str) -> SimpleNamespace:
    """The texts of pages as templates name them, `t.sign_in.title`: no name of a text is one of a mapping's own."""
    return SimpleNamespace(**{page: SimpleNamespace(**texts) for page, texts in LANGUAGES[tag].pages.items()})


def _sign_in(decision: SignIn, facts: RequestFacts, settings: PageSettings, now_ms: int) -> Answer:
    cookie = redirects_cookie(
        facts.cookie, facts.target.path, decision.redirects, now_ms, secure=settings.secure_cookies
    )
    location = sign_in_url(settings, decision.return_to)
    headers = (_vary(_VARY), (b"Set-Cookie", to_ascii(cookie)))
    if settings.keep_fragment and decision.status == 307:
        values = {"sign_in_url": location, **dress(words_for(facts.accept_language), settings.look)}
        return page_answer(401, "fragment.html", values, headers, has_script=True)
    return _redirect(decision.status, location, headers)


def _redirect(status: int, location: str, headers: Headers) -> Answer:
    body = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Sign in</title>'
        f'<p><a href="{escape(location)}">Go on to sign in</a></p></html>\n'
    )
    return Answer(status, (*page_headers(), (b"Location", location.encode()), *headers), body.encode())


def _deny(decision: Deny, facts: RequestFacts, settings: PageSettings, request_id: str | None) -> Answer:
    headers = _read_headers(facts, settings, _VARY) + _retry_after(decision.retry_after)
    if decision.allow or decision.status == 405:
        headers += ((b"Allow", to_ascii(", ".join(decision.allow))),)
    if decision.reason is Reason.SESSION_NOT_FRESH and settings.asks_again and wants_page(facts):
        return _ask_again(facts, settings)
    if decision.reason is Reason.SIGN_IN_LOOP:
        return _loop_page(decision, facts, settings, headers, request_id)
    if decision.status != 401 and wants_page(facts):
        values, elsewhere = _page_values(decision, facts, settings, request_id), ""
        if decision.reason is Reason.SESSION_NOT_FRESH:
            values |= {"sign_out_url": SIGN_OUT, "return_to": _way_back(facts, settings)}
            elsewhere = origin_of(settings.sign_in) or ""
        return page_answer(decision.status, "error.html", values, headers, form_action=elsewhere)
    document = {"error": phrase(decision.status), "code": decision.reason.value}
    if decision.status == 401:
        document["signInUrl"] = sign_in_url(settings, decision.return_to)
    return json_answer(decision.status, document, headers)


def _ask_again(facts: RequestFacts, settings: PageSettings) -> Answer:
    """To the sign-in page, which shows its form although somebody is signed in, and back."""
    place = msgspec.structs.replace(settings, sign_in=f"{settings.sign_in}?reauth=1")
    location = sign_in_url(place, _way_back(facts, settings))
    denial = _redirect(307 if _is_read(facts) else 303, location, (_vary(_VARY),))
    return msgspec.structs.replace(denial, reason=Reason.SESSION_NOT_FRESH)


def _way_back(facts: RequestFacts, settings: PageSettings) -> str | None:
    """Where somebody goes on who has signed in anew: here, or to the page whose form this was."""
    if _is_read(facts):
        return callback_for(facts.target)
    return callback_from_referer(facts.referer, settings.public_origin or f"{facts.scheme}://{facts.host}")


def _is_read(facts: RequestFacts) -> bool:
    return facts.method in ("GET", "HEAD")


def _loop_page(
    decision: Deny, facts: RequestFacts, settings: PageSettings, headers: Headers, request_id: str | None
) -> Answer:
    return_to = decision.return_to or callback_for(facts.target)
    cause = decision.cause or Reason.NO_COOKIE
    is_withheld = settings.secure_cookies and facts.scheme == "http"
    values = _page_values(decision, facts, settings, request_id) | {
        "cause": cause_for(cause, secure_over_http=is_withheld, words=words_for(facts.accept_language)),
        "code": f"{decision.reason.value} / {cause.value}",
        "clear_cookies": CLEAR_COOKIES,
        "return_to": return_to,
        "sign_in_url": sign_in_url(settings, return_to),
    }
    elsewhere = origin_of(settings.sign_in) or ""
    return page_answer(decision.status, "loop.html", values, headers, form_action=elsewhere)


def _page_values(decision: Deny, facts: RequestFacts, settings: PageSettings, request_id: str | None) -> dict[str, Any]:
    words = words_for(facts.accept_language)
    return {
        **dress(words, settings.look),
        "text": text_for(decision.status, decision.reason, words),
        "status": decision.status,
        "code": decision.reason.value,
        "request_id": request_id,
        "retry": callback_for(facts.target) if decision.status >= 500 and _is_read(facts) else None,
    }


def readable(what: Answer, facts: RequestFacts, settings: PageSettings) -> Answer:
    """The same answer, which a trusted origin may read, too."""
    return msgspec.structs.replace(what, headers=(*what.headers, *_read_headers(facts, settings, ())))


def _preflight(decision: AnswerPreflight, facts: RequestFacts, settings: PageSettings) -> Answer:
    """The answer to a CORS preflight (Fetch, CORS-preflight fetch): yes to trusted origins, else 403."""
    if facts.origin not in settings.trusted_origins:
        return _deny(Deny(403, Reason.PREFLIGHT_DENIED), facts, settings, None)
    vary = ("Access-Control-Request-Method", "Access-Control-Request-Headers")
    methods = ", ".join(method for method in decision.methods if _TOKEN.fullmatch(method))
    headers = (
        NO_STORE,
        *_read_headers(facts, settings, vary),
        (b"Access-Control-Allow-Methods", methods.encode()),
        (b"Access-Control-Allow-Headers", _PREFLIGHT_HEADERS),
        (b"Access-Control-Max-Age", _PREFLIGHT_AGE_S),
    )
    return Answer(204, headers, b"")


def _read_headers(facts: RequestFacts | None, settings: PageSettings | None, vary: tuple[str, ...]) -> Headers:
    """Vary, and for an exactly trusted origin the leave to read the answer (Fetch, CORS protocol)."""
    if facts is None or settings is None or facts.origin is None or facts.origin not in settings.trusted_origins:
        return (_vary(vary),) if vary else ()
    return (
        _vary((*vary, "Origin")),
        (b"Access-Control-Allow-Origin", to_ascii(facts.origin)),
        (b"Access-Control-Allow-Credentials", b"true"),
    )


@lru_cache(maxsize=16)
def _vary(names: tuple[str, ...]) -> tuple[bytes, bytes]:
    return b"Vary", ", ".join(names).encode()


def _retry_after(seconds: int | None) -> Headers:
    return () if seconds is None else ((b"Retry-After", b"%d" % seconds),)


def _clearing(name: str, settings: PageSettings) -> list[str]:
    """Set-Cookie lines that remove a cookie, the one of this host and the one of the configured domain."""
    secure = settings.secure_cookies or name.startswith(("__Secure-", "__Host-"))
    domains = [None, settings.cookie_domain] if settings.cookie_domain and not name.startswith("__Host-") else [None]
    return [set_cookie(name, "", max_age=0, domain=domain, secure=secure, same_site="lax") for domain in domains]


@lru_cache(maxsize=16)
def _ascii_url(url: str) -> str:
    return quote(url, safe="!#$%&'()*+,/:;=?@[]~")
