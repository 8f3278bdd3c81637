"""Clients that take too long: the clock and the ticks are in the test's hand."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gatekeeper.core.model import Reason
from gatekeeper.server.deadlines import HALF_CLOSED_S, Deadlines
from tests.server.clock import Clock

HEAD_S, STALL_S = 10.0, 60.0


class FakeClient:
    """A client's connection, its transport, and what is pushed into it, in one."""

    def __init__(self, waiting: int = 0) -> None:
        self.waiting = waiting
        self.progress = 0.0
        self.refused: list[tuple[int, Reason]] = []
        self.is_broken_off = False
        self.transport: FakeClient | None = self
        self.pushing: FakeClient | None = self

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def give_up(self, status: int, reason: Reason) -> None:
        self.refused.append((status, reason))

    def break_off(self) -> None:
        self.is_broken_off = True


class Held:
    """Deadlines with a clock; `pass_s` lets time pass and ticks."""

    def __init__(self, stalled_bytes: int) -> None:
        loop = asyncio.get_running_loop()
        self.deadlines: Any = Deadlines(loop, head_s=HEAD_S, stall_s=STALL_S, stalled_bytes=stalled_bytes)
        self.clock = self.deadlines.now = Clock()

    def pass_s(self, seconds: float) -> None:
        self.clock.at += seconds
        self.stop()
        self.deadlines.tick()

    def stop(self) -> None:
        if self.deadlines.ticker is not None:
            self.deadlines.close()


@pytest_asyncio.fixture
async def held() -> AsyncIterator[Held]:
    made = Held(1_000)
    yield made
    made.deadlines.close()


# --- heads ---------------------------------------------------------------------------------------------------------


async def test_a_head_is_due_so_long_after_its_first_byte(held: Held) -> None:
    client = FakeClient()
    held.deadlines.head_has_begun(client)
    held.pass_s(HEAD_S - 0.1)
    held.deadlines.head_has_begun(client)  # more of it: the time is not extended
    assert client.refused == []
    held.pass_s(0.1)
    assert client.refused == [(408, Reason.HEAD_TIMEOUT)]
    held.pass_s(HEAD_S)
    assert len(client.refused) == 1


async def test_a_whole_head_is_no_longer_waited_for(held: Held) -> None:
    slow, quick = FakeClient(), FakeClient()
    held.deadlines.head_has_begun(quick)
    held.deadlines.head_has_begun(slow)
    held.deadlines.head_is_complete(quick)
    held.deadlines.head_is_complete(quick)
    held.pass_s(HEAD_S)
    assert (quick.refused, len(slow.refused)) == ([], 1)


async def test_each_next_head_has_its_own_time(held: Held) -> None:
    client = FakeClient()
    for _ in range(3):
        held.deadlines.head_has_begun(client)
        held.pass_s(HEAD_S - 1)
        held.deadlines.head_is_complete(client)
    assert client.refused == []


# --- clients that take nothing -------------------------------------------------------------------------------------


async def test_a_client_that_takes_nothing_is_cut_off(held: Held) -> None:
    client = FakeClient(100)
    held.deadlines.client_is_full(client)
    held.pass_s(STALL_S - 0.1)
    assert not client.is_broken_off
    held.pass_s(0.1)
    assert client.is_broken_off


async def test_a_client_that_takes_little_is_slow_and_not_gone(held: Held) -> None:
    client = FakeClient(100)
    held.deadlines.client_is_full(client)
    for waiting in (99, 98, 50):
        client.waiting = waiting
        held.pass_s(STALL_S)
        assert not client.is_broken_off
    held.pass_s(STALL_S - 1)
    assert not client.is_broken_off
    held.pass_s(1)
    assert client.is_broken_off


async def test_a_client_that_has_drained_is_well(held: Held) -> None:
    client = FakeClient(100)
    held.deadlines.client_is_full(client)
    held.deadlines.client_has_drained(client)
    held.pass_s(STALL_S)
    held.deadlines.client_is_full(client)
    held.pass_s(STALL_S - 1)
    assert not client.is_broken_off


async def test_where_all_hold_too_much_those_that_stalled_first_go(held: Held) -> None:
    clients = [FakeClient(400) for _ in range(4)]
    for client in clients[:2]:
        held.deadlines.client_is_full(client)
    assert not any(client.is_broken_off for client in clients)
    held.deadlines.client_is_full(clients[2])
    assert [client.is_broken_off for client in clients] == [True, False, False, False]
    held.deadlines.client_has_drained(clients[1])
    held.deadlines.client_is_full(clients[3])
    assert [client.is_broken_off for client in clients] == [True, False, False, False]


