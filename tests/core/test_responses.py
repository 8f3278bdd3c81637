"""Upstream responses: whatever the pieces, the same answer; whatever the bytes, an answer or an error; no repairs."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpResponseParser, RawResponseMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.core import responses as responses_module
from gatekeeper.core.errors import UpstreamProtocolError
from gatekeeper.core.response_headers import UpstreamHead, client_head
from gatekeeper.core.responses import HEAD_LIMIT, ResponseHead, ResponseParser

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass
class Outcome:
    """All that can be seen of a parser after it was fed."""

    head: ResponseHead | None
    body: bytes
    is_done: bool
    is_clean: bool


def parse(*pieces: bytes, method: str = "GET", end: bool = False, accept: bytes | None = None) -> Outcome:
    parser = ResponseParser()
    parser.begin(method, accept)
    body = b"".join([parser.feed(piece) for piece in pieces])
    if end:
        parser.feed_eof()
    return Outcome(parser.head, body, parser.is_done, parser.is_clean)


def head_of(outcome: Outcome) -> ResponseHead:
    assert outcome.head is not None
    return outcome.head


def pairs(head: ResponseHead) -> list[tuple[bytes, bytes]]:
    """Names and values of the lines that pass on."""
    split = [line.removesuffix(b"\r\n").partition(b": ") for line in head.fields.kept]
    return [(name, value) for name, _, value in split]


def refused(raw: bytes, *, method: str = "GET", accept: bytes | None = None) -> None:
    """Refused whole, and refused byte by byte."""
    with pytest.raises(UpstreamProtocolError):
        parse(raw, method=method, accept=accept)
    with pytest.raises(UpstreamProtocolError):
        parse(*[raw[at : at + 1] for at in range(len(raw))], method=method, accept=accept)


# --- heads ---------------------------------------------------------------------------------------------------------


def test_a_plain_response() -> None:
    outcome = parse(b"HTTP/1.1 404 Not Found\r\nServer: s\r\nX-Y:  Xa bX \t\r\nContent-Length: 5\r\n\r\nhello")
    assert outcome == Outcome(
        ResponseHead(404, b"Not Found", UpstreamHead([b"Server: s\r\n", b"X-Y: Xa bX\r\n"], framing=5), True),
        b"hello",
        is_done=True,
        is_clean=True,
    )


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        pytest.param(b"HTTP/1.1 200 OK", 200, b"OK", id="usual"),
        pytest.param(b"HTTP/1.1 200 ", 200, b"", id="no-reason"),
        pytest.param(b"HTTP/1.1 200", 200, b"", id="no-blank-either"),
        pytest.param(b"HTTP/1.0 503 Try\tagain \xe4", 503, b"Try\tagain \xe4", id="any-reason"),
        pytest.param(b"HTTP/1.1 999 x", 999, b"x", id="highest"),
    ],
)
def test_status_line(line: bytes, status: int, reason: bytes) -> None:
    head = head_of(parse(line + b"\r\n\r\n"))
    assert (head.status, head.reason) == (status, reason)


BAD_STATUS_LINES = {
    "http-2": b"HTTP/2.0 200 OK",
    "http-1-2": b"HTTP/1.2 200 OK",
    "http-1-10": b"HTTP/1.10 200 OK",
    "http-0-9": b"HTTP/0.9 200 OK",
    "lower-case": b"http/1.1 200 OK",
    "no-version": b"HTTP 200 OK",
    "leading-blank": b" HTTP/1.1 200 OK",
    "leading-line": b"\r\nHTTP/1.1 200 OK",
    "two-blanks": b"HTTP/1.1  200 OK",
    "tab": b"HTTP/1.1\t200 OK",
    "status-too-short": b"HTTP/1.1 20 OK",
    "status-too-long": b"HTTP/1.1 2000 OK",
    "status-below-100": b"HTTP/1.1 099 OK",
    "status-signed": b"HTTP/1.1 +20 OK",
    "no-status": b"HTTP/1.1",
    "nul-in-reason": b"HTTP/1.1 200 O\x00K",
    "bare-cr-in-reason": b"HTTP/1.1 200 O\rK",
    "delete-in-reason": b"HTTP/1.1 200 O\x7fK",
    "not-http": b"SSH-2.0-OpenSSH",
    "empty": b"",
}


@pytest.mark.parametrize("line", BAD_STATUS_LINES.values(), ids=BAD_STATUS_LINES)
def test_bad_status_lines(line: bytes) -> None:
    refused(line + b"\r\nContent-Length: 0\r\n\r\n")


BAD_FIELDS = {
    "folding": b"X: a\r\n b",
    "folding-by-tab": b"X: a\r\n\tb",
    "space-before-colon": b"X : a",
    "tab-before-colon": b"X\t: a",
    "leading-space": b" X: a",
    "no-colon": b"X",
    "no-name": b": a",
    "odd-name": b"X(Y): a",
    "name-not-ascii": b"X\xe4: a",
    "nul-in-name": b"X\x00: a",
    "nul": b"X: a\x00b",
    "bare-cr": b"X: a\rb",
    "bare-cr-last": b"X: a\r",
    "bare-lf": b"X: a\nY: b",
    "escape": b"X: \x1b",
    "delete": b"X: \x7f",
    "two-equal-lengths": b"Content-Length: 5\r\nContent-Length: 5",
    "two-different-lengths": b"Content-Length: 5\r\ncontent-length: 6",
    "length-list": b"Content-Length: 5, 5",
    "length-signed": b"Content-Length: +5",
    "length-negative": b"Content-Length: -5",
    "length-hex": b"Content-Length: 0x5",
    "length-empty": b"Content-Length:",
    "length-huge": b"Content-Length: 9999999999999999999",
    "length-and-coding": b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    "coding-and-length": b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    "gzip": b"Transfer-Encoding: gzip",
    "gzip-chunked": b"Transfer-Encoding: gzip, chunked",
    "chunked-twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "identity": b"Transfer-Encoding: identity",
    "empty-coding": b"Transfer-Encoding:",
}


@pytest.mark.parametrize("lines", BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_bad_fields(lines: bytes) -> None:
    refused(OK + lines + b"\r\n\r\n")
    refused(OK + b"A: 1\r\n" + lines + b"\r\nB: 2\r\n\r\n")
    refused(OK + lines + b"\r\n\r\n", method="HEAD")
    refused(b"HTTP/1.1 103 Early Hints\r\n" + lines + b"\r\n\r\n")


def test_bare_lf_is_refused_before_the_head_ends() -> None:
    refused(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    refused(b"HTTP/1.1 200 OK\r\nContent-Length: 0\n\n")
    refused(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n")
    refused(b"HTTP/1.1 200 OK\n")
    refused(b"\nHTTP/1.1 200 OK\r\n")
    refused(b"\r\n\r\n")
    refused(INTERIM + b"HTTP/1.1 200 OK\n")


@pytest.mark.parametrize("name", [b"Transfer-Encoding", b"transfer-encoding"], ids=lambda name: name.decode())
def test_http_1_0_has_no_codings(name: bytes) -> None:
    for method in ("GET", "HEAD"):
        refused(b"HTTP/1.0 200 OK\r\nA: 1\r\n" + name + b": chunked\r\n\r\n", method=method)
    assert head_of(parse(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")).fields.framing == 0


def padded_head(size: int) -> bytes:
    start, end = OK + b"Content-Length: 0\r\nX: ", b"\r\n\r\n"
    return start + b"x" * (size - len(start) - len(end)) + end


def test_the_head_is_limited() -> None:
    assert HEAD_LIMIT == 65536
    assert parse(padded_head(HEAD_LIMIT)).is_clean
    with pytest.raises(UpstreamProtocolError):
        parse(padded_head(HEAD_LIMIT + 1))
    pieces = padded_head(HEAD_LIMIT)
    assert parse(pieces[:-1], pieces[-1:]).is_clean


def test_an_endless_head_is_refused_as_soon_as_it_is_too_long() -> None:
    parser = ResponseParser()
    parser.begin("GET")
    assert parser.feed((OK + b"X: ").ljust(HEAD_LIMIT, b"x")) == b""
    with pytest.raises(UpstreamProtocolError):
        parser.feed(b"x")


@pytest.mark.parametrize(
    ("lines", "is_persistent", "keep_alive_s"),
    [
        pytest.param(b"", True, None, id="http-1-1"),
        pytest.param(b"Connection: keep-alive\r\n", True, None, id="kept"),
        pytest.param(b"Connection: close\r\n", False, None, id="close"),
        pytest.param(b"connection: X, Close\r\n", False, None, id="close-in-a-list"),
        pytest.param(b"Connection: X\r\nConnection: close\r\n", False, None, id="close-on-a-second-line"),
        pytest.param(b"Keep-Alive: timeout=5, max=100\r\n", True, 5, id="hint"),
        pytest.param(b"keep-alive: max=100, TIMEOUT=75\r\n", True, 75, id="hint-in-another-case"),
        pytest.param(b"Keep-Alive: max=100\r\n", True, None, id="hint-without-a-time"),
        pytest.param(b"Keep-Alive: timeout=x\r\n", True, None, id="hint-without-a-number"),
    ],
)
def test_what_the_upstream_says_of_its_connection(lines: bytes, is_persistent: bool, keep_alive_s: int | None) -> None:
    outcome = parse(OK + lines + b"Content-Length: 0\r\n\r\n")
    assert head_of(outcome).is_persistent is is_persistent
    assert head_of(outcome).keep_alive_s == keep_alive_s
    assert outcome.is_clean is is_persistent
    assert head_of(outcome).fields.kept == []


def test_http_1_0_connections_are_used_once() -> None:
    outcome = parse(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n")
    assert outcome.is_done
    assert not outcome.is_clean


# --- interim answers -----------------------------------------------------------------------------------------------

INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
FINAL = OK + b"Content-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("count", [1, 8])
def test_interim_answers_are_passed_over(count: int) -> None:
    outcome = parse(b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n" + INTERIM * (count - 1) + FINAL)
    assert (head_of(outcome).status, outcome.body, outcome.is_clean) == (200, b"ok", True)


def test_too_many_interim_answers() -> None:
    refused(INTERIM * 9 + FINAL)
    refused(INTERIM * 9)


def test_interim_answers_are_counted_for_each_response() -> None:
    parser = ResponseParser()
    for _ in range(2):
        parser.begin("GET")
        assert parser.feed(INTERIM * 8 + FINAL) == b"ok"


def test_an_interim_answer_is_no_answer() -> None:
    parser = ResponseParser()
    parser.begin("GET")
    assert parser.feed(INTERIM) == b""
    assert parser.head is None
    assert not parser.is_done
    with pytest.raises(UpstreamProtocolError):
        parser.feed_eof()


def test_an_interim_answer_has_no_body() -> None:
    refused(b"HTTP/1.1 103 X\r\nContent-Length: 5\r\n\r\nhello" + FINAL)
    assert parse(b"HTTP/1.1 103 X\r\nContent-Length: 5\r\n\r\n" + FINAL).body == b"ok"
    assert parse(b"HTTP/1.1 199 X\r\n\r\n" + FINAL).body == b"ok"


def test_switching_protocols_unasked() -> None:
    refused(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert parse(b"HTTP/1.1 102 Processing\r\n\r\n" + FINAL).body == b"ok"


# --- switching protocols -------------------------------------------------------------------------------------------

ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
)


def test_a_handshake_that_is_answered_right() -> None:
    outcome = parse(SWITCHING, accept=ACCEPT)
    head = head_of(outcome)
    assert (head.status, head.reason, head.is_persistent) == (101, b"Switching Protocols", False)
    assert pairs(head) == [(b"Sec-WebSocket-Accept", ACCEPT), (b"Sec-WebSocket-Protocol", b"chat")]
    assert (outcome.body, outcome.is_done, outcome.is_clean) == (b"", False, False)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_bytes_behind_a_101_are_the_tunnels(step: int) -> None:
    raw = SWITCHING + b"HTTP/1.1 200 OK\r\n\r\nlooks like HTTP, is none"
    pieces = [raw[at : at + step] for at in range(0, len(raw), step)]
    outcome = parse(*pieces, accept=ACCEPT)
    assert head_of(outcome).status == 101
    assert (outcome.body, outcome.is_done) == (b"HTTP/1.1 200 OK\r\n\r\nlooks like HTTP, is none", False)


def test_the_end_of_the_connection_ends_a_tunnel() -> None:
    outcome = parse(SWITCHING + b"\x81\x00", accept=ACCEPT, end=True)
    assert (outcome.body, outcome.is_done, outcome.is_clean) == (b"\x81\x00", True, False)


def test_interim_answers_may_stand_before_a_101() -> None:
    outcome = parse(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + SWITCHING, accept=ACCEPT)
    assert head_of(outcome).status == 101


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(SWITCHING.replace(ACCEPT, b"AAAALMBiTxaQ9kYGzzhZRbK+xOo="), id="wrong-accept"),
        pytest.param(SWITCHING.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n"), id="length"),
        pytest.param(SWITCHING.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"), id="chunked"),
        pytest.param(SWITCHING.replace(b"HTTP/1.1", b"HTTP/1.0"), id="http-1.0"),
        pytest.param(SWITCHING.replace(b"websocket", b"h2c"), id="another-protocol"),
        pytest.param(b"HTTP/1.1 101 X\r\n\r\n", id="bare"),
    ],
)
def test_a_handshake_that_is_answered_wrong(raw: bytes) -> None:
    refused(raw, accept=ACCEPT)


def test_a_101_that_nobody_waits_for() -> None:
    refused(SWITCHING)
    parser = ResponseParser()
    parser.begin("GET", ACCEPT)
    parser.feed(FINAL)
    parser.begin("GET")  # the next request on the same connection asks for none
    with pytest.raises(UpstreamProtocolError):
        parser.feed(SWITCHING)


def test_a_handshake_may_be_refused() -> None:
    outcome = parse(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", accept=ACCEPT)
    assert (head_of(outcome).status, outcome.body, outcome.is_clean) == (403, b"no", True)


# --- bodies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "head"),
    [
        pytest.param("HEAD", OK + b"Content-Length: 5\r\n\r\n", id="head"),
        pytest.param("HEAD", CHUNKED, id="head-chunked"),
        pytest.param("HEAD", OK + b"\r\n", id="head-without-length"),
        pytest.param("GET", b"HTTP/1.1 204 No Content\r\n\r\n", id="204"),
        pytest.param("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", id="304"),
        pytest.param("GET", OK + b"Content-Length: 0\r\n\r\n", id="length-zero"),
    ],
)
def test_responses_without_a_body(method: str, head: bytes) -> None:
    outcome = parse(head, method=method)
    assert (outcome.body, outcome.is_done, outcome.is_clean) == (b"", True, True)
    for pieces in ([head + b"hello"], [head, b"hello"]):
        outcome = parse(*pieces, method=method)
        assert (outcome.body, outcome.is_done, outcome.is_clean) == (b"", True, False)


def test_a_body_that_ends_with_the_connection() -> None:
    parser = ResponseParser()
    parser.begin("GET")
    assert parser.feed(OK + b"\r\n") == b""
    assert not parser.is_done
    assert parser.feed(b"hello\r\n\r\n") == b"hello\r\n\r\n"
    assert parser.feed(b"HTTP/1.1 200 OK\r\n\r\n") == b"HTTP/1.1 200 OK\r\n\r\n"
    assert not parser.is_done
    parser.feed_eof()
    assert parser.is_done
    assert not parser.is_clean  # there is no connection left


def test_bytes_after_a_complete_response() -> None:
    for raw in (FINAL, CHUNKED + b"2\r\nok\r\n0\r\n\r\n"):
        for pieces in ([raw + FINAL], [raw, FINAL], [raw, b"H", b"T"], [raw + b"\r\n"], [raw, b"H", b""]):
            outcome = parse(*pieces)
            assert (outcome.body, outcome.is_done, outcome.is_clean) == (b"ok", True, False)


def test_a_connection_that_is_not_free_takes_no_request() -> None:
    parser = ResponseParser()
    parser.begin("GET")
    with pytest.raises(UpstreamProtocolError):
        parser.begin("GET")
    parser.feed(FINAL + FINAL)
    with pytest.raises(UpstreamProtocolError):
        parser.begin("GET")


def test_a_new_parser_has_no_response() -> None:
    parser = ResponseParser()
    assert parser.head is None
    assert not parser.is_clean
    parser.feed_eof()
    assert parser.feed(FINAL) == b""
    assert parser.head is None


def test_one_response_after_the_other() -> None:
    parser = ResponseParser()
    for method, raw, body in (
        ("HEAD", OK + b"Content-Length: 5\r\n\r\n", b""),
        ("GET", FINAL, b"ok"),
        ("GET", CHUNKED + b"3\r\nabc\r\n0\r\nX: y\r\n\r\n", b"abc"),
        ("GET", b"HTTP/1.1 204 No\r\n\r\n", b""),
    ):
        parser.begin(method)
        assert parser.head is None
        assert not parser.is_done
        assert not parser.is_clean
        assert parser.feed(raw) == body
        assert parser.is_clean


@pytest.mark.parametrize(
    ("coded", "body"),
    [
        pytest.param(b"0\r\n\r\n", b"", id="empty"),
        pytest.param(b"5\r\nhello\r\n0\r\n\r\n", b"hello", id="one"),
        pytest.param(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello", id="two"),
        pytest.param(b"a\r\n0123456789\r\n00\r\n\r\n", b"0123456789", id="hex"),
        pytest.param(b"A\r\n0123456789\r\n000\r\n\r\n", b"0123456789", id="hex-upper"),
        pytest.param(b"000000000000005\r\nhello\r\n0\r\n\r\n", b"hello", id="15-digits"),
        pytest.param(b"2;x\r\nok\r\n0;y=1\r\n\r\n", b"ok", id="extension"),
        pytest.param(b"2 ; x=\"a;b\"\xe4\r\nok\r\n0\r\n\r\n", b"ok", id="blanks-before-an-extension"),
        pytest.param(b"2;" + b"x" * 4094 + b"\r\nok\r\n0\r\n\r\n", b"ok", id="longest-extension"),
        pytest.param(b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n", id="line-ends-as-data"),
        pytest.param(b"2\r\nok\r\n0\r\nX: y\r\nz:\r\n\r\n", b"ok", id="trailers"),
        pytest.param(b"0\r\nX: " + b"y" * 4093 + b"\r\n\r\n", b"", id="longest-trailer"),
        pytest.param(b"0\r\n" + (b"X: " + b"y" * 1019 + b"\r\n") * 64 + b"\r\n", b"", id="most-trailers"),
    ],
)  # fmt: skip
def test_chunked(coded: bytes, body: bytes) -> None:
    raw = CHUNKED + coded
    for pieces in ([raw], [CHUNKED, coded], [raw[at : at + 1] for at in range(len(raw))]):
        outcome = parse(*pieces)
        assert (outcome.body, outcome.is_done, outcome.is_clean) == (body, True, True)
        assert head_of(outcome).fields.kept == []


BAD_CHUNKS = {
    "0x5": b"0x5\r\nhello\r\n0\r\n\r\n",
    "plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "underscore": b"5_0\r\nhello\r\n0\r\n\r\n",
    "leading-blank": b" 5\r\nhello\r\n0\r\n\r\n",
    "trailing-blank": b"5 \r\nhello\r\n0\r\n\r\n",
    "trailing-tab": b"5\t\r\nhello\r\n0\r\n\r\n",
    "empty-line": b"\r\nhello\r\n0\r\n\r\n",
    "no-size": b";x\r\nhello\r\n0\r\n\r\n",
    "no-hex": b"g\r\nhello\r\n0\r\n\r\n",
    "fraction": b"5.0\r\nhello\r\n0\r\n\r\n",
    "not-ascii": b"\xb2\r\nok\r\n0\r\n\r\n",
    "16-digits": b"0000000000000005\r\nhello\r\n0\r\n\r\n",
    "64-bits": b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "65-bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "lf-after-size": b"5\nhello\r\n0\r\n\r\n",
    "lf-everywhere": b"5\nhello\n0\n\n",
    "lf-after-data": b"5\r\nhello\n0\r\n\r\n",
    "lf-after-zero": b"5\r\nhello\r\n0\n\r\n",
    "lf-at-the-end": b"0\r\n\n",
    "nothing-after-data": b"5\r\nhello0\r\n\r\n",
    "other-bytes-after-data": b"5\r\nhelloXX0\r\n\r\n",
    "cr-after-data": b"5\r\nhello\rX\r\n0\r\n\r\n",
    "longer-than-its-size": b"4\r\nhello\r\n0\r\n\r\n",
    "bare-cr-in-size": b"5\r\r\nhello\r\n0\r\n\r\n",
    "bare-cr-in-extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "lf-in-extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "empty-extension": b"5;\r\nhello\r\n0\r\n\r\n",
    "blank-extension": b"5; \t\r\nhello\r\n0\r\n\r\n",
    "nul-in-extension": b"5;\x00\r\nhello\r\n0\r\n\r\n",
    "extension-without-semicolon": b"5 x\r\nhello\r\n0\r\n\r\n",
    "extension-too-long": b"5;" + b"x" * 4095 + b"\r\nhello\r\n0\r\n\r\n",
    "trailer-without-colon": b"0\r\nX\r\n\r\n",
    "trailer-space-before-colon": b"0\r\nX : y\r\n\r\n",
    "trailer-folded": b"0\r\nX: y\r\n z\r\n\r\n",
    "trailer-nul": b"0\r\nX: \x00\r\n\r\n",
    "trailer-bare-cr": b"0\r\nX: a\rb\r\n\r\n",
    "trailer-bare-lf": b"0\r\nX: a\nY: b\r\n\r\n",
    "trailer-no-name": b"0\r\n: a\r\n\r\n",
    "trailer-a-status-line": b"0\r\nHTTP/1.1 200 OK\r\n\r\n",
    "trailer-too-long": b"0\r\nX: " + b"y" * 4094 + b"\r\n\r\n",
    "trailers-too-long": b"0\r\n" + (b"X: " + b"y" * 1019 + b"\r\n") * 63 + b"X: " + b"y" * 1020 + b"\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("coded", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
def test_bad_chunks(coded: bytes) -> None:
    refused(CHUNKED + coded)


@pytest.mark.parametrize(
    ("begun", "more"),
    [
        pytest.param(b"5;" + b"x" * 4094, b"x", id="size-line"),
        pytest.param(b"0\r\nX: " + b"y" * 4093, b"y", id="trailer-line"),
        pytest.param(b"1\r\na" + b"x" * 4096, b"x", id="behind-a-chunk"),
    ],
)
def test_an_endless_line_is_refused_as_soon_as_it_is_too_long(begun: bytes, more: bytes) -> None:
    parser = ResponseParser()
    parser.begin("GET")
    parser.feed(CHUNKED)
    parser.feed(begun)
    with pytest.raises(UpstreamProtocolError):
        parser.feed(more)


# --- what is kept in memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 10, 4096])
@pytest.mark.parametrize(
    ("raw", "size"),
    [
        pytest.param(OK + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000, 100_000, id="length"),
        pytest.param(CHUNKED + b"186a0\r\n" + b"x" * 100_000 + b"\r\n0\r\n\r\n", 100_000, id="one-chunk"),
        pytest.param(CHUNKED + b"1;ext=1\r\nx\r\n" * 10_000 + b"0\r\n\r\n", 10_000, id="many-chunks"),
        pytest.param(OK + b"\r\n" + b"x" * 100_000, 100_000, id="close"),
    ],
)
def test_nothing_of_a_body_is_held_back(raw: bytes, size: int, step: int) -> None:
    parser = ResponseParser()
    parser.begin("GET")
    passed = 0
    for at in range(0, len(raw), step):
        passed += len(parser.feed(raw[at : at + step]))
        assert len(parser._buffer) < 64  # an unfinished line of the head or between chunks: so work stays linear
    assert passed == size


def test_a_megabyte_in_small_pieces() -> None:
    body = bytes(range(256)) * 4096
    raw = CHUNKED + b"100000\r\n" + body + b"\r\n0\r\n\r\n"
    assert len(body) == 0x100000
    assert parse(*[raw[at : at + 10] for at in range(0, len(raw), 10)]).body == body


def test_what_comes_after_a_response_does_not_pile_up() -> None:
    parser = ResponseParser()
    parser.begin("GET")
    parser.feed(FINAL)
    for _ in range(100):
        assert parser.feed(b"x" * 100) == b""
    assert len(parser._buffer) == 100
    assert not parser.is_clean


# --- laws ----------------------------------------------------------------------------------------------------------


@dataclass
class Response:
    """A valid response, and how it must be read."""

    raw: bytes
    method: str
    status: int
    reason: bytes
    kept: list[tuple[bytes, bytes]]
    body: bytes
    ends_with_connection: bool
    is_persistent: bool


TOKENS = st.from_regex(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,8}", fullmatch=True).map(lambda name: b"X-" + name)
VALUES = st.from_regex(rb"(?:[!-~\x80-\xff]([\t -~\x80-\xff]{0,12}[!-~\x80-\xff])?)?", fullmatch=True)
PADDING = st.sampled_from([b" ", b"", b"\t", b"  "])


@st.composite
def chunkings(draw: st.DrawFn, body: bytes) -> bytes:
    coded = b""
    while body:
        size = draw(st.integers(1, len(body)))
        digits = draw(st.sampled_from([b"%x", b"%X", b"0%x"])) % size
        coded += digits + draw(st.sampled_from([b"", b";a", b";a=b", b' ;a="b"'])) + b"\r\n" + body[:size] + b"\r\n"
        body = body[size:]
    trailers = draw(st.lists(st.tuples(TOKENS, VALUES), max_size=2))
    return coded + b"0\r\n" + b"".join([b"%b: %b\r\n" % trailer for trailer in trailers]) + b"\r\n"


@st.composite
def responses(draw: st.DrawFn, interims: tuple[bytes, ...] = (INTERIM, b"HTTP/1.1 100 Continue\r\n\r\n")) -> Response:
    method = draw(st.sampled_from(["GET", "GET", "POST", "HEAD"]))
    status = draw(st.sampled_from([200, 200, 201, 204, 302, 304, 404, 500]))
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.0"]))
    reason = draw(st.sampled_from([b"OK", b"", b"Not Found", b"\xc4h"]))
    fields = draw(st.lists(st.tuples(TOKENS, VALUES), max_size=4))
    body = draw(st.binary(max_size=60) | st.sampled_from([b"\r\n\r\n", b"0\r\n\r\n", FINAL]))
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    if framing == "chunked" and version == b"1.0":
        framing = "length"
    has_body = method != "HEAD" and status not in (204, 304)
    lines = [b"%b:%b%b%b\r\n" % (name, draw(PADDING), value, draw(PADDING)) for name, value in fields]
    closes = draw(st.booleans())
    if closes:
        lines.insert(draw(st.integers(0, len(lines))), b"Connection: close\r\n")
    sent = body
    if framing == "length":
        lines.insert(draw(st.integers(0, len(lines))), b"Content-Length: %d\r\n" % len(body))
    elif framing == "chunked":
        lines.insert(draw(st.integers(0, len(lines))), b"Transfer-Encoding: chunked\r\n")
        sent = draw(chunkings(body))
    count = draw(st.integers(0, 2)) if interims else 0
    before = b"".join(draw(st.sampled_from(interims)) for _ in range(count))
    head = b"HTTP/%b %d %b\r\n" % (version, status, reason) + b"".join(lines) + b"\r\n"
    ends_with_connection = has_body and framing == "close"
    return Response(
        before + head + (sent if has_body else b""),
        method,
        status,
        reason,
        fields,
        body if has_body else b"",
        ends_with_connection,
        version == b"1.1" and not closes and not ends_with_connection,
    )


def split(draw: st.DrawFn, raw: bytes) -> Iterator[bytes]:
    cuts = sorted(draw(st.sets(st.integers(0, len(raw)), max_size=12)))
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        if start < end:
            yield raw[start:end]


@given(responses(), st.data())
def test_any_split_of_a_valid_response_is_read_alike(response: Response, data: st.DataObject) -> None:
    for pieces in (
        [response.raw],
        list(split(data.draw, response.raw)),
        [response.raw[at : at + 1] for at in range(len(response.raw))],
    ):
        parser = ResponseParser()
        parser.begin(response.method)
        body = b""
        for number, piece in enumerate(pieces):
            assert not parser.is_done
            body += parser.feed(piece)
            if number < len(pieces) - 1:
                assert not parser.is_clean
        head = parser.head
        assert head is not None
        assert (head.status, head.reason, pairs(head)) == (response.status, response.reason, response.kept)
        assert body == response.body
        assert parser.is_done is not response.ends_with_connection
        assert parser.is_clean is response.is_persistent
        parser.feed_eof()
        assert parser.is_done


@given(responses(), st.data())
def test_an_end_inside_a_response_is_an_error(response: Response, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(response.raw) - 1))
    parser = ResponseParser()
    parser.begin(response.method)
    body = parser.feed(response.raw[:cut])
    assert response.body.startswith(body)
    if response.ends_with_connection and parser.head is not None:
        parser.feed_eof()
        assert not parser.is_clean
    else:
        assert not parser.is_done
        with pytest.raises(UpstreamProtocolError):
            parser.feed_eof()


@given(responses(), st.binary(min_size=1, max_size=20), st.data())
def test_more_than_a_response_is_never_clean(response: Response, more: bytes, data: st.DataObject) -> None:
    pieces = list(split(data.draw, response.raw + more))
    outcome = parse(*pieces, method=response.method)
    assert not outcome.is_clean
    if response.ends_with_connection:
        assert outcome.body == response.body + more
    else:
        assert outcome.body == response.body
        assert outcome.is_done


NEARLY = st.lists(
    st.sampled_from(
        [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 C\r\n", b"\r\n", b"\n", b"\r", b"Content-Length: 5\r\n", b":", b" ",
         b"5", b"Transfer-Encoding: chunked\r\n", b"0\r\n", b"hello", b"X: y\r\n", b"\0", b";"]
    )
    | st.binary(max_size=6),
    max_size=14,
).map(b"".join)  # fmt: skip


def outcome_of(pieces: list[bytes], method: str) -> tuple[object, ...]:
    """What becomes of these pieces.  Where an error follows, how much of the body came before depends on them."""
    parser = ResponseParser()
    parser.begin(method)
    try:
        body = b"".join([parser.feed(piece) for piece in pieces])
    except UpstreamProtocolError:
        return ("error",)
    head = parser.head
    told = None if head is None else (head.status, head.reason, pairs(head), head.fields.framing)
    before_end = (told, body, parser.is_done, parser.is_clean)
    try:
        parser.feed_eof()
    except UpstreamProtocolError:
        return (*before_end, "broken off")
    return (*before_end, "ended")


@settings(max_examples=300)
@given(st.binary(max_size=60) | NEARLY, st.sampled_from(["GET", "HEAD"]), st.data())
def test_any_bytes_are_an_answer_or_an_error_however_they_come(raw: bytes, method: str, data: st.DataObject) -> None:
    whole = outcome_of([raw], method)
    assert outcome_of(list(split(data.draw, raw)), method) == whole
    assert outcome_of([raw[at : at + 1] for at in range(len(raw))], method) == whole


@settings(max_examples=300)
@given(responses(), st.data())
def test_a_damaged_response_never_looks_clean_by_way_of_its_pieces(response: Response, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(response.raw) - 1))
    odd = data.draw(st.sampled_from([b"", b"\n", b"\r", b"\0", b" ", b"\r\n", b"0", b"+"]))
    raw = response.raw[:at] + odd + response.raw[at + 1 :]
    whole = outcome_of([raw], response.method)
    assert outcome_of(list(split(data.draw, raw)), response.method) == whole


# --- beside another parser -----------------------------------------------------------------------------------------


def read_by_aiohttp(response: Response, loop: asyncio.AbstractEventLoop) -> tuple[RawResponseMessage, bytes]:
    parser = HttpResponseParser(
        BaseProtocol(loop),
        loop,
        2**16,
        max_line_size=2**16,
        max_field_size=2**16,
        read_until_eof=True,
        auto_decompress=False,
        response_with_body=response.method != "HEAD",
    )
    messages, _, _ = parser.feed_data(response.raw)
    if response.ends_with_connection:
        parser.feed_eof()
    message, payload = messages[-1]
    return message, payload.read_nowait()


@given(responses(interims=()))
async def test_a_valid_response_is_read_as_aiohttp_reads_it(response: Response) -> None:
    theirs, body = read_by_aiohttp(response, asyncio.get_running_loop())
    ours = parse(response.raw, method=response.method)
    head = head_of(ours)
    assert (theirs.code, (theirs.reason or "").encode("utf-8", "surrogateescape")) == (head.status, head.reason)
    others = (b"content-length", b"transfer-encoding", b"connection")
    assert [field for field in theirs.raw_headers if field[0].lower() not in others] == pairs(head)
    assert body == ours.body


def test_remembered_fields_are_bounded_and_read_alike() -> None:
    def fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
        raw = OK + b"".join(line + b"\r\n" for line in lines) + b"Content-Length: 0\r\n\r\n"
        return pairs(head_of(parse(raw)))

    for number in range(2_500):
        assert fields([b"X: %d" % number]) == [(b"X", b"%d" % number)]
        assert len(responses_module._known_fields) <= 2048
    long = b"Y: " + b"y" * 126
    for _ in range(2):  # read, and then remembered
        assert fields([b"X:  a\t", b"x: a", b"X: b", long]) == [
            *((b"X", b"a"), (b"x", b"a"), (b"X", b"b"), (b"Y", b"y" * 126)),
        ]
    assert b"X:  a\t" in responses_module._known_fields
    assert long not in responses_module._known_fields


# --- whole heads ---------------------------------------------------------------------------------------------------


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, ResponseHead]:
    """The heads that are remembered: none at first."""
    heads: dict[bytes, ResponseHead] = {}
    monkeypatch.setattr(responses_module, "_known_heads", heads)
    return heads


LENGTH = OK + b"Content-Length: 5\r\nX: y"


def test_a_head_that_came_before_is_not_read_again(known: dict[bytes, ResponseHead]) -> None:
    first, second = parse(LENGTH + b"\r\n\r\nhello"), parse(LENGTH + b"\r\n\r\nworld")
    assert list(known) == [LENGTH]
    assert head_of(first) is head_of(second) is known[LENGTH]
    assert (first.body, second.body) == (b"hello", b"world")


def test_what_differs_in_a_byte_is_another_head(known: dict[bytes, ResponseHead]) -> None:
    parse(LENGTH + b"\r\n\r\nhello")
    refused(LENGTH + b"\r\nContent-Length: 4\r\n\r\nhello")
    refused(b" " + LENGTH + b"\r\n\r\nhello")
    refused(LENGTH.replace(b"\r\n", b"\n") + b"\r\n\r\nhello")
    assert parse(LENGTH[:-1] + b"z\r\n\r\nhello").head != known[LENGTH]


@pytest.mark.parametrize("methods", [("GET", "HEAD"), ("HEAD", "GET")])
def test_an_answer_to_head_is_read_by_itself(known: dict[bytes, ResponseHead], methods: tuple[str, str]) -> None:
    outcomes = {method: parse(LENGTH + b"\r\n\r\n", method=method) for method in methods}
    assert outcomes["HEAD"].is_clean
    assert not outcomes["GET"].is_done
    assert (head_of(outcomes["HEAD"]).fields.has_body, head_of(outcomes["GET"]).fields.has_body) == (False, True)


def test_a_known_head_may_come_in_pieces_and_behind_interim_answers(known: dict[bytes, ResponseHead]) -> None:
    raw = LENGTH + b"\r\n\r\nhello"
    parse(raw)
    for at in range(1, len(raw)):
        outcome = parse(raw[:at], raw[at:])
        assert (outcome.body, outcome.is_clean) == (b"hello", True)
        assert head_of(outcome) is known[LENGTH]
    outcome = parse(b"HTTP/1.1 103 Early Hints\r\n\r\n", raw)
    assert (outcome.body, outcome.is_clean, list(known)) == (b"hello", True, [LENGTH])
    assert not parse(raw + b"!").is_clean


def test_no_interim_answer_and_no_tunnel_is_remembered(known: dict[bytes, ResponseHead]) -> None:
    parse(b"HTTP/1.1 100 Continue\r\n\r\n" + b"HTTP/1.1 204 No\r\n\r\n")
    parse(SWITCHING, accept=ACCEPT)
    assert list(known) == [b"HTTP/1.1 204 No"]
    with pytest.raises(UpstreamProtocolError):
        parse(SWITCHING)


def test_remembered_heads_are_bounded_in_number_and_length(
    known: dict[bytes, ResponseHead], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses_module, "_MEMO_LIMIT", 3)
    for number in range(10):
        head = head_of(parse(OK + b"X: %d\r\nContent-Length: %d\r\n\r\n" % (number, number)))
        assert (pairs(head), head.fields.framing) == ([(b"X", b"%d" % number)], number)
        assert len(known) <= 3
    known.clear()
    parse(OK + b"X: " + b"x" * 1_100 + b"\r\nContent-Length: 0\r\n\r\n")
    assert known == {}


def test_what_clients_get_of_a_known_head_is_made_for_each_as_it_must_be(known: dict[bytes, ResponseHead]) -> None:
    """One head for the whole process: a public rule's and a protected one's answers may be the same bytes."""
    raw = OK + b"Cache-Control: public\r\nContent-Length: 0\r\n\r\n"

    def made(*, protected: bool) -> bytes:
        head = head_of(parse(raw))
        return client_head(
            head.status,
            head.reason,
            head.fields,
            http_1_0=False,
            keep_alive=True,
            protected=protected,
            varies=False,
        )

    for protected in (False, True, False, True):
        assert (b"Cache-Control: private\r\n" in made(protected=protected)) is protected
