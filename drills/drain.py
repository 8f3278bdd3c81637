"""Drill: the gate is told to stop in the middle of load, and no request is lost.

Each round: connections that are kept send GET and POST (10 KB), some of them requests that take 2 s; others come
anew for each request; a WebSocket and an event stream are open.  Then SIGTERM, with a delay of 2 s and a limit of 10 s.

Passes when every request that went out on an accepted connection was answered whole (a connect that is refused once
the listener has closed is no lost request; a reset, or an end without an answer, is), the WebSocket was told Close
1001, the event stream went on through the delay, the gate exited with status 0, and neither sooner nor much later
than its requests needed.  `/readyz` must say 503 during the delay where there is an admin listener.

Then: SIGTERM twice stops at once; SIGINT has no delay, and what is in flight is finished.

    python drills/drain.py [--rounds 5]
"""

import argparse
import asyncio
import hashlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import uvloop
from rig.app import SLOW_S, running_app
from rig.client import Answer, Client, Lost, Refused, Stream, ask_once, handshake, request
from rig.gate import NO_ADMIN, USER_ID, RunningGate, accepts, free_port, running_gate

DELAY_S, LIMIT_S = 2.0, 10.0
TIMEOUTS = f"timeouts: {{drain_delay: {DELAY_S:g}s, drain: {LIMIT_S:g}s}}\n"
KEPT, SLOW, FRESH = 28, 4, 12
PAUSE_S = 0.01
BEFORE_S = 1.0
LATEST_EXIT_S = DELAY_S + SLOW_S + 1.0 + 2.5  # the Close's grace of 1 s, and a busy machine
AT_ONCE_S = 2.0  # a Python process ends, on a busy machine
GOING_AWAY = 1001
BODY = bytes(range(256)) * 40
DIGEST = hashlib.sha256(BODY).hexdigest().encode()


@dataclass
class Round:
    """What happened.  `told` is the WebSocket's close code; times are seconds after the signal."""

    answered: int = 0
    after_signal: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    told: int | None = None
    events_until_s: float = 0.0
    exit_s: float = 0.0
    status: int | None = None
    signal_at: float | None = None
    signalled: asyncio.Event = field(default_factory=asyncio.Event)

    def since_signal(self) -> float:
        return time.monotonic() - self.signal_at if self.signal_at is not None else -1.0

    def took(self, answer: Answer, *, is_post: bool) -> None:
        """Count an answer, if it is the right one, and whole."""
        right = answer.body == DIGEST if is_post else answer.body.startswith(USER_ID.encode())
        if answer.status != 200 or not right:
            self.failures.append(f"status {answer.status}: {answer.body[:80]!r}")
        self.answered += 1
        self.after_signal += self.signal_at is not None

    def __str__(self) -> str:
        return (
            f"{self.answered:5} answered, {self.after_signal:4} of them after the signal, {len(self.failures)} lost;"
            f"  exit {self.status} after {self.exit_s:.1f} s;  WebSocket {self.told},"
            f" events until {self.events_until_s:.1f} s"
        )


class Load:
    """The clients of one round.  They end by themselves once nobody listens."""

    def __init__(self, gate: RunningGate, outcome: Round) -> None:
        self._port = gate.port
        self._cookie = gate.cookie
        self._outcome = outcome
        self._get = request("GET", "/dashboard", gate.cookie)
        self._post = request("POST", "/dashboard/form", gate.cookie, body=BODY)
        self._slow = request("GET", "/dashboard/slow", gate.cookie)

    def clients(self) -> list[Coroutine[None, None, None]]:
        kept = [self._kept(number, is_slow=False) for number in range(KEPT)]
        slow = [self._kept(2 * number, is_slow=True) for number in range(SLOW)]
        return [*kept, *slow, *(self._fresh(n) for n in range(FRESH)), self._late(), self._socket(), self._events()]

    async def _kept(self, number: int, *, is_slow: bool) -> None:
        client = await Client.connect(self._port)
        try:
            while True:
                if not client.is_open:  # it was told to come anew
                    client = await Client.connect(self._port)
                is_post = not is_slow and number % 2 == 1
                raw = self._slow if is_slow else self._post if is_post else self._get
                self._outcome.took(await client.ask(raw), is_post=is_post)
                number += 1
                await asyncio.sleep(PAUSE_S)
        except Refused:
            self._outcome.refused += 1
        except Lost as error:
            self._lost("kept", error)

    async def _fresh(self, number: int) -> None:
        while True:
            number += 1
            is_post = number % 2 == 1
            try:
                answer = await ask_once(self._port, self._post if is_post else self._get)
            except Refused:
                self._outcome.refused += 1
                return
            except Lost as error:
                self._lost("fresh", error)
            else:
                self._outcome.took(answer, is_post=is_post)
            await asyncio.sleep(PAUSE_S)

    async def _late(self) -> None:
        """A connection that was idle all the time, whose request comes just after the listener has closed."""
        client = await Client.connect(self._port)
        self._outcome.took(await client.ask(self._get), is_post=False)
        await self._outcome.signalled.wait()
        await asyncio.sleep(DELAY_S + 0.3)
        try:
            self._outcome.took(await client.ask(self._get), is_post=False)
        except Lost as error:
            self._lost("idle", error)

    async def _socket(self) -> None:
        socket = await Stream.open(self._port, handshake("/dashboard/socket", self._cookie), 101)
        try:
            while True:
                if self._outcome.since_signal() < DELAY_S / 2:
                    socket.send_frame(1, b"hello")
                opcode, payload = await socket.frame()
                if opcode == 8:
                    self._outcome.told = int.from_bytes(payload[:2], "big")
                    socket.send_frame(8, payload[:2])
                    return
                await asyncio.sleep(0.05)
        except EOFError:
            self._outcome.failures.append("the WebSocket ended without a Close")
        finally:
            socket.close()

    async def _events(self) -> None:
        stream = await Stream.open(self._port, request("GET", "/dashboard/events", self._cookie), 200)
        try:
            while await stream.event():
                self._outcome.events_until_s = self._outcome.since_signal()
        except EOFError:
            pass
        finally:
            stream.close()

    def _lost(self, where: str, error: Lost) -> None:
        self._outcome.failures.append(f"{where}, {self._outcome.since_signal():.3f} s after the signal: {error}")


