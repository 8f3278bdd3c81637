"""The loop over a client's requests, and what it leans on of aiohttp's inside: a release that moves a piece fails here.

Connections are driven by hand, with a transport that only notes what is done to it.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import EMPTY_PAYLOAD, StreamReader, http_parser, web, web_protocol
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong
from aiohttp.http_parser import RawRequestMessage

from gatekeeper.core.errors import GatekeeperError
from gatekeeper.core.forwarding import TrustedProxies
from gatekeeper.core.model import Reason
from gatekeeper.server import connection
from gatekeeper.server.connection import ClientConnection, ClientRequest, GateServer
from gatekeeper.server.crowd import Crowd
from gatekeeper.server.deadlines import Deadlines

GET = b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST /%d HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class FakeTransport(asyncio.Transport):
    """Notes what is written to it, and whether it is read, ended or closed."""

    def __init__(self, peer: str = "203.0.113.7", *, encrypted: bool = False) -> None:
        super().__init__({"peername": (peer, 4711), "ssl_object": object() if encrypted else None})
        self.written = b""
        self.reading = True
        self.ended = self.closed = self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended
        self.written += bytes(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True


class Handler:
    """Answers requests by their target, each when it is told to go on; at once without `waits`."""

    def __init__(self) -> None:
        self.requests: list[ClientRequest] = []
        self.waits = False
        self.go_on = asyncio.Event()
        self.kept = True

    @property
    def targets(self) -> list[str]:
        return [request.target for request in self.requests]

    async def __call__(self, request: ClientRequest) -> bool:
        self.requests.append(request)
        if self.waits:
            self.go_on.clear()
            await self.go_on.wait()
        request.client.write(f"[{request.target}]".encode())
        return self.kept and request.keep_alive


class Bench:
    """A server with a handler, and one client's connection to it."""

    def __init__(self, *, limit: int | None = None, per_address: int | None = None) -> None:
        self.handler = Handler()
        self.refused: list[tuple[str, int, Reason]] = []
        loop = asyncio.get_running_loop()
        self.server = GateServer(
            self.handler,
            crowd=Crowd(limit, per_address, TrustedProxies(["10.0.0.0/8"])),
            deadlines=Deadlines(loop, head_s=10, stall_s=60),
            on_refused=lambda *what: self.refused.append(what),
            auto_decompress=False,
            max_field_size=1000,
        )
        self.open: list[ClientConnection] = []

    def connect(self, peer: str = "203.0.113.7", *, encrypted: bool = False) -> tuple[ClientConnection, FakeTransport]:
        client, transport = self.server(), FakeTransport(peer, encrypted=encrypted)
        client.connection_made(transport)
        self.open.append(client)
        return client, transport

    def pass_s(self, seconds: float) -> None:
        """Let time pass, and tick."""
        now = self.server.deadlines.now()
        self.server.deadlines.now = lambda: now + seconds
        self.server.deadlines.close()
        self.server.deadlines.tick()

    def close(self) -> None:
        for client in self.open:
            client.connection_lost(None)
        self.server.deadlines.close()


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "LINGER_S", 0.0)
        made = Bench()
        yield made
        made.close()


async def settle() -> None:
    """Let everything happen that can."""
    for _ in range(50):
        await asyncio.sleep(0)


# --- what is leaned on ---------------------------------------------------------------------------------------------


def test_the_c_parser_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    connection.require_c_parser()
    monkeypatch.setattr(http_parser, "HttpRequestParser", http_parser.HttpRequestParserPy)
    with pytest.raises(GatekeeperError, match="C parser is missing"):
        connection.require_c_parser()


