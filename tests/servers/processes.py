"""Starting and stopping a server: found, given a folder of its own, waited for, ended by its process id."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self

START_S = 60.0


class Missing(Exception):
    """The program is not installed.  The message says what to do."""


class Server:
    """A server that can be stopped and started again on the same port with the same data.

    Subclasses say how it is called.  Everything it writes is in `folder`, which goes with `remove`.
    """

    program: str
    account: str
    """Whose it runs as, where the tests are run by root: databases refuse root."""

    stop_signal = signal.SIGTERM
    """What ends it in peace, although clients are connected."""

    ready_text: str
    """What it prints once it takes connections."""

    def __init__(self) -> None:
        self.path = find(self.program)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.program}-"))
        self.port = free_port()
        self._process: subprocess.Popen[str] | None = None
        if self._user is not None:
            shutil.chown(self.folder, self._user)

    def __enter__(self) -> Self:
        """It runs for the block, and is removed after it."""
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def _user(self) -> str | None:
        return self.account if os.geteuid() == 0 else None

    def command(self) -> list[str]:
        """What starts it, in the foreground."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What must be done once, before it is started for the first time."""

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        assert self._process is None
        self._process = process = subprocess.Popen(
            self.command(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            **self._as_user,
        )
        output = process.stdout
        assert output is not None
        deadline = threading.Timer(START_S, process.kill)
        deadline.start()
        lines = []
        for line in output:
            lines.append(line)
            if self.ready_text in line:
                break
        else:
            self._process = None
            process.wait()
            output.close()
            raise RuntimeError(f"{self.program} does not start:\n{''.join(lines[-20:])}")
        deadline.cancel()
        self._swallowing = threading.Thread(target=_swallow, args=(output,), daemon=True)
        self._swallowing.start()

    def stop(self, signal_number: int | None = None) -> None:
        """End it (in peace, without a signal) and wait for its end; nothing happens where it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal_number or self.stop_signal)
            process.wait()
            self._swallowing.join()

    def remove(self) -> None:
        """End it, with all that it wrote."""
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, command: Sequence[str]) -> None:
        """Run a command of the server's to its end.  RuntimeError with its last words where it fails."""
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **self._as_user
        )
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]} failed:\n{done.stdout[-2000:]}")

    @property
    def _as_user(self) -> dict[str, object]:
        if self._user is None:
            return {"cwd": self.folder}
        group = pwd.getpwnam(self._user).pw_gid
        return {"cwd": self.folder, "user": self._user, "group": group, "extra_groups": ()}


def find(program: str) -> str:
    """Where this program is.  Raises Missing."""
    places = [*sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True), "/usr/sbin", "/sbin"]
    found = shutil.which(program, path=os.pathsep.join([*places, os.environ.get("PATH", os.defpath)]))
    if found is None:
        raise Missing(f"{program} is not installed: `make test` does that as root on Debian")
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _swallow(output: IO[str]) -> None:
    with output:
        for _ in output:
            pass
