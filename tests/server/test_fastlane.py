"""The fast lane is a shortcut of scheduling: with it and without it, everybody gets the same bytes at the same moments.

The same conversations are held with a gate that has the lane and with one that has none; what clients get, what apps
get, what becomes of each connection and what is logged must not differ.
"""

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.by_hand import HandClient
from tests.server.lane_gates import HandGate, two_gates
from tests.server.lane_requests import GUEST, Step, make_conversation, reply_to


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
