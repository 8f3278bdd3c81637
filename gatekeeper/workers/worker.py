"""A worker's process: it is told everything over its channel, and serves until it is told to end.

It ignores the signals that end a gate: a service manager sends them to every process, and the supervisor decides.  When
the supervisor is gone, which the end of the channel shows, the worker closes its listener at once, so that another
gate may have the port, finishes what is in flight, and ends.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import closing

import msgspec
import uvloop

from gatekeeper import __version__
from gatekeeper.config.schema import Settings
from gatekeeper.core.errors import GatekeeperError
from gatekeeper.server.app import Served, serve, spare_the_collector, wants_fast_lane
from gatekeeper.server.logs import open_configured_log
from gatekeeper.server.share import Share
from gatekeeper.telemetry.exposition import Exposition
from gatekeeper.telemetry.log import Log, loggers_to
from gatekeeper.workers.board import WorkerBoard
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
    Stop,
    encode,
    receive_begin,
)
from gatekeeper.workers.scheduling import ask_for_longer_turns

LET_GO_S = 1.0
"""How long to wait for the supervisor to let go of the listener."""

_LAST_WORDS_S = 1.0


def main(arguments: Sequence[str]) -> int:
    """Be the worker that the channel tells of; the exit status.  `arguments` begin with the channel's descriptor."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    channel = socket.socket(fileno=int(arguments[0]))
    try:
        begin = receive_begin(channel)
    except EOFError:
        return 1
    try:
        _run(begin, channel)
    except GatekeeperError as error:
        channel.setblocking(True)
        channel.sendall(encode(Failed(str(error))))
        return 1
    return 0


def _run(begin: Begin, channel: socket.socket) -> None:
    if begin.version != __version__:
        raise GatekeeperError(f"gatekeeper {begin.version} runs, but {__version__} is installed now: restart it")
    settings = msgspec.msgpack.decode(begin.settings, type=Settings)
    ask_for_longer_turns()
    log = open_configured_log(settings, turns=begin.board)
    with closing(log), loggers_to(log, settings.log.level):
        for handler in logging.getLogger().handlers:
            handler.addFilter(_Naming(begin.worker))
        uvloop.run(_Worker(begin, channel).run(settings, log))


class _Naming(logging.Filter):
    """Says in each message which worker it is from."""

    def __init__(self, worker: int) -> None:
        super().__init__()
        self._prefix = f"worker {worker}: "

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = self._prefix + str(record.msg)
        return True


class _Worker:
    """One worker's conversation with its supervisor."""

    def __init__(self, begin: Begin, sock: socket.socket) -> None:
        self._begin = begin
        self._sock = sock
        self._channel: Channel[Order] = Channel(Order, self._on_order, self._on_end)
        self._endings: asyncio.Queue[Drain | Stop | None] = asyncio.Queue()
        self._let_gone = asyncio.Event()
        self._is_alone = asyncio.Event()
        self._served: Served | None = None
        self._exposition: Exposition | None = None
        self._checking: set[asyncio.Task[None]] = set()

    async def run(self, settings: Settings, log: Log) -> None:
        """Serve until told to end, or until there is no supervisor."""
        self._sock.setblocking(False)  # of a copy of it, as it is still needed where this fails
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self._channel, self._sock.dup())
        begin = self._begin
        sockets = tuple(socket.socket(fileno=descriptor) for descriptor in begin.listeners)
        board = WorkerBoard(begin.board, begin.workers, begin.worker - 1)
        share = Share(begin.worker, sockets, self._let_go, board, begin.keys)
        async with serve(settings, log, share, fast_lane=wants_fast_lane(os.environ)) as served:
            self._served, self._exposition = served, Exposition(served.telemetry)
            spare_the_collector()
            self._channel.send(Ready())
            await self._until_ended(served, settings.timeouts.drain)
            self._count()
        await self._say_no_more()

    async def _until_ended(self, served: Served, limit_s: float) -> None:
        """Serve until told to end, then end as told.  A drain goes on when the supervisor leaves, and ends by Stop."""
        ending = await self._endings.get()
        if isinstance(ending, Stop):
            return
        drain = ending if ending is not None else Drain(0, limit_s)
        stopping = asyncio.create_task(served.stop(delay_s=drain.delay_s, limit_s=drain.limit_s))
        while not stopping.done():
            further = asyncio.create_task(self._endings.get())
            await asyncio.wait((stopping, further), return_when=asyncio.FIRST_COMPLETED)
            if further.done() and isinstance(further.result(), Stop):
                stopping.cancel()
                await asyncio.wait((stopping,))
            further.cancel()
        if not stopping.cancelled():
            stopping.result()

    async def _let_go(self) -> None:
        """Have the supervisor close its copies of the listener; where there is none, that has happened."""
        self._channel.send(LetGo())
        waiting = [asyncio.create_task(event.wait()) for event in (self._let_gone, self._is_alone)]
        await asyncio.wait(waiting, timeout=LET_GO_S, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    def _on_order(self, order: Order) -> None:
        match order:
            case Drain() | Stop():
                self._endings.put_nowait(order)
            case Count():
                self._count()
            case Check():
                task = asyncio.get_running_loop().create_task(self._check())
                self._checking.add(task)
                task.add_done_callback(self._checking.discard)
            case LetGone():
                self._let_gone.set()
            case Begin():
                raise TypeError("a worker begins once")

    def _on_end(self) -> None:
        self._is_alone.set()
        self._endings.put_nowait(None)

    def _count(self) -> None:
        if self._exposition is not None:
            self._channel.send(Counted(tuple(self._exposition.families())))

    async def _check(self) -> None:
        if self._served is not None:
            self._channel.send(Checked(tuple(await self._served.health.problems())))

    async def _say_no_more(self) -> None:
        """Send what is still to be sent."""
        for task in self._checking:
            task.cancel()
        self._channel.close()
        await asyncio.wait((asyncio.create_task(self._is_alone.wait()),), timeout=_LAST_WORDS_S)
