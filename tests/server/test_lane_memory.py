"""What is remembered of a request decides no other one: not another client's, not the same one's later.

Each holds on the coroutine path as well, which remembers less.
"""

import asyncio
import time
from pathlib import Path

import pytest

from gatekeeper.server import fastlane, heads
from gatekeeper.server.gate import Runtime
from tests.attacks.judge import Response, parse_responses
from tests.better_auth_db import add_session
from tests.server.conftest import HOUR_MS, TOKEN, USER_ID
from tests.server.gates import COOKIE, FOUR_LINES, RunningGate, cookie_value, running_gate
from tests.server.upstreams import RecordingUpstream
from tests.server.wire import Wire, head, mirrored

SIGNED_IN = f"Cookie: {COOKIE}={cookie_value(TOKEN)}"
NAVIGATION = "Sec-Fetch-Mode: navigate"


class Clock:
    """Milliseconds since the epoch, which go on only when they are told to."""

    def __init__(self, gate: RunningGate) -> None:
        self.at = time.time_ns() // 1_000_000_000 * 1000
        gate.gate.clock = lambda: self.at


class Caller:
    """Asks again and again by one connection."""

    def __init__(self, gate: RunningGate, wire: Wire) -> None:
        self.gate = gate
        self.wire = wire

    async def ask(self, target: str, *lines: str, method: str = "GET") -> Response:
        self.wire.send(head(method, target, self.gate.host, *lines, close=False))
        raw = b""
        while True:
            raw += await self.wire.some()
            responses, _ = parse_responses(raw, method)
            if responses and responses[0].complete:
                return responses[0]


def values(response: Response, name: str) -> list[str]:
    return [value for key, value in response.headers if key.lower() == name.lower()]


