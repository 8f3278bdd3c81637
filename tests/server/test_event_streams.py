"""Event streams belong to their session, as WebSockets do."""

import asyncio
from pathlib import Path

import pytest

from tests.attacks.judge import parse_responses
from tests.server.conftest import TOKEN
from tests.server.gates import COOKIE, RunningGate, cookie_value, running_gate
from tests.server.talks import Talks, talking_app
from tests.server.wire import Wire, head

SIGNED_IN = f"Cookie: {COOKIE}={cookie_value(TOKEN)}"
EVENTS = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{}\r\n"
CHUNKED = EVENTS.format("Transfer-Encoding: chunked\r\n")


async def streaming(
    gate: RunningGate, app: Talks, answer: str, *lines: str, target: str = "/dashboard/events", version: str = "1.1"
) -> tuple[Wire, Wire, bytes]:
    """The client's and the app's side of an answer that has begun, and what the client got of it."""
    wire = await Wire.open(gate.port)
    wire.send(head("GET", target, gate.host, *lines, close=False).replace("HTTP/1.1", f"HTTP/{version}"))
    side, _ = await app.accept()
    side.send(answer)
    return wire, side, await wire.until(b"\r\n\r\n")


@pytest.mark.parametrize("framing", ["", "Transfer-Encoding: chunked\r\n"])
async def test_a_stream_ends_with_its_session_and_looks_unfinished(database: Path, framing: str) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire, side, begun = await streaming(gate, app, EVENTS.format(framing), SIGNED_IN)
        assert gate.served.streams.count == 1
        side.send("9\r\ndata: a\n\n\r\n" if framing else "data: a\n\n")
        begun += await wire.until(b"data: a\n\n\r\n")
        gate.served.streams.cut_session(TOKEN)
        assert gate.served.streams.count == 0
        (response,), _ = parse_responses(begun + await wire.rest(), "GET")
        assert (response.body, response.complete) == (b"data: a\n\n", False)
        assert await side.rest() == b""


async def test_a_stream_for_http_1_0_ends_with_its_connection(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire, side, begun = await streaming(gate, app, CHUNKED, SIGNED_IN, version="1.0")
        assert b"Transfer-Encoding" not in begun
        side.send("9\r\ndata: a\n\n\r\n")
        assert await wire.until(b"a\n\n") == b"data: a\n\n"
        gate.served.streams.cut_session(TOKEN)
        assert await wire.rest() == b""
        assert await side.rest() == b""


async def test_another_session_and_none_are_left_alone(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire, side, _ = await streaming(gate, app, CHUNKED, target="/public/events")
        assert gate.served.streams.count == 1
        gate.served.streams.cut_session(TOKEN)
        side.send("9\r\ndata: a\n\n\r\n0\r\n\r\n")
        assert await wire.until(b"0\r\n\r\n") == b"9\r\ndata: a\n\n\r\n0\r\n\r\n"
        assert gate.served.streams.count == 0
        wire.send(head("GET", "/next", gate.host))  # a stream that ended keeps its connections
        await side.until(b"\r\n\r\n")
        side.send("HTTP/1.1 204 No Content\r\n\r\n")
        assert (await wire.rest()).startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(EVENTS.format("Content-Length: 100\r\n"), id="of-a-known-length"),
        pytest.param(CHUNKED.replace("text/event-stream", "application/json"), id="no-events"),
    ],
)
async def test_what_ends_by_itself_is_no_stream(database: Path, answer: str) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire, side, _ = await streaming(gate, app, answer, SIGNED_IN)
        assert gate.served.streams.count == 0
        side.close()
        await wire.rest()


@pytest.mark.parametrize("leaver", ["client", "app"])
async def test_a_stream_whose_side_leaves_is_forgotten(database: Path, leaver: str) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire, side, _ = await streaming(gate, app, CHUNKED, SIGNED_IN)
        leaves, stays = (wire, side) if leaver == "client" else (side, wire)
        leaves.reset()
        assert await stays.rest() == b""
        while gate.served.streams.count:  # noqa: ASYNC110 - until the loop has seen it
            await asyncio.sleep(0)
