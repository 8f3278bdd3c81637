"""Every page that people see, as axe-core and a ruler judge it: narrow and wide, light and dark, in two languages, with
a script and without, and with text of twice the size.

A walk comes by each page as a visitor does, and looks at it there.
"""

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import CDPSession, Page, Route, expect

from gatekeeper.server.texts import LANGUAGES, Words
from tests.browser.axe import axe
from tests.browser.conftest import NewContext
from tests.browser.sites import accounts_gate, serving
from tests.browser.walks import EMAIL, PASSWORD, Visitors, has_no_sideways_scrolling, sign_in
from tests.server.pages.browsing import FIREFOX, SAFARI
from tests.servers.smtp import MailServer, mail_server

SESSIONS, OUT = "/.gatekeeper/sessions", "/.gatekeeper/signed-out"
FORGOT, CHANGE, VERIFY = "/.gatekeeper/forgot-password", "/.gatekeeper/change-password", "/.gatekeeper/verify-email"
APP = dict.fromkeys(("/", "/dashboard"), "<!doctype html><title>App</title><h1>App</h1>")
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTHS = (320, 1280)
HEIGHT = 800
LOGO = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><rect width="8" height="8" fill="#7a3ea1"/></svg>'
OTHER_PASSWORD = "another horse battery"
CONFIG = """\
listen: 127.0.0.1:PORT
public_url: http://127.0.0.1:PORT
upstream: {upstream}
upstreams: {{gone: "http://127.0.0.1:9"}}
secret: {secret}
store: sqlite:///{database}
accounts: {{enabled: true, sign_up: true, smtp: "smtp://127.0.0.1:MAIL?from=no-reply@example.test"}}
branding: {{name: Analytical Engines, logo: logo.svg, accent: "#7a3ea1"}}
identity: {{assertion: {{enabled: false}}}}
limits: {{sign_in_attempts: 1000/1m}}
protect:
  - /dashboard
  - {{path: /admin, require: {{roles: [admin]}}}}
  - {{path: /broken, upstream: gone}}
"""


class Walk:
    """A browser that looks at each page that it comes by.  `words` are those that its user reads.

    Without a script means that none runs until the page is looked at, which the checker needs: where scripts are off
    for good, it cannot work either.
    """

    def __init__(self, page: Page, session: CDPSession, words: Words, *, has_script: bool) -> None:
        self.page = page
        self.words = words
        self.pages = words.pages
        self._session = session
        self._has_script = has_script

    async def goto(self, path: str, wait_until: Literal["load", "commit"] = "load") -> None:
        await self._allow(self._has_script)
        await self.page.goto(path, wait_until=wait_until)

    async def send(self, **fields: str) -> None:
        """Fill in these fields of the page's form, and press its button."""
        await self._allow(self._has_script)
        for name, value in fields.items():
            await self.page.locator(f"[name={name}]").fill(value)
        await self.page.locator("main form button:not([type])").first.click()

    async def follow(self, link: str) -> None:
        await self._allow(self._has_script)
        await self.page.locator(f"a[href='{link}']").first.click()

    async def finds(self, title: str, *, is_fault: bool = False) -> None:
        """Wait for the page of this heading, and find nothing wrong with it however it is looked at."""
        await expect(self.page.locator("h1")).to_have_text(title)
        assert (await self.page.locator("[role=alert], .fault").count() > 0) is is_fault, title
        await self.finds_nothing_wrong(title)

    async def finds_nothing_wrong(self, label: str) -> None:
        reveals, shown = self.page.locator("[data-reveal]"), self.page.locator("[data-reveal]:visible")
        assert await shown.count() == (await reveals.count() if self._has_script else 0), label
        assert await self.page.locator("html").get_attribute("lang") == self.words.tag
        await self._allow(True)
        for width in WIDTHS:
            await self.page.set_viewport_size({"width": width, "height": HEIGHT})
            for scheme in SCHEMES:
                await self.page.emulate_media(color_scheme=scheme)
                assert await axe(self.page) == [], (label, width, scheme)
            assert await has_no_sideways_scrolling(self.page), (label, width)
        await self._double_text(label)

    async def _double_text(self, label: str) -> None:
        """As a window of 1280 pixels is at 200%, with nothing but its text enlarged as well."""
        await self.page.set_viewport_size({"width": 640, "height": HEIGHT})
        await self.page.evaluate("document.documentElement.style.fontSize = '200%'")
        assert await self.page.evaluate("getComputedStyle(document.documentElement).fontSize") == "32px"
        assert await has_no_sideways_scrolling(self.page), (label, "200%")
        await self.page.evaluate("document.documentElement.style.fontSize = ''")

    async def _allow(self, allowed: bool) -> None:
        await self._session.send("Emulation.setScriptExecutionDisabled", {"value": not allowed})


