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
import base64
import hmac
import logging
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, cast
from urllib.parse import unquote

from gatekeeper.core.model import Allow, RequestFacts
from gatekeeper.server.gate import Admission
from tests.attacks.grammar import UPSTREAM_MODES, make_request, seeds
from tests.attacks.strict import Stream, count_requests, is_under, plausible_paths, read_responses, request_trouble
from tests.better_auth_db import add_session, add_user, create_database
from tests.server.gates import COOKIE, SECRET, RunningGate, cookie_value, running_gate
from tests.server.upstreams import Received, RecordingUpstream, answer_as, read_body, recording_upstream

PROTECTED = (b"/dashboard", b"/settings")
TOKEN, USER_ID = "ArenaArenaArenaArenaArenaArena01", "arena-user"
LIVE = cookie_value(TOKEN).encode()
DEAD = cookie_value("NobodyNobodyNobodyNobodyNobody01").encode()
QUIET_TURNS = 60
"""Turns of the event loop without anything moving, after which nothing more is expected."""

PATIENCE_S = 10.0
_MARK = re.compile(rb"case-[0-9a-f]{16}")
_NAMESPACES = ("x-auth-", "x-middleware-")
_FORWARDING = re.compile(r"forwarded|x-forwarded-.*|x-real-ip|x-original-.*|x-rewrite-url|proxy")
_OWN_FORWARDING = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "forwarded"}


@dataclass
class Case:
    """What one client sends on its connection, in these pieces; `mark` is a header value that no other case sends."""

    pieces: list[bytes]
    mark: bytes
    hangs_up: bool = False

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)


@dataclass
class Trouble:
    """A broken promise, and the case that it is known to belong to; `may_pass`: something is only missing so far."""

    text: str
    case: Case | None = None
    may_pass: bool = False


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

    def __init__(self, gate: Any) -> None:
        self.under_way = 0
        self.allowed: dict[int, RequestFacts] = {}
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

    def counted(self) -> Counter[tuple[str, str]]:
        """How many requests of each method and target were let through since `clear`."""
        return Counter((facts.method, facts.target.path_and_query) for facts in self.allowed.values())

    def clear(self) -> None:
        self.allowed.clear()

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
            found = judge_upstream(self.upstream.requests, self.admissions.counted(), exact=exact)
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
        async with recording_upstream() as upstream, running_gate(upstream.url, database, more) as gate:
            upstream.answering = answer_safely
            yield Arena(gate, upstream, errors, Admissions(gate.gate), seeds(gate.host, f"127.0.0.1:{upstream.port}"))
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


def judge_upstream(requests: Sequence[Received], admitted: Counter[tuple[str, str]], *, exact: bool) -> list[Trouble]:
    """What is wrong with the requests that reached the app, given the admitted ones; without `exact` some of these
    need not have arrived, since their clients have left.
    """
    found = [Trouble(f"{text}: {one.head!r}") for one in requests for text in troubles_of(one)]
    arrived = Counter((one.method, one.target) for one in requests)
    if arrived - admitted:
        found.append(Trouble(f"arrived without admission: {dict(arrived - admitted)}"))
    if exact and admitted - arrived:
        found.append(Trouble(f"admitted, but never arrived: {dict(admitted - arrived)}", may_pass=True))
    return found


def troubles_of(request: Received) -> list[str]:
    """Which promises this one request to the app breaks."""
    if request.trouble == "unfinished head":
        return ["an unfinished head"]
    checks: list[Callable[[Received], str | None]] = [
        lambda one: one.trouble,
        lambda one: request_trouble(one.head),
        lambda one: f"trailers {one.trailers!r}" if one.trailers else None,
        _identity_trouble,
        _forwarding_trouble,
    ]
    return [text for text in (check(request) for check in checks) if text is not None]


def judge_client(case: Case, received: bytes, *, closed: bool, others: Sequence[Case]) -> list[Trouble]:
    """What is wrong with what one client got."""
    stream = read_responses(received, may_be_head=b"HEAD" in case.raw)
    texts = [f"{stream.trouble} in {received!r}"] if stream.trouble is not None else []
    texts += [f"answered {status}" for status in stream.statuses if status == 500]
    possible = case.raw.count(b"\r\n\r\n") + 1  # each head ends so; the last response may refuse what is no request
    if len(stream.answers) > possible:
        texts.append(f"{len(stream.answers)} responses, {possible} possible")
    foreign = {other.mark for other in others if other is not case}.intersection(_MARK.findall(received))
    texts += [f"another client's answer: {received!r}" for _ in foreign]
    missing = [] if closed else _missing(stream, case)
    return [Trouble(text, case) for text in texts] + [Trouble(text, case, may_pass=True) for text in missing]


def _missing(stream: Stream, case: Case) -> list[str]:
    """What a client still waits for on its open connection."""
    found: list[str] = []
    if any(not answer.complete for answer in stream.answers):
        found.append("an unfinished response on an open connection")
    may_upgrade = b"upgrade" in case.raw.lower()  # then what follows may be meant for another protocol
    complete = 0 if may_upgrade else count_requests(case.raw)
    if len(stream.answers) < complete and not any(answer.closes for answer in stream.answers):
        found.append(f"{complete} requests, {len(stream.answers)} answers, and silence")
    return found


def proves_session(header: str) -> bool:
    """Whether the first session cookie of this header is the live token with its true signature, however spelled."""
    pairs = [(name.strip(), value.strip()) for name, _, value in (part.partition("=") for part in header.split(";"))]
    first = next((value for name, value in pairs if name == COOKIE), "")
    token, _, signature = unquote(first[1:-1] if first.startswith('"') else first).rpartition(".")
    try:
        mac = base64.b64decode(signature, validate=True)
    except ValueError:
        return False
    return token == TOKEN and mac == hmac.digest(SECRET.encode(), TOKEN.encode(), "sha256")


def _identity_trouble(request: Received) -> str | None:
    ours = [(name, value) for name, value in request.headers if _fold(name).startswith(_NAMESPACES)]
    proved = any(proves_session(value) for name, value in request.headers if name.lower() == "cookie")
    is_protected = is_under(plausible_paths(request.target), PROTECTED)
    if ours == [("X-Auth-Status", "anonymous")]:
        return "reached a protected path without a session" if is_protected else None
    fields = dict(ours)
    if not proved or len(fields) != len(ours) or any(not name.startswith("X-Auth-") for name in fields):
        return "identity headers that its cookie does not prove"
    is_known = fields.get("X-Auth-Status") == "authenticated" and fields.get("X-Auth-User-Id") == USER_ID
    return None if is_known else "identity headers of nobody"


def _forwarding_trouble(request: Received) -> str | None:
    names = [_fold(name) for name, _ in request.headers if _FORWARDING.fullmatch(_fold(name))]
    if sorted(names) != sorted(_OWN_FORWARDING):
        return f"forwarding headers {names}"
    return None if request.values("x-forwarded-for") == ["127.0.0.1"] else "another client's address"


def _fold(name: str) -> str:
    return re.sub("[^a-z0-9]", "-", name.lower())