def test_pieces_of_the_request_handler() -> None:
    for name in (
        *("_messages", "_waiter", "_message_tail", "_task_handler", "_force_close", "_close", "_manager"),
        *("_keepalive_handle", "_keepalive_timeout", "_next_keepalive_close_time", "max_field_size", "_keepalive"),
        *("_read_bufsize", "_max_msg_queue_size"),
    ):
        assert name in web.RequestHandler.__slots__, name
    for name in ("_loop", "_parser", "_buffer_paused", "_upgraded", "transport"):
        assert name in BaseProtocol.__slots__, name
    for name in (
        *("_pause_reading_for_buffer", "_resume_reading_for_buffer", "_drain_helper", "pause_writing"),
        *("resume_writing", "connection_made", "connection_lost"),
    ):
        assert inspect.isfunction(getattr(BaseProtocol, name)), name
    assert isinstance(BaseProtocol.writing_paused, property)
    for name in ("_process_keepalive", "force_close", "data_received", "eof_received", "start"):
        assert inspect.isfunction(getattr(web.RequestHandler, name)), name
    for name in ("max_line_size", "max_headers", "max_field_size", "lingering_time", "keepalive_timeout"):
        assert name in inspect.signature(web.RequestHandler.__init__).parameters
    assert "exc" in inspect.signature(web_protocol._ErrInfo).parameters


async def test_pieces_of_the_request_parser() -> None:
    """What a new one is made with, for a connection whose body goes past the old one."""
    loop = asyncio.get_running_loop()
    parser = http_parser.HttpRequestParser(
        BaseProtocol(loop),
        loop,
        2**16,
        max_line_size=100,
        max_field_size=100,
        max_headers=10,
        payload_exception=web.RequestPayloadError,
        auto_decompress=False,
        max_msg_queue_size=4,
    )
    messages, upgraded, tail = parser.feed_data(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [(message.method, message.path) for message, _ in messages] == [("GET", "/x")]
    assert (upgraded, tail) == (False, b"")
    parser.message_consumed()


def test_pieces_of_the_server() -> None:
    parameters = inspect.signature(web.Server.__init__).parameters
    assert "handler_cancellation" in parameters
    server = web.Server(lambda request: None, loop=asyncio.new_event_loop())  # type: ignore[arg-type,return-value]
    assert isinstance(server._kwargs, dict)
    assert list(server.connections) == []
    server._loop.close()


def test_pieces_of_bodies() -> None:
    for name in ("read_nowait", "readany", "at_eof", "is_eof"):
        assert inspect.isfunction(getattr(StreamReader, name)), name
    assert inspect.iscoroutinefunction(StreamReader.readany)


async def test_the_task_that_aiohttp_starts_is_our_loop(bench: Bench) -> None:
    client, _ = bench.connect()
    await settle()
    assert client.task is client._task_handler
    assert client.task is not None
    assert client.task.get_coro().__qualname__ == "ClientConnection.start"  # type: ignore[union-attr]
    assert client._waiter is not None
    assert not client._waiter.done()


async def test_what_a_message_tells(bench: Bench) -> None:
    client, _ = bench.connect()
    client.data_received(b"POST /a%20b?c HTTP/1.0\r\nA:  b \r\nX_y: \xe4\r\nContent-Length: 3\r\n\r\nabc")
    ((message, body),) = client._messages
    assert (message.method, message.path, tuple(message.version)) == ("POST", "/a%20b?c", (1, 0))
    assert message.raw_headers == ((b"A", b"b"), (b"X_y", b"\xe4"), (b"Content-Length", b"3"))
    assert (message.should_close, message.upgrade) == (True, False)
    assert body.is_eof()
    assert not body.at_eof()
    assert body.read_nowait() == b"abc"
    assert body.at_eof()
    await settle()


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        pytest.param(b"GE T / HTTP/1.1\r\nHost: h\r\n\r\n", Exception, id="anything"),
        pytest.param(b"FETCH / HTTP/1.1\r\nHost: h\r\n\r\n", BadHttpMethod, id="method"),
        pytest.param(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", LineTooLong, id="target"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"a" * 1001 + b"\r\n\r\n", LineTooLong, id="field"),
    ],
)
async def test_what_the_parser_refuses_comes_as_a_message(bench: Bench, raw: bytes, error: type[Exception]) -> None:
    client, _ = bench.connect()
    client.data_received(raw)
    ((message, body),) = client._messages
    assert isinstance(message, web_protocol._ErrInfo)
    assert isinstance(message.exc, error)
    assert body.is_eof()
    await settle()


