"""Passwords beside the event loop: order, bounds, and what becomes of who gives up or comes too late.

Threads are replaced by an executor in hand: a hash takes until the test says that it is done.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from gatekeeper.core.accounts import MAX_PASSWORD_LENGTH
from gatekeeper.server.passwords import MOST_THREADS, Busy, HashPool, Line, Passwords, threads_for

STRANGER = Line("address:192.0.2.1", "account:ada", is_known=False)
KNOWN = Line("address:192.0.2.1", "device:ada's", is_known=True)


class ByHand(Executor):
    """An executor whose work is done when the test says so."""

    def __init__(self) -> None:
        self.begun: list[tuple[Future[Any], Callable[..., Any]]] = []
        self.is_shut_down = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self.begun.append((future, fn))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.is_shut_down = True

    def finish(self) -> None:
        """The work that was begun first is done."""
        future, work = self.begun.pop(0)
        try:
            future.set_result(work())
        except ValueError as error:
            future.set_exception(error)


class Failing(Executor):
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        raise RuntimeError("can't start new thread")


class Bench:
    """A pool, and what it has done so far in order."""

    def __init__(self, threads: int = 1, most_waiting: int = 10) -> None:
        self.executor = ByHand()
        self.pool = HashPool(threads, most_waiting, self.executor)
        self.done: list[str] = []

    def start(self, name: str, address: str = "a", account: str = "x") -> asyncio.Task[bool | Busy]:
        def work() -> bool:
            self.done.append(name)
            return True

        return asyncio.ensure_future(self.pool.run(work, Line(address, account, is_known=False)))

    async def finish_all(self) -> list[str]:
        await turn()
        while self.executor.begun:
            self.executor.finish()
            await turn()
        return self.done


async def turn() -> None:
    """Whatever is ready runs, and what that makes ready."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_as_many_at_once_as_there_are_threads() -> None:
    bench = Bench(threads=2)
    tasks = [bench.start(name) for name in "abc"]
    await turn()
    assert len(bench.executor.begun) == 2
    assert bench.pool.waiting == 1
    bench.executor.finish()
    await turn()
    assert len(bench.executor.begun) == 2
    assert bench.pool.waiting == 0
    assert await bench.finish_all() == ["a", "b", "c"]
    assert await asyncio.gather(*tasks) == [True, True, True]


@pytest.mark.parametrize("crowd", [("a", None), (None, "x")], ids=["of-one-address", "on-one-account"])
async def test_a_crowd_does_not_delay_anothers_first(crowd: tuple[str | None, str | None]) -> None:
    bench = Bench(most_waiting=1_000)
    address, account = crowd
    for number in range(1_000):
        bench.start(f"{number}", address or f"a{number}", account or f"x{number}")
    await turn()
    bench.start("late", "b", "y")
    assert (await bench.finish_all())[:4] == ["0", "1", "late", "2"]


async def test_when_too_many_wait_the_crowds_last_is_turned_away() -> None:
    bench = Bench(most_waiting=2)
    tasks = {name: bench.start(name) for name in ("running", "a1", "a2", "a3")}
    await turn()
    tasks["b1"] = bench.start("b1", "b", "y")
    await turn()
    assert [name for name, task in tasks.items() if task.done()] == ["a2", "a3"]
    answer = await tasks["a3"]
    assert isinstance(answer, Busy)
    assert answer.retry_after_s >= 1
    assert not answer
    assert await bench.finish_all() == ["running", "a1", "b1"]


async def test_who_gives_up_gives_up_the_place() -> None:
    bench = Bench()
    tasks = [bench.start(name) for name in "abc"]
    await turn()
    tasks[1].cancel()
    await turn()
    assert bench.pool.waiting == 1
    assert await bench.finish_all() == ["a", "c"]


async def test_a_hash_under_way_keeps_its_thread_when_nobody_waits_for_it() -> None:
    bench = Bench()
    tasks = [bench.start(name) for name in "ab"]
    await turn()
    tasks[0].cancel()
    await turn()
    assert tasks[0].cancelled()
    assert len(bench.executor.begun) == 1
    assert bench.pool.waiting == 1
    assert await bench.finish_all() == ["a", "b"]
    assert await tasks[1] is True


