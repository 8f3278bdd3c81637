"""The supervisor: the process that was started, where `workers` is more than one.

It binds the listener's sockets and holds them, owns the admin listener, and has a crew of workers run.  It serves no
request, and imports nothing of what does: it must outlive whatever happens there.  Signal handlers only enqueue; the
loop acts.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing

from gatekeeper.config.schema import Settings
from gatekeeper.core.errors import GatekeeperError
from gatekeeper.server.assertion_keys import open_keys
from gatekeeper.server.logs import open_configured_log
from gatekeeper.telemetry.log import Log, loggers_to
from gatekeeper.telemetry.telemetry import Telemetry
from gatekeeper.workers.admin import serve_supervisor_admin
from gatekeeper.workers.board import make_board
from gatekeeper.workers.channel import Drain, Stop
from gatekeeper.workers.crew import Crew
from gatekeeper.workers.sockets import bind_for

logger = logging.getLogger("gatekeeper")

GRACE_S = 5.0
"""How much longer than it was allowed a worker may take to end before it is killed."""

_AT_ONCE_S = 3.0
_REAP_S = 5.0

Signals = asyncio.Queue[signal.Signals]


class StartFailed(GatekeeperError):
    """No worker could begin to serve."""


def run_workers(settings: Settings, workers: int, platform: str = sys.platform) -> bool:
    """Run the gate as so many workers until a signal ends it; whether all of them ended in order.

    Raises GatekeeperError: where this platform cannot, where log or listener cannot be had, and StartFailed.
    """
    if platform != "linux":
        raise GatekeeperError("several workers need Linux (SO_REUSEPORT, memfd): set workers to 1")
    board = make_board(workers)
    log = open_configured_log(settings, turns=board)
    with closing(log), loggers_to(log, settings.log.level):
        return asyncio.run(supervise(settings, workers, board, log))


async def supervise(settings: Settings, workers: int, board: int, log: Log) -> bool:
    """Run the gate as so many workers until a signal ends it; whether all of them ended in order.

    `board` is the file descriptor of `make_board`.  Raises ListenError and KeysUnusable, and StartFailed with what a
    worker said.
    """
    signals: Signals = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, signals.put_nowait, name)
    telemetry = Telemetry(log)
    keys = open_keys(settings, time.time_ns() // 1_000_000)
    sockets = await bind_for(settings.listen, workers)
    try:
        addresses = sockets.addresses("http" if settings.tls is None else "https")
        crew = Crew(settings, workers, sockets, board, telemetry, keys)
        loop.add_signal_handler(signal.SIGCHLD, crew.reap)

        async with serve_supervisor_admin(settings.admin.listen, crew) as admin, _running(crew) as everybody:

            def announce(_: object) -> None:
                front = f"{', '.join(addresses)} in front of {settings.upstream.url}"
                logger.info("listening on %s with %d workers, supervised by pid %d", front, workers, os.getpid())
                telemetry.audit("started", listen=addresses, admin=admin, workers=workers)

            crew.all_ready.add_done_callback(announce)
            received = await _first_signal(crew, everybody, signals)
            telemetry.audit("drain_started")
            logger.info("%s: finishing what is in flight; once more to stop at once", received.name)
            is_soon = received is signal.SIGINT or not crew.has_served
            delay_s = 0 if is_soon else settings.timeouts.drain_delay
            await _end(crew, everybody, signals, Drain(delay_s, settings.timeouts.drain))
        return crew.in_order
    finally:
        sockets.close()
        telemetry.close()


@asynccontextmanager
async def _running(crew: Crew) -> AsyncGenerator[asyncio.Future[list[None]]]:
    """The crew at work, and what is done when each worker has ended for good.  Whoever is left is killed at the end."""
    keeping = [asyncio.create_task(crew.keep(number)) for number in range(1, crew.size + 1)]
    counting = asyncio.create_task(crew.count_regularly())
    everybody = asyncio.gather(*keeping)
    try:
        yield everybody
    finally:
        crew.kill()
        counting.cancel()
        await asyncio.wait((counting, *keeping), timeout=_REAP_S)


async def _first_signal(crew: Crew, everybody: asyncio.Future[list[None]], signals: Signals) -> signal.Signals:
    """Wait for a signal.  Raises StartFailed, and whatever a task raised that keeps a worker running."""
    received = asyncio.create_task(signals.get())
    await asyncio.wait((received, everybody, crew.failed), return_when=asyncio.FIRST_COMPLETED)
    if received.done():
        return received.result()
    received.cancel()
    if crew.failed.done():
        raise StartFailed(crew.failed.result())
    await everybody
    raise StartFailed("every worker has ended")


async def _end(crew: Crew, everybody: asyncio.Future[list[None]], signals: Signals, drain: Drain) -> None:
    """Have all workers drain; a further signal ends them at once, and so does time."""
    again = asyncio.create_task(signals.get())
    crew.tell(drain)
    allowed_s = drain.delay_s + drain.limit_s + GRACE_S
    await asyncio.wait((everybody, again), timeout=allowed_s, return_when=asyncio.FIRST_COMPLETED)
    if again.done():
        crew.tell(Stop())
        await asyncio.wait((everybody,), timeout=_AT_ONCE_S)
    again.cancel()
    if not everybody.done():
        logger.warning("not every worker has ended in time; who is left is killed")
