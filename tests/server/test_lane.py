"""The lane's place in a connection: what it may have, what it may not, and how what is in it ends.

Connections are driven by hand, with a lane that only notes what it is offered.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gatekeeper.core.model import Reason
from gatekeeper.server import connection
from gatekeeper.server.connection import ClientConnection, ParsedRequest, RawRequestMessage
from tests.server.test_connection import GET, POST, Bench, Handler, settle


class NotingLane:
    """Takes what it is told to, and leaves it to the test to end it."""

    def __init__(self) -> None:
        self.takes = True
        self.offered: list[bytes] = []
        self.parsed: list[bytes] = []

    def recognise(self, client: ClientConnection, data: bytes) -> bool:
        self.offered.append(data)
        return False

    def take(self, client: ClientConnection, data: bytes, message: RawRequestMessage) -> bool:
        self.parsed.append(data)
        if self.takes:
            client.begin_in_lane()
        return self.takes


class ReadingHandler(Handler):
    """Reads each request's body before it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes] = []

    async def __call__(self, request: ParsedRequest) -> bool:
        body = b""
        while not request.content.at_eof():
            body += await request.content.readany()
        self.bodies.append(body)
        return await super().__call__(request)


class LaneBench(Bench):
    def __init__(self) -> None:
        super().__init__()
        self.lane = self.server.lane = NotingLane()
        self.handler = self.server.handler = ReadingHandler()


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[LaneBench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "LINGER_S", 0.0)
        made = LaneBench()
        yield made
        made.close()


async def test_a_connection_that_was_refused_has_no_lane(bench: LaneBench) -> None:
    """Some loops start a connection's task before anybody could look whether there are too many connections."""
    client, transport = bench.connect()
    await settle()
    client.give_up(503, Reason.TOO_MANY_CONNECTIONS)
    client.data_received(GET % 1)
    assert bench.lane.offered == []
    assert transport.written.count(b"HTTP/1.1") == 1
    await settle()
    assert (bench.handler.requests, transport.closed) == ([], True)


async def test_the_lane_gets_what_comes_whole_and_alone(bench: LaneBench) -> None:
    client, transport = bench.connect()
    await settle()
    client.data_received(GET % 1)
    assert bench.lane.parsed == [GET % 1]
    client.end_in_lane(kept=True)
    client.data_received(POST % (2, 5) + b"hello")
    assert bench.lane.parsed[1:] == [POST % (2, 5) + b"hello"]
    client.end_in_lane(kept=False)
    assert transport.closed
    assert bench.handler.requests == []


@pytest.mark.parametrize(
    ("pieces", "targets"),
    [
        pytest.param([GET % 1 + GET % 2], ["/1", "/2"], id="two-at-once"),
        pytest.param([GET % 1 + (GET % 2)[:20], (GET % 2)[20:]], ["/1", "/2"], id="the-beginning-of-the-next"),
        pytest.param([b"\r\n" + GET % 1], ["/1"], id="an-empty-line-first"),
        pytest.param([b"\r\n\r\n" + GET % 1], ["/1"], id="two-empty-lines-first"),
        pytest.param([b"\r\n", GET % 1], ["/1"], id="an-empty-line-before"),
        pytest.param([b"\r\n\r\n", POST % (1, 2) + b"xy"], ["/1"], id="empty-lines-before-a-body"),
        pytest.param([GET % 1 + b"\r\n"], ["/1"], id="an-empty-line-behind"),
        pytest.param([(GET % 1)[:20], (GET % 1)[20:]], ["/1"], id="in-two-pieces"),
        pytest.param([(GET % 1)[:-1], b"\n"], ["/1"], id="but-for-the-last-byte"),
        pytest.param([POST % (1, 5) + b"hel", b"lo"], ["/1"], id="a-body-in-pieces"),
        pytest.param([POST % (1, 5), b"hello"], ["/1"], id="a-body-apart"),
        pytest.param([POST % (1, 5) + b"hello" + GET % 2], ["/1", "/2"], id="a-request-behind-a-body"),
        pytest.param([POST % (1, 5) + b"helloGE", (GET % 2)[2:]], ["/1", "/2"], id="two-bytes-behind-a-body"),
        pytest.param([POST % (1, 5) + b"hel", b"lo" + GET % 2], ["/1", "/2"], id="behind-a-body-in-pieces"),
        pytest.param([POST % (1, len(GET % 9)) + GET % 9], ["/1"], id="a-body-that-looks-like-a-request"),
        pytest.param([POST % (1, len(GET % 9)), GET % 9], ["/1"], id="such-a-body-apart"),
    ],
)
async def test_what_came_otherwise_is_answered_in_its_order(
    bench: LaneBench, pieces: list[bytes], targets: list[str]
) -> None:
    """The lane may refuse what it was offered, and what it is not offered nobody else forgets."""
    bench.lane.takes = False
    client, _ = bench.connect()
    await settle()
    for piece in pieces:
        client.data_received(piece)
        await settle()
    assert bench.handler.targets == targets


async def test_what_comes_behind_a_request_in_the_lane_is_next(bench: LaneBench) -> None:
    client, transport = bench.connect()
    await settle()
    client.data_received(GET % 1)
    client.data_received((GET % 2)[:20])
    client.data_received((GET % 2)[20:] + GET % 3)
    await settle()
    assert bench.handler.requests == []
    client.end_in_lane(kept=True)
    await settle()
    assert transport.written == b"[/2][/3]"


async def test_a_client_that_ends_behind_a_request_in_the_lane_gets_its_answer(bench: LaneBench) -> None:
    client, transport = bench.connect()
    await settle()
    client.data_received(GET % 1)
    assert client.eof_received()
    client.end_in_lane(kept=True)
    await settle()
    assert transport.closed


async def test_an_idle_clients_time_does_not_run_out_in_the_lane(bench: LaneBench) -> None:
    client, transport = bench.connect()
    await settle()
    client.data_received(GET % 1)
    client._next_keepalive_close_time = 0.0
    client._process_keepalive()
    assert not transport.closed
    client.end_in_lane(kept=True)
    client._next_keepalive_close_time = 0.0
    client._process_keepalive()
    assert transport.closed


async def test_while_the_server_drains_there_is_no_lane(bench: LaneBench) -> None:
    client, transport = bench.connect()
    await settle()
    bench.server.draining = True
    client.data_received(GET % 1)
    await settle()
    assert (bench.lane.offered, bench.lane.parsed) == ([], [])
    assert (transport.written, transport.closed) == (b"[/1]", True)


class HandedOn:
    """A request that the lane has handed on."""

    def __init__(self) -> None:
        self.went_on = self.left = 0

    def client_left(self) -> None:
        self.left += 1

    async def go_on(self) -> bool:
        self.went_on += 1
        await asyncio.sleep(0)
        return True


async def test_a_request_that_is_handed_on_is_gone_on_with_once(bench: LaneBench) -> None:
    client, transport = bench.connect()
    await settle()
    client.data_received(GET % 1)
    request = HandedOn()
    client.hand_on(request)
    client.data_received(GET % 2)
    await settle()
    assert (request.went_on, request.left) == (1, 0)
    assert transport.written == b"[/2]"


async def test_a_client_that_leaves_before_that_is_told_of_once(bench: LaneBench) -> None:
    client, _ = bench.connect()
    await settle()
    client.data_received(GET % 1)
    request = HandedOn()
    client.hand_on(request)
    client.connection_lost(None)
    bench.open.remove(client)
    await settle()
    assert (request.went_on, request.left) == (0, 1)
