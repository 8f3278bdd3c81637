"""The apps of deploy/examples, each run as its README says; ASGI apps by a server of our own."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gatekeeper.demo.run import find_free_port
from tests.integrations.gate import ISSUER

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "deploy" / "examples"
START_S = 240.0
"""Compiling Go's standard library for the first time takes the longest."""

ASGI = ["asgi_app.py", "fastapi_app.py"]
PYTHON = [*ASGI, "flask_app.py", "aiohttp_app.py", "django_app.py"]
OTHERS = ["node_app.mjs", "go_app.go"]

in_each_example = pytest.mark.parametrize("example", [*PYTHON, *OTHERS])


def free_port() -> int:
    return find_free_port("127.0.0.1", 0)


@asynccontextmanager
async def running(name: str, jwks: str, *, port: int | None = None, issuer: str = ISSUER) -> AsyncIterator[str]:
    """The URL of an example, once it says that it listens there.  `jwks` is where it finds the keys."""
    port = port or free_port()
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PORT": str(port)}
    environ |= {"GATEKEEPER_ISSUER": issuer, "GATEKEEPER_JWKS": jwks, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    process = await asyncio.create_subprocess_exec(
        *command_for(name, port),
        cwd=EXAMPLES,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = b""
    try:
        async with asyncio.timeout(START_S):
            while f"http://127.0.0.1:{port}".encode() not in said:
                line = await process.stdout.readline()
                assert line, f"{name} ended: {said.decode()}"
                said += line
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            os.killpg(process.pid, 15)  # `go run` starts what it compiled as a process of its own
        await process.communicate()


def command_for(name: str, port: int) -> list[str]:
    """How this example is started.  Skips the test where its language is missing."""
    if name in ASGI:
        serve = Path(__file__).parent / "serve_asgi.py"
        return [sys.executable, str(serve), str(EXAMPLES), name.removesuffix(".py"), str(port)]
    if name.endswith(".mjs"):
        return [_found("node", shutil.which("node")), name]
    if name.endswith(".go"):
        return [_found("go", go()), "run", name]
    return [sys.executable, name]


def go() -> str | None:
    """Go: the one that came with what tests need, or else whatever is on the path."""
    return shutil.which("go", path=Path(sys.executable).parent) or shutil.which("go")


def _found(program: str, path: str | None) -> str:
    if path is None:
        pytest.skip(f"{program} is missing")
    return path
