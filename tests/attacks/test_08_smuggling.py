"""Class 8, the client's side: two readers disagree where a request ends."""

import asyncio

import pytest

from tests.attacks.site import LAST, SIGNED_IN, Site

pytestmark = pytest.mark.asyncio(loop_scope="module")

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"


def post(framing: str, target: str = "/up", version: str = "HTTP/1.1") -> bytes:
    return f"POST {target} {version}\r\nHost: h\r\n{framing}\r\n\r\n".encode("latin-1")


@pytest.mark.parametrize(
    "framing",
    [
        pytest.param("Content-Length: +5", id="plus"),
        pytest.param("Content-Length: -5", id="minus"),
        pytest.param("Content-Length: 0x5", id="hexadecimal"),
        pytest.param("Content-Length: 5.0", id="fraction"),
        pytest.param("Content-Length: 5e0", id="exponent"),
        pytest.param("Content-Length: 5_0", id="underscore"),
        pytest.param("Content-Length: 5,", id="comma"),
        pytest.param("Content-Length: 5,5", id="list"),
        pytest.param("Content-Length: 5, 5", id="list-with-a-blank"),
        pytest.param("Content-Length: 5;5", id="semicolon"),
        pytest.param("Content-Length: 5 5", id="blank-inside"),
        pytest.param("Content-Length: 5\t5", id="tab-inside"),
        pytest.param("Content-Length: '5'", id="quotes"),
        pytest.param("Content-Length:", id="empty"),
        pytest.param("Content-Length: \t", id="blank"),
        pytest.param("Content-Length: 5\x0b", id="vertical-tab-behind"),
        pytest.param("Content-Length: \x0c5", id="form-feed-before"),
        pytest.param("Content-Length: 5\0", id="nul-behind"),
        pytest.param("Content-Length: \xb5", id="latin-1"),
        pytest.param("Content-Length: \xb2", id="digit-of-latin-1"),
        pytest.param("Content-Length: 5\xa0", id="latin-1-blank"),
        pytest.param("Content-Length: 18446744073709551621", id="five-more-than-64-bits"),
        pytest.param("Content-Length: 9223372036854775813", id="five-more-than-63-bits"),
        pytest.param("Content-Length: " + "9" * 400, id="400-digits"),
        pytest.param("Content-Length: " + "0" * 400 + "5", id="400-zeros"),
        pytest.param("Content-Length: 5\r\nContent-Length: 5", id="twice-the-same"),
        pytest.param("Content-Length: 5\r\nX: y\r\ncontent-length: 0", id="twice-and-different"),
        pytest.param("Content-Length: 0\r\nContent-Length: 5", id="nothing-then-five"),
        pytest.param("Content-Length: 5\r\nContent-Length:", id="a-second-that-is-empty"),
        pytest.param("Content-Length : 5", id="blank-before-the-colon"),
        pytest.param("Content-Length\t: 5", id="tab-before-the-colon"),
        pytest.param(" Content-Length: 5", id="blank-before-the-name"),
        pytest.param("X: y\r\n Content-Length: 5", id="folded"),
        pytest.param("Content-Length: 5\r\n 0", id="folded-value"),
        pytest.param("Content-Length:\r\n 5", id="folded-after-the-colon"),
        pytest.param("Content-Length: 5\rX: y", id="bare-cr"),
        pytest.param("Content-Length: 5\nX: y", id="bare-lf"),
        pytest.param("\x0bContent-Length: 5", id="vertical-tab-before-the-name"),
        pytest.param("Content-Length\0: 5", id="nul-in-the-name"),
        pytest.param("Content-\xadLength: 5", id="soft-hyphen-in-the-name"),
    ],
)
async def test_an_odd_length_is_refused_with_all_that_follows(site: Site, framing: str) -> None:
    for target in ("/up", "/dashboard"):
        answers = await site.say(post(framing, target) + b"hello" + SMUGGLED + LAST)
        assert [answer.status for answer in answers] == [400]
        assert answers[0].closes
    assert site.reached == []
    assert await site.still_serves()


