"""A gate as it is run in earnest: `gatekeeper run` in a process of its own, with a SQLite store and one session."""

import asyncio
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gatekeeper.core.cookies import Keys, sign_value
from tests.better_auth_db import add_session, add_user, create_database

SECRET = "a-drill-secret-of-more-than-32-bytes-77aa"  # noqa: S105 - loopback only, made for drills
USER_ID = "drilluser"
TOKEN = "drilltoken0000000000000000000001"  # noqa: S105 - as above

CONFIG = """\
listen: 127.0.0.1:{port}
upstream: http://127.0.0.1:{upstream}
secret: {secret}
store: {store}
protect: [/dashboard]
log: {{access: false}}
"""
NO_ADMIN = "admin: {listen: null}\n"


@dataclass
class RunningGate:
    """A gate's port and process, its session's `Cookie` header field, its database, log and configuration files."""

    port: int
    process: asyncio.subprocess.Process
    cookie: str
    database: Path
    log: Path
    config: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def troubles(self) -> list[str]:
        """Lines of the log that should not be there whatever clients do."""
        marks = ("unforeseen", "Traceback", "CRITICAL", "never retrieved", "never awaited")
        return [line for line in self.log.read_text(errors="replace").splitlines() if any(m in line for m in marks)]


@asynccontextmanager
async def running_gate(upstream: int, more: str = NO_ADMIN, store: str | None = None) -> AsyncIterator[RunningGate]:
    """A gate in front of the app on port `upstream`; `more` are further settings.  Ended with the block.

    Its store is the SQLite file with one session, or the one at this URL.
    """
    with tempfile.TemporaryDirectory() as folder:
        database, log = Path(folder) / "auth.db", Path(folder) / "gate.log"
        _fill(database)
        port = free_port()
        config = Path(folder) / "config.yaml"
        store = store or f"sqlite:///{database}"
        config.write_text(CONFIG.format(port=port, upstream=upstream, secret=SECRET, store=store) + more)
        with log.open("wb") as output:
            command = [sys.executable, "-m", "gatekeeper", "run", "-c", str(config)]
            process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
        gate = RunningGate(port, process, cookie_of(TOKEN), database, log, config)
        try:
            await _until_open(gate)
            yield gate
        finally:
            if process.returncode is None:
                process.kill()  # a drill that wants to see it end has seen it
            await process.wait()


def accepts(more: str) -> bool:
    """Whether `gatekeeper check` accepts these further settings."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(CONFIG.format(port=8080, upstream=3000, secret=SECRET, store="sqlite:///auth.db") + more)
        command = [sys.executable, "-m", "gatekeeper", "check", "-c", str(config)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def cookie_of(token: str) -> str:
    """The `Cookie` header field of a session."""
    return f"Cookie: better-auth.session_token={sign_value(token, Keys([SECRET]))}"


def free_port() -> int:
    """A port that is free now, below those which the kernel gives to clients."""
    while True:
        port = random.randrange(15_000, 30_000)  # noqa: S311 - only to be free
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _fill(database: Path) -> None:
    now_ms = time.time_ns() // 1_000_000
    create_database(database)
    add_user(database, id=USER_ID)
    add_session(database, user_id=USER_ID, token=TOKEN, created_at_ms=now_ms, expires_at_ms=now_ms + 86_400_000)


async def _until_open(gate: RunningGate) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        except ConnectionError:
            if gate.process.returncode is not None or time.monotonic() > deadline:
                raise SystemExit(f"the gate did not start:\n{gate.log.read_text()}") from None
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
