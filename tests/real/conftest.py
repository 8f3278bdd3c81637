"""The real better-auth, started for a test and stopped by its own process id."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from tests.server.gates import SECRET

HERE = Path(__file__).parent
HAS_NODE = shutil.which("node") is not None and (HERE / "node_modules" / "better-auth").is_dir()
START_S = 60.0

RealApp = Callable[..., AbstractAsyncContextManager[str]]


@asynccontextmanager
async def real_app(database: Path, *, production: bool = False, **options: object) -> AsyncIterator[str]:
    """The URL of a better-auth server on this SQLite file, with a small app beside it.

    In production cookies are Secure, and requests are limited by address.
    """
    given = json.dumps({"database": str(database), "secret": SECRET, **options})
    process = await asyncio.create_subprocess_exec(
        *("node", "server.mjs", given),
        cwd=HERE,
        env={**os.environ, "NODE_ENV": "production"} if production else None,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            line = await process.stdout.readline()
        assert line.startswith(b"READY "), f"better-auth did not start: {line!r}"
        yield f"http://127.0.0.1:{int(line.split()[1])}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@pytest.fixture(autouse=True)
def _needs_node() -> None:
    if not HAS_NODE:
        pytest.skip("Node.js or the npm packages of tests/real are missing: run `make test`")


async def run_node(script: str, *arguments: str) -> dict[str, object]:
    """Run a script of this folder and return the JSON that it prints."""
    process = await asyncio.create_subprocess_exec("node", script, *arguments, cwd=HERE, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(output)
