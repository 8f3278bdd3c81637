"""What axe-core, the accessibility checker, says of a page."""

from functools import cache

from playwright.async_api import Page

from tests.browser.bundle import PACKAGES, needs_packages


async def axe(page: Page) -> list[str]:
    """A line for each violation on this page as it is now: the rule, its help text, and the elements that break it.

    The page's Content-Security-Policy stays in force; what the checker needs is brought in beside it.
    """
    if await page.evaluate("() => typeof axe") == "undefined":
        await page.evaluate(_checker())
    found = await page.evaluate("() => axe.run({resultTypes: ['violations']}).then((found) => found.violations)")
    return [
        f"{one['id']}: {one['help']}: {', '.join(' '.join(map(str, node['target'])) for node in one['nodes'])}"
        for one in found
    ]


@cache
def _checker() -> str:
    needs_packages()
    return (PACKAGES / "axe-core" / "axe.min.js").read_text()
