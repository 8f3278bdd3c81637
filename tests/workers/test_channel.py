"""Messages between supervisor and workers, however the bytes of them arrive, and the end of the channel."""

import asyncio
import socket
from typing import cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.telemetry.families import Family
from gatekeeper.workers.channel import (
    Begin,
    Channel,
    Check,
    Checked,
    Count,
    Counted,
    Drain,
    Failed,
    LetGo,
    LetGone,
    Order,
    Ready,
    Report,
    Stop,
    encode,
    receive_begin,
)

BEGIN = Begin("0.1.0", 2, 4, (5, 6), 7, b"settings")
ORDERS: list[Order] = [BEGIN, Drain(5.0, 30.0), Stop(), Count(), Check(), LetGone()]
FAMILY = Family("histogram", "h", "help", ("by",), ((("gate",), (1.0, 2.0, 0.5)),))
REPORTS: list[Report] = [Ready(), Failed("no"), Counted((FAMILY,)), Checked(("store away",)), LetGo(), Counted(())]


class NoTransport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.is_closed = True


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30))
def test_messages_arrive_whole_in_whatever_pieces(sizes: list[int]) -> None:
    heard: list[Report] = []
    channel: Channel[Report] = Channel(Report, heard.append, lambda: None)
    data = b"".join(map(encode, REPORTS))
    for size in sizes:
        channel.data_received(data[:size])
        data = data[size:]
    channel.data_received(data)
    assert heard == REPORTS


def test_orders_arrive_as_they_were_given() -> None:
    heard: list[Order] = []
    channel: Channel[Order] = Channel(Order, heard.append, lambda: None)
    channel.data_received(b"".join(map(encode, ORDERS)))
    assert heard == ORDERS


def test_what_the_other_side_never_says_is_refused() -> None:
    channel: Channel[Report] = Channel(Report, lambda _: None, lambda: None)
    with pytest.raises(msgspec.ValidationError):
        channel.data_received(encode(Stop()))


def test_nothing_is_said_to_nobody() -> None:
    ends: list[bool] = []
    channel: Channel[Order] = Channel(Order, lambda _: None, lambda: ends.append(True))
    channel.send(Stop())
    channel.close()
    transport = NoTransport()
    channel.connection_made(cast(asyncio.BaseTransport, transport))
    channel.send(Ready())
    channel.connection_lost(None)
    channel.send(Ready())
    assert (transport.written, ends) == ([encode(Ready())], [True])


def test_the_first_order_is_read_from_a_socket_and_no_byte_more() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(encode(BEGIN) + encode(Stop()))
        assert receive_begin(theirs) == BEGIN
        assert theirs.recv(1_000) == encode(Stop())


def test_a_supervisor_that_says_nothing_is_an_end() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(encode(BEGIN)[:-1])
        ours.close()
        with pytest.raises(EOFError):
            receive_begin(theirs)
