"""One request for a page under way: what was sent, in which language to answer, and what the answer sets.

What was done is said on the next page: a short cookie carries that there, signed for this browser, so that nobody else
can make a page say something.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

import msgspec

from gatekeeper.core.accounts import make_id
from gatekeeper.core.cookies import CookieNames, Keys, find_cookie, set_cookie
from gatekeeper.core.credentials import presented_token
from gatekeeper.core.csrf import (
    BROWSER_LENGTH,
    TokenFault,
    browser_line,
    find_browser,
    make_token,
    token_fault,
)
from gatekeeper.core.lifecycle import Lifetimes
from gatekeeper.core.model import Reason, SessionRecord
from gatekeeper.core.policy import fault_of
from gatekeeper.core.urls import encode_uri_component, safe_callback
from gatekeeper.server.answers import Answer, Headers, page_answer, page_headers, to_ascii
from gatekeeper.server.auth_bodies import FORM
from gatekeeper.server.auth_call import AuthRequest, Sessions
from gatekeeper.server.pages import PageSettings, dress
from gatekeeper.server.texts import words_for

SIGN_IN = "/sign-in"
SIGN_UP = "/sign-up"
SIGNED_OUT = "/.gatekeeper/signed-out"
FORGOT = "/.gatekeeper/forgot-password"
RESET = "/.gatekeeper/reset-password"
VERIFY = "/.gatekeeper/verify-email"
CHANGE = "/.gatekeeper/change-password"
SESSIONS = "/.gatekeeper/sessions"

NOTICE_COOKIE = "gatekeeper.notice"
NOTICE_S = 60
"""How long after something was done a page may say so."""

_VARY = (b"Vary", b"Cookie, Accept-Language")
_NOTICE = re.compile(r"([a-z-]{1,32})\.([0-9]{1,9})\.([0-9]{1,12}\.[A-Za-z0-9_-]{43})")


class Frame(msgspec.Struct, frozen=True):
    """What all pages need of the gate.  `clock` gives milliseconds since the epoch, `random_bytes` so many of them.

    `extends`: a session that is used is extended by the gate, by these lifetimes.  `audit` takes the name of a security
    event and what belongs to it.
    """

    pages: PageSettings
    keys: Keys
    names: CookieNames
    lifetimes: Lifetimes
    extends: bool
    sessions: Sessions
    clock: Callable[[], int]
    random_bytes: Callable[[int], bytes]
    audit: Callable[..., None]


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a form: with the field of this name, or as a whole."""

    message: str
    field: str | None = None


class Notice(msgspec.Struct, frozen=True):
    """What was done, and to how many."""

    code: str
    count: int = 0


