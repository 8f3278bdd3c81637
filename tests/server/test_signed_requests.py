"""Assertions in front of a real gate: what each app gets, by which path, and the set that verifies it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from gatekeeper.config.key_folder import NAME, KeyFolder
from gatekeeper.core.errors import KeysUnusable
from gatekeeper.core.model import SessionToken
from gatekeeper.server.app import sign_anew
from gatekeeper.stores.sql import SqlStore
from tests.server.clock import Clock
from tests.server.conftest import TOKEN, USER_ID
from tests.server.gates import COOKIE, FOUR_LINES, RunningGate, cookie_value, running_gate
from tests.server.talks import SWITCHING, handshake, talking_app
from tests.server.test_session_data_decides import ELSEWHERE, Fed
from tests.server.upstreams import Received, RecordingUpstream, recording_upstream
from tests.server.wire import Wire, ask, head

SIGNED_IN = f"Cookie: {COOKIE}={cookie_value(TOKEN)}"
ORIGIN = "http://127.0.0.1"
SIGNING = f"{FOUR_LINES}public_url: {ORIGIN}\n"
JWKS = "/.well-known/gatekeeper/jwks.json"
ALIAS = "/.well-known/pomerium/jwks.json"


@pytest.fixture
async def gate(database: Path, upstream: RecordingUpstream) -> AsyncIterator[RunningGate]:
    async with running_gate(upstream.url, database, text=SIGNING) as running:
        yield running


def verified(token: str, gate: RunningGate, audience: str = ORIGIN) -> dict[str, Any]:
    """The claims, by the published set alone."""
    assertions = gate.gate.runtime.assertions
    assert assertions is not None
    keys = jwt.PyJWKSet.from_json(assertions.keys.published[0].decode())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(token, key, algorithms=["ES256"], audience=audience, issuer=ORIGIN, leeway=30)


def assertion_in(received: Received, name: str = "X-Auth-Assertion") -> str:
    (token,) = received.values(name)
    return token


async def in_turn(gate: RunningGate, target: str, *lines: str, times: int = 3) -> None:
    """The same request again and again on one connection, each alone: all but the first are the fast lane's."""
    wire = await Wire.open(gate.port)
    for _ in range(times):
        wire.send(head("GET", target, gate.host, *lines, close=False))
        await wire.until(b"}")
    wire.close()


async def test_the_app_can_verify_who_asks(gate: RunningGate, upstream: RecordingUpstream) -> None:
    await ask(gate.port, "GET", "/dashboard", SIGNED_IN)
    claims = verified(assertion_in(upstream.requests[0]), gate)
    assert (claims["sub"], claims["iss"], claims["aud"]) == (USER_ID, ORIGIN, ORIGIN)
    assert (claims["name"], claims["email"], claims["roles"]) == ("Ada Łoś", "Ada@example.test", ["admin", "user"])
    assert [claims["sid"]] == upstream.requests[0].values("X-Auth-Session-Id")
    assert claims["exp"] - claims["iat"] == 120
    assert TOKEN not in json.dumps(claims)
    whoami = json.loads((await ask(gate.port, "GET", "/.gatekeeper/whoami", SIGNED_IN)).body)
    assert {"user": claims["user"], "session": claims["session"]} == whoami


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_same_one_by_every_path(gate: RunningGate, upstream: RecordingUpstream, method: str) -> None:
    body = b"x" if method == "POST" else b""
    wire = await Wire.open(gate.port)
    for _ in range(6):  # the first by the coroutine path, later ones by the lane
        framing = [f"Content-Length: {len(body)}"] if body else []
        wire.send(head(method, "/dashboard", gate.host, SIGNED_IN, *framing, close=False).encode() + body)
        await wire.until(b"}")
    wire.close()
    await ask(gate.port, "GET", "/settings", SIGNED_IN, "X-Other: 1")
    assert len(upstream.requests) == 7
    assert len({assertion_in(request) for request in upstream.requests}) == 1


