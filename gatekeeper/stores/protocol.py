"""What the gate asks of a session store.  Errors: `core.errors.StoreUnavailable` and `StoreError`."""

from collections.abc import Mapping, Sequence, Set
from typing import Protocol

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import SessionRecord, SessionToken
from gatekeeper.stores.feeds.feed import Channel, Memory

TIMEOUT_S = 2.0
"""How long a read may take in all before the store counts as unavailable."""


def can_be_sent(token: str) -> bool:
    """Whether a store can be asked for it: half of a surrogate pair has no bytes."""
    try:
        token.encode()
    except UnicodeEncodeError:
        return False
    return True


class StoreIncomplete(StoreUnavailable):
    """Of several sessions the store could say only of some whether there are any: of all but `unknown`."""

    def __init__(self, message: str, found: Mapping[SessionToken, SessionRecord], unknown: Set[SessionToken]) -> None:
        super().__init__(message)
        self.found = found
        self.unknown = unknown


class SessionStore(Protocol):
    """A place where sessions are kept, in Better Auth's form.  Read-only in companion mode.

    Implementations pass `tests/stores/contract.py`.  `recheck_s` is how often, in seconds, the sessions of open streams
    are to be read again where nothing else tells of their end.
    """

    recheck_s: float

    async def read_session(self, token: SessionToken, client_address: str | None = None) -> SessionRecord | None:
        """The session with this token and its user, or None when there is none, or when what is stored cannot be
        read as one (an `expiresAt` that is no date above all).  Expired and banned ones are returned as they are:
        `core.policy` judges them; a store that asks another service has only what that holds for live.

        `client_address` is whose request it is: a store that asks another service names it there, so that its rate
        limits count by visitor.  The others pass it over.

        Raises StoreUnavailable when the store cannot answer: no connection, a missing file or table, a time-out.
        The message names what is missing and where.
        """
        ...

    async def read_sessions(self, tokens: Sequence[SessionToken]) -> Mapping[SessionToken, SessionRecord]:
        """Those of these sessions that there are, as `read_session` gives them, but for what only rules ask for
        (memberships).  Few questions however many tokens.

        Raises StoreUnavailable; StoreIncomplete where it could say something of some of them.
        """
        ...

    def channel(self, memory: Memory) -> Channel | None:
        """How this store tells of changes, or None where it cannot."""
        ...

    async def check(self) -> None:
        """Raise StoreUnavailable as a read would, without a token."""
        ...

    async def close(self) -> None:
        """Close every connection.  Safe to call twice."""
        ...
