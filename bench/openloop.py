"""Latency at a fixed rate, open loop.  `python -m bench.openloop ORDER`, JSON in and out.

Requests are due at even intervals, whatever becomes of the earlier ones, and each latency counts from the time when
the request was *due*.  A client that waits for an answer before it sends the next request would leave out exactly the
requests that a stall delays ("coordinated omission").  Requests that find all connections in use wait here, and their
waiting counts.

A timerfd gives the beat, since event loops round their timers to milliseconds.  How late the generator itself was in
sending, where a connection was free, is measured too.
"""

import asyncio
import ctypes
import gc
import json
import os
import sys
import time
from collections import deque
from contextlib import suppress
from typing import Any, cast

import uvloop

from bench.idle import answer_length, request_of
from bench.stats import percentile
from bench.workloads import CONNECTIONS

WARM_UP_S = 1
GRACE_S = 5.0


class Schedule:
    """When requests are due, and how late their answers came.  Times are nanoseconds of one clock.

    Request k is due at `began + k * interval`.  The first `skip` are not recorded.
    """

    def __init__(self, began: int, interval: int, total: int, skip: int) -> None:
        self.began = began
        self.interval = interval
        self.total = total
        self.skip = skip
        self.due = 0
        self.issued = 0
        self.completed = 0
        self.latencies: list[int] = []
        self.lateness: list[int] = []

    def due_at(self, number: int) -> int:
        return self.began + number * self.interval

    def advance(self, now: int) -> None:
        """Count what has become due until now."""
        self.due = min((now - self.began) // self.interval + 1, self.total)

    def is_behind(self) -> bool:
        """Whether something is due that was not sent."""
        return self.issued < self.due

    def issue(self, now: int, *, was_free: bool) -> int:
        """Send the next one: its number.  `was_free` says that it did not have to wait for a connection."""
        number = self.issued
        self.issued += 1
        if was_free and number >= self.skip:
            self.lateness.append(now - self.due_at(number))
        return number

    def answered(self, number: int, now: int) -> None:
        self.completed += 1
        self._record(number, now)

    def give_up(self, now: int, in_flight: list[int]) -> None:
        """Record those never answered as if their answers came now, so that the slowest are not left out."""
        for number in (*in_flight, *range(self.issued, self.total)):
            self._record(number, now)

    def _record(self, number: int, now: int) -> None:
        if number >= self.skip:
            self.latencies.append(now - self.due_at(number))


class Client(asyncio.Protocol):
    """One connection, which has one request under way at most."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._received = b""
        self.number: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, number: int) -> None:
        self.number = number
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            length = answer_length(self._received)
        except ConnectionError as error:
            self._load.fail(error)
            return
        if length is None or len(self._received) < length:
            return
        self._received = b""
        number, self.number = self.number, None
        if number is not None:
            self._load.answered(self, number)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.fail(exc or ConnectionError("the proxy closed a connection"))

    def close(self) -> None:
        self._transport.abort()


class Load:
    """The generator: a beat, and the clients that are free."""

    def __init__(self, request: bytes, rate: float, seconds: int) -> None:
        self.request = request
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()
        self.clients: list[Client] = []
        self.free: deque[Client] = deque()
        interval = round(1e9 / rate)
        total, skip = round(rate * seconds), round(rate * min(WARM_UP_S, seconds / 2))
        self.schedule = Schedule(0, interval, total, skip)
        self.timer = Timer(interval)

    async def run(self, port: int, seconds: int) -> None:
        for _ in range(CONNECTIONS):
            _, client = await self.loop.create_connection(lambda: Client(self), "127.0.0.1", port)
            self.clients.append(client)
        self.free.extend(self.clients)
        self.schedule.began = time.monotonic_ns() + self.schedule.interval
        self.timer.start()
        self.loop.add_reader(self.timer.descriptor, self._beat)
        try:
            await asyncio.wait_for(asyncio.shield(self.done), seconds + GRACE_S)
        except TimeoutError:
            in_flight = [client.number for client in self.clients if client.number is not None]
            self.schedule.give_up(time.monotonic_ns(), in_flight)
        finally:
            self.loop.remove_reader(self.timer.descriptor)
            self.timer.close()
            if not self.done.done():
                self.done.set_result(None)
            for client in self.clients:
                client.close()

    def answered(self, client: Client, number: int) -> None:
        now = time.monotonic_ns()
        schedule = self.schedule
        schedule.answered(number, now)
        schedule.advance(now)
        if schedule.is_behind() and not self.free:
            client.send(schedule.issue(now, was_free=False))
            return
        self.free.append(client)
        if len(self.free) == CONNECTIONS and schedule.issued == schedule.total and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def _beat(self) -> None:
        self.timer.clear()
        now = time.monotonic_ns()
        schedule, free = self.schedule, self.free
        schedule.advance(now)
        while free and schedule.is_behind():
            free.popleft().send(schedule.issue(now, was_free=True))
            now = time.monotonic_ns()


class Timer:
    """A timerfd that fires every `interval` nanoseconds (timerfd_create(2))."""

    def __init__(self, interval: int) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._times = (ctypes.c_long * 4)(*divmod(interval, 10**9), *divmod(interval, 10**9))
        self.descriptor: int = self._library.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def start(self) -> None:
        if self._library.timerfd_settime(self.descriptor, 0, ctypes.byref(self._times), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def clear(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.descriptor, 8)

    def close(self) -> None:
        os.close(self.descriptor)


def report(schedule: Schedule, rate: float, wall_s: float, cpu_s: float) -> dict[str, float]:
    """The figures of a finished schedule; latencies in milliseconds."""
    latencies = sorted(schedule.latencies)
    names = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}
    return {
        "rate": rate,
        "achieved": schedule.completed / wall_s,
        **{name: percentile(latencies, percent) / 1e6 for name, percent in names.items()},
        "generator_busy": cpu_s / wall_s,
        "late_p99_ms": percentile(sorted(schedule.lateness) or [0], 99) / 1e6,
    }


async def main(order: dict[str, Any]) -> dict[str, float]:
    request = request_of(order["port"], order["path"], order["headers"])
    load = Load(request, order["rate"], order["seconds"])
    gc.collect()
    gc.disable()
    began, cpu = time.monotonic(), time.process_time()
    await load.run(order["port"], order["seconds"])
    return report(load.schedule, order["rate"], time.monotonic() - began, time.process_time() - cpu)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(main(json.loads(sys.argv[1])))))
