"""Sessions in memory, in front of any store.

* `peek` never waits; `get` asks the store, once for all who want the same token at the same time.
* Age counts from the *start* of the read, since that is the moment the answer speaks of.  Who asks while a read is
  under way that is older than that shares in its failure, but not in its answer.
* How old a session may get depends on the feed: `max_age_s` while its lease is held, `UNFED_AGE_S` without.
* A read that began before its session or user changed (`Changes`) is not believed: it is done again.
* The least recently used entry goes first.  Tokens without a session are remembered apart, briefly, so that made-up
  ones cannot push sessions out.
* What the store cannot answer is told to everybody who waits, and never remembered.  With `stale_s`, who asks for a
  session that was in memory is given that instead, for so long after its age; what was forgotten is not.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Final, Literal

import msgspec

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import SessionRecord, SessionToken
from gatekeeper.stores.feeds.feed import Channel, Memory, digest_of
from gatekeeper.stores.lease import Lease
from gatekeeper.stores.protocol import SessionStore, StoreIncomplete

UNFED_AGE_S = 1.0
"""How long a session is believed while nothing tells of its revocation."""


class _Absent(Enum):
    ABSENT = "absent"


ABSENT: Final = _Absent.ABSENT
"""What `peek` says of a token that the store was asked for and does not know."""

Absent = Literal[_Absent.ABSENT]


class Counters(msgspec.Struct):
    """How often the cache could answer, and how often the store was asked."""

    hits: int = 0
    stale_hits: int = 0
    negative_hits: int = 0
    misses: int = 0
    reads: int = 0
    evictions: int = 0


class _Entry:
    """A session in memory, when the read of it began, and what feeds call it and its user."""

    __slots__ = ("began", "digest", "record", "user_digest")

    def __init__(self, record: SessionRecord, began: float, digest: bytes) -> None:
        self.record = record
        self.began = began
        self.digest = digest
        self.user_digest = digest_of(record.user.id)


class _Flight:
    """A read under way: when it began, and what has changed since."""

    task: asyncio.Task[SessionRecord | None]

    def __init__(self, began: float, digest: bytes) -> None:
        self.began = began
        self.digest = digest
        self.changed = False
        self.changed_users: set[bytes] = set()

    def begin(self, now: float) -> None:
        self.began = now
        self.changed = False
        self.changed_users.clear()

    def believes(self, record: SessionRecord | None) -> bool:
        """Whether the answer may speak of a moment after all that has changed."""
        if self.changed:
            return False
        return record is None or not self.changed_users or digest_of(record.user.id) not in self.changed_users


class SessionCache:
    """A bounded cache with one flight for each token.  `clock` gives monotonic seconds; ages are seconds.

    Without a lease a feed is taken for granted.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        max_age_s: float,
        entries: int,
        negative_age_s: float,
        negative_entries: int,
        clock: Callable[[], float],
        stale_s: float = 0.0,
        lease: Lease | None = None,
    ) -> None:
        self.counters = Counters()
        self.recheck_s = store.recheck_s
        self._store = store
        self._max_age_s = max_age_s
        self._unfed_age_s = max_age_s if lease is None else min(max_age_s, UNFED_AGE_S)
        self.lease = lease or Lease()
        self._entries = entries
        self._negative_age_s = negative_age_s
        self._negative_entries = negative_entries
        self._clock = clock
        self._stale_s = stale_s
        self._records: OrderedDict[SessionToken, _Entry] = OrderedDict()
        self._absent: OrderedDict[SessionToken, float] = OrderedDict()
        self._tokens: dict[bytes, SessionToken] = {}
        self._tokens_of: dict[bytes, set[SessionToken]] = {}
        self._flights: dict[bytes, _Flight] = {}  # by digest: feeds tell of thousands while as many reads wait
        self._closed = False

    def __repr__(self) -> str:
        return f"<SessionCache {len(self._records)} sessions, {len(self._flights)} reads under way>"

    @property
    def size(self) -> int:
        """How many sessions are in memory."""
        return len(self._records)

    def tokens(self) -> list[SessionToken]:
        """Those of the sessions in memory."""
        return list(self._records)

    def any_token(self) -> SessionToken | None:
        """That of a session in memory, the one that was asked for last."""
        return next(reversed(self._records), None)

    def remembers(self, token: SessionToken) -> bool:
        """Whether it is in memory, believed or not."""
        return token in self._records

    def knows(self, record: SessionRecord) -> bool:
        """Whether this is what is in memory: nothing was told since it was read."""
        entry = self._records.get(SessionToken(record.session.token))
        return entry is not None and entry.record == record

    def peek(self, token: SessionToken) -> SessionRecord | Absent | None:
        """The record in memory, ABSENT for a token known to have none, or None: the store must be asked."""
        entry = self._records.get(token)
        if entry is not None:
            now = self._clock()
            age_s = now - entry.began
            if age_s < self._unfed_age_s or (age_s < self._max_age_s and now < self.lease.held_until):
                self._records.move_to_end(token)
                self.counters.hits += 1
                return entry.record
            if now >= self._until(entry) + self._stale_s:
                self._drop(token)
        negative_until = self._absent.get(token)
        if negative_until is not None:
            if self._clock() < negative_until:
                self._absent.move_to_end(token)
                self.counters.negative_hits += 1
                return ABSENT
            del self._absent[token]
        return None

    async def get(self, token: SessionToken, client_address: str | None = None) -> SessionRecord | None:
        """The record, from memory or from the store.  Raises StoreUnavailable.

        A caller who is cancelled leaves the read to the others.  The store is told the address of the one who began it.
        """
        known = self.peek(token)
        if known is not None:
            return None if known is ABSENT else known
        self.counters.misses += 1
        oldest = self._clock() - self._unfed_age_s
        digest = digest_of(token)
        while True:
            flight = self._flights.get(digest) or self._start(token, digest, client_address)
            try:
                record = await _landing(flight)
            except StoreUnavailable:
                stale = self._stale(token)
                if stale is None:
                    raise
                return stale
            if flight.began >= oldest:
                return record

    def _stale(self, token: SessionToken) -> SessionRecord | None:
        """What was in memory and is not too old for a time without a store."""
        entry = self._records.get(token)
        if entry is None or self._clock() >= self._until(entry) + self._stale_s:
            return None
        self.counters.stale_hits += 1
        return entry.record

    def _until(self, entry: _Entry) -> float:
        """Until when it is believed while its store can answer."""
        fed_until = min(entry.began + self._max_age_s, self.lease.held_until)
        return max(entry.began + self._unfed_age_s, fed_until)

    async def read_all(self, tokens: Sequence[SessionToken]) -> Mapping[SessionToken, SessionRecord]:
        """Those of these sessions that the store has now; the others are forgotten, and what has changed.

        Raises StoreUnavailable, StoreIncomplete for one.
        """
        self.counters.reads += 1
        try:
            found = await self._store.read_sessions(tokens)
        except StoreIncomplete as error:
            self._compare([token for token in tokens if token not in error.unknown], error.found)
            raise
        self._compare(tokens, found)
        return found

    def _compare(self, tokens: Sequence[SessionToken], found: Mapping[SessionToken, SessionRecord]) -> None:
        """Forget what the store does not have, or has otherwise."""
        for token in tokens:
            record, known = found.get(token), self._records.get(token)
            if record is None or (known is not None and not _says_the_same(known.record, record)):
                self.forget(token)

    def doubt_reads(self) -> None:
        """Something has changed, and it is not known what: reads under way are done again."""
        for flight in self._flights.values():
            flight.changed = True

    def channel(self, memory: Memory) -> Channel | None:
        """How the store tells of changes, or None."""
        return self._store.channel(memory)

    async def check(self) -> None:
        """Raise StoreUnavailable if the store cannot answer."""
        await self._store.check()

    def forget(self, token: SessionToken) -> None:
        """Believe nothing about this token that was read before now."""
        self._absent.pop(token, None)
        self.session_changed(digest_of(token))

    def session_changed(self, digest: bytes) -> None:
        """Believe nothing about this session that was read before now."""
        token = self._tokens.get(digest)
        if token is not None:
            self._drop(token)
        flight = self._flights.get(digest)
        if flight is not None:
            flight.changed = True

    def user_changed(self, digest: bytes) -> None:
        """Believe nothing about this user's sessions that was read before now."""
        for token in tuple(self._tokens_of.get(digest, ())):
            self._drop(token)
        for flight in self._flights.values():
            flight.changed_users.add(digest)

    def all_changed(self) -> None:
        """Believe nothing that was read before now."""
        self._records.clear()
        self._tokens.clear()
        self._tokens_of.clear()
        self._absent.clear()
        self.doubt_reads()

    async def close(self) -> None:
        """End the reads under way, whose callers are told StoreUnavailable, and close the store."""
        self._closed = True
        tasks = [flight.task for flight in self._flights.values()]
        self._flights.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._store.close()

    def _start(self, token: SessionToken, digest: bytes, client_address: str | None) -> _Flight:
        if self._closed:
            raise StoreUnavailable("the session store was closed")
        flight = self._flights[digest] = _Flight(self._clock(), digest)
        flight.task = asyncio.get_running_loop().create_task(self._fly(token, client_address, flight))
        flight.task.add_done_callback(_note_outcome)
        return flight

    async def _fly(self, token: SessionToken, client_address: str | None, flight: _Flight) -> SessionRecord | None:
        """Read until nothing was forgotten meanwhile, and remember the answer."""
        try:
            while True:
                flight.begin(self._clock())
                self.counters.reads += 1
                record = await self._store.read_session(token, client_address)
                if flight.believes(record):
                    break
        finally:
            # Here, not in a callback: who comes between the end of this task and a callback must not join it.
            if self._flights.get(flight.digest) is flight:
                del self._flights[flight.digest]
        if record is not None:
            self._remember(token, _Entry(record, flight.began, flight.digest))
        elif not flight.changed_users:  # whose session it would have been is not known
            self._remember_absent(token, flight.began + self._negative_age_s)
        return record

    def _remember(self, token: SessionToken, entry: _Entry) -> None:
        self._drop(token)
        self._absent.pop(token, None)
        self._records[token] = entry
        self._tokens[entry.digest] = token
        self._tokens_of.setdefault(entry.user_digest, set()).add(token)
        if len(self._records) > self._entries:
            self._drop(next(iter(self._records)))
            self.counters.evictions += 1

    def _remember_absent(self, token: SessionToken, until: float) -> None:
        self._drop(token)
        self._absent[token] = until
        self._absent.move_to_end(token)
        if len(self._absent) > self._negative_entries:
            self._absent.popitem(last=False)

    def _drop(self, token: SessionToken) -> None:
        entry = self._records.pop(token, None)
        if entry is not None:
            del self._tokens[entry.digest]
            tokens = self._tokens_of[entry.user_digest]
            tokens.discard(token)
            if not tokens:
                del self._tokens_of[entry.user_digest]


def _says_the_same(known: SessionRecord, found: SessionRecord) -> bool:
    """Whether nothing has changed; memberships are not read with several sessions."""
    user = msgspec.structs.replace(found.user, organizations=known.user.organizations)
    return found.session == known.session and user == known.user


async def _landing(flight: _Flight) -> SessionRecord | None:
    """What the read gives.  Cancelling the caller does not cancel the read."""
    await asyncio.wait((flight.task,))
    if flight.task.cancelled():
        raise StoreUnavailable("the session store was closed")
    return flight.task.result()


def _note_outcome(task: asyncio.Task[SessionRecord | None]) -> None:
    """Look at a failure: when every caller has left, nobody else does, and asyncio would complain."""
    if not task.cancelled():
        task.exception()
