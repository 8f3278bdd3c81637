"""Class 8, the app's side: an answer that does not end where it says, or begins before anybody asked."""

import asyncio

import pytest

from tests.attacks.site import LAST, Site
from tests.server.upstreams import Received, answer_as, read_body

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def answer_once(site: Site, raw: bytes, *, goes_on: bool = True) -> None:
    """The app answers its next request with these bytes, every other one as usual."""
    asked = 0

    async def answer(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        nonlocal asked
        asked += 1
        await read_body(received, reader)
        if asked > 1:
            return await answer_as("", received, writer)
        writer.write(raw)
        return goes_on

    site.upstream.answering = answer


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", id="two-lengths"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 50\r\n\r\nok", id="two-different-lengths"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", id="a-list-of-lengths"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", id="plus"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", id="minus"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok", id="hexadecimal"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok", id="empty-length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\nok", id="digit-of-latin-1"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok", id="65-bits"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", id="both"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="two-codings"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok", id="identity"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\nok", id="empty-coding"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", id="control-in-the-coding"),
        pytest.param(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="coding-in-http-1.0"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", id="blank-before-the-colon"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", id="folded"),
        pytest.param(b"HTTP/1.1 200 OK\r\n X: a\r\nContent-Length: 2\r\n\r\nok", id="folded-first"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: a\rY: b\r\nContent-Length: 2\r\n\r\nok", id="bare-cr"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: a\nY: b\r\nContent-Length: 2\r\n\r\nok", id="bare-lf"),
        pytest.param(b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok", id="bare-lf-after-the-status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\n\nok", id="bare-lfs-at-the-end"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok", id="nul"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: \x1b[2J\r\nContent-Length: 2\r\n\r\nok", id="escape"),
        pytest.param(b"HTTP/1.1 200 O\x0bK\r\nContent-Length: 2\r\n\r\nok", id="control-in-the-phrase"),
        pytest.param(b"HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 2\r\n\r\nok", id="empty-name"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX\r\nContent-Length: 2\r\n\r\nok", id="no-colon"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX Y: a\r\nContent-Length: 2\r\n\r\nok", id="blank-in-a-name"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX\xe9: a\r\nContent-Length: 2\r\n\r\nok", id="latin-1-in-a-name"),
        pytest.param(b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", id="http-2"),
        pytest.param(b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", id="http-1.2"),
        pytest.param(b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", id="small-letters"),
        pytest.param(b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", id="status-of-two-digits"),
        pytest.param(b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", id="status-of-four-digits"),
        pytest.param(b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok", id="status-below-100"),
        pytest.param(b"HTTP/1.1 +20 OK\r\nContent-Length: 2\r\n\r\nok", id="status-with-a-sign"),
        pytest.param(b"HTTP/1.1\t200\tOK\r\nContent-Length: 2\r\n\r\nok", id="tabs-in-the-status-line"),
        pytest.param(b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok", id="two-blanks"),
        pytest.param(b"\r\n" + OK, id="empty-line-before"),
        pytest.param(b"x" + OK, id="letter-before"),
        pytest.param(b"<html>error</html>\r\n\r\n", id="a-page-without-a-head"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", id="a-request"),
        pytest.param(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + OK, id="unasked-101"
        ),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 9 + OK, id="too-many-interim-answers"),
        pytest.param(b"HTTP/1.1 100 Continue\r\nX: a\0\r\n\r\n" + OK, id="nul-in-an-interim-answer"),
        pytest.param(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n" + OK, id="101-behind-102"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\nContent-Length: 2\r\n\r\nok", id="one-long-field"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 12_000 + b"Content-Length: 2\r\n\r\nok", id="many-fields"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000, id="a-head-without-an-end"),
    ],
)
async def test_a_head_that_cannot_be_trusted_is_a_502(site: Site, head: bytes) -> None:
    answer_once(site, head)
    response = await site.ask("GET", "/x")
    assert response.status == 502
    assert b"UPSTREAM_PROTOCOL" in response.body
    assert await site.still_serves()


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(b"+2\r\nok\r\n0\r\n\r\n", id="plus"),
        pytest.param(b"0x2\r\nok\r\n0\r\n\r\n", id="hexadecimal-prefix"),
        pytest.param(b"2_\r\nok\r\n0\r\n\r\n", id="underscore"),
        pytest.param(b"-2\r\nok\r\n0\r\n\r\n", id="minus"),
        pytest.param(b" 2\r\nok\r\n0\r\n\r\n", id="blank-before"),
        pytest.param(b"2 \r\nok\r\n0\r\n\r\n", id="blank-behind"),
        pytest.param(b"\r\n2\r\nok\r\n0\r\n\r\n", id="empty-line"),
        pytest.param(b"10000000000000002\r\nok\r\n0\r\n\r\n", id="two-more-than-64-bits"),
        pytest.param(b"0000000000000002\r\nok\r\n0\r\n\r\n", id="sixteen-digits"),
        pytest.param(b"2\nok\n0\n\n", id="bare-lfs"),
        pytest.param(b"2\rok\r0\r\r", id="bare-crs"),
        pytest.param(b"2;a\nb\r\nok\r\n0\r\n\r\n", id="lf-in-an-extension"),
        pytest.param(b"2;a\0\r\nok\r\n0\r\n\r\n", id="nul-in-an-extension"),
        pytest.param(b"2;" + b"a" * 5_000 + b"\r\nok\r\n0\r\n\r\n", id="long-extension"),
        pytest.param(b"2\r\nokxx0\r\n\r\n", id="two-other-bytes-after-the-data"),
        pytest.param(b"2\r\nok0\r\n\r\n", id="nothing-after-the-data"),
        pytest.param(b"2\r\nokxx\r\n0\r\n\r\n", id="two-more-than-it-says"),
        pytest.param(b"1\r\nok\r\n0\r\n\r\n", id="one-more-than-it-says"),
        pytest.param(b"2\r\nok\r\n0\r\nX : a\r\n\r\n", id="trailer-with-a-blank"),
        pytest.param(b"2\r\nok\r\n0\r\n folded\r\n\r\n", id="folded-trailer"),
        pytest.param(b"2\r\nok\r\n0\r\nX: a\0\r\n\r\n", id="nul-in-a-trailer"),
        pytest.param(b"2\r\nok\r\n0\r\n" + b"X: a\r\n" * 20_000 + b"\r\n", id="many-trailers"),
        pytest.param(b"2\r\nok\r\n" + POISON, id="a-response-instead-of-a-chunk"),
        pytest.param(b"2\r\nok\r\n", id="no-end"),
        pytest.param(b"2\r\nok\r\n0\r\n", id="half-an-end"),
        pytest.param(b"", id="nothing"),
    ],
)
async def test_broken_chunks_never_look_like_a_whole_answer(site: Site, chunks: bytes) -> None:
    for pieces in ([CHUNKED + chunks], [CHUNKED, b"3\r\nabc\r\n", chunks]):

        async def answer(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pieces: list[bytes] = pieces
        ) -> bool:
            for piece in pieces:
                writer.write(piece)
                for _ in range(5):
                    await asyncio.sleep(0)
            return False

        site.upstream.answering = answer
        response = await site.ask("GET", "/x")
        assert response.status == 502 or not response.complete
        assert b"poison" not in response.body
        site.forget()
        assert await site.still_serves()


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        pytest.param("GET", OK + POISON, id="a-second-answer"),
        pytest.param("GET", OK + b"\r\n", id="an-empty-line"),
        pytest.param("GET", OK + b"x", id="one-byte"),
        pytest.param("GET", CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + POISON, id="a-second-answer-behind-chunks"),
        pytest.param("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + POISON, id="a-second-answer-behind-none"),
        pytest.param("GET", b"HTTP/1.1 204 No Content\r\n\r\n" + POISON, id="a-body-on-204"),
        pytest.param("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 44\r\n\r\n" + POISON, id="a-length-on-204"),
        pytest.param("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 44\r\n\r\n" + POISON, id="a-body-on-304"),
        pytest.param(
            "GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n" + POISON, id="coding-on-304"
        ),
        pytest.param("HEAD", OK + POISON, id="a-body-on-head"),
        pytest.param("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n" + POISON, id="a-body-of-poison-on-head"),
        pytest.param("HEAD", CHUNKED + b"2\r\nok\r\n0\r\n\r\n", id="chunks-on-head"),
    ],
)
async def test_bytes_behind_an_answer_are_nobodys(site: Site, method: str, raw: bytes) -> None:
    answer_once(site, raw)
    conversation = await site.open()
    conversation.send(f"{method} /first HTTP/1.1\r\nHost: h\r\n\r\n")
    (first,) = await conversation.answers(1, to_head=method == "HEAD")
    assert first.status in (200, 204, 304)
    assert first.body in (b"ok", b"")
    conversation.send(LAST)
    last = (await conversation.end(to_head=method == "HEAD"))[-1]
    assert b'"/last"' in last.body
    assert b"poison" not in conversation.said
    assert await site.still_serves()


async def test_an_answer_on_an_idle_connection_is_nobodys(site: Site) -> None:
    closed = asyncio.Event()

    async def answer(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(OK)
        for _ in range(20):  # until the answer has been taken and the connection lies idle
            await asyncio.sleep(0)
        writer.write(POISON)
        await reader.read()
        closed.set()
        return False

    site.upstream.answering = answer
    assert (await site.ask("GET", "/x")).body == b"ok"
    async with asyncio.timeout(20):
        await closed.wait()
    site.forget()
    for _ in range(3):
        assert await site.still_serves()


@pytest.mark.parametrize("framing", ["Content-Length: 40", "Transfer-Encoding: chunked"])
async def test_an_answer_before_the_body_leaves_the_connection_to_nobody_else(site: Site, framing: str) -> None:
    """Else the rest of the body would come before the next client's request."""
    early = asyncio.Event()

    async def answer(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if received.target != "/early":
            await read_body(received, reader)
            return await answer_as("", received, writer)
        writer.write(OK)
        early.set()
        try:
            await read_body(received, reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        return True

    site.upstream.answering = answer
    conversation = await site.open()
    part = b"5\r\nfirst\r\n" if "chunked" in framing else b"first"
    conversation.send(f"POST /early HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n".encode() + part)
    async with asyncio.timeout(20):
        await early.wait()
    (first,) = await conversation.answers(1)
    assert (first.status, first.body) == (200, b"ok")
    assert await site.still_serves()
    conversation.send(b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
    for _ in range(3):
        assert await site.still_serves()
    conversation.transport.abort()
    assert "/smuggled" not in site.reached
    assert [request.trouble for request in site.upstream.requests] == [None] * len(site.upstream.requests)


async def test_interim_answers_are_not_final_ones(site: Site) -> None:
    for raw in (
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 8 + OK,
        b"HTTP/1.1 102 Processing\r\nContent-Length: 44\r\n\r\n" + OK,
        b"HTTP/1.1 199 X\r\n\r\n" + OK,
    ):
        answer_once(site, raw)
        response = await site.ask("GET", "/x")
        assert (response.status, response.body) == (200, b"ok")
        assert await site.still_serves()


async def test_one_clients_answer_never_reaches_another(site: Site) -> None:
    """Many at once, half of them to an app that misbehaves: each gets its own or an error."""
    modes = ["", "extra-response", "cl-te", "truncated", "until-close", "unasked-101", "bare-lf", "early-103"]

    async def one(number: int) -> None:
        target = f"/own-{number}"
        response = await site.ask("GET", target, f"X-Drill-Upstream: {modes[number % len(modes)]}")
        own = f'"{target}"'.encode() in response.body or response.body in (b"only this", b"until the end")
        assert own or response.status == 502
        assert b"poison" not in response.body

    for _ in range(3):
        await asyncio.gather(*(one(number) for number in range(64)))
    assert await site.still_serves()


async def test_a_response_cannot_be_split_by_what_the_app_repeats(site: Site) -> None:
    """Text that an app copies into a header without care: the gate refuses it rather than pass it on."""
    for text in (b"a\r\nSet-Cookie: x=y", b"a\r\n\r\n<script>", b"a\nSet-Cookie: x=y", b"a\rSet-Cookie: x=y", b"a\0b"):
        answer_once(site, b"HTTP/1.1 302 Found\r\nLocation: /" + text + b"\r\nContent-Length: 0\r\n\r\n", goes_on=False)
        response = await site.ask("GET", "/x")
        if b"\r\n" not in text:  # what is a well-formed line is the app's own header
            assert response.status == 502
            assert response.values(b"set-cookie") == []
        assert await site.still_serves()
