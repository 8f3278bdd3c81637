"""The pictures of README and docs: the demo and the gate's pages, in light and dark.

    python -m scripts.docs_images [FOLDER] [--chromium PATH]

Taken of `gatekeeper demo` as it is, with a mail server that nobody listens at, so that pages speak of mail.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Browser, Page, ViewportSize, async_playwright

from gatekeeper.demo.people import ADA, PASSWORD
from gatekeeper.demo.run import DEFAULT_PORT, find_free_port, running_demo
from scripts.screenshots import send
from scripts.small_png import shrink

FOLDER = Path(__file__).parent.parent / "docs/images"
SCHEMES = ("light", "dark")
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
SMTP = "smtp://127.0.0.1:9?from=demo@example.com"
NARROW: ViewportSize = {"width": 720, "height": 480}
MIDDLE: ViewportSize = {"width": 800, "height": 480}
WIDE: ViewportSize = {"width": 1040, "height": 480}


class Camera:
    """One browser that has been nowhere yet, in one colour scheme."""

    def __init__(self, page: Page, url: str, folder: Path, scheme: str) -> None:
        self.page = page
        self._url = url
        self._folder = folder
        self._scheme = scheme

    async def shoot(self, name: str, path: str, size: ViewportSize = NARROW) -> None:
        """A picture of the page at this path, as long as it is."""
        await self.page.set_viewport_size(size)
        await self.page.goto(self._url + path)
        png = await self.page.screenshot(full_page=True)
        (self._folder / f"{name}-{self._scheme}.png").write_bytes(shrink(png))

    async def sign_in(self) -> None:
        await self.page.goto(f"{self._url}/sign-in")
        await send(self.page, {"email": ADA.email, "password": PASSWORD})

    async def sign_up(self) -> None:
        await self.page.goto(f"{self._url}/sign-up")
        await send(self.page, {"name": "Grace Hopper", "email": "grace@example.com", "password": PASSWORD})

    async def sign_out(self) -> None:
        await self.page.goto(f"{self._url}/")
        await self.page.get_by_role("button", name="Sign out").click()


async def take_all(camera: Camera) -> None:
    """Each page once, in the order in which a visitor might come by."""
    await camera.shoot("sign-in", "/sign-in?callbackUrl=%2Fdashboard")
    await camera.shoot("sign-up", "/sign-up")
    await camera.shoot("forgot-password", "/.gatekeeper/forgot-password")
    await camera.shoot("reset-password", "/.gatekeeper/reset-password?token=x")
    await camera.sign_in()
    await camera.shoot("demo-dashboard", "/dashboard", WIDE)
    await camera.shoot("sessions", "/.gatekeeper/sessions", MIDDLE)
    await camera.shoot("sessions-confirm", "/.gatekeeper/sessions?confirm=others")
    await camera.shoot("change-password", "/.gatekeeper/change-password")
    await camera.sign_out()
    await camera.shoot("signed-out", "/.gatekeeper/signed-out")
    await camera.sign_up()
    await camera.shoot("verify-email", "/.gatekeeper/verify-email")


async def visit(browser: Browser, scheme: str, folder: Path) -> None:
    """All pictures in this colour scheme, of a demo of their own."""
    with tempfile.TemporaryDirectory() as name:
        port = find_free_port("127.0.0.1", DEFAULT_PORT)
        async with running_demo(Path(name), "127.0.0.1", port, SMTP) as demo:
            page = await browser.new_page(
                color_scheme="dark" if scheme == "dark" else "light", locale="en", user_agent=AGENT
            )
            await take_all(Camera(page, demo.address, folder, scheme))
            await page.close()


async def main(folder: Path, chromium: str) -> None:
    async with async_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]  # chromium refuses it to root
        browser = await playwright.chromium.launch(executable_path=chromium, args=sandbox)
        for scheme in SCHEMES:
            await visit(browser, scheme, folder)
        await browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The pictures of README and docs.")
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    given = parser.parse_args()
    if given.chromium is None:
        sys.exit("no chromium found: name it with --chromium")
    given.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(given.folder, given.chromium))
