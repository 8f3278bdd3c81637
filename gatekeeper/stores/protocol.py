"""What the gate asks of a session store.  Errors: `core.errors.StoreUnavailable` and `StoreError`."""

from typing import Protocol

from gatekeeper.core.model import SessionRecord, SessionToken


class SessionStore(Protocol):
    """A place where sessions are kept, in Better Auth's form.  Read-only in companion mode.

    Implementations pass `tests/stores/contract.py`.
    """

    async def read_session(self, token: SessionToken) -> SessionRecord | None:
        """The session with this token and its user, or None when there is none, or when what is stored cannot be
        read as one (an `expiresAt` that is no date above all).  Expired and banned ones are returned as they are:
        `core.policy` judges them.

        Raises StoreUnavailable when the store cannot answer: no connection, a missing file or table, a time-out.
        The message names what is missing and where.
        """
        ...

    async def check(self) -> None:
        """Raise StoreUnavailable as a read would, without a token."""
        ...

    async def close(self) -> None:
        """Close every connection.  Safe to call twice."""
        ...
