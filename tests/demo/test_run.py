import asyncio
import io
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest

from gatekeeper.config.load import load_file
from gatekeeper.core.errors import ListenError
from gatekeeper.demo.run import Paint, config_text, find_free_port, guide, run_demo, wants_color

PAGE = {"Accept": "text/html"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@asynccontextmanager
async def running_demo() -> AsyncIterator[SimpleNamespace]:
    """A demo on a free port: its address, its cookie jar, and what it printed."""
    output, stop = io.StringIO(), asyncio.Event()
    task = asyncio.create_task(run_demo("127.0.0.1", find_free_port("127.0.0.1", 18080), output=output, stop=stop))
    try:
        async with asyncio.timeout(20):
            while "Ctrl-C" not in output.getvalue():
                assert not task.done(), task.exception()
                await asyncio.sleep(0.01)
        printed = output.getvalue()
        address = re.search(r"http://127\.0\.0\.1:\d+", printed)
        jar = re.search(r"-b (\S+)", printed)
        assert address is not None
        assert jar is not None
        yield SimpleNamespace(address=address[0], jar=Path(jar[1]), output=output)
    finally:
        stop.set()
        await task


async def test_the_demo_does_what_it_says() -> None:
    async with running_demo() as demo, aiohttp.ClientSession(demo.address) as browser:
        folder = demo.jar.parent
        async with browser.get("/dashboard?tab=1", headers=PAGE, allow_redirects=False) as response:
            assert response.status == 307
            assert response.headers["Location"] == "/sign-in?callbackUrl=%2Fdashboard%3Ftab%3D1"
        async with browser.get("/dashboard") as response:
            assert response.status == 401
            assert (await response.json())["error"] == "Unauthorized"
        async with browser.get("/sign-in?callbackUrl=%2Fdashboard%3Ftab%3D1", headers=PAGE) as response:
            assert response.status == 200
            assert "Zoë Łoś" in await response.text()
        for path in ("/", "/dashboard/help", "/.gatekeeper/static/gatekeeper.css"):
            async with browser.get(path, headers=PAGE) as response:
                assert response.status == 200, path
    assert not folder.exists()
    assert "Stopped" in demo.output.getvalue()


async def test_signing_in_and_out_through_the_gate() -> None:
    async with (
        running_demo() as demo,
        aiohttp.ClientSession(demo.address, cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser,
    ):
        own = {"Origin": demo.address, "Sec-Fetch-Site": "same-origin"}
        form = {"user": "zoe@example.com", "callbackUrl": "/settings?tab=1"}
        async with browser.post("/sign-in", data=form, headers=own | PAGE) as response:
            assert response.status == 200
            assert response.url.path_qs == "/settings?tab=1"
            page = await response.text()
            assert "Zoë Łoś" in page
            assert "zoe@example.com" in page
        forged = {"X-Auth-User-Id": "root", "x_auth_user_id": "root", "X-Auth-Role": "root"}
        async with browser.get("/dashboard", headers=forged) as response:
            shown = await response.json()
            assert shown["user"]["email"] == "zoe@example.com"
            assert shown["headers"]["X-Auth-User-Id"] == shown["user"]["id"]
            assert "root" not in shown["headers"].values()
        async with browser.get("/.gatekeeper/whoami") as response:
            assert (await response.json())["user"]["name"] == "Zoë Łoś"
        async with browser.get("/preview") as response:
            assert (await response.json())["status"] == "anonymous"
        async with browser.get("/") as response:
            assert "You are signed in as" in await response.text()
        async with browser.post("/sign-out", headers=own, allow_redirects=False) as response:
            assert response.status == 303
        async with browser.get("/dashboard") as response:
            assert response.status == 401


async def test_the_cookie_jar_is_adas_session() -> None:
    async with running_demo() as demo, aiohttp.ClientSession(demo.address) as client:
        assert demo.jar.stat().st_mode & 0o777 == 0o600
        fields = demo.jar.read_text().splitlines()[-1].split("\t")
        assert fields[0] == "#HttpOnly_127.0.0.1"
        async with client.get("/dashboard", headers={"Cookie": f"{fields[5]}={fields[6]}"}) as response:
            assert (await response.json())["user"]["name"] == "Ada Lovelace"


async def test_the_configuration_is_the_smallest_with_a_rule_of_each_kind(tmp_path: Path) -> None:
    path = tmp_path / "gatekeeper.yaml"
    database = tmp_path / "a folder" / "auth.db"
    path.write_text(config_text("::1", 8080, "http://127.0.0.1:3000", "1" * 64, database), "utf-8")
    settings = load_file(path, {})
    assert settings.listen == "[::1]:8080"
    assert settings.store.url == f"sqlite:///{database}"


def test_the_next_free_port_is_used() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = find_free_port("127.0.0.1", port)
        assert port < found < port + 100
    assert find_free_port("127.0.0.1", 0) > 0


def test_no_free_port_is_an_error() -> None:
    with pytest.raises(ListenError, match="no free port"):
        find_free_port("127.0.0.1", 65536)
    with pytest.raises(ListenError, match="cannot listen on"):
        find_free_port("192.0.2.1", 8080)


@pytest.mark.parametrize(
    ("output", "environment", "expected"),
    [
        pytest.param(Terminal(), {}, True, id="terminal"),
        pytest.param(io.StringIO(), {}, False, id="file"),
        pytest.param(Terminal(), {"NO_COLOR": "1"}, False, id="NO_COLOR"),
        pytest.param(Terminal(), {"NO_COLOR": ""}, True, id="NO_COLOR-empty"),
        pytest.param(Terminal(), {"TERM": "dumb"}, False, id="dumb-terminal"),
    ],
)
def test_color_is_for_terminals(output: io.StringIO, environment: dict[str, str], expected: bool) -> None:
    assert wants_color(output, environment) is expected


def test_the_guide_reads_the_same_without_color() -> None:
    given = ("http://127.0.0.1:8080", Path("/tmp/demo/ada.cookies"), Path("/tmp/demo/gatekeeper.yaml"))
    plain, colored = guide(*given, Paint(False)), guide(*given, Paint(True))
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == plain
    assert "/tmp/demo/auth.db" in plain
    assert "curl -i -H 'Accept: text/html' http://127.0.0.1:8080/dashboard" in plain
