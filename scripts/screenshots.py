"""Pictures of the pages that people see: narrow and wide, light and dark, in both languages.

    python -m scripts.screenshots FOLDER [--chromium PATH]

A gate in accounts mode is served on the loopback, with a visitor who is signed in on a few devices.
"""

import argparse
import asyncio
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from gatekeeper.config.load import load_text
from gatekeeper.migrate_command import migrate_accounts
from gatekeeper.server.app import serve

EMAIL, PASSWORD = "ada@example.test", "correct horse battery"

AGENTS = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "",
)
SIZES = {"320": (320, 640), "1280": (1280, 800)}
LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="16" cy="16" r="16" fill="#7a3ea1"/>'
    '<path d="M9 21 16 9l7 12z" fill="#fff"/></svg>'
)
CONFIG = """\
listen: 127.0.0.1:0
upstream: http://127.0.0.1:9
secret: a-secret-for-pictures-and-nothing-else
store: sqlite:///auth.db
accounts: {enabled: true, sign_up: true}
branding: {name: Analytical Engines, logo: logo.svg, accent: "#7a3ea1"}
limits: {sign_in_attempts: 100/1m}
protect: [/dashboard]
admin: {listen: null}
log: {level: error, access: false}
"""


@asynccontextmanager
async def running_site(folder: Path) -> AsyncIterator[str]:
    """The URL of a gate with one account."""
    (folder / "logo.svg").write_text(LOGO)
    settings = load_text(CONFIG, source="screenshots", base_dir=folder, environ={})
    async for _ in migrate_accounts(settings):
        pass
    async with serve(settings) as served:
        await sign_in_elsewhere(served.addresses[0], "sign-up", AGENTS[0])
        yield served.addresses[0]


async def sign_in_elsewhere(url: str, call: str, agent: str) -> None:
    account = {"name": "Ada", "email": EMAIL, "password": PASSWORD}
    headers = {"Origin": url, "User-Agent": agent}
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client,
        client.post(f"{url}/api/auth/{call}/email", json=account, headers=headers) as answer,
    ):
        answer.raise_for_status()


async def take_all(browser: Browser, url: str, target: Path) -> None:
    agents = itertools.cycle(AGENTS)  # the one that signed in first is signed out first
    for agent in AGENTS[1:]:
        await sign_in_elsewhere(url, "sign-in", agent)
    for size, (width, height) in SIZES.items():
        for scheme in ("light", "dark"):
            for language in ("en", "de"):
                context = await browser.new_context(
                    viewport={"width": width, "height": height},
                    color_scheme="dark" if scheme == "dark" else "light",
                    locale=language,
                )
                await take(context, url, target, f"{size}-{scheme}-{language}")
                await context.close()
                await sign_in_elsewhere(url, "sign-in", next(agents))  # in place of the one that was signed out


async def take(context: BrowserContext, url: str, target: Path, kind: str) -> None:
    """Each page once, in the order in which a visitor might come by."""
    page = await context.new_page()

    async def shoot(name: str, path: str | None = None) -> None:
        if path is not None:
            await page.goto(url + path)
        await page.screenshot(path=target / f"{name}-{kind}.png", full_page=True)

    await shoot("sign-in", "/sign-in?callbackUrl=%2F.gatekeeper%2Fsessions")
    await send(page, {"email": EMAIL, "password": "wrong horse"})
    await shoot("sign-in-wrong")
    await shoot("sign-up", "/sign-up")
    await send(page, {"name": "Ada", "email": EMAIL, "password": "short"})
    await shoot("sign-up-wrong")
    await shoot("forgot-password", "/.gatekeeper/forgot-password")
    await shoot("reset-password", "/.gatekeeper/reset-password?token=x")
    await shoot("reset-password-invalid", "/.gatekeeper/reset-password?error=INVALID_TOKEN")
    await shoot("signed-out", "/.gatekeeper/signed-out")
    await shoot("not-found", "/.gatekeeper/nothing-here")
    await page.goto(f"{url}/sign-in?callbackUrl=%2F.gatekeeper%2Fsessions")
    await send(page, {"email": EMAIL, "password": PASSWORD})
    await shoot("sessions")
    await shoot("sign-in-again", "/sign-in?reauth=1")
    await shoot("sessions-confirm", "/.gatekeeper/sessions?confirm=others")
    await shoot("change-password", "/.gatekeeper/change-password")
    await page.goto(f"{url}/.gatekeeper/sessions")
    await page.locator(".devices form[action='/.gatekeeper/sessions'] button").last.click()
    await shoot("sessions-revoked")
    await page.goto(f"{url}/.gatekeeper/sessions")
    await page.locator(".devices .this button").click()


async def send(page: Page, fields: Mapping[str, str]) -> None:
    for name, value in fields.items():
        await page.locator(f"[name={name}]").fill(value)
    await page.locator("form .actions button").click()


async def main(target: Path, chromium: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with running_site(Path(folder)) as url, async_playwright() as playwright:
            sandbox = [] if os.geteuid() else ["--no-sandbox"]  # chromium refuses it to root
            browser = await playwright.chromium.launch(executable_path=chromium, args=sandbox)
            await take_all(browser, url, target)
            await browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Pictures of the pages that people see.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    given = parser.parse_args()
    if given.chromium is None:
        sys.exit("no chromium found: name it with --chromium")
    given.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(given.folder, given.chromium))
