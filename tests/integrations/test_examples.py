"""Every example of deploy/examples, run as its README says, beside a gate's keys; ASGI apps by a server of our own."""

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gatekeeper.demo.run import find_free_port
from tests.integrations.gate import ISSUER, STRANGER, KeysServer, claims, header, keys_server, mint

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "deploy" / "examples"
START_S = 120.0
"""Compiling Go's standard library for the first time takes the longest."""

ASGI = ["asgi_app.py", "fastapi_app.py"]
PYTHON = [*ASGI, "flask_app.py", "aiohttp_app.py", "django_app.py"]
OTHERS = ["node_app.mjs", "go_app.go"]


def go() -> str | None:
    """Go: from the path, where its own archive puts it, or the benchmark's."""
    return shutil.which("go") or shutil.which("go", path=f"/usr/local/go/bin:{ROOT / '.venv-bench' / 'bin'}")


def command_for(name: str, port: int) -> list[str]:
    if name.endswith(".mjs"):
        return ["node", name]
    if name.endswith(".go"):
        return [str(go()), "run", name]
    if name in ASGI:
        serve = Path(__file__).parent / "serve_asgi.py"
        return [sys.executable, str(serve), str(EXAMPLES), name.removesuffix(".py"), str(port)]
    return [sys.executable, name]


@asynccontextmanager
async def running(name: str, keys: KeysServer) -> AsyncIterator[str]:
    """The URL of an example, once it says that it listens there."""
    port = find_free_port("127.0.0.1", 0)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PORT": str(port)}
    environ |= {"GATEKEEPER_ISSUER": ISSUER, "GATEKEEPER_JWKS": keys.url}
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
        yield f"http://127.0.0.1:{port}/"
    finally:
        if process.returncode is None:
            os.killpg(process.pid, 15)  # `go run` starts what it compiled as a process of its own
        await process.communicate()


@pytest.fixture(params=[*PYTHON, *OTHERS])
async def example(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, KeysServer]]:
    name = request.param
    if name.endswith(".mjs") and shutil.which("node") is None:
        pytest.skip("Node.js is missing")
    if name.endswith(".go") and go() is None:
        pytest.skip("Go is missing")
    with keys_server() as keys:
        async with running(name, keys) as url:
            yield url, keys


async def test_example_greets_the_user_and_nobody_else(example: tuple[str, KeysServer]) -> None:
    url, keys = example
    now = int(time.time())
    times = {"iat": now, "nbf": now - 30, "exp": now + 120}
    right = mint(claims(**times))
    no_signature = right.rpartition(".")[0] + "."
    refused = {
        "none": no_signature,
        "unsigned": mint(claims(**times), header(alg="none")).rpartition(".")[0] + ".",
        "other-key": mint(claims(**times), key=STRANGER),
        "unknown-key": mint(claims(**times), header(kid="key-2"), key=STRANGER),
        "typ": mint(claims(**times), header(typ="JWT")),
        "expired": mint(claims(iat=now - 900, nbf=now - 930, exp=now - 780)),
        "not-yet": mint(claims(iat=now, nbf=now + 900, exp=now + 1000)),
        "aud": mint(claims(**times, aud="gatekeeper:billing")),
        "aud-list": mint(claims(**times, aud=[ISSUER])),
        "iss": mint(claims(**times, iss="https://evil.test")),
        "text": "hello",
    }
    async with aiohttp.ClientSession() as client:
        greeting = await client.get(url, headers={"X-Auth-Assertion": right})
        assert (greeting.status, await greeting.text()) == (200, "Hello user_1")
        for name, assertion in refused.items():
            reply = await client.get(url, headers={"X-Auth-Assertion": assertion})
            assert (name, reply.status) == (name, 401)
            assert "Hello" not in await reply.text()
        twice = [("X-Auth-Assertion", right), ("X-Auth-Assertion", right)]
        assert (await client.get(url, headers=twice)).status == 401
        assert (await client.get(url, headers={"X-Auth-User-Id": "user_1"})).status == 401
        assert (await client.get(url)).status == 401
        assert (await client.get(url, headers={"X-Auth-Assertion": right})).status == 200
    assert keys.asked <= 2  # an unknown key is sought once


def test_every_example_is_in_the_readme_and_here() -> None:
    there = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".mjs", ".go")}
    assert there == {*PYTHON, *OTHERS}
    readme = (EXAMPLES / "README.md").read_text()
    assert all(f"[{name}]({name})" in readme for name in there)
