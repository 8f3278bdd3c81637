"""Who may try a password now: tries are counted before the hash is made, and what was right is no try.

An address has its tries, and so has an account, or in its place a device that signed in there before
(`core.attempts`).  Whoever is refused is not counted.  A sign-in that is right gives its address back the one try, so
that an office behind one address is not held up by its own people, and clears the account's or the device's count.
It does not clear the address's: else whoever has an account could clear it between guesses.
"""

import asyncio

import msgspec

from gatekeeper.core.attempts import (
    Limit,
    account_key,
    address_key,
    device_key,
    known_device,
    wait_after_s,
    wait_before_s,
)
from gatekeeper.core.cookies import Keys
from gatekeeper.server.passwords import Line
from gatekeeper.stores.attempts import Attempts


class Admitted(msgspec.Struct, frozen=True):
    """A try that was counted: the place in the queue for its hash, and the windows that it was counted in."""

    line: Line
    ends_ms: dict[str, int]


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Too many tries: the whole seconds until another one may be made, 1 at least."""

    retry_after_s: int


class Throttle:
    """Counts tries against `limit`; times are passed in, in milliseconds since the epoch.

    Every call raises StoreUnavailable where the counts cannot be had: no password is tried uncounted.
    """

    def __init__(self, attempts: Attempts, limit: Limit) -> None:
        self._attempts = attempts
        self._limit = limit

    async def admit(
        self, address: str, email: str | None, *, device_cookie: str | None, keys: Keys, now_ms: int
    ) -> Admitted | Wait:
        """Count a try of this client at the account of this e-mail address, existent or not; None is no account's.

        `device_cookie` is the raw value of the request's cookie of that name, as far as it has one.
        """
        line = _line(address, email, device_cookie, keys, now_ms)
        counted_for = (line.address, line.account) if email is not None else (line.address,)
        before = await self._attempts.read(counted_for)
        wait_s = max(wait_before_s(before.get(key), self._limit, now_ms) for key in counted_for)
        if wait_s:
            return Wait(wait_s)
        after = await self._attempts.note(counted_for, self._limit, now_ms)
        wait_s = max(wait_after_s(tally, self._limit, now_ms) for tally in after.values())
        return Wait(wait_s) if wait_s else Admitted(line, {key: tally.ends_ms for key, tally in after.items()})

    async def succeeded(self, admitted: Admitted) -> None:
        """The password was right: the address has its try back, and the account's or the device's count is cleared."""
        line = admitted.line
        changes = [self._attempts.take_back(line.address, admitted.ends_ms[line.address])]
        if line.account in admitted.ends_ms:
            changes.append(self._attempts.forget(line.account))
        await asyncio.gather(*changes)  # at the same time, so that they are committed together

    async def withdrawn(self, admitted: Admitted) -> None:
        """The password was not tried, for whatever reason of ours: the try counts for nobody."""
        await asyncio.gather(*(self._attempts.take_back(key, ends_ms) for key, ends_ms in admitted.ends_ms.items()))


def _line(address: str, email: str | None, device_cookie: str | None, keys: Keys, now_ms: int) -> Line:
    if email is None:
        return Line(address_key(address), "", is_known=False)
    account = account_key(email)
    device = known_device(device_cookie, account, keys, now_ms // 1000)
    if device is None:
        return Line(address_key(address), account, is_known=False)
    return Line(address_key(address), device_key(device), is_known=True)
