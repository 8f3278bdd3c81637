"""Visitors with sessions, who ask each process of the gates again and again and hold streams open; and what they see.

Times are seconds of the monotonic clock.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence

from rig.client import Lost, Stream, handshake, request
from rig.gate import cookie_of
from rig.processes import Process
from rig.stores import Session

WATCH_S = 0.01
"""How long who waits to be refused rests between two requests."""

PATIENCE_S = 5.0


class Visitor:
    """One session, and what became of it.  `way` is how it is to be revoked, if it is.

    `last_seen` is when the last page came that was this session's, `ended` when the stream did.
    """

    def __init__(self, session: Session, way: str | None = None, *, has_stream: bool = False) -> None:
        self.session = session
        self.way = way
        self.has_stream = has_stream
        self.is_revoking = False
        self.revoked: float | None = None
        self.last_seen = 0.0
        self.ended: float | None = None
        self.cookie = cookie_of(session.token)
        self.page = request("GET", "/dashboard/data", self.cookie, "Accept: application/json")

    @property
    def lived_on_s(self) -> float:
        """How long after the revocation had returned the last page came."""
        return max(0.0, self.last_seen - self.revoked) if self.revoked is not None else 0.0

    @property
    def streamed_on_s(self) -> float:
        """How long after it the stream ended; infinite where it has not."""
        return (
            max(0.0, self.ended - self.revoked) if self.ended is not None and self.revoked is not None else float("inf")
        )


class Visitors:
    """All of them, before these processes.  `failures` are what must never be seen."""

    def __init__(self, processes: Sequence[Process], visitors: Sequence[Visitor]) -> None:
        self.all = list(visitors)
        self.failures: list[str] = []
        self.requests = 0
        self.refusals = 0
        self.is_over = False
        self._processes = processes
        self._watching: set[asyncio.Task[None]] = set()
        self._streaming: list[asyncio.Task[None]] = []

    async def ask(self, process: Process, visitor: Visitor) -> bool:
        """Ask for a page once; whether it came."""
        try:
            answer = await process.ask(visitor.page)
        except Lost as error:
            self.failures.append(f"a request was lost: {error}")
            return False
        self.requests += 1
        if answer.status == 200:
            visitor.last_seen = time.monotonic()
            if not answer.body.startswith(visitor.session.user_id.encode() + b"."):
                self.failures.append(f"{visitor.session.token} was taken for {answer.body[:40]!r}")
            return True
        self.refusals += 1
        if answer.status != 401 or not visitor.is_revoking:
            self.failures.append(f"status {answer.status}, {'' if visitor.is_revoking else 'not '}revoked")
        return False

    async def meet_all(self, at_once: int) -> None:
        """Each asks each process once, as fast as they go."""

        async def some(process: Process, left: Iterator[Visitor]) -> None:
            for visitor in left:
                await self.ask(process, visitor)

        queues = [(process, iter(tuple(self.all))) for process in self._processes]
        await asyncio.gather(*(some(*queue) for queue in queues for _ in range(at_once)))

    async def meet(self, visitor: Visitor) -> None:
        """A new one, who asks each process at once, and takes part from then on."""
        self.all.append(visitor)
        await asyncio.gather(*(self.ask(process, visitor) for process in self._processes))

    def load(self, at_once: int, pause_s: float) -> list[asyncio.Task[None]]:
        """All of them ask in turn, at each process so many at once, until it `is_over`."""

        async def some(process: Process, turns: Iterator[int]) -> None:
            while not self.is_over:
                await self.ask(process, self.all[next(turns) % len(self.all)])
                await asyncio.sleep(pause_s)

        queues = [(process, itertools.count()) for process in self._processes]
        return [asyncio.create_task(some(*queue)) for queue in queues for _ in range(at_once)]

    def was_revoked(self, visitor: Visitor) -> None:
        """It has been, this moment: it asks each process until it is refused."""
        visitor.revoked = time.monotonic()
        for process in self._processes:
            task = asyncio.create_task(self._watch(process, visitor))
            self._watching.add(task)
            task.add_done_callback(self._watching.discard)

    async def until_refused(self) -> None:
        """Wait for those who are not yet."""
        if self._watching:
            await asyncio.wait(self._watching)

    async def open_streams(self) -> None:
        """Event streams and WebSockets by turns, at each gate as many."""
        ports = list(dict.fromkeys(process.gate.port for process in self._processes))
        kinds = itertools.cycle(itertools.product(("events", "socket"), ports))
        for visitor in self.all:
            if visitor.has_stream:
                kind, port = next(kinds)
                self._streaming.append(asyncio.create_task(self._listen(visitor, await _open(visitor, kind, port))))

    def close(self) -> None:
        for task in self._streaming:
            task.cancel()

    async def _watch(self, process: Process, visitor: Visitor) -> None:
        while await self.ask(process, visitor):
            if visitor.lived_on_s > PATIENCE_S:
                self.failures.append(f"still let in {PATIENCE_S:g} s after the revocation ({visitor.way})")
                return
            await asyncio.sleep(WATCH_S)

    async def _listen(self, visitor: Visitor, stream: Stream) -> None:
        try:
            while await stream.reader.read(4096):
                pass
        except ConnectionError:
            pass
        finally:
            stream.close()
        visitor.ended = time.monotonic()
        if not visitor.is_revoking:
            self.failures.append("the stream of a session that was not revoked has ended")


async def _open(visitor: Visitor, kind: str, port: int) -> Stream:
    target = f"/dashboard/{kind}"
    if kind == "socket":
        return await Stream.open(port, handshake(target, visitor.cookie), 101)
    return await Stream.open(port, request("GET", target, visitor.cookie), 200)
