"""What visitors do, in few words."""

from typing import Any

from playwright.async_api import BrowserContext, Page

from tests.browser.conftest import NewContext
from tests.server.gates import RunningGate

EMAIL, PASSWORD = "ada@example.test", "correct horse battery"


class Visitors:
    """Browsers at this gate that know nothing of each other."""

    def __init__(self, new_context: NewContext, gate: RunningGate) -> None:
        self.gate = gate
        self._new_context = new_context
        self._contexts: list[BrowserContext] = []

    async def page(self, **options: Any) -> Page:
        """A page of a new browser; `options` are Playwright's."""
        context = await self._new_context(base_url=self.gate.url, **({"locale": "en"} | options))
        self._contexts.append(context)
        return await context.new_page()

    async def leave(self) -> None:
        """Close all, so that none complains that the site has gone."""
        for context in self._contexts:
            await context.close()


async def sign_up(page: Page, path: str = "/sign-up") -> None:
    await page.goto(path)
    await page.get_by_label("Your name").fill("Ada")
    await page.get_by_label("E-mail address").fill(EMAIL)
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.get_by_role("button", name="Make account").click()


async def sign_in(page: Page, path: str = "/sign-in", password: str = PASSWORD) -> None:
    await page.goto(path)
    await page.get_by_label("E-mail address").fill(EMAIL)
    await page.get_by_label("Password", exact=True).fill(password)
    await page.get_by_role("button", name="Sign in", exact=True).click()


async def has_no_sideways_scrolling(page: Page) -> bool:
    return bool(await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))
