"""Heads that are read without aiohttp's parser: what is plain, as the parser has it, and what is remembered."""

import asyncio
from typing import Any

import pytest
from aiohttp import http_parser, web
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.core.headers import read_head
from gatekeeper.core.model import Reason
from gatekeeper.server import heads
from gatekeeper.server.heads import Memo, PlainHeads

HOST = b"Host: app.example"


def block(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def told(head: Any) -> Any:
    """All that is known of a head, but for what is worked out when it is asked for."""
    return {name: getattr(head, name) for name in head.__struct_fields__ if not name.startswith("_") and name != "size"}


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"Transfer-Encoding: chunked",
            b"Upgrade: websocket",
            b"Expect: 100-continue",
            b"TE: trailers",
            b"Trailer: X",
        ),
        *(b"Connection: close", b"Connection: upgrade", b"connection: keep-alive, x", b"Keep-Alive: timeout=5"),
        *(b"Content-Length: +5", b"Content-Length: 5, 5", b"Content-Length:", b"Content-Length: 5" * 5),
        *(b" folded", b"no colon", b"X : y", b": y", b"X: \x00", b"X: a\nb", b"X: \x7f", b"\xe4: x", b""),
        *(b"Host: other.example", b"host: app.example", b"Proxy-Connection: x", b"Content-Encoding: gzip"),
    ],
)
def test_what_is_not_plain_is_for_the_parser(line: bytes) -> None:
    plain = PlainHeads()
    for _ in range(3):
        assert plain.read(block(HOST, line)) is None
    assert plain.read(block(HOST, b"X: y")) is not None


def test_a_host_is_needed_and_has_a_form() -> None:
    assert PlainHeads().read(block(b"X: y")) is None
    assert PlainHeads().read(block(b"Host: a b")) is None


def test_very_many_fields_are_for_the_parser() -> None:
    lines = [HOST, *(b"X-%d: y" % number for number in range(63))]
    assert PlainHeads().read(block(*lines)) is not None
    assert PlainHeads().read(block(*lines, b"X: y")) is None


def test_a_size_counts_names_and_values() -> None:
    plain = PlainHeads()
    for _ in range(3):  # read, and then remembered
        head = plain.read(block(HOST, b"X:   yy \t"))
        assert head is not None
        assert head.size == len("Hostapp.example") + len("Xyy")


NAMES = st.sampled_from(
    [*(b"Accept", b"Cookie", b"X-A", b"x-a", b"X-Forwarded-For", b"X-Auth-User-Id", b"Origin", b"Referer"),
     *(b"Content-Length", b"Connection", b"Sec-Fetch-Mode", b"User-Agent", b"X_Real_IP", b"Range", b"a!#$%&'*+.^_`|~")]
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from([b"", b"5", b"keep-alive", b"a=1; b=2", b"text/html, */*;q=0.8", b"0005", b"\xe4\xf6"]),
    st.text(st.characters(min_codepoint=9, max_codepoint=255), max_size=12).map(lambda text: text.encode("latin-1")),
)
LINES = st.tuples(NAMES, st.sampled_from([b":", b": ", b":\t ", b":  "]), VALUES, st.sampled_from([b"", b" ", b"\t"]))


@settings(deadline=None, max_examples=400)
@given(st.lists(LINES, max_size=6))
def test_a_plain_head_is_what_the_parser_makes_of_it(lines: list[tuple[bytes, ...]]) -> None:
    raw = block(HOST, *map(b"".join, lines))
    ours = PlainHeads().read(raw)
    if ours is None:
        return
    loop = asyncio.new_event_loop()
    try:
        parser = http_parser.HttpRequestParser(
            BaseProtocol(loop), loop, 2**16, payload_exception=web.RequestPayloadError, auto_decompress=False
        )
        messages, upgraded, tail = parser.feed_data(b"POST /x HTTP/1.1\r\n" + raw)
    finally:
        loop.close()
    assert (len(messages), upgraded, tail) == (1, False, b"")
    message = messages[0][0]
    theirs = read_head(message.raw_headers)
    assert not isinstance(theirs, Reason)
    assert told(ours) == told(theirs)
    assert (message.should_close, message.upgrade, message.chunked) == (False, False, False)


def test_what_comes_once_is_not_remembered() -> None:
    memo: Memo[int] = Memo()
    memo.note(b"a", 1)
    assert dict(memo) == {}
    memo.note(b"a", 2)
    assert dict(memo) == {b"a": 2}
    for _ in range(2):
        memo.note(b"x" * (heads.MAX_KNOWN_BYTES + 1), 3)
    assert dict(memo) == {b"a": 2}


def test_a_full_memory_is_emptied_for_what_is_new_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "MAX_KNOWN", 3)
    monkeypatch.setattr(heads, "_MAX_SEEN", 4)
    memo: Memo[int] = Memo()
    for number in range(3):
        memo.note(b"%d" % number, number)
        memo.note(b"%d" % number, number)
    memo.note(b"0", 9)
    assert dict(memo) == {b"0": 9, b"1": 1, b"2": 2}
    memo.note(b"3", 3)
    memo.note(b"3", 3)
    assert dict(memo) == {b"3": 3}
    assert len(memo._seen) <= 4
