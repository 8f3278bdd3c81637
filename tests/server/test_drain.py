"""Stopping: what is in flight ends, who waits is told, nobody new is let in, and it takes no longer than the limit."""

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from gatekeeper.core.websocket import close_frame
from gatekeeper.server import drain as drain_module
from tests.attacks.judge import parse_responses
from tests.core.test_websocket import frame
from tests.server.conftest import TOKEN
from tests.server.gates import COOKIE, RunningGate, cookie_value, running_gate
from tests.server.talks import exactly, opened, talking_app
from tests.server.wire import Wire, head

SIGNED_IN = f"Cookie: {COOKIE}={cookie_value(TOKEN)}"
OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LONG_S = 50.0
"""Longer than any test waits: who ends by then ended by itself."""


async def draining(gate: RunningGate, limit_s: float = LONG_S) -> asyncio.Task[None]:
    """Begin to stop the gate; its listener is closed then."""
    stopping = asyncio.ensure_future(gate.served.stop(delay_s=0, limit_s=limit_s))
    while not gate.served.server.draining or gate.served._listener._servers:  # noqa: ASYNC110 - until it has begun
        await asyncio.sleep(0)
    return stopping


async def test_a_request_in_flight_ends_and_is_the_last(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("GET", "/slow", gate.host, close=False))
        side, _ = await app.accept()
        stopping = await draining(gate)
        side.send(OK)
        (response,), rest = parse_responses(await wire.rest(), "GET")
        await stopping
    assert (response.status, response.body, response.values("connection")) == (200, b"ok", ["close"])
    assert rest == b""


async def test_a_body_in_flight_ends_in_both_directions(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("POST", "/up", gate.host, "Content-Length: 40000", close=False) + "x" * 20_000)
        side, _ = await app.accept()
        stopping = await draining(gate)
        wire.send("x" * 20_000)
        assert await exactly(side, 40_000) == b"x" * 40_000
        side.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await wire.until(b"a\r\n")
        side.send("1\r\nb\r\n0\r\n\r\n")
        assert await wire.rest() == b"1\r\nb\r\n0\r\n\r\n"
        await stopping


async def test_what_the_gate_answers_itself_is_the_last_too(database: Path, tmp_path: Path) -> None:
    """The session store is asked while the gate begins to stop."""
    asked, go_on = asyncio.Event(), asyncio.Event()
    async with talking_app() as app, running_gate(app.url, database) as gate:
        sessions = gate.gate.runtime.sessions
        get = sessions.get

        async def slowly(token: str, client_address: str | None = None) -> object:
            asked.set()
            await go_on.wait()
            return await get(token, client_address)  # type: ignore[arg-type]

        sessions.get = slowly  # type: ignore[assignment,method-assign]
        wire = await Wire.open(gate.port)
        unknown = f"Cookie: {COOKIE}={cookie_value('nobody-has-this')}"
        wire.send(head("GET", "/dashboard", gate.host, unknown, close=False))
        await asked.wait()
        stopping = await draining(gate)
        go_on.set()
        (response,), _ = parse_responses(await wire.rest(), "GET")
        await stopping
    assert (response.status, response.values("connection")) == (401, ["close"])