class Visit:
    """A request for a page.  `record` is the visitor's session, where the page looked for it."""

    def __init__(self, frame: Frame, request: AuthRequest) -> None:
        self.frame = frame
        self.request = request
        self.facts = request.facts
        self.now_ms = frame.clock()
        self.words = words_for(request.facts.accept_language)
        self.query = _first_values(request.facts.target.query or "")
        self.form = _read_form(request)
        self.record: SessionRecord | None = None
        self._browser = find_browser(request.facts.cookie, secure=frame.pages.secure_cookies)
        self._set_cookies: list[str] = []

    @property
    def callback(self) -> str:
        """The path that this leads to in the end, of our own origin."""
        given = (self.form if self.facts.method == "POST" else self.query).get("callbackUrl")
        return safe_callback(given, self.frame.pages.public_origin)

    async def find_session(self, *, from_store: bool = False) -> SessionRecord | None:
        """The live session of the visitor's cookie.  Raises StoreError."""
        found = presented_token(self.facts.cookie, None, self.frame.names.session_token, self.frame.keys, bearer=False)
        if isinstance(found, Reason):
            return None
        record = await self.frame.sessions.read(found.token, self.facts, from_store=from_store)
        return None if record is None or fault_of(record, self.now_ms) is not None else record

    def own_purpose(self, path: str) -> str:
        """What a form at this path is for; that of somebody who is signed in holds for no other session."""
        return path if self.record is None else f"{path} {self.record.session.id}"

    def token(self, purpose: str) -> str:
        """The token of a form for this; the browser is given its value, if it has none."""
        if self._browser is None:
            self._browser = make_id(self.frame.random_bytes, BROWSER_LENGTH)
            self.set_cookies([browser_line(self._browser, secure=self.frame.pages.secure_cookies)])
        return make_token(self._browser, purpose, self.frame.keys, self.now_ms // 1000)

    def token_fault(self, purpose: str) -> TokenFault | None:
        """Why the form that was sent is none of ours for this."""
        return token_fault(self.form.get("token", ""), self._browser, purpose, self.frame.keys, self.now_ms // 1000)

    def note(self, notice: Notice) -> None:
        """Say this on the next page that can."""
        token = self.token(_purpose(notice))
        self._set_notice(f"{notice.code}.{notice.count}.{token}", NOTICE_S)

    def take_notice(self) -> Notice | None:
        """What is to be said of the form before, which is said once."""
        raw = find_cookie(self.facts.cookie, NOTICE_COOKIE)
        if raw is None:
            return None
        self._set_notice("", 0)
        match = _NOTICE.fullmatch(raw)
        if match is None:
            return None
        notice, now_s = Notice(match[1], int(match[2])), self.now_ms // 1000
        fault = token_fault(match[3], self._browser, _purpose(notice), self.frame.keys, now_s, lifetime_s=NOTICE_S)
        return notice if fault is None else None

    def set_cookies(self, lines: Iterable[str]) -> None:
        """Send these Set-Cookie lines with the answer."""
        self._set_cookies.extend(lines)

    def page(
        self,
        status: int,
        template: str,
        title: str,
        *,
        fault: Fault | None = None,
        notice: str | None = None,
        headers: Headers = (),
        **values: Any,
    ) -> Answer:
        """The page of this template; what is wrong stands at its field, or above all."""
        at_field = {fault.field: fault.message} if fault is not None and fault.field is not None else {}
        alert = fault.message if fault is not None and fault.field is None else None
        shown = {**dress(self.words, self.frame.pages.look), "title": title, "notice": notice, "alert": alert}
        onward = " ".join(sorted(self.frame.pages.trusted_origins))
        headers = (_VARY, *headers, *self._cookie_fields())
        return page_answer(
            status, template, shown | {"faults": at_field} | values, headers, form_action=onward, has_script=True
        )

    def message(
        self, status: int, title: str, paragraphs: Sequence[str], links: Sequence[tuple[str, str]], **values: Any
    ) -> Answer:
        """A page that only says something, and leads on: paths with what they are called."""
        shown: dict[str, Any] = {"paragraphs": paragraphs, "links": links, "sign_out_url": None} | values
        return self.page(status, "message.html", title, **shown)

    def redirect(self, location: str) -> Answer:
        """On to a path of our own origin."""
        headers = (*page_headers(has_script=True), (b"Location", to_ascii(location)), _VARY, *self._cookie_fields())
        return Answer(303, headers, b"")

    def leading_back(self, path: str, callback: str | None = None) -> str:
        """This path of ours, with where to go in the end, unless that is the root."""
        target = self.callback if callback is None else callback
        return path if target == "/" else f"{path}?callbackUrl={encode_uri_component(target)}"

    def _cookie_fields(self) -> Headers:
        return tuple((b"Set-Cookie", to_ascii(line)) for line in self._set_cookies)

    def _set_notice(self, value: str, max_age_s: int) -> None:
        secure = self.frame.pages.secure_cookies
        line = set_cookie(NOTICE_COOKIE, value, max_age=max_age_s, domain=None, secure=secure, same_site="lax")
        self.set_cookies([line])


def _purpose(notice: Notice) -> str:
    return f"notice {notice.code} {notice.count}"


def _read_form(request: AuthRequest) -> Mapping[str, str]:
    """The first value of each field of an urlencoded form; of anything else none."""
    media_type = (request.content_type or "").partition(";")[0].strip().lower()
    if request.facts.method != "POST" or media_type != FORM:
        return {}
    return _first_values(request.body.decode("utf-8", "replace"))


def _first_values(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text, keep_blank_values=True).items()}
