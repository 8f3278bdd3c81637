"""`/.gatekeeper/sign-out`: one's own session, ended where it is kept, and nobody else's."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from gatekeeper.core.cookies import Keys
from gatekeeper.core.model import RequestFacts, SessionToken, Target
from gatekeeper.core.urls import parse_target
from gatekeeper.stores.app_sign_out import AppSignOut
from tests.attacks.judge import Response
from tests.better_auth_db import add_session
from tests.server.conftest import HOUR_MS, TOKEN, USER_ID, now_ms
from tests.server.gates import COOKIE, SECRET, RunningGate, cookie_value, running_gate
from tests.server.talks import talking_app
from tests.server.test_event_streams import CHUNKED, streaming
from tests.server.upstreams import Answering, Received, RecordingUpstream, read_body
from tests.server.wire import ask

SIGN_OUT = "/.gatekeeper/sign-out"
SIGNED_IN = f"Cookie: {COOKIE}={cookie_value(TOKEN)}"
OTHER_TOKEN = "AdaAdaAdaAdaAdaAdaAdaAdaAdaAda02"
PAGE = "Sec-Fetch-Mode: navigate"
NAMES = [COOKIE, "better-auth.session_data", "better-auth.dont_remember"]


def tokens(database: Path) -> set[str]:
    with closing(sqlite3.connect(database)) as connection:
        return {token for (token,) in connection.execute("select token from session")}


async def sign_out(gate: RunningGate, *lines: str, body: bytes = b"") -> Response:
    return await ask(gate.port, "POST", SIGN_OUT, f"Origin: {gate.url}", *lines, body=body)


def cleared(response: Response) -> list[str]:
    assert all("=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax" in line for line in response.values("set-cookie"))
    return [line.partition("=")[0] for line in response.values("set-cookie")]


async def test_session_is_gone_from_the_store_and_from_memory(database: Path, upstream: RecordingUpstream) -> None:
    now = now_ms()
    add_session(database, user_id=USER_ID, token=OTHER_TOKEN, expires_at_ms=now + HOUR_MS, created_at_ms=now)
    async with running_gate(upstream.url, database) as gate:
        assert (await ask(gate.port, "GET", "/dashboard", SIGNED_IN)).status == 200
        response = await sign_out(gate, SIGNED_IN)
        assert (await ask(gate.port, "GET", "/dashboard", SIGNED_IN)).status == 401
    assert (response.status, json.loads(response.body)) == (200, {"success": True})
    assert response.values("cache-control") == ["no-store"]
    assert cleared(response) == NAMES
    assert tokens(database) == {OTHER_TOKEN}


async def test_it_is_written_down_without_the_token(database: Path, upstream: RecordingUpstream) -> None:
    log = database.parent / "log"
    more = f"log: {{access: false, file: {log}}}\n"
    async with running_gate(upstream.url, database, more) as gate:
        await sign_out(gate, SIGNED_IN)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (line,) = [line for line in lines if line.get("event") == "signed_out"]
    assert (line["user"], line["client"]) == (USER_ID, "127.0.0.1")
    assert TOKEN not in log.read_text()


async def test_chunks_that_came_are_cleared_too(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        response = await sign_out(gate, f"{SIGNED_IN}; better-auth.session_data.0=x; better-auth.session_data.1=y")
    data = "better-auth.session_data"
    assert cleared(response) == [COOKIE, data, f"{data}.0", f"{data}.1", "better-auth.dont_remember"]


async def test_streams_end(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire, side, _ = await streaming(gate, app, CHUNKED, SIGNED_IN)
        assert (await sign_out(gate, SIGNED_IN)).status == 200
        assert await wire.rest() == b""
        assert await side.rest() == b""


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="no-cookie"),
        pytest.param([f"Cookie: {COOKIE}=x.y"], id="bad-signature"),
        pytest.param([f"Cookie: {COOKIE}={cookie_value(OTHER_TOKEN)}"], id="unknown-session"),
    ],
)
async def test_who_has_no_session_is_signed_out_all_the_same(
    database: Path, upstream: RecordingUpstream, lines: list[str]
) -> None:
    async with running_gate(upstream.url, database) as gate:
        response = await sign_out(gate, *lines)
        audited = gate.served.telemetry
        assert ("signed_out",) not in next(t for t in audited.tallies if "audit" in t.name).values
    assert (response.status, cleared(response)) == (200, NAMES)
    assert tokens(database) == {TOKEN}


async def test_expired_session_is_removed_as_well(database: Path, upstream: RecordingUpstream) -> None:
    now = now_ms()
    add_session(database, user_id=USER_ID, token=OTHER_TOKEN, expires_at_ms=now - 1, created_at_ms=now)
    async with running_gate(upstream.url, database) as gate:
        assert (await sign_out(gate, f"Cookie: {COOKIE}={cookie_value(OTHER_TOKEN)}")).status == 200
    assert tokens(database) == {TOKEN}


@pytest.mark.parametrize(
    "line",
    ["Origin: https://evil.test", "Origin: null", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "X: y"],
)
async def test_other_sites_sign_nobody_out(database: Path, upstream: RecordingUpstream, line: str) -> None:
    async with running_gate(upstream.url, database, 'trusted_origins: ["https://spa.example.test"]\n') as gate:
        response = await ask(gate.port, "POST", SIGN_OUT, SIGNED_IN, line)
    assert (response.status, response.values("set-cookie")) == (403, [])
    assert tokens(database) == {TOKEN}


async def test_get_signs_nobody_out(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        response = await ask(gate.port, "GET", SIGN_OUT, SIGNED_IN, f"Origin: {gate.url}")
    assert (response.status, response.values("allow"), tokens(database)) == (405, ["POST"], {TOKEN})


@pytest.mark.parametrize(
    ("body", "location"),
    [
        (b"", "/"),
        (b"callbackUrl=%2Fbye%3Fa%3D1", "/bye?a=1"),
        (b"callbackUrl=https%3A%2F%2Fevil.test%2F", "/"),
        (b"callbackUrl=%2F%2Fevil.test", "/"),
    ],
)
async def test_form_is_led_on_within_the_site(
    database: Path, upstream: RecordingUpstream, body: bytes, location: str
) -> None:
    async with running_gate(upstream.url, database) as gate:
        response = await sign_out(gate, SIGNED_IN, PAGE, body=body)
    assert (response.status, response.values("location")) == (303, [location])
    assert cleared(response) == NAMES
    assert tokens(database) == set()


async def test_too_long_a_form(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        response = await sign_out(gate, SIGNED_IN, body=b"a" * 20_000)
    assert (response.status, tokens(database)) == (413, {TOKEN})


@pytest.mark.parametrize("primed", [False, True], ids=["unknown-to-the-gate", "in-memory"])
async def test_store_that_is_away_changes_nothing(
    database: Path, upstream: RecordingUpstream, primed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_gate(upstream.url, database) as gate:
        if primed:
            assert (await ask(gate.port, "GET", "/dashboard", SIGNED_IN)).status == 200
        database.rename(database.with_suffix(".away"))
        for _ in range(3):
            response = await sign_out(gate, SIGNED_IN)
            assert (response.status, response.values("retry-after"), response.values("set-cookie")) == (503, ["5"], [])
        said = [line for line in caplog.messages if line.startswith("sessions c")]
        assert len(said) == len(set(said)) > 0
        assert all(line.startswith("sessions cannot be signed out: ") for line in said)
        database.with_suffix(".away").rename(database)
        caplog.clear()
        assert (await sign_out(gate, SIGNED_IN)).status == 200
        assert [line for line in caplog.messages if line.startswith("sessions c")] == [
            "sessions can be signed out again"
        ]


async def test_gate_that_cannot_end_sessions_says_so(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        gate.gate.runtime.revoker = None
        response = await sign_out(gate, SIGNED_IN)
    assert (response.status, response.values("set-cookie"), tokens(database)) == (503, [], {TOKEN})


BEARER = "session: {bearer: signed}\n"


@pytest.mark.parametrize("lines", [(), (f"Cookie: {COOKIE}={cookie_value('NoSessionHasThisTokenAtAll000001')}",)])
async def test_session_of_a_bearer_header_ends_too(
    database: Path, upstream: RecordingUpstream, lines: tuple[str, ...]
) -> None:
    bearer = f"Authorization: Bearer {cookie_value(TOKEN)}"
    async with running_gate(upstream.url, database, BEARER) as gate:
        assert (await ask(gate.port, "GET", "/dashboard", bearer, *lines)).status == 200
        response = await sign_out(gate, bearer, *lines)
        assert (await ask(gate.port, "GET", "/dashboard", bearer, *lines)).status == 401
    assert (response.status, cleared(response), tokens(database)) == (200, NAMES, set())


async def test_session_of_the_cookie_ends_although_a_header_carries_another(
    database: Path, upstream: RecordingUpstream
) -> None:
    now = now_ms()
    add_session(database, user_id=USER_ID, token=OTHER_TOKEN, expires_at_ms=now + HOUR_MS, created_at_ms=now)
    async with running_gate(upstream.url, database, BEARER) as gate:
        response = await sign_out(gate, SIGNED_IN, f"Authorization: Bearer {cookie_value(OTHER_TOKEN)}")
    assert (response.status, cleared(response), tokens(database)) == (200, NAMES, set())


async def test_a_bearer_header_that_counts_for_nothing_ends_nothing(
    database: Path, upstream: RecordingUpstream
) -> None:
    async with running_gate(upstream.url, database) as gate:
        response = await sign_out(gate, f"Authorization: Bearer {cookie_value(TOKEN)}")
    assert (response.status, tokens(database)) == (200, {TOKEN})


async def test_attributes_are_as_configured(database: Path, upstream: RecordingUpstream) -> None:
    more = "session: {cookie: {domain: example.test, same_site: strict, secure: true}}\n"
    async with running_gate(upstream.url, database, more) as gate:
        response = await sign_out(gate)
    assert response.values("set-cookie")[0] == (
        f"__Secure-{COOKIE}=; Max-Age=0; Domain=example.test; Path=/; HttpOnly; Secure; SameSite=Strict"
    )


# --- sessions that only the app can reach -------------------------------------------------------------------------


APP_STORE = "listen: 127.0.0.1:0\nupstream: {upstream}\nsecret: {secret}\nprotect: [/dashboard]\n"


DATE = "2027-01-24T03:12:15.577Z"
FOUND = {
    "session": {
        **{"id": "s1", "token": TOKEN, "userId": "u1", "expiresAt": DATE, "createdAt": DATE, "updatedAt": DATE},
        **{"ipAddress": "", "userAgent": ""},
    },
    "user": {
        **{"id": "u1", "name": "Ada", "email": "ada@example.test", "emailVerified": True, "image": None},
        **{"createdAt": DATE, "updatedAt": DATE},
    },
}


def answering(sign_out_status: int) -> Answering:
    """An app that knows the session, and answers so to a sign-out."""

    async def answer(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await read_body(received, reader)
        is_read = received.method == "GET"
        body = json.dumps(FOUND if is_read else {"success": True}).encode()
        status = 200 if is_read else sign_out_status
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)
        return True

    return answer


@asynccontextmanager
async def gate_that_asks(upstream: RecordingUpstream, database: Path) -> AsyncIterator[RunningGate]:
    text = APP_STORE + f"store: {upstream.url}/api/auth\n"
    async with running_gate(upstream.url, database, text=text) as gate:
        yield gate


async def test_app_is_asked_as_a_browser_would(database: Path, upstream: RecordingUpstream) -> None:
    upstream.answering = answering(200)
    async with gate_that_asks(upstream, database) as gate:
        response = await sign_out(gate, SIGNED_IN)
        host, url = gate.host, gate.url
    assert (response.status, cleared(response)) == (200, NAMES)
    asked = upstream.requests[-1]
    assert (asked.method, asked.target, asked.body) == ("POST", "/api/auth/sign-out", b"{}")
    assert asked.values("cookie") == [f"{COOKIE}={cookie_value(TOKEN)}"]
    assert (asked.values("origin"), asked.values("host")) == ([url], [host])
    assert (asked.values("x-forwarded-proto"), asked.values("x-forwarded-for")) == (["http"], ["127.0.0.1"])
    assert (asked.values("content-type"), asked.trouble) == (["application/json"], None)


@pytest.mark.parametrize("status", [302, 403, 404, 429, 500])
async def test_app_that_does_not_end_the_session_changes_nothing(
    database: Path, upstream: RecordingUpstream, status: int
) -> None:
    upstream.answering = answering(status)
    async with gate_that_asks(upstream, database) as gate:
        response = await sign_out(gate, SIGNED_IN)
        assert (await ask(gate.port, "GET", "/.gatekeeper/whoami", SIGNED_IN)).status == 200
    assert (response.status, response.values("retry-after"), response.values("set-cookie")) == (503, ["5"], [])


async def test_app_is_not_asked_about_a_token_that_no_cookie_can_hold(upstream: RecordingUpstream) -> None:
    target = parse_target("POST", SIGN_OUT)
    assert isinstance(target, Target)
    facts = RequestFacts("POST", target, "http", "h", "127.0.0.1")
    app = AppSignOut(f"{upstream.url}/api/auth", cookie_name=COOKIE, keys=Keys([SECRET]))
    await app.sign_out(SessionToken("x" * 5_000), facts, "http://h")
    await app.close()
    assert upstream.requests == []


async def test_app_that_hangs_up_changes_nothing(database: Path, upstream: RecordingUpstream) -> None:
    async def hang_up(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        return received.method == "GET" and await answering(200)(received, reader, writer)

    upstream.answering = hang_up
    async with gate_that_asks(upstream, database) as gate:
        assert (await sign_out(gate, SIGNED_IN)).status == 503
