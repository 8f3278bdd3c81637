"""Several workers in processes of their own: who serves, who is started again, and how all of them end."""

import asyncio
import json
import os
import platform
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gatekeeper import __version__
from tests.attacks.judge import parse_responses
from tests.server.conftest import TOKEN
from tests.server.gates import SECRET, cookie_header
from tests.server.upstreams import Received, RecordingUpstream
from tests.server.wire import Wire, ask, head, mirrored
from tests.workers.running import Gate, Hold, Watch, start, workers, write_config

SIGNED_IN = f"Cookie: {cookie_header(TOKEN)['Cookie']}"
MANY = 40
"""Connections of which none goes to one of two workers once in a thousand billion times."""


async def request_id(port: int) -> str:
    """The id of one request on a connection of its own; its first half is that of a worker's life."""
    seen = mirrored(await ask(port, "GET", "/dashboard", SIGNED_IN))
    assert seen["headers"]["x-auth-user-id"] == "user-ada"
    found: str = seen["headers"]["x-request-id"]
    return found


def lives(ids: list[str]) -> set[str]:
    return {one[:8] for one in ids}


class SlowApp:
    """Has the app answer only when it is told to."""

    def __init__(self, upstream: RecordingUpstream) -> None:
        self.arrived = asyncio.Event()
        self.go_on = asyncio.Event()
        upstream.answering = self._answer

    async def _answer(self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self.arrived.set()
        await self.go_on.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        return True


@asynccontextmanager
async def two(database: Path, upstream: RecordingUpstream, more: str = "") -> AsyncIterator[Gate]:
    async with workers(write_config(database, upstream.url, more)) as gate:
        yield gate


async def test_both_serve_and_no_request_id_is_there_twice(database: Path, upstream: RecordingUpstream) -> None:
    async with two(database, upstream) as gate:
        ids = [await request_id(gate.port) for _ in range(MANY)]
        assert len(lives(ids)) == 2
        assert len(set(ids)) == MANY
        assert len(set(gate.pids.values())) == 2
        assert await gate.ready() == (200, [])
        assert (await gate.admin("/healthz")).body == b"ok"
        assert await gate.stop() == 0
    assert gate.other_output == []


async def test_metrics_are_those_of_all_together(database: Path, upstream: RecordingUpstream) -> None:
    async with two(database, upstream) as gate:
        for _ in range(MANY):
            await request_id(gate.port)
        metrics = await gate.metrics()
        resident = sum(_resident_bytes(pid) for pid in (gate.process.pid, *gate.pids.values()))
        descriptors = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in (gate.process.pid, *gate.pids.values()))
    assert metrics['gatekeeper_requests_total{decision="allow",reason="SESSION",rule="protect /dashboard"}'] == MANY
    assert metrics['gatekeeper_request_seconds_count{by="upstream"}'] == MANY
    assert metrics['gatekeeper_workers{state="ready"}'] == 2
    assert metrics['gatekeeper_workers{state="waiting"}'] == 0
    assert metrics["gatekeeper_worker_restarts_total"] == 0
    assert metrics[f'gatekeeper_build_info{{python="{platform.python_version()}",version="{__version__}"}}'] == 1
    assert metrics["process_resident_memory_bytes"] == pytest.approx(resident, rel=0.1)
    assert metrics["process_open_fds"] == pytest.approx(descriptors, abs=6)


async def test_one_that_is_killed_is_started_again_and_nobody_is_refused(
    database: Path, upstream: RecordingUpstream
) -> None:
    """While one of two is not there, requests go on: to the other at once, to it once its successor is ready."""
    async with two(database, upstream) as gate:
        before = [await request_id(gate.port) for _ in range(MANY)]
        counted = await gate.metrics()
        killed = gate.pids[1]
        os.kill(killed, signal.SIGKILL)
        after = await asyncio.gather(*(request_id(gate.port) for _ in range(MANY)))
        await gate.restarted(1)
        assert f"worker 1: pid {killed} ended: SIGKILL; it is started again at once" in gate.messages
        assert len(lives(before) & lives(after)) == 1
        assert len(lives([*before, *after])) == 3
        assert await gate.ready() == (200, [])
        now = await gate.metrics()
        assert await gate.stop() == 0
    assert now["gatekeeper_worker_restarts_total"] == 1
    session = 'gatekeeper_requests_total{decision="allow",reason="SESSION",rule="protect /dashboard"}'
    assert (counted[session], now[session]) == (MANY, 2 * MANY)
    for name in (name for name in counted if name.endswith(("_total", "_count", "_sum")) or "_total{" in name):
        assert now[name] >= counted[name], name