async def one_round(upstream: int, admin: int | None) -> tuple[Round, dict[str, bool]]:
    """Load, SIGTERM, and what became of it."""
    outcome = Round()
    checks: dict[str, bool] = {}
    more = NO_ADMIN if admin is None else f"admin: {{listen: '127.0.0.1:{admin}'}}\n"
    async with running_gate(upstream, TIMEOUTS + more) as gate:
        clients = [asyncio.create_task(client) for client in Load(gate, outcome).clients()]
        await asyncio.sleep(BEFORE_S)
        if admin is not None:
            checks["readyz was 200"] = (await ask_once(admin, request("GET", "/readyz"))).status == 200
        gate.process.send_signal(signal.SIGTERM)
        outcome.signal_at = time.monotonic()
        outcome.signalled.set()
        if admin is not None:
            await asyncio.sleep(DELAY_S / 2)
            checks["readyz was 503 during the delay"] = (await ask_once(admin, request("GET", "/readyz"))).status == 503
        outcome.status = await asyncio.wait_for(gate.process.wait(), DELAY_S + LIMIT_S + 10)
        outcome.exit_s = outcome.since_signal()
        _, unfinished = await asyncio.wait(clients, timeout=5)
        for client in unfinished:
            outcome.failures.append("a client noticed no end")
            client.cancel()
        outcome.failures += [str(task.exception()) for task in clients if not task.cancelled() and task.exception()]
        outcome.failures += gate.troubles()
    return outcome, {**checks, **judge(outcome)}


def judge(outcome: Round) -> dict[str, bool]:
    return {
        "no request was lost": not outcome.failures,
        "exit status 0": outcome.status == 0,
        f"exit after {DELAY_S:g} to {LATEST_EXIT_S:g} s": DELAY_S <= outcome.exit_s <= LATEST_EXIT_S,
        f"WebSocket closed with {GOING_AWAY}": outcome.told == GOING_AWAY,
        "events went on through the delay": outcome.events_until_s >= DELAY_S - 0.5,
    }


@asynccontextmanager
async def slow_request(upstream: int) -> AsyncIterator[tuple[RunningGate, Callable[[], Coroutine[None, None, str]]]]:
    """A gate with a request of 2 s in flight, half of it gone; and what tells how that ends."""
    async with running_gate(upstream, TIMEOUTS + NO_ADMIN) as gate:
        asking = asyncio.create_task(ask_once(gate.port, request("GET", "/dashboard/slow", gate.cookie)))
        await asyncio.sleep(SLOW_S / 2)

        async def ending() -> str:
            try:
                return f"status {(await asking).status}"
            except Lost:
                return "cut off"

        yield gate, ending


async def twice(upstream: int) -> bool:
    """SIGTERM, and again: the gate stops at once, whatever is in flight."""
    async with slow_request(upstream) as (gate, ending):
        gate.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        gate.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        status = await asyncio.wait_for(gate.process.wait(), LIMIT_S + 10)
        took, how = time.monotonic() - began, await ending()
    fine = status == 0 and took <= AT_ONCE_S and how == "cut off"
    print(f"{mark(fine)} SIGTERM twice: exit {status} {took:.2f} s after the second, the request in flight {how}")
    return fine


async def interrupted(upstream: int) -> bool:
    """SIGINT: no delay; what is in flight is finished."""
    async with slow_request(upstream) as (gate, ending):
        gate.process.send_signal(signal.SIGINT)
        began = time.monotonic()
        await asyncio.sleep(0.3)
        try:
            await Client.connect(gate.port)
            listens = True
        except Refused:
            listens = False
        status = await asyncio.wait_for(gate.process.wait(), LIMIT_S + 10)
        took, how = time.monotonic() - began, await ending()
    fine = status == 0 and not listens and took <= SLOW_S / 2 + AT_ONCE_S and how == "status 200"
    closed = "still open" if listens else "closed at once"
    print(f"{mark(fine)} SIGINT: listener {closed}, the request in flight {how}, exit {status} after {took:.2f} s")
    return fine


def mark(fine: bool) -> str:
    return "ok  " if fine else "FAIL"


async def drill(rounds: int) -> bool:
    admin = free_port()
    if not accepts(f"admin: {{listen: '127.0.0.1:{admin}'}}\n"):
        print("skipped: /readyz during the delay (admin.listen is not available)")
        admin = None
    fine = True
    async with running_app() as app:
        for number in range(1, rounds + 1):
            outcome, checks = await one_round(app.port, admin)
            print(f"{mark(all(checks.values()))} round {number}: {outcome}", flush=True)
            for name in (name for name, held in checks.items() if not held):
                print(f"       not so: {name}")
            for failure in outcome.failures[:5]:
                print(f"       {failure}")
            fine = fine and all(checks.values())
        fine = await twice(app.port) and fine
        return await interrupted(app.port) and fine


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often the gate is stopped under load (default 5)")
    fine = uvloop.run(drill(parser.parse_args().rounds))
    print("passed" if fine else "FAILED")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