async def test_the_parser_stops_at_its_limit_of_requests_and_goes_on_when_they_are_taken(bench: Bench) -> None:
    client, transport = bench.connect()
    client.data_received(b"".join(GET % number for number in range(50)))
    assert len(client._messages) == web_protocol.MAX_MSG_QUEUE_SIZE == 32
    assert client._buffer_paused
    assert not transport.reading
    for _ in range(10):
        await settle()
    assert bench.handler.targets == [f"/{number}" for number in range(50)]
    assert transport.written == b"".join(b"[/%d]" % number for number in range(50))
    assert transport.reading


async def test_what_comes_behind_an_upgrade_is_no_request(bench: Bench) -> None:
    client, _ = bench.connect()
    client.data_received(UPGRADE + GET % 1)
    client.data_received(b"more")
    assert len(client._messages) == 1
    assert client._messages[0][0].upgrade
    assert client._upgraded
    assert client.take_tail() == GET % 1 + b"more"
    assert client.take_tail() == b""
    await settle()


def test_pieces_of_messages() -> None:
    names = ("method", "path", "version", "headers", "raw_headers", "should_close", "upgrade", "chunked")
    assert set(names) <= set(dir(RawRequestMessage))
    assert callable(http_parser.HttpRequestParser.message_consumed)
    assert isinstance(EMPTY_PAYLOAD, StreamReader)
    assert EMPTY_PAYLOAD.is_eof()


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        pytest.param("", (False, False, False), id="nothing"),
        pytest.param("Connection: keep-alive\r\n", (False, False, False), id="keep-alive"),
        pytest.param("Connection: close\r\n", (True, False, False), id="close"),
        pytest.param("Connection: x, Close\r\n", (True, False, False), id="close-among-others"),
        pytest.param("Connection: upgrade\r\nUpgrade: websocket\r\n", (False, True, False), id="upgrade"),
        pytest.param("Transfer-Encoding: chunked\r\n", (False, False, True), id="chunked"),
    ],
)
async def test_what_a_message_tells_of_its_connection(bench: Bench, lines: str, told: tuple[bool, ...]) -> None:
    client, _ = bench.connect()
    client.data_received(f"POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n".encode())
    ((message, body),) = client._messages
    assert (message.should_close, message.upgrade, message.chunked) == told
    assert (body is EMPTY_PAYLOAD) != message.chunked
    await settle()


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST"])
@pytest.mark.parametrize("lines", ["", "Content-Length: 0\r\n"])
async def test_a_request_without_a_body_has_the_one_empty_body(bench: Bench, method: str, lines: str) -> None:
    client, _ = bench.connect()
    client.data_received(f"{method} / HTTP/1.1\r\nHost: h\r\n{lines}\r\n".encode())
    assert client._messages[0][1] is EMPTY_PAYLOAD
    await settle()


