"""Each request is told of once, and truly, whichever path answered it and however it ended.

Each test makes the gate know its request first, so that the fast lane, where there is one, takes it.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gatekeeper.core.model import Reason, RequestFacts, SessionRecord
from tests.attacks.judge import parse_responses
from tests.server.conftest import TOKEN
from tests.server.gates import COOKIE, RunningGate, cookie_value, running_gate
from tests.server.talks import Talks, talking_app
from tests.server.wire import Wire, head

SIGNED_IN = f"Cookie: {COOKIE}={cookie_value(TOKEN)}"
OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
EVENTS = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Report(NamedTuple):
    """What was told of a request."""

    facts: RequestFacts | None
    route_name: str
    reason: Reason
    record: SessionRecord | None
    status: int
    request_id: str
    seconds: float
    upstream_s: float | None
    sent_bytes: int
    peer: str


class Known:
    """A gate, an app, and a client whose request both know already."""

    def __init__(self, gate: RunningGate, app: Talks, client: Wire, side: Wire) -> None:
        self.gate = gate
        self.app = app
        self.client = client
        self.side = side
        self.reports: list[Report] = []
        gate.served.telemetry.record = lambda *what: self.reports.append(Report(*what))  # type: ignore[method-assign]

    def ask(self, target: str = "/dashboard", method: str = "GET") -> None:
        self.client.send(head(method, target, self.gate.host, SIGNED_IN, close=False))

    async def asked(self, target: str = "/dashboard") -> None:
        """Ask, and wait until the app has been."""
        self.ask(target)
        await self.side.until(b"\r\n\r\n")

    async def report(self) -> Report:
        """The one report of the one request."""
        while not self.reports:  # noqa: ASYNC110 - until the loop has seen it
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        (report,) = self.reports
        assert report.facts is not None
        return report


@asynccontextmanager
async def known(database: Path) -> AsyncIterator[Known]:
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client = await Wire.open(gate.port)
        client.send(head("GET", "/dashboard", gate.host, SIGNED_IN, close=False))
        side, _ = await app.accept()
        side.send(OK)
        await client.until(b"\r\n\r\nok")
        client.send(head("GET", "/dashboard", gate.host, SIGNED_IN, close=False))
        await side.until(b"\r\n\r\n")
        side.send(OK)
        await client.until(b"\r\n\r\nok")
        try:
            yield Known(gate, app, client, side)
        finally:
            client.close()


async def test_a_whole_answer(database: Path) -> None:
    async with known(database) as rig:
        await rig.asked()
        rig.side.send(OK)
        answer = await rig.client.until(b"\r\n\r\nok")
        report = await rig.report()
        assert (report.route_name, report.reason, report.status) == ("protect /dashboard", Reason.SESSION, 200)
        assert (report.sent_bytes, report.peer) == (len(answer), "127.0.0.1")
        assert report.record is not None
        assert report.upstream_s is not None
        assert 0 <= report.upstream_s <= report.seconds


async def test_a_stream_whose_client_leaves(database: Path) -> None:
    async with known(database) as rig:
        await rig.asked()
        rig.side.send(EVENTS)
        await rig.client.until(b"\r\n\r\n")
        rig.client.reset()
        report = await rig.report()
        assert (report.reason, report.status) == (Reason.CLIENT_LEFT, 200)
        assert report.upstream_s is not None
        assert 0 <= report.upstream_s <= report.seconds
        assert await rig.side.rest() == b""


async def test_a_stream_whose_session_ends(database: Path) -> None:
    async with known(database) as rig:
        await rig.asked()
        rig.side.send(EVENTS)
        await rig.client.until(b"\r\n\r\n")
        rig.gate.served.streams.cut_session(TOKEN)
        report = await rig.report()
        assert (report.reason, report.status) == (Reason.SESSION_ENDED, 200)
        assert report.upstream_s is not None
        assert 0 <= report.upstream_s <= report.seconds
        assert await rig.client.rest() == b""


async def test_an_answer_that_breaks_off(database: Path) -> None:
    async with known(database) as rig:
        await rig.asked()
        rig.side.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
        await rig.client.until(b"begun")
        rig.side.reset()
        report = await rig.report()
        assert (report.reason, report.status) == (Reason.UPSTREAM_PROTOCOL, 200)
        assert report.upstream_s is not None
        assert 0 <= report.upstream_s <= report.seconds
        assert await rig.client.rest() == b""


async def test_a_client_that_leaves_before_its_answer(database: Path) -> None:
    async with known(database) as rig:
        await rig.asked()
        rig.client.reset()
        report = await rig.report()
        assert (report.reason, report.status, report.upstream_s) == (Reason.CLIENT_LEFT, 0, None)
        assert await rig.side.rest() == b""
        assert rig.gate.gate.runtime.upstreams[""].idle == 0


async def test_a_connection_that_was_dead_is_no_second_request(database: Path) -> None:
    async with known(database) as rig:
        await rig.asked()
        rig.side.reset()
        side, _ = await rig.app.accept()
        side.send(OK)
        await rig.client.until(b"\r\n\r\nok")
        report = await rig.report()
        assert (report.reason, report.status) == (Reason.SESSION, 200)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_what_may_have_been_done_is_not_done_again(database: Path, method: str) -> None:
    async with known(database) as rig:
        rig.ask(method=method)
        await rig.side.until(b"\r\n\r\n")
        rig.side.reset()
        assert (await rig.client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
        report = await rig.report()
        assert (report.reason, report.status) == (Reason.UPSTREAM_PROTOCOL, 502)


async def test_a_client_that_does_not_take_its_answer_and_leaves(database: Path) -> None:
    async with known(database) as rig:
        rig.client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        size = 32 * 2**20
        await rig.asked()
        rig.side.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        (client,) = rig.gate.served.server.clients()
        while not client.writing_paused:  # noqa: ASYNC110 - until the loop has seen it
            await asyncio.sleep(0)
        assert rig.reports == []
        rig.client.reset()
        report = await rig.report()
        assert (report.reason, report.status) == (Reason.CLIENT_LEFT, 200)


def fails_once(gate: RunningGate) -> None:
    """Whoever counts requests fails with the next one."""
    record, failures = gate.served.telemetry.record, iter([True])

    def failing(*what: Any) -> None:
        if next(failures, False):
            raise RuntimeError("no more room")
        record(*what)

    gate.served.telemetry.record = failing  # type: ignore[method-assign]


async def test_an_unforeseen_error_behind_an_answer_is_no_second_answer(
    database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = "/dashboard/anonymous"
    async with talking_app() as app, running_gate(app.url, database) as gate:
        client = await Wire.open(gate.port)
        for _ in range(2):
            client.send(head("GET", target, gate.host, close=False))
            await client.until(b'"}')
        fails_once(gate)
        client.send(head("GET", target, gate.host, close=False))
        with caplog.at_level(logging.CRITICAL, "gatekeeper"):
            responses, rest = parse_responses(await client.rest(), "GET")
        assert [response.status for response in responses] == [401]
        assert rest == b""


async def test_an_unforeseen_error_behind_the_apps_answer_ends_the_connection(
    database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with known(database) as rig:
        fails_once(rig.gate)
        await rig.asked()
        with caplog.at_level(logging.CRITICAL, "gatekeeper"):
            rig.side.send(OK)
            responses, rest = parse_responses(await rig.client.rest(), "GET")
        assert [response.status for response in responses] == [200]
        assert rest == b""
        assert rig.gate.gate.runtime.upstreams[""].busy == 0


async def test_a_gate_that_stops_tells_of_what_it_cut_off(database: Path) -> None:
    async with known(database) as rig:
        await rig.asked()
        await rig.gate.served.stop(delay_s=0, limit_s=0)
        assert len(rig.reports) == 1
        assert (await rig.report()).reason is Reason.CLIENT_LEFT
        assert await rig.side.rest() == b""


async def test_while_the_gate_drains_an_answer_under_way_is_the_last(database: Path) -> None:
    async with known(database) as rig:
        await rig.asked()
        stopping = asyncio.create_task(rig.gate.served.stop(delay_s=0, limit_s=30))
        while not rig.gate.served.server.draining:  # noqa: ASYNC110 - until the loop has seen it
            await asyncio.sleep(0)
        rig.side.send(OK)
        assert b"Connection: close\r\n" in await rig.client.until(b"\r\n\r\nok")
        assert await rig.client.rest() == b""
        assert (await rig.report()).reason is Reason.SESSION
        await stopping


async def test_an_unforeseen_error_behind_a_request_leaves_no_answer_for_the_next(
    database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with known(database) as rig:
        (connection,) = rig.gate.gate.runtime.upstreams[""]._open
        start = connection.start

        def sends_and_fails(*what: Any, **how: Any) -> None:
            start(*what, **how)
            raise RuntimeError("behind it")

        connection.start = sends_and_fails  # type: ignore[method-assign]
        with caplog.at_level(logging.CRITICAL, "gatekeeper"):
            await rig.asked()
            rig.side.send(OK)
            responses, rest = parse_responses(await rig.client.rest(), "GET")
        assert ([response.status for response in responses], rest) == ([500], b"")
        assert await rig.side.rest() == b""
        report = await rig.report()
        assert (report.reason, report.status) == (Reason.INTERNAL_ERROR, 500)


async def not_taken(rig: Known) -> bytes:
    """A whole answer to a client that has no room for it, as far as the gate can tell; its body."""
    (client,) = rig.gate.served.server.clients()
    assert client.transport is not None
    client.transport.set_write_buffer_limits(high=0)
    client.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    await rig.asked()
    body = b"x" * 60_000
    rig.client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    rig.side.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    while not client.writing_paused:  # noqa: ASYNC110 - until the loop has seen it
        await asyncio.sleep(0)
    while rig.gate.gate.runtime.upstreams[""].busy:  # noqa: ASYNC110 - the app has done its part
        await asyncio.sleep(0)
    assert rig.reports == []
    return body


async def test_an_answer_counts_once_it_is_taken(database: Path) -> None:
    async with known(database) as rig:
        body = await not_taken(rig)
        rig.ask("/dashboard/next")
        rig.client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert (await rig.client.until(body)).endswith(body)
        assert (await rig.side.until(b"\r\n\r\n")).startswith(b"GET /dashboard/next ")
        (report,) = rig.reports
        assert (report.reason, report.status) == (Reason.SESSION, 200)
        assert report.sent_bytes > len(body)
        assert report.upstream_s is not None
        assert 0 <= report.upstream_s <= report.seconds


async def test_an_answer_that_is_never_taken(database: Path) -> None:
    async with known(database) as rig:
        await not_taken(rig)
        rig.client.reset()
        report = await rig.report()
        assert (report.reason, report.status) == (Reason.CLIENT_LEFT, 200)
        assert report.upstream_s is not None
        assert 0 <= report.upstream_s <= report.seconds
