"""The fast lane is a shortcut of scheduling: with it and without it, everybody gets the same bytes at the same moments.

The same conversations are held with a gate that has the lane and with one that has none; what clients get, what apps
get, what becomes of each connection and what is logged must not differ.
"""

import re
from random import Random
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.attacks.judge import Filler
from tests.attacks.test_vectors import CASES
from tests.server.by_hand import HandClient, Reply
from tests.server.gates import SECRET
from tests.server.lane_gates import TOKENS, HandGate, two_gates
from tests.server.lane_requests import GUEST, Step, make_conversation, reply_to
from tests.server.upstreams import answer_as, parse_head


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
