"""The crew, with workers that the test plays: what it makes of what they say, and when it starts another."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from typing import cast

import msgspec
import pytest
import pytest_asyncio

from gatekeeper.config.schema import Settings
from gatekeeper.telemetry.families import Family
from gatekeeper.telemetry.telemetry import Telemetry
from gatekeeper.workers import backoff
from gatekeeper.workers import crew as crew_module
from gatekeeper.workers.board import WorkerBoard, make_board
from gatekeeper.workers.channel import (
    Begin,
    Channel,
    Check,
    Checked,
    Count,
    Counted,
    Drain,
    Failed,
    LetGo,
    LetGone,
    Order,
    Ready,
    Report,
    Stop,
)
from gatekeeper.workers.crew import Crew
from gatekeeper.workers.process import describe_status
from gatekeeper.workers.sockets import WorkerSockets, bind_for
from tests.config.loading import BASE, load

FAMILIES = (Family("counter", "gatekeeper_store_reads_total", "Reads.", (), (((), (5.0,)),)),)


class PlayedWorker:
    """A worker without a process: `orders` holds what it was told, and it says what the test has it say."""

    def __init__(self, number: int, pid: int) -> None:
        self.number = number
        self.pid = pid
        self.returncode: int | None = None
        self.orders: asyncio.Queue[Order] = asyncio.Queue()
        self.channel: Channel[Order] = Channel(Order, self.orders.put_nowait, lambda: None)
        self.killed = False

    def say(self, report: Report) -> None:
        self.channel.send(report)

    async def told(self, kind: type[Order]) -> Order:
        """The next order of this kind."""
        async with asyncio.timeout(20):
            while not isinstance(order := await self.orders.get(), kind):
                pass
        return order

    def end(self, status: int) -> None:
        """Its process is gone, and its end of the channel with it."""
        self.returncode = status
        self.channel.close()

    # what the supervisor does with a process

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        self.killed = True
        self.end(-9)


class Stage:
    """A crew of two, and the workers that were started, in their order."""

    def __init__(self, crew: Crew, sockets: WorkerSockets, board: int) -> None:
        self.crew = crew
        self.sockets = sockets
        self.board = board
        self.started: asyncio.Queue[PlayedWorker] = asyncio.Queue()
        self.refusal: OSError | None = None
        self.pids = 100
        self.tasks: list[asyncio.Task[None]] = []

    def spawn(self, number: int, inherited: tuple[int, ...]) -> tuple[PlayedWorker, socket.socket]:
        if self.refusal is not None:
            raise self.refusal
        self.pids += 1
        worker = PlayedWorker(number, self.pids)
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        loop = asyncio.get_running_loop()

        async def connect() -> None:
            await loop.connect_accepted_socket(lambda: worker.channel, theirs)
            self.started.put_nowait(worker)

        self.tasks.append(asyncio.create_task(connect()))
        return worker, ours

    def keep(self, number: int) -> asyncio.Task[None]:
        task = asyncio.create_task(self.crew.keep(number))
        self.tasks.append(task)
        return task

    async def next(self, *, ready: bool = True) -> PlayedWorker:
        """The worker that is started next."""
        async with asyncio.timeout(20):
            worker = await self.started.get()
        if ready:
            worker.say(Ready())
            await self.settled(worker)
        return worker

    async def settled(self, worker: PlayedWorker) -> None:
        """Wait until what this worker said was heard: its answer to a question comes after that."""
        living = self.crew._living[worker.number]
        counting = asyncio.create_task(living.count(20))
        await worker.told(Count)
        worker.say(Counted(living.families))
        await counting

    def gone(self, worker: PlayedWorker, status: int) -> None:
        worker.end(status)
        self.crew.reap()


@pytest_asyncio.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    sockets, board = await bind_for("127.0.0.1:0", 2), make_board(2)
    stage = Stage(Crew(load(BASE + "workers: 2\n"), 2, sockets, board, Telemetry()), sockets, board)
    monkeypatch.setattr(crew_module, "spawn", stage.spawn)
    yield stage
    stage.crew.kill()
    stage.crew.reap()
    await asyncio.gather(*stage.tasks)
    sockets.close()
    os.close(board)


async def both(stage: Stage) -> tuple[PlayedWorker, PlayedWorker]:
    stage.keep(1)
    first = await stage.next()
    stage.keep(2)
    return first, await stage.next()


async def answering(worker: PlayedWorker, kind: type[Order], *reports: Report) -> None:
    await worker.told(kind)
    for report in reports:
        worker.say(report)


def value(text: bytes, name: str) -> float:
    (line,) = [line for line in text.decode().splitlines() if line.startswith(f"{name} ")]
    return float(line.split(" ")[1])


async def test_each_begins_with_its_share_of_the_settings(stage: Stage) -> None:
    stage.keep(2)
    worker = await stage.next(ready=False)
    begin = cast(Begin, await worker.told(Begin))
    settings = msgspec.msgpack.decode(begin.settings, type=Settings)
    assert (begin.worker, begin.workers, begin.board) == (2, 2, stage.board)
    assert begin.listeners == tuple(sock.fileno() for sock in stage.sockets.of(2))
    assert (settings.upstream.max_connections, settings.admin.listen) == (128, None)


async def test_it_is_ready_when_each_is(stage: Stage) -> None:
    assert await stage.crew.problems() == ["starting"]
    first, second = await both(stage)
    assert stage.crew.all_ready.done()
    asking = asyncio.create_task(stage.crew.problems())
    await answering(first, Check, Checked(()))
    await answering(second, Check, Checked(()))
    assert await asking == []


@pytest.mark.parametrize(
    ("of_first", "of_second", "told"),
    [
        (("store away",), ("store away",), ["store away"]),
        (("store away",), (), ["worker 1 of 2: store away"]),
        (("store away",), ("table gone",), ["worker 1 of 2: store away", "worker 2 of 2: table gone"]),
    ],
)
async def test_what_all_lack_is_told_once(
    stage: Stage, of_first: tuple[str, ...], of_second: tuple[str, ...], told: list[str]
) -> None:
    first, second = await both(stage)
    asking = asyncio.create_task(stage.crew.problems())
    await answering(first, Check, Checked(of_first))
    await answering(second, Check, Checked(of_second))
    assert await asking == told


async def test_one_that_does_not_answer_is_a_problem(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await both(stage)
    monkeypatch.setattr(crew_module, "CHECK_TIMEOUT_S", -0.5)
    assert await stage.crew.problems() == ["no answer within 0 s"]
    first.say(Checked(()))
    second.say(Checked(()))


async def test_of_one_that_does_not_answer_the_last_count_is_shown(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await both(stage)
    counting = asyncio.create_task(stage.crew.count())
    await answering(first, Count, Counted(FAMILIES))
    await answering(second, Count, Counted(FAMILIES))
    await counting
    monkeypatch.setattr(crew_module, "COUNT_TIMEOUT_S", 0)
    text, _ = await stage.crew.metrics("")
    assert value(text, "gatekeeper_store_reads_total") == 10
    assert first.orders.qsize() <= 1  # it is not asked again before it has answered
    await stage.crew.count()
    assert first.orders.qsize() <= 1


async def test_of_one_that_ended_counts_stay_and_clients_go(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await both(stage)
    counting = asyncio.create_task(stage.crew.count())
    await answering(first, Count, Counted(FAMILIES))
    await answering(second, Count, Counted(FAMILIES))
    await counting
    WorkerBoard(stage.board, 2, 0).publish(7)
    stage.gone(first, -9)
    await stage.next(ready=False)
    monkeypatch.setattr(crew_module, "COUNT_TIMEOUT_S", 0)
    text, _ = await stage.crew.metrics("")
    assert value(text, "gatekeeper_store_reads_total") == 10
    assert value(text, "gatekeeper_worker_restarts_total") == 1
    assert value(text, 'gatekeeper_workers{state="starting"}') == 1
    assert WorkerBoard(stage.board, 2, 1).publish(0) == 0
    asking = asyncio.create_task(stage.crew.problems())
    await answering(second, Check, Checked(()))
    assert await asking == ["worker 1 of 2: starting"]


async def test_what_a_worker_said_last_is_heard_before_its_end(stage: Stage) -> None:
    first, _ = await both(stage)
    first.say(Counted(FAMILIES))
    stage.gone(first, -9)  # the process is reaped, and the channel not read yet
    await stage.next(ready=False)
    assert stage.crew._ended.families == FAMILIES


async def test_one_that_ends_before_any_was_ready_is_a_failed_start(stage: Stage) -> None:
    keeping = stage.keep(1)
    worker = await stage.next(ready=False)
    stage.gone(worker, -signal.SIGSEGV)
    await keeping
    assert stage.crew.failed.result() == "pid 101 ended while it started: SIGSEGV"
    assert stage.started.empty()


async def test_a_failed_start_is_told_in_the_workers_words(stage: Stage) -> None:
    keeping = stage.keep(2)
    worker = await stage.next(ready=False)
    worker.say(Failed("the parser is missing"))
    stage.gone(worker, 1)
    await keeping
    assert stage.crew.failed.result() == "the parser is missing"


async def test_one_that_cannot_even_be_started_is_a_failed_start(stage: Stage) -> None:
    stage.refusal = OSError(11, "Resource temporarily unavailable")
    await stage.keep(1)
    assert stage.crew.failed.result() == "it could not be started: Resource temporarily unavailable"


async def test_later_that_is_no_failure_of_all(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "FIRST_S", 0.001)
    first, _ = await both(stage)
    stage.gone(first, 0)  # nobody told it to
    successor = await stage.next(ready=False)
    successor.say(Failed("no memory"))
    stage.gone(successor, 1)
    await stage.next()
    assert not stage.crew.failed.done()
    told = [record.getMessage() for record in caplog.records if "started again" in record.getMessage()]
    assert told == [
        "worker 1: pid 101 ended: exit status 0; it is started again at once",
        "worker 1: no memory; it is started again in 0.001 s",
    ]


async def test_who_is_told_to_end_is_not_started_again_and_its_sockets_close(stage: Stage) -> None:
    keeping = stage.keep(1)
    worker = await stage.next()
    (sock,) = stage.sockets.of(1)
    stage.crew.tell(Drain(5, 30))
    assert await worker.told(Drain) == Drain(5, 30)
    assert await stage.crew.problems() == ["draining"]
    worker.say(LetGo())
    await worker.told(LetGone)
    assert sock.fileno() == -1
    stage.gone(worker, 0)
    await keeping
    assert (stage.crew.in_order, stage.started.empty()) == (True, True)


async def test_who_starts_meanwhile_is_told_as_well(stage: Stage) -> None:
    stage.keep(1)
    worker = await stage.next(ready=False)
    stage.crew.tell(Drain(0, 30))
    await worker.told(Begin)
    assert await worker.told(Drain) == Drain(0, 30)


@pytest.mark.parametrize("has_client", [True, False])
async def test_at_the_end_one_is_started_for_clients_that_wait_at_its_socket_only(
    stage: Stage, has_client: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits to be started again, for longer than any test; the wait ends when all are told to end."""
    monkeypatch.setattr(backoff, "FIRST_S", 1_000.0)
    monkeypatch.setattr(backoff, "MOST_S", 1_000.0)
    keeping = stage.keep(1)
    (sock,) = stage.sockets.of(1)
    sock.listen()
    for _ in range(2):
        stage.gone(await stage.next(), -9)
    while stage.crew._state_of(1) != "waiting":  # noqa: ASYNC110 - until it has begun to
        await asyncio.sleep(0)
    client = socket.create_connection(sock.getsockname(), 20) if has_client else None
    stage.crew.tell(Drain(0, 30))
    if client is not None:
        last = await stage.next(ready=False)
        await last.told(Drain)
        stage.gone(last, 0)
        client.close()
    await keeping
    assert (stage.crew.in_order, stage.started.empty()) == (True, True)
    assert sock.fileno() == -1


async def test_who_had_to_be_killed_did_not_end_in_order(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    keeping = stage.keep(1)
    worker = await stage.next()
    stage.crew.tell(Drain(0, 30))
    stage.crew.kill()
    stage.crew.reap()
    await keeping
    assert worker.killed
    assert not stage.crew.in_order
    assert "worker 1 (pid 101) did not end in order: SIGKILL" in caplog.text


async def test_none_is_started_once_all_are_to_stop(stage: Stage) -> None:
    stage.crew.tell(Stop())
    await stage.keep(1)
    assert stage.started.empty()


@pytest.mark.parametrize(
    ("status", "told"),
    [(0, "exit status 0"), (70, "exit status 70"), (-9, "SIGKILL"), (-6, "SIGABRT"), (-99, "signal 99")],
)
def test_how_a_process_ended(status: int, told: str) -> None:
    assert describe_status(status) == told
