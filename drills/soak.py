"""Drill: half of what the gate can do, for long, and nothing goes wrong or grows.

First measures how many verified requests a second the gate can answer here: with wrk where it is installed, else with
this drill's own client.  Then half of that, as a mix: verified GET, redirects to sign in, POST of 10 KB, messages over
WebSockets, event streams, and clients that leave in the middle of a head, a body or an answer.

Passes when every answer was whole and right, the gate's log tells of no unforeseen error, memory did not grow by more
than 20 MB after the first tenth, and no more file descriptors are open at the end than at the start (8 of tolerance).
Connections to the app do not count: as many are kept as there once were requests at the same time.  Prints the memory
at each tenth and its slope, which says little in short runs.

The gate runs with its access log off: the log of a long run is for a disk to bear, not for this drill.

    python drills/soak.py [--minutes 0.5] [--rate 2000]
"""

import argparse
import asyncio
import hashlib
import itertools
import random
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine

import uvloop
from rig.app import running_app
from rig.client import NAVIGATION, Answer, Client, Lost, Refused, Stream, handshake, request
from rig.figures import cpu_s, memory_mb, open_files, slope
from rig.gate import USER_ID, RunningGate, running_gate

MEASURE_S = 4.0
CHANNELS = 48
SOCKETS, STREAMS, LEAVERS = 4, 4, 4
LEAVE_PAUSE_S = 0.05
TENTHS = 10
GROWTH_LIMIT_MB = 20.0
FILES_TOLERANCE = 8
SETTLE_S = 2.0
BODY = bytes(range(256)) * 40
CLOSE = (1000).to_bytes(2, "big")
EVENT = b"data: tick\n\n"
DIGEST = hashlib.sha256(BODY).hexdigest().encode()

Judge = Callable[[Answer], bool]


class Mix:
    """The clients of the soak, and what they saw.  They go on until they are cancelled."""

    def __init__(self, gate: RunningGate) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self._gate = gate
        self._get = request("GET", "/dashboard/page", gate.cookie)
        self._post = request("POST", "/dashboard/form", gate.cookie, body=BODY)
        self._requests: list[tuple[str, bytes, Judge]] = [
            (
                "GET",
                self._get,
                lambda a: a.status == 200 and a.body.startswith(USER_ID.encode()) and len(a.body) == 1024,
            ),
            ("redirect", request("GET", "/dashboard?tab=1", NAVIGATION), lambda a: a.status == 307),
            ("POST", self._post, lambda a: a.status == 200 and a.body == DIGEST),
        ]

    def clients(self, rate: float) -> list[Coroutine[None, None, None]]:
        """All clients, for so many requests a second on the kept connections."""
        channels = [self._channel(number, CHANNELS / rate) for number in range(CHANNELS)]
        socket = handshake("/dashboard/socket", self._gate.cookie)
        events = request("GET", "/dashboard/events", self._gate.cookie)
        sockets = [self._streams("WebSocket", socket, 101, self._talk) for _ in range(SOCKETS)]
        streams = [self._streams("event stream", events, 200, self._listen) for _ in range(STREAMS)]
        return [*channels, *sockets, *streams, *(self._leave(number) for number in range(LEAVERS))]

    async def saturate(self, seconds: float) -> float:
        """Verified GET as fast as they are answered; how many a second."""
        before = self.counts["GET"]
        tasks = [asyncio.create_task(self._channel(number, 0.0)) for number in range(CHANNELS)]
        began = time.monotonic()
        await asyncio.sleep(seconds)
        took = time.monotonic() - began
        await stop(tasks)
        return (self.counts["GET"] - before) / took

    async def _channel(self, number: int, every_s: float) -> None:
        """Requests on a kept connection, one each `every_s`; 0 for verified GET without a pause.

        Who is behind does not catch up: that would not be a steady rate.
        """
        loop, chance = asyncio.get_running_loop(), random.Random(number)  # noqa: S311 - to be repeatable
        client = await Client.connect(self._gate.port)
        due = loop.time() + chance.random() * every_s
        try:
            while True:
                name, raw, is_right = chance.choices(self._requests, (88, 6, 6) if every_s else (1, 0, 0))[0]
                try:
                    if not client.is_open:
                        client = await Client.connect(self._gate.port)
                    answer = await client.ask(raw)
                except (Lost, Refused) as error:
                    self.failures.append(f"{name}: {error}")
                    client.abort()
                else:
                    self.counts[name] += 1
                    if not is_right(answer):
                        self.failures.append(f"{name}: status {answer.status}, {answer.body[:80]!r}")
                if every_s:
                    due = max(due + every_s, loop.time())
                    await asyncio.sleep(due - loop.time())
        finally:
            client.close()

    async def _streams(self, name: str, raw: bytes, status: int, use: Callable[[Stream], Awaitable[None]]) -> None:
        """A stream, used and closed; and again.  That it ends unasked is a failure."""
        while True:
            stream = None
            try:
                stream = await Stream.open(self._gate.port, raw, status)
                await use(stream)
            except (Lost, EOFError, ConnectionError) as error:
                self.failures.append(f"{name}: {type(error).__name__} {error}")
            finally:
                if stream is not None:
                    stream.close()

    async def _talk(self, socket: Stream) -> None:
        """Twenty messages over a WebSocket, and a Close both ways."""
        for number in range(20):
            message = f"message {number}".encode()
            socket.send_frame(1, message)
            if await socket.frame() != (1, message):
                self.failures.append("WebSocket: another message came back")
            self.counts["message"] += 1
            await asyncio.sleep(0.02)
        socket.send_frame(8, CLOSE)
        if await socket.frame() != (8, CLOSE):
            self.failures.append("WebSocket: no Close came back")

    async def _listen(self, stream: Stream) -> None:
        """A few events of a stream; a chunk may hold several that came together."""
        for _ in range(5):
            if (await stream.event()).replace(EVENT, b""):
                self.failures.append("event stream: another event came")
            self.counts["event"] += 1

    async def _leave(self, number: int) -> None:
        """A client that leaves in the middle of something, rudely or not; and again."""
        starts = (
            self._get[:-10],
            self._post[:-5000],
            request("GET", "/dashboard/slow", self._gate.cookie),
            request("GET", "/large"),
        )
        for turn in itertools.count(number):
            client = await Client.connect(self._gate.port)
            try:
                client.transport.write(starts[turn % len(starts)])
                await asyncio.sleep(LEAVE_PAUSE_S)
            finally:
                (client.abort if turn % 2 else client.close)()
            self.counts["left"] += 1


