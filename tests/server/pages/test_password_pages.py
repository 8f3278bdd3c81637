"""Passwords and addresses: forgotten, chosen anew, changed, confirmed."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import Session
from tests.server.auth.calling import MINUTE_MS
from tests.server.auth.replays import NAMES
from tests.server.pages.browsing import EMAIL, OWN, PASSWORD, SAFARI, Browser, PagesSite

FORGOT = "/.gatekeeper/forgot-password"
RESET = "/.gatekeeper/reset-password"
CHANGE = "/.gatekeeper/change-password"
VERIFY = "/.gatekeeper/verify-email"
NEW = "another good password"


@pytest.fixture
async def site() -> PagesSite:
    site = PagesSite()
    await site.sign_up()
    return site


async def link_of(site: PagesSite) -> str:
    """Where the link of the mail leads, as a path of a page."""
    assert site.mail is not None
    (message,) = site.mail.sent
    site.mail.sent.clear()
    assert message.url.startswith(f"{OWN}/api/auth/")
    followed = await site.get(message.url.removeprefix(f"{OWN}/api/auth"))
    assert followed.status == 302
    return followed.headers["Location"].removeprefix(OWN)


async def test_a_forgotten_password_is_chosen_anew(site: PagesSite) -> None:
    browser = site.browser()
    sent = await browser.send(FORGOT, {"email": EMAIL})
    assert (sent.status, sent.title) == (200, "Look in your inbox")
    path = await link_of(site)
    assert path.startswith(RESET + "?token=")
    page = await browser.get(path)
    assert page.headers["referrer-policy"] == "strict-origin"
    done = await browser.send(path, {"newPassword": NEW}, at=RESET)
    assert (done.status, done.location) == (303, "/sign-in?reauth=1")
    shown = await browser.get("/sign-in?reauth=1")
    assert shown.notice == "Your new password is saved, and every device has been signed out. Please sign in with it."
    assert shown.title == "Sign in"
    assert "recent sign-in" not in shown.text
    assert site.accounts.sessions == {}
    assert (await browser.get("/sign-in")).notice is None
    assert (await browser.sign_in(NEW)).status == 303
    used = await browser.get(path)
    again = await browser.send(path, {"newPassword": NEW}, at=RESET)
    assert (used.status, again.status, again.title) == (200, 400, "This link does not work any more")


async def test_the_notice_is_that_of_the_configuration(site: PagesSite) -> None:
    site = PagesSite(revoke_on_reset=False)
    await site.sign_up()
    browser = site.browser()
    await browser.send(FORGOT, {"email": EMAIL})
    path = await link_of(site)
    assert "every device" not in (await browser.get(path)).text
    await browser.send(path, {"newPassword": NEW}, at=RESET)
    assert (await browser.get("/sign-in")).notice == "Your new password is saved. Please sign in with it."


async def test_nobody_learns_by_forgetting_whether_there_is_an_account(site: PagesSite) -> None:
    known = await site.browser().send(FORGOT, {"email": EMAIL})
    unknown = await site.browser().send(FORGOT, {"email": "nobody@example.test"})
    assert known.html == unknown.html
    assert known.status == unknown.status
    assert site.mail is not None
    assert len(site.mail.sent) == 1


async def test_what_is_no_address_is_said_at_the_field(site: PagesSite) -> None:
    page = await site.browser().send(FORGOT, {"email": "ada"})
    assert (page.status, page.inputs["email"]) == (400, "ada")
    assert "e-mail address" in (page.fault("email") or "")


async def test_a_site_without_mail_says_so() -> None:
    site = PagesSite()
    await site.sign_up()
    from msgspec.structs import replace

    from gatekeeper.server.account_pages.account_pages import AccountPages
    from gatekeeper.server.account_pages.books import AccountBook
    from gatekeeper.server.auth_api import AuthApi

    api = AuthApi(site.settings, replace(site.api.services, mail=None), lambda: site.now_ms)
    site.pages = AccountPages(site.frame, AccountBook(site.accounts), api)
    browser = site.browser()
    token = (await browser.get("/sign-in")).inputs["token"]
    assert token
    for path in (FORGOT, VERIFY + "?error=INVALID_TOKEN"):
        page = await browser.get(path)
        assert page.status == 200
        assert "does not send e-mail" in page.text
        assert "<form" not in page.html


@pytest.mark.parametrize("query", ["", "?error=INVALID_TOKEN", "?token=", "?token=x&error=INVALID_TOKEN"])
async def test_a_link_that_is_none_says_what_to_do(site: PagesSite, query: str) -> None:
    page = await site.browser().get(RESET + query)
    assert (page.status, page.title) == (400, "This link does not work any more")
    assert f'href="{FORGOT}"' in page.html


async def test_a_new_password_that_is_too_short_costs_no_link(site: PagesSite) -> None:
    browser = site.browser()
    await browser.send(FORGOT, {"email": EMAIL})
    path = await link_of(site)
    page = await browser.send(path, {"newPassword": "short"}, at=RESET)
    assert (page.status, page.inputs["link"]) == (400, path.partition("=")[2])
    assert "at least 8 characters" in (page.fault("newPassword") or "")
    token = {"token": page.inputs["token"], "link": page.inputs["link"]}
    assert (await browser.post(RESET, token | {"newPassword": NEW})).status == 303


async def signed_in(site: PagesSite) -> Browser:
    browser = site.browser()
    await browser.sign_in()
    return browser


async def test_changes_a_password_and_signs_the_others_out(site: PagesSite) -> None:
    browser = await signed_in(site)
    other = site.browser(SAFARI)
    await other.sign_in()
    before = browser.cookies[NAMES.session_token]
    fields = {"currentPassword": PASSWORD, "newPassword": NEW, "others": "on"}
    done = await browser.send(CHANGE, fields)
    assert (done.status, done.location) == (303, "/.gatekeeper/sessions")
    page = await browser.get("/.gatekeeper/sessions")
    assert page.notice == "Your password has been changed. Done. 2 other devices have been signed out."
    assert browser.cookies[NAMES.session_token] != before
    assert len(site.accounts.sessions) == 1
    assert (await other.get(CHANGE)).status == 303


async def test_the_count_of_others_is_of_those_that_the_change_ended(site: PagesSite) -> None:
    """Between the page's look at the list and the change, one signs out by itself, and one has long expired."""
    browser = await signed_in(site)
    gone, expired = [await signed_in(site) for _ in range(2)]
    tokens = [one.cookies[NAMES.session_token].partition(".")[0] for one in (gone, expired)]
    site.accounts.sessions[tokens[1]] = replace(site.accounts.sessions[tokens[1]], expires_at_ms=site.now_ms - 1)
    list_live = site.accounts.list_live

    async def list_and_lose(user_id: str, *, now_ms: int) -> Sequence[Session]:
        live = await list_live(user_id, now_ms=now_ms)
        site.accounts.sessions.pop(tokens[0], None)
        return live

    site.accounts.list_live = list_and_lose
    await browser.send(CHANGE, {"currentPassword": PASSWORD, "newPassword": NEW, "others": "on"})
    page = await browser.get("/.gatekeeper/sessions")
    assert page.notice == "Your password has been changed. Done. 1 other device has been signed out."


