"""What every store of counts must do: one suite for all of them, given by inheritance like `StoreContract`."""

import asyncio

import pytest

from gatekeeper.core.attempts import Limit, Tally, account_key, address_key
from gatekeeper.stores.attempts import Attempts

NOW_MS = 1_790_000_000_123
LIMIT = Limit(5, 60_000)
ENDS_MS = NOW_MS + 60_000
ADDRESS = address_key("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")
ACCOUNT = account_key("ada@example.test")


class AttemptsContract:
    """The tests.  A subclass has a fixture `attempts`, and perhaps `other_attempts`: another process's view of it."""

    @pytest.fixture
    def attempts(self) -> Attempts:
        raise NotImplementedError

    @pytest.fixture
    def other_attempts(self, attempts: Attempts) -> Attempts:
        return attempts

    async def test_nothing_is_known_at_first(self, attempts: Attempts) -> None:
        assert dict(await attempts.read([ADDRESS, ACCOUNT])) == {}

    async def test_no_keys_are_no_question(self, attempts: Attempts) -> None:
        assert dict(await attempts.read([])) == {}
        assert dict(await attempts.note([], LIMIT, NOW_MS)) == {}

    async def test_each_key_counts_by_itself(self, attempts: Attempts, other_attempts: Attempts) -> None:
        first = await attempts.note([ADDRESS, ACCOUNT], LIMIT, NOW_MS)
        assert dict(first) == {ADDRESS: Tally(1, ENDS_MS), ACCOUNT: Tally(1, ENDS_MS)}
        second = await other_attempts.note([ADDRESS], LIMIT, NOW_MS + 5)
        assert dict(second) == {ADDRESS: Tally(2, ENDS_MS)}
        seen = await attempts.read([ADDRESS, ACCOUNT, "account:another"])
        assert dict(seen) == {ADDRESS: Tally(2, ENDS_MS), ACCOUNT: Tally(1, ENDS_MS)}

    async def test_beyond_the_limit_it_goes_on_counting(self, attempts: Attempts) -> None:
        counts = [(await attempts.note([ACCOUNT], Limit(1, 60_000), NOW_MS))[ACCOUNT].count for _ in range(3)]
        assert counts == [1, 2, 3]

    @pytest.mark.parametrize(("later_ms", "count"), [(59_999, 3), (60_000, 1), (60_001, 1)])
    async def test_a_window_ends(self, attempts: Attempts, later_ms: int, count: int) -> None:
        for _ in range(2):
            await attempts.note([ACCOUNT], LIMIT, NOW_MS)
        tally = (await attempts.note([ACCOUNT], LIMIT, NOW_MS + later_ms))[ACCOUNT]
        assert tally == Tally(count, ENDS_MS if count > 1 else NOW_MS + later_ms + 60_000)

    async def test_of_many_at_once_each_finds_another_count(self, attempts: Attempts, other_attempts: Attempts) -> None:
        both = [attempts, other_attempts]
        noted = await asyncio.gather(*(both[n % 2].note([ADDRESS, ACCOUNT], LIMIT, NOW_MS) for n in range(20)))
        for key in (ADDRESS, ACCOUNT):
            assert sorted(tallies[key].count for tallies in noted) == list(range(1, 21))

    async def test_a_try_is_taken_back(self, attempts: Attempts, other_attempts: Attempts) -> None:
        for _ in range(2):
            await attempts.note([ACCOUNT, ADDRESS], LIMIT, NOW_MS)
        await other_attempts.take_back(ACCOUNT, ENDS_MS)
        seen = await attempts.read([ACCOUNT, ADDRESS])
        assert dict(seen) == {ACCOUNT: Tally(1, ENDS_MS), ADDRESS: Tally(2, ENDS_MS)}

    async def test_but_not_of_another_window_nor_one_that_is_not(self, attempts: Attempts) -> None:
        await attempts.note([ACCOUNT], LIMIT, NOW_MS)
        await attempts.take_back(ACCOUNT, ENDS_MS - 1)
        await attempts.take_back(ADDRESS, ENDS_MS)
        assert dict(await attempts.read([ACCOUNT, ADDRESS])) == {ACCOUNT: Tally(1, ENDS_MS)}

    async def test_less_than_none_is_not_counted(self, attempts: Attempts) -> None:
        await attempts.note([ACCOUNT], LIMIT, NOW_MS)
        for _ in range(3):
            await attempts.take_back(ACCOUNT, ENDS_MS)
        assert (await attempts.note([ACCOUNT], LIMIT, NOW_MS))[ACCOUNT] == Tally(1, ENDS_MS)

    async def test_what_is_forgotten_begins_anew(self, attempts: Attempts, other_attempts: Attempts) -> None:
        await attempts.note([ACCOUNT, ADDRESS], LIMIT, NOW_MS)
        await other_attempts.forget(ACCOUNT)
        await other_attempts.forget("account:another")
        assert dict(await attempts.read([ACCOUNT, ADDRESS])) == {ADDRESS: Tally(1, ENDS_MS)}
        assert (await attempts.note([ACCOUNT], LIMIT, NOW_MS + 7))[ACCOUNT] == Tally(1, ENDS_MS + 7)
