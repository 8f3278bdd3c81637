"""Answers requests for pages: method, origin and form before the page has a say."""

from gatekeeper.core.decide import RETRY_AFTER_S
from gatekeeper.core.errors import StoreError
from gatekeeper.core.model import Deny, Reason
from gatekeeper.server.account_pages.addresses import VerifyPage
from gatekeeper.server.account_pages.books import SessionBook
from gatekeeper.server.account_pages.page import Page
from gatekeeper.server.account_pages.passwords import ChangePage, ForgotPage, ResetPage
from gatekeeper.server.account_pages.sessions import SessionsPage
from gatekeeper.server.account_pages.signing import SignedOutPage, SignInPage, SignUpPage
from gatekeeper.server.account_pages.visit import (
    CHANGE,
    FORGOT,
    RESET,
    SESSIONS,
    SIGN_IN,
    SIGN_UP,
    SIGNED_OUT,
    VERIFY,
    Fault,
    Frame,
    Visit,
)
from gatekeeper.server.answers import Answer
from gatekeeper.server.auth_api import AuthApi
from gatekeeper.server.auth_call import AuthRequest
from gatekeeper.server.pages import answer, error_answer, sign_in_url
from gatekeeper.server.troubles import Troubles

METHODS = ("GET", "HEAD", "POST")


class AccountPages:
    """The pages of this gate; without `api` the app has the accounts, and only the list of sessions is ours."""

    def __init__(self, frame: Frame, book: SessionBook, api: AuthApi | None = None) -> None:
        self._frame = frame
        self._troubles = Troubles("account pages cannot be shown", "account pages can be shown again")
        sessions = SessionsPage(book, self._troubles, has_accounts=api is not None)
        self._pages: dict[str, Page] = {SESSIONS: sessions}
        if api is not None:
            self._pages |= {
                SIGN_IN: SignInPage(api),
                SIGNED_OUT: SignedOutPage(),
                FORGOT: ForgotPage(api),
                RESET: ResetPage(api),
                VERIFY: VerifyPage(api),
                CHANGE: ChangePage(api, book),
            }
            if api.settings.sign_up:
                self._pages[SIGN_UP] = SignUpPage(api)

    def owns(self, path: str) -> bool:
        """Whether this canonical path is a page's."""
        return path in self._pages

    async def answer(self, request: AuthRequest) -> Answer:
        """The answer to a request for a path that it owns, its body read whole."""
        facts, pages = request.facts, self._frame.pages
        if facts.method not in METHODS:
            denial = Deny(405, Reason.METHOD_NOT_ALLOWED, allow=METHODS)
            return answer(denial, facts, pages, now_ms=self._frame.clock())
        if facts.method == "POST" and is_foreign(request):
            return error_answer(403, Reason.FOREIGN_ORIGIN, facts, pages)
        visit, page = Visit(self._frame, request), self._pages[facts.target.path]
        try:
            return await _answer(visit, page)
        except StoreError as error:
            self._troubles.began(error)
            return error_answer(503, Reason.STORE_UNAVAILABLE, facts, pages, retry_after=RETRY_AFTER_S)


def is_foreign(request: AuthRequest) -> bool:
    """Whether another site has made the browser send this: by Origin, else by Fetch metadata.

    Where a browser sends neither, the form's token has to do.
    """
    facts = request.facts
    if facts.origin is not None:
        return facts.origin.lower() != request.own_origin.lower()
    return facts.sec_fetch_site is not None and facts.sec_fetch_site != "same-origin"


async def _answer(visit: Visit, page: Page) -> Answer:
    is_sent = visit.facts.method == "POST"
    if page.needs_session:
        visit.record = await visit.find_session(from_store=is_sent)
        if visit.record is None:
            return visit.redirect(sign_in_url(visit.frame.pages, visit.facts.target.path))
    if not is_sent:
        return await page.show(visit)
    fault = visit.token_fault(visit.own_purpose(visit.facts.target.path))
    if fault is not None:
        return await page.again(visit, 403, Fault(visit.words.faults[fault.value]))
    return await page.send(visit)
