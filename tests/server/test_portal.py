"""The gate's own paths: never forwarded, always public, strict about who may change things."""

import json
from pathlib import Path

import pytest

from gatekeeper.config.snapshot import OWN_PATHS
from gatekeeper.core.model import Target
from gatekeeper.core.urls import parse_target
from gatekeeper.server.portal import owns
from tests.server.conftest import TOKEN
from tests.server.gates import COOKIE, cookie_value, running_gate
from tests.server.upstreams import RecordingUpstream
from tests.server.wire import ask

SIGNED_IN = f"Cookie: {COOKIE}={cookie_value(TOKEN)}"
WHOAMI = "/.gatekeeper/whoami"
CLEAR = "/.gatekeeper/clear-cookies"
PROTECT_ALL = "listen: 127.0.0.1:0\nupstream: {upstream}\nsecret: {secret}\nstore: sqlite:///{database}\n"


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("/.gatekeeper", True),
        ("/.gatekeeper/whoami", True),
        ("/.GateKeeper/whoami", True),
        ("/x/../.gatekeeper/whoami", True),
        ("/.gatekeeper;x/whoami", True),
        ("/%2egatekeeper/whoami", True),
        ("/.gatekeeper%2fwhoami", True),
        ("/.well-known/gatekeeper/jwks.json", True),
        ("/.well-known/security.txt", False),
        ("/gatekeeper", False),
        ("/.gatekeeperx", False),
        ("/x/.gatekeeper", False),
    ],
)
def test_which_paths_are_the_gates_own(path: str, own: bool) -> None:
    target = parse_target("GET", path)
    assert isinstance(target, Target)
    assert owns(target, OWN_PATHS) is own


@pytest.mark.parametrize(
    "path", ["/.gatekeeper", "/.gatekeeper/no", "/.GATEKEEPER/whoami", "/.well-known/gatekeeper/x"]
)
async def test_own_path_that_does_not_exist_is_never_the_apps_business(
    database: Path, upstream: RecordingUpstream, path: str
) -> None:
    async with running_gate(upstream.url, database) as gate:
        response = await ask(gate.port, "GET", path, SIGNED_IN)
    assert response.status == 404
    assert upstream.requests == []


async def test_whoami_is_public_even_where_everything_is_protected(database: Path, upstream: RecordingUpstream) -> None:
    text = PROTECT_ALL + "protect: [/]\npublic: [/sign-in]\n"
    async with running_gate(upstream.url, database, text=text) as gate:
        nobody = await ask(gate.port, "GET", WHOAMI, "Accept: text/html")
        somebody = await ask(gate.port, "GET", WHOAMI, SIGNED_IN)
        head = await ask(gate.port, "HEAD", WHOAMI, SIGNED_IN)
    assert (nobody.status, json.loads(nobody.body)) == (401, {"error": "Unauthorized", "code": "NO_COOKIE"})
    assert (somebody.status, somebody.values("cache-control")) == (200, ["no-store"])
    assert (head.status, head.body) == (200, b"")


async def test_whoami_says_503_when_the_store_is_away(database: Path, upstream: RecordingUpstream) -> None:
    database.unlink()
    async with running_gate(upstream.url, database) as gate:
        response = await ask(gate.port, "GET", WHOAMI, SIGNED_IN)
    assert (response.status, response.values("retry-after")) == (503, ["5"])


async def test_whoami_refuses_other_methods(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        response = await ask(gate.port, "POST", WHOAMI, SIGNED_IN)
    assert (response.status, response.values("allow")) == (405, ["GET, HEAD"])


@pytest.mark.parametrize(("origin", "readable"), [("https://spa.example.test", True), ("https://evil.test", False)])
async def test_whoami_may_be_read_by_trusted_origins_alone(
    database: Path, upstream: RecordingUpstream, origin: str, readable: bool
) -> None:
    async with running_gate(upstream.url, database, "trusted_origins: ['https://spa.example.test']\n") as gate:
        response = await ask(gate.port, "GET", WHOAMI, SIGNED_IN, f"Origin: {origin}")
        preflight = await ask(gate.port, "OPTIONS", WHOAMI, f"Origin: {origin}", "Access-Control-Request-Method: GET")
    assert response.values("access-control-allow-origin") == ([origin] if readable else [])
    assert preflight.status == (204 if readable else 403)


async def test_stylesheet_is_served_and_cacheable(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        response = await ask(gate.port, "GET", "/.gatekeeper/static/gatekeeper.css")
    assert response.status == 200
    assert response.values("content-type") == ["text/css; charset=utf-8"]
    assert "max-age" in response.values("cache-control")[0]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        pytest.param(["Origin: {own}"], 303, id="own-origin"),
        pytest.param(["Sec-Fetch-Site: same-origin"], 303, id="fetch-metadata"),
        pytest.param(["Origin: https://evil.test", "Sec-Fetch-Site: same-origin"], 403, id="origin-outranks-metadata"),
        pytest.param(["Origin: null"], 403, id="null-origin"),
        pytest.param(["Sec-Fetch-Site: cross-site"], 403, id="cross-site"),
        pytest.param(["Referer: {own}/"], 403, id="referer-alone"),
        pytest.param([], 403, id="neither"),
    ],
)
async def test_clear_cookies_takes_our_own_form_alone(
    database: Path, upstream: RecordingUpstream, lines: list[str], status: int
) -> None:
    async with running_gate(upstream.url, database) as gate:
        filled = [line.replace("{own}", gate.url) for line in lines]
        body = b"callbackUrl=%2Fdashboard%3Fa%3D1"
        response = await ask(gate.port, "POST", CLEAR, SIGNED_IN, *filled, body=body)
    assert response.status == status
    cleared = [value.partition("=")[0] for value in response.values("set-cookie")]
    if status == 303:
        assert response.values("location") == ["/sign-in?callbackUrl=%2Fdashboard%3Fa%3D1"]
        assert COOKIE in cleared
        assert "better-auth.session_data" in cleared
        assert all("; Max-Age=0; " in value for value in response.values("set-cookie"))
    else:
        assert cleared == []


async def test_clear_cookies_never_leads_elsewhere(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        body = b"callbackUrl=https%3A%2F%2Fevil.test%2F"
        response = await ask(gate.port, "POST", CLEAR, f"Origin: {gate.url}", body=body)
        long = await ask(gate.port, "POST", CLEAR, f"Origin: {gate.url}", body=b"callbackUrl=" + b"a" * 20_000)
    assert response.values("location") == ["/sign-in?callbackUrl=%2F"]
    assert long.status == 413
