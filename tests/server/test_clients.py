"""Clients of a running gate as they come: pipelining, half-closed, HTTP/1.0, hesitant, and too many."""

import asyncio
import json
from pathlib import Path

import pytest

from gatekeeper.server import connection as connection_module
from gatekeeper.server.upstream import UpstreamPool
from tests.attacks.judge import Response, parse_responses
from tests.server.gates import running_gate
from tests.server.talks import talking_app
from tests.server.upstreams import Received, RecordingUpstream, answer_as, read_body
from tests.server.wire import Wire, ask, head, mirrored

OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def responses_on(wire: Wire, method: str = "GET") -> list[Response]:
    responses, rest = parse_responses(await wire.rest(), method)
    assert rest == b""
    return responses


# --- pipelining ----------------------------------------------------------------------------------------------------


async def test_fifty_requests_in_one_packet(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        requests = [head("GET", f"/{number}", gate.host, close=number == 49) for number in range(50)]
        wire.send("".join(requests))
        responses = await responses_on(wire)
    assert [mirrored(response)["target"] for response in responses] == [f"/{number}" for number in range(50)]


async def test_a_body_and_the_next_request_in_one_packet(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(
            head("POST", "/one", gate.host, "Content-Length: 5", close=False)
            + "hello"
            + head("POST", "/two", gate.host, "Transfer-Encoding: chunked", close=False)
            + "5\r\nthere\r\n0\r\n\r\n"
            + head("GET", "/three", gate.host)
        )
        responses = await responses_on(wire)
    assert [mirrored(response)["target"] for response in responses] == ["/one", "/two", "/three"]
    assert [request.body for request in upstream.requests] == [b"hello", b"there", b""]


async def test_a_long_body_behind_a_request_that_takes_its_time(database: Path, upstream: RecordingUpstream) -> None:
    """It waits where it is until its turn: the gate does not read it before."""
    body = b"x" * 1_000_000
    first, go_on = asyncio.Event(), asyncio.Event()

    async def slow_first(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if received.target == "/slow":
            first.set()
            await go_on.wait()
        await read_body(received, reader)
        return await answer_as("", received, writer)

    upstream.answering = slow_first
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("GET", "/slow", gate.host, close=False))
        await first.wait()
        wire.send(head("POST", "/long", gate.host, f"Content-Length: {len(body)}").encode() + body)
        for _ in range(200):
            await asyncio.sleep(0)
        go_on.set()
        responses = await responses_on(wire)
    assert [mirrored(response)["length"] for response in responses] == [0, len(body)]


async def test_requests_behind_a_refused_one_are_not_answered(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("GET", "/a%0ab", gate.host, close=False) + head("GET", "/x", gate.host))
        assert [response.status for response in await responses_on(wire)] == [400]
    assert upstream.requests == []


# --- half-closed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 5])
async def test_who_sends_no_more_gets_all_answers(database: Path, upstream: RecordingUpstream, count: int) -> None:
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send("".join(head("GET", f"/{number}", gate.host, close=False) for number in range(count)))
        wire.writer.write_eof()
        responses = await responses_on(wire)
    assert [mirrored(response)["target"] for response in responses] == [f"/{number}" for number in range(count)]


async def test_who_sends_no_more_gets_an_answer_that_comes_later(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("POST", "/x", gate.host, "Content-Length: 5", close=False) + "hello")
        side, _ = await app.accept()
        wire.writer.write_eof()
        (client,) = gate.served.server.clients()
        while not client.has_ended:  # noqa: ASYNC110 - until it has seen it
            await asyncio.sleep(0)
        assert await side.reader.readexactly(5) == b"hello"
        side.send(OK)
        (response,) = await responses_on(wire, "POST")
    assert (response.status, response.body) == (200, b"ok")


async def test_who_sends_no_more_and_hears_nothing_counts_as_gone(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("GET", "/x", gate.host, close=False))
        side, _ = await app.accept()
        wire.writer.write_eof()
        (client,) = gate.served.server.clients()
        while not client.has_ended:  # noqa: ASYNC110 - until it has seen it
            await asyncio.sleep(0)
        deadlines = gate.served.server.deadlines
        now = deadlines.now
        deadlines.now = lambda: now() + 2.1
        deadlines.close()
        deadlines.tick()
        assert await wire.rest() == b""
        assert await side.rest() == b""


@pytest.mark.parametrize(
    "part", ["GET /x HTTP/1.1\r\nHost: h\r\n", "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf"]
)
async def test_who_ends_inside_a_request_gets_no_answer_of_the_apps(
    database: Path, upstream: RecordingUpstream, part: str
) -> None:
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(part)
        wire.writer.write_eof()
        assert b"200" not in await wire.rest()
    assert all(request.body != b"half" or request.trouble for request in upstream.requests)


# --- bodies that come late -----------------------------------------------------------------------------------------


async def test_an_upload_that_pauses_is_not_the_apps_fault(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("POST", "/up", gate.host, "Content-Length: 40000") + "x" * 20_000)
        side, _ = await app.accept()
        assert await side.reader.readexactly(20_000) == b"x" * 20_000
        pool = gate.gate.runtime.upstreams[""]
        pass_s(pool, 61.0)
        wire.send("y" * 20_000)
        assert await side.reader.readexactly(20_000) == b"y" * 20_000
        side.send(OK)
        (response,) = await responses_on(wire, "POST")
    assert response.status == 200


async def test_an_answer_before_the_end_of_the_body_is_said_to_be_the_last(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("POST", "/up", gate.host, "Content-Length: 100000", close=False) + "x" * 50_000)
        side, _ = await app.accept()
        side.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
        (response,) = await responses_on(wire, "POST")
    assert (response.status, response.values("connection")) == (401, ["close"])


async def test_an_early_answer_and_a_body_too_long_at_once_leave_no_connection_behind(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both within one step of the loop: the answer is the app's, and the body's end is an error."""
    monkeypatch.setattr(connection_module, "LINGER_S", 0.0)
    async with talking_app() as app, running_gate(app.url, database, "limits: {body_bytes: 40000}\n") as gate:
        wire = await Wire.open(gate.port)
        chunk = b"4e20\r\n" + b"x" * 20_000 + b"\r\n"
        wire.send(head("POST", "/up", gate.host, "Transfer-Encoding: chunked", close=False).encode() + chunk)
        side, _ = await app.accept()
        assert len(await side.reader.readexactly(len(chunk))) == len(chunk)
        (client,), pool = gate.served.server.clients(), gate.gate.runtime.upstreams[""]
        (connection,) = pool._open
        connection.data_received(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
        client.data_received(b"7530\r\n" + b"x" * 30_000 + b"\r\n")
        (response,) = await responses_on(wire, "POST")
        assert response.status == 401
        assert await side.rest() == b""
        while gate.served.server.clients():  # noqa: ASYNC110 - until it is gone
            await asyncio.sleep(0)
        assert (pool.busy, pool.idle) == (0, 0)


async def test_a_request_whose_time_was_over_is_not_sent_again(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("GET", "/first", gate.host, close=False))
        side, _ = await app.accept()
        side.send(OK)
        await wire.until(b"ok")
        wire.send(head("GET", "/second", gate.host))
        assert (await side.until(b"\r\n\r\n")).startswith(b"GET /second ")  # on the same connection
        pass_s(gate.gate.runtime.upstreams[""], 61.0)
        (response,) = await responses_on(wire)
        assert response.status == 504
        assert app._connections.empty()


def pass_s(pool: UpstreamPool, seconds: float) -> None:
    """Let time pass for what goes on with the app, and tick."""
    now = pool.now() + seconds
    pool.now = lambda: now
    assert pool.ticker is not None
    pool.ticker.cancel()
    pool.tick()


# --- HTTP/1.0 and single things ------------------------------------------------------------------------------------


async def test_http_1_0_may_keep_its_connection(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send("GET /one HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
        (kept,), _ = parse_responses(await wire.until(b"}"), "GET")
        wire.send("GET /two HTTP/1.0\r\n\r\n")
        (last,) = await responses_on(wire)
    assert (kept.values("connection"), last.values("connection")) == (["keep-alive"], ["close"])
    assert [mirrored(response)["target"] for response in (kept, last)] == ["/one", "/two"]


async def test_http_1_0_does_not_get_100_continue(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send("POST /x HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok")
        assert (await wire.rest()).startswith(b"HTTP/1.1 200 ")


async def test_options_of_the_server(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        response = await ask(gate.port, "OPTIONS", "*")
    assert response.status == 200
    assert (upstream.requests[0].method, upstream.requests[0].target) == ("OPTIONS", "*")


async def test_an_asterisk_is_for_options_alone(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        assert (await ask(gate.port, "GET", "*")).status == 400
    assert upstream.requests == []


# --- Expect --------------------------------------------------------------------------------------------------------


async def test_100_continue_is_sent_to_whom_is_let_in(database: Path) -> None:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("POST", "/up", gate.host, "Content-Length: 5", "Expect: 100-continue", close=False))
        assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send("hello")
        side, asked = await app.accept()
        assert b"xpect" not in asked
        side.send(OK)
        assert (await wire.until(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200 ")
        wire.close()


@pytest.mark.parametrize(
    ("target", "lines", "status"),
    [
        pytest.param("/dashboard", ("Content-Length: 5",), 401, id="denied"),
        pytest.param("/a%0ab", ("Content-Length: 5",), 400, id="malformed"),
        pytest.param("/up", ("Content-Length: 101",), 413, id="too-long"),
    ],
)
async def test_who_is_not_let_in_sends_no_body(
    database: Path, upstream: RecordingUpstream, target: str, lines: tuple[str, ...], status: int
) -> None:
    async with running_gate(upstream.url, database, "limits: {body_bytes: 100}\n") as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("POST", target, gate.host, *lines, "Expect: 100-continue", close=False))
        raw = await wire.rest()  # closed: what follows might be the body, or not
    assert b"100 Continue" not in raw
    assert raw.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close\r\n" in raw
    assert upstream.requests == []


# --- too many ------------------------------------------------------------------------------------------------------


async def test_of_one_address_only_so_many(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database, "limits: {per_address: 2}\n") as gate:
        first, _ = await Wire.open(gate.port), await Wire.open(gate.port)
        (refused,) = await responses_on(await Wire.open(gate.port))
        assert (refused.status, refused.values("retry-after")) == (503, ["5"])
        assert refused.values("connection") == ["close"]
        assert json.loads(refused.body) == {"error": "Service Unavailable", "code": "TOO_MANY_CONNECTIONS"}
        first.send(head("GET", "/x", gate.host))
        assert (await responses_on(first))[0].status == 200
        _.close()


async def test_trusted_proxies_stand_for_many(database: Path, upstream: RecordingUpstream) -> None:
    more = "limits: {per_address: 1}\ntrusted_proxies: [127.0.0.1]\n"
    async with running_gate(upstream.url, database, more) as gate:
        wires = [await Wire.open(gate.port) for _ in range(3)]
        for wire in wires:
            wire.send(head("GET", "/x", gate.host))
            assert (await responses_on(wire))[0].status == 200


async def test_the_limit_of_all_holds_for_them_too(database: Path, upstream: RecordingUpstream) -> None:
    more = "limits: {connections: 10}\ntrusted_proxies: [127.0.0.1]\n"
    async with running_gate(upstream.url, database, more) as gate:
        wires = [await Wire.open(gate.port) for _ in range(10)]
        refused = await Wire.open(gate.port)
        assert (await responses_on(refused))[0].status == 503
        for wire in wires:
            wire.close()
        while gate.served.server.crowd.count:  # noqa: ASYNC110 - until they are gone
            await asyncio.sleep(0)
        assert (await ask(gate.port, "GET", "/x")).status == 200
