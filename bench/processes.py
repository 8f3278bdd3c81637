"""Processes that the benchmark starts, each pinned to a core, and stops again by their ids."""

import os
import resource
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE_S = 20.0
STOP_S = 5.0
OPEN_FILES = 8192


class StartError(Exception):
    """A process did not come up; the message ends with what it said last."""


def cores() -> tuple[int, int]:
    """The proxy's core, and the one of the upstream and the load.  The same one twice on a machine with one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[min(1, len(usable) - 1)]


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """The command, bound to a core; it keeps its process id."""
    return ["taskset", "-c", str(core), *command]


def allow_many_files() -> None:
    """Let this process and those that it starts open files for 1,024 clients, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))


def stay_on(core: int) -> None:
    """Keep this process, which looks and counts, off the proxies' core."""
    os.sched_setaffinity(0, {core})


@contextmanager
def running(
    command: Sequence[str], *, core: int, port: int, log: Path, cwd: Path, environ: Mapping[str, str] | None = None
) -> Iterator[int]:
    """A process that listens on a port of 127.0.0.1; gives its id.  Its output goes to the file `log`.

    It is in a session of its own, so that Ctrl-C reaches the benchmark alone, which then stops it.  Raises StartError.
    """
    with log.open("ab") as output:  # appending goes on well after somebody has cut it down
        process = subprocess.Popen(
            pinned(core, command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, **(environ or {})},
            start_new_session=True,
        )
    try:
        wait_until_open(port, process, log)
        yield process.pid
    finally:
        stop(process)


def wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the port takes connections.  Raises StartError when the process ends before, or takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StartError(f"it ended with status {process.returncode}: {_last_lines(log)}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise StartError(f"it does not listen after {PATIENCE_S:.0f} s: {_last_lines(log)}")


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process: ask it, and insist after some seconds."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _last_lines(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-3:])
