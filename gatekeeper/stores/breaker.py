"""A circuit breaker: a store that cannot answer is left alone, and who asks is told at once.

After some failures in a row, one read in a while tries again and all others fail with the last cause, instead of each
waiting for the time-out, and each opening a connection to a server that is about to come back.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from gatekeeper.core.errors import StoreLimited, StoreUnavailable
from gatekeeper.core.model import SessionRecord, SessionToken
from gatekeeper.stores.feeds.feed import Channel, Memory
from gatekeeper.stores.protocol import SessionStore, StoreIncomplete

_T = TypeVar("_T")

FAILURES = 5
"""So many in a row, and the store counts as down."""

PAUSE_S = 0.25
"""How long nobody asks a store that is down; it is how late at most its return is noticed."""


class Breaker:
    """A SessionStore in front of another one.  `clock` gives monotonic seconds."""

    def __init__(self, store: SessionStore, clock: Callable[[], float]) -> None:
        self.recheck_s = store.recheck_s
        self._store = store
        self._clock = clock
        self._failures = 0
        self._cause = ""
        self._closed_until = 0.0

    def __repr__(self) -> str:
        return f"<Breaker, {self._failures} failures in a row, of {self._store!r}>"

    async def read_session(self, token: SessionToken, client_address: str | None = None) -> SessionRecord | None:
        """As the store's; StoreUnavailable at once while it is down."""
        return await self._try(lambda: self._store.read_session(token, client_address))

    async def read_sessions(self, tokens: Sequence[SessionToken]) -> Mapping[SessionToken, SessionRecord]:
        """As `read_session`, for several."""
        return await self._try(lambda: self._store.read_sessions(tokens))

    def channel(self, memory: Memory) -> Channel | None:
        return self._store.channel(memory)

    async def check(self) -> None:
        """As the store's.  It is asked in any case, and reads go on where it can answer."""
        await self._store.check()
        self._failures = 0

    async def close(self) -> None:
        await self._store.close()

    async def _try(self, read: Callable[[], Awaitable[_T]]) -> _T:
        if self._failures >= FAILURES:
            now = self._clock()
            if now < self._closed_until:
                raise StoreUnavailable(self._cause)
            # This one tries.  Should it hang, or never come back, another one tries in a while.
            self._closed_until = now + PAUSE_S
        try:
            found = await read()
        except (StoreLimited, StoreIncomplete):
            self._failures = 0
            raise
        except StoreUnavailable as error:
            self._failures += 1
            self._cause = str(error)
            self._closed_until = self._clock() + PAUSE_S
            raise
        self._failures = 0
        return found
