"""The fast lane is a shortcut of scheduling: with it and without it, everybody gets the same bytes at the same moments.

The same conversations are held with a gate that has the lane and with one that has none; what clients get, what apps
get, what becomes of each connection and what is logged must not differ.
"""

import asyncio
import re
import time
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatekeeper.config.load import load_text
from gatekeeper.server.app import serve
from tests.attacks.judge import Filler
from tests.attacks.test_vectors import CASES
from tests.better_auth_db import add_session, add_user, create_database
from tests.server.by_hand import HandClient, Reply
from tests.server.gates import SECRET
from tests.server.lane_gates import CONFIG, TOKENS, HandGate, two_gates
from tests.server.lane_requests import GUEST, Step, make_conversation, reply_to
from tests.server.upstreams import answer_as, parse_head, recording_upstream


class Talk:
    """What clients say to a gate, and after each step what is seen of it."""

    def __init__(self, gate: HandGate) -> None:
        self.gate = gate
        self.seen: list[object] = []
        gate.replies = reply_to

    def warm_up(self, client: HandClient) -> None:
        """Bring the session into memory, and the connection to rest."""
        for _ in range(2):
            self.gate.say(client, GUEST)

    def take(self, client: HandClient, steps: list[Step]) -> None:
        for step in steps:
            self.gate.loop.call_soon(client.say, step.pieces[0])
            for turns, piece in zip(step.turns, step.pieces[1:], strict=True):
                for _ in range(turns):
                    self.gate.loop.turn()
                self.gate.loop.call_soon(client.say, piece)
            self.gate.loop.settle()
            self.note()

    def note(self) -> None:
        ends = (*self.gate.clients, *self.gate.app.connections, *self.gate.api.connections)
        self.seen.append([(len(end.got), tuple(end.ends)) for end in ends])

    def pass_s(self, *seconds: float) -> None:
        for some in seconds:
            self.gate.loop.pass_s(some)
            self.note()

    def all(self) -> tuple[object, ...]:
        return self.gate.seen(), self.gate.logged(), self.seen


def hold(gate: HandGate, steps: list[Step], peer: str) -> tuple[object, ...]:
    """A conversation, the same once more by another client, and the time after them."""
    talk = Talk(gate)
    for client in (gate.connect(peer), gate.connect(peer)):
        talk.warm_up(client)
        talk.take(client, steps)
        gate.say(client, GUEST)
        talk.note()
    talk.pass_s(0.5, 2.0, 2.0, 2.0, 3.0)
    return talk.all()


def compare(steps: list[Step], peer: str = "203.0.113.7") -> int:
    """Hold the conversation with both gates; returns how many requests the lane took."""
    with two_gates() as (laned, plain):
        assert hold(laned, steps, peer) == hold(plain, steps, peer), steps
        return laned.taken


@pytest.mark.parametrize("part", range(4))
def test_random_conversations(part: int) -> None:
    taken = cases = 0
    for seed in range(part * 75, part * 75 + 75):
        chance = Random(seed)  # noqa: S311 - to be repeatable, not secret
        taken += compare(make_conversation(chance), chance.choice(("203.0.113.7", "10.1.2.3")))
        cases += 1
    assert taken > 3 * cases


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(chance=st.randoms(use_true_random=False))
def test_conversations_that_hypothesis_makes_short(chance: Random) -> None:
    compare(make_conversation(chance))


# --- attacks -------------------------------------------------------------------------------------------------------

FILL = Filler("h", "127.0.0.1:9", SECRET, TOKENS["ada"], "ada")
_ID = re.compile(rb"[0-9a-f]{16}")
_MODE = re.compile(rb"\r\nX-Drill-Upstream: ([a-z0-9-]+)\r\n", re.IGNORECASE)


