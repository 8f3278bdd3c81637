"""The schedule of the open-loop load: latencies count from when a request was due."""

import asyncio
from typing import ClassVar, cast

from bench.openloop import Load, Schedule, report
from bench.stats import percentile


def play(schedule: Schedule, service: dict[int, int], usual: int) -> None:
    """One connection, simulated: request k takes service[k], the others `usual`; times in the schedule's unit."""
    now = schedule.began
    for _ in range(schedule.total):
        now = max(now, schedule.due_at(schedule.issued))
        schedule.advance(now)
        assert schedule.is_behind()
        was_free = now == schedule.due_at(schedule.issued)
        number = schedule.issue(now, was_free=was_free)
        now += service.get(number, usual)
        schedule.answered(number, now)


def test_a_stall_delays_all_that_were_due_meanwhile() -> None:
    """100 requests, one due every 10; each takes 1, but the first takes 500 and holds up those behind it.

    A closed loop would report one latency of 500 and 99 of 1.  Request k starts at 500 + (k - 1) and is due at 10 k, so
    its latency is 500 + k - 10 k, until that falls below 1: 500 - 9 k.
    """
    schedule = Schedule(began=1000, interval=10, total=100, skip=0)
    play(schedule, {0: 500}, usual=1)
    assert schedule.latencies[:3] == [500, 491, 482]
    assert schedule.latencies[55] == 500 - 9 * 55 == 5
    assert schedule.latencies[56:] == [1] * 44
    assert percentile(sorted(schedule.latencies), 50) == 500 - 9 * 50


def test_without_stalls_latency_is_the_service_time() -> None:
    schedule = Schedule(began=0, interval=10, total=50, skip=0)
    play(schedule, {}, usual=3)
    assert schedule.latencies == [3] * 50
    assert schedule.lateness == [0] * 50


def test_the_warm_up_is_not_recorded() -> None:
    schedule = Schedule(began=0, interval=10, total=10, skip=4)
    play(schedule, {0: 12}, usual=3)
    assert len(schedule.latencies) == 6
    assert schedule.completed == 10


def test_what_was_never_answered_counts_until_the_end() -> None:
    """Request 0 is answered, 1 is under way, 2 and 3 were never sent when the load is given up at 100."""
    schedule = Schedule(began=0, interval=10, total=4, skip=0)
    schedule.advance(35)
    schedule.answered(schedule.issue(35, was_free=False), 36)
    under_way = schedule.issue(36, was_free=False)
    schedule.give_up(100, [under_way])
    assert schedule.latencies == [36, 90, 80, 70]
    assert report(schedule, rate=1, wall_s=1, cpu_s=0.5)["achieved"] == 1


def test_no_more_becomes_due_than_there_is() -> None:
    schedule = Schedule(began=0, interval=10, total=3, skip=0)
    schedule.advance(10_000)
    assert schedule.due == 3


def test_lateness_is_that_of_requests_that_found_a_connection_free() -> None:
    schedule = Schedule(began=0, interval=10, total=3, skip=0)
    schedule.advance(25)
    schedule.issue(25, was_free=False)
    schedule.issue(25, was_free=True)
    assert schedule.lateness == [15]


class Answering(asyncio.Protocol):
    """A server's connection: an answer for everything that arrives."""

    asked = 0
    ended: ClassVar[list[asyncio.Future[None]]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.end = asyncio.get_running_loop().create_future()
        self.ended.append(self.end)

    def data_received(self, data: bytes) -> None:
        Answering.asked += 1
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def connection_lost(self, exc: Exception | None) -> None:
        self.end.set_result(None)


async def test_the_load_asks_a_real_server_for_all_that_is_due() -> None:
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    async with server:
        load = Load(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", rate=10_000, seconds=1)
        load.schedule.total, load.schedule.skip = 40, 10
        await load.run(server.sockets[0].getsockname()[1], 1)
        await asyncio.gather(*Answering.ended)
    assert (Answering.asked, load.schedule.completed, len(load.schedule.latencies)) == (40, 40, 30)
    assert min(load.schedule.latencies) > 0
