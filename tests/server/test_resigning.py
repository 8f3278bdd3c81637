"""Cookies of an older secret: the app gets them under the current one, and the browser too, once and for all."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gatekeeper.core.cookies import Keys, sign_value
from tests.attacks.judge import Response, parse_responses
from tests.server.conftest import TOKEN, USER_ID
from tests.server.gates import COOKIE, SECRET, RunningGate, cookie_value, running_gate
from tests.server.upstreams import RecordingUpstream
from tests.server.wire import Wire, head

OLD = "an-older-secret-of-more-than-32-bytes-77aa"
TEXT = (
    """\
listen: 127.0.0.1:0
upstream: {upstream}
upstreams: {{api: "{upstream}"}}
secrets: [{{version: 2, value: {secret}}}, {{version: 1, value: """
    + OLD
    + """}}]
store: sqlite:///{database}
protect: [/dashboard, {{path: /named, upstream: api}}, {{path: /edge, access: presence}}]
session: {{expires_in: 3d, update_age: 1d}}
"""
)
FORGET = "better-auth.dont_remember"
BEFORE, NOW = cookie_value(TOKEN, OLD), cookie_value(TOKEN)
LINE = f"{COOKIE}={NOW}; Max-Age=259200; Path=/; HttpOnly; SameSite=Lax"


@asynccontextmanager
async def rotated(database: Path, upstream: RecordingUpstream) -> AsyncIterator[RunningGate]:
    async with running_gate(upstream.url, database, text=TEXT) as gate:
        yield gate


async def asked(gate: RunningGate, method: str, target: str, *lines: str) -> Response:
    """The last of three equal answers on one connection: what the gate remembers of the first must not differ."""
    wire = await Wire.open(gate.port)
    for last in (False, False, True):
        wire.send(head(method, target, gate.host, *lines, close=last))
    raw = await wire.rest()
    answers, _ = parse_responses(raw, method)
    assert len(answers) == 3
    assert len({(answer.status, *answer.values("set-cookie")) for answer in answers}) == 1
    return answers[-1]


@pytest.mark.parametrize("path", ["/dashboard", "/edge", "/open", "/api/auth/get-session"])
async def test_the_app_and_the_browser_get_it_signed_anew(
    database: Path, upstream: RecordingUpstream, path: str
) -> None:
    async with rotated(database, upstream) as gate:
        answer = await asked(gate, "GET", path, f"Cookie: a=b; {COOKIE}={BEFORE}; c=d")
        assert [request.values("Cookie") for request in upstream.requests] == [[f"a=b; {COOKIE}={NOW}; c=d"]] * 3
        assert answer.values("set-cookie") == [LINE]
        assert answer.values("cache-control") == ["private, no-store"]
        upstream.requests.clear()
        answer = await asked(gate, "GET", path, f"Cookie: a=b; {COOKIE}={NOW}; c=d")
        assert upstream.requests[0].values("Cookie") == [f"a=b; {COOKIE}={NOW}; c=d"]
        assert answer.values("set-cookie") == []


async def test_it_is_the_same_session(database: Path, upstream: RecordingUpstream) -> None:
    async with rotated(database, upstream) as gate:
        await asked(gate, "GET", "/dashboard", f"Cookie: {COOKIE}={BEFORE}")
    assert upstream.requests[-1].values("X-Auth-User-Id") == [USER_ID]


async def test_who_is_not_remembered_stays_so(database: Path, upstream: RecordingUpstream) -> None:
    was, becomes = sign_value("true", Keys([OLD])), sign_value("true", Keys([SECRET]))
    async with rotated(database, upstream) as gate:
        answer = await asked(gate, "GET", "/dashboard", f"Cookie: {COOKIE}={BEFORE}; {FORGET}={was}")
    assert upstream.requests[-1].values("Cookie") == [f"{COOKIE}={NOW}; {FORGET}={becomes}"]
    assert answer.values("set-cookie") == [
        f"{COOKIE}={NOW}; Path=/; HttpOnly; SameSite=Lax",
        f"{FORGET}={becomes}; Path=/; HttpOnly; SameSite=Lax",
    ]


async def test_an_app_that_sees_no_session_cookies_does_not_hinder_it(
    database: Path, upstream: RecordingUpstream
) -> None:
    async with rotated(database, upstream) as gate:
        answer = await asked(gate, "GET", "/named/x", f"Cookie: a=b; {COOKIE}={BEFORE}")
    assert upstream.requests[-1].values("Cookie") == ["a=b"]
    assert answer.values("set-cookie") == [LINE]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("theirs", [f"{COOKIE}=; Max-Age=0; Path=/", f"{COOKIE}=another; Path=/; HttpOnly"])
async def test_who_signs_in_or_out_at_the_app_is_not_signed_in_again(
    database: Path, upstream: RecordingUpstream, method: str, theirs: str
) -> None:
    async def sets(received: object, reader: object, writer: object) -> bool:
        writer.write(f"HTTP/1.1 200 OK\r\nSet-Cookie: {theirs}\r\nContent-Length: 2\r\n\r\nok".encode())  # type: ignore[attr-defined]
        return True

    upstream.answering = sets
    async with rotated(database, upstream) as gate:
        answer = await asked(gate, method, "/api/auth/sign-out", f"Cookie: {COOKIE}={BEFORE}")
    assert answer.values("set-cookie") == [theirs]


async def test_what_no_secret_signed_is_left_alone(database: Path, upstream: RecordingUpstream) -> None:
    async with rotated(database, upstream) as gate:
        answer = await asked(gate, "GET", "/open", f"Cookie: {COOKIE}={BEFORE}x")
    assert upstream.requests[-1].values("Cookie") == [f"{COOKIE}={BEFORE}x"]
    assert answer.values("set-cookie") == []
    assert answer.values("cache-control") == []


async def test_our_own_answers_set_nothing(database: Path, upstream: RecordingUpstream) -> None:
    database.unlink()
    async with rotated(database, upstream) as gate:
        answer = await asked(gate, "GET", "/dashboard", f"Cookie: {COOKIE}={BEFORE}")
    assert answer.status == 503
    assert answer.values("set-cookie") == []


@pytest.mark.parametrize("path", ["/open", "/dashboard", "/edge"])
@pytest.mark.parametrize("name", [COOKIE, FORGET])
async def test_who_has_an_older_secret_cannot_have_a_forgery_signed(
    database: Path, upstream: RecordingUpstream, path: str, name: str
) -> None:
    forged = sign_value('{"session":{},"user":{"role":"admin"},"updatedAt":1,"version":"1","expiresAt":2}', Keys([OLD]))
    async with rotated(database, upstream) as gate:
        answer = await asked(gate, "GET", path, f"Cookie: {name}={forged}")
    assert [line for line in answer.values("set-cookie") if line.startswith("better-auth.")] == []
    assert {line for request in upstream.requests for line in request.values("Cookie")} <= {f"{name}={forged}"}


async def test_nor_by_a_header(database: Path, upstream: RecordingUpstream) -> None:
    forged = f"Bearer {sign_value('eyJhbGciOiJIUzI1NiJ9.e30', Keys([OLD]))}"
    async with running_gate(upstream.url, database, text=TEXT.replace("3d,", "3d, bearer: signed,")) as gate:
        await asked(gate, "GET", "/open", f"Authorization: {forged}")
    assert upstream.requests[-1].values("Authorization") == [forged]
