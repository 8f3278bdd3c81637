"""Sessions in memory, in front of any store.

* `peek` never waits; `get` asks the store, once for all who want the same token at the same time.
* Age counts from the *start* of the read, since that is the moment the answer speaks of.
* A read that began before `forget`, `forget_user` or `clear` is not believed: it is done again.
* The least recently used entry goes first.  Tokens without a session are remembered apart, briefly, so that made-up
  ones cannot push sessions out.
* What the store cannot answer is told to everybody who waits, and never remembered.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import Final, Literal

import msgspec

from gatekeeper.core.model import SessionRecord, SessionToken
from gatekeeper.stores.protocol import SessionStore


class _Absent(Enum):
    ABSENT = "absent"


ABSENT: Final = _Absent.ABSENT
"""What `peek` says of a token that the store was asked for and does not know."""

Absent = Literal[_Absent.ABSENT]


class Counters(msgspec.Struct):
    """How often the cache could answer, and how often the store was asked."""

    hits: int = 0
    negative_hits: int = 0
    misses: int = 0
    reads: int = 0
    evictions: int = 0


class SessionCache:
    """A bounded cache with one flight for each token.  `clock` gives monotonic seconds; ages are seconds."""

    def __init__(
        self,
        store: SessionStore,
        *,
        max_age_s: float,
        entries: int,
        negative_age_s: float,
        negative_entries: int,
        clock: Callable[[], float],
    ) -> None:
        self.counters = Counters()
        self._store = store
        self._max_age_s = max_age_s
        self._entries = entries
        self._negative_age_s = negative_age_s
        self._negative_entries = negative_entries
        self._clock = clock
        self._records: OrderedDict[SessionToken, tuple[SessionRecord, float]] = OrderedDict()
        self._absent: OrderedDict[SessionToken, float] = OrderedDict()
        self._flights: dict[SessionToken, asyncio.Task[SessionRecord | None]] = {}
        self._generation = 0

    def __repr__(self) -> str:
        return f"<SessionCache {len(self._records)} sessions, {len(self._flights)} reads under way>"

    def peek(self, token: SessionToken) -> SessionRecord | Absent | None:
        """The record in memory, ABSENT for a token known to have none, or None: the store must be asked."""
        found = self._records.get(token)
        if found is not None:
            record, until = found
            if self._clock() < until:
                self._records.move_to_end(token)
                self.counters.hits += 1
                return record
            del self._records[token]
        negative_until = self._absent.get(token)
        if negative_until is not None:
            if self._clock() < negative_until:
                self.counters.negative_hits += 1
                return ABSENT
            del self._absent[token]
        return None

    async def get(self, token: SessionToken) -> SessionRecord | None:
        """The record, from memory or from the store.  Raises StoreUnavailable.

        A caller who is cancelled leaves the read to the others.
        """
        known = self.peek(token)
        if known is not None:
            return None if known is ABSENT else known
        self.counters.misses += 1
        flight = self._flights.get(token)
        if flight is None:
            flight = self._flights[token] = asyncio.ensure_future(self._read(token))
            flight.add_done_callback(lambda done: self._land(token, done))
        return await asyncio.shield(flight)

    async def check(self) -> None:
        """Raise StoreUnavailable if the store cannot answer."""
        await self._store.check()

    def forget(self, token: SessionToken) -> None:
        """Believe nothing about this token that was read before now."""
        self._records.pop(token, None)
        self._absent.pop(token, None)
        self._generation += 1

    def forget_user(self, user_id: str) -> None:
        """Believe nothing about this user's sessions that was read before now."""
        for token in [token for token, (record, _) in self._records.items() if record.user.id == user_id]:
            del self._records[token]
        self._generation += 1

    def clear(self) -> None:
        """Believe nothing that was read before now."""
        self._records.clear()
        self._absent.clear()
        self._generation += 1

    async def close(self) -> None:
        """End the reads under way and close the store."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await self._store.close()

    async def _read(self, token: SessionToken) -> SessionRecord | None:
        while True:
            began, generation = self._clock(), self._generation
            self.counters.reads += 1
            record = await self._store.read_session(token)
            if generation == self._generation:
                break
        if record is None:
            self._remember_absent(token, began + self._negative_age_s)
        else:
            self._remember(token, record, began + self._max_age_s)
        return record

    def _land(self, token: SessionToken, flight: asyncio.Task[SessionRecord | None]) -> None:
        self._flights.pop(token, None)
        if not flight.cancelled():
            flight.exception()  # every waiter may have left; then nobody asks for it

    def _remember(self, token: SessionToken, record: SessionRecord, until: float) -> None:
        self._absent.pop(token, None)
        self._records[token] = (record, until)
        self._records.move_to_end(token)
        if len(self._records) > self._entries:
            self._records.popitem(last=False)
            self.counters.evictions += 1

    def _remember_absent(self, token: SessionToken, until: float) -> None:
        self._records.pop(token, None)
        self._absent[token] = until
        self._absent.move_to_end(token)
        if len(self._absent) > self._negative_entries:
            self._absent.popitem(last=False)
