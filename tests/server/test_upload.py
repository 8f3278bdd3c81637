"""Bodies that are pushed to the app: their pieces and their order, who waits for whom, and how they end.

The client's and the app's connection are in the test's hand, and so is the time.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from gatekeeper.core.errors import ClientStalled, UpstreamError
from gatekeeper.core.responses import ResponseHead
from gatekeeper.server import body as body_module
from gatekeeper.server.body import BodyTimeout, BodyTooLarge, RequestBody
from gatekeeper.server.exchange import UpstreamConnection
from gatekeeper.server.sized import LIMIT_BYTES, SizedBody
from gatekeeper.server.upload import PROGRESS_BYTES, Upload
from gatekeeper.server.upstream import STALL_GRACE_S, UpstreamAddress, UpstreamPool
from tests.server.clock import Clock

HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ROOM = 50_000
IDLE_S = 60.0
RESPONSE_S = 30.0


class Timer:
    """Something to be done later."""

    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class HandLoop:
    """As much of a loop as an upload needs; time passes when it is told to."""

    def __init__(self) -> None:
        self.time = Clock()
        self.timers: list[Timer] = []

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.time.at + seconds, callback))
        return self.timers[-1]

    @property
    def pending(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def pass_s(self, seconds: float) -> None:
        """Let time pass, and do what is due by then, each thing at its time."""
        until = self.time.at + seconds
        while due := [timer for timer in self.pending if timer.due <= until]:
            timer = min(due, key=lambda timer: timer.due)
            timer.cancelled = True
            self.time.at = max(self.time.at, timer.due)
            timer.callback()
        self.time.at = until


class ClientSide(asyncio.Transport):
    """The client's connection: whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return False


class AppSide(asyncio.Transport):
    """The connection to an app that has room for so many bytes and takes none of them before it is told to."""

    def __init__(self, connection: UpstreamConnection) -> None:
        super().__init__()
        self.connection = connection
        self.written = b""
        self.unsent = 0
        self.is_full = self.closed = False
        connection.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)
        self.unsent += len(data)
        if self.unsent > ROOM and not self.is_full:
            self.is_full = True
            self.connection.pause_writing()

    def drain(self) -> None:
        self.unsent = 0
        if self.is_full:
            self.is_full = False
            self.connection.resume_writing()

    def lose(self) -> None:
        self.closed = True
        self.connection.connection_lost(ConnectionResetError())

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class Told:
    """The exchange: whether it is over, and by which error."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] | None = None
        self.error: UpstreamError | None = None

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        self.answer = head.status, body

    def on_head(self, head: ResponseHead) -> None: ...

    def on_body(self, data: bytes) -> None: ...

    def flush(self) -> None: ...

    def on_end(self) -> None: ...

    def on_error(self, error: UpstreamError) -> None:
        self.error = error


class Rig:
    """A body of so many bytes on its way from a client to an app."""

    def __init__(self, size: int, *, limit: int | None = None, most: int = 256) -> None:
        self.loop = HandLoop()
        address = UpstreamAddress("app", "h", 80, response_timeout_s=RESPONSE_S, max_connections=most)
        self.pool = UpstreamPool(address, cast(asyncio.AbstractEventLoop, self.loop))
        self.client = ClientSide()
        self.sized = SizedBody(size, self.client, asyncio.get_running_loop())
        self.body = RequestBody(self.sized, size, limit=limit, idle_s=IDLE_S)
        self.connection = self.connect()
        self.app = cast(AppSide, self.connection.transport)
        self.told = Told()
        self.upload = Upload(self.body, self.sized, self.connection)

    def connect(self) -> UpstreamConnection:
        connection = UpstreamConnection(self.pool)
        self.pool._open.add(connection)
        AppSide(connection)
        return connection

    def start(self, early: bytes = b"") -> None:
        self.connection.start(self.told, "POST", HEAD, has_body=True, early=early)
        self.upload.start()

    @property
    def sent(self) -> bytes:
        """What the app's connection was given of the body."""
        return self.app.written.removeprefix(HEAD)


