"""`stores.cache` with a feed: how old a session may get while the lease is held, and without."""

import pytest

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.stores.cache import UNFED_AGE_S
from gatekeeper.stores.feeds.feed import digest_of
from gatekeeper.stores.lease import LOST_S, Lease
from tests.stores.test_cache import Setting, turn


class Fed(Setting):
    """A cache whose lease is in the test's hands."""

    def __init__(self, max_age_s: float = 300.0, stale_s: float = 0.0) -> None:
        self.lease = Lease()
        super().__init__(max_age_s=max_age_s, lease=self.lease, stale_s=stale_s, entries=10)

    def markers(self, seconds: float) -> None:
        """So long, markers come back."""
        for _ in range(round(seconds / 0.25)):
            self.now += 0.25
            self.lease.renew(self.now)


async def test_without_a_lease_a_session_is_believed_for_a_second() -> None:
    s = Fed()
    record = s.store.put("a")
    assert await s.get("a") is record
    s.now += UNFED_AGE_S - 0.01
    assert s.peek("a") is record
    s.now += 0.01
    assert s.peek("a") is None


async def test_while_the_lease_is_held_it_is_believed_for_the_configured_age() -> None:
    s = Fed(max_age_s=300.0)
    record = s.store.put("a")
    s.lease.renew(s.now)
    await s.get("a")
    s.markers(299.75)
    assert s.peek("a") is record
    s.markers(0.25)
    assert s.peek("a") is None


async def test_an_age_below_a_second_is_kept_with_and_without() -> None:
    s = Fed(max_age_s=0.5)
    s.store.put("a")
    s.lease.renew(s.now)
    await s.get("a")
    s.now += 0.5
    assert s.peek("a") is None


async def test_a_lease_that_runs_out_leaves_only_what_is_younger_than_a_second() -> None:
    s = Fed()
    for token in ("old", "new"):
        s.store.put(token)
    await s.get("old")
    s.markers(10)
    await s.get("new")
    s.now += LOST_S
    assert s.peek("old") is None
    assert s.peek("new") is not None
    s.now += UNFED_AGE_S - LOST_S
    assert s.peek("new") is None


async def test_after_a_pause_without_markers_what_was_not_asked_for_is_believed_again() -> None:
    s = Fed()
    record = s.store.put("a")
    await s.get("a")
    s.markers(10)
    s.now += 5
    s.lease.renew(s.now)
    assert s.peek("a") is record, "the channel was slow, and has told nothing of it"


async def test_a_change_is_told_by_the_hash_of_token_and_user() -> None:
    s = Fed()
    for token, user in (("a", "ada"), ("b", "ada"), ("c", "bob"), ("d", "bob")):
        s.store.put(token, user)
    for token in "abcd":
        await s.get(token)
    s.cache.session_changed(digest_of("c"))
    assert [s.peek(token) is not None for token in "abcd"] == [True, True, False, True]
    s.cache.user_changed(digest_of("ada"))
    assert [s.peek(token) is not None for token in "abcd"] == [False, False, False, True]
    s.cache.all_changed()
    assert [s.peek(token) is not None for token in "abcd"] == [False] * 4
    assert s.cache.size == 0


async def test_who_doubts_has_reads_under_way_done_again() -> None:
    s = Fed()
    s.store.held = True
    first = s.store.put("a")
    task = await s.begin("a")
    second = s.store.put("a", version=1)
    s.cache.doubt_reads()
    s.store.release()
    await turn()
    s.store.release()
    assert await task is second is not first
    assert s.store.reads == ["a", "a"]


async def test_what_is_remembered_is_known_believed_or_not() -> None:
    s = Fed()
    s.store.put("a")
    await s.get("a")
    s.now += 100
    assert s.cache.tokens() == ["a"]
    assert s.cache.remembers(s.cache.tokens()[0])
    assert s.peek("a") is None
    assert s.cache.tokens() == []


@pytest.mark.parametrize("held", [True, False])
async def test_a_time_without_a_store_stretches_from_the_moment_when_it_was_no_longer_believed(held: bool) -> None:
    s = Fed(stale_s=60.0)
    record = s.store.put("a")
    await s.get("a")
    if held:
        s.markers(100)
    s.store.error = StoreUnavailable("gone")
    s.now += 60.0 + (LOST_S if held else UNFED_AGE_S) - 0.01
    assert await s.get("a") is record
    s.now += 0.02
    with pytest.raises(StoreUnavailable):
        await s.get("a")
