"""Where the tries of passwords are counted: what throttling asks of its store, and counts in this process alone.

The arithmetic is `core.attempts`; a store keeps for each key a count and when its window ends, and nothing else.  All
workers, and all replicas of one store, must see the same counts, so each call is one step for each key.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from gatekeeper.core.attempts import Limit, Tally, counted, taken_back

MOST_KEYS = 100_000


class Attempts(Protocol):
    """Counts of tries by key; keys are as `core.attempts` makes them, ASCII of at most 60 characters.

    Every call raises StoreUnavailable when the store cannot answer.  Windows that have ended may be removed at any
    time.
    """

    async def read(self, keys: Iterable[str]) -> Mapping[str, Tally]:
        """The tallies of those keys that have one, in whatever window; it may have ended."""
        ...

    async def note(self, keys: Iterable[str], limit: Limit, now_ms: int) -> Mapping[str, Tally]:
        """Count one try more for each key, and return the tallies that have it in.

        As `counted` has it, in one step for each key: of two at the same time one finds the other counted.
        """
        ...

    async def take_back(self, key: str, ends_ms: int) -> None:
        """Count one try of the window that ends then no more; nothing where the key's window is another one."""
        ...

    async def forget(self, key: str) -> None:
        """Remove the key's tally."""
        ...


class MemoryAttempts:
    """Counts in this process alone.  Beyond so many keys the one whose window began first gives way."""

    def __init__(self, most_keys: int = MOST_KEYS) -> None:
        self._most_keys = most_keys
        self._tallies: dict[str, Tally] = {}  # in the order in which windows began

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._tallies)

    async def read(self, keys: Iterable[str]) -> Mapping[str, Tally]:
        return {key: self._tallies[key] for key in keys if key in self._tallies}

    async def note(self, keys: Iterable[str], limit: Limit, now_ms: int) -> Mapping[str, Tally]:
        self._drop_ended(now_ms)
        return {key: self._note(key, limit, now_ms) for key in keys}

    async def take_back(self, key: str, ends_ms: int) -> None:
        tally = self._tallies.get(key)
        if tally is not None and tally.ends_ms == ends_ms:
            self._tallies[key] = taken_back(tally)

    async def forget(self, key: str) -> None:
        self._tallies.pop(key, None)

    def _note(self, key: str, limit: Limit, now_ms: int) -> Tally:
        tally = self._tallies[key] = counted(self._tallies.get(key), limit, now_ms)
        if len(self._tallies) > self._most_keys:
            del self._tallies[next(iter(self._tallies))]
        return tally

    def _drop_ended(self, now_ms: int) -> None:
        """From the front as far as they have ended: one that lasts longer keeps those behind it a while longer."""
        while self._tallies:
            first = next(iter(self._tallies))
            if self._tallies[first].ends_ms > now_ms:
                return
            del self._tallies[first]
