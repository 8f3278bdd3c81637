"""Better Auth with a database and a secondary storage in front of it.

With `storeSessionInDatabase` a session is kept twice.  The app reads the secondary storage, and the database for a
token that the storage does not have: so does this store.  A session found in the database is subject to what the
storage says of its user's sessions, too, where the app relies on the row's being gone.

When the storage cannot be asked, nothing is: a session that was revoked may have its row still, and that its user's
sessions were all revoked is written in the storage alone.  The app could not answer either.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Protocol

import msgspec

from gatekeeper.core.errors import MissingTable
from gatekeeper.core.model import Session, SessionRecord, SessionToken
from gatekeeper.stores.feeds.both import BothChannels
from gatekeeper.stores.feeds.feed import Channel, Memory
from gatekeeper.stores.protocol import SessionStore


class Entry(msgspec.Struct, frozen=True):
    """What a secondary storage has under a token: `record` is None where that is no session, or a revoked one."""

    record: SessionRecord | None


class SecondaryStorage(Protocol):
    """A storage in front of a database.  Every call raises StoreUnavailable when it cannot answer."""

    async def lookup(self, token: SessionToken) -> Entry | None:
        """What is kept under this token, or None for nothing."""
        ...

    async def lookup_all(self, tokens: Sequence[SessionToken]) -> Mapping[SessionToken, Entry]:
        """What is kept under those of these tokens that have anything."""
        ...

    async def revoked(self, sessions: Sequence[Session]) -> Set[str]:
        """The tokens of those of these sessions that are older than a revocation of all of their user's."""
        ...

    def channel_in_front(self, memory: Memory) -> Channel:
        """How this storage tells of changes."""
        ...

    async def check(self) -> None: ...

    async def close(self) -> None: ...


class SecondaryStore:
    """A SessionStore of the two: `front` is asked first, `behind` is the database.

    A read takes as long as one of each may take, and one more of `front`.
    """

    recheck_s = 1.0

    def __init__(self, front: SecondaryStorage, behind: SessionStore) -> None:
        self._front = front
        self._behind = behind

    def __repr__(self) -> str:
        return f"<SecondaryStore {self._front!r} in front of {self._behind!r}>"

    async def read_session(self, token: SessionToken, client_address: str | None = None) -> SessionRecord | None:
        entry = await self._front.lookup(token)
        if entry is not None:  # of a revoked session, and of one that cannot be read, the row is not looked for
            return entry.record
        try:
            record = await self._behind.read_session(token, client_address)
        except MissingTable:  # without `storeSessionInDatabase` Better Auth does not make one
            return None
        if record is None or await self._front.revoked([record.session]):
            return None
        return record

    async def read_sessions(self, tokens: Sequence[SessionToken]) -> dict[SessionToken, SessionRecord]:
        entries = await self._front.lookup_all(tokens)
        found = {token: entry.record for token, entry in entries.items() if entry.record is not None}
        return found | await self._read_behind([token for token in tokens if token not in entries])

    async def _read_behind(self, tokens: Sequence[SessionToken]) -> dict[SessionToken, SessionRecord]:
        if not tokens:
            return {}
        try:
            records = await self._behind.read_sessions(tokens)
        except MissingTable:
            return {}
        revoked = await self._front.revoked([record.session for record in records.values()])
        return {token: record for token, record in records.items() if token not in revoked}

    def channel(self, memory: Memory) -> Channel | None:
        behind = self._behind.channel(memory)
        return None if behind is None else BothChannels(self._front.channel_in_front(memory), behind)

    async def check(self) -> None:
        """Raise StoreUnavailable as a read would.  A database without a table for sessions is in order."""
        await self._front.check()
        try:
            await self._behind.check()
        except MissingTable:
            return

    async def close(self) -> None:
        try:
            await self._front.close()
        finally:
            await self._behind.close()
