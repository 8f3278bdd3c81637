"""Work done in groups: who is in which, whose result is whose, and what becomes of those who give up."""

import asyncio
from collections.abc import Sequence

import pytest

from gatekeeper.stores.grouping import Grouped


class Work:
    """Doubles numbers, when it is let; `groups` are those that it was given."""

    def __init__(self, most: int = 100) -> None:
        self.groups: list[list[int]] = []
        self.gate = asyncio.Semaphore(0)
        self.error: Exception | None = None
        self.running = 0
        self.grouped = Grouped(self._double, most)

    def ask(self, *numbers: int) -> list[asyncio.Task[int]]:
        return [asyncio.create_task(self.grouped.do(number)) for number in numbers]

    async def until_groups(self, count: int) -> None:
        while len(self.groups) < count:  # noqa: ASYNC110 - turns of the loop, not time
            await asyncio.sleep(0)

    async def _double(self, numbers: Sequence[int]) -> list[int]:
        assert self.running == 0
        self.running += 1
        self.groups.append(list(numbers))
        try:
            await self.gate.acquire()
            if self.error is not None:
                raise self.error
            return [2 * number for number in numbers]
        finally:
            self.running -= 1


@pytest.fixture
async def work() -> Work:
    return Work()


async def test_what_comes_at_once_is_one_group_and_each_has_its_result(work: Work) -> None:
    asked = work.ask(1, 2, 3)
    await work.until_groups(1)
    work.gate.release()
    assert await asyncio.gather(*asked) == [2, 4, 6]
    assert work.groups == [[1, 2, 3]]


async def test_what_comes_while_a_group_is_done_is_the_next_one(work: Work) -> None:
    first = work.ask(1)
    await work.until_groups(1)
    later = work.ask(2, 3)
    await asyncio.sleep(0)
    later += work.ask(4)
    await asyncio.sleep(0)
    work.gate.release()
    assert await asyncio.gather(*first) == [2]
    await work.until_groups(2)
    work.gate.release()
    assert await asyncio.gather(*later) == [4, 6, 8]
    assert work.groups == [[1], [2, 3, 4]]


async def test_a_group_has_so_many_at_most() -> None:
    work = Work(most=2)
    for _ in range(3):
        work.gate.release()
    assert await asyncio.gather(*work.ask(1, 2, 3, 4, 5)) == [2, 4, 6, 8, 10]
    assert work.groups == [[1, 2], [3, 4], [5]]


async def test_an_error_is_its_group_s_alone(work: Work) -> None:
    failing = work.ask(1, 2)
    await work.until_groups(1)
    later = work.ask(3)
    await asyncio.sleep(0)
    work.error = ValueError("no")
    work.gate.release()
    assert [type(error) for error in await asyncio.gather(*failing, return_exceptions=True)] == [ValueError] * 2
    work.error = None
    work.gate.release()
    assert await asyncio.gather(*later) == [6]


async def test_who_gives_up_leaves_the_others_what_is_theirs(work: Work) -> None:
    first, second = work.ask(1, 2)
    await work.until_groups(1)
    waiting, third = work.ask(3, 4)
    await asyncio.sleep(0)
    for gone in (first, waiting):
        gone.cancel()
    for _ in range(2):
        work.gate.release()
    assert await asyncio.gather(second, third) == [4, 8]
    assert work.groups == [[1, 2], [3, 4]]


async def test_an_error_that_nobody_waits_for_is_forgiven(work: Work) -> None:
    (gone,) = work.ask(1)
    await work.until_groups(1)
    gone.cancel()
    work.error = ValueError("no")
    work.gate.release()
    (later,) = work.ask(2)
    work.gate.release()
    with pytest.raises(ValueError, match="no"):
        await later
