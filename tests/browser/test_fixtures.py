"""What the browser tests lean on finds what it is for, and nothing else."""

from playwright.async_api import BrowserContext

from tests.browser.axe import axe
from tests.browser.sites import serving

FINE = """<!doctype html><html lang="en"><title>Fine</title><style>body {color: #222; background: #fff}</style>
<main><h1>Heading</h1><p>text</p></main></html>"""
NO_SCRIPT = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">"""
PAGES = {
    "/fine": FINE,
    "/unnamed": FINE.replace("<p>text</p>", "<input id='unnamed'>").replace("<title>", NO_SCRIPT + "<title>"),
    "/pale": FINE.replace("#222", "#ddd"),
}
COMPLAINING = """<!doctype html><title>x</title>
<script>throw new Error("is thrown")</script>
<script>Promise.reject(new Error("is rejected"))</script>
<script>console.warn("is a warning"); console.error("is logged")</script>"""


async def test_axe_names_what_is_wrong_also_where_a_page_allows_no_script(context: BrowserContext) -> None:
    found = {}
    async with serving(PAGES) as url:
        page = await context.new_page()
        for path in PAGES:
            await page.goto(url + path)
            found[path] = [(line.partition(":")[0], line.rpartition(": ")[2]) for line in await axe(page)]
    assert found == {"/fine": [], "/unnamed": [("label", "#unnamed")], "/pale": [("color-contrast", "h1, p")]}


async def test_what_a_page_complains_of_is_seen(context: BrowserContext, complaints: list[str]) -> None:
    async with serving({"/": COMPLAINING}) as url:
        page = await context.new_page()
        async with page.expect_console_message(lambda message: message.type == "error"):
            await page.goto(url)
        await page.evaluate("() => 0")
    assert sorted(complaints) == ["console: is logged", "uncaught: is rejected", "uncaught: is thrown"]
    complaints.clear()
