"""Signing in, up and out, as people do it."""

import pytest

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.server.pages import PageSettings
from tests.server.auth.replays import NAMES
from tests.server.pages.browsing import EMAIL, OWN, PagesSite


@pytest.fixture
async def site() -> PagesSite:
    site = PagesSite()
    await site.sign_up()
    return site


async def test_signs_in_and_leads_on(site: PagesSite) -> None:
    browser = site.browser()
    page = await browser.get("/sign-in?callbackUrl=%2Fdashboard%3Ftab%3D1")
    assert (page.status, page.inputs["callbackUrl"]) == (200, "/dashboard?tab=1")
    done = await browser.sign_in(path="/sign-in?callbackUrl=%2Fdashboard%3Ftab%3D1")
    assert (done.status, done.location) == (303, "/dashboard?tab=1")
    assert NAMES.session_token in browser.cookies
    again = await browser.get("/sign-in?callbackUrl=%2Fdashboard")
    assert (again.status, again.location) == (303, "/dashboard")


async def test_a_page_is_kept_by_nobody_framed_by_nobody_and_has_no_inline_script(site: PagesSite) -> None:
    page = await site.browser().get("/sign-in")
    assert page.headers["cache-control"] == "no-store"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in page.html
    assert " style=" not in page.html
    assert page.headers["vary"] == "Cookie, Accept-Language"


async def test_who_is_not_to_be_remembered_is_not(site: PagesSite) -> None:
    browser = site.browser()
    page = await browser.get("/sign-in")
    fields = {"email": EMAIL, "password": "correct horse battery", "token": page.inputs["token"]}
    done = await browser.post("/sign-in", fields)
    (line,) = [line for line in done.cookies if line.startswith(NAMES.session_token)]
    assert "Max-Age" not in line
    assert NAMES.dont_remember in browser.cookies


async def test_nobody_learns_whether_there_is_an_account(site: PagesSite) -> None:
    wrong = await site.browser().sign_in("wrong")
    unknown = await site.browser().sign_in("wrong", email="nobody@example.test")
    assert (wrong.status, unknown.status) == (401, 401)
    assert wrong.alert is not None
    assert wrong.alert == unknown.alert
    assert len(site.passwords.looked_at) == 2
    assert wrong.title == "Error: Sign in"


async def test_the_form_is_kept_but_for_the_password(site: PagesSite) -> None:
    browser = site.browser()
    await browser.send("/sign-in?callbackUrl=%2Fx", {"email": 'a"b@example.test', "password": "wrong-secret"})
    assert browser.shown is not None
    assert browser.shown.inputs["email"] == 'a"b@example.test'
    assert browser.shown.inputs["callbackUrl"] == "/x"
    assert "wrong-secret" not in browser.shown.html
    assert 'name="rememberMe" type="checkbox" value="on" aria-describedby="rememberMe-hint">' in browser.shown.html


async def test_what_was_typed_is_text_and_no_markup(site: PagesSite) -> None:
    browser = site.browser()
    await browser.sign_in("x", email='"><script>alert(1)</script>@example.test')
    assert browser.shown is not None
    assert "<script>alert" not in browser.shown.html
    assert browser.shown.fault("email") == "Error: Enter an e-mail address like name@example.com."


@pytest.mark.parametrize(("seconds", "words"), [(42, "42 seconds"), (150, "3 minutes"), (7200, "2 hours")])
async def test_throttling_is_said_with_the_time_left(site: PagesSite, seconds: int, words: str) -> None:
    site.throttle.wait_s = seconds
    page = await site.browser().sign_in()
    assert (page.status, page.headers["retry-after"]) == (429, str(seconds))
    assert page.alert == f"Error: There were too many attempts. Please wait {words}, then try again."


async def test_a_busy_gate_says_so(site: PagesSite) -> None:
    site.passwords.is_busy = True
    page = await site.browser().sign_in()
    assert page.status == 503
    assert "Many people are signing in" in (page.alert or "")