async def test_changes_a_password_and_leaves_the_others_be(site: PagesSite) -> None:
    browser = await signed_in(site)
    await browser.send(CHANGE, {"currentPassword": PASSWORD, "newPassword": NEW})
    assert (await browser.get("/.gatekeeper/sessions")).notice == "Your password has been changed."
    assert len(site.accounts.sessions) == 2


@pytest.mark.parametrize(
    ("changed", "field", "words"),
    [
        ({"currentPassword": "wrong"}, "currentPassword", "not your current password"),
        ({"newPassword": "short"}, "newPassword", "at least 8 characters"),
        ({"newPassword": "x" * 129}, "newPassword", "too long"),
        ({"currentPassword": "x" * 129}, "currentPassword", "too long"),
        ({"currentPassword": "x" * 129, "newPassword": "short"}, "newPassword", "at least 8 characters"),
        ({"currentPassword": "x" * 129, "newPassword": "x" * 129}, "newPassword", "too long"),
    ],
)
async def test_what_is_wrong_with_a_change_stands_at_its_field(
    site: PagesSite, changed: dict[str, str], field: str, words: str
) -> None:
    browser = await signed_in(site)
    page = await browser.send(CHANGE, {"currentPassword": PASSWORD, "newPassword": NEW} | changed)
    assert page.status == 400
    assert words in (page.fault(field) or "")
    assert 'name="others" type="checkbox" value="on" aria-describedby="others-hint">' in page.html
    assert len(site.accounts.sessions) == 2


