"""One worker as its supervisor sees it: a process, a channel, and what it said last."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

from gatekeeper.telemetry.families import Family
from gatekeeper.workers.channel import (
    Channel,
    Check,
    Checked,
    Count,
    Counted,
    Failed,
    LetGo,
    LetGone,
    Order,
    Ready,
    Report,
)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class WorkerProcess:
    """A worker that was started.  `ended` is done with its exit status once it was reaped, as `Popen` gives it.

    `is_ready` is whether it serves; `failure` why it could not begin; `families` what it had counted when it was asked
    last.  `on_ready` and `on_let_go` are called when it says so.
    """

    def __init__(
        self,
        number: int,
        process: subprocess.Popen[bytes],
        *,
        on_ready: Callable[["WorkerProcess"], None],
        on_let_go: Callable[["WorkerProcess"], None],
    ) -> None:
        self.number = number
        self.pid = process.pid
        self.is_ready = False
        self.failure: str | None = None
        self.families: tuple[Family, ...] = ()
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.channel: Channel[Report] = Channel(Report, self._on_report, self._on_channel_end)
        self._process = process
        self._on_ready = on_ready
        self._on_let_go = on_let_go
        self._counting: asyncio.Future[None] | None = None
        self._checking: asyncio.Future[None] | None = None
        self._problems: tuple[str, ...] = ()
        self._is_silent = False

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.number}, pid {self.pid}>"

    def order(self, order: Order) -> None:
        """Tell it what to do."""
        self.channel.send(order)

    async def count(self, within_s: float) -> None:
        """Bring `families` up to date, if it answers in time."""
        if self._counting is None:
            self._counting = asyncio.get_running_loop().create_future()
            self.channel.send(Count())
        await asyncio.wait({self._counting}, timeout=within_s)

    async def check(self, within_s: float) -> tuple[str, ...]:
        """Why requests should not be sent to it, or nothing."""
        if self._checking is None:
            self._checking = asyncio.get_running_loop().create_future()
            self.channel.send(Check())
        answered, _ = await asyncio.wait({self._checking}, timeout=within_s)
        return self._problems if answered else (f"no answer within {within_s:g} s",)

    def kill(self) -> None:
        """End it at once, whatever it does; nothing happens to one that was reaped."""
        self._process.kill()

    def reap(self) -> None:
        """Take note of its end, if it has ended; `ended` is done once all that it said was heard, too."""
        if self._process.poll() is not None:
            self._settle()

    def _on_report(self, report: Report) -> None:
        match report:
            case Ready():
                self.is_ready = True
                self._on_ready(self)
            case Failed(message):
                self.failure = message
            case Counted(families):
                self.families = families
                self._counting = _done(self._counting)
            case Checked(problems):
                self._problems = problems
                self._checking = _done(self._checking)
            case LetGo():
                self._on_let_go(self)
                self.channel.send(LetGone())

    def _on_channel_end(self) -> None:
        self._counting = _done(self._counting)
        self._checking = _done(self._checking)
        self._is_silent = True
        self._settle()

    def _settle(self) -> None:
        status = self._process.returncode
        if self._is_silent and status is not None and not self.ended.done():
            self.ended.set_result(status)


def spawn(number: int, inherited: tuple[int, ...]) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A new interpreter that becomes worker `number`, and the supervisor's end of the channel to it.  Raises OSError.

    It has the file descriptors `inherited`, and a session of its own, so that Ctrl-C and a terminal's end reach the
    supervisor alone.  It begins with the signals blocked that it will ignore: its orders come over the channel.
    """
    ours, theirs = socket.socketpair()
    command = [*_interpreter(), "-m", "gatekeeper.workers", str(theirs.fileno()), f"worker={number}"]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(), *inherited), start_new_session=True
        )
    except OSError:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    ours.setblocking(False)
    return process, ours


def describe_status(status: int) -> str:
    """How a process ended: `SIGKILL` or `exit status 1`."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _interpreter() -> list[str]:
    """Our Python, which finds its modules where this one does: not in the working directory, unless this one does."""
    if sys.flags.isolated:
        return [sys.executable, "-I"]
    try:
        looks_here = "" in sys.path or os.getcwd() in sys.path
    except OSError:  # the folder is gone
        looks_here = False
    return [sys.executable] if looks_here else [sys.executable, "-P"]


def _done(waiting: asyncio.Future[None] | None) -> asyncio.Future[None] | None:
    """Have everybody go on who waits for this answer; nobody waits for the next one yet."""
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
    return None
