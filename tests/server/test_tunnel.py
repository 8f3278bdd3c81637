"""WebSockets through a running gate: what opens a tunnel, what passes it, and how it ends."""

import asyncio
import json
import sqlite3
from contextlib import closing
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.core.model import Reason
from gatekeeper.core.websocket import close_frame
from gatekeeper.server import tunnel as tunnel_module
from gatekeeper.server.tunnel import Tunnel
from tests.attacks.judge import parse_responses
from tests.better_auth_db import iso
from tests.core.test_websocket import FRAMES, frame
from tests.server.conftest import HOUR_MS, TOKEN, now_ms
from tests.server.gates import COOKIE, FOUR_LINES, RunningGate, cookie_value, running_gate
from tests.server.talks import ACCEPT, KEY, SWITCHING, exactly, handshake, opened, talking_app
from tests.server.upstreams import RecordingUpstream
from tests.server.wire import Wire

SIGNED_IN = f"Cookie: {COOKIE}={cookie_value(TOKEN)}"
CLOSE_POLICY, CLOSE_AWAY = close_frame(1008, masked=False), close_frame(1001, masked=False)
PIECE, PIECES = b"0123456789abcdef" * 4096, 400


# --- opening -------------------------------------------------------------------------------------------------------


async def test_a_handshake_passes_both_ways(database: Path) -> None:
    lines = ("Sec-WebSocket-Protocol: chat, superchat", "Sec-WebSocket-Extensions: permessage-deflate")
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client = await Wire.open(gate.port)
        client.send(handshake(gate.host, *lines, "Connection: x-hop", "X-Hop: 1", target="/dashboard?a=b"))
        refused, _ = parse_responses(await client.rest(), "GET")
        assert [response.status for response in refused] == [401]
        client = await Wire.open(gate.port)
        client.send(handshake(gate.host, *lines, SIGNED_IN, target="/dashboard?a=b"))
        side, asked = await app.accept()
        assert asked.startswith(f"GET /dashboard?a=b HTTP/1.1\r\nHost: {gate.host}\r\n".encode())
        for line in (*lines, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"):
            assert asked.count(f"{line}\r\n".encode()) == 1
        assert asked.count(f"Sec-WebSocket-Key: {KEY}\r\n".encode()) == 1
        assert b"X-Auth-User-Id: user-ada\r\n" in asked
        extra = "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        side.send(SWITCHING.replace("\r\n\r\n", f"\r\nKeep-Alive: timeout=5\r\n{extra}"))
        answer = await client.until(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        for line in (f"Sec-WebSocket-Accept: {ACCEPT}", "Connection: Upgrade", "Upgrade: websocket"):
            assert answer.count(f"{line}\r\n".encode()) == 1
        assert b"Sec-WebSocket-Protocol: chat\r\n" in answer
        assert b"Sec-WebSocket-Extensions: permessage-deflate\r\n" in answer
        assert b"Keep-Alive" not in answer
        client.close()
        side.close()


async def test_what_stands_behind_the_101_is_the_tunnels(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client = await Wire.open(gate.port)
        client.send(handshake(gate.host))
        side, _ = await app.accept()
        side.send(SWITCHING.encode() + frame(b"first"))
        await client.until(b"\r\n\r\n")
        side.send(frame(b"second"))
        assert await exactly(client, 15) == frame(b"first") + frame(b"second")
        client.close()


@pytest.mark.parametrize("size", [5, 65_000, 1_000_000])
async def test_what_stands_behind_the_request_is_the_tunnels(database: Path, size: int) -> None:
    """Even where it is more than is held back: then reading goes on once the tunnel is open."""
    early = frame(b"e" * size, mask=b"abcd")
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client = await Wire.open(gate.port)
        client.send(handshake(gate.host).encode() + early)
        side, _ = await app.accept()
        for _ in range(50):
            await asyncio.sleep(0)
        side.send(SWITCHING)
        client.send(b"later")
        assert await exactly(side, len(early) + 5) == early + b"later"
        client.close()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(SWITCHING.replace(ACCEPT, KEY), id="wrong-accept"),
        pytest.param(SWITCHING.replace("Upgrade: websocket", "Upgrade: h2c"), id="another-protocol"),
        pytest.param(SWITCHING.replace("Connection: Upgrade\r\n", ""), id="no-connection"),
        pytest.param(SWITCHING.replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\n") + "abc", id="with-a-length"),
    ],
)
async def test_a_wrong_101_is_a_502(database: Path, answer: str) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client = await Wire.open(gate.port)
        client.send(handshake(gate.host))
        side, _ = await app.accept()
        side.send(answer)
        (response,), _ = parse_responses(await client.rest(), "GET")
        assert (response.status, json.loads(response.body)["code"]) == (502, "UPSTREAM_PROTOCOL")
        assert await side.rest() == b""


async def test_a_right_101_that_nobody_asked_for_is_a_502(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client = await Wire.open(gate.port)
        client.send(f"GET /ws HTTP/1.1\r\nHost: {gate.host}\r\nSec-WebSocket-Key: {KEY}\r\nConnection: close\r\n\r\n")
        side, asked = await app.accept()
        assert b"Upgrade" not in asked
        side.send(SWITCHING)
        (response,), _ = parse_responses(await client.rest(), "GET")
        assert response.status == 502


@pytest.mark.parametrize("status", [200, 403, 426])
async def test_another_answer_is_an_ordinary_one_and_the_last(database: Path, status: int) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client = await Wire.open(gate.port)
        client.send(handshake(gate.host) + "these bytes were meant for a tunnel")
        side, _ = await app.accept()
        side.send(f"HTTP/1.1 {status} No\r\nContent-Length: 4\r\nX-Why: so\r\n\r\nbody")
        responses, rest = parse_responses(await client.rest(), "GET")
        assert [(response.status, response.body) for response in responses] == [(status, b"body")]
        assert responses[0].values("connection") == ["close"]
        assert responses[0].values("x-why") == ["so"]
        assert rest == b""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(handshake("h").replace(f"Sec-WebSocket-Key: {KEY}\r\n", ""), id="no-key"),
        pytest.param(handshake("h", f"Sec-WebSocket-Key: {KEY}"), id="two-keys"),
        pytest.param(handshake("h").replace(KEY, "short"), id="malformed-key"),
        pytest.param(handshake("h", "Content-Length: 5") + "hello", id="body"),
        pytest.param(handshake("h", "Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n", id="chunked-body"),
    ],
)
async def test_a_bad_handshake_is_refused(database: Path, upstream: RecordingUpstream, text: str) -> None:
    async with running_gate(upstream.url, database) as gate:
        client = await Wire.open(gate.port)
        client.send(text)
        (response,), _ = parse_responses(await client.rest(), "GET")
    assert (response.status, json.loads(response.body)["code"]) == (400, "BAD_UPGRADE")
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://evil.test", 403), ("null", 403), ("http://{host}", 101), (None, 101), ("https://also.test", 101)],
)
async def test_origins(database: Path, origin: str | None, status: int) -> None:
    more = "websocket: {origins: [https://also.test]}\n"
    async with talking_app() as app, running_gate(app.url, database, more) as gate:
        client = await Wire.open(gate.port)
        lines = [] if origin is None else [f"Origin: {origin.format(host=gate.host)}"]
        client.send(handshake(gate.host, SIGNED_IN, *lines, target="/dashboard"))
        if status == 101:
            side, _ = await app.accept()
            side.send(SWITCHING)
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 %d " % status)
        client.close()


async def test_other_upgrades_are_ordinary_requests(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        client = await Wire.open(gate.port)
        client.send(f"GET /x HTTP/1.1\r\nHost: {gate.host}\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n")
        (response,), _ = parse_responses(await client.rest(), "GET")
    assert response.status == 200
    assert b"pgrade" not in upstream.requests[0].head


async def test_a_post_opens_no_websocket(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        for more, body, status in ((), "", 200), (("Content-Length: 2",), "ok", 400):
            client = await Wire.open(gate.port)
            client.send(handshake(gate.host, *more).replace("GET", "POST", 1) + body)
            (response,), _ = parse_responses(await client.rest(), "POST")
            assert response.status == status
    (request,) = upstream.requests
    assert request.values("Upgrade") == request.values("Connection") == []


@pytest.mark.parametrize("kind", ["websocket", "events"])
async def test_a_stream_takes_no_place_of_a_page(database: Path, kind: str) -> None:
    text = FOUR_LINES.replace("{upstream}", "{{url: '{upstream}', max_connections: 1}}")
    async with talking_app() as app, running_gate(app.url, database, text=text) as gate:
        if kind == "websocket":
            stream, _ = await opened(gate.port, app)
        else:
            stream = await Wire.open(gate.port)
            stream.send(f"GET /events HTTP/1.1\r\nHost: {gate.host}\r\n\r\n")
            side, _ = await app.accept()
            side.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            await stream.until(b"\r\n\r\n")
        page = await Wire.open(gate.port)
        page.send(f"GET /page HTTP/1.1\r\nHost: {gate.host}\r\nConnection: close\r\n\r\n")
        side, _ = await app.accept()
        side.send("HTTP/1.1 204 No Content\r\n\r\n")
        assert (await page.rest()).startswith(b"HTTP/1.1 204 ")
        stream.close()


# --- passing and ending --------------------------------------------------------------------------------------------


async def test_the_app_may_end_its_direction_first(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client, side = await opened(gate.port, app)
        side.send("last words")
        side.writer.write_eof()
        async with asyncio.timeout(20):
            assert await client.reader.read() == b"last words"
        client.send("still here")
        assert await exactly(side, 10) == b"still here"
        client.close()
        async with asyncio.timeout(20):
            assert await side.reader.read() == b""


async def test_the_client_may_end_its_direction_first(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client, side = await opened(gate.port, app)
        client.send("last words")
        client.writer.write_eof()
        async with asyncio.timeout(20):
            assert await side.reader.read() == b"last words"
        side.send("still here")
        assert await exactly(client, 10) == b"still here"
        side.close()
        async with asyncio.timeout(20):
            assert await client.reader.read() == b""
        client.close()


@pytest.mark.parametrize("leaver", ["client", "app"])
async def test_who_vanishes_takes_the_other_along(database: Path, leaver: str) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client, side = await opened(gate.port, app)
        leaves, stays = (client, side) if leaver == "client" else (side, client)
        leaves.reset()
        assert await stays.rest() == b""
        await without_streams(gate)
        await without_clients(gate)


@pytest.mark.parametrize("to", ["client", "app"])
async def test_who_does_not_read_stops_the_other(database: Path, to: str) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client, side = await opened(gate.port, app)
        reader, writer = (client, side) if to == "client" else (side, client)
        reader.writer.transport.pause_reading()  # type: ignore[attr-defined]
        sent = 0

        async def pour() -> None:
            nonlocal sent
            for _ in range(PIECES):
                writer.send(PIECE)
                await writer.writer.drain()
                sent += 1

        pouring = asyncio.ensure_future(pour())
        before = -1
        while sent != before:  # until nothing moves any more
            before = sent
            for _ in range(2_000):
                await asyncio.sleep(0)
        assert 0 < sent < PIECES
        reader.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert await exactly(reader, PIECES * len(PIECE)) == PIECE * PIECES
        await pouring
        client.close()


async def test_both_at_once_and_a_lot(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client, side = await opened(gate.port, app)
        up, down = b"up-" * 500_000, b"down" * 500_000
        client.send(up)
        side.send(down)
        got = await asyncio.gather(exactly(side, len(up)), exactly(client, len(down)))
        assert got == [up, down]
        client.close()


# --- sessions ------------------------------------------------------------------------------------------------------


async def without_streams(gate: RunningGate) -> None:
    while gate.served.streams.count:  # noqa: ASYNC110 - until the loop has seen it
        await asyncio.sleep(0)


async def without_clients(gate: RunningGate) -> None:
    while gate.served.server.clients():  # noqa: ASYNC110 - until the loop has seen it
        await asyncio.sleep(0)


async def test_a_tunnel_ends_with_its_session(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client, side = await opened(gate.port, app, SIGNED_IN, target="/dashboard")
        other, _ = await opened(gate.port, app)  # under no session
        assert gate.served.streams.count == 2
        side.send(frame(b"hello"))
        assert await exactly(client, 7) == frame(b"hello")
        gate.served.streams.cut_session(TOKEN)
        assert gate.served.streams.count == 1
        # who is told so closes, and the gate does not wait any longer
        assert await exactly(client, 4) == CLOSE_POLICY
        assert await exactly(side, 8) == close_frame(1008, masked=True)
        client.close()
        async with asyncio.timeout(20):
            assert await side.reader.read() == b""
        other.close()
    (audited,) = [tally for tally in gate.served.telemetry.tallies if tally.name == "gatekeeper_audit_events_total"]
    assert audited.values["stream_cut",] == 1


async def test_a_cut_waits_for_the_end_of_a_frame_and_drops_the_next(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client, side = await opened(gate.port, app, SIGNED_IN, target="/dashboard")
        down, up = frame(b"from the app"), frame(b"from the client", mask=b"abcd")
        side.send(down[:5])
        client.send(up[:3])
        assert await exactly(client, 5) + await exactly(side, 3) == down[:5] + up[:3]
        gate.served.streams.cut_session(TOKEN)
        side.send(down[5:])
        assert await exactly(client, len(down) - 5 + 4) == down[5:] + CLOSE_POLICY
        client.send(up[3:])
        assert await exactly(side, len(up) - 3 + 8) == up[3:] + close_frame(1008, masked=True)
        side.send(frame(b"too late"))
        client.send(frame(b"too late", mask=b"abcd"))
        client.writer.write_eof()
        assert await client.rest() == b""
        assert await side.rest() == b""


async def test_who_does_not_close_is_closed(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel_module, "CLOSE_GRACE_S", 0.0)
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client, side = await opened(gate.port, app, SIGNED_IN, target="/dashboard")
        gate.served.streams.cut_session(TOKEN)
        assert await client.rest() == CLOSE_POLICY
        assert await side.rest() == close_frame(1008, masked=True)


async def test_a_tunnel_ends_when_its_session_expires_unless_it_was_extended(database: Path) -> None:
    more = "session: {memory_cache: {max_age: 0}}\n"
    async with talking_app() as app, running_gate(app.url, database, more) as gate:
        client, side = await opened(gate.port, app, SIGNED_IN, target="/dashboard")
        streams: Any = gate.served.streams
        at_ms = now_ms()
        streams._clock = lambda: at_ms
        for hours, passes in ((2, True), (4, False)):
            at_ms += 2 * HOUR_MS
            with closing(sqlite3.connect(database)) as connection, connection:
                connection.execute("update session set expiresAt = ?", (iso(now_ms() + (hours + 1) * HOUR_MS),))
                if not passes:
                    connection.execute("delete from session")
            streams.ticker.cancel()
            streams.tick()
            await asyncio.gather(*streams._asking.values())
            assert streams.count == passes
        assert await exactly(client, 4) == CLOSE_POLICY
        assert await exactly(side, 8) == close_frame(1008, masked=True)
        client.close()


# --- races ---------------------------------------------------------------------------------------------------------


async def test_an_app_that_leaves_with_its_101_ends_the_tunnel(database: Path) -> None:
    """As TLS and uvloop bring it: the 101 and the end of the connection within one step of the loop."""
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client = await Wire.open(gate.port)
        client.send(handshake(gate.host))
        await app.accept()
        (connection,) = gate.gate.runtime.upstreams[""]._open
        connection.data_received(SWITCHING.encode() + b"bye")
        transport = connection.transport
        assert transport is not None
        transport.set_protocol(asyncio.Protocol())
        transport.abort()
        connection.connection_lost(None)
        raw = await client.rest()
        assert raw.startswith(b"HTTP/1.1 101 ")
        assert raw.endswith(b"\r\n\r\nbye")
        await without_clients(gate)


async def test_a_client_that_leaves_as_the_101_comes_leaves_nothing_behind(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client = await Wire.open(gate.port)
        client.send(handshake(gate.host))
        side, _ = await app.accept()
        (ours,) = gate.served.server.clients()
        (connection,) = gate.gate.runtime.upstreams[""]._open
        connection.data_received(SWITCHING.encode())
        assert ours.task is not None
        ours.task.cancel()
        assert await side.rest() == b""
        client.close()


# --- by hand -------------------------------------------------------------------------------------------------------


class FakeSide:
    """A client's connection with its transport, or an upstream's: what is written, and whether it is read."""

    def __init__(self, tail: bytes = b"") -> None:
        self.transport = self
        self.written = b""
        self.tail = tail
        self.reading = True
        self.ended = False
        self.writing_paused = False
        self.tunnel: Tunnel | None = None
        self.pushing: Tunnel | None = None

    def take_tail(self) -> bytes:
        return self.tail

    def write(self, data: bytes) -> None:
        assert not self.ended
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Joined:
    """A tunnel between two fakes, on a loop that does not run: timers are set and never fire."""

    def __init__(self, tail: bytes = b"") -> None:
        self.loop = asyncio.new_event_loop()
        self.client, self.upstream = FakeSide(tail), FakeSide()
        self.tunnel = Tunnel(self.client, self.upstream, self.loop)  # type: ignore[arg-type]
        self.tunnel.open()

    def __enter__(self) -> "Joined":
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.close()


@pytest.mark.parametrize("ended", ["client", "app"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_side_that_was_told_already_that_nothing_comes_gets_no_close_frame(ended: str, inside: bool) -> None:
    """Writing behind an end is an error: it must not keep the cut from the tunnels that come next."""
    up, down = frame(b"up", mask=b"abcd"), frame(b"down")
    with Joined() as joined:
        joined.tunnel.from_client(up[:3] if inside else up)
        joined.tunnel.on_body(down[:3] if inside else down)
        assert joined.tunnel.client_ended() if ended == "client" else joined.tunnel.on_end() is None
        joined.tunnel.cut(Reason.GATE_STOPS)
        if inside and ended == "client":
            joined.tunnel.on_body(down[3:])
        elif inside:
            joined.tunnel.from_client(up[3:])
        told, not_told = (joined.upstream, joined.client) if ended == "client" else (joined.client, joined.upstream)
        assert told.ended
        assert told.written == (up if ended == "client" else down)[: 3 if inside else None]
        assert not_told.written.endswith(CLOSE_AWAY if ended == "client" else close_frame(1001, masked=True))


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[a:b] for a, b in pairwise(places)]


CUTS = st.lists(st.integers(0, 2**20), max_size=10)


@settings(deadline=None)
@given(tail=st.binary(max_size=30), up=st.binary(), down=st.binary(), cuts=CUTS, data=st.data())
def test_any_bytes_pass_as_they_came(tail: bytes, up: bytes, down: bytes, cuts: list[int], data: st.DataObject) -> None:
    with Joined(tail) as joined:
        todo = {"up": split(up, cuts), "down": split(down, cuts[::-1])}
        while any(todo.values()):
            way = data.draw(st.sampled_from([name for name, left in todo.items() if left]))
            piece = todo[way].pop(0)
            if way == "up":
                joined.tunnel.from_client(piece)
            else:
                joined.tunnel.on_body(piece)
                joined.tunnel.flush()
        assert joined.upstream.written == tail + up
        assert joined.client.written == down
        assert joined.tunnel.sent_bytes == len(down)


@settings(deadline=None)
@given(
    up=st.lists(FRAMES, max_size=4),
    down=st.lists(FRAMES, max_size=4),
    cuts=CUTS,
    ways=st.lists(st.sampled_from(["up", "down"]), max_size=24),
    at=st.integers(0, 24),
)
def test_a_close_frame_never_stands_inside_another(
    up: list[bytes], down: list[bytes], cuts: list[int], ways: list[str], at: int
) -> None:
    """Wherever the cut comes, each side gets the first whole frames, then the Close frame, and nothing behind it."""
    todo = {"up": split(b"".join(up), cuts), "down": split(b"".join(down), cuts)}
    pieces = {way: list(left) for way, left in todo.items()}
    steps = [(way, todo[way].pop(0)) for way in ways if todo[way]]
    steps += [(way, piece) for way, left in todo.items() for piece in left]
    with Joined() as joined:
        for number, (way, piece) in enumerate([*steps, ("", b"")]):
            if number == min(at, len(steps)):
                joined.tunnel.cut(Reason.SESSION_ENDED)
            if way == "up":
                joined.tunnel.from_client(piece)
            elif way == "down":
                joined.tunnel.on_body(piece)
        joined.tunnel.cut(Reason.GATE_STOPS)  # once is enough
        sent = {way: sum(len(piece) for name, piece in steps[:at] if name == way) for way in todo}
        assert joined.client.written == until_close(down, pieces["down"], sent["down"]) + CLOSE_POLICY
        assert joined.upstream.written == until_close(up, pieces["up"], sent["up"]) + close_frame(1008, masked=True)
        assert joined.tunnel.cut_for is Reason.SESSION_ENDED


def until_close(frames: list[bytes], pieces: list[bytes], sent: int) -> bytes:
    """What passes before the Close frame: up to the first end of a piece, not before `sent`, where a frame ends."""
    frame_ends = set(accumulate(map(len, frames), initial=0))
    ends = [end for end in accumulate(map(len, pieces), initial=0) if end >= sent and end in frame_ends]
    return b"".join(frames)[: ends[0]]
