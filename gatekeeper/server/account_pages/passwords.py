"""Passwords as pages: forgotten, chosen anew by the link of a mail, and changed."""

from gatekeeper.core.accounts import password_fault
from gatekeeper.server.account_pages.books import SessionBook, Visitor
from gatekeeper.server.account_pages.page import refused
from gatekeeper.server.account_pages.visit import (
    CHANGE,
    FORGOT,
    RESET,
    SESSIONS,
    SIGN_IN,
    Fault,
    Notice,
    Visit,
)
from gatekeeper.server.answers import Answer, Headers
from gatekeeper.server.auth_api import AuthApi
from gatekeeper.server.auth_bodies import Json
from gatekeeper.server.auth_refusals import INVALID_TOKEN, UNAUTHORIZED, Refusal


class ForgotPage:
    """Asks for an address, and says the same whether or not it is somebody's."""

    needs_session = False

    def __init__(self, api: AuthApi) -> None:
        self._api = api

    async def show(self, visit: Visit) -> Answer:
        return self._page(visit, 200)

    async def send(self, visit: Visit) -> Answer:
        if self._api.services.mail is None:
            return self._page(visit, 200)
        body = {"email": visit.form.get("email", "").strip(), "redirectTo": RESET}
        outcome = await self._api.run("/request-password-reset", visit.request, body)
        if isinstance(outcome.result, Refusal):
            return await refused(self, visit, outcome.result)
        t = visit.words.pages["forgot"]
        links = [(SIGN_IN, t["back"]), (FORGOT, t["again"])]
        return visit.message(200, t["sent_title"], [t["sent"], t["sent_hint"]], links)

    async def again(self, visit: Visit, status: int, fault: Fault, headers: Headers = ()) -> Answer:
        return self._page(visit, status, fault=fault, headers=headers)

    def _page(self, visit: Visit, status: int, *, fault: Fault | None = None, headers: Headers = ()) -> Answer:
        t = visit.words.pages["forgot"]
        if self._api.services.mail is None:
            return visit.message(status, t["off_title"], [t["off"], t["off_advice"]], [(SIGN_IN, t["back"])])
        return visit.page(
            status,
            "forgot.html",
            t["title"],
            fault=fault,
            headers=headers,
            token=visit.token(FORGOT),
            kept={"email": visit.form.get("email", "")},
            sign_in_url=SIGN_IN,
        )


class ResetPage:
    """Asks for a new password, of who comes by the link of a mail."""

    needs_session = False

    def __init__(self, api: AuthApi) -> None:
        self._api = api

    async def show(self, visit: Visit) -> Answer:
        link = visit.query.get("token", "")
        return self._page(visit, 200, link) if link and "error" not in visit.query else self._invalid(visit)

    async def send(self, visit: Visit) -> Answer:
        body = {"token": visit.form.get("link", ""), "newPassword": visit.form.get("newPassword", "")}
        outcome = await self._api.run("/reset-password", visit.request, body)
        if outcome.result is INVALID_TOKEN:
            return self._invalid(visit)
        settings = self._api.settings
        if isinstance(outcome.result, Refusal):
            shortest = settings.min_password_length
            return await refused(self, visit, outcome.result, new_field="newPassword", min_length=shortest)
        visit.note(Notice("password-reset-all" if settings.revoke_on_reset else "password-reset"))
        return visit.redirect(f"{SIGN_IN}?reauth=1")

    async def again(self, visit: Visit, status: int, fault: Fault, headers: Headers = ()) -> Answer:
        return self._page(visit, status, visit.form.get("link", ""), fault=fault, headers=headers)

    def _invalid(self, visit: Visit) -> Answer:
        t = visit.words.pages["reset"]
        return visit.message(400, t["invalid_title"], [t["invalid"], t["invalid_advice"]], [(FORGOT, t["again"])])

    def _page(
        self, visit: Visit, status: int, link: str, *, fault: Fault | None = None, headers: Headers = ()
    ) -> Answer:
        return visit.page(
            status,
            "reset.html",
            visit.words.pages["reset"]["title"],
            fault=fault,
            headers=headers,
            token=visit.token(RESET),
            action=RESET,
            link=link,
            ends_all=self._api.settings.revoke_on_reset,
            length_hint=visit.words.counts["min_length"].of(self._api.settings.min_password_length),
        )


class ChangePage:
    """Gives who knows the present password another one."""

    needs_session = True

    def __init__(self, api: AuthApi, book: SessionBook) -> None:
        self._api = api
        self._book = book

    async def show(self, visit: Visit) -> Answer:
        return self._page(visit, 200)

    async def send(self, visit: Visit) -> Answer:
        form, ends_others = visit.form, "others" in visit.form
        visitor = Visitor.of(visit)
        live = {one.token for one in await self._book.live(visitor)} if ends_others else set[str]()
        passwords = {name: form.get(name, "") for name in ("currentPassword", "newPassword")}
        body: dict[str, Json] = {**passwords, "revokeOtherSessions": ends_others}
        outcome = await self._api.run("/change-password", visit.request, body)
        visit.set_cookies(outcome.cookie_lines)
        if outcome.result is UNAUTHORIZED:
            return visit.redirect(visit.leading_back(SIGN_IN, CHANGE))
        if isinstance(outcome.result, Refusal):
            shortest = self._api.settings.min_password_length
            is_new = password_fault(passwords["newPassword"], shortest) is not None
            at = "newPassword" if is_new else "currentPassword"
            return await refused(self, visit, outcome.result, new_field=at, min_length=shortest)
        others = live.intersection(outcome.ended) - {visitor.token}
        visit.note(Notice("password-changed", len(others)))
        return visit.redirect(SESSIONS)

    async def again(self, visit: Visit, status: int, fault: Fault, headers: Headers = ()) -> Answer:
        return self._page(visit, status, fault=fault, headers=headers)

    def _page(self, visit: Visit, status: int, *, fault: Fault | None = None, headers: Headers = ()) -> Answer:
        return visit.page(
            status,
            "change.html",
            visit.words.pages["change"]["title"],
            fault=fault,
            headers=headers,
            token=visit.token(visit.own_purpose(CHANGE)),
            email="" if visit.record is None else visit.record.user.email,
            kept={"others": visit.facts.method != "POST" or "others" in visit.form},
            length_hint=visit.words.counts["min_length"].of(self._api.settings.min_password_length),
            sessions_url=SESSIONS,
        )
