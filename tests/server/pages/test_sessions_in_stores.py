"""The page of active sessions of an app: on each kind of store that the app and the gate both reach, at a running gate.

What it says and does is looked at from three sides: on the page, in the store, and at a page of the app.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.conftest import HOUR_MS, now_ms
from tests.server.gates import COOKIE, SECRET, RunningGate, cookie_value, running_gate
from tests.server.pages.browsing import FIREFOX, SAFARI
from tests.server.test_people_pages import SESSIONS, Browser
from tests.server.upstreams import RecordingUpstream
from tests.server.wire import ask
from tests.stores.conftest import mariadb_server, postgres_server, redis, redis_server
from tests.stores.places import Place
from tests.stores.test_writing import PLACES

__all__ = ["mariadb_server", "postgres_server", "redis", "redis_server"]  # fixtures

CONFIG = """\
listen: 127.0.0.1:0
upstream: {upstream}
secret: {secret}
store: {store}
protect: [/dashboard]
"""
LAPTOP, PHONE, TABLET, OLD, THEIRS = range(5)


class Scene:
    """A gate before an app's store, where Ada is signed in on three devices and was on a fourth, and Grace on one."""

    def __init__(self, place: Place, gate: RunningGate, tokens: list[str]) -> None:
        self.place = place
        self.gate = gate
        self.tokens = tokens

    def browser(self, device: int) -> Browser:
        return Browser(self.gate, {COOKIE: cookie_value(self.tokens[device])})

    def id_of(self, device: int) -> str:
        return str(self.place.session_id(device))

    async def let_in(self) -> list[int]:
        """The devices that a page of the app is open to."""
        pages = [
            await ask(self.gate.port, "GET", "/dashboard", f"Cookie: {COOKIE}={cookie_value(token)}")
            for token in self.tokens
        ]
        assert {page.status for page in pages} <= {200, 401}
        return [device for device, page in enumerate(pages) if page.status == 200]

    async def stored(self) -> list[int]:
        """The devices whose sessions are in the store."""
        return [device for device, token in enumerate(self.tokens) if await self.place.read(token) is not None]


@pytest.fixture(params=PLACES)
async def scene(request: pytest.FixtureRequest, upstream: RecordingUpstream, tmp_path: Path) -> AsyncIterator[Scene]:
    place = PLACES[request.param](request, tmp_path / "auth.db")
    await place.create()
    began, tokens = now_ms() - HOUR_MS, []
    for device, agent in ((LAPTOP, FIREFOX), (PHONE, SAFARI), (TABLET, ""), (OLD, FIREFOX), (THEIRS, FIREFOX)):
        ends = now_ms() - 1000 if device == OLD else now_ms() + HOUR_MS
        dates = {"createdAt": began + 1000 * device, "expiresAt": ends}
        tokens.append(await place.sign_in(device, user=int(device == THEIRS), userAgent=agent, **dates))
    store = "{" + ", ".join(f"{name}: '{value}'" for name, value in place.store.items()) + "}"
    text = CONFIG.replace("{store}", store.replace("{", "{{").replace("}", "}}"))
    async with running_gate(upstream.url, tmp_path / "auth.db", text=text.replace("{secret}", SECRET)) as gate:
        yield Scene(place, gate, tokens)


async def test_lists_the_devices_and_ends_one_then_all_others_then_this_one(scene: Scene) -> None:
    assert await scene.let_in() == [LAPTOP, PHONE, TABLET, THEIRS]
    browser = scene.browser(LAPTOP)
    assert (await browser.get(SESSIONS)).status == 200
    names = re.findall("<h2>(.*?)</h2>", browser.page)
    assert (names[0], sorted(names)) == ("Firefox on Linux", ["Firefox on Linux", "Safari on iPhone", "Unknown device"])
    assert "You are signed in on 2 other devices." in browser.page
    offered = re.findall('name="revoke" value="(.*?)"', browser.page)
    assert sorted(offered) == sorted([scene.id_of(PHONE), scene.id_of(TABLET)])
    assert not [token for token in scene.tokens if token in browser.page]

    assert (await browser.send(SESSIONS, {"revoke": scene.id_of(PHONE)})).status == 303
    assert await scene.let_in() == [LAPTOP, TABLET, THEIRS]
    assert PHONE not in await scene.stored()
    await browser.get(SESSIONS)
    assert "Done. The device has been signed out." in browser.page

    await browser.get(f"{SESSIONS}?confirm=others")
    assert "Sign out of 1 other device?" in browser.page
    assert await scene.let_in() == [LAPTOP, TABLET, THEIRS]  # asking does nothing
    assert (await browser.send(SESSIONS, {"others": "yes"})).status == 303
    await browser.get(SESSIONS)
    assert "Done. 1 other device has been signed out." in browser.page
    assert "You are signed in on this device only." in browser.page
    assert await scene.let_in() == [LAPTOP, THEIRS]
    assert {LAPTOP, THEIRS} <= set(await scene.stored()) <= {LAPTOP, THEIRS, OLD}

    out = await browser.send("/.gatekeeper/sign-out", {"callbackUrl": "/"})
    assert (out.status, out.values("location"), COOKIE in browser.cookies) == (303, ["/"], False)
    assert await scene.let_in() == [THEIRS]
    assert LAPTOP not in await scene.stored()


async def test_ends_nobody_elses(scene: Scene) -> None:
    grace = scene.browser(THEIRS)
    await grace.get(SESSIONS)
    assert "You are signed in on this device only." in grace.page
    ada = scene.browser(LAPTOP)
    await ada.get(SESSIONS)
    for fields in ({"revoke": scene.id_of(THEIRS)}, {"revoke": scene.tokens[THEIRS]}, {"revoke": ""}):
        assert (await ada.send(SESSIONS, fields)).status == 303
        await ada.get(SESSIONS)
        assert "That device was signed out already." in ada.page
    assert await scene.let_in() == [LAPTOP, PHONE, TABLET, THEIRS]
