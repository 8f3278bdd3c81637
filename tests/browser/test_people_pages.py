"""The pages in a real browser: what visitors do there, with a script and without, and by keyboard alone."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.conftest import NewContext
from tests.browser.sites import accounts_gate, serving
from tests.browser.walks import EMAIL, PASSWORD, Visitors, sign_in, sign_up

SESSIONS = "/.gatekeeper/sessions"
BRANDING = 'branding: {name: Analytical Engines, accent: "#7a3ea1"}\n'
APP = dict.fromkeys(("/dashboard", "/"), "<!doctype html><title>App</title><h1>App</h1>")


@asynccontextmanager
async def visited(new_context: NewContext, folder: Path, more: str = "") -> AsyncIterator[Visitors]:
    async with (
        serving(APP) as upstream,
        accounts_gate(upstream, folder / "auth.db", BRANDING + more) as gate,
    ):
        visitors = Visitors(new_context, gate)
        try:
            yield visitors
        finally:
            await visitors.leave()


@pytest_asyncio.fixture(loop_scope="session")
async def visitors(new_context: NewContext, tmp_path: Path) -> AsyncIterator[Visitors]:
    async with visited(new_context, tmp_path) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def page(visitors: Visitors) -> Page:
    return await visitors.page()


@pytest.mark.parametrize("has_script", [True, False])
async def test_from_a_protected_page_and_back(visitors: Visitors, has_script: bool) -> None:
    page = await visitors.page(java_script_enabled=has_script)
    await page.goto("/dashboard?tab=1")
    await expect(page).to_have_url(re.compile(r"/sign-in\?callbackUrl="))
    await page.get_by_role("link", name="Make an account").click()
    await sign_up(page, page.url)
    await expect(page).to_have_url("/dashboard?tab=1")
    other = await visitors.page()
    await sign_in(other, "/sign-in?callbackUrl=%2Fdashboard")
    await expect(other).to_have_url("/dashboard")
    await page.goto(SESSIONS)
    await page.get_by_role("button", name="Sign out of all other devices").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Sign out of 1 other device?")
    await page.get_by_role("button", name="Yes, sign out of 1 device").click()
    await expect(page.get_by_role("status").first).to_have_text("Done. 1 other device has been signed out.")
    await expect(page.get_by_text("You are signed in on this device only.")).to_be_visible()
    await other.goto("/dashboard")
    await expect(other).to_have_url(re.compile("/sign-in"))
    await page.get_by_role("button", name=re.compile("Sign out: ")).click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("You are signed out")


async def test_by_keyboard_alone(page: Page) -> None:
    await sign_up(page)
    await page.context.clear_cookies()
    await page.goto("/sign-in?callbackUrl=%2Fdashboard")
    await type_email(page)
    await page.keyboard.press("Tab")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Show password")).to_be_focused()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Space")
    await expect(page.get_by_label("Keep me signed in")).not_to_be_checked()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url("/dashboard")


@pytest.mark.parametrize("has_script", [True, False])
async def test_all_other_devices_are_signed_out_by_keyboard_alone(visitors: Visitors, has_script: bool) -> None:
    other = await visitors.page()
    await sign_up(other)
    page = await visitors.page(java_script_enabled=has_script)
    await page.goto(f"/sign-in?callbackUrl={SESSIONS}")
    await type_email(page)
    await tab_to(page, "Password")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(SESSIONS)
    await tab_to(page, "Sign out of all other devices")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Sign out of 1 other device?")
    await tab_to(page, "Yes, sign out of 1 device")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status").first).to_have_text("Done. 1 other device has been signed out.")
    await other.goto("/dashboard")
    await expect(other).to_have_url(re.compile("/sign-in"))
    await tab_to(page, re.compile("Sign out: "))
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("You are signed out")


async def type_email(page: Page) -> None:
    """Type into the first field: the browser gives it the focus by itself, which may be a little after the load."""
    await expect(page.get_by_label("E-mail address")).to_be_focused()
    await page.keyboard.type(EMAIL)


async def tab_to(page: Page, name: str | re.Pattern[str]) -> None:
    """Press Tab until what has this name has the focus; what has it looks different from what has not."""
    wanted = page.get_by_label(name, exact=True).or_(page.get_by_role("button", name=name, exact=True)).first
    style = "(element) => JSON.stringify(['outline', 'border'].map((name) => getComputedStyle(element)[name]))"
    before = await wanted.evaluate(style)
    for _ in range(20):
        await page.keyboard.press("Tab")
        if await wanted.evaluate("(element) => element === document.activeElement"):
            assert await wanted.evaluate(style) != before
            return
    raise AssertionError(f"the focus never came to {name!r}")


async def test_a_password_can_be_shown_and_is_hidden_when_sent(page: Page) -> None:
    await page.goto("/sign-in")
    password = page.get_by_label("Password", exact=True)
    await password.fill("wrong")
    await page.get_by_role("button", name="Show password").click()
    await expect(password).to_have_attribute("type", "text")
    await expect(password).to_be_focused()
    await page.get_by_role("button", name="Hide password").click()
    await expect(password).to_have_attribute("type", "password")


async def test_what_only_a_script_can_do_is_not_offered_without_one(visitors: Visitors) -> None:
    page = await visitors.page(java_script_enabled=False)
    await page.goto("/sign-in")
    button = page.locator("[data-reveal]")
    assert (await button.count(), await button.is_visible()) == (1, False)


async def test_a_button_says_that_the_form_is_on_its_way(page: Page) -> None:
    await page.goto("/sign-in")
    await page.get_by_label("E-mail address").fill(EMAIL)
    await page.get_by_label("Password", exact=True).fill("wrong")
    button = page.locator("form button:not([type])")
    await page.evaluate("addEventListener('submit', (event) => event.preventDefault())")
    await button.click()
    await expect(button).to_have_text("Signing in…")
    await expect(button).to_have_attribute("aria-busy", "true")


async def test_caps_lock_is_hinted_at(page: Page) -> None:
    await page.goto("/sign-in")
    hint = page.locator("#password-caps")
    press = """(isOn) => document.getElementById("password").dispatchEvent(
        new KeyboardEvent("keydown", {key: "A", modifierCapsLock: isOn}))"""
    await page.evaluate(press, True)
    await expect(hint).to_have_text("Caps Lock is on.")
    await page.evaluate(press, False)
    await expect(hint).to_have_text("")


async def test_the_list_is_made_anew_when_the_visitor_comes_back(visitors: Visitors) -> None:
    mine = await visitors.page()
    await sign_up(mine)
    await mine.goto(SESSIONS)
    await expect(mine.locator(".devices li")).to_have_count(1)
    other = await visitors.page()
    await sign_in(other)
    await mine.evaluate("window.dispatchEvent(new Event('focus'))")
    await expect(mine.locator(".devices li")).to_have_count(2)
    await mine.context.clear_cookies()
    await mine.evaluate("window.dispatchEvent(new Event('focus'))")
    await expect(mine).to_have_url(re.compile("/sign-in"))


@pytest.mark.parametrize("has_script", [True, False])
async def test_what_stands_behind_the_hash_survives_signing_in(visitors: Visitors, has_script: bool) -> None:
    page = await visitors.page(java_script_enabled=has_script)
    await page.goto("/dashboard#part-2")
    await expect(page).to_have_url(re.compile("/sign-in.*#part-2$"))
    await page.get_by_role("link", name="Make an account").click()
    await sign_up(page)
    await page.context.clear_cookies()
    await page.goto("/dashboard#part-2")
    await page.get_by_label("E-mail address").fill(EMAIL)
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await expect(page).to_have_url("/dashboard#part-2")


async def test_keep_fragment_carries_it_to_any_sign_in_page(new_context: NewContext, tmp_path: Path) -> None:
    async with visited(new_context, tmp_path, "keep_fragment: true\n") as visitors:
        page = await visitors.page()
        await page.goto("/dashboard?a=1#part-2")
        await expect(page).to_have_url(re.compile(r"/sign-in\?callbackUrl=%2Fdashboard%3Fa%3D1%23part-2$"))
        without = await visitors.page(java_script_enabled=False)
        await without.goto("/dashboard?a=1#part-2")
        await expect(without).to_have_url(re.compile(r"/sign-in\?callbackUrl=%2Fdashboard%3Fa%3D1"))


async def test_the_policy_lets_no_inline_script_run(page: Page, complaints: list[str]) -> None:
    await page.goto("/sign-in")
    await page.evaluate(
        "() => { const made = document.createElement('script'); made.textContent = 'window.ran = 1';"
        " document.body.append(made); }"
    )
    assert await page.evaluate("window.ran") is None
    (complaint,) = complaints
    assert "Executing inline script violates" in complaint
    complaints.clear()
