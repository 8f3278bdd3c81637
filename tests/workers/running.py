"""A gate of several workers as a person runs it: `gatekeeper run` in a process of its own.

Whatever is waited for is an event: a line of the log, an answer, the end of a process.  Nothing sleeps.
"""

import asyncio
import fcntl
import json
import os
import re
import select
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.attacks.judge import Response
from tests.server.gates import FOUR_LINES, SECRET
from tests.server.wire import ask

PATIENCE_S = 60.0
_READY = re.compile(r"worker (\d+) \(pid (\d+)\) is ready")
_LISTENING = re.compile(r"listening on (\S+) in front of \S+ with (\d+) workers, supervised by pid (\d+)")

MORE = """\
workers: {workers}
admin: {{listen: '127.0.0.1:0'}}
timeouts: {{drain_delay: 0s, drain: 20s}}
"""


class Gate:
    """The process, what its log said so far, and which process is which worker now."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.pids: dict[int, int] = {}
        self.lines: list[dict[str, Any]] = []
        self.other_output: list[str] = []
        self.port = 0
        self.admin_port = 0

    @property
    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines if line["kind"] == "log"]

    async def line(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next line of the log that is wanted."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            while raw := await self.process.stderr.readline():
                line = self._take(raw)
                if line is not None and wanted(line):
                    return line
        raise AssertionError(f"the gate ended without it:\n{self.messages}\n{self.other_output}")

    async def message(self, part: str) -> str:
        """The next message in the log that holds this text."""
        line = await self.line(lambda line: part in line.get("message", ""))
        message: str = line["message"]
        return message

    async def until_listening(self) -> None:
        found = _LISTENING.search(await self.message("listening on"))
        assert found is not None
        assert int(found[3]) == self.process.pid
        self.port = int(found[1].rpartition(":")[2]) if "://" in found[1] else 0
        admin = (await self.line(lambda line: line.get("event") == "started"))["admin"]
        self.admin_port = int(admin.rpartition(":")[2])

    async def restarted(self, worker: int) -> None:
        """Wait until this worker's successor is ready."""
        before = self.pids[worker]
        while self.pids[worker] == before:
            await self.message(f"worker {worker} (pid ")

    async def end(self) -> int:
        """The exit status, once the gate and its log have ended."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            while raw := await self.process.stderr.readline():
                self._take(raw)
            return await self.process.wait()

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.end()

    async def admin(self, path: str) -> Response:
        return await ask(self.admin_port, "GET", path)

    async def ready(self) -> tuple[int, list[str]]:
        """Status and problems of /readyz."""
        answer = await self.admin("/readyz")
        return answer.status, json.loads(answer.body).get("problems", [])

    async def metrics(self) -> dict[str, float]:
        """The samples of /metrics, by name and labels as they are written."""
        text = (await self.admin("/metrics")).body.decode()
        samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def _take(self, raw: bytes) -> dict[str, Any] | None:
        try:
            line: dict[str, Any] = json.loads(raw)
        except ValueError:
            self.other_output.append(raw.decode())
            return None
        self.lines.append(line)
        found = _READY.match(line.get("message", ""))
        if found is not None:
            self.pids[int(found[1])] = int(found[2])
        return line


class Watch:
    """Notices the end of a process that is not ours to wait for."""

    def __init__(self, pid: int) -> None:
        self._descriptor = os.pidfd_open(pid)

    @property
    def has_ended(self) -> bool:
        return bool(select.select([self._descriptor], [], [], 0)[0])

    async def end(self) -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._descriptor, ended.set)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await ended.wait()
        finally:
            loop.remove_reader(self._descriptor)
            os.close(self._descriptor)


def write_config(database: Path, upstream: str, more: str = "", workers: int = 2, listen: str = "127.0.0.1:0") -> Path:
    """A configuration file beside the database; `more` replaces sections of the same name."""
    text = FOUR_LINES.replace("127.0.0.1:0", listen).format(upstream=upstream, secret=SECRET, database=database)
    for line in MORE.format(workers=workers).splitlines():
        text += "" if f"\n{line.partition(':')[0]}:" in f"\n{more}" else f"{line}\n"
    path = database.with_name("config.yaml")
    path.write_text(text + more)
    return path


async def start(config: Path, environ: dict[str, str] | None = None) -> Gate:
    command = [sys.executable, "-m", "gatekeeper", "run", "-c", str(config)]
    process = await asyncio.create_subprocess_exec(
        *command, stderr=asyncio.subprocess.PIPE, limit=2**20, env={**os.environ, **(environ or {})}
    )
    return Gate(process)


class Hold:
    """Has each new interpreter wait at its very start while it is on."""

    def __init__(self, folder: Path) -> None:
        self._lock = (folder / "hold").open("w")
        (folder / "hold.d").mkdir()
        code = f"import fcntl\nfcntl.flock(open({self._lock.name!r}), fcntl.LOCK_SH)\n"
        (folder / "hold.d" / "sitecustomize.py").write_text(code)
        path = [str(folder / "hold.d"), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environ = {"PYTHONPATH": os.pathsep.join(path)}

    def begin(self) -> None:
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def release(self) -> None:
        self._lock.close()


@asynccontextmanager
async def workers(config: Path, environ: dict[str, str] | None = None) -> AsyncIterator[Gate]:
    """A gate that listens, all of its workers ready.  Killed at the end, if it is still there."""
    gate = await start(config, environ)
    watches: list[Watch] = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            await gate.until_listening()
            yield gate
    finally:
        if gate.process.returncode is None:
            watches = [Watch(pid) for pid in gate.pids.values() if Path(f"/proc/{pid}").exists()]
            gate.process.kill()
        await gate.end()
        for watch in watches:
            await watch.end()
