"""Confirming an e-mail address, as a page: what came of the link, and the link once more."""

from gatekeeper.server.account_pages.page import refused
from gatekeeper.server.account_pages.visit import SIGN_IN, VERIFY, Fault, Visit
from gatekeeper.server.answers import Answer, Headers
from gatekeeper.server.auth_api import AuthApi
from gatekeeper.server.auth_refusals import Refusal


class VerifyPage:
    """Where the link of a mail ends.  Whether an address is confirmed is looked up, not taken from the link."""

    needs_session = False

    def __init__(self, api: AuthApi) -> None:
        self._api = api

    async def show(self, visit: Visit) -> Answer:
        t = visit.words.pages["verify"]
        error = visit.query.get("error")
        visit.record = await visit.find_session(from_store=True)
        email = "" if visit.record is None else visit.record.user.email
        if visit.record is not None and visit.record.user.email_verified:
            return visit.message(200, t["done_title"], [t["done"].format(email=email)], [("/", t["go_on"])])
        if error is not None:
            lead = t["expired" if error == "TOKEN_EXPIRED" else "invalid"]
            return self._page(visit, 200, lead, email)
        if visit.record is not None:
            return self._page(visit, 200, t["pending"].format(email=email), email)
        links = [(SIGN_IN, visit.words.pages["shared"]["sign_in"])]
        return visit.message(200, t["done_title"], [t["done_unknown"]], links)

    async def send(self, visit: Visit) -> Answer:
        t = visit.words.pages["verify"]
        body = {"email": visit.form.get("email", "").strip(), "callbackURL": VERIFY}
        if self._api.services.mail is None:
            return self._page(visit, 200, t["off"], "")
        outcome = await self._api.run("/send-verification-email", visit.request, body)
        visit.set_cookies(outcome.cookie_lines)
        if isinstance(outcome.result, Refusal):
            return await refused(self, visit, outcome.result)
        return visit.message(200, t["sent_title"], [t["sent"]], [("/", t["go_on"])])

    async def again(self, visit: Visit, status: int, fault: Fault, headers: Headers = ()) -> Answer:
        email = visit.form.get("email", "")
        return self._page(visit, status, "", email, fault=fault, headers=headers)

    def _page(
        self, visit: Visit, status: int, lead: str, email: str, *, fault: Fault | None = None, headers: Headers = ()
    ) -> Answer:
        t = visit.words.pages["verify"]
        if self._api.services.mail is None:
            return visit.message(status, t["title"], [t["off"]], [("/", visit.words.pages["shared"]["home"])])
        return visit.page(
            status,
            "verify.html",
            t["title"],
            fault=fault,
            headers=headers,
            token=visit.token(VERIFY),
            action=VERIFY,
            lead=lead,
            kept={"email": email},
        )
