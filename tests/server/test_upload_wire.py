"""Uploads over real sockets: whoever ends early, and what comes behind a body, find the other side in order."""

import asyncio
from pathlib import Path

import pytest

from tests.attacks.judge import parse_responses
from tests.server.gates import RunningGate, running_gate
from tests.server.talks import exactly, talking_app
from tests.server.wire import Wire, head

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SIZE, BEGUN = 200_000, 50_000


def post(gate: RunningGate, size: int, *lines: str) -> bytes:
    return head("POST", "/up", gate.host, f"Content-Length: {size}", *lines, close=False).encode()


async def begun(gate: RunningGate) -> Wire:
    """A client that has sent a quarter of its body."""
    wire = await Wire.open(gate.port)
    wire.send(post(gate, SIZE) + b"x" * BEGUN)
    return wire


async def settled(gate: RunningGate, *, idle: int) -> None:
    """The app's connections are where they belong."""
    pool = gate.gate.runtime.upstreams[""]
    while pool.busy or pool.idle != idle:  # noqa: ASYNC110 - until the loop has seen it
        await asyncio.sleep(0)


async def test_an_answer_before_the_end_of_the_body_is_the_last_one(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire = await begun(gate)
        side, _ = await app.accept()
        await exactly(side, BEGUN)
        side.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        assert b"Connection: close\r\n" in await wire.until(b"\r\n\r\nno")
        wire.send(b"x" * (SIZE - BEGUN) + head("GET", "/next", gate.host).encode())
        assert await wire.rest() == b""
        assert b"/next" not in await side.rest()
        await settled(gate, idle=0)


async def test_an_answer_that_begins_before_the_end_of_the_body_goes_on(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire = await begun(gate)
        side, _ = await app.accept()
        await exactly(side, BEGUN)
        side.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        assert b"Connection: close\r\n" in await wire.until(b"ab\r\n")
        wire.send(b"x" * (SIZE - BEGUN))
        assert await exactly(side, SIZE - BEGUN) == b"x" * (SIZE - BEGUN)
        side.send("0\r\n\r\n")
        assert await wire.rest() == b"0\r\n\r\n"
        await settled(gate, idle=1)


@pytest.mark.parametrize("how", ["resets", "sends-no-more"])
async def test_a_client_that_leaves_amid_its_body_takes_the_apps_connection_along(database: Path, how: str) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire = await begun(gate)
        side, _ = await app.accept()
        await exactly(side, BEGUN)
        if how == "resets":
            wire.reset()
        else:
            wire.writer.write_eof()
        assert await side.rest() == b""
        await settled(gate, idle=0)
        wire.close()


async def test_an_app_that_leaves_amid_a_body(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire = await begun(gate)
        side, _ = await app.accept()
        await exactly(side, BEGUN)
        side.reset()
        assert (await wire.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
        await settled(gate, idle=0)
        wire.close()


async def test_requests_behind_long_bodies_are_answered_in_their_order(database: Path) -> None:
    size = 3_000_000
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire = await Wire.open(gate.port)
        for fill in (b"x", b"y"):
            wire.send(post(gate, size) + fill * size)
        wire.send(head("GET", "/next", gate.host))
        side, _ = await app.accept()
        assert await exactly(side, size) == b"x" * size
        side.send(OK)
        await side.until(b"\r\n\r\n")
        assert await exactly(side, size) == b"y" * size
        side.send(OK)
        assert (await side.until(b"\r\n\r\n")).startswith(b"GET /next ")
        side.send(OK)
        responses, rest = parse_responses(await wire.rest(), "GET")
        assert ([response.status for response in responses], rest) == ([200, 200, 200], b"")


async def test_a_body_that_waits_for_leave_has_an_end(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(post(gate, 5, "Expect: 100-continue"))
        assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(b"hello" + head("GET", "/next", gate.host).encode())
        side, _ = await app.accept()
        assert await exactly(side, 5) == b"hello"
        side.send(OK)
        assert (await side.until(b"\r\n\r\n")).startswith(b"GET /next ")
        side.send(OK)
        responses, rest = parse_responses(await wire.rest(), "GET")
        assert ([response.status for response in responses], rest) == ([200, 200], b"")