async def test_one_client_alone_may_hold_as_much_as_its_answer_is(held: Held) -> None:
    client = FakeClient(1_000_000)
    held.deadlines.client_is_full(client)
    assert not client.is_broken_off
    another = FakeClient(1)
    held.deadlines.client_is_full(another)
    assert (client.is_broken_off, another.is_broken_off) == (True, False)


# --- clients that send no more -------------------------------------------------------------------------------------


async def test_silence_counts_as_having_left(held: Held) -> None:
    client = FakeClient()
    held.deadlines.client_ended(client)
    held.pass_s(HALF_CLOSED_S - 0.1)
    assert not client.is_broken_off
    held.pass_s(0.1)
    assert client.is_broken_off


async def test_a_client_that_still_gets_something_has_not_left(held: Held) -> None:
    client = FakeClient()
    held.deadlines.client_ended(client)
    for _ in range(3):
        client.progress += 1
        held.pass_s(HALF_CLOSED_S)
        assert not client.is_broken_off
    held.pass_s(HALF_CLOSED_S)
    assert client.is_broken_off


async def test_a_client_whose_answer_has_not_begun_has_left_too(held: Held) -> None:
    client = FakeClient()
    client.pushing = None
    held.deadlines.client_ended(client)
    held.pass_s(HALF_CLOSED_S)
    assert client.is_broken_off


async def test_a_client_that_still_takes_what_waits_has_not_left(held: Held) -> None:
    """A slow reader that is half-closed: how long it may take is another deadline."""
    client = FakeClient(100)
    held.deadlines.client_ended(client)
    for waiting in (90, 90, 1):
        client.waiting = waiting
        held.pass_s(HALF_CLOSED_S)
        assert not client.is_broken_off
    client.waiting = 0
    held.pass_s(HALF_CLOSED_S)
    assert client.is_broken_off


# --- clients whose connection closes -------------------------------------------------------------------------------


async def test_to_let_go_takes_no_longer_than_a_stall(held: Held) -> None:
    client = FakeClient(100)
    held.deadlines.client_closes(client)
    held.pass_s(STALL_S - 0.1)
    held.deadlines.client_closes(client)  # once more: the time is not extended
    assert not client.is_broken_off
    held.pass_s(0.1)
    assert client.is_broken_off
    assert held.deadlines.ticker is not None
    held.pass_s(1)
    assert held.deadlines.ticker is None


# --- the ticker ----------------------------------------------------------------------------------------------------


async def test_who_is_gone_is_forgotten_everywhere(held: Held) -> None:
    client = FakeClient(400)
    held.deadlines.head_has_begun(client)
    held.deadlines.client_is_full(client)
    held.deadlines.client_ended(client)
    held.deadlines.client_closes(client)
    client.transport = None
    held.deadlines.forget(client)
    held.pass_s(STALL_S)
    assert (client.refused, client.is_broken_off) == ([], False)
    assert held.deadlines.ticker is None


@pytest.mark.parametrize("what", ["head_has_begun", "client_is_full", "client_ended", "client_closes"])
async def test_the_ticker_runs_while_there_is_something_to_look_after(held: Held, what: str) -> None:
    assert held.deadlines.ticker is None
    client = FakeClient(1)
    getattr(held.deadlines, what)(client)
    ticker = held.deadlines.ticker
    assert ticker is not None
    getattr(held.deadlines, what)(client)
    assert held.deadlines.ticker is ticker
    held.pass_s(1)
    assert held.deadlines.ticker is not None
    held.deadlines.forget(client)
    held.pass_s(1)
    assert held.deadlines.ticker is None


async def test_an_error_with_one_client_does_not_stop_the_deadlines_of_all(held: Held) -> None:
    class Faulty(FakeClient):
        def give_up(self, status: int, reason: Reason) -> None:
            raise RuntimeError("an error that nobody thought of")

    other = FakeClient()
    held.deadlines.head_has_begun(Faulty())
    held.deadlines.head_has_begun(other)
    with pytest.raises(RuntimeError):
        held.pass_s(HEAD_S)
    assert held.deadlines.ticker is not None
    assert not held.deadlines.ticker.cancelled()
    held.pass_s(1)
    assert other.refused == [(408, Reason.HEAD_TIMEOUT)]