async def test_a_store_that_is_away_sets_nothing_and_says_so(site: PagesSite) -> None:
    browser = site.browser()
    page = await browser.get("/sign-in")
    site.accounts.error = StoreUnavailable("away")
    sent = await browser.post("/sign-in", {"token": page.inputs["token"], "email": EMAIL, "password": "x"})
    assert (sent.status, sent.headers["retry-after"]) == (503, "5")
    assert "We cannot reach the service" in (sent.alert or "")
    assert NAMES.session_token not in browser.cookies


async def test_reauth_always_shows_the_form_and_ends_the_session_before(site: PagesSite) -> None:
    browser = site.browser()
    await browser.sign_in()
    before = set(site.accounts.sessions)
    page = await browser.get("/sign-in?reauth=1&callbackUrl=%2Fadmin")
    assert (page.status, page.inputs["email"]) == (200, EMAIL)
    assert page.title == "Sign in again"
    done = await browser.sign_in(path="/sign-in?reauth=1&callbackUrl=%2Fadmin")
    assert done.location == "/admin"
    after = set(site.accounts.sessions)
    assert len(after - before) == 1  # the new one
    assert len(before - after) == 1  # this browser's, and not the one that signing up made elsewhere
    assert (await browser.get("/sign-in")).location == "/"


async def test_signs_up_and_leads_on() -> None:
    site = PagesSite()
    browser = site.browser()
    fields = {"name": "Ada", "email": EMAIL, "password": "correct horse battery"}
    done = await browser.send("/sign-up?callbackUrl=%2Fwelcome", fields)
    assert (done.status, done.location) == (303, "/welcome")
    assert [user.email for user in site.accounts.users.values()] == [EMAIL]
    assert (await browser.get("/sign-up")).location == "/"


@pytest.mark.parametrize(
    ("changed", "field", "words"),
    [
        ({"password": "short"}, "password", "at least 8 characters"),
        ({"password": "x" * 129}, "password", "too long"),
        ({"password": ""}, "password", "Enter your password"),
        ({"email": "ada"}, "email", "e-mail address"),
        ({"name": " "}, "name", "Enter your name"),
    ],
)
async def test_what_is_wrong_with_a_new_account_stands_at_its_field(
    changed: dict[str, str], field: str, words: str
) -> None:
    fields = {"name": "Ada", "email": EMAIL, "password": "correct horse battery"} | changed
    page = await PagesSite().browser().send("/sign-up", fields)
    assert page.status == 400
    assert words in (page.fault(field) or "")
    assert page.alert is None
    assert f'aria-describedby="{field}-fault' in page.html


async def test_an_address_that_has_an_account_is_not_called_taken(site: PagesSite) -> None:
    fields = {"name": "Ada", "email": EMAIL, "password": "correct horse battery"}
    page = await site.browser().send("/sign-up", fields)
    assert page.status == 422
    assert "taken" not in page.text
    assert "exists" not in page.text


async def test_where_visitors_make_no_accounts_there_is_no_page_for_it() -> None:
    site = PagesSite(sign_up=False)
    assert not site.pages.owns("/sign-up")
    assert "/sign-up" not in (await site.browser().get("/sign-in")).html


async def test_signed_out_says_what_is_so(site: PagesSite) -> None:
    browser = site.browser()
    assert "You are signed out" in (await browser.get("/.gatekeeper/signed-out")).title
    await browser.sign_in()
    page = await browser.get("/.gatekeeper/signed-out")
    assert page.title == "You are still signed in"
    assert EMAIL in page.text
    assert 'action="/.gatekeeper/sign-out"' in page.html
    sent = await browser.send("/.gatekeeper/signed-out", {})
    assert sent.location == "/.gatekeeper/signed-out"


async def test_speaks_the_visitors_language(site: PagesSite) -> None:
    page = await site.browser(accept_language="de-AT, en;q=0.5").sign_in("wrong")
    assert '<html lang="de">' in page.html
    assert page.title == "Fehler: Anmelden"
    assert "gehören nicht zusammen" in (page.alert or "")


async def test_further_origins_may_follow_a_form() -> None:
    pages = PageSettings("/sign-in", public_origin=OWN, trusted_origins=frozenset({"https://spa.example.test"}))
    page = await PagesSite(pages=pages).browser().get("/sign-in")
    assert "form-action 'self' https://spa.example.test;" in page.headers["content-security-policy"]
