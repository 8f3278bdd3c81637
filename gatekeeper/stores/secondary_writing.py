"""Writing where Redis stands in front of a database: first there, since what it has decides, then to the row."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gatekeeper.core.errors import MissingTable
from gatekeeper.core.model import Session, SessionRecord
from gatekeeper.stores.sql_writing import SqlWriter

if TYPE_CHECKING:
    from gatekeeper.stores.redis_writing import RedisWriter


class SecondaryWriter:
    """A SessionWriter of the two.  A database without a table for sessions is in order, as when reading."""

    def __init__(self, front: "RedisWriter", behind: SqlWriter) -> None:
        self._front = front
        self._behind = behind

    def __repr__(self) -> str:
        return f"<SecondaryWriter {self._front!r} in front of {self._behind!r}>"

    async def list_sessions(self, user: str | None, *, limit: int) -> list[SessionRecord]:
        """As the protocol says; a session that both have is given as Redis has it."""
        found = {record.session.token: record for record in await self._rows(user, limit)}
        found |= {record.session.token: record for record in await self._front.list_sessions(user, limit=limit)}
        newest_first = sorted(found.values(), key=lambda record: record.session.created_at_ms, reverse=True)
        return newest_first[:limit]

    async def find(self, token_or_id: str) -> Session | None:
        try:
            row = await self._behind.find(token_or_id)
        except MissingTable:
            row = None
        # The row spares looking through all of Redis for an id, and tells under which token it is there.
        found = await self._front.find(token_or_id if row is None else row.token)
        return found or row

    async def revoke(self, sessions: Sequence[Session]) -> int:
        return sum([await self._revoke(session) for session in sessions])

    async def revoke_all(self, user_id: str, *, now_ms: int, expires_in_s: int) -> int:
        """As the protocol says, but for the count: the greater of the two, as most sessions are in both."""
        in_front = await self._front.revoke_all(user_id, now_ms=now_ms, expires_in_s=expires_in_s)
        try:
            rows = await self._behind.revoke_all(user_id, now_ms=now_ms, expires_in_s=expires_in_s)
        except MissingTable:
            rows = 0
        return max(in_front, rows)

    async def extend(self, session: Session, *, expires_at_ms: int, now_ms: int) -> bool:
        """As the protocol says: where Redis has the session, it decides, and a row that differs is left alone."""
        is_in_front = await self._front.holds(session.token)
        if is_in_front:
            if not await self._front.extend(session, expires_at_ms=expires_at_ms, now_ms=now_ms):
                return False
        elif await self._front.revoked([session]):
            return False
        try:
            is_extended = await self._behind.extend(session, expires_at_ms=expires_at_ms, now_ms=now_ms)
        except MissingTable:
            is_extended = False
        return is_in_front or is_extended

    async def close(self) -> None:
        try:
            await self._front.close()
        finally:
            await self._behind.close()

    async def _rows(self, user: str | None, limit: int) -> list[SessionRecord]:
        try:
            rows = await self._behind.list_sessions(user, limit=limit)
        except MissingTable:
            return []
        revoked = await self._front.revoked([row.session for row in rows])
        return [row for row in rows if row.session.token not in revoked]

    async def _revoke(self, session: Session) -> int:
        in_front = await self._front.revoke([session])
        try:
            rows = await self._behind.revoke([session])
        except MissingTable:
            rows = 0
        return max(in_front, rows)
