import asyncio
import io
import re
import shlex
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest

from gatekeeper.config.load import load_file
from gatekeeper.core.errors import ListenError
from gatekeeper.demo.people import PASSWORD
from gatekeeper.demo.run import config_text, find_free_port, run_demo

PAGE = {"Accept": "text/html"}


@asynccontextmanager
async def running(host: str = "127.0.0.1") -> AsyncIterator[SimpleNamespace]:
    """A demo on a free port: its address, its cookie jar, and what it printed."""
    output, stop = io.StringIO(), asyncio.Event()
    task = asyncio.create_task(run_demo(host, find_free_port(host, 18080), output=output, stop=stop))
    try:
        async with asyncio.timeout(20):
            while "Ctrl-C" not in output.getvalue():
                assert not task.done(), task.exception()
                await asyncio.sleep(0.01)
        printed = output.getvalue()
        address = re.search(r"http://[0-9.]+:\d+", printed)
        jar = re.search(r"-b (\S+)", printed)
        assert address is not None
        assert jar is not None
        yield SimpleNamespace(address=address[0], jar=Path(jar[1]), output=output)
    finally:
        stop.set()
        await task


def browser_of(demo: SimpleNamespace) -> aiohttp.ClientSession:
    """A browser that has been nowhere yet."""
    headers = {"Origin": demo.address, "Sec-Fetch-Site": "same-origin", **PAGE}
    return aiohttp.ClientSession(demo.address, cookie_jar=aiohttp.CookieJar(unsafe=True), headers=headers)


async def send_form(browser: aiohttp.ClientSession, path: str, **fields: str) -> aiohttp.ClientResponse:
    """The page that sending the form at this path leads to."""
    async with browser.get(path) as response:
        token = re.search(r'name="token" value="([^"]+)"', await response.text())
    assert token is not None
    return await browser.post(path, data={"token": token[1], **fields})


def arguments_after(demo: SimpleNamespace, comment: str) -> list[str]:
    """What curl is given in the example under this comment."""
    command = demo.output.getvalue().partition(comment)[2].split("\n")[1]
    program, *arguments = shlex.split(command)
    assert program == "curl"
    return arguments


async def test_the_demo_does_what_it_says() -> None:
    async with running() as demo, aiohttp.ClientSession(demo.address) as client:
        folder = demo.jar.parent
        async with client.get("/dashboard?tab=1", headers=PAGE, allow_redirects=False) as response:
            assert response.status == 307
            assert response.headers["Location"] == "/sign-in?callbackUrl=%2Fdashboard%3Ftab%3D1"
        async with client.get("/dashboard") as response:
            assert response.status == 401
            assert (await response.json())["error"] == "Unauthorized"
        for path in ("/", "/dashboard/help", "/sign-up", "/.gatekeeper/static/gatekeeper.css"):
            async with client.get(path, headers=PAGE) as response:
                assert response.status == 200, path
    assert not folder.exists()
    assert "Stopped" in demo.output.getvalue()


async def test_signing_in_and_out_through_the_gate() -> None:
    async with running() as demo, browser_of(demo) as browser:
        form = {"email": "zoe@example.com", "password": PASSWORD, "callbackUrl": "/settings?tab=1"}
        async with await send_form(browser, "/sign-in?callbackUrl=%2Fsettings%3Ftab%3D1", **form) as response:
            assert response.url.path_qs == "/settings?tab=1"
            page = await response.text()
            assert "Zoë Łoś" in page
            assert "zoe@example.com" in page
            assert "Verified: the gate signed this" in page
        forged = {"X-Auth-User-Id": "root", "x_auth_user_id": "root", "X-Auth-Role": "root", "Accept": "*/*"}
        async with browser.get("/dashboard", headers=forged) as response:
            shown = await response.json()
            assert shown["user"]["email"] == "zoe@example.com"
            assert shown["signature"] == "verified"
            assert shown["headers"]["X-Auth-User-Id"] == shown["user"]["id"]
            assert "root" not in shown["headers"].values()
        async with browser.get("/preview", headers={"Accept": "*/*"}) as response:
            shown = await response.json()
            assert (shown["status"], shown["signature"]) == ("anonymous", "MISSING")
        async with browser.get("/") as response:
            assert "You are signed in as" in await response.text()
        async with browser.post("/.gatekeeper/sign-out", data={"callbackUrl": "/.gatekeeper/signed-out"}) as response:
            assert response.url.path == "/.gatekeeper/signed-out"
        async with browser.get("/dashboard", headers={"Accept": "*/*"}) as response:
            assert response.status == 401