async def test_a_session_that_expires(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        clock, caller = Clock(gate), Caller(gate, await Wire.open(gate.port))
        for _ in range(3):
            assert (await caller.ask("/dashboard", SIGNED_IN)).status == 200
        clock.at += 2 * HOUR_MS
        assert [(await caller.ask("/dashboard", SIGNED_IN)).status for _ in range(3)] == [401] * 3
        clock.at -= 2 * HOUR_MS
        assert (await caller.ask("/dashboard", SIGNED_IN)).status == 200
        caller.wire.close()


async def test_a_session_that_is_no_longer_fresh(database: Path, upstream: RecordingUpstream) -> None:
    text = FOUR_LINES.replace("[/dashboard, /settings]", "[{{path: /fresh, access: fresh}}]")
    async with running_gate(upstream.url, database, "session: {fresh_age: 90m}\n", text=text) as gate:
        clock, caller = Clock(gate), Caller(gate, await Wire.open(gate.port))
        for _ in range(3):
            assert (await caller.ask("/fresh", SIGNED_IN)).status == 200
        clock.at += HOUR_MS // 2 + 1000
        assert [(await caller.ask("/fresh", SIGNED_IN)).status for _ in range(2)] == [403] * 2
        clock.at -= 2000
        assert (await caller.ask("/fresh", SIGNED_IN)).status == 200
        caller.wire.close()


async def test_a_session_that_is_revoked_and_one_that_comes(database: Path, upstream: RecordingUpstream) -> None:
    token = "BeaBeaBeaBeaBeaBeaBeaBeaBeaBea02"
    line = f"Cookie: {COOKIE}={cookie_value(token)}"
    async with running_gate(upstream.url, database) as gate:
        caller = Caller(gate, await Wire.open(gate.port))
        sessions = gate.gate.runtime.sessions
        assert [(await caller.ask("/dashboard", line)).status for _ in range(3)] == [401] * 3
        now = time.time_ns() // 1_000_000
        add_session(database, user_id=USER_ID, token=token, expires_at_ms=now + HOUR_MS, created_at_ms=now)
        sessions.all_changed()
        assert [(await caller.ask("/dashboard", line)).status for _ in range(3)] == [200] * 3
        sessions.all_changed()
        store, sessions._store = sessions._store, _Empty()  # type: ignore[assignment]
        assert [(await caller.ask("/dashboard", line)).status for _ in range(3)] == [401] * 3
        sessions._store = store
        caller.wire.close()


class _Empty:
    async def read_session(self, token: str, client_address: str | None = None) -> None:
        return None


async def test_a_redirects_cookie_tells_the_time_of_its_own_redirect(
    database: Path, upstream: RecordingUpstream
) -> None:
    async with running_gate(upstream.url, database) as gate:
        clock, caller = Clock(gate), Caller(gate, await Wire.open(gate.port))
        for step_ms in (0, 1, 998, 1, 1000, -1500, 999):
            clock.at += step_ms
            for _ in range(2):
                (cookie,) = values(await caller.ask("/dashboard", NAVIGATION), "Set-Cookie")
                assert cookie.split(";")[0].endswith(f".1.{clock.at // 1000}")
        caller.wire.close()


async def test_the_loop_is_broken_however_often_the_same_is_asked(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        clock, caller = Clock(gate), Caller(gate, await Wire.open(gate.port))
        cookie, statuses = "a=b", []
        for _ in range(3):
            for _ in range(2):
                answer = await caller.ask("/dashboard", NAVIGATION, f"Cookie: {cookie}")
            statuses.append(answer.status)
            cookie = values(answer, "Set-Cookie")[0].split(";")[0] if answer.status == 307 else cookie
        assert statuses == [307, 307, 401]
        clock.at += 31_000
        assert (await caller.ask("/dashboard", NAVIGATION, f"Cookie: {cookie}")).status == 307
        caller.wire.close()


async def test_each_request_has_an_id_of_its_own(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        caller = Caller(gate, await Wire.open(gate.port))
        answers = [mirrored(await caller.ask("/dashboard", SIGNED_IN)) for _ in range(5)]
        assert len({answer["headers"]["x-request-id"] for answer in answers}) == 5
        caller.wire.close()


async def test_an_error_page_names_its_own_request(database: Path, upstream: RecordingUpstream) -> None:
    text = FOUR_LINES.replace("[/dashboard, /settings]", "[{{path: /roles, require: {{roles: [owner]}}}}]")
    async with running_gate(upstream.url, database, text=text) as gate:
        caller = Caller(gate, await Wire.open(gate.port))
        pages = [await caller.ask("/roles", SIGNED_IN, NAVIGATION) for _ in range(4)]
        assert [page.status for page in pages] == [403] * 4
        assert len({page.body for page in pages}) == 4
        caller.wire.close()


async def test_the_same_bytes_from_elsewhere_are_another_request(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        seen = []
        for address in ("127.0.0.1", "127.0.0.2") * 3:
            streams = await asyncio.open_connection("127.0.0.1", gate.port, local_addr=(address, 0))
            caller = Caller(gate, Wire(*streams))
            for _ in range(2):
                answer = mirrored(await caller.ask("/dashboard", SIGNED_IN))
                seen.append(answer["headers"]["x-forwarded-for"] == address)
            caller.wire.close()
        assert seen == [True] * 12


async def test_another_configuration_is_asked_anew(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        caller = Caller(gate, await Wire.open(gate.port))
        for _ in range(3):
            assert (await caller.ask("/public")).status == 200
        async with running_gate(upstream.url, database, text=FOUR_LINES.replace("/settings", "/public")) as other:
            mine, theirs = gate.gate.runtime, other.gate.runtime
            gate.gate.runtime = Runtime(theirs.snapshot, mine.sessions, mine.claims, mine.upstreams)
            assert [(await caller.ask("/public")).status for _ in range(3)] == [401] * 3
        caller.wire.close()


async def test_what_is_remembered_is_bounded(
    database: Path, upstream: RecordingUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "MAX_KNOWN", 8)
    monkeypatch.setattr(heads, "MAX_KNOWN_BYTES", 400)
    async with running_gate(upstream.url, database) as gate:
        caller = Caller(gate, await Wire.open(gate.port))
        for number in range(30):
            for _ in range(2):
                assert (await caller.ask(f"/dashboard?{number}", f"X: {number % 12}")).status == 401
            assert (await caller.ask("/dashboard", f"X: {'x' * 400}")).status == 401
        lane = gate.served.server.lane
        if lane is not None:
            assert isinstance(lane, fastlane.FastLane)
            for memo in (lane._heads, lane._plain.blocks, lane._plain.lines):
                assert 0 < len(memo) <= 8
                assert max(map(len, memo)) <= 400
        caller.wire.close()
