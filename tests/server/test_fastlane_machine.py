"""Whatever happens, in whatever order, a gate with the fast lane looks like one without it.

A state machine of hypothesis does the same to both: clients, apps, the store, the clock, reloads, the end.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.server.by_hand import HandClient
from tests.server.lane_gates import CONFIG, HandGate, two_gates
from tests.server.lane_requests import REPLIES
from tests.server.test_fastlane_events import CHUNKED, get, post

REQUESTS = [
    *(get(), get(), get("/me"), get("/fresh", who="soon"), get("/admin"), get("/dashboard", who="guest")),
    *(get("/settings", "Accept: text/html", who=None), get("/open", who=None), get("/edge", who="unknown")),
    *(get("/dashboard", who="unknown"), get("/api/x"), get("/fresh"), get().replace(b"GET", b"HEAD", 1)),
    *(get().replace(b"GET", b"DELETE", 1), get("/open", "X-Forwarded-For: 198.51.100.1", "X-Request-Id: given")),
    *(post(b"hello"), post(get()), CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", get("/.gatekeeper/whoami")),
    *(get("/dashboard", "Connection: close"), get() + b"\r\n", get().replace(b"HTTP/1.1", b"HTTP/1.0", 1)),
]
CONFIGS = [
    CONFIG,
    CONFIG.replace("- /dashboard\n", "- {path: /dashboard, access: presence}\n"),
    CONFIG.replace("- /dashboard\n", "").replace("fresh_age: 1h", "fresh_age: 1s"),
]
CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("ada", {}),
    ("ada", {"session": None}),
    ("ada", {"banned": True, "ban_expires_ms": 1_790_000_003_000}),
    ("ada", {"role": "user"}),
    ("soon", {"session": {"expires_at_ms": 1_790_000_020_000}}),
    ("guest", {"banned": True}),
]
clients = st.integers(0, 3)
requests = st.sampled_from(REQUESTS)
taken = {"requests": 0, "runs": 0}


class Lanes(RuleBasedStateMachine):
    """Does everything twice, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self._both = two_gates(max_connections=6)
        self.gates = self._both.__enter__()
        self.rests: dict[int, bytes] = {}
        self.draining = False

    def both(self, act: Callable[[HandGate], object]) -> None:
        for gate in self.gates:
            act(gate)
        laned, plain = (gate.seen() for gate in self.gates)
        assert [pair for pair in zip(laned, plain, strict=True) if pair[0] != pair[1]] == []

    def client(self, gate: HandGate, number: int) -> HandClient:
        return gate.clients[number % len(gate.clients)]

    def say(self, number: int, data: bytes | None) -> None:
        at = number % len(self.gates[0].clients)
        rest = self.rests.pop(at, b"")
        self.both(lambda gate: gate.say(gate.clients[at], data and rest + data))

    @initialize()
    def warm_up(self) -> None:
        self.both(lambda gate: gate.connect())
        for request in (REQUESTS[0], REQUESTS[0], REQUESTS[2], REQUESTS[6], REQUESTS[6]):
            self.say(0, request)

    @precondition(lambda self: len(self.gates[0].clients) < 6)
    @rule(peer=st.sampled_from(["203.0.113.7", "203.0.113.7", "10.0.0.1", "2001:db8::1"]), request=requests)
    def connect(self, peer: str, request: bytes) -> None:
        self.both(lambda gate: gate.connect(peer))
        self.say(len(self.gates[0].clients) - 1, request)

    @rule(number=clients, request=requests)
    def ask(self, number: int, request: bytes) -> None:
        self.say(number, request)

    @rule(number=clients, request=requests)
    def ask_again_and_again(self, number: int, request: bytes) -> None:
        for _ in range(3):
            self.say(number, request)

    @rule(number=clients, some=st.lists(requests, min_size=2, max_size=3))
    def ask_together(self, number: int, some: list[bytes]) -> None:
        self.say(number, b"".join(some))

    @rule(number=clients, request=requests, place=st.integers(1, 400))
    def ask_in_part(self, number: int, request: bytes, place: int) -> None:
        at = number % len(self.gates[0].clients)
        whole = self.rests.pop(at, b"") + request
        place %= len(whole)
        self.both(lambda gate: gate.say(gate.clients[at], whole[:place]))
        self.rests[at] = whole[place:]

    @precondition(lambda self: all(gate.app.owes == 0 for gate in self.gates))
    @rule(
        number=clients,
        first=requests,
        held=st.lists(requests, max_size=2),
        some=st.lists(requests, min_size=1, max_size=2),
    )
    def ask_in_the_turn_of_an_answer(self, number: int, first: bytes, held: list[bytes], some: list[bytes]) -> None:
        """Nobody else is at work, who could be first by chance."""

        def act(gate: HandGate) -> None:
            client = self.client(gate, number)
            gate.app.holds = True
            for request in (rest + first, *held):
                gate.say(client, request)
            gate.app.holds = False
            gate.loop.do(gate.app.release, *(partial(client.say, one) for one in some))

        rest = self.rests.pop(number % len(self.gates[0].clients), b"")
        self.both(act)

    @rule(reply=st.integers(0, len(REPLIES) - 1))
    def app_will_answer(self, reply: int) -> None:
        self.both(lambda gate: setattr(gate, "replies", lambda head: REPLIES[reply]))

    @rule(holds=st.booleans())
    def app_holds(self, holds: bool) -> None:
        def act(gate: HandGate) -> None:
            gate.app.holds = holds
            if not holds:
                gate.loop.do(gate.app.release)

        self.both(act)

    @rule()
    def app_answers_one(self) -> None:
        self.both(lambda gate: gate.loop.do(lambda: gate.app.release(1)))

    @rule()
    def app_hangs_up(self) -> None:
        self.both(lambda gate: gate.loop.do(gate.app.hang_up))

    @rule(refuses=st.booleans())
    def app_refuses(self, refuses: bool) -> None:
        self.both(lambda gate: setattr(gate.app, "refuses", refuses))

    @rule(seconds=st.sampled_from([0.001, 0.25, 1.0, 2.5, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.both(lambda gate: gate.loop.pass_s(seconds))

    @rule(ms=st.sampled_from([-5_000, -1, 1, 749, 5_000, 3_600_000]))
    def clock_is_set(self, ms: int) -> None:
        self.both(lambda gate: setattr(gate, "shift_ms", gate.shift_ms + ms))

    @rule(change=st.sampled_from(CHANGES))
    def store_changes(self, change: tuple[str, dict[str, Any]]) -> None:
        self.both(lambda gate: gate.change(change[0], **change[1]))

    @rule(fails=st.booleans())
    def store_fails(self, fails: bool) -> None:
        self.both(lambda gate: setattr(gate.store, "fails", fails))

    @rule(who=st.sampled_from(["ada", "guest", "soon", "unknown"]))
    def session_is_forgotten(self, who: str) -> None:
        self.both(lambda gate: gate.forget(who))

    @rule(config=st.sampled_from(CONFIGS))
    def settings_are_loaded(self, config: str) -> None:
        self.both(lambda gate: setattr(gate.gate, "runtime", gate.runtime(config)))

    @rule(number=clients, takes=st.booleans())
    def client_reads(self, number: int, takes: bool) -> None:
        def act(gate: HandGate) -> None:
            client = self.client(gate, number)
            client.takes = takes
            if takes:
                gate.loop.do(client.take)

        self.both(act)

    @rule(number=clients)
    def client_ends(self, number: int) -> None:
        self.say(number, None)

    @rule(number=clients)
    def client_leaves(self, number: int) -> None:
        self.both(lambda gate: gate.loop.do(lambda: self.client(gate, number).lose(ConnectionResetError("left"))))

    @rule()
    def streams_end(self) -> None:
        self.both(lambda gate: gate.loop.do(gate.streams.cut_all))

    @precondition(lambda self: len(self.gates[0].clients) > 2)
    @rule()
    def gate_stops(self) -> None:
        self.both(lambda gate: setattr(gate.server, "draining", True))

    def teardown(self) -> None:
        try:
            for _ in range(3):
                self.both(lambda gate: gate.loop.pass_s(4.0))
            logged, metrics = ([act(gate) for gate in self.gates] for act in (HandGate.logged, HandGate.metrics))
            taken["requests"] += self.gates[0].taken
            taken["runs"] += 1
            assert logged[0] == logged[1]
            assert sorted({*metrics[0]} ^ {*metrics[1]}) == []
        finally:
            self._both.__exit__(None, None, None)


Lanes.TestCase.settings = settings(
    max_examples=80, stateful_step_count=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
TestLanes = Lanes.TestCase


def test_the_machine_used_the_lane() -> None:
    assert taken["requests"] > 3 * taken["runs"]