async def test_somebody_new_makes_an_account() -> None:
    async with running() as demo, browser_of(demo) as browser:
        form = {
            "name": "Grace",
            "email": "grace@example.com",
            "password": "a long enough one",
            "callbackUrl": "/dashboard",
        }
        async with await send_form(browser, "/sign-up", **form) as response:
            assert response.url.path == "/dashboard"
            page = await response.text()
        assert "Grace" in page
        assert "not told, as nobody has confirmed it" in page


async def test_ada_signs_out_her_other_devices_and_curl_with_them() -> None:
    async with running() as demo, browser_of(demo) as browser, aiohttp.ClientSession(demo.address) as curl:
        fields = demo.jar.read_text().splitlines()[-1].split("\t")
        sent = {"Cookie": f"{fields[5]}={fields[6]}"}
        assert fields[0] == "#HttpOnly_127.0.0.1"
        assert demo.jar.stat().st_mode & 0o777 == 0o600
        async with curl.get("/dashboard", headers=sent) as response:
            assert (await response.json())["user"]["name"] == "Ada Lovelace"
        async with await send_form(browser, "/sign-in", email="ada@example.com", password=PASSWORD) as response:
            assert response.status == 200
        async with browser.get("/.gatekeeper/sessions") as response:
            page = await response.text()
        assert "You are signed in on 4 other devices." in page
        for device in ("Safari on iPhone", "Edge on Windows", "Firefox on macOS", "curl"):
            assert f"<h2>{device}</h2>" in page
        async with await send_form(browser, "/.gatekeeper/sessions", others="yes") as response:
            assert "Done. 4 other devices have been signed out." in await response.text()
        async with curl.get("/dashboard", headers=sent) as response:
            assert response.status == 401


async def test_the_example_signs_zoe_in_by_better_auths_call() -> None:
    async with running() as demo, aiohttp.ClientSession() as curl:
        _, jar, _, header, _, body, url = arguments_after(demo, "Sign in as Zoë")
        assert Path(jar).parent == demo.jar.parent
        name, _, value = header.partition(": ")
        async with curl.post(url, data=body.encode(), headers={name: value}) as response:
            assert response.status == 200
            assert (await response.json())["user"]["name"] == "Zoë Łoś"
            assert any(line.startswith("better-auth.session_token=") for line in response.headers.getall("Set-Cookie"))


async def test_on_all_addresses_there_is_no_signature() -> None:
    async with running("0.0.0.0") as demo, aiohttp.ClientSession() as client:  # noqa: S104
        fields = demo.jar.read_text().splitlines()[-1].split("\t")
        url = demo.address.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        async with client.get(f"{url}/dashboard", headers={"Cookie": f"{fields[5]}={fields[6]}"}) as response:
            shown = await response.json()
        assert shown["user"]["name"] == "Ada Lovelace"
        assert shown["signature"] is None
        assert "X-Auth-Assertion" not in shown["headers"]
    assert "signature" not in demo.output.getvalue()


@pytest.mark.parametrize("public_url", ["http://[::1]:8080", None])
def test_the_configuration_has_accounts_and_a_rule_of_each_kind(tmp_path: Path, public_url: str | None) -> None:
    path = tmp_path / "gatekeeper.yaml"
    database = tmp_path / "a folder" / "auth.db"
    path.write_text(config_text("[::1]:8080", "http://127.0.0.1:3000", "1" * 64, database, public_url), "utf-8")
    settings = load_file(path, {})
    assert (settings.listen, settings.public_url) == ("[::1]:8080", public_url)
    assert settings.store.url == f"sqlite:///{database}"
    assert (settings.accounts.enabled, settings.accounts.sign_up, settings.accounts.smtp) == (True, True, None)
    assert settings.branding.name == "gatekeeper demo"
    rules = [rule if isinstance(rule, str) else rule.path for rule in (*settings.protect, *settings.public)]
    assert rules == ["/dashboard", "/settings", "/preview", "/dashboard/help", "/"]


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
