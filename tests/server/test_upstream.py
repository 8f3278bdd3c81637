"""Connections to the app: pool, deadlines, and all that goes wrong, over real sockets with a clock in hand."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gatekeeper.core.errors import (
    ClientStalled,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamRefused,
    UpstreamTimeout,
)
from gatekeeper.core.responses import ResponseHead
from gatekeeper.server.upstream import STALL_GRACE_S, UpstreamAddress, UpstreamConnection, UpstreamPool
from tests.server.clock import Clock

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class App:
    """A server whose answers are written by the test."""

    def __init__(self) -> None:
        self.port = 0
        self.connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self.writers: list[asyncio.StreamWriter] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        await self.connections.put((reader, writer))

    async def answer(self, answer: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.connections.get()
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        return reader, writer


class Taken:
    """An exchange that keeps what it gets."""

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.body = b""
        self.ended: asyncio.Future[UpstreamError | None] = asyncio.get_running_loop().create_future()

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        self.on_head(head)
        if body:
            self.on_body(body)
        self.on_end()

    def on_head(self, head: ResponseHead) -> None:
        self.head = head

    def on_body(self, data: bytes) -> None:
        self.body += data

    def flush(self) -> None:
        return

    def on_end(self) -> None:
        self.ended.set_result(None)

    def on_error(self, error: UpstreamError) -> None:
        self.ended.set_result(error)


@asynccontextmanager
async def pool_to_app(**settings: float) -> AsyncIterator[tuple[UpstreamPool, App, Clock]]:
    app = App()
    server = await asyncio.start_server(app.accept, "127.0.0.1", 0)
    app.port = server.sockets[0].getsockname()[1]
    address = UpstreamAddress("app", "127.0.0.1", app.port, **settings)  # type: ignore[arg-type]
    pool = UpstreamPool(address, asyncio.get_running_loop())
    clock = pool.now = Clock()
    try:
        async with asyncio.timeout(60):
            yield pool, app, clock
    finally:
        pool.close()
        for connection in (*pool._open, *pool._streaming):
            connection.abort()
        for _ in range(10):
            await asyncio.sleep(0)
        for writer in app.writers:
            writer.transport.abort()
        server.close()
        await server.wait_closed()
        for _ in range(5):
            await asyncio.sleep(0)


def start(connection: UpstreamConnection, method: str = "GET") -> Taken:
    taken = Taken()
    connection.start(taken, method, GET, has_body=False)
    return taken


async def gone(connection: UpstreamConnection) -> None:
    async with asyncio.timeout(20):
        while connection.transport is not None:  # noqa: ASYNC110 - until the loop has seen it
            await asyncio.sleep(0)


async def test_a_connection_is_used_again_and_the_newest_first() -> None:
    async with pool_to_app() as (pool, app, _):
        first, second = await pool.take(), await pool.take()
        assert repr(pool) == "<UpstreamPool app: 2 open, 0 idle>"
        for connection in (first, second):
            taken = start(connection)
            assert repr(connection) == "<UpstreamConnection app busy>"
            await app.answer(OK)
            assert await taken.ended is None
            assert taken.body == b"ok"
        assert repr(second) == "<UpstreamConnection app idle>"
        assert not second.is_reused
        assert await pool.take() is second
        assert second.is_reused
        assert await pool.take() is first


@pytest.mark.parametrize(
    ("answer", "idle_s", "kept"),
    [
        pytest.param(OK, 299, True, id="within-idle-timeout"),
        pytest.param(OK, 300, False, id="beyond-idle-timeout"),
        pytest.param(OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=5\r\n\r\n"), 3.9, True, id="within-the-hint"),
        pytest.param(OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=5\r\n\r\n"), 4, False, id="hint"),
        pytest.param(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), 0, False, id="connection-close"),
        pytest.param(OK.replace(b"1.1", b"1.0"), 0, False, id="http-1.0"),
        pytest.param(OK + b"more", 0, False, id="bytes-behind"),
    ],
)
async def test_how_long_an_idle_connection_is_kept(answer: bytes, idle_s: float, kept: bool) -> None:
    async with pool_to_app() as (pool, app, clock):
        connection = await pool.take()
        taken = start(connection)
        await app.answer(answer)
        assert await taken.ended is None
        clock.at += idle_s
        assert (pool.take_idle() is connection) is kept


async def test_idle_connections_are_closed_by_the_ticker() -> None:
    async with pool_to_app(idle_timeout_s=10) as (pool, app, clock):
        connection = await pool.take()
        taken = start(connection)
        await app.answer(OK)
        await taken.ended
        clock.at += 11
        pool.tick()
        await gone(connection)
        assert repr(pool) == "<UpstreamPool app: 0 open, 0 idle>"
        assert repr(connection) == "<UpstreamConnection app closed>"
        pool.tick()


async def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    async with pool_to_app() as (pool, app, _):
        connection = await pool.take()
        taken = start(connection)
        _, writer = await app.answer(OK)
        await taken.ended
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        await gone(connection)
        assert pool.take_idle() is None


async def test_an_idle_connection_that_the_app_closed_is_not_used() -> None:
    async with pool_to_app() as (pool, app, _):
        connection = await pool.take()
        taken = start(connection)
        _, writer = await app.answer(OK)
        await taken.ended
        writer.close()
        await gone(connection)
        assert pool.take_idle() is None


@pytest.mark.parametrize(
    ("answer", "after_s", "expired"),
    [
        pytest.param(b"", 59.9, False, id="no-answer-yet"),
        pytest.param(b"", 60, True, id="no-answer-in-time"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart", 299, False, id="a-pause"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart", 300, True, id="a-pause-too-long"),
    ],
)
async def test_deadlines(answer: bytes, after_s: float, expired: bool) -> None:
    async with pool_to_app() as (pool, app, clock):
        connection = await pool.take()
        taken = start(connection)
        await app.answer(answer)
        while answer and not taken.body:  # noqa: ASYNC110 - until it has arrived
            await asyncio.sleep(0)
        clock.at += after_s
        pool.tick()
        assert taken.ended.done() is expired
        if expired:
            assert isinstance(taken.ended.result(), UpstreamTimeout)


async def test_a_client_that_does_not_read_is_not_the_apps_fault() -> None:
    async with pool_to_app() as (pool, app, clock):
        connection = await pool.take()
        taken = start(connection)
        _, writer = await app.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
        while not taken.body:  # noqa: ASYNC110 - until it has arrived
            await asyncio.sleep(0)
        connection.pause_reading()
        connection.pause_reading()
        clock.at += 10_000
        pool.tick()
        assert not taken.ended.done()
        connection.resume_reading()
        pool.tick()
        writer.write(b" two.")
        assert await taken.ended is None
        assert taken.body == b"part two."


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConte", id="inside-the-head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart", id="inside-the-body"),
        pytest.param(b"SSH-2.0-x\r\n\r\n", id="no-http"),
    ],
)
async def test_answers_that_break_off_or_are_none(answer: bytes) -> None:
    async with pool_to_app() as (pool, app, _):
        connection = await pool.take()
        taken = start(connection)
        _, writer = await app.answer(answer)
        writer.close()
        assert isinstance(await taken.ended, UpstreamProtocolError)
        await gone(connection)


async def test_an_answer_until_the_end_of_the_connection_does_not_end_with_a_reset() -> None:
    async with pool_to_app() as (pool, app, _):
        taken = start(await pool.take())
        _, writer = await app.answer(b"HTTP/1.1 200 OK\r\n\r\npart of it")
        while not taken.body:  # noqa: ASYNC110 - until it has arrived
            await asyncio.sleep(0)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        assert isinstance(await taken.ended, UpstreamProtocolError)


async def test_an_answer_until_the_end_of_the_connection() -> None:
    async with pool_to_app() as (pool, app, _):
        taken = start(await pool.take())
        _, writer = await app.answer(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        writer.close()
        assert await taken.ended is None
        assert taken.body == b"all of it"


async def test_no_more_than_max_connections_and_waiters_get_the_next() -> None:
    async with pool_to_app(max_connections=1) as (pool, app, _):
        first = await pool.take()
        taken = start(first)
        waiting = [asyncio.ensure_future(pool.take()) for _ in range(2)]
        left = asyncio.ensure_future(pool.take())
        await asyncio.sleep(0)
        left.cancel()
        _, writer = await app.answer(OK)
        await taken.ended
        assert await waiting[0] is first
        taken = start(first)
        writer.transport.abort()
        assert isinstance(await taken.ended, UpstreamProtocolError)
        assert await waiting[1] is not first  # the place of the lost one


async def test_who_waits_for_a_place_comes_before_who_has_just_come() -> None:
    async with pool_to_app(max_connections=1) as (pool, _, clock):
        connection = await pool.take()
        waiting = [asyncio.ensure_future(pool.take()) for _ in range(2)]
        while len(pool._waiting) < 2:  # noqa: ASYNC110 - until they wait
            await asyncio.sleep(0)
        connection.idle_until = clock.at + 10
        newcomer = asyncio.ensure_future(pool.take())  # its turn comes before theirs
        pool.give_back(connection)
        assert await waiting[0] is connection
        assert not newcomer.done()
        for late in (waiting[1], newcomer):
            pool.give_back(connection)
            assert await late is connection


async def test_no_place_in_time_is_a_timeout() -> None:
    async with pool_to_app(max_connections=1, connect_timeout_s=0.05) as (pool, _, _):
        connection = await pool.take()
        with pytest.raises(UpstreamTimeout, match="in time"):
            await pool.take()
        connection.abort()


async def test_refused() -> None:
    pool = UpstreamPool(UpstreamAddress("", "127.0.0.1", 9), asyncio.get_running_loop())
    with pytest.raises(UpstreamRefused, match=r"127\.0\.0\.1:9"):
        await pool.take()
    assert repr(pool) == "<UpstreamPool default: 0 open, 0 idle>"


class Full(Taken):
    """An exchange whose client is full when the end is written: as a relay does, it stops the reading then."""

    def __init__(self, connection: UpstreamConnection) -> None:
        super().__init__()
        self.connection = connection

    def on_end(self) -> None:
        self.connection.pause_reading()
        super().on_end()


@pytest.mark.parametrize("has_body", [False, True])
async def test_the_pause_of_a_full_client_does_not_outlast_its_exchange(has_body: bool) -> None:
    """The next visitor on this connection would wait for an answer that is never read."""
    async with pool_to_app() as (pool, app, _):
        connection = await pool.take()
        full = Full(connection)
        connection.start(full, "POST", GET, has_body=has_body)
        reader, writer = await app.answer(OK)
        assert await full.ended is None
        if has_body:
            connection.end_body()
        assert pool.take_idle() is connection
        assert connection.transport is not None
        assert connection.transport.is_reading()
        assert pool._stalled == {}
        taken = start(connection)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        assert await taken.ended is None
        assert taken.body == b"ok"


async def test_a_client_that_does_not_send_is_not_the_apps_fault() -> None:
    async with pool_to_app() as (pool, _, clock):
        connection = await pool.take()
        taken = Taken()
        connection.start(taken, "POST", GET, has_body=True)
        connection.waits_for_piece = True
        clock.at += 10_000
        pool.tick()
        assert not taken.ended.done()
        connection.waits_for_piece = False
        await connection.write_body(b"x")
        connection.end_body()
        clock.at += 59
        pool.tick()
        assert not taken.ended.done()
        clock.at += 1
        pool.tick()
        assert isinstance(await taken.ended, UpstreamTimeout)


async def test_an_error_in_one_exchange_does_not_stop_the_deadlines_of_all() -> None:
    class Faulty(Taken):
        def on_error(self, error: UpstreamError) -> None:
            raise RuntimeError("an error that nobody thought of")

    async with pool_to_app() as (pool, _, clock):
        connection = await pool.take()
        connection.start(Faulty(), "GET", GET, has_body=False)
        clock.at += 60
        ticker = pool.ticker
        assert ticker is not None
        ticker.cancel()
        with pytest.raises(RuntimeError):
            pool.tick()
        assert pool.ticker is not ticker
        assert not pool.ticker.cancelled()


# --- streams -------------------------------------------------------------------------------------------------------


async def test_a_stream_takes_no_place() -> None:
    async with pool_to_app(max_connections=1) as (pool, _, _):
        streaming = await pool.take()
        start(streaming)
        waiting = asyncio.ensure_future(pool.take())
        while not pool._waiting:  # noqa: ASYNC110 - until it waits
            await asyncio.sleep(0)
        streaming.becomes_stream()
        page = await waiting
        assert page is not streaming
        assert (pool.busy, pool.streaming) == (1, 1)
        streaming.becomes_stream()  # once is enough
        assert (pool.busy, pool.streaming) == (1, 1)
        streaming.abort()
        await gone(streaming)
        assert (pool.busy, pool.streaming) == (1, 0)


@pytest.mark.parametrize(("most", "kept"), [(1, False), (2, True)])
async def test_a_stream_that_has_ended_is_kept_where_there_is_a_place(most: int, kept: bool) -> None:
    async with pool_to_app(max_connections=most) as (pool, app, _):
        streaming = await pool.take()
        taken = start(streaming)
        streaming.becomes_stream()
        start(await pool.take())
        await app.answer(OK)
        assert await taken.ended is None
        if not kept:
            await gone(streaming)
        assert (pool.take_idle() is streaming) is kept
        assert (pool.busy, pool.streaming) == (2 if kept else 1, 0)


async def test_a_stream_that_waits_for_its_client_is_not_taken_from_it() -> None:
    async with pool_to_app(max_connections=8) as (pool, _, _):
        lots = await lent(pool, 5)
        for connection, _ in lots:
            connection.becomes_stream()
        lots += await lent(pool, 8)
        for connection, _ in lots[:9]:
            connection.pause_reading()
        assert given_up(lots) == []
        lots[9][0].pause_reading()
        assert given_up(lots) == [5]


async def test_a_stream_has_its_deadline() -> None:
    async with pool_to_app() as (pool, _, clock):
        streaming = await pool.take()
        taken = start(streaming)
        streaming.becomes_stream()
        clock.at += 60
        pool.tick()
        assert isinstance(await taken.ended, UpstreamTimeout)
        await gone(streaming)
        assert pool.streaming == 0


class Passing(Taken):
    """A tunnel that takes no note of backpressure."""

    def upstream_is_full(self) -> None: ...

    def upstream_has_drained(self) -> None: ...


async def test_a_tunnel_whose_app_does_not_take_the_rest_is_not_kept() -> None:
    """Closing waits until everything is written: not for longer than an exchange may pause."""
    async with pool_to_app(idle_timeout_s=10) as (pool, app, clock):
        connection = await pool.take()
        connection.start(Taken(), "GET", GET, has_body=False)
        connection.become_tunnel(Passing())
        _, writer = await app.connections.get()
        writer.transport.pause_reading()
        connection.write(b"x" * 20_000_000)
        connection.close()
        clock.at += 9
        pool.tick()
        for _ in range(10):
            await asyncio.sleep(0)
        assert pool.streaming == 1
        clock.at += 1
        pool.tick()
        await gone(connection)
        assert pool.streaming == 0


async def test_a_closed_pool_keeps_nothing() -> None:
    async with pool_to_app() as (pool, app, _):
        connection = await pool.take()
        taken = start(connection)
        pool.close()
        await app.answer(OK)
        assert await taken.ended is None
        await gone(connection)


async def test_start_on_a_lost_connection_fails_at_once() -> None:
    async with pool_to_app() as (pool, app, _):
        connection = await pool.take()
        _, writer = await app.connections.get()
        writer.transport.abort()
        await gone(connection)
        taken = start(connection)
        assert isinstance(await taken.ended, UpstreamProtocolError)
        connection.resume_reading()
        connection.pause_reading()
        with pytest.raises(ConnectionError):
            await connection.write_body(b"x")


async def test_a_body_waits_for_an_app_that_does_not_read_and_goes_on() -> None:
    async with pool_to_app() as (pool, app, _):
        connection = await pool.take()
        taken = Taken()
        connection.start(taken, "POST", GET, has_body=True)
        reader, writer = await app.connections.get()
        writer.transport.pause_reading()
        sent = 0

        async def send() -> None:
            nonlocal sent
            for _ in range(200):
                await connection.write_body(b"x" * 65_536)
                sent += 1
            connection.end_body()

        sending = asyncio.ensure_future(send())
        for _ in range(100):
            await asyncio.sleep(0)
        assert sent < 200  # the rest waits: it is not piled up in memory
        writer.transport.resume_reading()
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(200 * 65_536)
        await sending
        writer.write(OK)
        assert await taken.ended is None
        assert pool.take_idle() is connection


async def test_a_body_that_waits_learns_that_the_app_is_gone() -> None:
    async with pool_to_app() as (pool, app, _):
        connection = await pool.take()
        taken = Taken()
        connection.start(taken, "POST", GET, has_body=True)
        _, writer = await app.connections.get()
        writer.transport.pause_reading()

        async def send() -> None:
            while True:
                await connection.write_body(b"x" * 65_536)

        sending = asyncio.ensure_future(send())
        for _ in range(100):
            await asyncio.sleep(0)
        writer.transport.abort()
        with pytest.raises(ConnectionError):
            await sending
        assert isinstance(await taken.ended, UpstreamProtocolError)


async def test_an_early_answer_keeps_the_connection_only_once_the_body_is_sent() -> None:
    async with pool_to_app() as (pool, app, _):
        connection = await pool.take()
        taken = Taken()
        connection.start(taken, "POST", GET, has_body=True)
        await app.answer(OK)
        assert await taken.ended is None
        assert pool.take_idle() is None
        connection.end_body()
        assert pool.take_idle() is connection


# --- clients that do not keep up -----------------------------------------------------------------------------------


async def lent(pool: UpstreamPool, count: int) -> list[tuple[UpstreamConnection, Taken]]:
    """So many connections in use, none of them waiting for its client."""
    connections = [await pool.take() for _ in range(count)]
    return [(connection, start(connection)) for connection in connections]


def given_up(lots: list[tuple[UpstreamConnection, Taken]]) -> list[int]:
    """Which exchanges were ended because of their client."""
    ended = [number for number, (_, taken) in enumerate(lots) if taken.ended.done()]
    assert all(isinstance(lots[number][1].ended.result(), ClientStalled) for number in ended)
    return ended


async def test_up_to_half_of_the_connections_may_wait_for_their_clients() -> None:
    async with pool_to_app(max_connections=8) as (pool, _, clock):
        lots = await lent(pool, 8)
        for connection, _ in lots[:4]:
            connection.pause_reading()
        clock.at += 10_000
        for connection, _ in lots:
            connection.touch(60)
        pool.tick()
        assert given_up(lots) == []


async def test_beyond_half_those_that_stalled_first_go_after_a_grace() -> None:
    async with pool_to_app(max_connections=8) as (pool, _, clock):
        lots = await lent(pool, 6)
        for connection, _ in lots:
            connection.pause_reading()
            clock.at += 0.25
        clock.at += STALL_GRACE_S - 1.75
        pool.tick()
        assert given_up(lots) == []
        clock.at += 0.25
        pool.tick()
        assert given_up(lots) == [0]
        clock.at += 100
        pool.tick()
        assert given_up(lots) == [0, 1]  # the other four are no more than half
        await gone(lots[0][0])


async def test_where_three_quarters_are_in_use_they_go_at_once() -> None:
    async with pool_to_app(max_connections=8) as (pool, _, clock):
        lots = await lent(pool, 7)
        for connection, _ in lots[:4]:
            connection.waits_for_client()
            clock.at += 0.1
        assert given_up(lots) == []
        lots[4][0].waits_for_client()
        assert given_up(lots) == [0]


async def test_who_goes_on_is_no_longer_counted() -> None:
    async with pool_to_app(max_connections=8) as (pool, _, _):
        lots = await lent(pool, 8)
        for connection, _ in lots[:4]:
            connection.pause_reading()
        lots[0][0].resume_reading()
        lots[4][0].pause_reading()
        assert given_up(lots) == []
        lots[0][0].pause_reading()  # again: now it is the last of them
        assert given_up(lots) == [1]


async def test_an_exchange_that_ends_is_no_longer_counted() -> None:
    async with pool_to_app(max_connections=8) as (pool, _, _):
        lots = await lent(pool, 8)
        for connection, _ in lots[:4]:
            connection.pause_reading()
        lots[0][0].abort()
        await gone(lots[0][0])
        lots[4][0].pause_reading()
        assert given_up(lots) == []


async def test_of_few_connections_none_is_taken_away() -> None:
    async with pool_to_app(max_connections=7) as (pool, _, clock):
        lots = await lent(pool, 7)
        for connection, _ in lots:
            connection.pause_reading()
        clock.at += 10_000
        pool.tick()
        assert given_up(lots) == []


async def test_a_pool_is_crowded_beyond_half() -> None:
    async with pool_to_app(max_connections=4) as (pool, app, _):
        lots = await lent(pool, 2)
        assert not pool.is_crowded
        lots += await lent(pool, 1)
        assert pool.is_crowded
        for _ in lots:
            await app.answer(OK)
        await asyncio.gather(*(taken.ended for _, taken in lots))
        assert not pool.is_crowded  # idle ones are free


async def test_one_that_waits_for_a_place_gets_that_of_a_client_that_did_not_keep_up() -> None:
    async with pool_to_app(max_connections=8) as (pool, _, _):
        lots = await lent(pool, 8)
        waiting = asyncio.ensure_future(pool.take())
        for connection, _ in lots[:5]:
            connection.waits_for_client()
        assert given_up(lots) == [0]
        async with asyncio.timeout(20):
            assert (await waiting) not in [connection for connection, _ in lots]


async def test_who_left_does_not_end_the_exchange_of_whoever_came_after() -> None:
    """A client that leaves in the moment when its answer ends finds its connection with somebody else."""
    async with pool_to_app() as (pool, app, _):
        connection = await pool.take()
        left = start(connection)
        reader, writer = await app.answer(OK)
        assert await left.ended is None
        assert pool.take_idle() is connection
        came_after = start(connection)
        connection.abandon(left)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        assert await came_after.ended is None
        assert came_after.body == b"ok"


async def test_an_abandoned_exchange_ends_its_connection() -> None:
    async with pool_to_app() as (pool, _, _clock):
        connection = await pool.take()
        taken = start(connection)
        connection.abandon(taken)
        await gone(connection)
        assert not taken.ended.done()
        assert repr(pool) == "<UpstreamPool app: 0 open, 0 idle>"


async def test_streams_take_no_place_and_come_back_where_there_is_one() -> None:
    async with pool_to_app(max_connections=1) as (pool, app, _):
        stream = await pool.take()
        streaming = start(stream)
        stream.becomes_stream()
        page = await pool.take()  # there is a place for it
        assert (pool.streaming, pool.busy) == (1, 1)
        await app.answer(OK)
        assert await streaming.ended is None
        await gone(stream)  # and none for the stream's connection any more
        viewed = start(page)
        await app.answer(OK)
        assert await viewed.ended is None
        assert (pool.streaming, pool.busy, pool.idle) == (0, 0, 1)
