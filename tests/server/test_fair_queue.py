"""Nobody's thousandth before another's first, and never more than so many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.server.fair_queue import FairQueue


def drained(queue: FairQueue[str]) -> list[str]:
    items: list[str] = []
    while (item := queue.pop()) is not None:
        items.append(item)
    return items


def test_within_one_flow_first_come_first_served() -> None:
    queue: FairQueue[str] = FairQueue(10)
    for item in "abc":
        assert queue.push(item, ("one",)) is None
    assert len(queue) == 3
    assert drained(queue) == ["a", "b", "c"]
    assert len(queue) == 0


@pytest.mark.parametrize(
    ("flows", "of_the_late_one"),
    [
        pytest.param(lambda number: ("address", f"account{number}"), ("other", "account"), id="one-address"),
        pytest.param(lambda number: (f"address{number}", "account"), ("address", "other"), id="one-account"),
        pytest.param(lambda number: ("address", "account"), ("other",), id="one-of-each"),
    ],
)
def test_a_thousand_do_not_delay_anothers_first(flows, of_the_late_one: tuple[str, ...]) -> None:
    queue: FairQueue[str] = FairQueue(2_000)
    for number in range(1_000):
        queue.push(f"{number}", flows(number))
    assert queue.pop() == "0"
    queue.push("late", of_the_late_one)
    assert [queue.pop(), queue.pop(), queue.pop()] == ["1", "late", "2"]


def test_two_flows_alternate() -> None:
    queue: FairQueue[str] = FairQueue(10)
    for item in ("a1", "a2", "a3", "b1", "b2"):
        queue.push(item, (item[0],))
    assert drained(queue) == ["a1", "b1", "a2", "b2", "a3"]


def test_a_stream_of_newcomers_does_not_keep_a_second_waiting_for_ever() -> None:
    queue: FairQueue[str] = FairQueue(10)
    for item in ("a1", "a2", "a3"):
        queue.push(item, ("a",))
    served: list[str | None] = []
    for number in range(6):
        queue.push(f"{number}", (f"newcomer{number}",))
        served.append(queue.pop())
    assert served == ["a1", "0", "a2", "1", "2", "a3"]


def test_who_waits_no_more_has_no_turn_to_wait_for() -> None:
    queue: FairQueue[str] = FairQueue(10)
    for item in ("a1", "a2"):
        queue.push(item, ("a",))
    assert drained(queue) == ["a1", "a2"]
    queue.push("b1", ("b",))
    queue.push("a3", ("a",))
    assert drained(queue) == ["b1", "a3"]


def test_removed_items_are_gone() -> None:
    queue: FairQueue[str] = FairQueue(10)
    for item in ("a1", "a2", "a3", "b1"):
        queue.push(item, (item[0],))
    assert queue.remove("a2")
    assert not queue.remove("a2")
    assert not queue.remove("x")
    assert drained(queue) == ["a1", "b1", "a3"]


def test_when_full_the_latest_of_whoever_has_most_goes() -> None:
    queue: FairQueue[str] = FairQueue(4)
    for item in ("a1", "a2", "a3", "a4"):
        assert queue.push(item, ("a",)) is None
    assert queue.push("a5", ("a",)) == "a5"
    assert queue.push("b1", ("b",)) == "a4"
    assert queue.push("c1", ("c",)) == "a3"
    assert queue.push("b2", ("b",)) == "b2"
    assert drained(queue) == ["a1", "b1", "c1", "a2"]


def test_when_full_of_firsts_the_latest_goes() -> None:
    queue: FairQueue[str] = FairQueue(2)
    assert [queue.push(item, (item,)) for item in "abc"] == [None, None, "c"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["push", "push", "pop", "remove"]), st.integers(0, 3), st.integers(0, 3)), max_size=80
    )
)
def test_nothing_is_lost_and_before_anybodys_first_come_two_of_another_flow_at_most(
    steps: list[tuple[str, int, int]],
) -> None:
    queue: FairQueue[int] = FairQueue(12)
    waiting: dict[int, tuple[str, str]] = {}
    served_since: dict[int, list[str]] = {}
    for number, (step, address, account) in enumerate(steps):
        if step == "push":
            flows = (f"address{address}", f"account{account}")
            is_first = not any(set(flows) & set(theirs) for theirs in waiting.values())
            waiting[number] = flows
            if (dropped := queue.push(number, flows)) is not None:
                del waiting[dropped]
                served_since.pop(dropped, None)
            if is_first and number in waiting:
                served_since[number] = []
        elif step == "pop" and (item := queue.pop()) is not None:
            flows = waiting.pop(item)
            served_since.pop(item, None)
            for before in served_since.values():
                before.extend(flows)
        elif step == "remove" and waiting:
            item = next(iter(waiting))
            assert queue.remove(item)
            del waiting[item]
            served_since.pop(item, None)
        assert len(queue) == len(waiting) <= 12
        for before in served_since.values():
            assert all(before.count(flow) <= 2 for flow in before)
    while (rest := queue.pop()) is not None:
        del waiting[rest]
    assert not waiting
