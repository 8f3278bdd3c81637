"""Counts of tries in this process's memory."""

import pytest

from gatekeeper.stores.attempts import Attempts, MemoryAttempts
from tests.stores.attempts_contract import LIMIT, NOW_MS, AttemptsContract


class TestMemoryAttempts(AttemptsContract):
    @pytest.fixture
    def attempts(self) -> Attempts:
        return MemoryAttempts()


async def test_windows_that_have_ended_are_dropped() -> None:
    attempts = MemoryAttempts()
    for number in range(100):
        await attempts.note([f"account:{number}"], LIMIT, NOW_MS + number)
    await attempts.note(["account:100"], LIMIT, NOW_MS + 60_049)
    assert len(attempts) == 51


async def test_when_there_are_too_many_the_window_that_began_first_gives_way() -> None:
    attempts = MemoryAttempts(most_keys=2)
    for number in range(3):
        await attempts.note([f"account:{number}"], LIMIT, NOW_MS)
    assert set(await attempts.read(f"account:{number}" for number in range(3))) == {"account:1", "account:2"}