class Town:
    """A gate that sends mail, and walks past its pages."""

    def __init__(self, visitors: Visitors, mails: MailServer) -> None:
        self._visitors = visitors
        self._mails = mails

    async def walk(self, language: str, *, has_script: bool) -> Walk:
        page = await self._visitors.page(locale=language)
        session = await page.context.new_cdp_session(page)
        return Walk(page, session, LANGUAGES[language], has_script=has_script)

    async def sign_in_elsewhere(self, agent: str) -> None:
        """A further device of Ada's."""
        await sign_in(await self._visitors.page(user_agent=agent))

    async def mailed_link(self, number: int) -> str:
        """Where the link of the mail of this number leads, once it has come."""
        body = (await self._mails.mail(number)).mail.get_body(("plain",))
        assert body is not None
        (link,) = re.findall(rf"{self._visitors.gate.url}(/api/auth/\S+)", body.get_content())
        return str(link)


@asynccontextmanager
async def town(folder: Path, new_context: NewContext, more: str = "") -> AsyncIterator[Town]:
    (folder / "logo.svg").write_text(LOGO)
    async with mail_server() as mails, serving(APP) as upstream:
        text = CONFIG.replace("PORT", str(free_port())).replace("MAIL", str(mails.port))
        async with accounts_gate(upstream, folder / "auth.db", more, text=text) as gate:
            visitors = Visitors(new_context, gate)
            try:
                yield Town(visitors, mails)
            finally:
                await visitors.leave()