async def test_idle_connections_close_and_nobody_new_is_let_in(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        fresh, used = await Wire.open(gate.port), await Wire.open(gate.port)
        used.send(head("GET", "/x", gate.host, close=False))
        side, _ = await app.accept()
        side.send(OK)
        await used.until(b"ok")
        stopping = await draining(gate)
        assert (await fresh.rest(), await used.rest()) == (b"", b"")
        await stopping
        with pytest.raises(ConnectionRefusedError):
            await Wire.open(gate.port)


async def test_websockets_are_told_that_the_gate_goes_away(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client, side = await opened(gate.port, app, SIGNED_IN, target="/dashboard")
        anonymous, other = await opened(gate.port, app)
        stopping = await draining(gate)
        for down, up in ((client, side), (anonymous, other)):
            assert await exactly(down, 4) == close_frame(1001, masked=False)
            assert await exactly(up, 8) == close_frame(1001, masked=True)
            up.send(frame(b"\x03\xe9", opcode=8))  # the answer to ours is not for the client any more
            down.close()
            assert await up.rest() == b""
        await stopping


@pytest.mark.parametrize("half_closed", ["client", "app"])
async def test_a_half_closed_websocket_does_not_stop_the_stopping(database: Path, half_closed: str) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client, side = await opened(gate.port, app)
        other, other_side = await opened(gate.port, app)
        ending, hears = (client, side) if half_closed == "client" else (side, client)
        ending.writer.write_eof()
        async with asyncio.timeout(20):
            assert await hears.reader.read() == b""
        stopping = await draining(gate)
        assert await exactly(other, 4) == close_frame(1001, masked=False)
        assert await exactly(ending, 4 if half_closed == "client" else 8) == close_frame(
            1001, masked=half_closed == "app"
        )
        for wire in (client, side, other, other_side):
            wire.close()
        await stopping


async def test_event_streams_end_unfinished(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("GET", "/events", gate.host, close=False))
        side, _ = await app.accept()
        side.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n")
        await wire.until(b"data: one\n\n\r\n")
        stopping = await draining(gate)
        assert await wire.rest() == b""  # no last chunk
        assert await side.rest() == b""
        await stopping


async def test_streams_go_on_while_requests_do(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client, side = await opened(gate.port, app)
        wire = await Wire.open(gate.port)
        wire.send(head("GET", "/slow", gate.host))
        slow, _ = await app.accept()
        stopping = await draining(gate)
        side.send(frame(b"still here"))
        assert await exactly(client, 12) == frame(b"still here")
        slow.send(OK)
        assert (await wire.rest()).endswith(b"\r\n\r\nok")
        assert await exactly(client, 4) == close_frame(1001, masked=False)
        client.close()
        side.close()
        await stopping


async def test_what_does_not_end_is_ended(database: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("GET", "/never", gate.host))
        side, _ = await app.accept()
        await (await draining(gate, 0.1))
        assert gate.served.server.clients() == []
        assert await wire.rest() == b""
        assert await side.rest() == b""
    assert "1 connections had not ended after 0.1 s and were cut" in caplog.text


class Delay:
    """Stands in for real time while the gate stops: the delay of 5 s lasts until `go_on`, all else passes at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        loops = SimpleNamespace(get_running_loop=asyncio.get_running_loop, gather=asyncio.gather, sleep=self.sleep)
        monkeypatch.setattr(drain_module, "asyncio", loops)

    async def sleep(self, seconds: float) -> None:
        if seconds == 5:
            self.begun.set()
            await self.go_on.wait()
        else:
            await asyncio.sleep(0)


async def test_during_the_delay_everything_goes_on(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delay = Delay(monkeypatch)
    async with talking_app() as app, running_gate(app.url, database) as gate:
        idle = await Wire.open(gate.port)
        idle.send(head("GET", "/before", gate.host, close=False))
        side, _ = await app.accept()
        side.send(OK)
        assert b"Connection" not in await idle.until(b"ok")
        stopping = asyncio.ensure_future(gate.served.stop(delay_s=5, limit_s=LONG_S))
        await delay.begun.wait()
        late = await Wire.open(gate.port)  # new ones are let in
        for wire in (late, idle):
            wire.send(head("GET", "/during", gate.host, close=False))
            await side.until(b"\r\n\r\n")
            side.send(OK)
            (response,), _ = parse_responses(await wire.rest(), "GET")
            assert (response.status, response.values("connection")) == (200, ["close"])
        delay.go_on.set()
        await stopping


async def test_who_waits_to_be_let_in_when_the_listener_closes_is_served(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delay = Delay(monkeypatch)
    async with talking_app() as app, running_gate(app.url, database) as gate:
        stopping = asyncio.ensure_future(gate.served.stop(delay_s=5, limit_s=LONG_S))
        await delay.begun.wait()
        waiting = socket.create_connection(("127.0.0.1", gate.port))  # the loop has not seen it
        delay.go_on.set()
        wire = Wire(*await asyncio.open_connection(sock=waiting))
        wire.send(head("GET", "/x", gate.host, close=False))
        side, _ = await app.accept()
        side.send(OK)
        assert (await wire.rest()).endswith(b"Connection: close\r\n\r\nok")
        await stopping


async def test_a_connection_that_nobody_uses_is_closed_after_a_moment(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delay = Delay(monkeypatch)
    monkeypatch.setattr(drain_module, "IDLE_S", 0.0)
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire = await Wire.open(gate.port)
        stopping = asyncio.ensure_future(gate.served.stop(delay_s=5, limit_s=LONG_S))
        await delay.begun.wait()
        assert not stopping.done()
        delay.go_on.set()
        assert await wire.rest() == b""
        await stopping
