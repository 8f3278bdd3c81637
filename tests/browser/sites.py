"""Sites for browser tests: small apps on loopback, and a gate in accounts mode in front of one."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from playwright.async_api import BrowserContext
from yarl import URL

from gatekeeper.config.load import load_text
from gatekeeper.migrate_command import migrate_accounts
from tests.server.gates import FOUR_LINES, SECRET, RunningGate, running_gate

ACCOUNTS = "accounts: {{enabled: true, sign_up: true}}\n"
EMAIL, PASSWORD = "ada@example.test", "a long enough password"


@asynccontextmanager
async def serving(pages: Mapping[str, str | bytes]) -> AsyncIterator[str]:
    """The URL of an app of these pages by their path: HTML as text, scripts as bytes; other paths give an empty one."""

    async def answer(request: web.Request) -> web.Response:
        found = pages.get(request.path)
        if isinstance(found, str):
            return web.Response(text=found, content_type="text/html")
        if isinstance(found, bytes):
            return web.Response(body=found, content_type="text/javascript", charset="utf-8")
        return web.Response(status=204)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield str(URL.build(scheme="http", host="127.0.0.1", port=runner.addresses[0][1]))
    finally:
        await runner.cleanup()


@asynccontextmanager
async def accounts_gate(
    upstream: str, database: Path, more: str = "", *, text: str = FOUR_LINES + ACCOUNTS
) -> AsyncIterator[RunningGate]:
    """A gate in accounts mode, where anybody may sign up, in front of this app.  It leaves patience to Playwright."""
    config = text.format(upstream=upstream, secret=SECRET, database=database)
    settings = load_text(config, source="test.yaml", base_dir=database.parent, environ={})
    async for _ in migrate_accounts(settings):
        pass
    async with running_gate(upstream, database, more, text=text, patience_s=None) as gate:
        yield gate


async def sign_up(context: BrowserContext, gate: RunningGate) -> None:
    """Make Ada's account; this browser is signed in to it."""
    body = {"name": "Ada Lovelace", "email": EMAIL, "password": PASSWORD}
    headers = {"Origin": gate.url}
    answer = await context.request.post(f"{gate.url}/api/auth/sign-up/email", data=body, headers=headers)
    assert answer.status == 200