async def test_a_body_has_its_length_among_the_headers(bench: Bench) -> None:
    client, _ = bench.connect()
    client.data_received(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-LENGTH:  5\r\n\r\n")
    ((message, body),) = client._messages
    assert message.headers.get("Content-Length") == "5"
    assert body is not EMPTY_PAYLOAD
    await settle()


async def test_without_a_waiter_parsing_wakes_nobody(bench: Bench) -> None:
    client, _ = bench.connect()
    await settle()
    waiter, client._waiter = client._waiter, None
    assert waiter is not None
    client.data_received(GET % 1)
    await settle()
    assert not waiter.done()
    assert bench.handler.targets == []
    client._waiter = waiter
    waiter.set_result(None)
    await settle()
    assert bench.handler.targets == ["/1"]


async def test_the_parser_has_room_again_for_what_was_consumed(bench: Bench) -> None:
    """Else a connection of the fast lane, which takes messages that the loop never sees, would stop."""
    client, _ = bench.connect()
    await settle()
    for number in range(web_protocol.MAX_MSG_QUEUE_SIZE + 8):
        client._waiter = None  # nobody takes it but this test
        client.data_received(GET % number)
        ((message, _),) = client._messages
        assert message.path == f"/{number}"
        client._messages.clear()
        client._parser.message_consumed()
    assert not client._buffer_paused


async def test_an_idle_connection_is_closed_when_its_time_is_over(bench: Bench) -> None:
    client, transport = bench.connect()
    client.data_received(GET % 1)
    await settle()
    assert client._keepalive_handle is not None
    client._process_keepalive()  # too early: it looks again later
    assert not transport.closed
    client._next_keepalive_close_time = 0.0
    client._process_keepalive()
    assert transport.closed


# --- the loop ------------------------------------------------------------------------------------------------------


async def test_one_request_at_a_time_and_the_next_are_not_parsed_before(bench: Bench) -> None:
    bench.handler.waits = True
    client, transport = bench.connect()
    client.data_received(GET % 1)
    await settle()
    assert not client.is_idle
    client.data_received(GET % 2 + (GET % 3)[:10])
    client.data_received((GET % 3)[10:])
    assert not client._messages
    await settle()
    assert bench.handler.targets == ["/1"]
    for count in (2, 3):
        bench.handler.go_on.set()
        await settle()
        assert len(bench.handler.requests) == count
    bench.handler.go_on.set()
    await settle()
    assert transport.written == b"[/1][/2][/3]"
    assert client.is_idle


async def test_a_client_that_goes_on_sending_is_no_longer_read(bench: Bench) -> None:
    bench.handler.waits = True
    client, transport = bench.connect()
    client.data_received(GET % 1)
    await settle()
    client.data_received(GET % 2 + b"POST /3 HTTP/1.1\r\nHost: h\r\nContent-Length: 80000\r\n\r\n")
    assert transport.reading
    client.data_received(b"x" * 70_000)
    assert not transport.reading
    bench.handler.go_on.set()
    await settle()
    bench.handler.go_on.set()
    await settle()
    assert bench.handler.targets == ["/1", "/2", "/3"]
    assert transport.reading
    body = bench.handler.requests[2].content
    client.data_received(b"x" * 10_000)
    assert body.is_eof()
    bench.handler.waits = False
    bench.handler.go_on.set()
    await settle()
    assert transport.written == b"[/1][/2][/3]"


async def test_what_was_held_of_a_body_stands_before_what_comes_later(bench: Bench) -> None:
    """Nothing of a body may be taken for a request, however it was cut and whenever its turn comes."""
    bench.handler.waits = True
    client, _ = bench.connect()
    first, inner, last = b"a" * 30, GET % 9, b"z" * 30
    client.data_received(GET % 1 + POST % (2, len(first + inner + last)) + first)
    await settle()
    client.data_received(inner)  # while /1 is answered
    bench.handler.go_on.set()
    await settle()
    client.data_received(last)
    await settle()
    assert bench.handler.requests[1].content.read_nowait() == first + inner + last
    for _ in range(2):
        bench.handler.go_on.set()
        await settle()
    assert bench.handler.targets == ["/1", "/2"]


async def test_who_reads_a_body_hears_that_what_was_held_of_it_is_broken(bench: Bench) -> None:
    bench.handler.waits = True
    client, _ = bench.connect()
    client.data_received(GET % 1 + CHUNKED % 2 + b"5\r\nhello\r\n")
    await settle()
    client.data_received(b"zz\r\n")
    bench.handler.go_on.set()
    await settle()
    assert isinstance(bench.handler.requests[1].content.exception(), web.RequestPayloadError)


async def test_behind_a_body_that_came_in_pieces_all_requests_are_answered(bench: Bench) -> None:
    bench.handler.waits = True
    client, transport = bench.connect()
    client.data_received(POST % (0, 5))
    await settle()
    client.data_received(b"hello")
    bench.handler.waits = False
    bench.handler.go_on.set()
    await settle()
    client.data_received(b"".join(GET % number for number in range(1, 41)))
    for _ in range(10):
        await settle()
    assert bench.handler.targets == [f"/{number}" for number in range(41)]
    assert transport.reading


async def test_trailers_are_bounded_as_a_head_is(bench: Bench) -> None:
    bench.handler.waits = True
    client, _ = bench.connect()
    client.data_received(CHUNKED % 1)
    await settle()
    client.data_received(b"5\r\nhello\r\n0\r\n")
    body = bench.handler.requests[0].content
    for number in range(2):
        client.data_received(b"X-%d: " % number + b"v" * 900 + b"\r\n")
    assert body.exception() is None
    client.data_received(b"X-2: " + b"v" * 900 + b"\r\n")
    assert isinstance(body.exception(), web.RequestPayloadError)
    client.data_received(b"\r\n" + GET % 2)
    assert not body.is_eof()
    bench.handler.go_on.set()
    await settle()
    assert bench.handler.targets == ["/1"]


async def test_chunk_extensions_are_bounded_too(bench: Bench) -> None:
    bench.handler.waits = True
    client, _ = bench.connect()
    client.data_received(CHUNKED % 1)
    await settle()
    for _ in range(3):
        client.data_received(b"1;" + b"x" * 900 + b"\r\na\r\n")
    assert isinstance(bench.handler.requests[0].content.exception(), web.RequestPayloadError)


async def test_a_long_body_in_the_smallest_chunks_is_none_of_that(bench: Bench) -> None:
    bench.handler.waits = True
    client, _ = bench.connect()
    client.data_received(CHUNKED % 1)
    await settle()
    for _ in range(100):
        client.data_received(b"1\r\na\r\n" * 100)
    client.data_received(b"0\r\n\r\n")
    body = bench.handler.requests[0].content
    assert body.exception() is None
    assert body.is_eof()
    assert body.total_bytes == 10_000


async def test_the_last_request_that_the_parser_takes_at_once_gets_the_rest_of_its_body(bench: Bench) -> None:
    client, transport = bench.connect()
    bench.handler.waits = True
    before = b"".join(GET % number for number in range(web_protocol.MAX_MSG_QUEUE_SIZE - 1))
    client.data_received(before + b"POST /last HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf")
    assert not transport.reading
    for _ in range(web_protocol.MAX_MSG_QUEUE_SIZE - 1):
        await settle()
        bench.handler.go_on.set()
    await settle()
    assert bench.handler.targets[-1] == "/last"
    assert transport.reading


async def test_a_request_whose_handler_ends_the_connection_is_the_last(bench: Bench) -> None:
    bench.handler.kept = False
    client, transport = bench.connect()
    client.data_received(GET % 1 + GET % 2)
    await settle()
    assert transport.written == b"[/1]"
    assert transport.closed


async def test_an_upgrade_is_the_last_request(bench: Bench) -> None:
    client, transport = bench.connect()
    client.data_received(UPGRADE)
    await settle()
    assert not bench.handler.requests[0].keep_alive
    assert transport.written == b"[/ws]"
    assert transport.closed


async def test_a_body_that_nobody_reads_ends_the_connection(bench: Bench) -> None:
    client, transport = bench.connect()
    client.data_received(b"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf")
    await settle()
    client.data_received(b"full!" + GET % 2)
    await settle()
    assert bench.handler.targets == ["/1"]
    assert transport.ended
    assert transport.closed


async def test_a_malformed_request_is_refused_in_its_turn(bench: Bench) -> None:
    client, transport = bench.connect()
    client.data_received(GET % 1)
    client.data_received(b"FETCH / HTTP/1.1\r\nHost: h\r\n\r\n")
    await settle()
    answer, _, refusal = transport.written.partition(b"]")
    assert answer == b"[/1"
    assert refusal.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Connection: close\r\n" in refusal
    assert refusal.endswith(b'{"error":"Bad Request","code":"BAD_METHOD"}')
    assert transport.closed
    assert bench.refused == [("203.0.113.7", 400, Reason.BAD_METHOD)]


async def test_while_the_server_drains_a_request_is_the_last_of_its_connection(bench: Bench) -> None:
    client, transport = bench.connect()
    bench.server.draining = True
    client.data_received(GET % 1 + GET % 2)
    await settle()
    assert transport.written == b"[/1]"
    assert transport.closed


async def test_a_client_that_is_gone_cancels_its_request(bench: Bench) -> None:
    bench.handler.waits = True
    client, _ = bench.connect()
    client.data_received(GET % 1)
    await settle()
    task = client.task
    assert task is not None
    client.connection_lost(None)
    await settle()
    assert task.cancelled()
    client.connection_lost(None)  # once is enough
    assert bench.server.crowd.count == 0


# --- half-closed clients -------------------------------------------------------------------------------------------


async def test_a_client_that_sends_no_more_gets_its_answers(bench: Bench) -> None:
    bench.handler.waits = True
    client, transport = bench.connect()
    client.data_received(GET % 1 + GET % 2)
    await settle()
    assert client.eof_received() is True
    for _ in range(2):
        bench.handler.go_on.set()
        await settle()
    assert transport.written == b"[/1][/2]"
    assert transport.closed


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param((GET % 1)[:-2], id="part-of-a-head"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf", id="part-of-a-body"),
    ],
)
async def test_a_client_that_ends_before_its_request_does_is_not_kept(bench: Bench, sent: bytes) -> None:
    bench.handler.waits = True
    client, _ = bench.connect()
    if sent:
        client.data_received(sent)
    await settle()
    assert client.eof_received() is False


