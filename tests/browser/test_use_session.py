"""better-auth's unmodified `useSession` in a real page, behind a gate in accounts mode.

The clock of the pages is in hand: what the client does later is brought about, not waited for.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest_asyncio
from playwright.async_api import BrowserContext, Page, Request, expect

from tests.browser.conftest import NewContext
from tests.browser.sites import EMAIL, PASSWORD, accounts_gate, serving, sign_up
from tests.server.gates import COOKIE, RunningGate

HTML = '<!doctype html><html lang="en"><title>App</title><div id="root"></div><script src="/page.js"></script></html>'
ADA = "Ada Lovelace"


@pytest_asyncio.fixture(loop_scope="session")
async def gate(tmp_path: Path, use_session_script: bytes) -> AsyncIterator[RunningGate]:
    async with (
        serving({"/": HTML, "/page.js": use_session_script}) as app,
        accounts_gate(app, tmp_path / "auth.db") as gate,
    ):
        yield gate


class Tab:
    """The app's page in a tab, and how often it asked who is signed in."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked = 0
        page.on("request", self._count)

    def _count(self, request: Request) -> None:
        self.asked += urlsplit(request.url).path == "/api/auth/get-session"

    async def shows(self, name: str) -> None:
        """Wait until all three components have it: this name with what belongs to it, or `null`."""
        await expect(self.page.get_by_test_id("name")).to_have_text(name)
        for other in ("email", "ends"):
            shown = self.page.get_by_test_id(other)
            await (expect(shown).to_have_text("null") if name == "null" else expect(shown).not_to_have_text("null"))

    async def settle(self) -> None:
        """Bring about what the client meant to do within 3 seconds."""
        await self.page.clock.run_for(3_000)
        await self.fence()

    async def fence(self) -> None:
        """What the page sent before this has been counted."""
        assert await self.page.evaluate("() => fetch('/fence').then((answer) => answer.status)") == 204

    async def come_back(self) -> None:
        """As when a person leaves the tab and comes back to it.

        Every tab that is driven counts as visible, so the tab is told what a browser would tell it.
        """
        for state in ("hidden", "visible"):
            await self.page.evaluate(
                """(state) => {
                    Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
                    document.dispatchEvent(new Event("visibilitychange"));
                }""",
                state,
            )

    async def press(self, name: str) -> None:
        await self.page.get_by_role("button", name=name, exact=True).click()


async def open_tab(context: BrowserContext, gate: RunningGate) -> Tab:
    page = await context.new_page()
    await page.clock.install()
    tab = Tab(page)
    await page.goto(gate.url)
    return tab


async def sign_in(tab: Tab, password: str = PASSWORD) -> None:
    await tab.page.get_by_label("Email").fill(EMAIL)
    await tab.page.get_by_label("Password").fill(password)
    await tab.press("Sign in")


async def who(context: BrowserContext, gate: RunningGate) -> int:
    """What the gate itself says of this browser: 200 for somebody, 401 for nobody."""
    return (await context.request.get(f"{gate.url}/.gatekeeper/whoami")).status


async def test_signed_out_is_null_and_three_components_ask_once(gate: RunningGate, context: BrowserContext) -> None:
    tab = await open_tab(context, gate)
    await tab.shows("null")
    await tab.settle()
    assert tab.asked == 1


async def test_signed_in_is_session_and_user_and_three_components_ask_once(
    gate: RunningGate, context: BrowserContext
) -> None:
    await sign_up(context, gate)
    tab = await open_tab(context, gate)
    await tab.shows(ADA)
    await tab.settle()
    assert tab.asked == 1
    await expect(tab.page.get_by_test_id("email")).to_have_text(EMAIL)
    session = await (await context.request.get(f"{gate.url}/.gatekeeper/whoami")).json()
    await expect(tab.page.get_by_test_id("ends")).to_have_text(session["session"]["expiresAt"])


async def test_sign_in_and_sign_out_show_in_all_components_without_a_reload(
    gate: RunningGate, new_context: NewContext
) -> None:
    await sign_up(await new_context(), gate)
    context = await new_context()
    tab = await open_tab(context, gate)
    await tab.shows("null")
    await tab.page.evaluate("() => { window.isFirst = true }")
    await sign_in(tab)
    await tab.shows(ADA)
    assert await who(context, gate) == 200
    assert await tab.page.evaluate("() => document.cookie") == ""
    await tab.press("Sign out")
    await tab.shows("null")
    assert await who(context, gate) == 401
    assert COOKIE not in [cookie["name"] for cookie in await context.cookies()]
    assert await tab.page.evaluate("() => window.isFirst")
    await tab.settle()
    assert tab.asked == 3


async def test_wrong_password_signs_nobody_in(
    gate: RunningGate, new_context: NewContext, complaints: list[str]
) -> None:
    await sign_up(await new_context(), gate)
    context = await new_context()
    tab = await open_tab(context, gate)
    await tab.shows("null")
    await sign_in(tab, "not the password")
    await expect(tab.page.get_by_role("alert")).to_have_text("INVALID_EMAIL_OR_PASSWORD")
    await tab.settle()
    await tab.shows("null")
    assert tab.asked == 1
    assert await who(context, gate) == 401
    (complaint,) = complaints
    assert "401" in complaint  # the browser itself says so of each such answer
    complaints.clear()


async def test_coming_back_to_the_tab_asks_again_but_not_within_five_seconds(
    gate: RunningGate, context: BrowserContext
) -> None:
    await sign_up(context, gate)
    tab = await open_tab(context, gate)
    await tab.shows(ADA)
    await tab.page.clock.pause_at(datetime.now(UTC) + timedelta(hours=1))
    asked = []
    for seconds_later in (0, 3, 3):
        await tab.page.clock.run_for(seconds_later * 1_000)
        await tab.come_back()
        await tab.fence()
        asked.append(tab.asked)
    await tab.shows(ADA)
    assert asked == [2, 2, 3]


async def test_what_another_tab_does_shows_in_this_one(gate: RunningGate, context: BrowserContext) -> None:
    await sign_up(context, gate)
    tab, other = await open_tab(context, gate), await open_tab(context, gate)
    for one in (tab, other):
        await one.shows(ADA)
    await other.press("Rename")
    await tab.shows("Ada King")
    await other.shows("Ada King")
    await other.press("Sign out")
    await tab.shows("null")
    await other.shows("null")
    assert tab.asked == 3


async def test_session_revoked_from_another_device_is_gone_when_one_comes_back(
    gate: RunningGate, new_context: NewContext
) -> None:
    """Its cookie that caches the session says otherwise, for minutes: the gate knows better."""
    phone, laptop = await new_context(), await new_context()
    await sign_up(phone, gate)
    tab, other = await open_tab(phone, gate), await open_tab(laptop, gate)
    await tab.shows(ADA)
    await sign_in(other)
    await other.shows(ADA)
    assert "better-auth.session_data" in [cookie["name"] for cookie in await phone.cookies()]
    async with other.page.expect_response("**/revoke-other-sessions") as answered:
        await other.press("Sign out of all other devices")
    assert (await answered.value).status == 200
    await tab.come_back()
    await tab.shows("null")
    await other.shows(ADA)
    assert await who(laptop, gate) == 200