class Written:
    """What an app writes."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    async def drain(self) -> None:
        return


def drill_reply_to(head: bytes) -> Reply:
    """The answer that misbehaves as the request asks for."""
    written = Written()
    mode = _MODE.search(head + b"\r\n")
    answering = answer_as(mode[1].decode() if mode else "", parse_head(head + b"\r\n\r\n"), cast(Any, written))
    with pytest.raises(StopIteration) as end:
        answering.send(None)
    data = _ID.sub(b"an-id-of-16-byte", written.data)
    return Reply((data,), "keep" if end.value.value else "close")


def raw_steps(case: dict[str, Any]) -> list[list[bytes | float]]:
    """What the case sends on each of its connections; numbers are pauses in seconds."""
    steps = []
    for step in case.get("steps") or [case]:
        parts = step["raw"] if isinstance(step["raw"], list) else [step["raw"]]
        steps.append([FILL.fill(part).encode("latin-1") if isinstance(part, str) else part / 1_000 for part in parts])
    return steps


def attack(gate: HandGate, case: dict[str, Any]) -> tuple[object, ...]:
    """The case, two and three times on one connection that is at rest and known to the lane."""
    talk = Talk(gate)
    gate.replies = drill_reply_to
    for times in (2, 3):
        for parts in raw_steps(case):
            client = gate.connect()
            talk.warm_up(client)
            for part in parts * times:
                if isinstance(part, bytes):
                    gate.say(client, part)
                    talk.note()
                else:
                    talk.pass_s(part)
            gate.say(client, GUEST)
    talk.pass_s(0.5, 2.0, 2.0, 2.0, 3.0)
    return *talk.all(), gate.metrics()


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in CASES])
def test_attacks(case: dict[str, Any], keeps: bool) -> None:
    if keeps:
        case = keeping(case)
    with two_gates() as (laned, plain):
        assert attack(laned, case) == attack(plain, case)
        assert laned.taken >= 2 * len(raw_steps(case))


def test_most_of_the_attacks_that_keep_the_connection_go_by_the_lane() -> None:
    """Else nothing would have been tried."""
    by_lane = 0
    sample = CASES[::4]
    for case in map(keeping, sample):
        gate = HandGate(lane=True)
        attack(gate, case)
        by_lane += gate.taken > 5 * len(raw_steps(case))  # not the warming up, nor what follows
        assert gate.close() == []
    assert by_lane > len(sample) // 3


def keeping(case: dict[str, Any]) -> dict[str, Any]:
    """The case without asking for the end of the connection."""
    if "steps" in case:
        return {**case, "steps": [keeping(step) for step in case["steps"]]}
    parts = case["raw"] if isinstance(case["raw"], list) else [case["raw"]]
    return {"raw": [part.replace("Connection: close\r\n", "") if isinstance(part, str) else part for part in parts]}


# --- over real sockets ---------------------------------------------------------------------------------------------

_FRESH_IDS = re.compile(rb"\b[0-9a-f]{16}\b")
_BY_SOCKET = ("path-plain", "path-dot-seg", "path-double-slash", "spoof-email", "auth-no-cache")


async def by_socket(port: int, requests: list[bytes]) -> bytes:
    """What a client gets that sends these one after the other, each twice, on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    try:
        for raw in requests:
            for _ in range(2):
                writer.write(raw)
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"\r\nContent-Length: (\d+)", head)
                got += head + await reader.readexactly(int(length[1]) if length and raw[:4] != b"HEAD" else 0)
        writer.write(b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        return got + await reader.read()
    finally:
        writer.close()


async def test_over_real_sockets(tmp_path: Path) -> None:
    database = tmp_path / "auth.db"
    create_database(database)
    add_user(database, id="ada")
    now_ms = time.time_ns() // 1_000_000
    add_session(database, user_id="ada", token=TOKENS["ada"], expires_at_ms=now_ms + 3_600_000, created_at_ms=now_ms)
    vectors = [keeping(case)["raw"][0] for case in CASES if case["id"] in _BY_SOCKET]
    requests = [GUEST, *(FILL.fill(raw).encode("latin-1") for raw in vectors), GUEST]
    requests += [b"HEAD /open HTTP/1.1\r\nHost: h\r\n\r\n", b"DELETE /open?x HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n"]
    told = []
    for lane in (True, False):
        text = CONFIG.replace("sqlite:///none.db", f"sqlite:///{database}")
        async with recording_upstream() as app, asyncio.timeout(20):
            text = text.replace("http://127.0.0.1:9", app.url) + "admin: {listen: null}\nlog: {file: /dev/null}\n"
            config = load_text(text, source="test", base_dir=tmp_path, environ={})
            async with serve(config, fast_lane=lane) as served:
                port = int(served.addresses[0].rpartition(":")[2])
                got = await by_socket(port, requests)
                counted = dict(served.telemetry.requests)
            heads = [_FRESH_IDS.sub(b"id", request.head) for request in app.requests]
            told.append((_FRESH_IDS.sub(b"id", got), heads, app.connections, counted))
    assert told[0] == told[1]
    assert sum(told[0][3].values()) == 2 * len(requests) + 1
