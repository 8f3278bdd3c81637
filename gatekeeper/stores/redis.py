"""Sessions in Redis, as Better Auth's secondary storage keeps them.  Read only.

`<prefix><token>` is a JSON text, `{"session":{…},"user":{…}}`.  Revoking a session deletes it.  Revoking all of a
user's sessions leaves a date under `<prefix>revoked-sessions-before-<userId>` besides: older sessions are dead even
where their keys live on.

A read is two commands, one after the other, as the app's own read is; a token that has no key is one.  Several are
read together in as many round trips.  A script could do it in one.  It would name a key that it did not declare, which
clusters and proxies refuse, and need the right to run scripts, for a millisecond at a session's first request.

Commands are GETRANGE: a value of any size then costs no more memory than the largest that is accepted.  The Redis user
needs that one command, and SELECT for another database than 0.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from gatekeeper.config.redis_url import parse_redis_url
from gatekeeper.core.model import Session, SessionRecord, SessionToken
from gatekeeper.stores.feeds.feed import Channel, Memory
from gatekeeper.stores.feeds.redis import RedisChannel
from gatekeeper.stores.protocol import TIMEOUT_S, can_be_sent
from gatekeeper.stores.records import record_of
from gatekeeper.stores.redis_connections import RedisConnections
from gatekeeper.stores.secondary import Entry

VALUE_LIMIT_BYTES = 1024 * 1024
"""A longer text is no session."""

BATCH = 50
"""How many sessions are read in one round trip."""

_T = TypeVar("_T")

REVOKED_BEFORE = "revoked-sessions-before-"
"""Before a user's id: since when all sessions of that user are revoked."""

ACTIVE = "active-sessions-"
"""Before a user's id: the list of that user's sessions."""

_MILLISECONDS = re.compile(rb"[0-9]{1,16}")


class _Stored(msgspec.Struct):
    session: dict[str, Any]
    user: dict[str, Any]


_DECODER = msgspec.json.Decoder(_Stored)


class RedisStore:
    """A SessionStore on one Redis, and a SecondaryStorage.  Nothing is connected before the first read.

    `session_extra` and `user_extra` are the declared further fields, `pool` how many connections there are at most.
    Raises StoreUnavailable from every call when Redis cannot answer, and works again when it can.  A URL that is not
    understood is a GatekeeperError at once.
    """

    recheck_s = 1.0

    def __init__(
        self,
        url: str,
        *,
        session_extra: Sequence[str] = (),
        user_extra: Sequence[str] = (),
        pool: int = 10,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._address = parse_redis_url(url)
        self._session_extra = session_extra
        self._user_extra = user_extra
        self._connections = RedisConnections(self._address, count=pool, timeout_s=timeout_s)

    def __repr__(self) -> str:
        return f"<RedisStore {self._address.label}>"

    def channel(self, memory: Memory) -> Channel:
        return RedisChannel(self._address, memory.any_token)

    def channel_in_front(self, memory: Memory) -> Channel:
        """As `channel`, where a session in memory may be one that a database has alone."""
        return RedisChannel(self._address, memory.any_token, database_behind=True)

    async def check(self) -> None:
        """Raise StoreUnavailable as a read would."""
        await self._connections.within_time(self._get, [REVOKED_BEFORE], 0)

    async def read_session(self, token: SessionToken, client_address: str | None = None) -> SessionRecord | None:
        entry = await self.lookup(token)
        return None if entry is None else entry.record

    async def read_sessions(self, tokens: Sequence[SessionToken]) -> dict[SessionToken, SessionRecord]:
        entries = await self.lookup_all(tokens)
        return {token: entry.record for token, entry in entries.items() if entry.record is not None}

    async def lookup(self, token: SessionToken) -> Entry | None:
        """What is kept under this token, or None for nothing; an empty text is nothing, as for Better Auth."""
        return (await self.lookup_all([token])).get(token)

    async def lookup_all(self, tokens: Sequence[SessionToken]) -> dict[SessionToken, Entry]:
        """What is kept under those of these tokens that have anything."""
        found: dict[SessionToken, Entry] = {}
        for batch in _batches(list(dict.fromkeys(filter(_is_key, tokens)))):
            found |= await self._connections.within_time(self._lookup, batch, secrets=batch)
        return found

    async def revoked(self, sessions: Sequence[Session]) -> set[str]:
        """The tokens of those of these sessions that are older than a revocation of all of their user's."""
        found: set[str] = set()
        for batch in _batches(sessions):
            found |= await self._connections.within_time(self._revoked, batch)
        return found

    async def close(self) -> None:
        """Close every connection, once the reads under way have ended.  What is asked later is unavailable."""
        await self._connections.close()

    async def _lookup(self, tokens: Sequence[SessionToken]) -> dict[SessionToken, Entry]:
        values = await self._get(tokens, VALUE_LIMIT_BYTES)
        entries = {
            token: Entry(self._record_of(token, value)) for token, value in zip(tokens, values, strict=True) if value
        }
        sessions = [entry.record.session for entry in entries.values() if entry.record is not None]
        revoked = await self._revoked(sessions) if sessions else ()
        return {token: Entry(None) if token in revoked else entry for token, entry in entries.items()}

    async def _revoked(self, sessions: Sequence[Session]) -> set[str]:
        """A date that is no plain number revokes every session of the user: it was written to end some.

        Stricter than Better Auth, whose Number() makes NaN of most texts, and nothing is older than that.
        """
        dates = await self._get([REVOKED_BEFORE + session.user_id for session in sessions], 16)
        return {session.token for session, date in zip(sessions, dates, strict=True) if _is_older(session, date)}

    async def _get(self, names: Sequence[str], limit_bytes: int) -> list[bytes]:
        """What is kept under these names; of a longer value than the limit, one byte more than the limit."""
        prefix = self._address.prefix
        return await self._connections.ask([("GETRANGE", (prefix + name).encode(), 0, limit_bytes) for name in names])

    def _record_of(self, token: SessionToken, value: bytes) -> SessionRecord | None:
        if len(value) > VALUE_LIMIT_BYTES:
            return None
        try:
            stored = _DECODER.decode(value)
            record = record_of(stored.session, stored.user, self._session_extra, self._user_extra)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        # Who is asked for one token and answers for another is not believed: a key that the app's users can name
        # must not become a session, nor may an answer that was meant for another request.
        return record if record is not None and record.session.token == token else None


def _batches(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


def _is_key(token: str) -> bool:
    """Whether Redis can be asked for it: nothing has an empty token."""
    return token != "" and can_be_sent(token)


def _is_older(session: Session, date: bytes) -> bool:
    return date != b"" and (_MILLISECONDS.fullmatch(date) is None or session.created_at_ms < int(date))
