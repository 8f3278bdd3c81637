"""Each request is told of once, and truly, whichever path answered it and however it ended.

Each test makes the gate know its request first, so that the fast lane, where there is one, takes it.
"""

import asyncio
import logging
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
