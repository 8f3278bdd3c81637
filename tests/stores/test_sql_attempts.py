"""Counts of tries in a database: the same as `core.attempts` has them, whoever asks, on real ones."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from gatekeeper.core.attempts import Limit, Tally, account_key, address_key, device_key
from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.stores.attempts import Attempts, MemoryAttempts
from gatekeeper.stores.opening_accounts import open_accounts
from gatekeeper.stores.sql_accounts import SqlAccounts
from gatekeeper.stores.sql_attempts import SWEEP_MS, SqlAttempts
from gatekeeper.stores.transactions import in_transaction
from tests.better_auth_db import execute
from tests.stores.account_places import AccountPlace
from tests.stores.opening import settings_on
from tests.stores.test_sql_accounts import PLACES

NOW_MS = 1_790_000_000_123
LIMIT = Limit(5, 60_000)
OpenAttempts = Callable[[], SqlAttempts]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "auth.db"


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest, path: Path) -> AccountPlace:
    found = PLACES[request.param](request, path)
    await found.create("core")
    return found


@pytest.fixture
async def open_attempts(place: AccountPlace) -> AsyncIterator[OpenAttempts]:
    opened: list[SqlAccounts] = []

    def open_one() -> SqlAttempts:
        accounts, attempts = open_accounts(settings_on(place.url))
        opened.append(accounts)
        return attempts

    yield open_one
    for accounts in opened:
        await accounts.close()


@pytest.fixture
def attempts(open_attempts: OpenAttempts) -> SqlAttempts:
    return open_attempts()


async def test_tries_are_counted_by_key(attempts: SqlAttempts) -> None:
    assert await attempts.read(["a", "b"]) == {}
    end_ms = NOW_MS + LIMIT.per_ms
    assert await attempts.note(["a", "b"], LIMIT, NOW_MS) == {"a": Tally(1, end_ms), "b": Tally(1, end_ms)}
    assert await attempts.note(["b"], LIMIT, NOW_MS + 5) == {"b": Tally(2, end_ms)}
    assert await attempts.read(["a", "b", "c"]) == {"a": Tally(1, end_ms), "b": Tally(2, end_ms)}


async def test_another_process_sees_the_same(attempts: SqlAttempts, open_attempts: OpenAttempts) -> None:
    await attempts.note(["a"], LIMIT, NOW_MS)
    other = open_attempts()
    assert await other.read(["a"]) == {"a": Tally(1, NOW_MS + LIMIT.per_ms)}
    await other.note(["a"], LIMIT, NOW_MS)
    await other.forget("a")
    assert await attempts.read(["a"]) == {}


async def test_a_window_that_has_ended_begins_anew(attempts: SqlAttempts) -> None:
    await attempts.note(["a"], LIMIT, NOW_MS)
    end_ms = NOW_MS + LIMIT.per_ms
    assert await attempts.note(["a"], LIMIT, end_ms - 1) == {"a": Tally(2, end_ms)}
    assert await attempts.note(["a"], LIMIT, end_ms) == {"a": Tally(1, end_ms + LIMIT.per_ms)}


async def test_a_try_is_taken_back_from_its_own_window_alone(attempts: SqlAttempts) -> None:
    await attempts.note(["a"], LIMIT, NOW_MS)
    end_ms = NOW_MS + LIMIT.per_ms
    await attempts.take_back("a", end_ms - 1)
    await attempts.take_back("b", end_ms)
    assert await attempts.read(["a"]) == {"a": Tally(1, end_ms)}
    for _ in range(2):
        await attempts.take_back("a", end_ms)
        assert await attempts.read(["a"]) == {"a": Tally(0, end_ms)}


async def test_a_count_is_forgotten(attempts: SqlAttempts) -> None:
    await attempts.note(["a", "b"], LIMIT, NOW_MS)
    await attempts.forget("a")
    await attempts.forget("a")
    assert (await attempts.read(["a", "b"])).keys() == {"b"}


async def test_none_of_many_at_once_is_lost(place: AccountPlace, open_attempts: OpenAttempts) -> None:
    """Each takes the keys in another order, and none waits for another for ever."""
    several = [open_attempts() for _ in range(3)]
    keys = ["a", "b", "c"]
    noted = await asyncio.gather(
        *(several[number % 3].note(keys[number % 3 :] + keys[: number % 3], LIMIT, NOW_MS) for number in range(12))
    )
    for key in keys:
        assert sorted(tallies[key].count for tallies in noted) == list(range(1, 13))
    assert {row["count"] for row in await place.rows("gatekeeper_attempt")} == {12}


async def test_of_one_key_at_once_each_try_finds_another_count(attempts: SqlAttempts) -> None:
    noted = await asyncio.gather(*(attempts.note(["a", f"b{number}"], LIMIT, NOW_MS) for number in range(250)))
    assert [tallies["a"].count for tallies in noted] == list(range(1, 251))
    assert all(tallies[f"b{number}"].count == 1 for number, tallies in enumerate(noted))
    assert await attempts.read(["a"]) == {"a": Tally(250, NOW_MS + LIMIT.per_ms)}


async def test_windows_that_have_ended_begin_anew_once_for_all_at_once(attempts: SqlAttempts) -> None:
    await attempts.note(["a"], LIMIT, NOW_MS)
    later_ms = NOW_MS + LIMIT.per_ms
    noted = await asyncio.gather(*(attempts.note(["a"], LIMIT, later_ms) for _ in range(3)))
    assert [tallies["a"] for tallies in noted] == [Tally(count, later_ms + LIMIT.per_ms) for count in (1, 2, 3)]


async def test_changes_at_once_are_all_made(attempts: SqlAttempts) -> None:
    await asyncio.gather(*(attempts.note(["a", "b", "c"], LIMIT, NOW_MS) for _ in range(3)))
    end_ms = NOW_MS + LIMIT.per_ms
    taking = [attempts.take_back("a", end_ms), attempts.take_back("b", end_ms - 1), attempts.take_back("a", end_ms)]
    await asyncio.gather(attempts.forget("c"), *taking)
    assert await attempts.read(["a", "b", "c"]) == {"a": Tally(1, end_ms), "b": Tally(3, end_ms)}


async def test_many_at_once_are_few_transactions(attempts: SqlAttempts, monkeypatch: pytest.MonkeyPatch) -> None:
    transactions: list[Connection] = []

    def counting(connection: Connection, work: Callable[[Connection], Any]) -> Any:
        transactions.append(connection)
        return in_transaction(connection, work)

    monkeypatch.setattr("gatekeeper.stores.sql_attempts.in_transaction", counting)
    await asyncio.gather(*(attempts.note([f"a{number}"], LIMIT, NOW_MS) for number in range(300)))
    assert len(transactions) == 4  # three groups, and the removal of what has ended
    await asyncio.gather(*(attempts.forget(f"a{number}") for number in range(100)))
    assert len(transactions) == 5
    assert await attempts.read([f"a{number}" for number in range(100)]) == {}


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("journal", "level"), [("wal", 1), ("delete", 2)])
async def test_counts_spare_the_disk_where_the_file_is_safe(
    attempts: SqlAttempts, path: Path, monkeypatch: pytest.MonkeyPatch, journal: str, level: int
) -> None:
    """1 is NORMAL, 2 FULL."""
    execute(path, f"pragma journal_mode = {journal}")
    levels: list[int] = []

    def looking(connection: Connection, work: Callable[[Connection], Any]) -> Any:
        def look(within: Connection) -> Any:
            levels.append(within.exec_driver_sql("pragma synchronous").scalar_one())
            return work(within)

        return in_transaction(connection, look)

    monkeypatch.setattr("gatekeeper.stores.sql_attempts.in_transaction", looking)
    await attempts.note(["a"], LIMIT, NOW_MS)
    await attempts.forget("a")
    assert levels == [level] * 3


async def test_ended_windows_are_removed_now_and_then(place: AccountPlace, attempts: SqlAttempts) -> None:
    short = Limit(5, 10)
    await attempts.note(["a"], short, NOW_MS)
    await attempts.note(["b"], LIMIT, NOW_MS + 10)
    assert await place.count("gatekeeper_attempt") == 2
    await attempts.note(["c"], LIMIT, NOW_MS + SWEEP_MS)
    assert sorted(row["name"] for row in await place.rows("gatekeeper_attempt")) == ["b", "c"]


async def test_keys_of_every_kind_have_room(attempts: SqlAttempts) -> None:
    keys = [account_key("a" * 999), address_key("2001:db8::1"), address_key("x" * 999), device_key("d" * 22)]
    assert (await attempts.note(keys, LIMIT, NOW_MS)).keys() == set(keys)


async def test_it_counts_as_memory_does(attempts: SqlAttempts) -> None:
    async def story(counts: Attempts) -> list[object]:
        found: list[object] = []
        for at_ms in (0, 1, 59_999, 60_000, 60_001, 200_000):
            found.append(dict(await counts.note(["a", "b"], LIMIT, NOW_MS + at_ms)))
            await counts.take_back("b", NOW_MS + 60_000)
        await counts.forget("a")
        return [*found, dict(await counts.read(["a", "b"]))]

    assert await story(attempts) == await story(MemoryAttempts())


async def test_without_the_table_no_try_goes_uncounted(place: AccountPlace, attempts: SqlAttempts) -> None:
    await place.execute("drop table gatekeeper_attempt")
    for work in (attempts.read(["a"]), attempts.note(["a"], LIMIT, NOW_MS), attempts.forget("a")):
        with pytest.raises(StoreUnavailable, match="gatekeeper_attempt"):
            await work


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_a_file_that_may_not_be_written_counts_nothing(place: AccountPlace, path: Path) -> None:
    execute(path, "create trigger full before insert on gatekeeper_attempt begin select raise(abort, 'no'); end")
    accounts, attempts = open_accounts(settings_on(place.url))
    with pytest.raises(StoreUnavailable, match="no"):
        await attempts.note(["a"], LIMIT, NOW_MS)
    await accounts.close()
    assert await place.count("gatekeeper_attempt") == 0
