"""Request bodies: how they begin, go on, and end too early, too late or too long."""

import asyncio
from collections.abc import Callable

import pytest
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import TransferEncodingError
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.core.headers import Framing
from gatekeeper.server import body as body_module
from gatekeeper.server.body import EARLY_BYTES, BadBody, BodyTimeout, BodyTooLarge, RequestBody
from tests.server.clock import Clock

IDLE_S = 60.0


class Feed:
    """A body and the hand that feeds it."""

    def __init__(self, framing: Framing = 1, *, limit: int | None = None, idle_s: float = IDLE_S) -> None:
        loop = asyncio.get_running_loop()
        protocol = BaseProtocol(loop)
        protocol.transport = asyncio.Transport()
        self.content = StreamReader(protocol, 2**20, loop=loop)
        self.body = RequestBody(self.content, framing, limit=limit, idle_s=idle_s)

    def send(self, data: bytes, *, end: bool = False) -> None:
        if data:
            self.content.feed_data(data)
        if end:
            self.content.feed_eof()


class Pauses:
    """Lets the waits of a body time out at once, each as often as is told; counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[int], None] = lambda count: None) -> None:
        self.seconds: list[float] = []

        def timeout(seconds: float) -> asyncio.Timeout:
            self.seconds.append(seconds)
            meanwhile(len(self.seconds))
            return asyncio.timeout(0)

        monkeypatch.setattr(body_module.asyncio, "timeout", timeout)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Pauses]:
    class Module:
        get_running_loop = staticmethod(asyncio.get_running_loop)
        timeout = staticmethod(asyncio.timeout)

    monkeypatch.setattr(body_module, "asyncio", Module)
    return lambda *arguments: Pauses(monkeypatch, *arguments)


async def rest_of(body: RequestBody) -> bytes:
    data = b""
    async with asyncio.timeout(20):
        while not body.is_whole:
            data += await body.piece()
    return data


@pytest.mark.parametrize("framing", ["none", 0])
async def test_no_body_is_whole_from_the_beginning(framing: Framing) -> None:
    feed = Feed(framing)
    assert feed.body.is_whole
    assert await feed.body.begin(lambda: False) == b""


async def test_a_short_body_comes_whole_with_the_beginning() -> None:
    feed = Feed()
    feed.send(b"hel")
    feed.send(b"lo", end=True)
    assert await feed.body.begin(lambda: False) == b"hello"
    assert feed.body.is_whole


async def test_a_long_one_is_begun_and_goes_on_in_pieces() -> None:
    feed = Feed()
    feed.send(b"x" * EARLY_BYTES)
    assert len(await feed.body.begin(lambda: False)) == EARLY_BYTES
    assert not feed.body.is_whole
    feed.send(b"y" * 10)
    assert await feed.body.piece() == b"y" * 10
    feed.send(b"", end=True)
    assert await feed.body.piece() == b""
    assert feed.body.is_whole


async def test_a_beginning_that_pauses_is_passed_on_as_far_as_it_came(quick: Callable[..., Pauses]) -> None:
    feed = Feed()
    pauses = quick()
    feed.send(b"begin")
    assert await feed.body.begin(lambda: False) == b"begin"
    assert pauses.seconds == [body_module.EARLY_S]
    assert not feed.body.is_whole


async def test_while_connections_are_scarce_a_beginning_is_waited_for(quick: Callable[..., Pauses]) -> None:
    feed = Feed()
    scarce = True

    def meanwhile(count: int) -> None:
        nonlocal scarce
        if count == 3:
            scarce = False

    pauses = quick(meanwhile)
    feed.send(b"begin")
    assert await feed.body.begin(lambda: scarce) == b"begin"
    assert len(pauses.seconds) == 3


async def test_a_body_that_trickles_while_connections_are_scarce_takes_none(quick: Callable[..., Pauses]) -> None:
    feed = Feed(idle_s=2.0)
    pauses = quick()
    feed.send(b"a")
    with pytest.raises(BodyTimeout):
        await feed.body.begin(lambda: True)
    assert pauses.seconds == [body_module.EARLY_S] * 4


async def test_each_piece_of_a_beginning_ends_the_pause(quick: Callable[..., Pauses]) -> None:
    feed = Feed(idle_s=1.0)

    def meanwhile(count: int) -> None:
        if count in (2, 4):
            feed.send(b"x", end=count == 4)

    quick(meanwhile)
    assert await feed.body.begin(lambda: True) == b"xx"  # the first and the third wait brought none


async def test_a_pause_that_is_too_long(quick: Callable[..., Pauses]) -> None:
    feed = Feed()
    pauses = quick()
    feed.send(b"part")
    assert await feed.body.piece() == b"part"
    with pytest.raises(BodyTimeout):
        await feed.body.piece()
    assert pauses.seconds == [IDLE_S]


@pytest.mark.parametrize(
    ("size", "after_s", "too_slow"),
    [
        pytest.param(1, 60, False, id="as-long-as-a-pause-may-last"),
        pytest.param(1, 61, True, id="one-byte-later"),
        pytest.param(61 * 128, 61, False, id="just-fast-enough"),
        pytest.param(61 * 128 - 1, 61, True, id="just-too-slow"),
    ],
)
async def test_a_body_that_comes_too_slowly(
    size: int, after_s: float, too_slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed()
    feed.body._since = 1_000.0  # the machine's own moment has digits that a sum may round
    monkeypatch.setattr(body_module, "monotonic", Clock(1_000.0 + after_s))
    feed.send(b"x" * size)
    if too_slow:
        with pytest.raises(BodyTimeout):
            await feed.body.piece()
    else:
        assert len(await feed.body.piece()) == size


async def test_the_end_of_a_slow_body_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed()
    monkeypatch.setattr(body_module, "monotonic", Clock(feed.body._since + 10_000))
    feed.send(b"x", end=True)
    assert await feed.body.piece() == b"x"


async def test_the_limit_counts_all_pieces() -> None:
    feed = Feed("chunked", limit=10)
    feed.send(b"x" * 10)
    assert await feed.body.piece() == b"x" * 10
    feed.send(b"y")
    with pytest.raises(BodyTooLarge):
        await feed.body.piece()


async def test_a_body_of_just_the_limit() -> None:
    feed = Feed("chunked", limit=10)
    feed.send(b"x" * 10, end=True)
    assert await feed.body.begin(lambda: False) == b"x" * 10


@pytest.mark.parametrize("fault", [web.RequestPayloadError("too early"), TransferEncodingError("zz")])
async def test_broken_framing(fault: Exception) -> None:
    feed = Feed("chunked")
    feed.send(b"part")
    feed.content.set_exception(fault)
    with pytest.raises(BadBody):
        await rest_of(feed.body)


@pytest.mark.parametrize(
    ("framing", "is_whole", "data", "encoded"),
    [
        pytest.param(5, False, b"hello", b"hello", id="length"),
        pytest.param(5, True, b"", b"", id="length-end"),
        pytest.param("chunked", False, b"0123456789abcdef", b"10\r\n0123456789abcdef\r\n", id="chunk"),
        pytest.param("chunked", False, b"", b"", id="no-chunk-of-nothing"),
        pytest.param("chunked", True, b"hi", b"2\r\nhi\r\n0\r\n\r\n", id="last-chunk-and-end"),
        pytest.param("chunked", True, b"", b"0\r\n\r\n", id="end"),
    ],
)
async def test_how_pieces_are_sent_on(framing: Framing, is_whole: bool, data: bytes, encoded: bytes) -> None:
    feed = Feed(framing)
    feed.body.is_whole = is_whole
    assert feed.body.encode(data) == encoded


@settings(deadline=None)
@given(pieces=st.lists(st.binary(max_size=EARLY_BYTES), max_size=6))
def test_all_pieces_come_in_their_order(pieces: list[bytes]) -> None:
    async def run() -> bytes:
        feed = Feed("chunked")
        begun = asyncio.ensure_future(feed.body.begin(lambda: False))
        for piece in pieces:
            feed.send(piece)
            await asyncio.sleep(0)
        feed.send(b"", end=True)
        return await begun + await rest_of(feed.body)

    assert asyncio.run(run()) == b"".join(pieces)