@pytest.mark.parametrize(
    "framing",
    [
        pytest.param("Transfer-Encoding: identity", id="identity"),
        pytest.param("Transfer-Encoding: gzip", id="gzip"),
        pytest.param("Transfer-Encoding: gzip, chunked", id="gzip-and-chunked"),
        pytest.param("Transfer-Encoding: chunked, gzip", id="chunked-and-gzip"),
        pytest.param("Transfer-Encoding: chunked, chunked", id="chunked-in-chunked"),
        pytest.param("Transfer-Encoding: chunked, identity", id="chunked-and-identity"),
        pytest.param("Transfer-Encoding: chunked,", id="comma-behind"),
        pytest.param("Transfer-Encoding: ,chunked", id="comma-before"),
        pytest.param("Transfer-Encoding: chunked;q=1", id="parameter"),
        pytest.param('Transfer-Encoding: "chunked"', id="quotes"),
        pytest.param("Transfer-Encoding: chunked chunked", id="blank-inside"),
        pytest.param("Transfer-Encoding: xchunked", id="letter-before"),
        pytest.param("Transfer-Encoding: chunkedx", id="letter-behind"),
        pytest.param("Transfer-Encoding: chunke", id="letter-missing"),
        pytest.param("Transfer-Encoding:", id="empty"),
        pytest.param("Transfer-Encoding: \x0bchunked", id="vertical-tab-before"),
        pytest.param("Transfer-Encoding: chunked\x0c", id="form-feed-behind"),
        pytest.param("Transfer-Encoding: \x00chunked", id="nul-before"),
        pytest.param("Transfer-Encoding: \xa0chunked", id="latin-1-blank-before"),
        pytest.param("Transfer-Encoding: chun\xadked", id="soft-hyphen-inside"),
        pytest.param("Transfer-Encoding: chunKed\x7f", id="delete-behind"),
        pytest.param("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", id="twice"),
        pytest.param("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", id="chunked-then-identity"),
        pytest.param("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", id="identity-then-chunked"),
        pytest.param("Transfer-Encoding:\r\nTransfer-Encoding: chunked", id="empty-then-chunked"),
        pytest.param("Transfer-Encoding: chunked\r\nContent-Length: 15", id="with-a-length"),
        pytest.param("Content-Length: 15\r\nX: y\r\nTransfer-Encoding: chunked", id="behind-a-length"),
        pytest.param("Transfer-Encoding: chunked\r\nContent-Length: 0", id="with-no-length"),
        pytest.param("Transfer-Encoding: chunked\r\nContent-Length:", id="with-an-empty-length"),
        pytest.param("Content-Length: 15\r\nTransfer-Encoding: identity", id="identity-with-a-length"),
        pytest.param("Transfer-Encoding : chunked", id="blank-before-the-colon"),
        pytest.param("\tTransfer-Encoding: chunked", id="tab-before-the-name"),
        pytest.param("X: y\r\n Transfer-Encoding: chunked", id="folded"),
        pytest.param("Transfer-Encoding:\r\n chunked", id="folded-after-the-colon"),
        pytest.param("Transfer-Encoding: chunked\rX: y", id="bare-cr"),
        pytest.param("Transfer-Encoding: chunked\nX: y", id="bare-lf"),
        pytest.param("X: y\nTransfer-Encoding: chunked", id="behind-a-bare-lf"),
        pytest.param("Transfer-\0Encoding: chunked", id="nul-in-the-name"),
    ],
)
async def test_an_odd_coding_is_refused_with_all_that_follows(site: Site, framing: str) -> None:
    for target in ("/up", "/dashboard"):
        answers = await site.say(post(framing, target) + CHUNKED + SMUGGLED + LAST)
        assert [answer.status for answer in answers] == [400]
        assert answers[0].closes
    assert site.reached == []
    assert await site.still_serves()


