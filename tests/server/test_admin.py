"""The admin listener: health, readiness and metrics, and nothing else, over real sockets."""

import asyncio
import json
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from gatekeeper.config.load import load_text
from gatekeeper.core.errors import ListenError, StoreUnavailable
from gatekeeper.core.model import Reason
from gatekeeper.server.admin import Health
from gatekeeper.server.app import serve
from gatekeeper.server.gate import Gate
from gatekeeper.server.logs import secrets_of
from tests.attacks.judge import Response, parse_responses
from tests.core.facts import facts
from tests.server.gates import FOUR_LINES, SECRET, RunningGate, running_gate
from tests.server.upstreams import Received, RecordingUpstream
from tests.server.wire import Wire, ask

ADMIN = "admin: {listen: 127.0.0.1:0}\n"


def admin_port(gate: RunningGate) -> int:
    address = gate.served.admin_address
    assert address is not None
    return int(address.rpartition(":")[2])


async def get(gate: RunningGate, path: str, method: str = "GET", *lines: str) -> Response:
    return await ask(admin_port(gate), method, path, *lines)


def header(response: Response, name: str) -> str | None:
    values = [value for key, value in response.headers if key.lower() == name.lower()]
    assert len(values) < 2
    return values[0] if values else None


class FakeSessions:
    """A session cache whose check says what it is told to, and counts."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.checks = 0
        self.hangs = False

    async def check(self) -> None:
        self.checks += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error


class FakeGate:
    def __init__(self) -> None:
        self.sessions = FakeSessions()
        self.runtime = self


def health_of(gate: FakeGate, clock: list[float], timeout_s: float = 20.0) -> Health:
    health = Health(cast(Gate, gate), clock=lambda: clock[0], timeout_s=timeout_s)
    health.started = True
    return health


async def test_healthy_and_ready(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database, ADMIN) as gate:
        alive, ready = await get(gate, "/healthz"), await get(gate, "/readyz")
    assert (alive.status, alive.body) == (200, b"ok")
    assert (ready.status, json.loads(ready.body)) == (200, {"ready": True})
    assert header(ready, "Content-Type") == "application/json"


async def test_a_missing_table_is_named(database: Path, upstream: RecordingUpstream) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("drop table session")
    async with running_gate(upstream.url, database, ADMIN) as gate:
        answer = await get(gate, "/readyz")
    assert answer.status == 503
    (problem,) = json.loads(answer.body)["problems"]
    assert problem == f"session store: {database}: no table 'session' (setting store.tables.session)"
    assert json.loads(answer.body)["ready"] is False


async def test_an_unreadable_store_is_named(database: Path, upstream: RecordingUpstream) -> None:
    database.unlink()
    async with running_gate(upstream.url, database, ADMIN) as gate:
        answer = await get(gate, "/readyz")
        assert (await get(gate, "/healthz")).status == 200
    assert answer.status == 503
    assert json.loads(answer.body)["problems"] == [f"session store: {database}: No such file or directory"]


async def test_the_store_is_asked_once_a_second_at_most() -> None:
    gate, clock = FakeGate(), [100.0]
    health = health_of(gate, clock)
    assert [await health.problems() for _ in range(3)] == [[], [], []]
    await asyncio.gather(*(health.problems() for _ in range(5)))
    assert gate.sessions.checks == 1
    gate.sessions.error = StoreUnavailable("away")
    clock[0] = 100.999
    assert await health.problems() == []
    clock[0] = 101.0
    assert await health.problems() == ["session store: away"]
    gate.sessions.error = None
    clock[0] = 102.0
    assert await health.problems() == []
    assert gate.sessions.checks == 3


async def test_a_store_that_does_not_answer_is_a_problem() -> None:
    gate = FakeGate()
    gate.sessions.hangs = True
    assert await health_of(gate, [0.0], timeout_s=0).problems() == ["session store: no answer within 0 s"]


async def test_starting_and_draining_ask_no_store() -> None:
    gate = FakeGate()
    health = health_of(gate, [0.0])
    health.started = False
    assert await health.problems() == ["starting"]
    health.started = health.draining = True
    assert await health.problems() == ["draining"]
    assert gate.sessions.checks == 0


async def test_a_draining_gate_says_so_until_its_last_request_is_done(
    database: Path, upstream: RecordingUpstream
) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def answer_late(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        arrived.set()
        await go_on.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        return True

    upstream.answering = answer_late
    started, end = asyncio.get_running_loop().create_future(), asyncio.Event()

    async def run() -> None:
        async with running_gate(upstream.url, database, ADMIN) as gate:
            started.set_result(gate)
            await end.wait()
            await gate.served.stop(delay_s=0, limit_s=20)

    running = asyncio.create_task(run())
    gate: RunningGate = await started
    slow = asyncio.create_task(ask(gate.port, "GET", "/slow"))
    await arrived.wait()
    end.set()
    while (ready := await get(gate, "/readyz")).status == 200:
        pass
    alive = await get(gate, "/healthz")
    assert (alive.status, ready.status, json.loads(ready.body)["problems"]) == (200, 503, ["draining"])
    go_on.set()
    assert (await slow).status == 200
    await running
    with pytest.raises(ConnectionRefusedError):
        await get(gate, "/healthz")


async def test_metrics_count_what_was_recorded(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database, ADMIN) as gate:
        for status in (200, 200, 404):
            gate.served.telemetry.record(
                facts("/secret-path"), "protect /x", Reason.SESSION, None, status, "id", 0.1, 0.1, 9, "192.0.2.1"
            )
        await ask(gate.port, "GET", "/through")
        answer = await get(gate, "/metrics")
    text = answer.body.decode()
    assert answer.status == 200
    assert header(answer, "Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    assert 'gatekeeper_requests_total{decision="allow",reason="SESSION",rule="protect /x"} 3.0' in text
    for state, count in (("idle", 1), ("busy", 0), ("streaming", 0)):
        assert f'gatekeeper_upstream_connections{{state="{state}",upstream="default"}} {count}.0' in text
    assert "gatekeeper_session_cache_hits_total 0.0" in text
    assert re.search(r"^gatekeeper_client_connections [0-9.]+$", text, re.MULTILINE)
    assert "secret-path" not in text
    assert "192.0.2.1" not in text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/nothing"])
async def test_what_every_answer_says_and_does_not(database: Path, upstream: RecordingUpstream, path: str) -> None:
    async with running_gate(upstream.url, database, ADMIN) as gate:
        answer, head = await get(gate, path), await get(gate, path, "HEAD")
    assert header(answer, "Cache-Control") == "no-store"
    assert header(answer, "Server") == "gatekeeper"
    assert (head.status, head.body) == (answer.status, b"")


@pytest.mark.parametrize(
    "path", ["/", "/healthz/", "/HEALTHZ", "//healthz", "/x/../healthz", "/%68ealthz", "/metrics;x"]
)
async def test_there_is_nothing_else(database: Path, upstream: RecordingUpstream, path: str) -> None:
    async with running_gate(upstream.url, database, ADMIN) as gate:
        answer = await get(gate, path)
    assert (answer.status, json.loads(answer.body)) == (404, {"error": "Not Found"})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_nothing_can_be_changed(database: Path, upstream: RecordingUpstream, method: str) -> None:
    async with running_gate(upstream.url, database, ADMIN) as gate:
        answer = await get(gate, "/readyz", method)
    assert (answer.status, header(answer, "Allow")) == (405, "GET, HEAD")


async def test_a_query_is_let_pass(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database, ADMIN) as gate:
        assert (await get(gate, "/healthz?probe=1")).status == 200


async def test_a_malformed_request_learns_nothing(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database, ADMIN) as gate:
        wire = await Wire.open(admin_port(gate))
        wire.send("GET /healthz HTTP/1.1\r\nBad Header: <script>\r\n\r\n")
        raw = await wire.rest()
    (answer,), _ = parse_responses(raw, "GET")
    assert (answer.status, json.loads(answer.body)) == (400, {"error": "Bad Request"})
    assert header(answer, "Server") == "gatekeeper"
    assert b"script" not in raw
    assert b"aiohttp" not in raw


async def test_an_unforeseen_error_is_a_500_without_detail(
    database: Path, upstream: RecordingUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> float:
        raise RuntimeError("detail")

    async with running_gate(upstream.url, database, ADMIN) as gate:
        gate.served.telemetry.gauge("broken", "A gauge that fails.", broken)
        answer = await get(gate, "/metrics")
    assert (answer.status, json.loads(answer.body)) == (500, {"error": "Internal Server Error"})
    assert "unforeseen error on the admin listener" in caplog.text


async def test_on_a_unix_socket(database: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    async with running_gate(upstream.url, database, f"admin: {{listen: 'unix:{path}'}}\n") as gate:
        assert gate.served.admin_address == f"unix:{path}"
        wire = Wire(*await asyncio.open_unix_connection(path))
        wire.send("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await wire.rest()).endswith(b"\r\n\r\nok")
    assert not path.exists()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_an_address_that_cannot_be_had_names_the_setting(
    database: Path, upstream: RecordingUpstream, tmp_path: Path, kind: str
) -> None:
    taken = f"127.0.0.1:{upstream.port}" if kind == "tcp" else f"unix:{tmp_path}/none/admin.sock"
    with pytest.raises(ListenError) as raised:
        async with running_gate(upstream.url, database, f"admin: {{listen: '{taken}'}}\n"):
            pass
    assert f"cannot listen on {taken} (setting admin.listen): " in str(raised.value)
    assert "set admin.listen to another address, or to null" in str(raised.value)


async def test_off_is_off(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        assert gate.served.admin_address is None
        assert (await ask(gate.port, "GET", "/healthz")).body != b"ok"  # the app's path, as any other


async def test_the_gate_writes_its_log_and_no_secret(
    database: Path, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    path = tmp_path / "gate.log"
    async with running_gate(upstream.url, database, f"log: {{file: '{path}'}}\n") as gate:
        gate.served.telemetry.record(
            facts(f"/x?q={SECRET}"), "", Reason.PUBLIC, None, 200, "id", 0.1, None, 0, "192.0.2.1"
        )
        gate.served.telemetry.audit("stream_cut", detail=f"better-auth.session_token={SECRET}")
    lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line.get("event") for line in lines if line["kind"] == "audit"] == [
        "started",
        "stream_cut",
        "drain_started",
    ]
    (access,) = [line for line in lines if line["kind"] == "access"]
    assert access["query"] == "q=[redacted]"
    assert SECRET not in path.read_text()


def test_whatever_settings_hold_in_confidence_is_known_to_the_redactor(tmp_path: Path) -> None:
    text = FOUR_LINES.format(upstream="http://127.0.0.1:9", secret=SECRET, database=tmp_path / "auth.db")
    settings = load_text(text, source="c.yaml", base_dir=tmp_path, environ={})
    store = msgspec.structs.replace(
        settings.store, url="postgresql://gate:p%40ss-word@h/d", secondary="redis://:other@h"
    )
    admin = msgspec.structs.replace(settings.admin, token="admin-token")
    settings = msgspec.structs.replace(settings, store=store, admin=admin)
    assert set(secrets_of(settings)) == {SECRET, "p%40ss-word", "p@ss-word", "other", "admin-token"}


async def test_serve_without_admin_or_log_settings_uses_the_default_address(tmp_path: Path) -> None:
    """`admin.listen` has a default; where that is taken, the error says what to do."""
    text = FOUR_LINES.format(upstream="http://127.0.0.1:9", secret=SECRET, database=tmp_path / "auth.db")
    settings = load_text(text + f"log: {{file: '{os.devnull}'}}\n", source="c.yaml", base_dir=tmp_path, environ={})
    assert settings.admin.listen == "127.0.0.1:9091"
    try:
        blocker = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 9091)
    except OSError:  # somebody has it already, which is as good
        blocker = None
    try:
        with pytest.raises(ListenError, match=r"127\.0\.0\.1:9091 \(setting admin\.listen\)"):
            async with serve(settings):
                pass
    finally:
        if blocker is not None:
            blocker.close()
            await blocker.wait_closed()
