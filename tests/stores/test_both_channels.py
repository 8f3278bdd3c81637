"""`stores.feeds.both`: two channels as one."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gatekeeper.core.errors import MissingTable, StoreUnavailable
from gatekeeper.stores.feeds.both import LOOK_AGAIN_TURNS, BothChannels
from gatekeeper.stores.feeds.feed import Changes, FeedNotSetUp


class Nobody:
    """A Changes that is only passed on."""

    def session_changed(self, digest: bytes) -> None: ...

    def user_changed(self, digest: bytes) -> None: ...

    def all_changed(self) -> None: ...


class FakeChannel:
    """Does what `when_opened` and `when_turned` do, and counts."""

    def __init__(self, label: str, *, names_all: bool = True) -> None:
        self.label = label
        self.interval_s = 0.25
        self.names_all = names_all
        self.changes: Changes | None = None
        self.is_open = False
        self.turns = 0
        self.when_opened: Callable[[], Awaitable[None]] = _done
        self.when_turned: Callable[[], Awaitable[None]] = _done

    async def open(self, changes: Changes) -> None:
        self.changes = changes
        self.is_open = True
        await self.when_opened()

    async def turn(self) -> None:
        assert self.is_open
        self.turns += 1
        await self.when_turned()

    async def close(self) -> None:
        self.is_open = False


async def _done() -> None:
    pass


def fails(error: Exception) -> Callable[[], Awaitable[None]]:
    async def fail() -> None:
        raise error

    return fail


async def never() -> None:
    await asyncio.Event().wait()


async def turn(both: BothChannels, times: int) -> None:
    for _ in range(times):
        await both.turn()


async def open_and_turn(both: BothChannels, times: int) -> None:
    await both.open(Nobody())
    await turn(both, times)


@pytest.fixture
def front() -> FakeChannel:
    return FakeChannel("redis")


@pytest.fixture
def behind() -> FakeChannel:
    return FakeChannel("sqlite")


@pytest.fixture
def both(front: FakeChannel, behind: FakeChannel) -> BothChannels:
    return BothChannels(front, behind)


async def test_both_are_opened_turned_and_closed(both: BothChannels, front: FakeChannel, behind: FakeChannel) -> None:
    changes = Nobody()
    await both.open(changes)
    assert front.changes is changes
    assert behind.changes is changes
    await both.turn()
    assert (front.turns, behind.turns) == (1, 1)
    await both.close()
    assert not front.is_open
    assert not behind.is_open
    assert both.label == "redis and sqlite"


@pytest.mark.parametrize("front_does", [False, True])
@pytest.mark.parametrize("behind_does", [False, True])
async def test_all_are_named_where_both_name_all(front_does: bool, behind_does: bool) -> None:
    both = BothChannels(FakeChannel("a", names_all=front_does), FakeChannel("b", names_all=behind_does))
    await both.open(Nobody())
    assert both.names_all is (front_does and behind_does)


async def test_they_go_on_at_the_same_time(both: BothChannels, front: FakeChannel, behind: FakeChannel) -> None:
    """Each one waits for the other."""
    barrier = asyncio.Barrier(2)

    async def meet() -> None:
        await barrier.wait()

    front.when_opened = behind.when_opened = front.when_turned = behind.when_turned = meet
    await both.open(Nobody())
    await both.turn()


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), FeedNotSetUp("no triggers")], ids=repr)
@pytest.mark.parametrize("failing", ["front", "behind"])
@pytest.mark.parametrize("when", ["when_opened", "when_turned"])
@pytest.mark.parametrize("other", [never, _done])
async def test_one_that_fails_closes_both(
    both: BothChannels,
    front: FakeChannel,
    behind: FakeChannel,
    error: Exception,
    failing: str,
    when: str,
    other: Callable[[], Awaitable[None]],
) -> None:
    one, two = (front, behind) if failing == "front" else (behind, front)
    setattr(one, when, fails(error))
    setattr(two, when, other)
    with pytest.raises(type(error), match=str(error)):
        await open_and_turn(both, 1)
    assert not front.is_open
    assert not behind.is_open


async def test_two_that_fail_are_one_error(both: BothChannels, front: FakeChannel, behind: FakeChannel) -> None:
    front.when_opened = fails(StoreUnavailable("front"))
    behind.when_opened = fails(StoreUnavailable("behind"))
    with pytest.raises(StoreUnavailable, match="front"):
        await both.open(Nobody())


@pytest.mark.parametrize("when", ["when_opened", "when_turned"])
async def test_cancelling_closes_both(both: BothChannels, front: FakeChannel, behind: FakeChannel, when: str) -> None:
    setattr(front, when, never)
    setattr(behind, when, never)
    task = asyncio.ensure_future(open_and_turn(both, 1))
    for _ in range(10):
        await asyncio.sleep(0)
    assert front.is_open
    assert behind.is_open
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not front.is_open
    assert not behind.is_open


async def test_without_a_table_only_the_front_counts(
    both: BothChannels, front: FakeChannel, behind: FakeChannel
) -> None:
    behind.names_all = False
    behind.when_opened = fails(MissingTable("no table"))
    await both.open(Nobody())
    assert both.names_all is True
    assert not behind.is_open
    await turn(both, 3 * LOOK_AGAIN_TURNS)
    assert (front.turns, behind.turns) == (3 * LOOK_AGAIN_TURNS, 0)
    assert front.is_open
    assert not behind.is_open


async def test_a_table_that_turns_up_is_found(both: BothChannels, front: FakeChannel, behind: FakeChannel) -> None:
    behind.when_opened = fails(MissingTable("no table"))
    await both.open(Nobody())
    behind.when_opened = _done
    with pytest.raises(StoreUnavailable, match="sqlite: there is a table of sessions now"):
        await turn(both, LOOK_AGAIN_TURNS)
    assert not front.is_open
    assert not behind.is_open
    await both.open(Nobody())
    await both.turn()
    assert behind.turns == 1


async def test_a_table_that_turns_up_without_triggers_is_not_set_up(
    both: BothChannels, front: FakeChannel, behind: FakeChannel
) -> None:
    behind.when_opened = fails(MissingTable("no table"))
    await both.open(Nobody())
    behind.when_opened = fails(FeedNotSetUp("no triggers"))
    with pytest.raises(FeedNotSetUp):
        await turn(both, LOOK_AGAIN_TURNS)
    assert not front.is_open


async def test_a_front_without_a_table_is_an_outage(both: BothChannels, front: FakeChannel) -> None:
    """It is no database."""
    front.when_opened = fails(MissingTable("odd"))
    with pytest.raises(MissingTable):
        await both.open(Nobody())
