"""The workers of a gate: each is started, and started again when it ends, until all are told to end.

Speaks for all of them on the admin listener: ready when each is, and with the sums of what they counted.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from gatekeeper import __version__
from gatekeeper.config.schema import Settings
from gatekeeper.core.errors import KeysUnusable
from gatekeeper.server.admin_answers import CHECK_TIMEOUT_S
from gatekeeper.server.assertion_keys import AssertionKeys, to_inherit
from gatekeeper.telemetry.exposition import Exposition, render
from gatekeeper.telemetry.families import Family
from gatekeeper.telemetry.telemetry import Telemetry
from gatekeeper.workers.backoff import Backoff
from gatekeeper.workers.board import WorkerBoard
from gatekeeper.workers.channel import Begin, Drain, Stop
from gatekeeper.workers.division import divided
from gatekeeper.workers.process import WorkerProcess, describe_status, spawn
from gatekeeper.workers.sockets import WorkerSockets
from gatekeeper.workers.totals import Ended, total

logger = logging.getLogger("gatekeeper")

COUNT_EVERY_S = 1.0
"""How often workers are asked what they counted: so much is forgotten at most of one that is killed."""

COUNT_TIMEOUT_S = 1.0
_STATES = ("starting", "ready", "draining", "waiting")


class Crew:
    """So many workers with these settings.  `board` is a file descriptor; `sockets` are those that they listen on;
    `keys` are those of assertions.

    `all_ready` is done once each worker has been ready, `failed` with a message once one ended before any ever was.
    `in_order` is false as soon as one that was told to end did not end as it should.
    """

    def __init__(
        self,
        settings: Settings,
        workers: int,
        sockets: WorkerSockets,
        board: int,
        telemetry: Telemetry,
        keys: AssertionKeys | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.size = workers
        self.all_ready: asyncio.Future[None] = loop.create_future()
        self.failed: asyncio.Future[str] = loop.create_future()
        self.in_order = True
        self._settings = msgspec.msgpack.encode(divided(settings, workers))
        self._keys = keys
        self._sockets = sockets
        self._board_descriptor = board
        self._board = WorkerBoard(board, workers, 0)
        self._telemetry = telemetry
        self._exposition = Exposition(telemetry)
        self._living: dict[int, WorkerProcess] = {}
        self._ended = Ended()
        self._were_ready: set[int] = set()
        self._restarts = 0
        self._order: Drain | Stop | None = None
        self._told = asyncio.Event()
        help = "Workers that were started again after they had ended."
        telemetry.count_of("gatekeeper_worker_restarts_total", help, lambda: self._restarts)
        telemetry.gauge("gatekeeper_workers", "Workers, by what they do.", self._states, "state")

    def __repr__(self) -> str:
        return f"<Crew of {self.size}: {len(self._living)} living>"

    @property
    def has_served(self) -> bool:
        """Whether any worker was ever ready."""
        return bool(self._were_ready)

    async def keep(self, number: int) -> None:
        """Have worker `number` run until it is told to end, and its sockets close with it."""
        backoff = Backoff()
        while self._is_wanted(number):
            began_s = time.monotonic()
            how = await self._live(number)
            if self._order is not None:
                break
            if not self.has_served:
                if not self.failed.done():
                    self.failed.set_result(how)
                break
            backoff = backoff.after(time.monotonic() - began_s)
            wait = f"in {backoff.delay_s:g} s" if backoff.delay_s else "at once"
            logger.warning("worker %d: %s; it is started again %s", number, how, wait)
            self._restarts += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(backoff.delay_s):
                    await self._told.wait()
        self._sockets.let_go(number)

    def tell(self, order: Drain | Stop) -> None:
        """Have every worker end in this way; none is started again."""
        self._order = order
        self._told.set()
        for worker in self._living.values():
            worker.order(order)

    def kill(self) -> None:
        """End every worker that is left, and start none."""
        self._order = Stop()
        self._told.set()
        for worker in self._living.values():
            worker.kill()

    def reap(self) -> None:
        """Take note of workers that have ended."""
        for worker in tuple(self._living.values()):
            worker.reap()

    async def count(self) -> None:
        """Bring what workers counted up to date, of those that answer in time."""
        await asyncio.gather(*(worker.count(COUNT_TIMEOUT_S) for worker in self._ready()))

    async def count_regularly(self) -> None:
        """Remember what workers counted, for when one is killed."""
        while True:
            await asyncio.sleep(COUNT_EVERY_S)
            self.reap()
            await self.count()

    # what the admin listener says

    async def problems(self) -> list[str]:
        """Why the gate is not ready: what all workers say, or what single ones lack."""
        if self._order is not None:
            return ["draining"]
        if not self.has_served:
            return ["starting"]
        ready = self._ready()
        answers = await asyncio.gather(*(worker.check(CHECK_TIMEOUT_S + 0.5) for worker in ready))
        who: dict[str, list[int]] = {}
        for worker, problems in zip(ready, answers, strict=True):
            for problem in problems:
                who.setdefault(problem, []).append(worker.number)
        for number in range(1, self.size + 1):
            if (state := self._state_of(number)) != "ready":
                who.setdefault("starting" if state == "starting" else "waiting to be started again", []).append(number)
        return [self._told_of(problem, numbers) for problem, numbers in who.items()]

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """The metrics of all processes together."""
        await self.count()
        return render(self._families, accept)

    async def jwks(self) -> bytes | None:
        """The public keys, as they are in the folder now."""
        if self._keys is None:
            return None
        with suppress(KeysUnusable, TimeoutError):  # workers say what cannot be read; a disk may hang
            await asyncio.wait_for(asyncio.to_thread(self._keys.look), COUNT_TIMEOUT_S)
        return self._keys.published[0]

    def safe(self, text: str) -> str:
        log = self._telemetry.log
        return text if log is None else log.safe(text)

    # one worker

    async def _live(self, number: int) -> str:
        """Start worker `number` and wait for its end; what became of it."""
        try:
            worker = await self._start(number)
        except OSError as error:
            return f"it could not be started: {error.strerror or error}"
        status = await worker.ended
        del self._living[number]
        self._board.clear(number - 1)
        self._ended.add(worker.families)
        how = describe_status(status)
        if self._order is not None and status != 0:
            self.in_order = False
            if self.has_served:
                logger.warning("worker %d (pid %d) did not end in order: %s", number, worker.pid, how)
        if worker.failure is not None:
            return worker.failure
        return f"pid {worker.pid} ended{'' if worker.is_ready else ' while it started'}: {how}"

    def _is_wanted(self, number: int) -> bool:
        """Whether worker `number` is to be started again: at the end only for clients that wait at its socket."""
        match self._order:
            case None:
                return True
            case Drain():
                return self._sockets.has_waiting(number)
            case Stop():
                return False

    async def _start(self, number: int) -> WorkerProcess:
        listeners = tuple(sock.fileno() for sock in self._sockets.of(number))
        process, sock = spawn(number, (*listeners, self._board_descriptor))
        worker = WorkerProcess(number, process, on_ready=self._is_ready, on_let_go=self._lets_go)
        self._living[number] = worker
        await asyncio.get_running_loop().connect_accepted_socket(lambda: worker.channel, sock)
        board, settings = self._board_descriptor, self._settings
        worker.order(Begin(__version__, number, self.size, listeners, board, settings, to_inherit(self._keys)))
        if self._order is not None:
            worker.order(self._order)
        return worker

    def _is_ready(self, worker: WorkerProcess) -> None:
        logger.info("worker %d (pid %d) is ready", worker.number, worker.pid)
        self._were_ready.add(worker.number)
        if len(self._were_ready) == self.size and not self.all_ready.done():
            self.all_ready.set_result(None)

    def _lets_go(self, worker: WorkerProcess) -> None:
        self._sockets.let_go(worker.number)

    # counting

    def _ready(self) -> list[WorkerProcess]:
        return [worker for worker in self._living.values() if worker.is_ready]

    def _families(self) -> list[Family]:
        living = (worker.families for worker in self._living.values())
        return total([self._exposition.families(), self._ended.families, *living])

    def _state_of(self, number: int) -> str:
        worker = self._living.get(number)
        if worker is None:
            return "waiting"
        if not worker.is_ready:
            return "starting"
        return "ready" if self._order is None else "draining"

    def _states(self) -> Mapping[tuple[str, ...], float]:
        numbers = range(1, self.size + 1) if self._order is None else tuple(self._living)
        counts = Counter(map(self._state_of, numbers))
        return {(state,): counts[state] for state in _STATES}

    def _told_of(self, problem: str, numbers: list[int]) -> str:
        if len(numbers) == self.size:
            return problem
        return f"worker{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))} of {self.size}: {problem}"
