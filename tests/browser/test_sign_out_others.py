"""One person in three browsers, each with an event stream of the app open: one signs out all the others.

Nothing is timed here: `drills/sign_out_others.py` does that, over two gates.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Page, expect
from yarl import URL

from tests.browser.conftest import PATIENCE_MS, NewContext
from tests.browser.sites import accounts_gate
from tests.browser.walks import Visitors, sign_in, sign_up
from tests.server.gates import RunningGate

SESSIONS = "/.gatekeeper/sessions"
LISTENING = """<!doctype html><html lang="en"><title>App</title><h1>App</h1><p id="said"></p><p id="state">opening</p>
<script>
const say = (id, text) => { document.getElementById(id).textContent = text; };
const events = new EventSource("/dashboard/events");
events.onopen = () => say("state", "open");
events.onmessage = (event) => say("said", event.data);
events.onerror = () => say("state", ["connecting", "open", "closed"][events.readyState]);
</script></html>"""


class App:
    """A page that listens to a stream of events; `tell` sends one to all that listen."""

    def __init__(self) -> None:
        self.url = ""
        self._listeners: set[asyncio.Queue[str]] = set()
        self._left = asyncio.Event()

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    async def until_left(self, *, remaining: int) -> None:
        """Wait until no more than so many listen."""
        async with asyncio.timeout(PATIENCE_MS / 1000):
            while self.listeners > remaining:
                self._left.clear()
                await self._left.wait()

    def tell(self, text: str) -> None:
        for queue in self._listeners:
            queue.put_nowait(text)

    async def page(self, request: web.Request) -> web.Response:
        return web.Response(text=LISTENING, content_type="text/html")

    async def nothing(self, request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>App</title>", content_type="text/html")

    async def events(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            await answer.write(b"retry: 50\n\n")
            while True:
                await answer.write(f"data: {await queue.get()}\n\n".encode())
        finally:
            self._listeners.discard(queue)
            self._left.set()


@asynccontextmanager
async def listening_app() -> AsyncIterator[App]:
    app, server = App(), web.Application()
    server.router.add_get("/dashboard/events", app.events)
    server.router.add_get("/dashboard", app.page)
    server.router.add_get("/{path:.*}", app.nothing)
    runner = web.AppRunner(server, handler_cancellation=True, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        app.url = str(URL.build(scheme="http", host="127.0.0.1", port=runner.addresses[0][1]))
        yield app
    finally:
        await runner.cleanup()


async def listen(page: Page) -> None:
    await page.goto("/dashboard")
    await expect(page.locator("#state")).to_have_text("open")


@pytest.mark.parametrize("gates", [1, 2])
async def test_the_others_streams_end_and_their_next_request_is_signed_out(
    new_context: NewContext, tmp_path: Path, complaints: list[str], gates: int
) -> None:
    """With two gates on one database the others are at the second one, which has to hear of it."""
    async with listening_app() as app, gates_before(app, tmp_path, gates) as running:
        here, there = Visitors(new_context, running[0]), Visitors(new_context, running[-1])
        mine, *others = await here.page(), await there.page(), await there.page()
        await sign_up(mine)
        await expect(mine).to_have_url("/")
        for other in others:
            await sign_in(other)
            await expect(other).to_have_url("/")
        for page in (mine, *others):
            await listen(page)
        app.tell("all hear")
        for page in (mine, *others):
            await expect(page.locator("#said")).to_have_text("all hear")
        assert (app.listeners, sum(gate.served.streams.count for gate in running)) == (3, 3)

        form = await mine.context.new_page()
        await form.goto(SESSIONS)
        await form.get_by_role("button", name="Sign out of all other devices").click()
        await expect(form.get_by_role("heading", level=1)).to_have_text("Sign out of 2 other devices?")
        await form.get_by_role("button", name="Yes, sign out of 2 devices").click()
        await expect(form.get_by_role("status").first).to_have_text("Done. 2 other devices have been signed out.")
        for other in others:
            await expect(other.locator("#state")).to_have_text("closed")  # it asked again, and was refused
        await app.until_left(remaining=1)
        app.tell("one hears")
        await expect(mine.locator("#said")).to_have_text("one hears")
        for other in others:
            await expect(other.locator("#said")).to_have_text("all hear")
            await other.reload()
            await expect(other).to_have_url(re.compile(r"/sign-in\?callbackUrl=%2Fdashboard$"))
        await expect(mine.locator("#state")).to_have_text("open")
        await here.leave()
        await there.leave()
    assert all("ERR_INCOMPLETE_CHUNKED_ENCODING" in line or "401" in line for line in complaints), complaints
    complaints.clear()


@asynccontextmanager
async def gates_before(app: App, folder: Path, count: int) -> AsyncIterator[list[RunningGate]]:
    """So many gates on one database."""
    if count == 0:
        yield []
        return
    async with accounts_gate(app.url, folder / "auth.db") as gate, gates_before(app, folder, count - 1) as more:
        yield [gate, *more]
