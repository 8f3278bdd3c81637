"""One Chromium for all browser tests; each test has cookies and storage of its own, and may leave no error behind.

It is Debian's, driven by Playwright.  It opens pages of the test alone, resolves no name, and runs without a sandbox,
which does not exist for root.  Tests and fixtures of this folder share one event loop, the one that Playwright's
connection belongs to: a fixture here needs `loop_scope="session"`.
"""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, WebError, async_playwright, expect

from tests.browser.bundle import bundle

HERE = Path(__file__).parent
PATIENCE_MS = 60_000
"""How long the browser may take for one step: only a test that fails waits as long."""

_BAD_STATUS = "Failed to load resource: the server responded with a status of "

FLAGS = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-proxy-server"]

NewContext = Callable[..., Awaitable[BrowserContext]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("Chromium is missing: install Debian's package `chromium`, or run `make test` as root")
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS, timeout=PATIENCE_MS)
        yield browser
        await browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What pages of this test complained of so far: uncaught errors, and errors on the console.

    A test that provokes one looks at it and takes it away.
    """
    return []


@pytest_asyncio.fixture(loop_scope="session")
async def new_context(chromium: Browser, complaints: list[str]) -> AsyncIterator[NewContext]:
    """Makes browsers that know nothing of each other, as on several devices.  Fails what leaves a complaint.

    Its arguments are Playwright's.
    A test asks for its site first: then pages end before it does, and do not complain that it has gone.
    """
    contexts: list[BrowserContext] = []

    async def make(**options: Any) -> BrowserContext:
        context = await chromium.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        context.on("weberror", lambda error: complaints.append(_of_error(error)))
        context.on("console", lambda message: complaints.extend(_of_console(message)))
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        await context.close()
    assert complaints == []


@pytest_asyncio.fixture(loop_scope="session")
async def context(new_context: NewContext) -> BrowserContext:
    return await new_context()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def use_session_script(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The app's page in `use_session.jsx`, as one script with all that it imports."""
    return await bundle(HERE / "use_session.jsx", tmp_path_factory.mktemp("bundle"))


def _of_error(error: WebError) -> str:
    return f"uncaught: {error.error}"


def _of_console(message: ConsoleMessage) -> list[str]:
    """What is an error.  That the page itself has an error's status is none: what it says is for a person."""
    if message.type != "error":
        return []
    is_of_page = message.page is not None and message.location.get("url") == message.page.url
    return [] if is_of_page and message.text.startswith(_BAD_STATUS) else [f"console: {message.text}"]
