"""Numbers of clients that workers show one another, and a limit that holds over all of them."""

import os
from collections.abc import Iterator

import pytest

from gatekeeper.core.forwarding import TrustedProxies
from gatekeeper.server.crowd import Crowd
from gatekeeper.workers.board import WorkerBoard, make_board


@pytest.fixture
def board() -> Iterator[int]:
    descriptor = make_board(3)
    yield descriptor
    os.close(descriptor)


def test_each_sees_the_sum(board: int) -> None:
    first, second, third = (WorkerBoard(board, 3, place) for place in range(3))
    assert first.publish(5) == 5
    assert second.publish(7) == 12
    assert third.publish(0) == 12
    assert first.publish(2) == 9


def test_clients_of_one_that_ended_are_gone(board: int) -> None:
    first, second = WorkerBoard(board, 3, 0), WorkerBoard(board, 3, 1)
    first.publish(5)
    second.publish(7)
    first.clear(1)
    assert first.publish(5) == 5


def crowds(board: int, limit: int) -> list[Crowd]:
    return [Crowd(limit, None, TrustedProxies([]), WorkerBoard(board, 3, place)) for place in range(3)]


def test_the_limit_holds_over_all_workers_whoever_has_the_clients(board: int) -> None:
    first, second, third = crowds(board, 4)
    assert first.enter("203.0.113.1")
    assert first.enter("203.0.113.2")
    assert second.enter("203.0.113.3")
    assert third.enter("203.0.113.4")
    assert not second.enter("203.0.113.5")
    assert not first.enter("203.0.113.6")
    second.leave("203.0.113.5")
    first.leave("203.0.113.6")
    third.leave("203.0.113.4")
    assert second.enter("203.0.113.7")
    assert [crowd.count for crowd in (first, second, third)] == [2, 2, 0]


def test_one_full_worker_is_all_that_may_be(board: int) -> None:
    first, second, _ = crowds(board, 20)
    assert all(first.enter("203.0.113.1") for _ in range(20))
    assert not second.enter("203.0.113.2")
    assert not second.is_overrun
    for _ in range(2):
        assert not second.enter("203.0.113.2")
    assert second.is_overrun
    assert first.is_overrun