async def test_it_is_renewed_at_half_of_its_life(gate: RunningGate, upstream: RecordingUpstream) -> None:
    clock, late = gate.gate.clock, Clock(0)
    gate.gate.clock = lambda: clock() + int(late.at)
    for late.at in (0, 0, 30_000, 61_000, 61_000):
        await in_turn(gate, "/dashboard", SIGNED_IN)
    tokens = [assertion_in(request) for request in upstream.requests]
    assert len(tokens) == 15
    assert len(set(tokens)) == 2
    assert len(set(tokens[:9])) == len(set(tokens[9:])) == 1
    now_s = time.time()
    first, second = (jwt.decode(token, options={"verify_signature": False}) for token in (tokens[0], tokens[-1]))
    assert 58 <= second["exp"] - first["exp"] <= 90
    assert second["exp"] > now_s + 120


async def slow_upload(gate: RunningGate, late: Clock) -> Wire:
    """A client that has sent the beginning of its body, and goes on when the first assertion has ended."""
    clock, assertions = gate.gate.clock, gate.gate.runtime.assertions
    assert assertions is not None
    gate.gate.clock = lambda: clock() + int(late.at)
    wire = await Wire.open(gate.port)
    wire.send(head("POST", "/dashboard", gate.host, SIGNED_IN, "Content-Length: 2").encode() + b"x")
    while not assertions.signed:  # noqa: ASYNC110  (until the gate has decided)
        await asyncio.sleep(0)
    late.at = 121_000
    return wire


async def test_an_upload_that_begins_slowly_is_not_sent_with_one_that_has_ended(
    gate: RunningGate, upstream: RecordingUpstream
) -> None:
    late = Clock(0)
    wire = await slow_upload(gate, late)
    wire.send(b"y")
    assert b" 200 " in (await wire.rest())[:20]
    claims = jwt.decode(assertion_in(upstream.requests[0]), options={"verify_signature": False})
    assert claims["exp"] > gate.gate.clock() // 1000
    assert upstream.requests[0].body == b"xy"


async def test_nor_with_a_new_one_for_a_session_that_has_ended(gate: RunningGate, upstream: RecordingUpstream) -> None:
    late = Clock(0)
    wire = await slow_upload(gate, late)
    gate.gate.runtime.sessions.forget(SessionToken(TOKEN))
    late.at = 400 * 86_400_000
    wire.send(b"y")
    assert b" 401 " in (await wire.rest())[:20]
    assert upstream.requests == []


@pytest.mark.parametrize("path", ["/", "/about"])
async def test_who_is_not_asked_about_gets_none(gate: RunningGate, upstream: RecordingUpstream, path: str) -> None:
    await ask(gate.port, "GET", path, SIGNED_IN)
    assert upstream.requests[0].values("X-Auth-Assertion") == []


SPELLINGS = ["X-Auth-Assertion", "x_auth_assertion", "X-AUTH.Assertion", "X-Auth_Assertion"]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("path", ["/about", "/dashboard"])
async def test_no_client_can_send_one(gate: RunningGate, upstream: RecordingUpstream, spelling: str, path: str) -> None:
    await in_turn(gate, path, SIGNED_IN, f"{spelling}: forged.forged.forged")
    await in_turn(gate, path, SIGNED_IN, f"{spelling}: forged.forged.forged", f"Connection: {spelling}")
    assert len(upstream.requests) == 6
    for request in upstream.requests:
        assert b"forged" not in request.head
        assert len(request.values("X-Auth-Assertion")) == (1 if path == "/dashboard" else 0)


async def test_a_named_upstream_is_another_audience(database: Path, upstream: RecordingUpstream) -> None:
    async with recording_upstream() as api:
        text = SIGNING.replace("/settings]", "{{path: /settings, upstream: api}}]")
        text += f"upstreams: {{{{api: {api.url}}}}}\n"
        async with running_gate(upstream.url, database, text=text) as gate:
            await ask(gate.port, "GET", "/dashboard", SIGNED_IN)
            await ask(gate.port, "GET", "/settings", SIGNED_IN)
            for_api = assertion_in(api.requests[0])
            assert verified(for_api, gate, "gatekeeper:api")["sub"] == USER_ID
            with pytest.raises(jwt.InvalidAudienceError):
                verified(for_api, gate)
            with pytest.raises(jwt.InvalidAudienceError):
                verified(assertion_in(upstream.requests[0]), gate, "gatekeeper:api")


