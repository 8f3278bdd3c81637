"""Signing in, up and out, as pages."""

from gatekeeper.core.credentials import presented_token
from gatekeeper.core.model import Reason
from gatekeeper.server.account_pages.page import refused
from gatekeeper.server.account_pages.visit import (
    FORGOT,
    SIGN_IN,
    SIGN_UP,
    SIGNED_OUT,
    Fault,
    Notice,
    Visit,
)
from gatekeeper.server.answers import Answer, Headers
from gatekeeper.server.auth_api import AuthApi
from gatekeeper.server.auth_bodies import Json
from gatekeeper.server.auth_refusals import Refusal
from gatekeeper.server.pages import SIGN_OUT

_NOTICES = {"password-reset": "password_reset", "password-reset-all": "password_reset_all"}


class SignInPage:
    """Asks for address and password.  With `reauth` in its query it does so even where somebody is signed in."""

    needs_session = False

    def __init__(self, api: AuthApi) -> None:
        self._api = api

    async def show(self, visit: Visit) -> Answer:
        visit.record = await visit.find_session()
        if visit.record is not None and not _is_reauth(visit):
            return visit.redirect(visit.callback)
        email = visit.record.user.email if visit.record is not None else ""
        return self._page(visit, 200, email, notice=visit.take_notice())

    async def send(self, visit: Visit) -> Answer:
        form = visit.form
        fields = {"email": form.get("email", "").strip(), "password": form.get("password", "")}
        body: dict[str, Json] = {**fields, "rememberMe": "rememberMe" in form}
        outcome = await self._api.run("/sign-in/email", visit.request, body)
        if isinstance(outcome.result, Refusal):
            return await refused(self, visit, outcome.result)
        await end_former(self._api, visit)
        visit.set_cookies(outcome.cookie_lines)
        return visit.redirect(visit.callback)

    async def again(self, visit: Visit, status: int, fault: Fault, headers: Headers = ()) -> Answer:
        return self._page(visit, status, visit.form.get("email", ""), fault=fault, headers=headers)

    def _page(
        self,
        visit: Visit,
        status: int,
        email: str,
        *,
        fault: Fault | None = None,
        notice: Notice | None = None,
        headers: Headers = (),
    ) -> Answer:
        t = visit.words.pages
        said = None if notice is None or notice.code not in _NOTICES else t["notices"][_NOTICES[notice.code]]
        is_reauth = _is_reauth(visit) and said is None  # the notice says why to sign in
        return visit.page(
            status,
            "sign_in.html",
            t["sign_in"]["reauth_title" if is_reauth else "title"],
            fault=fault,
            notice=said,
            headers=headers,
            token=visit.token(SIGN_IN),
            reauth=is_reauth,
            callback=visit.callback,
            kept={"email": email, "remember": visit.facts.method != "POST" or "rememberMe" in visit.form},
            forgot_url=FORGOT,
            sign_up_url=visit.leading_back(SIGN_UP) if self._api.settings.sign_up else None,
        )


class SignUpPage:
    """Asks for what an account needs, where visitors may make one."""

    needs_session = False

    def __init__(self, api: AuthApi) -> None:
        self._api = api

    async def show(self, visit: Visit) -> Answer:
        if await visit.find_session() is not None:
            return visit.redirect(visit.callback)
        return self._page(visit, 200)

    async def send(self, visit: Visit) -> Answer:
        form = visit.form
        fields = {"name": form.get("name", "").strip(), "email": form.get("email", "").strip()}
        if not fields["name"]:
            return await self.again(visit, 400, Fault(visit.words.faults["name"], "name"))
        body = fields | {"password": form.get("password", "")}
        if not body["password"]:
            return await self.again(visit, 400, Fault(visit.words.faults["password_missing"], "password"))
        outcome = await self._api.run("/sign-up/email", visit.request, body)
        if isinstance(outcome.result, Refusal):
            shortest = self._api.settings.min_password_length
            return await refused(self, visit, outcome.result, min_length=shortest)
        await end_former(self._api, visit)
        visit.set_cookies(outcome.cookie_lines)
        return visit.redirect(visit.callback)

    async def again(self, visit: Visit, status: int, fault: Fault, headers: Headers = ()) -> Answer:
        return self._page(visit, status, fault=fault, headers=headers)

    def _page(self, visit: Visit, status: int, *, fault: Fault | None = None, headers: Headers = ()) -> Answer:
        return visit.page(
            status,
            "sign_up.html",
            visit.words.pages["sign_up"]["title"],
            fault=fault,
            headers=headers,
            token=visit.token(SIGN_UP),
            callback=visit.callback,
            kept={name: visit.form.get(name, "") for name in ("name", "email")},
            length_hint=visit.words.counts["min_length"].of(self._api.settings.min_password_length),
            sign_in_url=visit.leading_back(SIGN_IN),
        )


class SignedOutPage:
    """Says that nobody is signed in; who still is may sign out here."""

    needs_session = False

    async def show(self, visit: Visit) -> Answer:
        t = visit.words.pages
        record = await visit.find_session()
        if record is None:
            paragraphs = [t["signed_out"]["lead"], t["signed_out"]["hint"]]
            links = [(SIGN_IN, t["shared"]["sign_in"]), ("/", t["shared"]["home"])]
            return visit.message(200, t["signed_out"]["title"], paragraphs, links)
        paragraphs = [t["signed_out"]["still"].format(email=record.user.email)]
        leave = {"sign_out_url": SIGN_OUT, "signed_out_url": SIGNED_OUT, "sign_out": t["shared"]["sign_out"]}
        links = [("/", t["shared"]["home"])]
        return visit.message(200, t["signed_out"]["still_title"], paragraphs, links, **leave)

    async def send(self, visit: Visit) -> Answer:
        return visit.redirect(SIGNED_OUT)

    async def again(self, visit: Visit, status: int, fault: Fault, headers: Headers = ()) -> Answer:
        return visit.redirect(SIGNED_OUT)


async def end_former(api: AuthApi, visit: Visit) -> None:
    """End the session that the browser had before: its cookie is replaced, and nobody could sign out of it any more."""
    frame = visit.frame
    found = presented_token(visit.facts.cookie, None, frame.names.session_token, frame.keys, bearer=False)
    if not isinstance(found, Reason):
        await api.run("/sign-out", visit.request, {})  # if that fails, it ends by itself


def _is_reauth(visit: Visit) -> bool:
    return visit.query.get("reauth", "") not in ("", "0")
