"""A running gate under attack from many connections at once, and the judge of what came of it.

Whatever was sent, in whatever company:

* what reaches the app is well-formed, is forwarded honestly, and bears exactly the identity that its own cookie proves;
* nothing that some backend reads as a protected path reaches it without a session;
* the app gets exactly the requests that the gate has admitted;
* every client gets well-formed responses, no more than its requests can justify, no fewer on a connection that stays
  open, and nobody else's;
* the gate never answers 500, logs no error, and still answers a stranger.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, cast

from gatekeeper.core.model import Allow, RequestFacts
from gatekeeper.server.gate import Admission
from tests.attacks.grammar import UPSTREAM_MODES, make_request, seeds
from tests.attacks.strict import read_responses
from tests.attacks.verdict import TOKEN, USER_ID, Case, Trouble, judge_client, judge_upstream
from tests.better_auth_db import add_session, add_user, create_database
from tests.server.gates import RunningGate, cookie_value, running_gate
from tests.server.upstreams import Received, RecordingUpstream, answer_as, read_body, recording_upstream

LIVE = cookie_value(TOKEN).encode()
DEAD = cookie_value("NobodyNobodyNobodyNobodyNobody01").encode()
QUIET_TURNS = 60
"""Turns of the event loop without anything moving, after which nothing more is expected."""

PATIENCE_S = 10.0


class Client(asyncio.Protocol):
    """One client's connection: everything that arrived, and whether the gate has closed."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.closed = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True

    def send(self, data: bytes) -> None:
        if self.transport is not None and not self.closed:
            self.transport.write(data)

    def hang_up(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Errors(logging.Handler):
    """Collects what is logged as an error, by whomever."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class Admissions:
    """Counts the gate's decisions to let a request through, each request once, whichever half decides."""

    def __init__(self, gate: Any, lane: Any) -> None:
        self.under_way = 0
        self.allowed: dict[int, RequestFacts] = {}
        self.by_lane: list[RequestFacts] = []
        self.decided = 0
        try_admit, admit, identify = gate.try_admit, gate.admit, gate.identify

        def counting_try_admit(facts: RequestFacts) -> object:
            return self._note(facts, try_admit(facts))

        async def counting_admit(facts: RequestFacts) -> object:
            self.under_way += 1
            try:
                return self._note(facts, await admit(facts))
            finally:
                self.under_way -= 1

        async def waited_for_identify(facts: RequestFacts) -> object:
            self.under_way += 1
            try:
                return await identify(facts)
            finally:
                self.under_way -= 1

        gate.try_admit, gate.admit, gate.identify = counting_try_admit, counting_admit, waited_for_identify
        if lane is not None:
            self._count_lane(lane)

    def _count_lane(self, lane: Any) -> None:
        """The fast lane asks the gate once, and goes by the answer while it holds."""
        answer_known = lane.answer_known

        def counting_answer_known(client: object, known: Any, body: bytes) -> bool:
            taken = answer_known(client, known, body)
            if taken:
                self.decided += 1
                if isinstance(known.admission.decision, Allow):
                    self.by_lane.append(known.case.facts)
            return bool(taken)

        lane.answer_known = counting_answer_known

    def counted(self) -> Counter[tuple[str, str]]:
        """How many requests of each method and target were let through since `clear`."""
        both = (*self.allowed.values(), *self.by_lane)
        return Counter((facts.method, facts.target.path_and_query) for facts in both)

    def clear(self) -> None:
        self.allowed.clear()
        self.by_lane.clear()

    def _note(self, facts: RequestFacts, outcome: object) -> object:
        self.decided += 1
        if isinstance(outcome, Admission) and isinstance(outcome.decision, Allow):
            self.allowed[id(facts)] = facts  # held, so that its id stays its own
        return outcome


@dataclass
class Arena:
    """The gate, the app behind it, and the counts that the judge compares."""

    gate: RunningGate
    upstream: RecordingUpstream
    errors: Errors
    admissions: Admissions
    base: list[bytes] = field(default_factory=list, repr=False)
    made: int = 0

    def make_case(self, chance: Random, *, hangs_up: bool = False) -> Case:
        self.made += 1
        mark = b"case-%016x" % (self.made * 0x9E3779B97F4A7C15 % 2**64)  # unlike one another, so that bits may flip
        raw = make_request(chance, self.base, {b"{live}": LIVE, b"{dead}": DEAD, b"{case}": mark})
        cut = chance.randrange(len(raw) + 1) if chance.random() < 0.25 else len(raw)
        return Case([piece for piece in (raw[:cut], raw[cut:]) if piece], mark, hangs_up)

    async def run(self, cases: Sequence[Case]) -> list[Trouble]:
        """Send all cases at once, wait until nothing moves any more, and judge."""
        self.upstream.requests.clear()
        self.errors.lines.clear()
        self.admissions.clear()
        clients = await asyncio.gather(*(self._connect() for _ in cases))
        await self._send(cases, clients)
        exact = not any(case.hangs_up for case in cases)
        found = await self._settle(cases, clients, exact=exact)
        for client in clients:
            client.hang_up()
        await self._turns(5)
        found += await self._judge_stranger()
        return found + [Trouble(f"logged: {line[-1500:]}") for line in self.errors.lines]

    async def _connect(self) -> Client:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(Client, "127.0.0.1", self.gate.port)
        return client

    async def _send(self, cases: Sequence[Case], clients: Sequence[Client]) -> None:
        for turn in range(max(len(case.pieces) for case in cases)):
            for case, client in zip(cases, clients, strict=True):
                if turn < len(case.pieces):
                    client.send(case.pieces[turn])
                if case.hangs_up and turn == len(case.pieces) - 1:
                    client.hang_up()
            await self._turns(6)

    async def _settle(self, cases: Sequence[Case], clients: Sequence[Client], *, exact: bool) -> list[Trouble]:
        """What is wrong once nothing has moved for a while, and still is after long enough: a busy machine is slow."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            await self._be_quiet(clients, deadline)
            broken = sum(b"BAD_FRAMING" in client.received for client in clients)
            found = judge_upstream(self.upstream.requests, self.admissions.counted(), exact=exact, broken=broken)
            for case, client in zip(cases, clients, strict=True):
                found += judge_client(case, bytes(client.received), closed=client.closed, others=cases)
            if not any(trouble.may_pass for trouble in found) or time.monotonic() >= deadline:
                return found

    async def _be_quiet(self, clients: Sequence[Client], deadline: float) -> None:
        before, quiet = (0, 0, 0), 0
        while quiet < QUIET_TURNS and time.monotonic() < deadline:
            await asyncio.sleep(0)
            now = (
                sum(len(client.received) + client.closed for client in clients),
                len(self.upstream.requests),
                self.admissions.decided,
            )
            quiet = quiet + 1 if now == before and not self.admissions.under_way else 0
            before = now

    async def _turns(self, number: int) -> None:
        for _ in range(number):
            await asyncio.sleep(0)

    async def _judge_stranger(self) -> list[Trouble]:
        client = await self._connect()
        client.send(b"GET /stranger HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        deadline = time.monotonic() + PATIENCE_S
        while not client.closed and time.monotonic() < deadline:
            await self._turns(1)
        client.hang_up()
        answers = read_responses(bytes(client.received)).answers
        if [answer.status for answer in answers] == [200] and b'"/stranger"' in answers[0].body:
            return []
        return [Trouble(f"a stranger got {bytes(client.received)[:200]!r}")]


@asynccontextmanager
async def open_arena(folder: Path, more: str = "") -> AsyncIterator[Arena]:
    """A gate with one live session, and an app behind it, in this process."""
    database = folder / "auth.db"
    now_ms = time.time_ns() // 1_000_000
    create_database(database)
    add_user(database, id=USER_ID)
    add_session(database, user_id=USER_ID, token=TOKEN, expires_at_ms=now_ms + 86_400_000, created_at_ms=now_ms)
    errors = Errors()
    logging.getLogger().addHandler(errors)
    try:
        async with (
            recording_upstream() as upstream,
            running_gate(upstream.url, database, more, patience_s=None) as gate,
        ):
            upstream.answering = answer_safely
            yield Arena(
                gate,
                upstream,
                errors,
                Admissions(gate.gate, gate.served.server.lane),
                seeds(gate.host, f"127.0.0.1:{upstream.port}"),
            )
    finally:
        logging.getLogger().removeHandler(errors)


async def answer_safely(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Answer, never by hanging up in silence: a gate may then ask again, and admissions could not be compared."""
    try:
        await read_body(received, reader)
    except ValueError as error:
        received.trouble = f"broken body: {error}"
        return False
    modes = received.values("X-Drill-Upstream")
    return await answer_as(modes[0] if modes and modes[0] in UPSTREAM_MODES else "", received, writer)