async def test_an_encrypted_tunnel_has_no_halves(bench: Bench) -> None:
    """TLS ends both directions at once, and asyncio complains where a protocol asks for more."""

    class Ended:
        def from_client(self, data: bytes) -> None: ...

        def client_ended(self) -> bool:
            return True

    for encrypted in (False, True):
        client, _ = bench.connect(encrypted=encrypted)
        client.tunnel = Ended()
        assert client.eof_received() is not encrypted


# --- heads ---------------------------------------------------------------------------------------------------------


async def test_a_head_that_takes_too_long_is_refused(bench: Bench) -> None:
    now = bench.server.deadlines.now = lambda: 1_000.0
    client, transport = bench.connect()
    await settle()
    client.data_received(b"GET / HTTP/1.1\r\n")
    bench.server.deadlines.now = lambda: now() + 10
    bench.server.deadlines.tick()
    assert transport.written.startswith(b"HTTP/1.1 408 ")
    assert transport.ended
    client.data_received(b"Host: h\r\n\r\n")
    await settle()
    assert bench.handler.requests == []
    assert bench.refused == [("203.0.113.7", 408, Reason.HEAD_TIMEOUT)]
    assert transport.closed


async def test_a_head_that_is_whole_in_time_is_not(bench: Bench) -> None:
    now = bench.server.deadlines.now = lambda: 1_000.0
    client, transport = bench.connect()
    await settle()
    client.data_received(b"GET /1 HTTP/1.1\r\n")
    client.data_received(b"Host: h\r\n\r\n")
    bench.server.deadlines.now = lambda: now() + 11
    bench.server.deadlines.tick()
    await settle()
    assert transport.written == b"[/1]"
    assert not bench.refused