@pytest.mark.parametrize(
    "framing", ["Transfer_Encoding: chunked", "Content_Length: 5", "Transfer.Encoding: chunked", "X-Content-Length: 5"]
)
async def test_another_spelling_of_a_framing_field_frames_nothing_and_is_not_passed_on(
    site: Site, framing: str
) -> None:
    answers = await site.say(post(f"Content-Length: 5\r\n{framing}") + b"hello" + LAST)
    assert [answer.status for answer in answers] == [200, 200]
    assert site.upstream.requests[0].body == b"hello"
    assert site.reached == ["/up", "/last"]
    if not framing.startswith("X-"):
        assert framing.encode() not in site.upstream.requests[0].head


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        ("Content-Length: 5", b"hello"),
        ("Content-Length:5", b"hello"),
        ("Content-Length: \t 5 \t", b"hello"),
        ("CONTENT-LENGTH: 00005", b"hello"),
        ("Content-Length: 0", b""),
        ("Transfer-Encoding: CHUNKED", CHUNKED),
        ("Transfer-Encoding:chunked", CHUNKED),
        ("Transfer-Encoding: chunked", b"0\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"5;ext\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", b'5;ext="a;b"\r\nhello\r\n0;last\r\n\r\n'),
        ("Transfer-Encoding: chunked", b"000000000000000000000005\r\nhello\r\n0000\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"1\r\nh\r\n4\r\nello\r\n0\r\nX-Trailer: y\r\n\r\n"),
        ("Expect: 100-continue\r\nContent-Length: 5", b"hello"),
        ("Expect: 100-CONTINUE\r\nTransfer-Encoding: chunked", CHUNKED),
        ("Expect: 200-ok\r\nContent-Length: 5", b"hello"),
    ],
)
async def test_a_clear_framing_is_made_anew_and_ends_where_it_says(site: Site, framing: str, body: bytes) -> None:
    for split in (len(framing) // 2, len(post(framing)), len(post(framing)) + len(body) // 2):
        site.forget()
        raw = post(framing) + body + LAST
        conversation = await site.open()
        conversation.send(raw[:split])
        await asyncio.sleep(0)
        conversation.send(raw[split:])
        assert [answer.status for answer in await conversation.end()] == [200, 200]
        first, last = site.upstream.requests
        assert (first.body, first.trailers, last.target) == (
            b"" if body in (b"", b"0\r\n\r\n") else b"hello",
            b"",
            "/last",
        )
        assert first.values("expect") == []
        assert len(first.values("content-length") + first.values("transfer-encoding")) == 1
        assert b"ext" not in first.head


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(b"+5\r\nhello\r\n0\r\n\r\n", id="plus"),
        pytest.param(b"-5\r\nhello\r\n0\r\n\r\n", id="minus"),
        pytest.param(b"0x5\r\nhello\r\n0\r\n\r\n", id="hexadecimal-prefix"),
        pytest.param(b"0_5\r\nhello\r\n0\r\n\r\n", id="underscore"),
        pytest.param(b"5 \r\nhello\r\n0\r\n\r\n", id="blank-behind"),
        pytest.param(b" 5\r\nhello\r\n0\r\n\r\n", id="blank-before"),
        pytest.param(b"5\t\r\nhello\r\n0\r\n\r\n", id="tab-behind"),
        pytest.param(b"5\0\r\nhello\r\n0\r\n\r\n", id="nul-behind"),
        pytest.param(b"g\r\nhello\r\n0\r\n\r\n", id="no-digit"),
        pytest.param(b"\xb5\r\nhello\r\n0\r\n\r\n", id="latin-1"),
        pytest.param(b"\r\nhello\r\n0\r\n\r\n", id="no-size"),
        pytest.param(b"\r\n5\r\nhello\r\n0\r\n\r\n", id="empty-line-before"),
        pytest.param(b";5\r\nhello\r\n0\r\n\r\n", id="extension-alone"),
        pytest.param(b"10000000000000005\r\nhello\r\n0\r\n\r\n", id="five-more-than-64-bits"),
        pytest.param(b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n", id="65-bits"),
        pytest.param(b"5;a\nb\r\nhello\r\n0\r\n\r\n", id="lf-in-an-extension"),
        pytest.param(b"5;a\rb\r\nhello\r\n0\r\n\r\n", id="cr-in-an-extension"),
        pytest.param(b"5;a\0\r\nhello\r\n0\r\n\r\n", id="nul-in-an-extension"),
        pytest.param(b"5\nhello\r\n0\r\n\r\n", id="lf-after-the-size"),
        pytest.param(b"5\rhello\r\n0\r\n\r\n", id="cr-after-the-size"),
        pytest.param(b"5\r\r\nhello\r\n0\r\n\r\n", id="two-crs-after-the-size"),
        pytest.param(b"5\r\nhello\n0\r\n\r\n", id="lf-after-the-data"),
        pytest.param(b"5\r\nhello\r0\r\n\r\n", id="cr-after-the-data"),
        pytest.param(b"5\r\nhello0\r\n\r\n", id="nothing-after-the-data"),
        pytest.param(b"5\r\nhelloxx0\r\n\r\n", id="two-other-bytes-after-the-data"),
        pytest.param(b"4\r\nhello\r\n0\r\n\r\n", id="one-more-than-it-says"),
        pytest.param(b"5\r\nhello\r\n0\n\n", id="lf-at-the-end"),
        pytest.param(b"5\r\nhello\r\n0\r\n\n", id="lf-after-the-last-chunk"),
        pytest.param(b"5\r\nhello\r\n0\r\r\n", id="cr-after-the-last-chunk"),
        pytest.param(b"5\r\nhello\r\n-0\r\n\r\n", id="minus-nothing"),
        pytest.param(b"5\r\nhello\r\n0\r\nX : y\r\n\r\n", id="trailer-with-a-blank"),
        pytest.param(b"5\r\nhello\r\n0\r\nX\r\n\r\n", id="trailer-without-a-colon"),
        pytest.param(b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n", id="length-as-a-trailer"),
        pytest.param(b"5\r\nhello\r\n0\r\nTransfer-Encoding: x\r\n\r\n", id="coding-as-a-trailer"),
        pytest.param(b"5\r\nhello\r\n0\r\n folded\r\n\r\n", id="folded-trailer"),
        pytest.param(b"5\r\nhello\r\n0\r\nX: a\rb\r\n\r\n", id="trailer-with-a-cr"),
        pytest.param(b"5\r\nhello\r\n0\r\nX: a\0b\r\n\r\n", id="trailer-with-a-nul"),
        pytest.param(b"5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\n\r\n", id="request-line-as-a-trailer"),
    ],
)
async def test_odd_chunks_are_never_a_whole_request(site: Site, chunks: bytes) -> None:
    answers = await site.say(post("Transfer-Encoding: chunked") + chunks + SMUGGLED + LAST)
    assert [answer.status for answer in answers] == [400]
    assert "/smuggled" not in site.reached
    site.forget()
    assert await site.still_serves()


@pytest.mark.parametrize(
    "framing",
    ["Transfer-Encoding: chunked", "Transfer-Encoding: identity", "Transfer-Encoding: chunked\r\nContent-Length: 5"],
)
@pytest.mark.parametrize("connection", ["", "\r\nConnection: keep-alive"])
async def test_a_coding_in_http_1_0_is_refused(site: Site, framing: str, connection: str) -> None:
    answers = await site.say(post(framing + connection, version="HTTP/1.0") + CHUNKED + SMUGGLED)
    assert [answer.status for answer in answers] == [400]
    assert site.reached == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"GET /x HTTP/1.1\nHost: h\n\n", id="bare-lfs"),
        pytest.param(b"GET /x HTTP/1.1\r\nHost: h\r\n\n", id="bare-lf-at-the-end"),
        pytest.param(b"GET /x HTTP/1.1\r\nHost: h\n\r\n", id="bare-lf-in-the-middle"),
        pytest.param(b"GET /x HTTP/1.1\rHost: h\r\r", id="bare-crs"),
        pytest.param(b"GET /x HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", id="bare-cr-in-a-value"),
        pytest.param(b"GET /x HTTP/1.1\r\nHost: h\r\n: empty\r\n\r\n", id="empty-name"),
        pytest.param(b"GET /x HTTP/1.1\r\nHost: h\r\n:\r\n\r\n", id="colon-alone"),
        pytest.param(b"GET /x HTTP/1.1\r\nHost: h\r\n\0: y\r\n\r\n", id="nul-as-a-name"),
        pytest.param(b"GET /x HTTP/1.1\r\n Host: h\r\n\r\n", id="blank-before-the-first-field"),
        pytest.param(b"GET /x HTTP/1.1\r\n\tX: y\r\nHost: h\r\n\r\n", id="tab-before-the-first-field"),
        pytest.param(b"GET /x HTTP/1.1\r\nHost: h\r\nX: y\r\n \r\n\r\n", id="folded-onto-a-blank"),
        pytest.param(b"GET /x HTTP/1.1\r\nHost: h\r\nX{Y}: z\r\n\r\n", id="brackets-in-a-name"),
        pytest.param(b"GET /x HTTP/1.1\r\nHost: h\r\nX@Y: z\r\n\r\n", id="at-in-a-name"),
        pytest.param(b"GET /x HTTP/1.1\r\nHost: h\r\nX\xe9: z\r\n\r\n", id="latin-1-in-a-name"),
        pytest.param(b"GET /x HTTP/1.1 \r\nHost: h\r\n\r\n", id="blank-behind-the-version"),
        pytest.param(b"GET /x HTTP/1.1x\r\nHost: h\r\n\r\n", id="letter-behind-the-version"),
        pytest.param(b"GET /x HTTP/1.10\r\nHost: h\r\n\r\n", id="two-digits-in-the-version"),
        pytest.param(b"GET /x HTTP/+1.1\r\nHost: h\r\n\r\n", id="sign-in-the-version"),
        pytest.param(b"GET /x HTTP/1.\xb9\r\nHost: h\r\n\r\n", id="latin-1-digit-in-the-version"),
        pytest.param(b"GET /x HTTP/11\r\nHost: h\r\n\r\n", id="no-dot-in-the-version"),
        pytest.param(b"GET /x http/1.1\r\nHost: h\r\n\r\n", id="small-letters-in-the-version"),
        pytest.param(b"GET /x ICE/1.0\r\nHost: h\r\n\r\n", id="another-protocol"),
        pytest.param(b"GET /x y HTTP/1.1\r\nHost: h\r\n\r\n", id="blank-in-the-target"),
        pytest.param(b"GET /x HTTP/1.1 HTTP/1.1\r\nHost: h\r\n\r\n", id="two-versions"),
        pytest.param(b"GET /x\r\nHost: h\r\n\r\n", id="no-version"),
        pytest.param(b"/x HTTP/1.1\r\nHost: h\r\n\r\n", id="no-method"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", id="a-response"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", id="http-2-preface"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="a-tls-hello"),
        pytest.param(b"\0GET /x HTTP/1.1\r\nHost: h\r\n\r\n", id="nul-before-the-method"),
        pytest.param(b"\xef\xbb\xbfGET /x HTTP/1.1\r\nHost: h\r\n\r\n", id="byte-order-mark"),
        pytest.param(b"\n\nGET /x HTTP/1.1\nHost: h\n\n", id="bare-lfs-before-and-in-it"),
    ],
)
async def test_what_is_no_http_is_refused_alone_and_behind_another(site: Site, request_bytes: bytes) -> None:
    for before in (b"", b"GET /first HTTP/1.1\r\nHost: h\r\n\r\n", post("Content-Length: 5", "/first") + b"hello"):
        site.forget()
        answers = await site.say(before + request_bytes + SMUGGLED + LAST)
        *first, refused = [answer.status for answer in answers]
        assert refused in (400, 505)
        assert site.reached in ([], ["/first"])  # what came in one piece with nonsense may be refused with it
        assert first == [200] * len(site.reached)
    assert await site.still_serves()


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        ("Content-Length: 35", SMUGGLED),
        ("Content-Length: 35\r\nExpect: 100-continue", SMUGGLED),
        ("Transfer-Encoding: chunked", b"23\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
        ("Content-Length: 100000", SMUGGLED),
        ("Transfer-Encoding: chunked", b"ffff\r\n" + SMUGGLED),
    ],
)
@pytest.mark.parametrize(
    "target", ["/dashboard", "/.gatekeeper/whoami", "/.gatekeeper/no", "/.gatekeeper/clear-cookies"]
)
async def test_the_body_of_a_refused_request_is_never_the_next_request(
    site: Site, target: str, framing: str, body: bytes
) -> None:
    for method in ("POST", "GET", "DELETE"):
        conversation = await site.open()
        conversation.send(post(framing, target).replace(b"POST", method.encode(), 1) + body)
        (refused,) = await conversation.answers(1)
        assert 400 <= refused.status < 500
        assert b"100 Continue" not in conversation.said
        if not refused.closes:
            conversation.send(LAST)
            assert [answer.status for answer in await conversation.end()] == [refused.status, 200]
        conversation.transport.abort()
    assert set(site.reached) <= {"/last"}