async def stop(tasks: list[asyncio.Task[None]]) -> None:
    """End clients; whatever made one of them end before is raised."""
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


async def saturation(gate: RunningGate, mix: Mix) -> tuple[float, str]:
    """How many verified GET a second the gate answers at most, and by what that was measured."""
    wrk = shutil.which("wrk")
    if wrk is None:
        return await mix.saturate(MEASURE_S), "own client"
    name, _, value = gate.cookie.partition(": ")
    command = [wrk, "-t1", f"-c{CHANNELS}", f"-d{MEASURE_S:g}", "-H", f"{name}: {value}"]
    process = await asyncio.create_subprocess_exec(
        *command, f"http://127.0.0.1:{gate.port}/dashboard/page", stdout=asyncio.subprocess.PIPE
    )
    output = (await process.communicate())[0].decode()
    found = re.search(r"Requests/sec: +([\d.]+)", output)
    if found is None or "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"wrk could not measure:\n{output}")
    return float(found[1]), "wrk"


async def soak(gate: RunningGate, mix: Mix, minutes: float, rate: float, app_port: int) -> bool:
    """The soak itself; prints a line at each tenth, and the judgement."""
    files, cpu, began = open_files(gate.pid, without_port=app_port), cpu_s(gate.pid), time.monotonic()
    counted = sum(mix.counts.values())
    tasks = [asyncio.create_task(client) for client in mix.clients(rate)]
    points: list[tuple[float, float]] = []
    for tenth in range(1, TENTHS + 1):
        await asyncio.sleep(began + tenth * minutes * 60 / TENTHS - time.monotonic())
        points.append(((time.monotonic() - began) / 60, memory_mb(gate.pid)))
        done = sum(mix.counts.values()) - counted
        print(
            f"{points[-1][0]:6.2f} min  {points[-1][1]:6.1f} MB  {done:8} done, {len(mix.failures)} failed", flush=True
        )
    took = time.monotonic() - began
    share = (cpu_s(gate.pid) - cpu) / took
    await stop(tasks)
    await asyncio.sleep(SETTLE_S)
    files_now = open_files(gate.pid, without_port=app_port)
    kept = open_files(gate.pid) - files_now
    requests = sum(mix.counts[name] for name in ("GET", "redirect", "POST"))
    print(f"{dict(mix.counts)}: {requests / took:.0f} requests a second, the gate's CPU {share:.0%} of a core")
    print(
        f"memory: {slope(points) * 1024:+.0f} KB a minute;"
        f" file descriptors: {files} at the start, {files_now} at the end, and {kept} for the app"
    )
    failures = mix.failures + gate.troubles()
    for failure in failures[:10]:
        print(f"failed: {failure}")
    checks = {
        f"nothing failed ({len(failures)} did)": not failures,
        f"memory grew by at most {GROWTH_LIMIT_MB:g} MB": points[-1][1] - points[0][1] <= GROWTH_LIMIT_MB,
        "no file descriptors were left open": files_now <= files + FILES_TOLERANCE,
    }
    for name, fine in checks.items():
        print(f"{'ok  ' if fine else 'FAIL'} {name}")
    return all(checks.values())


async def drill(minutes: float, rate: float | None) -> bool:
    async with running_app() as app, running_gate(app.port) as gate:
        mix = Mix(gate)
        await mix.saturate(0.5)  # warm up: imports, pools, the store
        if rate is None:
            most, by = await saturation(gate, mix)
            rate = most / 2
            print(f"the gate answers {most:.0f} verified requests a second at most ({by}); the soak asks {rate:.0f}")
        mix.counts.clear()
        await asyncio.sleep(SETTLE_S)
        return await soak(gate, mix, minutes, rate, app.port)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=0.5, help="how long (default 0.5)")
    parser.add_argument("--rate", type=float, help="requests a second, instead of half of what was measured")
    arguments = parser.parse_args()
    fine = uvloop.run(drill(arguments.minutes, arguments.rate))
    print("passed" if fine else "FAILED")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