async def test_a_websocket_handshake_carries_it(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database, text=SIGNING) as gate:
        client = await Wire.open(gate.port)
        client.send(handshake(gate.host, SIGNED_IN, target="/dashboard"))
        side, asked_for = await app.accept()
        side.send(SWITCHING)
        await client.until(b"\r\n\r\n")
        (line,) = [line for line in asked_for.split(b"\r\n") if line.startswith(b"X-Auth-Assertion: ")]
        assert verified(line.partition(b": ")[2].decode(), gate)["sub"] == USER_ID
        client.close()


async def test_a_session_that_a_cookie_speaks_for_gets_one(
    database: Path, upstream: RecordingUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqlStore, "channel", lambda store, memory: None)
    async with running_gate(upstream.url, database, text=SIGNING) as gate:
        fed = Fed(gate)
        await in_turn(gate, "/dashboard", fed.cookies(ELSEWHERE), "Accept: application/json")
        tokens = {assertion_in(request) for request in upstream.requests}
        assert len(tokens) == 1
        assert verified(tokens.pop(), gate)["sub"] == USER_ID


async def test_a_session_that_is_not_cached_gets_one(database: Path, upstream: RecordingUpstream) -> None:
    text = SIGNING + "session: {{memory_cache: {{max_age: 0s}}}}\n"
    async with running_gate(upstream.url, database, text=text) as gate:
        await in_turn(gate, "/dashboard", SIGNED_IN)
        tokens = {assertion_in(request) for request in upstream.requests}
        assert len(tokens) == 1  # read anew each time, and nothing had changed
        assert verified(tokens.pop(), gate)["sub"] == USER_ID


