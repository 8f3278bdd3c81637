"""Bodies of known length: where they end, how much of them waits, and who reads them."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.server import connection
from gatekeeper.server.connection import _HELD_BYTES
from gatekeeper.server.sized import LIMIT_BYTES, SizedBody
from tests.server.test_connection import GET, POST, Bench, FakeTransport, settle


def sized(missing: int) -> tuple[SizedBody, FakeTransport]:
    transport = FakeTransport()
    return SizedBody(missing, transport, asyncio.get_running_loop()), transport


@given(pieces=st.lists(st.binary(min_size=1, max_size=20), min_size=1), missing=st.integers(1, 60))
def test_the_body_ends_where_it_says_whatever_the_pieces(pieces: list[bytes], missing: int) -> None:
    async def run() -> None:
        body, _ = sized(missing)
        whole, behind, read = b"".join(pieces), b"", b""
        for number, piece in enumerate(pieces):
            if body.is_eof():
                behind += piece
                continue
            behind += body.feed(piece)
            if number % 2:
                read += body.read_nowait()
        assert body.is_eof() is (len(whole) >= missing)
        read += body.read_nowait()
        assert (read, behind) == (whole[:missing], whole[missing:])
        assert body.at_eof() is body.is_eof()

    asyncio.run(run())


async def test_all_of_it_may_be_there_before_it_is_read() -> None:
    body, _ = sized(3)
    body.feed(b"abc")
    assert (body.is_eof(), body.at_eof()) == (True, False)
    assert body.read_nowait() == b"abc"
    assert body.at_eof()
    assert (body.read_nowait(), await body.readany()) == (b"", b"")


async def test_whoever_waits_gets_the_next_piece() -> None:
    body, _ = sized(10)
    waiting = asyncio.ensure_future(body.readany())
    await settle()
    assert not waiting.done()
    body.feed(b"ab")
    body.feed(b"cd")
    assert await waiting == b"abcd"
    body.feed(b"e")
    assert await body.readany() == b"e"


async def test_whoever_waits_no_more_loses_nothing() -> None:
    body, _ = sized(10)
    waiting = asyncio.ensure_future(body.readany())
    await settle()
    body.feed(b"ab")
    waiting.cancel()
    await settle()
    assert waiting.cancelled()
    assert await body.readany() == b"ab"
    waiting = asyncio.ensure_future(body.readany())
    await settle()
    waiting.cancel()
    body.feed(b"c")
    await settle()
    assert body.read_nowait() == b"c"


async def test_beyond_a_limit_the_client_is_not_read_until_the_body_is() -> None:
    body, transport = sized(10 * LIMIT_BYTES)
    body.feed(b"x" * LIMIT_BYTES)
    assert transport.reading
    body.feed(b"x")
    assert not transport.reading
    assert len(body.read_nowait()) == LIMIT_BYTES + 1
    assert transport.reading


async def test_what_comes_behind_a_whole_body_is_not_its_business() -> None:
    body, transport = sized(LIMIT_BYTES + 1)
    body.feed(b"x" * (LIMIT_BYTES + 1))
    body.pause()
    assert transport.reading
    transport.reading = False  # somebody else's doing
    body.read_nowait()
    assert not transport.reading


async def test_a_connection_that_is_closing_is_left_alone() -> None:
    body, transport = sized(10)
    body.pause()
    transport.close()
    body.resume()
    assert not transport.reading
    transport.reading = True
    body.pause()
    assert transport.reading
    gone = SizedBody(10, None, asyncio.get_running_loop())
    gone.pause()
    gone.resume()
    assert gone.feed(b"0123456789!") == b"!"


async def test_pieces_may_be_pushed() -> None:
    body, _ = sized(8)
    body.feed(b"ab")
    body.feed(b"cd")
    pushed: list[bytes] = []
    body.push_to(pushed.append)
    assert pushed == [b"abcd"]
    body.feed(b"ef")
    body.push_to(None)
    body.feed(b"g")
    assert pushed == [b"abcd", b"ef"]
    body.push_to(pushed.append)
    assert body.feed(b"hNEXT") == b"NEXT"
    assert pushed == [b"abcd", b"ef", b"g", b"h"]
    assert body.at_eof()


async def test_to_push_is_to_read() -> None:
    body, transport = sized(10 * LIMIT_BYTES)
    body.feed(b"x" * (LIMIT_BYTES + 1))
    assert not transport.reading
    body.push_to(lambda data: None)
    assert transport.reading
    body.feed(b"x" * (2 * LIMIT_BYTES))
    assert transport.reading
    body.push_to(None)
    body.feed(b"x" * LIMIT_BYTES)  # what was pushed on does not count
    assert transport.reading


async def test_a_receiver_may_want_no_more_with_the_first_piece() -> None:
    body, transport = sized(10)
    body.feed(b"ab")
    body.push_to(lambda data: body.pause())
    assert not transport.reading


# --- on a connection -----------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "LINGER_S", 0.0)
        made = Bench()
        made.handler.waits = True
        yield made
        made.close()


@pytest.mark.parametrize(
    "length", [pytest.param(text, id=text) for text in ("5", "05", "000000005")] + [pytest.param("5 ", id="blank")]
)
async def test_lengths_that_have_one_meaning(bench: Bench, length: str) -> None:
    client, _ = bench.connect()
    client.data_received(f"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\nhelloGET".encode())
    await settle()
    (request,) = bench.handler.requests
    assert isinstance(request.content, SizedBody)
    assert request.content.read_nowait() == b"hello"
    assert client._held == b"GET"


@pytest.mark.parametrize(
    "lines",
    [
        *("Content-Length: +5", "Content-Length: 5, 5", "Content-Length: 0x5", "Content-Length: 5_0"),
        *("Content-Length: 5\r\nContent-Length: 5", "Content-Length: -1", "Content-Length: 5 5"),
        *("Content-Length: 5\r\nTransfer-Encoding: chunked", "Content-Length : 5", "Content-Length: \xb2"),
        "Content-Length: 99999999999999999999999",
    ],
)
async def test_lengths_that_have_none(bench: Bench, lines: str) -> None:
    client, transport = bench.connect()
    client.data_received(f"POST /1 HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\nhello".encode("latin-1") + GET % 2)
    await settle()
    assert bench.handler.requests == []
    assert transport.written.startswith(b"HTTP/1.1 400 ")
    assert transport.written.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("at", range(1, len(POST % (1, 40)) + 50, 7))
async def test_wherever_a_body_is_cut_it_is_the_same(bench: Bench, at: int) -> None:
    body = (GET % 9).ljust(40, b"!")
    raw = POST % (1, 40) + body + GET % 2
    client, _ = bench.connect()
    client.data_received(raw[:at])
    await settle()
    client.data_received(raw[at:])
    await settle()
    assert bench.handler.requests[0].content.read_nowait() == body
    bench.handler.go_on.set()
    await settle()
    assert bench.handler.targets == ["/1", "/2"]


async def test_a_body_that_waited_with_its_head_is_bounded_when_its_turn_comes(bench: Bench) -> None:
    """What was held back of it is its own then: reading on is the body's business, until all of it is there."""
    client, transport = bench.connect()
    client.data_received(GET % 1)
    await settle()
    client.data_received(POST % (2, 10 * LIMIT_BYTES) + b"x" * (LIMIT_BYTES + 1))
    assert not transport.reading
    bench.handler.go_on.set()
    await settle()
    assert bench.handler.targets == ["/1", "/2"]
    assert not transport.reading  # nobody has read any of it yet
    bench.handler.requests[1].content.read_nowait()
    assert transport.reading


