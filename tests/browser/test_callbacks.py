"""Where pages lead to, with a real browser as the judge of what a URL means: never off the origin."""

from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from playwright.async_api import expect

from tests.attacks.test_09_callbacks import FOREIGN
from tests.browser.conftest import NewContext
from tests.browser.test_people_pages import visited
from tests.browser.walks import sign_in, sign_up
from tests.server.pages.test_callbacks import MORE

FOLLOW = """async (values) => {
    const ends = [];
    for (const value of values) ends.push((await fetch("/sign-in?callbackUrl=" + value)).url);
    return ends;
}"""
"""Where each of these leads in the end: redirects are followed as those of a page are, and without leaving this one."""


async def test_no_link_to_the_sign_in_page_leads_a_browser_away(new_context: NewContext, tmp_path: Path) -> None:
    """Who is signed in is led on at once."""
    async with visited(new_context, tmp_path) as visitors:
        page, asked = await visitors.page(), set[str]()
        host = urlsplit(visitors.gate.url).netloc
        await sign_up(page)
        await expect(page).to_have_url("/")
        page.on("request", lambda request: asked.add("{0.scheme}://{0.netloc}".format(urlsplit(request.url))))
        callbacks = dict.fromkeys(text.replace("{host}", host) for text in [*FOREIGN, *MORE])
        assert len(callbacks) >= 100
        values = {callback: quote(callback, safe="", errors="surrogatepass") for callback in callbacks}
        for callback, ended in zip(values, await page.evaluate(FOLLOW, list(values.values())), strict=True):
            assert ended == f"{visitors.gate.url}/", callback
        assert asked == {visitors.gate.url}


@pytest.mark.parametrize("fragment", ["#//evil.test", "#javascript:alert(1)"])
async def test_nor_does_what_stands_behind_the_hash(new_context: NewContext, tmp_path: Path, fragment: str) -> None:
    """A script of the page adds it to where its form leads."""
    async with visited(new_context, tmp_path) as visitors:
        page, asked = await visitors.page(), set[str]()
        page.on("request", lambda request: asked.add("{0.scheme}://{0.netloc}".format(urlsplit(request.url))))
        await sign_up(page, f"/sign-up?callbackUrl=%2Fdashboard{fragment}")
        await expect(page).to_have_url(f"/dashboard{fragment}")
        await page.context.clear_cookies()
        await sign_in(page, f"/sign-in{fragment}")
        await expect(page).to_have_url(f"/{fragment}")
        assert asked == {visitors.gate.url}
