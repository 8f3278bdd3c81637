"""`stores.breaker`: who is told at once, who tries, and when all is well again."""

import asyncio
from collections.abc import Sequence

import pytest

from gatekeeper.core.errors import StoreLimited, StoreUnavailable
from gatekeeper.core.model import SessionToken
from gatekeeper.stores.breaker import FAILURES, PAUSE_S, Breaker
from gatekeeper.stores.protocol import StoreIncomplete
from tests.core.records import record

TOKEN = SessionToken("token")
FOUND = record({})


class Store:
    """Answers, or fails with `cause`; counts what it is asked.  With `held`, answers wait for it."""

    def __init__(self) -> None:
        self.cause: str | None = None
        self.limits: set[str | None] = set()
        self.unknown: set[SessionToken] = set()
        self.addresses: list[str | None] = []
        self.reads = 0
        self.closed = 0
        self.held: asyncio.Event | None = None

    async def read_session(self, token: SessionToken, client_address: str | None = None) -> object:
        self.reads += 1
        self.addresses.append(client_address)
        if self.held is not None:
            await self.held.wait()
        await self.check()
        if client_address in self.limits:
            raise StoreLimited("app: 429")
        return FOUND

    recheck_s = 30.0

    async def read_sessions(self, tokens: Sequence[SessionToken]) -> dict[SessionToken, object]:
        self.reads += 1
        await self.check()
        if self.unknown:
            raise StoreIncomplete("app: 429", {}, self.unknown)
        return dict.fromkeys(tokens, FOUND)

    async def check(self) -> None:
        if self.cause is not None:
            raise StoreUnavailable(self.cause)

    async def close(self) -> None:
        self.closed += 1


class Bench:
    def __init__(self) -> None:
        self.now = 100.0
        self.store = Store()
        self.breaker = Breaker(self.store, lambda: self.now)  # type: ignore[arg-type]

    async def fail(self, times: int = 1) -> str:
        """What the last of so many reads is told."""
        for _ in range(times):
            with pytest.raises(StoreUnavailable) as caught:
                await self.breaker.read_session(TOKEN)
        return str(caught.value)

    async def break_down(self) -> None:
        self.store.cause = "db: gone"
        await self.fail(FAILURES)
        self.store.reads = 0


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_store_that_answers_is_asked_each_time(bench: Bench) -> None:
    for _ in range(20):
        assert await bench.breaker.read_session(TOKEN) is FOUND
    assert bench.store.reads == 20


async def test_few_failures_change_nothing(bench: Bench) -> None:
    for _ in range(3):
        bench.store.cause = "db: gone"
        await bench.fail(FAILURES - 1)
        bench.store.cause = None
        assert await bench.breaker.read_session(TOKEN) is FOUND
    assert bench.store.reads == 3 * FAILURES


async def test_a_store_that_is_down_is_left_alone_for_a_while(bench: Bench) -> None:
    await bench.break_down()
    assert await bench.fail(10) == "db: gone"
    assert bench.store.reads == 0
    bench.now += PAUSE_S
    bench.store.cause = "db: starting"
    assert await bench.fail(10) == "db: starting"
    assert bench.store.reads == 1, "one tried, and the others are told what it found"


async def test_one_success_and_all_ask_again(bench: Bench) -> None:
    await bench.break_down()
    bench.store.cause = None
    bench.now += PAUSE_S
    for _ in range(5):
        assert await bench.breaker.read_session(TOKEN) is FOUND
    assert bench.store.reads == 5


async def test_while_one_tries_the_others_do_not_wait(bench: Bench) -> None:
    await bench.break_down()
    bench.now += PAUSE_S
    bench.store.held = asyncio.Event()
    trying = asyncio.ensure_future(bench.breaker.read_session(TOKEN))
    await asyncio.sleep(0)
    assert await bench.fail(5) == "db: gone"
    assert bench.store.reads == 1
    bench.store.cause = None
    bench.store.held.set()
    assert await trying is FOUND
    assert await bench.breaker.read_session(TOKEN) is FOUND


async def test_who_tries_and_leaves_is_followed_by_another(bench: Bench) -> None:
    await bench.break_down()
    bench.now += PAUSE_S
    bench.store.held = asyncio.Event()
    trying = asyncio.ensure_future(bench.breaker.read_session(TOKEN))
    await asyncio.sleep(0)
    trying.cancel()
    await asyncio.wait((trying,))
    await bench.fail()
    assert bench.store.reads == 1
    bench.store.cause = bench.store.held = None
    bench.now += PAUSE_S
    assert await bench.breaker.read_session(TOKEN) is FOUND


async def test_a_check_asks_in_any_case_and_ends_the_pause(bench: Bench) -> None:
    await bench.break_down()
    with pytest.raises(StoreUnavailable, match="db: gone"):
        await bench.breaker.check()
    bench.store.cause = None
    await bench.breaker.check()
    assert await bench.breaker.read_session(TOKEN) is FOUND


async def test_reads_of_several_count_as_well(bench: Bench) -> None:
    assert bench.breaker.recheck_s == 30.0
    assert await bench.breaker.read_sessions([TOKEN]) == {TOKEN: FOUND}
    bench.store.cause = "db: gone"
    for _ in range(FAILURES):
        with pytest.raises(StoreUnavailable):
            await bench.breaker.read_sessions([TOKEN])
    bench.store.reads = 0
    await bench.fail()
    with pytest.raises(StoreUnavailable):
        await bench.breaker.read_sessions([TOKEN])
    assert bench.store.reads == 0


async def test_a_store_that_says_something_of_several_is_well(bench: Bench) -> None:
    bench.store.unknown = {TOKEN}
    for _ in range(2 * FAILURES):
        with pytest.raises(StoreIncomplete):
            await bench.breaker.read_sessions([TOKEN])
    assert bench.store.reads == 2 * FAILURES


async def test_the_address_is_passed_on(bench: Bench) -> None:
    await bench.breaker.read_session(TOKEN, "203.0.113.7")
    await bench.breaker.read_session(TOKEN)
    assert bench.store.addresses == ["203.0.113.7", None]


async def test_a_visitor_who_is_refused_takes_nobody_along(bench: Bench) -> None:
    """The store answers: that it has had enough of one address says nothing of the others."""
    bench.store.limits.add("203.0.113.7")
    for _ in range(3 * FAILURES):
        with pytest.raises(StoreLimited):
            await bench.breaker.read_session(TOKEN, "203.0.113.7")
    assert await bench.breaker.read_session(TOKEN, "203.0.113.8") is FOUND
    assert len(bench.store.addresses) == 3 * FAILURES + 1


async def test_closing_closes_the_store(bench: Bench) -> None:
    await bench.breaker.close()
    assert bench.store.closed == 1
