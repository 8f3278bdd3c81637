"""Hashing passwords beside the event loop: a few threads, and a fair and bounded queue before them.

* Each hash takes 32 MiB and the better part of a core's 100 ms: the number of threads bounds both.
* One address or one account with a thousand waiting does not delay another's first (`fair_queue`).
* Who comes from a device that signed in to the account before has queue and threads apart from all strangers: there
  is no telling a thousand strangers with one guess each from a thousand people.  Strangers' threads stand back where
  processors are short, and get about a tenth of what others take.
* When full, the last of whoever has most waiting is turned away, with `Busy`.
* Whoever gives up gives up the place; a hash under way is finished, and its thread is taken until then.
* Nobody's password costs as much as anybody's.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import msgspec

from gatekeeper.core.accounts import SALT_BYTES, hash_password, verify_password
from gatekeeper.server.fair_queue import FairQueue

MOST_WAITING = 256
"""How many strangers may wait in each process, and how many known devices: some 20 s of work for two threads."""

MOST_THREADS = 4
RETRY_AFTER_S = 10

_STRANGERS_NICENESS = 10

_ResultT = TypeVar("_ResultT")


class Line(msgspec.Struct, frozen=True):
    """Whose a password is, for the order of the queue: keys as `core.attempts` makes them.

    `is_known` says that the device signed in to that account before; `account` may then name the device, and is ""
    where there is no account.
    """

    address: str
    account: str
    is_known: bool


class Busy(msgspec.Struct, frozen=True, gc=False):
    """The password was not looked at: too many are waiting.  It counts as false, like a password that is wrong."""

    retry_after_s: int = RETRY_AFTER_S

    def __bool__(self) -> bool:
        return False


class Passwords:
    """Hashes and verifies passwords, on `threads` threads for known devices and as many for strangers.

    One for each process.  `make` and `verify` do the work, in those threads; `random_bytes` makes salts.
    """

    def __init__(
        self,
        threads: int,
        *,
        most_waiting: int = MOST_WAITING,
        make: Callable[[str, bytes], str] = hash_password,
        verify: Callable[[str | None, str], bool] = verify_password,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._make = make
        self._verify = verify
        self._random_bytes = random_bytes
        self._known = HashPool(threads, most_waiting, ThreadPoolExecutor(threads, "known-password"))
        strangers = ThreadPoolExecutor(threads, "password", initializer=_stand_back)
        self._strangers = HashPool(threads, most_waiting, strangers)

    def __repr__(self) -> str:
        return f"<Passwords known {self._known!r}, strangers {self._strangers!r}>"

    @property
    def waiting(self) -> int:
        """How many passwords wait for a thread."""
        return self._known.waiting + self._strangers.waiting

    async def hash(self, password: str, line: Line) -> str | Busy:
        """The hash to store for a new password."""
        return await self._pool(line).run(partial(self._make, password, self._random_bytes(SALT_BYTES)), line)

    async def verify(self, password: str, stored: str | None, line: Line) -> bool | Busy:
        """Whether this is the password of a stored hash; None is the hash of nobody, which takes as long."""
        return await self._pool(line).run(partial(self._verify, stored, password), line)

    async def close(self) -> None:
        """Turn away what waits and what comes, and wait for the hashes under way."""
        await asyncio.gather(self._known.close(), self._strangers.close())

    def _pool(self, line: Line) -> "HashPool":
        return self._known if line.is_known else self._strangers


class _Job:
    """A password that waits: how its hash is begun, and how it is turned away."""

    def __init__(self, begin: Callable[[], None], turn_away: Callable[[], None]) -> None:
        self.begin = begin
        self.turn_away = turn_away


class HashPool:
    """Threads of an executor, which the pool then owns, and the queue before them."""

    def __init__(self, threads: int, most_waiting: int, executor: Executor) -> None:
        self._threads = threads
        self._executor = executor
        self._queue: FairQueue[_Job] = FairQueue(most_waiting)
        self._running: set[asyncio.Future[Any]] = set()
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<{len(self._running)} of {self._threads} running, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        return len(self._queue)

    async def run(self, work: Callable[[], _ResultT], line: Line) -> _ResultT | Busy:
        """What `work` returns or raises, once a thread was free for it."""
        if self._is_closed:
            return Busy()
        answer: asyncio.Future[_ResultT | Busy] = asyncio.get_running_loop().create_future()
        job = _Job(partial(self._begin, work, answer), partial(_settle, answer, Busy()))
        dropped = self._queue.push(job, tuple(filter(None, (line.address, line.account))))
        if dropped is not None:
            dropped.turn_away()
        self._fill()
        try:
            return await answer
        finally:
            self._queue.remove(job)

    async def close(self) -> None:
        """As `Passwords.close`."""
        self._is_closed = True
        while (job := self._queue.pop()) is not None:
            job.turn_away()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._executor.shutdown()

    def _fill(self) -> None:
        while len(self._running) < self._threads and (job := self._queue.pop()) is not None:
            job.begin()

    def _begin(self, work: Callable[[], _ResultT], answer: "asyncio.Future[_ResultT | Busy]") -> None:
        try:
            running = asyncio.get_running_loop().run_in_executor(self._executor, work)
        except RuntimeError as error:  # no thread can be had: whoever waits must not wait for ever
            _fail(answer, error)
            return
        self._running.add(running)
        running.add_done_callback(partial(self._was_done, answer))

    def _was_done(self, answer: "asyncio.Future[_ResultT | Busy]", running: "asyncio.Future[_ResultT]") -> None:
        self._running.discard(running)
        error = running.exception()
        if error is None:
            _settle(answer, running.result())
        else:
            _fail(answer, error)
        self._fill()


def threads_for(cores: int, workers: int) -> int:
    """How many threads each of so many workers hashes on: as many as it has cores to itself, 1 to MOST_THREADS."""
    return min(max(cores // workers, 1), MOST_THREADS)


def _settle(answer: "asyncio.Future[_ResultT | Busy]", result: _ResultT | Busy) -> None:
    """Give the answer to whoever still waits for it."""
    if not answer.done():
        answer.set_result(result)


def _fail(answer: "asyncio.Future[_ResultT | Busy]", error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)


def _stand_back() -> None:
    """Give other threads the processor first, the event loop's above all."""
    if sys.platform == "linux":  # where each thread has a niceness of its own
        with suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _STRANGERS_NICENESS)
