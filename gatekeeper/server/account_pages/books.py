"""Whose sessions there are, and ending them: one small protocol over every place where sessions are kept.

Only ever the visitor's own; a session is named by its id, as no token stands in a page.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from gatekeeper.core.model import RequestFacts, Session, SessionRecord, SessionToken
from gatekeeper.core.policy import fault_of
from gatekeeper.server.account_pages.visit import Visit
from gatekeeper.stores.accounts import AccountStore
from gatekeeper.stores.app_sessions import AppSessions
from gatekeeper.stores.writing import SessionWriter

_EVERY = 1_000_000
"""More sessions than a user has."""


class Visitor(msgspec.Struct, frozen=True):
    """Who asks, by which request, and when."""

    record: SessionRecord
    facts: RequestFacts
    own_origin: str
    now_ms: int

    @staticmethod
    def of(visit: Visit) -> "Visitor":
        """The visitor of a page that needs a session."""
        if visit.record is None:
            raise ValueError("nobody is signed in")
        return Visitor(visit.record, visit.facts, visit.request.own_origin, visit.now_ms)

    @property
    def token(self) -> SessionToken:
        return SessionToken(self.record.session.token)


class Ended(msgspec.Struct, frozen=True):
    """The tokens of sessions that were ended, and how many of them were live until then."""

    tokens: Sequence[str]
    count: int


class SessionBook(Protocol):
    """A place where sessions are kept.

    Every call raises StoreUnavailable where it cannot be reached, and may then have been carried out or not.  An app
    may raise `stores.app_sessions.NotFresh`: nothing was done then.
    """

    async def live(self, visitor: Visitor) -> Sequence[Session]:
        """The visitor's live sessions, in any order."""
        ...

    async def end(self, visitor: Visitor, session_id: str) -> Ended:
        """End the visitor's session with this id; none where there is none."""
        ...

    async def end_others(self, visitor: Visitor) -> Ended:
        """End all of the visitor's sessions but the one that the request carries."""
        ...


class AccountBook:
    """Accounts mode's."""

    def __init__(self, accounts: AccountStore) -> None:
        self._accounts = accounts

    async def live(self, visitor: Visitor) -> Sequence[Session]:
        return await self._accounts.list_live(visitor.record.user.id, now_ms=visitor.now_ms)

    async def end(self, visitor: Visitor, session_id: str) -> Ended:
        ended = await self._accounts.revoke_session(visitor.record.user.id, session_id)
        return Ended((), 0) if ended is None else Ended((ended.token,), 1)

    async def end_others(self, visitor: Visitor) -> Ended:
        live = {session.token for session in await self.live(visitor)}
        tokens = await self._accounts.revoke_sessions(visitor.record.user.id, but_token=visitor.token)
        return Ended(tokens, len(live.intersection(tokens)))


class WriterBook:
    """A store that the app and the gate both reach: databases and Redis in Better Auth's form."""

    def __init__(self, writer: SessionWriter) -> None:
        self._writer = writer

    async def live(self, visitor: Visitor) -> Sequence[Session]:
        records = await self._of(visitor)
        return [record.session for record in records if fault_of(record, visitor.now_ms) is None]

    async def end(self, visitor: Visitor, session_id: str) -> Ended:
        return await self._end(visitor, [one for one in await self._of(visitor) if one.session.id == session_id])

    async def end_others(self, visitor: Visitor) -> Ended:
        return await self._end(visitor, [one for one in await self._of(visitor) if one.session.token != visitor.token])

    async def _of(self, visitor: Visitor) -> list[SessionRecord]:
        user_id = visitor.record.user.id
        found = await self._writer.list_sessions(user_id, limit=_EVERY)
        return [record for record in found if record.session.user_id == user_id]  # an id may look like an address

    async def _end(self, visitor: Visitor, records: Sequence[SessionRecord]) -> Ended:
        await self._writer.revoke([record.session for record in records])
        live = [record for record in records if fault_of(record, visitor.now_ms) is None]
        return Ended([record.session.token for record in records], len(live))


class AppBook:
    """An app whose store the gate cannot reach: its own calls."""

    def __init__(self, app: AppSessions) -> None:
        self._app = app

    async def live(self, visitor: Visitor) -> Sequence[Session]:
        found = await self._app.list_sessions(visitor.token, visitor.facts, visitor.own_origin)
        user_id = visitor.record.user.id
        return [one for one in found if one.user_id == user_id and one.expires_at_ms >= visitor.now_ms]

    async def end(self, visitor: Visitor, session_id: str) -> Ended:
        tokens = [session.token for session in await self.live(visitor) if session.id == session_id]
        for token in tokens:
            await self._app.revoke(token, visitor.token, visitor.facts, visitor.own_origin)
        return Ended(tokens, len(tokens))

    async def end_others(self, visitor: Visitor) -> Ended:
        tokens = [session.token for session in await self.live(visitor) if session.token != visitor.token]
        await self._app.revoke_others(visitor.token, visitor.facts, visitor.own_origin)
        return Ended(tokens, len(tokens))