async def test_without_public_url_there_is_none(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        await ask(gate.port, "GET", "/dashboard", SIGNED_IN)
        answer = await ask(gate.port, "GET", JWKS)
    assert upstream.requests[0].values("X-Auth-Assertion") == []
    assert answer.status == 404
    assert len(upstream.requests) == 1


# --- the published set ---------------------------------------------------------------------------------------------


async def test_the_set_is_for_anybody(gate: RunningGate, upstream: RecordingUpstream) -> None:
    answer = await ask(gate.port, "GET", JWKS, "Origin: https://elsewhere.test")
    assert answer.status == 200
    assert answer.values("content-type") == ["application/json"]
    assert answer.values("cache-control") == ["public, max-age=300"]
    assert answer.values("access-control-allow-origin") == ["*"]
    assert answer.values("x-content-type-options") == ["nosniff"]
    keys = json.loads(answer.body)["keys"]
    assert [key["use"] for key in keys] == ["sig", "sig"]
    assert not any("d" in key for key in keys)
    assert upstream.requests == []


async def test_who_has_the_set_is_not_sent_it_again(gate: RunningGate) -> None:
    first = await ask(gate.port, "GET", JWKS)
    (etag,) = first.values("etag")
    again = await ask(gate.port, "GET", JWKS, f"If-None-Match: W/{etag}")
    assert (again.status, again.body) == (304, b"")
    assert again.values("etag") == [etag]
    assert (await ask(gate.port, "GET", JWKS, 'If-None-Match: "other"')).status == 200
    of_head = await ask(gate.port, "HEAD", JWKS)
    assert (of_head.status, of_head.body, of_head.values("etag")) == (200, b"", [etag])


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
async def test_it_is_only_read(gate: RunningGate, method: str) -> None:
    answer = await ask(gate.port, method, JWKS)
    assert answer.status == 405
    assert answer.values("allow") == ["GET, HEAD"]


async def test_a_preflight_may_ask_from_anywhere(gate: RunningGate) -> None:
    lines = ("Origin: https://elsewhere.test", "Access-Control-Request-Method: GET")
    answer = await ask(gate.port, "OPTIONS", JWKS, *lines)
    assert answer.status == 204
    assert answer.values("access-control-allow-origin") == ["*"]


async def test_the_alias_is_the_apps_own_without_the_preset(gate: RunningGate, upstream: RecordingUpstream) -> None:
    await ask(gate.port, "GET", ALIAS)
    assert [request.target for request in upstream.requests] == [ALIAS]


async def test_the_pomerium_preset(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database, text=SIGNING + "identity: {{headers: pomerium}}\n") as gate:
        forged = ("X_Pomerium-JWT_Assertion: forged", "X-Pomerium-Claim-Email: forged", "X-Auth-Assertion: forged")
        await in_turn(gate, "/dashboard", SIGNED_IN, *forged)
        sets = [(await ask(gate.port, "GET", path)).body for path in (JWKS, ALIAS)]
        assert sets[0] == sets[1]
        for request in upstream.requests:
            assert verified(assertion_in(request, "X-Pomerium-Jwt-Assertion"), gate)["sub"] == USER_ID
            assert b"forged" not in request.head
            assert request.values("X-Auth-User-Id") == request.values("X-Auth-Assertion") == []
            assert request.values("X-Auth-Status") == ["authenticated"]
    assert len(upstream.requests) == 3


@pytest.mark.parametrize(
    ("identity", "forged", "sent"),
    [
        pytest.param(
            "headers: remote-user", ["Remote_User", "remote-groups", "Remote-Sub"], "Remote-User", id="remote-user"
        ),
        pytest.param("headers: x-forwarded", ["X_Forwarded.User"], "X-Forwarded-User", id="x-forwarded"),
        pytest.param("headers: x-auth-request", ["X-Auth_Request-User"], "X-Auth-Request-User", id="x-auth-request"),
        pytest.param(
            "rename: {{X-Auth-User-Id: X-WEBAUTH-USER}}", ["x_webauth_user", "X-Auth-User-Id"], "X-WEBAUTH-USER",
            id="renamed",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/dashboard", "/about"])
async def test_names_of_other_proxies(
    database: Path, upstream: RecordingUpstream, identity: str, forged: list[str], sent: str, path: str
) -> None:
    async with running_gate(upstream.url, database, text=f"{FOUR_LINES}identity: {{{{{identity}}}}}\n") as gate:
        await in_turn(gate, path, SIGNED_IN, *(f"{name}: forged" for name in forged))
    assert len(upstream.requests) == 3
    for request in upstream.requests:
        assert b"forged" not in request.head
        assert request.values(sent) == ([USER_ID] if path == "/dashboard" else [])
        assert request.values("X-Auth-Status") == ["authenticated" if path == "/dashboard" else "anonymous"]


# --- rotation ------------------------------------------------------------------------------------------------------


async def test_after_a_rotation_the_next_key_signs(
    gate: RunningGate, upstream: RecordingUpstream, database: Path
) -> None:
    remembered = jwt.PyJWKSet.from_json((await ask(gate.port, "GET", JWKS)).body.decode())
    await in_turn(gate, "/dashboard", SIGNED_IN)
    before = assertion_in(upstream.requests[-1])
    ring = KeyFolder(database.parent / "gatekeeper-keys").rotate("ES256", gate.gate.clock(), force=True)
    assertions = gate.gate.runtime.assertions
    assert assertions is not None
    assertions.keys.look()  # as `follow_keys` does, once a second
    sign_anew(gate.gate, gate.served.server)
    upstream.requests.clear()
    await in_turn(gate, "/dashboard", SIGNED_IN)
    after = {assertion_in(request) for request in upstream.requests}
    assert len(after) == 1
    token = after.pop()
    header = jwt.get_unverified_header(token)
    assert header["kid"] == ring.current.kid != jwt.get_unverified_header(before)["kid"]
    # who remembers the set of before knows the new key, and who fetches the new set knows the old one
    jwt.decode(token, remembered[header["kid"]], algorithms=["ES256"], audience=ORIGIN, leeway=30)
    assert verified(before, gate)["sub"] == verified(token, gate)["sub"] == USER_ID
    assert len(json.loads((await ask(gate.port, "GET", JWKS)).body)["keys"]) == 3


async def test_unsafe_keys_keep_a_gate_from_starting(database: Path, upstream: RecordingUpstream) -> None:
    folder = KeyFolder(database.parent / "gatekeeper-keys")
    folder.open("ES256", 1)
    (folder.path / NAME).chmod(0o640)
    with pytest.raises(KeysUnusable, match="others can get at it"):
        async with running_gate(upstream.url, database, text=SIGNING):
            pass