def free_port() -> int:
    """A port of the loopback that is free now: links in mails name it before the gate listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


WAYS = [pytest.param(True, "en", id="script-en"), pytest.param(False, "de", id="no-script-de")]


@pytest.mark.parametrize(("has_script", "language"), WAYS)
async def test_pages_of_who_is_signed_out(
    new_context: NewContext, tmp_path: Path, has_script: bool, language: str
) -> None:
    async with town(tmp_path, new_context) as site:
        walk = await site.walk(language, has_script=has_script)
        t = walk.pages
        await walk.goto("/sign-in?callbackUrl=%2Fdashboard")
        await walk.finds(t["sign_in"]["title"])
        await walk.send(email=EMAIL, password="wrong")
        await walk.finds(t["sign_in"]["title"], is_fault=True)
        await walk.follow("/sign-up?callbackUrl=%2Fdashboard")
        await walk.finds(t["sign_up"]["title"])
        await walk.send(name="Ada", email=EMAIL, password="short")
        await walk.finds(t["sign_up"]["title"], is_fault=True)
        await walk.goto("/sign-in?reauth=1")
        await walk.finds(t["sign_in"]["reauth_title"])
        await walk.follow(FORGOT)
        await walk.finds(t["forgot"]["title"])
        await walk.send(email=EMAIL)
        await walk.finds(t["forgot"]["sent_title"])
        await walk.goto("/.gatekeeper/reset-password?error=INVALID_TOKEN")
        await walk.finds(t["reset"]["invalid_title"])
        await walk.goto(VERIFY)
        await walk.finds(t["verify"]["done_title"])
        await walk.goto(f"{VERIFY}?error=TOKEN_EXPIRED")
        await walk.finds(t["verify"]["title"])
        await walk.goto(OUT)
        await walk.finds(t["signed_out"]["title"])
        await walk.goto("/.gatekeeper/nothing-here")
        await walk.finds(walk.words.statuses["404"]["title"])
        await walk.goto("/api/auth/error?error=INVALID_TOKEN")
        await walk.finds(t["auth_error"]["title"])


@pytest.mark.parametrize(("has_script", "language"), WAYS)
async def test_pages_of_who_is_signed_in(
    new_context: NewContext, tmp_path: Path, has_script: bool, language: str
) -> None:
    async with town(tmp_path, new_context) as site:
        walk = await site.walk(language, has_script=has_script)
        t, counts = walk.pages, walk.words.counts
        await walk.goto(f"/sign-up?callbackUrl={SESSIONS}")
        await walk.send(name="Ada", email=EMAIL, password=PASSWORD)
        await walk.finds(t["sessions"]["title"])
        for agent in (SAFARI, FIREFOX, "?"):
            await site.sign_in_elsewhere(agent)
        await walk.goto(SESSIONS)
        await expect(walk.page.locator(".devices > li")).to_have_count(4)
        await walk.finds(t["sessions"]["title"])
        await walk.page.locator("form[action='/.gatekeeper/sessions'] button").last.click()
        await expect(walk.page.locator(".notice")).to_have_text(t["sessions"]["revoked"])
        await walk.finds(t["sessions"]["title"])
        await walk.send()
        await walk.finds(counts["confirm_title"].of(2))
        await walk.goto("/sign-in?reauth=1")
        await walk.finds(t["sign_in"]["reauth_title"])
        await walk.goto(VERIFY)
        await walk.finds(t["verify"]["title"])
        await walk.send(email=EMAIL)
        await walk.finds(t["verify"]["sent_title"])
        await walk.goto(await site.mailed_link(1))
        await walk.finds(t["verify"]["done_title"])
        await walk.goto(CHANGE)
        await walk.finds(t["change"]["title"])
        await walk.send(currentPassword="wrong", newPassword=OTHER_PASSWORD)
        await walk.finds(t["change"]["title"], is_fault=True)
        await walk.send(currentPassword=PASSWORD, newPassword=OTHER_PASSWORD)
        await expect(walk.page.locator(".notice")).to_contain_text(counts["others_done"].of(2))
        await walk.finds(t["sessions"]["title"])
        await walk.goto(OUT)
        await walk.finds(t["signed_out"]["still_title"])
        await walk.goto(FORGOT)
        await walk.send(email=EMAIL)
        await walk.goto(await site.mailed_link(2))
        await walk.finds(t["reset"]["title"])
        await walk.send(newPassword="short")
        await walk.finds(t["reset"]["title"], is_fault=True)
        await walk.send(newPassword=PASSWORD)
        await expect(walk.page.locator(".notice")).to_have_text(t["notices"]["password_reset_all"])
        await walk.finds(t["sign_in"]["title"])


@pytest.mark.parametrize(("has_script", "language"), WAYS)
async def test_pages_of_refusals(new_context: NewContext, tmp_path: Path, has_script: bool, language: str) -> None:
    async with town(tmp_path, new_context) as site:
        walk = await site.walk(language, has_script=has_script)
        for _ in range(3):
            await walk.goto("/dashboard")
        await walk.finds(walk.words.reasons["SIGN_IN_LOOP"]["title"])
        await walk.page.locator("summary").click()
        await walk.finds(walk.words.reasons["SIGN_IN_LOOP"]["title"])
        await walk.goto("/sign-up")
        await walk.send(name="Ada", email=EMAIL, password=PASSWORD)
        await expect(walk.page).to_have_url("/")
        await walk.goto("/admin")
        await walk.finds(walk.words.statuses["403"]["title"])
        await walk.goto("/broken")
        await walk.finds(walk.words.reasons["UPSTREAM_REFUSED"]["title"])


@pytest.mark.parametrize(("has_script", "language"), WAYS)
async def test_the_page_that_only_passes_on(
    new_context: NewContext, tmp_path: Path, has_script: bool, language: str
) -> None:
    """Held fast: where it leads to has nothing to show."""

    async def nothing(route: Route) -> None:
        await route.fulfill(status=204)

    async with town(tmp_path, new_context, "keep_fragment: true\n") as site:
        walk = await site.walk(language, has_script=has_script)
        await walk.page.route("**/sign-in?*", nothing)
        await walk.goto("/dashboard#part-2", "commit")
        await expect(walk.page.get_by_role("link", name=walk.pages["redirect"]["link"])).to_be_visible()
        await walk.finds_nothing_wrong("fragment")