async def test_the_beginning_of_a_next_head_has_its_deadline_too(bench: Bench) -> None:
    now = bench.server.deadlines.now = lambda: 1_000.0
    client, transport = bench.connect()
    await settle()
    client.data_received(GET % 1 + b"GET /2 HT")
    await settle()
    assert transport.written == b"[/1]"
    bench.server.deadlines.now = lambda: now() + 10
    bench.server.deadlines.tick()
    assert transport.written.startswith(b"[/1]HTTP/1.1 408 ")


async def test_a_body_in_one_piece_with_its_head_is_no_beginning_of_the_next(bench: Bench) -> None:
    client, transport = bench.connect()
    await settle()
    client.data_received(POST % (1, 5) + b"hello")
    await settle()
    bench.pass_s(11)
    assert transport.written == b"[/1]"
    assert not transport.ended
    client.data_received(GET % 2)
    await settle()
    assert transport.written == b"[/1][/2]"


async def test_a_head_that_begins_with_the_connection_has_its_deadline(bench: Bench) -> None:
    """Before the loop over its requests has started, as bytes that come with the end of a TLS handshake do."""
    client, transport = bench.connect()
    client.data_received(b"GET / HT")
    await settle()
    bench.pass_s(10)
    assert transport.written.startswith(b"HTTP/1.1 408 ")