async def test_while_one_is_not_ready_the_gate_says_which(
    database: Path, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    hold = Hold(tmp_path)
    async with workers(write_config(database, upstream.url), hold.environ) as gate:
        hold.begin()
        os.kill(gate.pids[2], signal.SIGKILL)
        await gate.message("worker 2: pid")
        ready, states = await gate.ready(), await gate.metrics()
        hold.release()
        await gate.restarted(2)
        assert await gate.ready() == (200, [])
    assert ready == (503, ["worker 2 of 2: starting"])
    assert (states['gatekeeper_workers{state="ready"}'], states['gatekeeper_workers{state="starting"}']) == (1, 1)


async def test_who_waits_for_a_successor_is_served_at_the_end_too(
    database: Path, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    """A signal to end comes while one of two workers starts anew, and clients wait at its socket."""
    hold = Hold(tmp_path)
    async with workers(write_config(database, upstream.url), hold.environ) as gate:
        hold.begin()
        os.kill(gate.pids[1], signal.SIGKILL)
        await gate.message("worker 1: pid")
        wires = [await Wire.open(gate.port) for _ in range(MANY)]
        for wire in wires:
            wire.send(head("GET", "/x", "gate.test"))
        gate.process.send_signal(signal.SIGTERM)
        await gate.message("SIGTERM: finishing what is in flight")
        hold.release()
        ends = [await wire.rest() for wire in wires]
        assert await gate.end() == 0
    ids = [mirrored(parse_responses(end, "GET")[0][0])["headers"]["x-request-id"] for end in ends]
    assert len(lives(ids)) == 2


async def test_a_successor_has_the_configuration_of_the_others(database: Path, upstream: RecordingUpstream) -> None:
    async with two(database, upstream) as gate:
        config = database.with_name("config.yaml")
        config.write_text("protect: [/elsewhere\n")
        for worker in (1, 2):
            os.kill(gate.pids[worker], signal.SIGKILL)
            await gate.restarted(worker)
        ids = [await request_id(gate.port) for _ in range(MANY)]
        denied = await ask(gate.port, "GET", "/dashboard")
        assert await gate.stop() == 0
    assert len(lives(ids)) == 2
    assert denied.status == 401


async def test_problems_that_all_have_are_told_once(database: Path, upstream: RecordingUpstream) -> None:
    async with two(database, upstream) as gate:
        database.unlink()
        status, problems = await gate.ready()
        while status == 200:  # an answer of the last second counts
            status, problems = await gate.ready()
    told = f"session store: {database}: No such file or directory"
    assert problems in ([told], [f"worker 1 of 2: {told}"], [f"worker 2 of 2: {told}"])


async def test_secrets_stand_in_no_argument_and_no_environment(database: Path, upstream: RecordingUpstream) -> None:
    async with two(database, upstream) as gate:
        for pid in gate.pids.values():
            said = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
            assert b"gatekeeper.workers" in said
            assert SECRET.encode() not in said
            assert os.getsid(pid) == pid  # Ctrl-C in the supervisor's terminal is not for them


async def listening_line(fifo: Path) -> str:
    """The line of the log, written to a FIFO, that says where the gate listens."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    pipe = os.fdopen(os.open(fifo, os.O_RDWR | os.O_NONBLOCK), "rb", buffering=0)  # both ends: no end before the gate's
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        async with asyncio.timeout(60):
            while b"listening on" not in (line := await reader.readline()):
                pass
        return line.decode()
    finally:
        transport.close()


async def test_lines_of_all_are_whole_and_follow_a_rotated_file(database: Path, upstream: RecordingUpstream) -> None:
    log, rotated = database.with_name("gate.log"), database.with_name("gate.log.1")
    os.mkfifo(log)  # a file that can be waited for; then it is rotated away, and so is the one that comes after it
    gate = await start(write_config(database, upstream.url, f"log: {{file: '{log}'}}\n"))
    try:
        port = int((await listening_line(log)).partition("listening on http://127.0.0.1:")[2].partition(" ")[0])
        log.unlink()
        ids = [await request_id(port) for _ in range(MANY)]
        async with asyncio.timeout(60):
            while not log.exists():
                ids.append(await request_id(port))
        log.rename(rotated)
        ids += [await request_id(port) for _ in range(MANY)]
    finally:
        assert await gate.stop() == 0
    assert len(ids) == len(set(ids))
    lines = [json.loads(line) for line in (rotated.read_text() + log.read_text()).splitlines()]
    logged = [line["request_id"] for line in lines if line["kind"] == "access"]
    assert sorted(logged) == sorted(ids)
    assert len(lives(logged)) == 2


# --- limits --------------------------------------------------------------------------------------------------------


async def test_the_limit_of_connections_is_that_of_all(database: Path, upstream: RecordingUpstream) -> None:
    async with two(database, upstream, "limits: {connections: 40}\n") as gate:
        wires = []
        for _ in range(40):
            wire = await Wire.open(gate.port)
            wire.send(head("GET", "/x", "gate.test", close=False))
            await wire.until(b"\r\n\r\n")
            wires.append(wire)
        refused = [await ask(gate.port, "GET", "/x") for _ in range(4)]  # of more, some are cut off
        assert [answer.status for answer in refused] == [503] * 4
        assert (await gate.metrics())["gatekeeper_client_connections"] >= 40
        killed = gate.pids[1]
        os.kill(killed, signal.SIGKILL)  # its clients' connections are gone, and do not count any more
        await gate.restarted(1)
        assert [(await ask(gate.port, "GET", "/x")).status for _ in range(3)] == [200] * 3
        for wire in wires:
            wire.close()


# --- the end -------------------------------------------------------------------------------------------------------


async def test_sigterm_finishes_what_is_in_flight(database: Path, upstream: RecordingUpstream) -> None:
    app = SlowApp(upstream)
    async with two(database, upstream) as gate:
        asking = [asyncio.create_task(ask(gate.port, "GET", "/slow")) for _ in range(10)]
        await app.arrived.wait()
        while len(upstream.requests) < 10:
            await gate.metrics()
        gate.process.send_signal(signal.SIGTERM)
        await gate.message("SIGTERM: finishing what is in flight")
        ready = await gate.ready()
        states = await gate.metrics()
        await refused(gate.port)
        app.go_on.set()
        answers = await asyncio.gather(*asking)
        assert await gate.end() == 0
    assert ready == (503, ["draining"])
    assert states['gatekeeper_workers{state="draining"}'] == 2
    assert [answer.status for answer in answers] == [200] * 10
    assert [line["event"] for line in gate.lines if line["kind"] == "audit"] == ["started", "drain_started"]


async def refused(port: int) -> None:
    """Wait until nobody listens.  Clients that are let in until then are in nobody's way."""
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                return
            writer.close()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_stops_at_once(
    database: Path, upstream: RecordingUpstream, second: signal.Signals
) -> None:
    app = SlowApp(upstream)
    async with two(database, upstream) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("GET", "/slow", "gate.test"))
        await app.arrived.wait()
        gate.process.send_signal(signal.SIGINT)
        await gate.message("SIGINT: finishing what is in flight")
        gate.process.send_signal(second)
        assert await gate.end() == 0
        assert await wire.rest() == b""
        app.go_on.set()


async def test_who_is_told_to_end_while_it_starts_ends(database: Path, upstream: RecordingUpstream) -> None:
    gate = await start(write_config(database, upstream.url))
    await gate.message("is ready")
    assert await gate.stop() == 0


async def test_signals_to_workers_are_ignored(database: Path, upstream: RecordingUpstream) -> None:
    """A service manager sends them to every process at once."""
    async with two(database, upstream) as gate:
        watches = [Watch(pid) for pid in gate.pids.values()]
        for pid in gate.pids.values():
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        ids = [await request_id(gate.port) for _ in range(MANY)]
        assert len(lives(ids)) == 2
        assert not any(watch.has_ended for watch in watches)
        assert await gate.stop() == 0
        for watch in watches:
            await watch.end()


async def test_one_that_does_not_end_in_order_makes_the_status_1(database: Path, upstream: RecordingUpstream) -> None:
    app = SlowApp(upstream)
    async with two(database, upstream) as gate:
        asking = [await Wire.open(gate.port) for _ in range(MANY)]
        for wire in asking:
            wire.send(head("GET", "/slow", "gate.test"))
        while len(upstream.requests) < MANY:
            await gate.metrics()
        gate.process.send_signal(signal.SIGTERM)
        await gate.message("SIGTERM: finishing what is in flight")
        os.kill(gate.pids[1], signal.SIGKILL)
        await gate.message(f"worker 1 (pid {gate.pids[1]}) did not end in order: SIGKILL")
        app.go_on.set()
        assert await gate.end() == 1
        ends = [await wire.rest() for wire in asking]
    answered = [parse_responses(end, "GET")[0][0].status for end in ends if end]
    assert set(answered) == {200}  # those of the other one
    assert 0 < len(answered) < MANY


async def test_workers_end_by_themselves_when_their_supervisor_is_gone(
    database: Path, upstream: RecordingUpstream
) -> None:
    """The port is free at once; what is in flight is finished."""
    app = SlowApp(upstream)
    async with two(database, upstream, "timeouts: {drain_delay: 30s, drain: 30s}\n") as gate:
        watches = [Watch(pid) for pid in gate.pids.values()]
        asking = [asyncio.create_task(ask(gate.port, "GET", "/slow")) for _ in range(10)]
        while len(upstream.requests) < 10:
            await gate.metrics()
        gate.process.kill()
        await refused(gate.port)
        with socket.socket() as successor:
            successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            successor.bind(("127.0.0.1", gate.port))
        app.go_on.set()
        assert [answer.status for answer in await asyncio.gather(*asking)] == [200] * 10
        for watch in watches:
            await watch.end()


# --- failing starts ------------------------------------------------------------------------------------------------


async def test_a_worker_that_cannot_begin_ends_the_start_with_its_message(
    database: Path, upstream: RecordingUpstream
) -> None:
    gate = await start(write_config(database, upstream.url), {"AIOHTTP_NO_EXTENSIONS": "1"})
    assert await gate.end() == 1
    (told,) = gate.other_output
    assert told.startswith("gatekeeper: aiohttp's C parser is missing: unset AIOHTTP_NO_EXTENSIONS")
    assert not [message for message in gate.messages if "started again" in message]


async def test_a_worker_that_dies_while_it_starts_ends_the_start(
    database: Path, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    """As of a broken library: what stands for one of a worker's modules ends the process."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "uvloop.py").write_text("import os\nos._exit(70)\n")
    environ = {"PYTHONPATH": os.pathsep.join([str(tmp_path / "broken"), os.environ.get("PYTHONPATH", "")])}
    gate = await start(write_config(database, upstream.url), environ)
    assert await gate.end() == 1
    (told,) = gate.other_output
    assert "ended while it started: exit status 70" in told


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("log: {file: none/gate.log}\n", "cannot write the log to "),
        ("admin: {listen: 'unix:/dev/null/x'}\n", "cannot listen on unix:/dev/null/x (setting admin.listen): "),
    ],
)
async def test_what_cannot_be_had_is_named(
    database: Path, upstream: RecordingUpstream, more: str, message: str
) -> None:
    gate = await start(write_config(database, upstream.url, more))
    assert await gate.end() == 1
    (told,) = gate.other_output
    assert message in told


async def test_a_second_gate_at_the_same_port_is_refused(database: Path, upstream: RecordingUpstream) -> None:
    async with two(database, upstream) as gate:
        other = await start(write_config(database, upstream.url, listen=f"127.0.0.1:{gate.port}"))
        assert await other.end() == 1
        alone = await start(write_config(database, upstream.url, workers=1, listen=f"127.0.0.1:{gate.port}"))
        assert await alone.end() == 1
    for refused_gate in (other, alone):
        assert refused_gate.other_output == [
            f"gatekeeper: cannot listen on 127.0.0.1:{gate.port} (setting listen): Address already in use\n"
        ]


# --- other places --------------------------------------------------------------------------------------------------


async def test_at_a_unix_socket(database: Path, upstream: RecordingUpstream, tmp_path: Path) -> None:
    path = tmp_path / "gate.sock"
    async with workers(write_config(database, upstream.url, listen=f"unix:{path}")) as gate:
        os.kill(gate.pids[1], signal.SIGKILL)
        await gate.restarted(1)
        for _ in range(5):
            wire = await Wire.open_unix(path)
            wire.send(head("GET", "/dashboard", "gate.test", SIGNED_IN))
            (response,), _ = parse_responses(await wire.rest(), "GET")
            assert mirrored(response)["headers"]["x-auth-user-id"] == "user-ada"
        assert await gate.stop() == 0
    assert not path.exists()


def _resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