async def test_a_request_behind_a_refused_one_is_its_own(site: Site) -> None:
    raw = b"GET /dashboard HTTP/1.1\r\nHost: h\r\n\r\n"
    signed = f"GET /dashboard HTTP/1.1\r\nHost: h\r\n{SIGNED_IN}\r\n\r\n".encode()
    answers = await site.say(raw + signed + raw + SMUGGLED.replace(b"smuggled", b"open") + LAST)
    assert [answer.status for answer in answers] == [401, 200, 401, 200, 200]
    assert site.reached == ["/dashboard", "/open", "/last"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "PROPFIND"])
@pytest.mark.parametrize("framing", ["Content-Length: 35", "Transfer-Encoding: chunked"])
async def test_a_body_where_none_is_usual_stays_a_body(site: Site, method: str, framing: str) -> None:
    body = SMUGGLED if "Length" in framing else b"23\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"
    answers = await site.say(post(framing).replace(b"POST", method.encode(), 1) + body + LAST, to_head=method == "HEAD")
    assert [answer.status for answer in answers] == [200, 200]
    assert site.reached == ["/up", "/last"]
    assert site.upstream.requests[0].body == SMUGGLED


async def test_requests_may_come_in_any_pieces(site: Site) -> None:
    """The same conversation cut at each byte, and byte by byte: the same requests."""
    raw = post("Content-Length: 5") + b"hello" + post("Transfer-Encoding: chunked") + CHUNKED + LAST
    for cuts in (*([at] for at in range(0, len(raw), 7)), range(1, len(raw))):
        site.forget()
        conversation = await site.open()
        for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
            conversation.send(raw[start:end])
            await asyncio.sleep(0)
        assert [answer.status for answer in await conversation.end()] == [200, 200, 200]
        assert [request.body for request in site.upstream.requests] == [b"hello", b"hello", b""]