async def test_a_body_that_was_read_does_not_read_on_what_waits_behind_it(bench: Bench) -> None:
    client, transport = bench.connect()
    client.data_received(GET % 1)
    await settle()
    client.data_received(POST % (2, LIMIT_BYTES + 10) + b"x" * (LIMIT_BYTES + 5))
    bench.handler.go_on.set()
    await settle()
    body = bench.handler.requests[1].content
    body.read_nowait()
    client.data_received(b"x" * 5 + b"y" * (_HELD_BYTES + 1))
    assert (body.is_eof(), transport.reading) == (True, False)
    body.read_nowait()
    assert not transport.reading


async def test_behind_the_parsers_limit_of_requests_a_body_is_still_itself(bench: Bench) -> None:
    """The parser keeps what it has not looked at: nothing that comes then begins a request."""
    client, _ = bench.connect()
    most = client._max_msg_queue_size
    body = (GET % 9).ljust(40, b"!")
    client.data_received(b"".join(GET % number for number in range(most)) + POST % (most, 40))
    await settle()
    client.data_received(body)  # what a transport delivers although it was told to pause
    for _ in range(most):
        bench.handler.go_on.set()
        await settle()
    assert bench.handler.targets == [f"/{number}" for number in range(most + 1)]
    content = bench.handler.requests[-1].content
    assert content.is_eof()
    assert content.read_nowait() == body


@pytest.mark.parametrize("apart", [False, True])
async def test_an_empty_line_behind_a_body_begins_no_request(bench: Bench, apart: bool) -> None:
    """Some clients end a body with one; it is to be ignored (RFC 9112 §2.2)."""
    client, transport = bench.connect()
    client.data_received(POST % (1, 5) + b"hello" + (b"" if apart else b"\r\n"))
    await settle()
    bench.handler.requests[0].content.read_nowait()
    bench.handler.go_on.set()
    await settle()
    if apart:
        client.data_received(b"\r\n")
    bench.pass_s(11)
    await settle()
    assert transport.written == b"[/1]"
    client.data_received(GET % 2)
    await settle()
    assert bench.handler.targets == ["/1", "/2"]
