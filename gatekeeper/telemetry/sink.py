"""Where lines go: a file or standard error, written by a thread of its own.

Whoever has lines hands them over and goes on; nobody waits for a disk or a terminal.  What is waiting to be written is
bounded: when it is too much, lines are dropped and counted.  Application and audit lines may fill a reserve that
access lines may not.  A file that was moved or removed is opened anew before the next write, so that rotation works.

Several processes may write to the same place.  A file takes their lines whole, since each write is an append; a pipe
that is full, or a terminal, would mix them, so there the processes take turns.
"""

import fcntl
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from gatekeeper.core.errors import GatekeeperError

LIMIT_BYTES = 8 * 1024 * 1024
RESERVE_BYTES = 8 * 1024 * 1024
STANDARD_ERROR = 2
CLOSE_S = 2.0
"""How long closing waits for what is left to be written."""

_BUSY_S = 0.01
_WAKE_BYTES = 128 * 1024
"""How much waits at most before the thread is woken: each time, it and the event loop take turns at the interpreter."""


class LogFileError(GatekeeperError):
    """The log file cannot be opened."""


class Sink:
    """Writes what is handed over, in order.  Without `path` to `descriptor`, standard error by default.

    Raises LogFileError when the file cannot be opened.  `dropped_lines` counts lines for which there was no room or
    no disk, `failures` the writes that failed.  The thread starts with the first line.  `turns` is a file descriptor
    that all processes have which write to the same place: the one that holds its lock may write.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        descriptor: int | None = None,
        limit_bytes: int = LIMIT_BYTES,
        reserve_bytes: int = RESERVE_BYTES,
        turns: int | None = None,
    ) -> None:
        self.dropped_lines = 0
        self.failures = 0
        self._path = path
        self._descriptor = STANDARD_ERROR if descriptor is None else descriptor
        self._limit = limit_bytes
        self._reserve = reserve_bytes
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._is_torn = False
        if path is not None:
            self._open(path)
        self._turns = None if stat.S_ISREG(os.fstat(self._descriptor).st_mode) else turns

    def __repr__(self) -> str:
        return f"<Sink {self._path or 'stderr'}, {self._waiting_bytes} bytes waiting>"

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads along."""
        return self._path is None and os.isatty(self._descriptor)

    def put(self, data: bytes, lines: int = 1, *, urgent: bool = False, more: bool = False) -> None:
        """Have these whole lines written, or drop them when too much is waiting.  From any thread; never waits.

        With `more`, others follow soon, or `push`: the thread need not be woken for these alone.
        """
        with self._changed:
            limit = self._limit + (self._reserve if urgent else 0)
            if self._closing or self._waiting_bytes + len(data) > limit:
                self.dropped_lines += lines
                return
            self._waiting.append((data, lines))
            self._waiting_bytes += len(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="gatekeeper-log", daemon=True)
                self._thread.start()
            if not more or self._waiting_bytes > _WAKE_BYTES:
                self._changed.notify_all()

    def push(self) -> None:
        """Have what is waiting written now."""
        with self._changed:
            self._changed.notify_all()

    def flush(self, timeout_s: float = CLOSE_S) -> bool:
        """Wait until nothing is waiting to be written; whether that came within the time given."""
        with self._changed:
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._waiting_bytes, timeout_s)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what is waiting, within the time given, and take no more."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)
        if self._path is not None and (self._thread is None or not self._thread.is_alive()):
            os.close(self._descriptor)
            self._path = None

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                batch = list(self._waiting)
                self._waiting.clear()
            data, lines = b"".join([data for data, _ in batch]), sum(lines for _, lines in batch)
            with self._turn():
                written = self._write(data)
            with self._changed:
                self._waiting_bytes -= len(data)
                if not written:
                    self.failures += 1
                    self.dropped_lines += lines
                self._changed.notify_all()

    @contextmanager
    def _turn(self) -> Generator[None]:
        """Let no other process write within the block.  The kernel ends the turn of one that dies."""
        if self._turns is None:
            yield
            return
        fcntl.lockf(self._turns, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._turns, fcntl.LOCK_UN)

    def _write(self, data: bytes) -> bool:
        """Whether it was written.  A line that was cut off by an error is ended before the next one."""
        if self._path is not None:
            self._follow(self._path)
        rest = memoryview(b"\n" + data if self._is_torn else data)
        self._is_torn = False
        length = len(rest)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # somebody made the terminal or pipe non-blocking
                time.sleep(_BUSY_S)
            except OSError:
                self._is_torn = len(rest) < length
                return False
        return True

    def _follow(self, path: Path) -> None:
        """Open the file anew if what stands at its path is another one.  If that fails, the old one goes on."""
        try:
            ours, there = os.fstat(self._descriptor), os.stat(path)
            if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
                return
        except OSError:
            pass
        before = self._descriptor
        try:
            self._open(path)
        except LogFileError:
            self.failures += 1
        else:
            os.close(before)

    def _open(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        except OSError as exc:
            raise LogFileError(f"cannot write the log to {path} (setting log.file): {exc.strerror or exc}") from exc