async def test_who_has_no_password_is_told_so(site: PagesSite) -> None:
    browser = await signed_in(site)
    site.accounts.passwords = dict.fromkeys(site.accounts.passwords)
    page = await browser.send(CHANGE, {"currentPassword": PASSWORD, "newPassword": NEW})
    assert "has no password" in (page.alert or "")


async def test_a_session_that_ended_meanwhile_changes_nothing(site: PagesSite) -> None:
    browser = await signed_in(site)
    page = await browser.get(CHANGE)
    site.accounts.sessions.clear()
    fields = {"token": page.inputs["token"], "currentPassword": PASSWORD, "newPassword": NEW}
    sent = await browser.post(CHANGE, fields)
    assert (sent.status, sent.location) == (303, "/sign-in?callbackUrl=%2F.gatekeeper%2Fchange-password")
    assert set(site.accounts.passwords.values()) == {f"hash:{PASSWORD}"}


async def test_confirms_an_address(site: PagesSite) -> None:
    browser = await signed_in(site)
    page = await browser.get(VERIFY)
    assert (page.status, page.inputs["email"]) == (200, EMAIL)
    assert "not confirmed yet" in page.text
    sent = await browser.send(VERIFY, {"email": EMAIL})
    assert sent.title == "Look in your inbox"
    assert await link_of(site) == VERIFY
    done = await browser.get(VERIFY)
    assert f"Your e-mail address {EMAIL} is confirmed." in done.text
    late = await browser.get(VERIFY + "?error=TOKEN_EXPIRED")
    assert "is confirmed" in late.text
    again = await browser.post(VERIFY, {"token": page.inputs["token"], "email": EMAIL})
    assert "confirmed already" in (again.alert or "")


@pytest.mark.parametrize(("error", "words"), [("TOKEN_EXPIRED", "too old"), ("INVALID_TOKEN", "does not work")])
async def test_says_what_is_wrong_with_a_link(site: PagesSite, error: str, words: str) -> None:
    browser = site.browser()
    page = await browser.get(f"{VERIFY}?error={error}")
    assert words in page.text
    sent = await browser.send(f"{VERIFY}?error={error}", {"email": EMAIL}, at=VERIFY)
    unknown = await browser.send(f"{VERIFY}?error={error}", {"email": "nobody@example.test"}, at=VERIFY)
    assert sent.html == unknown.html


async def test_whether_an_address_is_confirmed_is_looked_up(site: PagesSite) -> None:
    """A page that anybody can link to claims nothing."""
    page = await site.browser().get(VERIFY)
    assert "If you came by the link" in page.text
    assert "is not confirmed" not in page.text


async def test_a_wrong_address_is_said(site: PagesSite) -> None:
    browser = await signed_in(site)
    page = await browser.send(VERIFY, {"email": "other@example.test"})
    assert "not the address of the account" in (page.alert or "")


async def test_a_notice_cannot_be_forged_nor_said_twice_nor_late(site: PagesSite) -> None:
    browser = site.browser()
    await browser.get("/sign-in")
    for forged in ("password-reset.0.1790000000." + "A" * 43, "password-reset", "", "x" * 500):
        browser.cookies["gatekeeper.notice"] = forged
        assert (await browser.get("/sign-in")).notice is None
        assert "gatekeeper.notice" not in browser.cookies
    await browser.send(FORGOT, {"email": EMAIL})
    await browser.send(await link_of(site), {"newPassword": NEW}, at=RESET)
    kept = browser.cookies["gatekeeper.notice"]
    other = site.browser()
    await other.get("/sign-in")
    other.cookies["gatekeeper.notice"] = kept
    assert (await other.get("/sign-in")).notice is None
    site.now_ms += MINUTE_MS
    assert (await browser.get("/sign-in")).notice is None


async def test_a_store_that_is_away_is_said_by_every_page(site: PagesSite) -> None:
    browser = await signed_in(site)
    site.accounts.error = StoreUnavailable("away")
    for path in (CHANGE, VERIFY, "/sign-in", "/sign-up", "/.gatekeeper/signed-out", "/.gatekeeper/sessions"):
        page = await browser.get(path)
        assert (page.status, page.headers["retry-after"]) == (503, "5"), path
        assert NAMES.session_token in browser.cookies