@pytest.fixture(autouse=True)
def no_time_for_bodies(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which bodies are too slow on average."""
    clock = Clock()
    monkeypatch.setattr(body_module, "monotonic", clock)
    return clock


async def test_pieces_go_on_as_they_come_and_with_the_last_the_upload_is_done() -> None:
    rig = Rig(10)
    rig.sized.feed(b"ab")
    rig.start(rig.sized.read_nowait())
    rig.sized.feed(b"cd")
    rig.sized.feed(b"efgh")
    assert (rig.sent, rig.upload.done.done()) == (b"abcdefgh", False)
    assert rig.sized.feed(b"ijNEXT") == b"NEXT"
    assert (rig.sent, rig.upload.done.done(), rig.body.is_whole) == (b"abcdefghij", True, True)
    rig.upload.stop()
    assert rig.loop.pending == []


async def test_what_waited_goes_first() -> None:
    rig = Rig(10)
    rig.sized.feed(b"abc")
    rig.sized.feed(b"def")
    rig.start()
    rig.sized.feed(b"ghij")
    assert (rig.sent, rig.upload.done.done()) == (b"abcdefghij", True)


async def test_the_client_is_not_read_while_the_app_is_full() -> None:
    rig = Rig(10 * ROOM)
    rig.start()
    rig.sized.feed(b"x" * (ROOM + 1))
    assert not rig.client.reading
    rig.app.drain()
    assert rig.client.reading
    rig.sized.feed(b"x" * (ROOM + 1))
    assert not rig.client.reading


async def test_an_app_that_is_full_with_the_beginning_gets_no_more_before_it_has_room() -> None:
    rig = Rig(10 * ROOM)
    rig.sized.feed(b"x" * (ROOM + 1))
    early = rig.sized.read_nowait()
    rig.sized.feed(b"y" * 10)
    rig.start(early)
    assert not rig.client.reading
    assert rig.sent.endswith(b"xy" + b"y" * 9)  # what had come already
    rig.app.drain()
    assert rig.client.reading


async def test_an_app_that_is_full_with_the_beginning_may_have_got_it_all() -> None:
    rig = Rig(ROOM + 2)
    rig.sized.feed(b"x" * (ROOM + 1))
    early = rig.sized.read_nowait()
    rig.sized.feed(b"y")
    rig.start(early)
    assert (rig.upload.done.done(), rig.client.reading) == (True, True)


async def test_a_client_that_sent_too_much_before_is_read_again() -> None:
    rig = Rig(10 * LIMIT_BYTES)
    rig.sized.feed(b"x" * (LIMIT_BYTES + 1))
    assert not rig.client.reading
    rig.start()
    assert not rig.client.reading  # now it waits for the app
    rig.app.drain()
    assert rig.client.reading


# --- whose turn it is ----------------------------------------------------------------------------------------------


async def test_what_the_client_has_not_sent_is_no_fault_of_the_app() -> None:
    rig = Rig(10_000)
    rig.start()
    rig.loop.pass_s(RESPONSE_S + 1)
    rig.connection.expire(rig.loop.time())
    rig.sized.feed(b"x")
    rig.loop.pass_s(RESPONSE_S + 1)
    rig.connection.expire(rig.loop.time())
    assert rig.told.error is None


async def test_what_the_app_does_not_take_is_no_fault_of_the_client() -> None:
    rig = Rig(10 * ROOM)
    rig.start()
    rig.sized.feed(b"x" * (ROOM + 1))
    rig.loop.pass_s(10 * IDLE_S)
    assert not rig.upload.done.done()
    rig.connection.expire(rig.loop.time())
    assert rig.told.error is not None
    assert "did not answer in time" in str(rig.told.error)


async def test_an_app_that_does_not_take_the_beginning_has_its_deadline() -> None:
    rig = Rig(10 * ROOM)
    rig.start(b"x" * (ROOM + 1))
    rig.loop.pass_s(RESPONSE_S)
    rig.connection.expire(rig.loop.time())
    assert rig.told.error is not None


async def test_after_the_last_piece_the_app_has_its_time_to_answer() -> None:
    rig = Rig(2)
    rig.start()
    rig.loop.pass_s(IDLE_S - 1)
    rig.sized.feed(b"xy")
    rig.loop.pass_s(RESPONSE_S - 1)
    rig.connection.expire(rig.loop.time())
    assert rig.told.error is None
    rig.loop.pass_s(1)
    rig.connection.expire(rig.loop.time())
    assert rig.told.error is not None


async def test_a_client_that_pauses_for_too_long() -> None:
    rig = Rig(10_000)
    rig.start()
    rig.loop.pass_s(IDLE_S - 1)
    rig.sized.feed(b"x" * 9_000)
    rig.loop.pass_s(IDLE_S - 1)
    assert not rig.upload.done.done()
    rig.loop.pass_s(1)
    assert isinstance(rig.upload.done.exception(), BodyTimeout)
    rig.sized.feed(b"y")
    assert rig.sent == b"x" * 9_000  # nothing of it goes on
    rig.upload.stop()


async def test_the_pause_counts_from_when_the_app_has_room() -> None:
    rig = Rig(10 * ROOM)
    rig.start()
    rig.sized.feed(b"x" * (ROOM + 1))
    rig.loop.pass_s(3.5 * IDLE_S)
    rig.app.drain()
    rig.loop.pass_s(IDLE_S - 1)
    assert not rig.upload.done.done()
    rig.loop.pass_s(1)
    assert isinstance(rig.upload.done.exception(), BodyTimeout)


async def test_a_body_that_comes_too_slowly_on_average(no_time_for_bodies: Clock) -> None:
    rig = Rig(10_000)
    rig.start()
    no_time_for_bodies.at += IDLE_S + 1
    rig.sized.feed(b"x")
    assert isinstance(rig.upload.done.exception(), BodyTimeout)
    assert rig.sent == b""


async def test_a_body_over_its_limit_ends_the_upload_and_not_the_connection() -> None:
    rig = Rig(20, limit=10)
    rig.start()
    rig.sized.feed(b"x" * 11)
    assert isinstance(rig.upload.done.exception(), BodyTooLarge)
    assert rig.sent == b""


async def test_a_client_that_sends_a_byte_now_and_then_gives_way_where_others_wait() -> None:
    rig = Rig(10_000, most=8)
    rig.start()
    others = [rig.connect() for _ in range(4)]
    for other in others:
        other.waits_for_client()
    rig.loop.pass_s(STALL_GRACE_S + 1)
    rig.sized.feed(b"x" * (PROGRESS_BYTES - 1))
    rig.pool.tick()
    assert isinstance(rig.told.error, ClientStalled)


async def test_a_client_that_gets_on_does_not_give_way() -> None:
    rig = Rig(10_000, most=8)
    rig.start()
    others = [rig.connect() for _ in range(4)]
    for other in others:
        other.waits_for_client()
    rig.loop.pass_s(STALL_GRACE_S + 1)
    rig.sized.feed(b"x" * PROGRESS_BYTES)
    rig.pool.tick()
    assert rig.told.error is None


async def test_whoever_has_sent_all_waits_no_more() -> None:
    rig = Rig(1)
    rig.start()
    assert rig.connection in rig.pool._stalled
    rig.sized.feed(b"x")
    assert rig.connection not in rig.pool._stalled


# --- the end -------------------------------------------------------------------------------------------------------


async def test_an_app_that_is_gone_ends_the_upload_with_the_next_piece() -> None:
    rig = Rig(10)
    rig.start()
    rig.app.lose()
    assert rig.told.error is not None
    rig.sized.feed(b"x")
    assert rig.upload.done.result() is None
    assert not rig.body.is_whole


async def test_an_upload_that_is_stopped_passes_on_nothing_more() -> None:
    rig = Rig(10)
    rig.start()
    rig.sized.feed(b"ab")
    rig.upload.stop()
    rig.sized.feed(b"cd")
    assert (rig.sent, rig.upload.done.cancelled(), rig.loop.pending) == (b"ab", True, [])
    assert rig.connection.upload is None
    assert rig.sized.read_nowait() == b"cd"


async def test_an_answer_that_comes_early_leaves_the_connection_to_the_upload() -> None:
    rig = Rig(4)
    rig.start()
    rig.connection.data_received(OK)
    assert rig.told.answer == (200, b"ok")
    assert rig.pool.idle == 0
    rig.sized.feed(b"abcd")
    assert rig.upload.done.done()
    assert rig.pool.idle == 1  # the next request may have it, and this upload does not touch it any more
    rig.connection.start(Told(), "GET", b"x" * (ROOM + 1), has_body=False)
    assert rig.client.reading
    rig.app.drain()
    assert not rig.connection.waits_for_piece
    rig.upload.stop()


async def test_stopping_leaves_the_next_upload_alone() -> None:
    rig = Rig(1)
    rig.start()
    rig.sized.feed(b"x")
    following = Upload(rig.body, rig.sized, rig.connection)
    rig.connection.upload = following
    rig.upload.stop()
    assert rig.connection.upload is following
