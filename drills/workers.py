"""Drill: workers are killed in the middle of load, again and again, and then the gate is told to stop.

Kept connections send GET and POST (10 KB), some of them requests that take 2 s; others come anew for each request.  A
worker is killed with SIGKILL every 2 s, each in its turn; right after the last time comes SIGTERM, while that worker
is not there yet.

Passes when no connect was refused before the listener closed, no request was lost but on connections that a killed
worker had accepted, `gatekeeper_requests_total` never went backwards and misses what was counted in the second before
each kill at most, every killed worker but the last was started again and served, and the exit status is 0.

    python drills/workers.py [--workers 2] [--kills 6]
"""

import argparse
import asyncio
import hashlib
import os
import re
import signal
import sys
import time
from dataclasses import dataclass, field

import uvloop
from rig.app import running_app
from rig.client import Answer, Client, Lost, Refused, ask_once, request
from rig.gate import USER_ID, RunningGate, free_port, running_gate
from rig.processes import clients_of, workers_of

KEPT, SLOW, FRESH = 24, 4, 12
PAUSE_S = 0.01
BETWEEN_S = 2.0
AFTER_KILL_S = 0.2
DELAY_S, LIMIT_S = 1.0, 10.0
MORE = """\
workers: {workers}
admin: {{listen: '127.0.0.1:{admin}'}}
timeouts: {{drain_delay: {delay:g}s, drain: {limit:g}s}}
"""
COUNTED = re.compile(r"^gatekeeper_requests_total\{.*\} (\S+)$", re.MULTILINE)
RESTARTS = re.compile(r"^gatekeeper_worker_restarts_total (\S+)$", re.MULTILINE)
BODY = bytes(range(256)) * 40
DIGEST = hashlib.sha256(BODY).hexdigest().encode()


@dataclass
class Outcome:
    """What happened.  `doomed` are the clients' ports of connections that killed workers had; times are monotonic."""

    answered: int = 0
    refused: int = 0
    lost_with_worker: int = 0
    failures: list[str] = field(default_factory=list)
    doomed: set[int] = field(default_factory=set)
    kills: int = 0
    waits_s: list[float] = field(default_factory=list)
    counted: list[float] = field(default_factory=list)
    in_last_second: int = 0
    recent: list[float] = field(default_factory=list)
    restarts: float = 0
    is_ending: bool = False
    status: int | None = None

    def took(self, answer: Answer, since: float, *, is_post: bool) -> None:
        right = answer.body == DIGEST if is_post else answer.body.startswith(USER_ID.encode())
        if answer.status != 200 or not right:
            self.failures.append(f"status {answer.status}: {answer.body[:80]!r}")
        now = time.monotonic()
        self.answered += 1
        self.recent.append(now)
        self.waits_s.append(now - since)

    def lost(self, port: int, error: Lost) -> None:
        if port in self.doomed:
            self.lost_with_worker += 1
        else:
            self.failures.append(f"lost on port {port}: {error}")


class Load:
    """The clients.  They end by themselves once the gate is ending and nobody listens."""

    def __init__(self, gate: RunningGate, outcome: Outcome) -> None:
        self._port = gate.port
        self._outcome = outcome
        self._get = request("GET", "/dashboard", gate.cookie)
        self._post = request("POST", "/dashboard/form", gate.cookie, body=BODY)
        self._slow = request("GET", "/dashboard/slow", gate.cookie)

    def start(self) -> list[asyncio.Task[None]]:
        kept = [self._run(number, is_kept=True, is_slow=False) for number in range(KEPT)]
        slow = [self._run(2 * number, is_kept=True, is_slow=True) for number in range(SLOW)]
        fresh = [self._run(number, is_kept=False, is_slow=False) for number in range(FRESH)]
        return [asyncio.create_task(client) for client in (*kept, *slow, *fresh)]

    async def _run(self, number: int, *, is_kept: bool, is_slow: bool) -> None:
        client: Client | None = None
        while True:
            since = time.monotonic()
            if client is None or not client.is_open:
                try:
                    client = await Client.connect(self._port)
                except Refused:
                    if self._outcome.is_ending:
                        return
                    self._outcome.refused += 1
                    await asyncio.sleep(PAUSE_S)
                    continue
                except OSError as error:
                    self._outcome.failures.append(f"connect: {error}")
                    continue
            await self._ask(client, since, number, is_slow=is_slow)
            if not is_kept:
                client.close()
            number += 1
            await asyncio.sleep(PAUSE_S)

    async def _ask(self, client: Client, since: float, number: int, *, is_slow: bool) -> None:
        port: int = client.transport.get_extra_info("sockname")[1]
        is_post = not is_slow and number % 2 == 1
        try:
            answer = await client.ask(self._slow if is_slow else self._post if is_post else self._get)
        except Lost as error:
            self._outcome.lost(port, error)
        else:
            self._outcome.took(answer, since, is_post=is_post)


