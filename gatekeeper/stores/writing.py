"""What the gate writes to a store when it is asked to: sessions are revoked and extended, as the app itself would.

Nothing here is opened, nor a right to write needed, before somebody asks.  `open_writer` is the one list of kinds.
"""

from collections.abc import Sequence
from typing import Protocol

from gatekeeper.core.model import Session, SessionRecord


class SessionWriter(Protocol):
    """A place where sessions can be listed, revoked and extended, in Better Auth's form.

    Every call raises StoreUnavailable when the store cannot answer, within the time of a read.  A write that was given
    up may have been made.
    """

    async def list_sessions(self, user: str | None, *, limit: int) -> Sequence[SessionRecord]:
        """The sessions that are stored, newest first, at most so many; expired ones among them.

        `user` is an id or an e-mail address in any case, None for everybody.  What cannot be read as a session, and
        what was revoked although it is still there, is left out.
        """
        ...

    async def find(self, token_or_id: str) -> Session | None:
        """The session with this token, else the one with this id; None where there is neither."""
        ...

    async def revoke(self, sessions: Sequence[Session]) -> int:
        """Remove these sessions; how many of them were there."""
        ...

    async def revoke_all(self, user_id: str, *, now_ms: int, expires_in_s: int) -> int:
        """Remove all sessions of this user that began before `now_ms`, those that cannot be read too; how many there
        were.  `expires_in_s` is how long a session lives at most.
        """
        ...

    async def extend(self, session: Session, *, expires_at_ms: int, now_ms: int) -> bool:
        """Make it end at `expires_at_ms` and say that it was updated `now_ms`.  False, and nothing written, where the
        session no longer ends when `session` says: it was extended, changed or revoked meanwhile.
        """
        ...

    async def close(self) -> None:
        """Close every connection.  Safe to call twice."""
        ...
