"""The page of active sessions before the real better-auth: on its store, and through its own calls."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.real.conftest import real_app
from tests.real.test_http_store import Visitor
from tests.server.gates import SECRET, RunningGate, running_gate
from tests.server.test_people_pages import SESSIONS, Browser

PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Mobile/15E148 Safari/604.1"
)
THROUGH_THE_APP = (
    "listen: 127.0.0.1:0\nupstream: {upstream}\nsecret: {secret}\nstore: {upstream}/api/auth\nprotect: [/x]\n"
)


@asynccontextmanager
async def gate_before_app(folder: Path, way: str, **options: object) -> AsyncIterator[tuple[RunningGate, str]]:
    """A gate, and the URL of the app behind it, whose sessions it reaches by its store or by its calls."""
    database = folder / "auth.db"
    async with real_app(database, **options) as url:
        text = None if way == "store" else THROUGH_THE_APP.replace("{upstream}", url).replace("{secret}", SECRET)
        async with running_gate(url, database, text=text, patience_s=60) as gate:
            yield gate, url


@asynccontextmanager
async def signed_in_twice(url: str) -> AsyncIterator[tuple[Visitor, Visitor]]:
    """Two devices of one person, the other one a phone."""
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), headers={"User-Agent": PHONE}) as phone_http,
    ):
        one, other = Visitor(http, f"{url}/api/auth"), Visitor(phone_http, f"{url}/api/auth")
        await one.sign_up()
        await other.sign_in()
        yield one, other


def browser_of(gate: RunningGate, visitor: Visitor) -> Browser:
    name, _, value = visitor.cookie.partition("=")
    return Browser(gate, {name: value})


@pytest.mark.parametrize("way", ["store", "calls"])
async def test_lists_and_ends_what_better_auth_has_begun(tmp_path: Path, way: str) -> None:
    async with gate_before_app(tmp_path, way) as (gate, url), signed_in_twice(url) as (one, other):
        browser = browser_of(gate, one)
        page = await browser.get(SESSIONS)
        assert page.status == 200
        assert "You are signed in on 1 other device." in browser.page
        assert "Safari on iPhone" in browser.page
        assert (await browser_of(gate, other).get(SESSIONS)).status == 200
        (phone,) = re.findall('name="revoke" value="(.*?)"', browser.page)
        assert (await browser.send(SESSIONS, {"revoke": phone})).status == 303
        await browser.get(SESSIONS)
        assert "Done. The device has been signed out." in browser.page
        assert await other.ask("GET", "/get-session?disableCookieCache=true") is None
        assert (await browser_of(gate, other).get(SESSIONS)).status == 303


@pytest.mark.parametrize("way", ["store", "calls"])
async def test_ends_all_others_and_then_this_one(tmp_path: Path, way: str) -> None:
    async with gate_before_app(tmp_path, way) as (gate, url), signed_in_twice(url) as (one, other):
        browser = browser_of(gate, one)
        await browser.get(f"{SESSIONS}?confirm=others")
        assert "Sign out of 1 other device?" in browser.page
        assert (await browser.send(SESSIONS, {"others": "yes"})).status == 303
        await browser.get(SESSIONS)
        assert "Done. 1 other device has been signed out." in browser.page
        assert await other.ask("GET", "/get-session?disableCookieCache=true") is None
        assert await one.ask("GET", "/get-session?disableCookieCache=true") is not None
        out = await browser.send("/.gatekeeper/sign-out", {"callbackUrl": "/"})
        assert (out.status, out.values("location")) == (303, ["/"])
        assert await one.ask("GET", "/get-session?disableCookieCache=true") is None


async def test_says_that_the_app_asks_for_a_recent_sign_in(tmp_path: Path) -> None:
    async with (
        gate_before_app(tmp_path, "calls", freshAge=0.001) as (gate, url),
        signed_in_twice(url) as (one, _),
    ):
        browser = browser_of(gate, one)
        page = await browser.get(SESSIONS)
        assert page.status == 403
        assert "the app asks for a recent sign-in" in browser.page
        assert 'href="/sign-in?callbackUrl=%2F.gatekeeper%2Fsessions"' in browser.page