async def test_what_the_work_raises_its_caller_gets_and_nobody_else() -> None:
    bench = Bench()

    def broken() -> bool:
        raise ValueError("no memory")

    failing = asyncio.ensure_future(bench.pool.run(broken, STRANGER))
    forgotten = asyncio.ensure_future(bench.pool.run(broken, STRANGER))
    other = bench.start("other")
    await turn()
    bench.executor.finish()
    await turn()
    forgotten.cancel()
    assert await bench.finish_all() == ["other"]
    with pytest.raises(ValueError, match="no memory"):
        await failing
    assert await other is True


async def test_without_a_thread_to_be_had_nobody_waits_for_ever() -> None:
    pool = HashPool(1, 10, Failing())
    with pytest.raises(RuntimeError, match="thread"):
        await pool.run(lambda: True, STRANGER)


async def test_closing_turns_away_who_waits_and_awaits_what_runs() -> None:
    bench = Bench()
    tasks = [bench.start(name) for name in "ab"]
    await turn()
    closing = asyncio.ensure_future(bench.pool.close())
    await turn()
    assert isinstance(await tasks[1], Busy)
    assert not closing.done()
    assert not bench.executor.is_shut_down
    assert isinstance(await bench.pool.run(lambda: True, STRANGER), Busy)
    bench.executor.finish()
    await closing
    assert await tasks[0] is True
    assert bench.executor.is_shut_down


async def test_known_devices_do_not_wait_for_strangers() -> None:
    started, gate = threading.Semaphore(0), threading.Event()

    def verify(stored: str | None, password: str) -> bool:
        if password == "a stranger's":
            started.release()
            gate.wait()
        return password == stored

    passwords = Passwords(1, verify=verify)
    strangers = [asyncio.ensure_future(passwords.verify("a stranger's", None, STRANGER)) for _ in range(20)]
    await asyncio.get_running_loop().run_in_executor(None, started.acquire)
    assert passwords.waiting == 19
    assert "19 waiting" in repr(passwords)
    assert await passwords.verify("right", "right", KNOWN) is True
    assert not any(task.done() for task in strangers)
    gate.set()
    assert await asyncio.gather(*strangers) == [False] * 20
    await passwords.close()


async def test_hashes_are_made_with_salts_of_their_own() -> None:
    passwords = Passwords(1, make=lambda password, salt: f"{password}/{salt.hex()}", random_bytes=lambda n: b"\x07" * n)
    assert await passwords.hash("secret", Line("address:unix", "", is_known=False)) == "secret/" + "07" * 16
    await passwords.close()


async def test_what_is_hashed_verifies_and_nothing_else() -> None:
    passwords = Passwords(2)
    stored = await passwords.hash("x" * MAX_PASSWORD_LENGTH, STRANGER)
    assert isinstance(stored, str)
    assert await passwords.verify("x" * MAX_PASSWORD_LENGTH, stored, STRANGER) is True
    assert await passwords.verify("x" * MAX_PASSWORD_LENGTH, None, KNOWN) is False
    await passwords.close()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads have a niceness of their own on Linux alone")
async def test_strangers_threads_stand_back_and_no_others() -> None:
    def niceness(stored: str | None, password: str) -> bool:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) > own

    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    passwords = Passwords(1, verify=niceness)
    expected = own < 19  # where there is anything to stand back to
    assert await passwords.verify("", None, STRANGER) is expected
    assert await passwords.verify("", None, KNOWN) is False
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own
    await passwords.close()


@pytest.mark.parametrize(
    ("cores", "workers", "threads"), [(2, 1, 2), (2, 2, 1), (1, 4, 1), (64, 1, MOST_THREADS), (8, 3, 2)]
)
def test_threads_by_cores_and_workers(cores: int, workers: int, threads: int) -> None:
    assert threads_for(cores, workers) == threads
