"""Every example of deploy/examples, beside a gate's keys."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest

from gatekeeper.server.documents import session_document, user_document
from tests.integrations.examples import EXAMPLES, OTHERS, PYTHON, running
from tests.integrations.gate import ISSUER, RECORD, STRANGER, KeysServer, claims, header, keys_server, mint

NAME = "X-Auth-Assertion"


@pytest.fixture(params=[*PYTHON, *OTHERS])
async def example(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, KeysServer]]:
    with keys_server() as keys:
        async with running(request.param, keys.url) as url:
            yield url, keys


async def test_example_greets_the_user_and_nobody_else(example: tuple[str, KeysServer]) -> None:
    url, keys = example
    now = int(time.time())
    times = {"iat": now, "nbf": now - 30, "exp": now + 120}
    right = mint(claims(**times))
    refused = {
        "none": right.rpartition(".")[0] + ".",
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

        async def ask(path: str, *lines: tuple[str, str]) -> tuple[int, str]:
            async with client.get(url + path, headers=list(lines)) as reply:
                return reply.status, await reply.text()

        # The first requests come together: all of them wait for the same keys.
        first = await asyncio.gather(*(ask("/dashboard", (NAME, right)) for _ in range(10)))
        assert set(first) == {(200, "Hello user_1")}
        assert await ask("/", (NAME, right)) == (200, "Hello user_1")
        nobody: dict[str, list[tuple[str, str]]] = {name: [(NAME, value)] for name, value in refused.items()}
        nobody |= {"twice": [(NAME, right)] * 2, "plain": [("X-Auth-User-Id", "user_1")], "nothing": []}
        for name, lines in nobody.items():
            assert (name, *await ask("/", *lines)) == (name, 200, "Hello nobody")
            for path in ("/dashboard", "/api/me"):
                status, text = await ask(path, *lines)
                assert (name, status, json.loads(text)["error"]) == (name, 401, "Unauthorized")
        document = {"user": user_document(RECORD.user), "session": session_document(RECORD.session)}
        status, text = await ask("/api/me", (NAME, right))
        assert (status, json.loads(text)) == (200, document)
    assert keys.asked <= 2  # an unknown key is sought once


def test_every_example_is_in_the_readme_and_here() -> None:
    there = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".mjs", ".go")}
    assert there == {*PYTHON, *OTHERS}
    readme = (EXAMPLES / "README.md").read_text()
    assert all(f"[{name}]({name})" in readme for name in there)
