"""Who may try a password: accounts, addresses and devices, by a clock in hand."""

import pytest

from gatekeeper.core.attempts import Limit, account_key, device_cookie
from gatekeeper.core.cookies import Keys
from gatekeeper.server.throttle import Admitted, Throttle, Wait
from gatekeeper.stores.attempts import MemoryAttempts

NOW_MS = 1_790_000_000_123
KEYS = Keys(["a-secret-of-the-tests"])
ADA = "ada@example.test"
HOME = "192.0.2.1"


class Door:
    """A throttle of three tries a minute, and those who come to it."""

    def __init__(self) -> None:
        self.throttle = Throttle(MemoryAttempts(), Limit(3, 60_000))
        self.now_ms = NOW_MS
        self._addresses = 0

    async def comes(
        self, email: str | None = ADA, *, address: str | None = None, device: str | None = None
    ) -> Admitted | Wait:
        """A try, from an address that nobody had before unless one is named."""
        self._addresses += 1
        address = address or f"10.0.{self._addresses // 256}.{self._addresses % 256}"
        return await self.throttle.admit(address, email, device_cookie=device, keys=KEYS, now_ms=self.now_ms)

    async def is_wrong(self, email: str | None = ADA, *, address: str | None = None, device: str | None = None) -> bool:
        """A try with a wrong password; whether it was let in."""
        return isinstance(await self.comes(email, address=address, device=device), Admitted)

    async def is_right(self, email: str | None = ADA, *, address: str | None = None, device: str | None = None) -> bool:
        """A try with the right one; whether it was let in."""
        admitted = await self.comes(email, address=address, device=device)
        if isinstance(admitted, Wait):
            return False
        await self.throttle.succeeded(admitted)
        return True


@pytest.fixture
def door() -> Door:
    return Door()


def device_of(email: str, number: int = 0) -> str:
    return device_cookie(None, account_key(email), KEYS, NOW_MS // 1000, lambda size: bytes([number]) * size)


async def test_so_many_tries_of_one_account_wherever_they_come_from(door: Door) -> None:
    assert [await door.is_wrong() for _ in range(5)] == [True, True, True, False, False]
    assert await door.comes() == Wait(60)
    assert await door.is_wrong("bob@example.test")


async def test_so_many_tries_of_one_address_whatever_account_they_are_for(door: Door) -> None:
    let_in = [await door.is_wrong(f"user{number}@example.test", address=HOME) for number in range(5)]
    assert let_in == [True, True, True, False, False]
    assert await door.is_wrong("user0@example.test")


async def test_after_the_wait_that_was_told_it_is_let_in(door: Door) -> None:
    for _ in range(3):
        await door.is_wrong()
        door.now_ms += 700
    wait = await door.comes()
    assert wait == Wait(58)  # of 57.9 s
    door.now_ms += 57_000
    assert not await door.is_wrong()
    door.now_ms += 1_000
    assert await door.is_wrong()


async def test_who_is_refused_is_not_counted_at_the_address(door: Door) -> None:
    for _ in range(3):
        await door.is_wrong()
    for _ in range(10):
        assert not await door.is_wrong(address=HOME)
    assert await door.is_wrong("bob@example.test", address=HOME)


async def test_right_sign_ins_of_one_office_do_not_hold_it_up(door: Door) -> None:
    assert all([await door.is_right(f"user{number}@example.test", address=HOME) for number in range(30)])


async def test_whoever_has_an_account_cannot_clear_an_address_s_count_with_it(door: Door) -> None:
    guesses = 0
    for number in range(10):
        guesses += await door.is_wrong(f"user{number}@example.test", address=HOME)
        await door.is_right("mallory@example.test", address=HOME)
    assert guesses == 3


async def test_a_right_password_clears_the_account_s_count(door: Door) -> None:
    assert [await door.is_wrong(), await door.is_wrong()] == [True, True]
    assert await door.is_right()
    assert [await door.is_wrong() for _ in range(4)] == [True, True, True, False]


async def test_the_owner_s_device_is_not_locked_out_with_the_account(door: Door) -> None:
    while await door.is_wrong():
        pass
    assert not await door.is_right()
    assert await door.is_right(device=device_of(ADA))


async def test_and_does_not_open_the_account_to_others_again(door: Door) -> None:
    while await door.is_wrong():
        pass
    assert await door.is_right(device=device_of(ADA))
    assert not await door.is_wrong()


async def test_another_account_s_device_helps_nobody(door: Door) -> None:
    while await door.is_wrong():
        pass
    assert not await door.is_wrong(device=device_of("mallory@example.test"))


async def test_a_device_is_held_to_its_address_s_count(door: Door) -> None:
    for number in range(3):
        await door.is_wrong(f"user{number}@example.test", address=HOME)
    assert not await door.is_right(address=HOME, device=device_of(ADA))


async def test_a_stolen_device_cookie_does_not_guess_without_end(door: Door) -> None:
    device = device_of(ADA)
    assert [await door.is_wrong(device=device) for _ in range(5)] == [True, True, True, False, False]
    assert await door.is_right(device=device_of(ADA, 1))
    assert await door.is_wrong()


async def test_known_devices_have_a_line_of_their_own(door: Door) -> None:
    known = await door.comes(device=device_of(ADA))
    stranger = await door.comes()
    assert isinstance(known, Admitted)
    assert isinstance(stranger, Admitted)
    assert (known.line.is_known, stranger.line.is_known) == (True, False)
    assert stranger.line.account == account_key(ADA)


async def test_what_is_of_no_account_counts_for_its_address_alone(door: Door) -> None:
    assert [await door.is_wrong(None, address=HOME) for _ in range(4)] == [True, True, True, False]
    assert await door.is_right(None)
    admitted = await door.comes(None)
    assert isinstance(admitted, Admitted)
    assert admitted.line.account == ""


async def test_a_try_that_was_not_looked_at_counts_for_nobody(door: Door) -> None:
    for _ in range(10):
        admitted = await door.comes(address=HOME)
        assert isinstance(admitted, Admitted)
        await door.throttle.withdrawn(admitted)


async def test_of_tries_at_the_same_time_no_more_are_let_in() -> None:
    """Others may count between our reading and our counting."""

    class Stale(MemoryAttempts):
        async def read(self, keys):
            return {}

    throttle = Throttle(Stale(), Limit(3, 60_000))
    tries = [await throttle.admit(f"10.0.0.{n}", ADA, device_cookie=None, keys=KEYS, now_ms=NOW_MS) for n in range(5)]
    assert [isinstance(one, Admitted) for one in tries] == [True, True, True, False, False]
    assert tries[4] == Wait(60)
