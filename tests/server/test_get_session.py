"""The app's get-session, answered by the gate: what it answers, and what it leaves to the app."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.attacks.judge import Response, parse_responses
from tests.better_auth_db import add_session, iso, session_id
from tests.server.conftest import HOUR_MS, TOKEN, USER_ID, now_ms
from tests.server.gates import COOKIE, SECRET, RunningGate, cookie_value, running_gate
from tests.server.upstreams import RecordingUpstream
from tests.server.wire import Wire, head

SERVED = "session: {serve_get_session: true, bearer: signed}\n"
PATH = "/api/auth/get-session"
SIGNED_IN = f"Cookie: {COOKIE}={cookie_value(TOKEN)}"
OLD = "an-older-secret-of-more-than-32-bytes-77aa"
DAY_MS = 86_400_000
"""What is left of a session of two days on the moment that it is due."""


async def asked(gate: RunningGate, method: str, target: str, *lines: str) -> Response:
    """The last of three equal answers on one connection: what the gate remembers of the first must not differ."""
    wire = await Wire.open(gate.port)
    for last in (False, False, True):
        wire.send(head(method, target, gate.host, *lines, close=last))
        if not last:
            await wire.until(b"\r\n\r\n")
    raw = await wire.rest()
    answers, _ = parse_responses(raw[raw.index(b"HTTP/1.1") :], method)
    return answers[-1]


def run(database: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement, values)


@pytest.fixture
def long_lived(database: Path) -> Path:
    """The database, in which the session is not due."""
    run(database, "update session set expiresAt = ?", iso(now_ms() + DAY_MS + HOUR_MS))
    return database


async def test_it_says_all_that_the_tables_say(long_lived: Path, upstream: RecordingUpstream) -> None:
    with closing(sqlite3.connect(long_lived)) as connection:
        expires, created = connection.execute("select expiresAt, createdAt from session").fetchone()
    async with running_gate(upstream.url, long_lived, SERVED) as gate:
        answer = await asked(gate, "GET", PATH, SIGNED_IN)
    assert upstream.requests == []
    assert answer.status == 200
    assert answer.values("content-type") == ["application/json"]
    assert answer.values("cache-control") == ["no-store"]
    assert answer.values("pragma") == ["no-cache"]
    assert answer.values("set-cookie") == []
    assert json.loads(answer.body) == {
        "session": {
            "id": session_id(TOKEN),
            "token": TOKEN,
            "userId": USER_ID,
            "expiresAt": expires,
            "createdAt": created,
            "updatedAt": created,
            "ipAddress": "",
            "userAgent": "",
            "impersonatedBy": None,
            "activeOrganizationId": None,
        },
        "user": {
            "id": USER_ID,
            "name": "Ada Łoś",
            "email": "Ada@Example.TEST",
            "emailVerified": True,
            "image": None,
            "createdAt": iso(1_790_000_000_000),
            "updatedAt": iso(1_790_000_000_000),
            "role": "admin,user",
            "banned": False,
            "banReason": None,
            "banExpires": None,
            "twoFactorEnabled": True,
        },
    }


async def test_declared_fields_are_said(long_lived: Path, upstream: RecordingUpstream) -> None:
    run(long_lived, "alter table user add column nickname text")
    run(long_lived, "alter table session add column device text")
    run(long_lived, "update user set nickname = 'Countess'")
    text = (
        "listen: 127.0.0.1:0\nupstream: {upstream}\nsecret: {secret}\nprotect: [/dashboard]\n"
        "store: {{url: 'sqlite:///{database}', fields: {{user: [nickname], session: [device]}}}}\n"
    )
    async with running_gate(upstream.url, long_lived, SERVED, text=text) as gate:
        said = json.loads((await asked(gate, "GET", PATH, SIGNED_IN)).body)
    assert (said["user"]["nickname"], said["session"]["device"]) == ("Countess", None)


async def test_plugin_fields_are_said_only_where_there_are_any(long_lived: Path, upstream: RecordingUpstream) -> None:
    for table, column in (("user", "twoFactorEnabled"), ("user", "banReason"), ("session", "impersonatedBy")):
        run(long_lived, f'alter table "{table}" drop column {column}')
    async with running_gate(upstream.url, long_lived, SERVED) as gate:
        said = json.loads((await asked(gate, "GET", PATH, SIGNED_IN)).body)
    assert not {"twoFactorEnabled", "banReason"} & set(said["user"])
    assert "impersonatedBy" not in said["session"]
    assert said["user"]["banned"] is False


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param((), id="no-cookie"),
        pytest.param(("Cookie: a=b",), id="other-cookies"),
        pytest.param((f"Cookie: {COOKIE}=",), id="empty"),
        pytest.param((f"Cookie: __Secure-{COOKIE}={cookie_value(TOKEN)}",), id="another-name"),
    ],
)
async def test_nobody_is_null(long_lived: Path, upstream: RecordingUpstream, lines: tuple[str, ...]) -> None:
    async with running_gate(upstream.url, long_lived, SERVED) as gate:
        answer = await asked(gate, "GET", PATH, *lines)
    assert upstream.requests == []
    assert (answer.status, answer.body, answer.values("set-cookie")) == (200, b"null", [])
    assert answer.values("content-type") == ["application/json"]
    assert answer.values("cache-control") == ["no-store"]


async def test_a_bearer_header_says_who_asks(long_lived: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, long_lived, SERVED) as gate:
        answer = await asked(gate, "GET", PATH, f"Authorization: Bearer {cookie_value(TOKEN)}")
    assert upstream.requests == []
    assert json.loads(answer.body)["user"]["id"] == USER_ID


@pytest.mark.parametrize(
    ("method", "target", "lines"),
    [
        pytest.param("HEAD", PATH, (SIGNED_IN,), id="head"),
        pytest.param("POST", PATH, (SIGNED_IN,), id="post"),
        pytest.param("OPTIONS", PATH, (SIGNED_IN,), id="options"),
        pytest.param("GET", f"{PATH}?disableCookieCache=true", (SIGNED_IN,), id="a-parameter"),
        pytest.param("GET", f"{PATH}?", (SIGNED_IN,), id="an-empty-query"),
        pytest.param("GET", f"{PATH}/", (SIGNED_IN,), id="a-slash"),
        pytest.param("GET", "/api/auth/get-sessions", (SIGNED_IN,), id="another-path"),
        pytest.param("GET", "/API/auth/get-session", (SIGNED_IN,), id="capitals"),
        pytest.param("GET", PATH, (SIGNED_IN, "Origin: http://other.test"), id="another-origin"),
        pytest.param("GET", PATH, (SIGNED_IN, "Authorization: Bearer raw-token"), id="a-raw-bearer"),
        pytest.param("GET", PATH, ("Authorization: Basic eDp5",), id="basic"),
        pytest.param("GET", PATH, (SIGNED_IN + "x",), id="bad-signature"),
        pytest.param("GET", PATH, (f"Cookie: {COOKIE}={cookie_value('unknown')}",), id="unknown"),
        pytest.param("GET", PATH, (f"Cookie: {COOKIE}={cookie_value('over')}",), id="expired"),
        pytest.param("GET", PATH, (f"Cookie: {COOKIE}={cookie_value('due')}",), id="due"),
        pytest.param("GET", PATH, (f"Cookie: {COOKIE}={cookie_value(TOKEN, OLD)}",), id="an-older-secret"),
    ],
)
async def test_what_is_the_apps_business(
    long_lived: Path, upstream: RecordingUpstream, method: str, target: str, lines: tuple[str, ...]
) -> None:
    now = now_ms()
    add_session(long_lived, user_id=USER_ID, token="over", expires_at_ms=now - 1, created_at_ms=now - DAY_MS)
    add_session(long_lived, user_id=USER_ID, token="due", expires_at_ms=now + DAY_MS, created_at_ms=now - DAY_MS)
    text = (
        "listen: 127.0.0.1:0\nupstream: {upstream}\nstore: sqlite:///{database}\nprotect: [/dashboard]\n"
        f"secrets: [{{{{version: 2, value: {SECRET}}}}}, {{{{version: 1, value: {OLD}}}}}]\n"
    )
    async with running_gate(upstream.url, long_lived, SERVED, text=text) as gate:
        await asked(gate, method, target, *lines)
    assert [(request.method, request.target) for request in upstream.requests] == [(method, target)] * 3


async def test_who_is_banned_is_the_apps_business(long_lived: Path, upstream: RecordingUpstream) -> None:
    run(long_lived, "update user set banned = 1")
    async with running_gate(upstream.url, long_lived, SERVED) as gate:
        await asked(gate, "GET", PATH, SIGNED_IN)
    assert len(upstream.requests) == 3


async def test_a_session_of_who_is_not_to_be_remembered_is_never_due(
    database: Path, upstream: RecordingUpstream
) -> None:
    async with running_gate(upstream.url, database, SERVED) as gate:
        answer = await asked(gate, "GET", PATH, f"{SIGNED_IN}; better-auth.dont_remember={cookie_value('true')}")
        assert upstream.requests == []
        assert json.loads(answer.body)["session"]["token"] == TOKEN
        await asked(gate, "GET", PATH, f"{SIGNED_IN}; better-auth.dont_remember=true")
        assert len(upstream.requests) == 3


async def test_without_a_store_the_app_answers(long_lived: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, long_lived, SERVED) as gate:
        long_lived.unlink()
        answer = await asked(gate, "GET", PATH, SIGNED_IN)
    assert answer.status == 200
    assert len(upstream.requests) == 3


async def test_it_is_off_unless_it_is_asked_for(long_lived: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, long_lived) as gate:
        await asked(gate, "GET", PATH, SIGNED_IN)
        await asked(gate, "GET", PATH)
    assert len(upstream.requests) == 6


async def test_the_own_origin_may_ask(long_lived: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, long_lived, SERVED) as gate:
        await asked(gate, "GET", PATH, SIGNED_IN, f"Origin: {gate.url}")
    assert upstream.requests == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_the_app_changes_is_said_at_once(long_lived: Path, upstream: RecordingUpstream, method: str) -> None:
    async with running_gate(upstream.url, long_lived, SERVED) as gate:
        gate.gate.runtime.sessions._max_age_s = 3_600.0
        assert json.loads((await asked(gate, "GET", PATH, SIGNED_IN)).body)["user"]["name"] == "Ada Łoś"
        run(long_lived, "update user set name = 'Ada King'")
        assert json.loads((await asked(gate, "GET", PATH, SIGNED_IN)).body)["user"]["name"] == "Ada Łoś"
        await asked(gate, method, "/api/auth/update-user", SIGNED_IN)
        assert json.loads((await asked(gate, "GET", PATH, SIGNED_IN)).body)["user"]["name"] == "Ada King"


async def test_one_store_read_serves_many(long_lived: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, long_lived, SERVED) as gate:
        gate.gate.runtime.sessions._max_age_s = 3_600.0
        for _ in range(5):
            await asked(gate, "GET", PATH, SIGNED_IN)
        assert gate.gate.runtime.sessions.counters.reads == 1
