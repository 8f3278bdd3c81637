"""The reverse proxy over real sockets: what reaches the app, what comes back, what is refused."""

import asyncio
import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.attacks.judge import parse_responses
from tests.server.conftest import TOKEN, USER_ID
from tests.server.gates import COOKIE, cookie_value, running_gate
from tests.server.upstreams import Received, RecordingUpstream, answer_as, read_body
from tests.server.wire import Wire, ask, head, mirrored

SIGNED_IN = f"Cookie: {COOKIE}={cookie_value(TOKEN)}"
PAGE = "Accept: text/html"
PIECE, PIECES = b"0123456789abcdef" * 4096, 800
SPELLINGS = [
    "X-Auth-User-Id",
    "x-auth-user-id",
    "X_Auth_User_Id",
    "X-Auth.User-Id",
    "x_AUTH-user*id",
    "X-Auth-Anything",
]


async def test_signed_out_page_is_redirected(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        response = await ask(gate.port, "GET", "/dashboard?tab=1", PAGE)
    assert response.status == 307
    assert response.values("location") == ["/sign-in?callbackUrl=%2Fdashboard%3Ftab%3D1"]
    assert response.values("cache-control") == ["no-store"]
    assert response.values("vary") == ["Cookie, Authorization, Accept, Sec-Fetch-Mode"]
    assert upstream.requests == []


async def test_signed_out_program_gets_json(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        response = await ask(gate.port, "GET", "/dashboard", "Accept: */*")
    assert response.status == 401
    assert json.loads(response.body) == {
        "error": "Unauthorized",
        "code": "NO_COOKIE",
        "signInUrl": "/sign-in?callbackUrl=%2Fdashboard",
    }


async def test_signed_in_identity_reaches_the_app(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        response = await ask(gate.port, "GET", "/dashboard", PAGE, SIGNED_IN)
        seen = mirrored(response)["headers"]
    assert response.status == 200
    assert seen["x-auth-status"] == "authenticated"
    assert seen["x-auth-user-id"] == USER_ID
    assert seen["x-auth-email"] == "Ada@example.test"
    assert seen["x-auth-email-verified"] == "true"
    assert seen["x-auth-name"] == "Ada %C5%81o%C5%9B"
    assert seen["x-auth-roles"] == "admin,user"
    assert seen["x-auth-session-id"] == hashlib.sha256(TOKEN.encode()).hexdigest()[:32]
    assert "x-auth-organization-id" not in seen
    assert response.values("cache-control") == ["private, no-store"]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("path", ["/", "/dashboard"])
async def test_no_spelling_of_an_identity_header_passes(
    database: Path, upstream: RecordingUpstream, spelling: str, path: str
) -> None:
    async with running_gate(upstream.url, database) as gate:
        await ask(gate.port, "GET", path, SIGNED_IN, f"{spelling}: forged", f"{spelling}: forged-again")
    assert len(upstream.requests) == 1
    assert b"forged" not in upstream.requests[0].head


async def test_public_path_is_anonymous_even_with_a_session(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        seen = mirrored(await ask(gate.port, "GET", "/about", SIGNED_IN))["headers"]
    assert {name: value for name, value in seen.items() if name.startswith("x-auth")} == {"x-auth-status": "anonymous"}


async def test_optional_identity(database: Path, upstream: RecordingUpstream) -> None:
    more = "public: [{path: /, identity: optional}]\n"
    async with running_gate(upstream.url, database, more) as gate:
        known = await ask(gate.port, "GET", "/", SIGNED_IN)
        unknown = await ask(gate.port, "GET", "/")
        assert mirrored(known)["headers"]["x-auth-user-id"] == USER_ID
        assert mirrored(unknown)["headers"]["x-auth-status"] == "anonymous"
        assert known.values("vary") == ["Cookie"]
        database.unlink()
        later = await ask(gate.port, "GET", "/", f"Cookie: {COOKIE}={cookie_value('another-token')}")
        assert mirrored(later)["headers"]["x-auth-status"] == "unknown"


async def test_what_the_app_is_told_about_the_client(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        lines = ("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X_Forwarded_Host: evil", "X-Real-IP: 6.6.6.6")
        seen = mirrored(await ask(gate.port, "GET", "/", *lines))["headers"]
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-proto"] == "http"
    assert seen["x-forwarded-host"] == seen["host"] == gate.host
    assert seen["x-forwarded-port"] == str(gate.port)
    assert seen["forwarded"] == f'for=127.0.0.1;host="{gate.host}";proto=http'
    assert len(seen["x-request-id"]) == 16
    assert "x-real-ip" not in seen
    assert "x_forwarded_host" not in seen


async def test_trusted_proxy_is_believed(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database, "trusted_proxies: [127.0.0.1, 10.0.0.0/8]\n") as gate:
        lines = (
            "X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.1.2.3",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: app.example.test",
            "X-Request-Id: from-the-edge",
        )
        seen = mirrored(await ask(gate.port, "GET", "/", *lines))["headers"]
    assert seen["x-forwarded-for"] == "203.0.113.9"
    assert seen["x-forwarded-proto"] == "https"
    assert seen["x-forwarded-host"] == "app.example.test"
    assert seen["x-forwarded-port"] == "443"
    assert seen["x-request-id"] == "from-the-edge"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_methods_and_bodies_pass(database: Path, upstream: RecordingUpstream, method: str) -> None:
    body = b"" if method in ("GET", "HEAD", "OPTIONS") else b"some body"
    async with running_gate(upstream.url, database) as gate:
        response = await ask(gate.port, method, "/api/x?a=1&a=2", body=body)
    assert response.status == 200
    assert (upstream.requests[0].method, upstream.requests[0].target) == (method, "/api/x?a=1&a=2")
    assert upstream.requests[0].body == body
    assert upstream.requests[0].trouble is None


async def test_chunked_body_is_framed_anew_without_extensions_and_trailers(
    database: Path, upstream: RecordingUpstream
) -> None:
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("POST", "/up", gate.host, "Transfer-Encoding: chunked"))
        wire.send("5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nX-Auth-User-Id: forged\r\n\r\n")
        await wire.rest()
    received = upstream.requests[0]
    assert received.body == b"hello world"
    assert received.trailers == b""
    assert received.values("transfer-encoding") == ["chunked"]


async def test_expect_continue_is_answered_by_the_gate_once_allowed(
    database: Path, upstream: RecordingUpstream
) -> None:
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("POST", "/up", gate.host, "Content-Length: 5", "Expect: 100-continue"))
        assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send("hello")
        assert (await wire.rest()).startswith(b"HTTP/1.1 200 ")
        refused = await Wire.open(gate.port)
        refused.send(head("POST", "/dashboard", gate.host, "Content-Length: 5", "Expect: 100-continue"))
        assert (await refused.rest()).startswith(b"HTTP/1.1 401 ")
    assert upstream.requests[0].body == b"hello"
    assert upstream.requests[0].values("expect") == []
    assert len(upstream.requests) == 1


async def test_connections_are_kept_on_both_sides(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        for _ in range(3):
            wire.send(head("GET", "/x", gate.host, close=False))
            answer = await wire.until(b"}")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        wire.close()
    assert len(upstream.requests) == 3
    assert upstream.connections == 1


async def test_pipelined_requests_are_answered_in_order(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(
            head("GET", "/one", gate.host, close=False)
            + head("GET", "/dashboard", gate.host, close=False)
            + head("GET", "/three", gate.host)
        )
        responses, _ = parse_responses(await wire.rest(), "GET")
    assert [response.status for response in responses] == [200, 401, 200]
    assert [request.target for request in upstream.requests] == ["/one", "/three"]


async def test_http_1_0_client_gets_an_answer_that_ends_with_the_connection(
    database: Path, upstream: RecordingUpstream
) -> None:
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send("GET /x HTTP/1.0\r\nX-Drill-Upstream: until-close\r\n\r\n")
        raw = await wire.rest()
    assert b"Transfer-Encoding" not in raw
    assert b"Connection: close\r\n" in raw
    assert raw.endswith(b"\r\n\r\nuntil the end")


@pytest.mark.parametrize(
    ("mode", "status"),
    [
        pytest.param("not-http", 502, id="not-http"),
        pytest.param("bare-lf", 502, id="bare-lf"),
        pytest.param("header-injection", 502, id="bare-cr-in-a-header"),
        pytest.param("cl-te", 502, id="two-framings"),
        pytest.param("unasked-101", 502, id="unasked-101"),
        pytest.param("hang-up", 502, id="hangs-up-without-an-answer"),
        pytest.param("early-103", 200, id="interim-answer"),
        pytest.param("extra-response", 200, id="bytes-behind-the-answer"),
        pytest.param("until-close", 200, id="ends-with-the-connection"),
    ],
)
async def test_answers_of_the_app(database: Path, upstream: RecordingUpstream, mode: str, status: int) -> None:
    async with running_gate(upstream.url, database) as gate:
        first = await ask(gate.port, "GET", "/x", f"X-Drill-Upstream: {mode}")
        after = await ask(gate.port, "GET", "/stranger")
    assert first.status == status
    assert first.complete
    assert b"poison" not in first.body
    assert mirrored(after)["target"] == "/stranger"


@pytest.mark.parametrize("mode", ["truncated", "truncated-chunked"])
async def test_an_answer_that_breaks_off_looks_broken_off(
    database: Path, upstream: RecordingUpstream, mode: str
) -> None:
    async with running_gate(upstream.url, database) as gate:
        response = await ask(gate.port, "GET", "/x", f"X-Drill-Upstream: {mode}")
    assert response.status == 200
    assert not response.complete


async def test_app_that_is_not_there_is_a_502(database: Path) -> None:
    async with running_gate("http://127.0.0.1:9", database) as gate:
        page = await ask(gate.port, "GET", "/", PAGE)
        program = await ask(gate.port, "GET", "/")
    assert page.status == program.status == 502
    assert page.values("content-type") == ["text/html; charset=utf-8"]
    assert json.loads(program.body)["code"] == "UPSTREAM_REFUSED"


async def test_app_that_does_not_answer_is_a_504(database: Path, upstream: RecordingUpstream) -> None:
    silent = asyncio.Event()

    async def never(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await silent.wait()
        return False

    upstream.answering = never
    text = "listen: 127.0.0.1:0\nupstream: {{url: '{upstream}', response_timeout: 300ms}}\nsecret: {secret}\n"
    async with running_gate(upstream.url, database, text=text + "store: sqlite:///{database}\n") as gate:
        response = await ask(gate.port, "GET", "/")
        silent.set()
    assert response.status == 504
    assert json.loads(response.body)["code"] == "UPSTREAM_TIMEOUT"


async def test_dead_pooled_connection_is_replaced(database: Path, upstream: RecordingUpstream) -> None:
    seen = 0

    async def hang_up_on_the_second(
        received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        nonlocal seen
        seen += 1
        await read_body(received, reader)
        return False if seen == 2 else await answer_as("", received, writer)

    upstream.answering = hang_up_on_the_second
    async with running_gate(upstream.url, database) as gate:
        assert (await ask(gate.port, "GET", "/first")).status == 200
        assert mirrored(await ask(gate.port, "GET", "/second"))["target"] == "/second"
        seen = 1
        response = await ask(gate.port, "POST", "/third", body=b"once only")
    assert response.status == 502  # a POST is never sent twice
    assert [request.target for request in upstream.requests] == ["/first", "/second", "/second", "/third"]


async def test_client_that_leaves_ends_the_request_at_the_app(database: Path, upstream: RecordingUpstream) -> None:
    gone = asyncio.Event()

    async def wait_for_the_end(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            await reader.read()
        finally:
            gone.set()
        return False

    upstream.answering = wait_for_the_end
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("GET", "/slow", gate.host, close=False))
        while not upstream.requests:  # noqa: ASYNC110 - until the request has arrived
            await asyncio.sleep(0)
        wire.close()
        async with asyncio.timeout(20):
            await gone.wait()


async def test_event_stream_passes_piece_by_piece(database: Path, upstream: RecordingUpstream) -> None:
    go_on = asyncio.Event()

    async def stream(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n")
        await go_on.wait()
        writer.write(b"data: two\n\n")
        return False

    upstream.answering = stream
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("GET", "/events", gate.host))
        assert b"data: one" in await wire.until(b"data: one\n\n\r\n")
        go_on.set()
        assert await wire.rest() == b"b\r\ndata: two\n\n\r\n0\r\n\r\n"


async def test_a_client_that_does_not_read_stops_the_app(database: Path, upstream: RecordingUpstream) -> None:
    pieces = 0

    async def pour(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        nonlocal pieces
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (PIECES * len(PIECE)))
        while pieces < PIECES:
            writer.write(PIECE)
            await writer.drain()
            pieces += 1
        return False

    upstream.answering = pour
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        wire.send(head("GET", "/large", gate.host))
        before = -1
        while pieces != before:  # until nothing moves any more
            before = pieces
            for _ in range(2_000):
                await asyncio.sleep(0)
        assert 0 < pieces < PIECES
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        body = (await wire.rest()).partition(b"\r\n\r\n")[2]
    assert pieces == PIECES
    assert hashlib.sha256(body).digest() == hashlib.sha256(PIECE * PIECES).digest()


class FullClient:
    """A client's connection that takes nothing until it is told to; a request and its server, too."""

    def __init__(self) -> None:
        self.writing_paused = True
        self.is_over = False
        self.takes = asyncio.Event()
        self.client = self.server = self
        self.peer = "127.0.0.1"
        self.is_http_1 = self.http_1_0 = False
        self.keep_alive = True
        self.draining = False
        self.method = "GET"
        self.written = b""

    def now(self) -> float:
        return 0.0

    def write(self, data: bytes) -> None:
        self.written += data

    async def drained(self) -> None:
        await self.takes.wait()


async def test_a_client_that_reads_no_answers_waits_for_its_next(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        client = FullClient()
        answering = asyncio.ensure_future(gate.served.server.handler(client))  # type: ignore[arg-type]
        for _ in range(10):
            await asyncio.sleep(0)
        assert client.written.startswith(b"HTTP/1.1 505 ")
        assert not answering.done()
        client.takes.set()
        await answering


async def test_an_unforeseen_error_is_a_bare_500_and_a_closed_connection(
    database: Path, upstream: RecordingUpstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(facts: object) -> None:
        raise RuntimeError("detail that nobody outside may see")

    async with running_gate(upstream.url, database) as gate:
        monkeypatch.setattr(gate.gate, "try_admit", fail)
        response = await ask(gate.port, "GET", "/x", SIGNED_IN)
    assert response.status == 500
    assert json.loads(response.body) == {"error": "Internal Server Error", "code": "INTERNAL_ERROR"}
    assert response.values("connection") == ["close"]
    assert "detail that nobody outside may see" in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("broken", ["zz\r\nhello\r\n", "5\r\nhelloXX", "-5\r\nhello\r\n", "5 5\r\nhello\r\n"])
async def test_broken_chunks_are_a_400_and_never_a_whole_request(
    database: Path, upstream: RecordingUpstream, broken: str
) -> None:
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("POST", "/up", gate.host, "Transfer-Encoding: chunked") + "5\r\nfirst\r\n" + broken)
        assert (await wire.rest()).startswith(b"HTTP/1.1 400 ")
    assert [request.body for request in upstream.requests] in ([], [b"first"], [b""], [b"firsthello"])
    assert all(request.trailers == b"" for request in upstream.requests)


async def test_client_that_leaves_inside_its_body_never_sends_a_whole_request(
    database: Path, upstream: RecordingUpstream
) -> None:
    whole: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def read_all(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            await read_body(received, reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            whole.set_result(False)
        else:
            whole.set_result(True)
        return False

    upstream.answering = read_all
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("POST", "/up", gate.host, "Content-Length: 100") + "half")
        while not upstream.requests:  # noqa: ASYNC110 - until it has arrived
            await asyncio.sleep(0)
        wire.close()
        async with asyncio.timeout(20):
            assert await whole is False


async def test_early_answer_to_an_unfinished_body(database: Path, upstream: RecordingUpstream) -> None:
    async def refuse_at_once(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        return False

    upstream.answering = refuse_at_once
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("POST", "/up", gate.host, "Content-Length: 1000000", close=False) + "begin")
        assert (await wire.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")
        wire.close()


@pytest.mark.parametrize("framing", ["Content-Length: 200", "Transfer-Encoding: chunked"])
async def test_body_limit(database: Path, upstream: RecordingUpstream, framing: str) -> None:
    async with running_gate(upstream.url, database, "limits: {body_bytes: 100}\n") as gate:
        wire = await Wire.open(gate.port)
        wire.send(head("POST", "/up", gate.host, framing) + ("c8\r\n" if "chunked" in framing else "") + "x" * 200)
        raw = await wire.rest()
        assert raw.startswith(b"HTTP/1.1 413 ")
        assert (await ask(gate.port, "POST", "/up", body=b"x" * 100)).status == 200
    assert [len(request.body) for request in upstream.requests if request.body] == [100]


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        pytest.param("GET /x HTTP/1.1\r\nHost: {host}\r\nHost: other\r\n\r\n", 400, id="two-hosts"),
        pytest.param("GET /x HTTP/1.1\r\nHost: a b\r\n\r\n", 400, id="odd-host"),
        pytest.param("GET /x HTTP/1.1\r\n\r\n", 400, id="no-host"),
        pytest.param("GET /a\\b HTTP/1.1\r\nHost: {host}\r\n\r\n", 400, id="backslash"),
        pytest.param("GET /a%5cb HTTP/1.1\r\nHost: {host}\r\n\r\n", 400, id="escaped-backslash"),
        pytest.param("GET /a%0ab HTTP/1.1\r\nHost: {host}\r\n\r\n", 400, id="escaped-control"),
        pytest.param("GET /a%2fb HTTP/1.1\r\nHost: {host}\r\n\r\n", 400, id="encoded-slash"),
        pytest.param("GET /..;/x HTTP/1.1\r\nHost: {host}\r\n\r\n", 400, id="hidden-dots"),
        pytest.param("FETCH /x HTTP/1.1\r\nHost: {host}\r\n\r\n", 400, id="unknown-method"),
        pytest.param("GET /x HTTP/2.0\r\nHost: {host}\r\n\r\n", 505, id="http-2"),
        pytest.param("GET /x HTTP/0.9\r\nHost: {host}\r\n\r\n", 505, id="http-0.9"),
        pytest.param("GET /x\r\n\r\n", 505, id="no-version"),
        pytest.param("GET /x HTTP/1.2\r\nHost: {host}\r\n\r\n", 400, id="http-1.2"),
        pytest.param("TRACE /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n", 405, id="trace"),
        pytest.param("GET /x HTTP/1.1\r\nHost: {host}\r\nX: a\x01b\r\n\r\n", 400, id="control-in-a-value"),
        pytest.param("GET /x HTTP/1.1\r\nHost: {host}\r\nX Y: a\r\n\r\n", 400, id="blank-in-a-name"),
        pytest.param(
            "POST /x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            id="two-framings",
        ),
        pytest.param("GET /{long} HTTP/1.1\r\nHost: {host}\r\n\r\n", 431, id="long-target"),
        pytest.param("GET /x HTTP/1.1\r\nHost: {host}\r\nX: {long}{long}\r\nY: {long}\r\n\r\n", 431, id="long-head"),
    ],
)
async def test_malformed_requests_are_refused_and_the_connection_closed(
    database: Path, upstream: RecordingUpstream, request_text: str, status: int
) -> None:
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(request_text.replace("{host}", gate.host).replace("{long}", "a" * 30_000))
        raw = await wire.rest()
    assert raw.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close\r\n" in raw
    assert upstream.requests == []


@pytest.mark.parametrize(
    "byte", [bytes([b]) for b in (*range(0x00, 0x20), 0x7F) if b != 0x09], ids=lambda byte: f"{byte[0]:02x}"
)
async def test_no_control_byte_passes_in_a_header_value(
    database: Path, upstream: RecordingUpstream, byte: bytes
) -> None:
    """The core relies on the parser for this."""
    async with running_gate(upstream.url, database) as gate:
        wire = await Wire.open(gate.port)
        wire.send(b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-A: a" + byte + b"b\r\n\r\n")
        raw = await wire.rest()
    assert not raw.startswith(b"HTTP/1.1 200")
    assert upstream.requests == []


async def test_an_unfinished_head_is_refused_once_it_is_too_long(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database, "limits: {header_bytes: 4KiB}\n") as gate:
        wire = await Wire.open(gate.port)
        wire.send("GET /x HTTP/1.1\r\nHost: h\r\n")
        for number in range(38):  # each field is short
            wire.send(f"X-{number:02}: {'a' * 98}\r\n")
            await asyncio.sleep(0)
        assert upstream.requests == []
        wire.send("X-Last: " + "a" * 250)
        raw = await wire.rest()
        assert raw.startswith(b"HTTP/1.1 431 ")
        assert raw.endswith(b'{"error":"Request Header Fields Too Large","code":"HEAD_TOO_LARGE"}')
        body = b"x" * 100_000
        assert mirrored(await ask(gate.port, "POST", "/up", body=body))["length"] == len(body)
    assert len(upstream.requests) == 1


async def test_a_body_is_no_head_however_it_is_cut(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database, "limits: {header_bytes: 1KiB}\n") as gate:
        wire = await Wire.open(gate.port)
        for number in range(3):
            wire.send(head("POST", f"/{number}", gate.host, "Content-Length: 50000", close=False))
            for _ in range(50):
                wire.send("x" * 1_000)
                await asyncio.sleep(0)
            assert (await wire.until(b"}")).startswith(b"HTTP/1.1 200 ")
        wire.close()
    assert [len(request.body) for request in upstream.requests] == [50_000] * 3


async def test_store_that_is_not_there_is_a_503_and_recovers(
    database: Path, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden.db"
    database.rename(hidden)
    async with running_gate(upstream.url, database) as gate:
        for accept in (PAGE, "Accept: */*"):
            response = await ask(gate.port, "GET", "/dashboard", accept, SIGNED_IN)
            assert response.status == 503
            assert response.values("retry-after") == ["5"]
            assert response.values("set-cookie") == []
        assert (await ask(gate.port, "GET", "/about", SIGNED_IN)).status == 200
        assert (await ask(gate.port, "GET", "/dashboard", PAGE)).status == 307
        hidden.rename(database)
        assert (await ask(gate.port, "GET", "/dashboard", PAGE, SIGNED_IN)).status == 200


async def test_expired_session_is_a_redirect_and_keeps_its_cookie(database: Path, upstream: RecordingUpstream) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update session set expiresAt = '2020-01-01T00:00:00.000Z'")
    async with running_gate(upstream.url, database) as gate:
        response = await ask(gate.port, "GET", "/dashboard", PAGE, SIGNED_IN)
    assert response.status == 307
    assert [value.partition("=")[0] for value in response.values("set-cookie")] == ["gatekeeper.redirects"]


async def test_third_redirect_of_a_path_explains_itself(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        cookie, statuses = "", []
        for _ in range(3):
            response = await ask(gate.port, "GET", "/dashboard", PAGE, f"Cookie: {cookie}")
            statuses.append(response.status)
            cookie = (response.values("set-cookie") or [""])[0].partition(";")[0]
    assert statuses == [307, 307, 401]
    assert b"/.gatekeeper/clear-cookies" in response.body


async def test_session_cookies_are_kept_from_named_upstreams(database: Path, upstream: RecordingUpstream) -> None:
    more = f"upstreams: {{api: '{upstream.url}'}}\npublic: [{{path: /api, upstream: api}}]\n"
    async with running_gate(upstream.url, database, more) as gate:
        both = f"Cookie: a=1; {COOKIE}={cookie_value(TOKEN)}; {COOKIE}=second; b=2"
        assert mirrored(await ask(gate.port, "GET", "/api/x", both))["headers"]["cookie"] == "a=1; b=2"
        own = mirrored(await ask(gate.port, "GET", "/x", both))["headers"]["cookie"]
    assert own == f"a=1; {COOKIE}={cookie_value(TOKEN)}; b=2"


async def test_methods_of_a_rule(database: Path, upstream: RecordingUpstream) -> None:
    text = (
        "listen: 127.0.0.1:0\nupstream: {upstream}\nsecret: {secret}\nstore: sqlite:///{database}\n"
        "protect: [{{path: /dashboard, methods: [GET]}}]\n"
    )
    async with running_gate(upstream.url, database, text=text) as gate:
        assert (await ask(gate.port, "POST", "/dashboard")).status == 401
        refused = await ask(gate.port, "POST", "/dashboard", SIGNED_IN)
        allowed = await ask(gate.port, "HEAD", "/dashboard", SIGNED_IN)
        tricked = await ask(gate.port, "GET", "/dashboard", SIGNED_IN, "X-HTTP-Method-Override: DELETE")
    assert (refused.status, refused.values("allow")) == (405, ["GET"])
    assert allowed.status == 200
    assert "x-http-method-override" not in mirrored(tricked)["headers"]


async def test_revocation_is_seen_within_the_cache_age(database: Path, upstream: RecordingUpstream) -> None:
    more = "session: {memory_cache: {max_age: 0}}\n"
    async with running_gate(upstream.url, database, more) as gate:
        assert (await ask(gate.port, "GET", "/dashboard", SIGNED_IN)).status == 200
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("delete from session")
        assert (await ask(gate.port, "GET", "/dashboard", SIGNED_IN)).status == 401