async def test_who_is_refused_is_refused_once_and_others_keep_their_deadline(bench: Bench) -> None:
    (client, transport), (other, late) = bench.connect(), bench.connect()
    await settle()
    client.data_received(b"GET / HTTP/1.1\r\n")
    other.data_received(b"GET / HTTP/1.1\r\n")
    client.data_received(b"".join(b"X-%d: %b\r\n" % (number, b"x" * 400) for number in range(3)))
    assert transport.written.startswith(b"HTTP/1.1 431 ")
    assert transport.ended
    bench.pass_s(10)
    assert transport.written.count(b"HTTP/1.1 ") == 1
    assert late.written.startswith(b"HTTP/1.1 408 ")
    client.give_up(408, Reason.HEAD_TIMEOUT)
    assert transport.written.count(b"HTTP/1.1 ") == 1
    assert [status for _, status, _ in bench.refused] == [431, 408]


# --- connections that are closed -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["last", "idle"])
async def test_a_client_that_does_not_take_the_rest_is_cut_off(bench: Bench, how: str) -> None:
    """Closing waits until everything is written: not for longer than a client may stall."""
    bench.handler.kept = how == "idle"
    client, transport = bench.connect()
    client.data_received(GET % 1)
    await settle()
    if how == "idle":
        client._next_keepalive_close_time = 0.0
        client._process_keepalive()
    assert transport.written == b"[/1]"
    assert transport.closed
    bench.pass_s(59)
    assert not transport.aborted
    bench.pass_s(1)
    assert transport.aborted


async def test_a_client_that_takes_the_rest_is_forgotten(bench: Bench) -> None:
    bench.handler.kept = False
    client, transport = bench.connect()
    client.data_received(GET % 1)
    await settle()
    assert transport.closed
    client.connection_lost(None)
    bench.pass_s(60)
    assert not transport.aborted
    assert bench.server.deadlines.ticker is None


# --- crowds --------------------------------------------------------------------------------------------------------


async def test_too_many_connections_are_refused_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LINGER_S", 0.0)
    bench = Bench(per_address=1)
    first, served = bench.connect()
    second, refused = bench.connect()
    await settle()
    assert refused.written.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"Retry-After: 5\r\n" in refused.written
    assert refused.written.endswith(b'{"error":"Service Unavailable","code":"TOO_MANY_CONNECTIONS"}')
    assert refused.closed
    assert bench.refused == [("203.0.113.7", 503, Reason.TOO_MANY_CONNECTIONS)]
    second.connection_lost(None)
    _, third = bench.connect()
    assert third.written.startswith(b"HTTP/1.1 503 ")
    first.data_received(GET % 1)
    await settle()
    assert served.written == b"[/1]"
    bench.close()


async def test_when_even_refusing_costs_too_much_connections_are_cut() -> None:
    bench = Bench(limit=10)
    transports = [bench.connect(f"203.0.113.{number}")[1] for number in range(12)]
    assert [transport.written for transport in transports[:10]] == [b""] * 10
    assert transports[10].written.startswith(b"HTTP/1.1 503 ")
    assert (transports[11].written, transports[11].aborted) == (b"", True)
    bench.close()
    assert bench.server.crowd.count == 0
