"""Active sessions: what is listed, in which words, and what is ended."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.lifecycle import Lifetimes
from gatekeeper.core.model import Session
from gatekeeper.server.account_pages.books import Ended, Visitor
from gatekeeper.server.account_pages.sessions import LISTED
from gatekeeper.stores.app_sessions import NotFresh
from tests.server.auth.calling import DAY_MS, MINUTE_MS
from tests.server.pages.browsing import PASSWORD, SAFARI, Browser, PagesSite, Shown

SESSIONS = "/.gatekeeper/sessions"
CONFIRM = SESSIONS + "?confirm=others"


@pytest.fixture
async def site() -> PagesSite:
    """Ada signed up with a program that says nothing of itself."""
    site = PagesSite()
    await site.sign_up()
    return site


async def signed_in(site: PagesSite, user_agent: str | None = None) -> Browser:
    browser = site.browser() if user_agent is None else site.browser(user_agent)
    await browser.sign_in()
    return browser


def devices(page: Shown) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", page.html)


def ids(page: Shown) -> list[str]:
    return re.findall('name="revoke" value="(.*?)"', page.html)


async def test_lists_devices_by_name_this_one_first(site: PagesSite) -> None:
    browser = await signed_in(site)
    site.now_ms += MINUTE_MS
    await signed_in(site, SAFARI)
    page = await browser.get(SESSIONS)
    assert devices(page) == ["Firefox on Linux", "Safari on iPhone", "Unknown device"]
    assert page.html.count("This device") == 1
    assert page.html.index("This device") < page.html.index("Safari on iPhone")
    assert "You are signed in on 2 other devices." in page.text
    assert "192.0.2.1" in page.text
    assert "21 September 2026, 14:13 UTC" in page.text  # NOW_MS
    assert "23 September 2026, 14:13 UTC" in page.text


async def test_no_token_stands_in_the_page(site: PagesSite) -> None:
    browser = await signed_in(site)
    page = await browser.get(SESSIONS)
    assert [token for token in site.accounts.sessions if token in page.html] == []
    assert len(site.accounts.sessions) == 2


async def test_sessions_of_others_and_expired_ones_are_not_there(site: PagesSite) -> None:
    browser = await signed_in(site)
    await site.sign_up("eve@example.test")
    site.now_ms += DAY_MS + MINUTE_MS  # Ada's first ends in two days, and is not used
    await browser.get("/sign-in")
    page = await browser.get(SESSIONS)
    assert len(devices(page)) == 2
    site.now_ms += DAY_MS
    for token, session in list(site.accounts.sessions.items()):
        if session.user_agent and "Firefox" in session.user_agent:
            site.accounts.sessions[token] = replace(session, expires_at_ms=site.now_ms + DAY_MS)
    assert len(devices(await browser.get(SESSIONS))) == 1


async def test_ends_one(site: PagesSite) -> None:
    browser = await signed_in(site)
    phone = await signed_in(site, SAFARI)
    page = await browser.get(SESSIONS)
    phone_id = next(one.id for one in site.accounts.sessions.values() if one.user_agent == SAFARI)
    assert phone_id in ids(page)
    done = await browser.post(SESSIONS, {"token": page.inputs["token"], "revoke": phone_id})
    assert (done.status, done.location) == (303, SESSIONS)
    after = await browser.get(SESSIONS)
    assert after.notice == "Done. The device has been signed out."
    assert devices(after) == ["Firefox on Linux", "Unknown device"]
    assert (await phone.get(SESSIONS)).status == 303
    assert [name for name, _ in site.sessions.told] == ["ended"]
    again = await browser.post(SESSIONS, {"token": page.inputs["token"], "revoke": phone_id})
    assert again.status == 303
    assert (await browser.get(SESSIONS)).notice == "That device was signed out already."


async def test_ends_all_others_after_asking(site: PagesSite) -> None:
    browser = await signed_in(site)
    await signed_in(site, SAFARI)
    asked = await browser.get(CONFIRM)
    assert asked.title == "Sign out of 2 other devices?"
    assert "Yes, sign out of 2 devices" in asked.text
    assert "Safari on iPhone" in asked.text
    assert len(site.accounts.sessions) == 3  # asking does nothing
    done = await browser.post(SESSIONS, {"token": asked.inputs["token"], "others": asked.inputs["others"]})
    assert done.location == SESSIONS
    page = await browser.get(SESSIONS)
    assert page.notice == "Done. 2 other devices have been signed out."
    assert "You are signed in on this device only." in page.text
    assert devices(page) == ["Firefox on Linux"]
    (event,) = [fields for name, fields in site.audited if name == "sessions_revoked"]
    assert event["count"] == 2
    assert (await browser.get(CONFIRM)).notice == "There are no other devices to sign out."
    await browser.post(SESSIONS, {"token": asked.inputs["token"], "others": "yes"})
    assert (await browser.get(SESSIONS)).notice == "There are no other devices to sign out."


@pytest.mark.parametrize(("others", "left_out"), [(LISTED - 1, 0), (LISTED, 1), (3 * LISTED, 2 * LISTED + 1)])
async def test_so_many_are_listed_and_all_of_them_ended(site: PagesSite, others: int, left_out: int) -> None:
    browser = await signed_in(site)
    (first,) = [one for one in site.accounts.sessions.values() if not one.user_agent]
    for n in range(others - 1):
        seen_ms = site.now_ms - n  # an odd name each, the later ones used longer ago
        one = replace(first, id=f"many_{n}", token=f"token{n}", user_agent=f"Odd{n} (x; y)", updated_at_ms=seen_ms)
        site.accounts.sessions[one.token] = one
    page = await browser.get(SESSIONS)
    assert len(devices(page)) == min(others + 1, LISTED)
    assert f"You are signed in on {others} other devices." in page.text
    assert ("many_0" in ids(page), f"many_{others - 2}" in ids(page)) == (True, left_out == 0)
    more = f"{left_out} more device{'s are' if left_out > 1 else ' is'} not shown."
    assert (more in page.text) is (left_out > 0)
    asked = await browser.get(CONFIRM)
    assert asked.title == f"Sign out of {others} other devices?"
    assert asked.html.count("<li>") == min(others, LISTED)
    assert ("not shown" in asked.text) is (others > LISTED)
    await browser.post(SESSIONS, {"token": asked.inputs["token"], "others": "yes"})
    assert (await browser.get(SESSIONS)).notice == f"Done. {others} other devices have been signed out."
    assert len(site.accounts.sessions) == 1


async def test_the_count_is_of_live_ones(site: PagesSite) -> None:
    browser = await signed_in(site)
    await signed_in(site, SAFARI)
    asked = await browser.get(CONFIRM)
    for token, session in list(site.accounts.sessions.items()):
        if not session.user_agent:
            site.accounts.sessions[token] = replace(session, expires_at_ms=site.now_ms - 1)
    await browser.post(SESSIONS, {"token": asked.inputs["token"], "others": "yes"})
    assert len(site.accounts.sessions) == 1  # what has expired goes, too
    assert (await browser.get(SESSIONS)).notice == "Done. 1 other device has been signed out."


async def test_ends_nobody_elses(site: PagesSite) -> None:
    browser = await signed_in(site)
    await site.sign_up("eve@example.test")
    eve = next(user.id for user in site.accounts.users.values() if user.email.startswith("eve"))
    theirs = next(one.id for one in site.accounts.sessions.values() if one.user_id == eve)
    page = await browser.get(SESSIONS)
    await browser.post(SESSIONS, {"token": page.inputs["token"], "revoke": theirs})
    await browser.post(SESSIONS, {"token": page.inputs["token"], "others": "yes"})
    assert [one.id for one in site.accounts.sessions.values() if one.user_id == eve] == [theirs]


async def test_a_form_of_another_site_ends_nothing(site: PagesSite) -> None:
    browser = await signed_in(site)
    page = await browser.get(SESSIONS)
    foreign = await browser.post(
        SESSIONS,
        {"token": page.inputs["token"], "others": "yes"},
        origin="https://evil.test",
        sec_fetch_site="cross-site",
    )
    forged = await browser.post(SESSIONS, {"token": "x", "others": "yes"})
    assert (foreign.status, forged.status) == (403, 403)
    assert forged.alert is not None
    assert len(devices(forged)) == 2
    assert len(site.accounts.sessions) == 2


async def test_its_own_session_is_not_ended_from_the_list(site: PagesSite) -> None:
    browser = await signed_in(site)
    page = await browser.get(SESSIONS)
    own = next(one.id for one in site.accounts.sessions.values() if one.user_agent and "Firefox" in one.user_agent)
    for chosen in (own, ""):
        await browser.post(SESSIONS, {"token": page.inputs["token"], "revoke": chosen})
    assert len(site.accounts.sessions) == 2
    assert own not in ids(page)


@pytest.mark.parametrize(
    ("later_ms", "changes", "words"),
    [
        pytest.param(5_000, {}, "In the last 60 seconds", id="just-now"),
        pytest.param(20 * MINUTE_MS, {}, "In the last 20 minutes", id="not-extended-yet"),
        pytest.param(23 * 60 * MINUTE_MS, {}, "In the last 23 hours", id="nor-here"),
        pytest.param(27 * 60 * MINUTE_MS, {}, "Not in the last 3 hours", id="would-have-been-extended"),
        pytest.param(
            27 * 60 * MINUTE_MS, {"expires_at_ms": 30 * 60 * MINUTE_MS}, "In the last 27 hours", id="forgotten"
        ),
    ],
)
async def test_says_no_more_of_activity_than_is_known(
    site: PagesSite, later_ms: int, changes: dict[str, int], words: str
) -> None:
    began_ms = site.now_ms
    for token, session in list(site.accounts.sessions.items()):
        moved = {name: began_ms + ms for name, ms in changes.items()}
        site.accounts.sessions[token] = replace(session, **moved)
    site.now_ms += later_ms
    browser = await signed_in(site)
    assert f">{words}<" in (await browser.get(SESSIONS)).html


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"extends": False}, id="an-app-that-may-never-extend"),
        pytest.param({"lifetimes": Lifetimes(DAY_MS, 60 * MINUTE_MS)}, id="as-long-as-one-not-remembered"),
    ],
)
async def test_does_not_say_unused_of_what_nobody_would_have_extended(changes: dict[str, Any]) -> None:
    """Somebody who looks for a thief must not read that a session is idle which is used at this moment."""
    site = PagesSite(**changes)
    await site.sign_up()
    hours = (site.settings.lifetimes.update_age_ms + 3 * 60 * MINUTE_MS) // (60 * MINUTE_MS)
    site.now_ms += hours * 60 * MINUTE_MS
    browser = await signed_in(site)
    assert f">In the last {hours} hours<" in (await browser.get(SESSIONS)).html


async def test_ipv6_addresses_are_short_and_odd_ones_left_out(site: PagesSite) -> None:
    addresses = ("2001:0db8:0000:0001:0000:0000:0000:0000", "not an address", None)
    browser = await signed_in(site)
    for address in addresses:
        for token, session in list(site.accounts.sessions.items()):
            site.accounts.sessions[token] = replace(session, ip_address=address)
        page = await browser.get(SESSIONS)
        assert ("2001:db8:0:1::" in page.text) is (address == addresses[0])
        assert "not an address" not in page.text


async def test_what_a_program_calls_itself_is_text(site: PagesSite) -> None:
    browser = await signed_in(site)
    for token, session in list(site.accounts.sessions.items()):
        if not session.user_agent:
            site.accounts.sessions[token] = replace(
                session, user_agent="<script>alert(1)</script>/1.0", impersonated_by="admin_1"
            )
    page = await browser.get(SESSIONS)
    assert "<script>alert" not in page.html
    assert "Opened by an administrator" in page.text


class FakeBook:
    """A place that fails as it is told to."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.fails = True

    async def live(self, visitor: Visitor) -> Sequence[Session]:
        if self.fails:
            raise self.error
        return [visitor.record.session]

    async def end(self, visitor: Visitor, session_id: str) -> Ended:
        raise self.error

    async def end_others(self, visitor: Visitor) -> Ended:
        raise self.error


