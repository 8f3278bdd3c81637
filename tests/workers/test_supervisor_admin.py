"""The supervisor's admin listener: the answers are those of a single process, and malformed requests learn nothing."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gatekeeper.core.errors import ListenError
from gatekeeper.workers.admin import answer_to, serve_supervisor_admin
from tests.attacks.judge import Response, parse_responses
from tests.server.gates import running_gate
from tests.server.upstreams import RecordingUpstream
from tests.server.wire import Wire, head

PATHS = ["/healthz", "/readyz", "/metrics", "/healthz?probe=1", "/nothing", "/", "//healthz", "/healthz/", "/HEALTHZ"]
PATHS += ["/.well-known/gatekeeper/jwks.json", "/.well-known/pomerium/jwks.json"]


class FakeReporter:
    """Is ready unless it has problems; its metrics are one line."""

    def __init__(self, *problems: str) -> None:
        self.found = list(problems)
        self.accepts: list[str] = []
        self.keys: bytes | None = None

    async def problems(self) -> list[str]:
        return self.found

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        self.accepts.append(accept)
        if accept == "fail":
            raise RuntimeError("detail")
        return b"up 1\n", "text/plain; version=0.0.4; charset=utf-8"

    async def jwks(self) -> bytes | None:
        return self.keys

    def safe(self, text: str) -> str:
        return text.replace("hunter2", "[redacted]")


@asynccontextmanager
async def listening(reporter: FakeReporter) -> AsyncIterator[int]:
    async with serve_supervisor_admin("127.0.0.1:0", reporter) as address:
        assert address is not None
        yield int(address.rpartition(":")[2])


async def raw_answer(port: int, request: bytes) -> bytes:
    wire = await Wire.open(port)
    wire.send(request)
    return await wire.rest()


async def ask(port: int, path: str, method: str = "GET", *lines: str) -> Response:
    raw = await raw_answer(port, head(method, path, "admin.test", *lines).encode())
    (response,), _ = parse_responses(raw, method)
    return response


def without(response: Response, *names: str) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers if name.lower() not in names}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_the_keys_of_assertions_are_there_where_they_are_made(
    database: Path, upstream: RecordingUpstream, method: str
) -> None:
    path, reporter = "/.well-known/gatekeeper/jwks.json", FakeReporter()
    more = "admin: {listen: 127.0.0.1:0}\npublic_url: http://127.0.0.1\n"
    async with running_gate(upstream.url, database, more) as gate:
        assert gate.served.admin_address is not None
        alone = await ask(int(gate.served.admin_address.rpartition(":")[2]), path, method)
        public = await ask(gate.port, path, "GET")
    reporter.keys = public.body
    async with listening(reporter) as port:
        several = await ask(port, path, method)
    if method == "GET":
        assert [key["use"] for key in json.loads(alone.body)["keys"]] == ["sig", "sig"]
        assert (alone.status, alone.body) == (200, public.body)
        assert alone.values("cache-control") == public.values("cache-control") == ["public, max-age=300"]
        assert alone.values("content-type") == ["application/json"]
    assert (several.status, several.body) == (alone.status, alone.body)
    assert without(several, "connection") == without(alone, "connection", "date")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
@pytest.mark.parametrize("path", PATHS)
async def test_answers_are_those_of_a_single_process(
    database: Path, upstream: RecordingUpstream, method: str, path: str
) -> None:
    """But for what is counted, and for how HTTP/1.1 says that the connection ends."""
    async with running_gate(upstream.url, database, "admin: {listen: 127.0.0.1:0}\n") as gate:
        assert gate.served.admin_address is not None
        alone = await ask(int(gate.served.admin_address.rpartition(":")[2]), path, method)
    async with listening(FakeReporter()) as port:
        several = await ask(port, path, method)
    assert several.status == alone.status
    assert without(several, "content-length", "connection") == without(alone, "content-length", "connection", "date")
    if "/metrics" not in path:
        assert several.body == alone.body


async def test_problems_are_told_and_made_safe() -> None:
    async with listening(FakeReporter("worker 2 of 4: starting", "password hunter2")) as port:
        answer = await ask(port, "/readyz")
        alive = await ask(port, "/healthz")
    assert (answer.status, alive.status) == (503, 200)
    assert answer.body == b'{"ready":false,"problems":["worker 2 of 4: starting","password [redacted]"]}'


async def test_metrics_come_in_the_format_that_is_asked_for() -> None:
    reporter = FakeReporter()
    async with listening(reporter) as port:
        assert (await ask(port, "/metrics")).body == b"up 1\n"
        await ask(port, "/metrics", "GET", "Accept: text/plain", "accept: a/b;q=0.5")
    assert reporter.accepts == ["", "text/plain, a/b;q=0.5"]


async def test_an_unforeseen_error_is_a_500_without_detail(caplog: pytest.LogCaptureFixture) -> None:
    async with listening(FakeReporter()) as port:
        answer = await ask(port, "/metrics", "GET", "Accept: fail")
    assert (answer.status, answer.body) == (500, b'{"error":"Internal Server Error"}')
    assert "unforeseen error on the admin listener" in caplog.text


@pytest.mark.parametrize(
    "request_head",
    [
        pytest.param(b"GET /healthz\r\n\r\n", id="no-version"),
        pytest.param(b"GET /healthz HTTP/2.0\r\n\r\n", id="another-version"),
        pytest.param(b"GET  /healthz HTTP/1.1\r\n\r\n", id="two-blanks"),
        pytest.param(b"get /healthz HTTP/1.1\r\n\r\n", id="small-method"),
        pytest.param(b"GET http://x/healthz HTTP/1.1\r\n\r\n", id="absolute"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nBad Header: <script>\r\n\r\n", id="bad-name"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n", id="no-colon"),
        pytest.param(b"GET /healthz HTTP/1.1\r\n folded: x\r\n\r\n", id="folded"),
        pytest.param(b"GET /healthz HTTP/1.1\nHost: x\r\n\r\n", id="bare-lf"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nX: a\x00b\r\n\r\n", id="nul"),
        pytest.param("GET /ü HTTP/1.1\r\n\r\n".encode(), id="not-ascii"),
        pytest.param(b"\x16\x03\x01\x02\x00\r\n\r\n", id="tls"),
        pytest.param(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", id="long"),
    ],
)
async def test_a_malformed_request_learns_nothing(request_head: bytes) -> None:
    async with listening(FakeReporter()) as port:
        raw = await raw_answer(port, request_head)
    assert raw.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert raw.endswith(b'\r\n\r\n{"error":"Bad Request"}')
    assert b"script" not in raw


async def test_one_that_leaves_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with listening(FakeReporter()) as port:
        for sent in (b"", b"GET /hea"):
            with socket.create_connection(("127.0.0.1", port), 20) as client:
                client.sendall(sent)
        assert (await ask(port, "/healthz")).status == 200
    assert caplog.text == ""


async def test_one_that_says_nothing_does_not_hold_up_the_end() -> None:
    async with listening(FakeReporter()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await ask(port, "/healthz")).status == 200  # it was accepted before this one
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()


async def test_the_head_alone_decides() -> None:
    method, answer = await answer_to(b"HEAD /healthz HTTP/1.0\r\n\r\n", FakeReporter())
    assert (method, answer.status, answer.body) == ("HEAD", 200, b"ok")


async def test_on_a_unix_socket_and_off(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    async with serve_supervisor_admin(f"unix:{path}", FakeReporter()) as address:
        assert address == f"unix:{path}"
        wire = await Wire.open_unix(path)
        wire.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await wire.rest()).endswith(b"\r\n\r\nok")
    assert not path.exists()
    async with serve_supervisor_admin(None, FakeReporter()) as address:
        assert address is None


async def test_an_address_that_is_taken_names_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ListenError) as raised:
        async with serve_supervisor_admin(f"127.0.0.1:{taken.getsockname()[1]}", FakeReporter()):
            pass
    assert "(setting admin.listen): Address already in use; set admin.listen to another" in str(raised.value)