async def watch(admin: int, outcome: Outcome) -> None:
    """Read the metrics all the time."""
    while True:
        try:
            text = (await ask_once(admin, request("GET", "/metrics"))).body.decode()
        except (Refused, Lost, OSError):
            return
        outcome.counted.append(sum(float(value) for value in COUNTED.findall(text)))
        outcome.restarts = max(outcome.restarts, *(float(value) for value in RESTARTS.findall(text)))
        await asyncio.sleep(0.1)


def kill_one(gate: RunningGate, outcome: Outcome, number: int) -> None:
    """Kill this worker, and note whose connections it had.  Stopped, it accepts nobody more."""
    pid = workers_of(gate.pid)[number]
    os.kill(pid, signal.SIGSTOP)
    outcome.doomed |= clients_of(pid, gate.port)
    os.kill(pid, signal.SIGKILL)
    now = time.monotonic()
    outcome.kills += 1
    outcome.in_last_second += sum(now - at < 1.2 for at in outcome.recent)
    outcome.recent.clear()


async def until_all_are_there(admin: int) -> None:
    async with asyncio.timeout(30):
        while (await ask_once(admin, request("GET", "/readyz"))).status != 200:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.1)


async def drill(workers: int, kills: int) -> bool:
    outcome, admin = Outcome(), free_port()
    more = MORE.format(workers=workers, admin=admin, delay=DELAY_S, limit=LIMIT_S)
    async with running_app() as app, running_gate(app.port, more) as gate:
        await until_all_are_there(admin)
        clients = Load(gate, outcome).start()
        watching = asyncio.create_task(watch(admin, outcome))
        for kill in range(kills):
            await asyncio.sleep(BETWEEN_S)
            await until_all_are_there(admin)
            kill_one(gate, outcome, kill % workers + 1)
        await asyncio.sleep(AFTER_KILL_S)
        gate.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(DELAY_S / 2)
        outcome.is_ending = True
        outcome.status = await asyncio.wait_for(gate.process.wait(), DELAY_S + LIMIT_S + 10)
        _, unfinished = await asyncio.wait(clients, timeout=5)
        outcome.failures += ["a client noticed no end"] * len(unfinished)
        for task in (*unfinished, watching):
            task.cancel()
        outcome.failures += [str(task.exception()) for task in clients if not task.cancelled() and task.exception()]
        outcome.failures += gate.troubles()
    return report(outcome)


def report(outcome: Outcome) -> bool:
    pairs = zip(outcome.counted, outcome.counted[1:], strict=False)
    missing = outcome.answered - (outcome.counted[-1] if outcome.counted else 0)
    checks = {
        "no connect was refused": outcome.refused == 0,
        "only what a killed worker had was lost": not outcome.failures,
        "metrics miss no more than what came just before the kills": missing <= outcome.in_last_second,
        "sums of metrics never went backwards": all(before <= after for before, after in pairs),
        "every killed worker but the last was started again": outcome.restarts >= outcome.kills - 1,
        "exit status 0": outcome.status == 0,
    }
    print(
        f"{outcome.kills} kills: {outcome.answered} answered, {outcome.lost_with_worker} lost with their worker"
        f" ({len(outcome.doomed)} connections), {outcome.refused} connects refused; longest wait for an answer"
        f" {max(outcome.waits_s):.1f} s; {missing:.0f} answers not in the last metrics read"
        f" ({outcome.in_last_second} came in the seconds before the kills); exit {outcome.status}"
    )
    for name, held in checks.items():
        print(f"{'ok  ' if held else 'FAIL'} {name}")
    for failure in outcome.failures[:10]:
        print(f"       {failure}")
    return all(checks.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2, help="how many workers (default 2)")
    parser.add_argument("--kills", type=int, default=6, help="how often one is killed (default 6)")
    arguments = parser.parse_args()
    fine = uvloop.run(drill(arguments.workers, arguments.kills))
    print("passed" if fine else "FAILED")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