async def test_an_app_that_asks_for_a_recent_sign_in_is_spoken_for() -> None:
    site = PagesSite(book=FakeBook(NotFresh()))
    await site.sign_up()
    browser = await signed_in(site)
    page = await browser.get(SESSIONS)
    assert (page.status, page.title) == (403, "Please sign in again")
    assert 'href="/sign-in?callbackUrl=%2F.gatekeeper%2Fsessions"' in page.html
    assert '<form method="post" action="/.gatekeeper/sign-out">' in page.html
    assert (page.inputs["callbackUrl"], "Sign out and in again" in page.text) == (SESSIONS, True)


async def test_in_companion_mode_there_is_this_page_alone() -> None:
    site = PagesSite(has_accounts=False)
    result = await site.sign_up()
    browser = site.browser()
    browser.cookies = dict(part.split("=", 1) for part in result.cookie_header.split("; "))
    page = await browser.get(SESSIONS)
    assert page.status == 200
    assert "change-password" not in page.html
    assert "change your password in the app" in page.text
    assert not any(site.pages.owns(path) for path in ("/sign-in", "/sign-up", "/.gatekeeper/change-password"))


async def test_a_store_that_fails_meanwhile_promises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    book = FakeBook(StoreUnavailable("away"))
    site = PagesSite(book=book)
    await site.sign_up()
    browser = await signed_in(site)
    assert (await browser.get(SESSIONS)).status == 503
    book.fails = False
    await browser.get(SESSIONS)
    visit_token = await token_for(site, browser)
    for _ in range(2):
        page = await browser.post(SESSIONS, {"token": visit_token, "others": "yes"})
        assert (page.status, page.title, page.headers["retry-after"]) == (503, "Please look once more", "5")
        assert "we cannot say" in page.text
        assert (await browser.get(SESSIONS)).status == 200
        await browser.post(SESSIONS, {"token": visit_token, "revoke": ""})  # asks nobody
    said = [(one.levelname, one.getMessage()) for one in caplog.records if one.name == "gatekeeper"]
    assert said == [
        ("ERROR", "account pages cannot be shown: away"),
        ("WARNING", "account pages can be shown again"),
        ("ERROR", "sessions cannot be ended for certain: away"),
    ]
    book.error = NotFresh()
    page = await browser.post(SESSIONS, {"token": visit_token, "revoke": "session_2"})
    assert (page.status, page.title) == (403, "Please sign in again")
    book.fails = True
    assert (await browser.post(SESSIONS, {"token": "x"})).title == "Please sign in again"


async def token_for(site: PagesSite, browser: Browser) -> str:
    """The token of the list's forms, of which this list of one device has none."""
    from gatekeeper.core.csrf import make_token

    value = browser.cookies["gatekeeper.form"]
    (own,) = [one.id for one in site.accounts.sessions.values() if one.user_agent and "Firefox" in one.user_agent]
    return make_token(value, f"{SESSIONS} {own}", site.settings.keys, site.now_ms // 1000)


async def test_changing_the_password_is_offered_where_it_is_ours(site: PagesSite) -> None:
    browser = await signed_in(site)
    assert 'href="/.gatekeeper/change-password"' in (await browser.get(SESSIONS)).html
    assert PASSWORD not in (await browser.get(SESSIONS)).html
