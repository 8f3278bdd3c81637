"""Writing to Redis as Better Auth's secondary storage does: the same keys, each change as a whole or not at all.

The app writes a session and its user's list one after the other, and may be between the two, or revoke at the same
moment.  So a change is worked out from what was read, and made by one script that first looks whether that is still
there: a plain SET would bring back a session that was deleted meanwhile.  WATCH with MULTI would do the same in more
round trips, on a connection that has to be kept for it.  The script names its keys, which a Redis user is given rights
to, and knows nothing of what they hold.
"""

import heapq
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Literal

import msgspec

from gatekeeper.config.redis_url import parse_redis_url
from gatekeeper.core.errors import StoreError, StoreUnavailable
from gatekeeper.core.model import Session, SessionRecord, SessionToken
from gatekeeper.stores.protocol import TIMEOUT_S, can_be_sent
from gatekeeper.stores.records import iso_text
from gatekeeper.stores.redis import ACTIVE, REVOKED_BEFORE, VALUE_LIMIT_BYTES, RedisStore
from gatekeeper.stores.redis_connections import Command, RedisConnections

SCAN_KEYS = 1000
"""How many keys are looked at in one round trip."""

SCAN_LIMIT_KEYS = 1_000_000
"""Among more keys sessions are not looked for."""

ATTEMPTS = 10
"""How often a change is worked out anew because the app came between."""

_SHORTEST_REVOCATION_S = 86_400
"""A session may live so long however short the setting: Better Auth's of "do not remember me"."""

_CHANGED = b"changed"

_SCRIPT = """\
for number, key in ipairs(KEYS) do
  local action, expected = ARGV[4 * number - 3], ARGV[4 * number - 2]
  if action ~= 'drop' and (redis.call('GET', key) or '') ~= expected then return 'changed' end
end
local deleted = 0
for number, key in ipairs(KEYS) do
  local action, value, ttl = ARGV[4 * number - 3], ARGV[4 * number - 1], tonumber(ARGV[4 * number])
  if action == 'drop' or action == 'delete' then
    local count = redis.call('DEL', key)
    if action == 'drop' then deleted = deleted + count end
  elseif action == 'set' then
    redis.call('SET', key, value, 'EX', ttl)
  elseif action == 'keep_ttl' then
    ttl = redis.call('PTTL', key)
    redis.call('SET', key, value)
    if ttl > 0 then redis.call('PEXPIRE', key, ttl) end
  end
end
return tostring(deleted)
"""


class _Change(msgspec.Struct, frozen=True):
    """What becomes of a key.  All but `drop` stand only if the key still holds what is `expected`, b"" for nothing."""

    key: str
    action: Literal["check", "set", "keep_ttl", "delete", "drop"]
    expected: bytes = b""
    value: bytes = b""
    ttl_s: int = 0


class _Listed(msgspec.Struct):
    """One entry of the list of a user's sessions."""

    token: str
    expiresAt: int | float


_LIST = msgspec.json.Decoder(list[_Listed])
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODER = msgspec.json.Encoder()


class RedisWriter:
    """A SessionWriter on one Redis, which `reader` reads.  Nothing is connected before it is asked."""

    def __init__(self, url: str, reader: RedisStore, *, pool: int = 10, timeout_s: float = TIMEOUT_S) -> None:
        self._address = parse_redis_url(url)
        self._reader = reader
        self._connections = RedisConnections(self._address, count=pool, timeout_s=timeout_s)

    def __repr__(self) -> str:
        return f"<RedisWriter {self._address.label}>"

    async def list_sessions(self, user: str | None, *, limit: int) -> list[SessionRecord]:
        if user is not None and "@" not in user:
            tokens = await self._tokens_of(user)
            found = await self._reader.read_sessions(tokens)
            return _newest((record for record in found.values() if record.user.id == user), limit)
        email = None if user is None else user.lower()
        kept: list[SessionRecord] = []
        async for page in self._scan():
            matching = (one for one in page if user is None or user == one.user.id or one.user.email.lower() == email)
            # A scan may give a key twice.
            kept = _newest({one.session.token: one for one in [*kept, *matching]}.values(), limit)
        return kept

    async def find(self, token_or_id: str) -> Session | None:
        """As the protocol says.  For an id all sessions are looked through: Redis knows them by their tokens."""
        record = await self._reader.read_session(SessionToken(token_or_id))
        if record is not None:
            return record.session
        async for page in self._scan():
            for found in page:
                if found.session.id == token_or_id:
                    return found.session
        return None

    async def revoke(self, sessions: Sequence[Session]) -> int:
        return sum([await self._revoke(session) for session in sessions])

    async def revoke_all(self, user_id: str, *, now_ms: int, expires_in_s: int) -> int:
        """As the protocol says.  Sessions that are not in the user's list, as may be after two sign-ins at once, end
        too, but are not counted.
        """
        if not can_be_sent(user_id):
            return 0
        names = [ACTIVE + user_id, REVOKED_BEFORE + user_id]
        for _ in range(ATTEMPTS):
            listed, before = await self._connections.within_time(self._get, names)
            tokens = [entry.token for entry in _entries(listed) or []]
            since_ms = max(now_ms, int(before) if before.isdigit() else 0)
            ttl_s = max(expires_in_s, _SHORTEST_REVOCATION_S)
            changes = [
                _Change(names[1], "set", before, str(since_ms).encode(), ttl_s),
                *(_Change(token, "drop") for token in dict.fromkeys(tokens)),
                _Change(names[0], "delete", listed),
            ]
            deleted = await self._connections.within_time(self._change, changes, secrets=tokens)
            if deleted is not None:
                return deleted
        raise self._busy()

    async def extend(self, session: Session, *, expires_at_ms: int, now_ms: int) -> bool:
        ttl_s = (expires_at_ms - now_ms) // 1000
        if ttl_s <= 0 or not _can_be_named(session):
            return False
        names = [session.token, ACTIVE + session.user_id, REVOKED_BEFORE + session.user_id]
        for _ in range(ATTEMPTS):
            stored, listed, before = await self._connections.within_time(self._get, names, secrets=[session.token])
            # Read after what the script compares with: what has changed since then, it notices.
            record = await self._reader.read_session(SessionToken(session.token))
            if record is None or record.session.expires_at_ms != session.expires_at_ms:
                return False
            changes = [
                _Change(names[0], "set", stored, _extended(stored, expires_at_ms, now_ms), ttl_s),
                _extended_list(names[1], listed, _Listed(session.token, expires_at_ms), now_ms),
                _Change(names[2], "check", before),
            ]
            if await self._connections.within_time(self._change, changes, secrets=[session.token]) is not None:
                return True
        return False

    async def close(self) -> None:
        try:
            await self._connections.close()
        finally:
            await self._reader.close()

    async def holds(self, token: str) -> bool:
        """Whether anything is kept under this token."""
        return await self._reader.lookup(SessionToken(token)) is not None

    async def revoked(self, sessions: Sequence[Session]) -> set[str]:
        """The tokens of those that are older than a revocation of all of their user's sessions."""
        return await self._reader.revoked(list(filter(_can_be_named, sessions)))

    async def _revoke(self, session: Session) -> int:
        """The list is the app's to show; the session is dead once its key is gone, whatever becomes of the list."""
        if not _can_be_named(session):
            return 0
        name = ACTIVE + session.user_id
        drop = _Change(session.token, "drop")
        for attempt in range(ATTEMPTS):
            (listed,) = await self._connections.within_time(self._get, [name])
            changes = [*_without(name, listed, session.token), drop] if attempt < ATTEMPTS - 1 else [drop]
            deleted = await self._connections.within_time(self._change, changes, secrets=[session.token])
            if deleted is not None:
                return deleted
        raise self._busy()

    async def _tokens_of(self, user_id: str) -> list[SessionToken]:
        if not can_be_sent(user_id):
            return []
        (listed,) = await self._connections.within_time(self._get, [ACTIVE + user_id])
        return [SessionToken(entry.token) for entry in _entries(listed) or []]

    async def _scan(self) -> AsyncIterator[list[SessionRecord]]:
        """All sessions, in pages, in no order."""
        pattern = _escaped(self._address.prefix) + "*"
        cursor, seen = b"0", 0
        while True:
            cursor, keys = await self._connections.within_time(self._scan_page, cursor, pattern)
            seen += len(keys)
            if seen > SCAN_LIMIT_KEYS:
                raise StoreError(
                    f"{self._address.label}: more than {SCAN_LIMIT_KEYS:,} keys: sessions are not looked for among so "
                    "many; name a user by id, or a session by its token"
                )
            page = await self._reader.read_sessions(list(self._tokens_among(keys)))
            yield list(page.values())
            if cursor == b"0":
                return

    def _tokens_among(self, keys: Iterable[bytes]) -> Iterable[SessionToken]:
        prefix = self._address.prefix.encode()
        for key in keys:
            name = key.removeprefix(prefix).decode(errors="ignore")
            if not name.startswith((ACTIVE, REVOKED_BEFORE)):
                yield SessionToken(name)

    async def _scan_page(self, cursor: bytes, pattern: str) -> tuple[bytes, list[bytes]]:
        ((following, keys),) = await self._connections.ask_any([("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_KEYS)])
        return following, keys

    async def _get(self, names: Sequence[str]) -> list[bytes]:
        """What is kept under these names, whole: the script compares it."""
        commands: list[Command] = [("GETRANGE", self._key(name), 0, VALUE_LIMIT_BYTES) for name in names]
        values = await self._connections.ask(commands)
        if any(len(value) > VALUE_LIMIT_BYTES for value in values):
            raise StoreUnavailable(f"{self._address.label}: a key holds more than {VALUE_LIMIT_BYTES:,} bytes")
        return values

    async def _change(self, changes: Sequence[_Change]) -> int | None:
        """How many keys were dropped; None where something is no longer what was expected, and nothing was done."""
        keys = [self._key(change.key) for change in changes]
        arguments: list[str | bytes | int] = []
        for change in changes:
            arguments += [change.action, change.expected, change.value, change.ttl_s]
        (answer,) = await self._connections.ask_any([("EVAL", _SCRIPT, len(keys), *keys, *arguments)])
        return None if answer == _CHANGED else int(answer)

    def _key(self, name: str) -> bytes:
        return (self._address.prefix + name).encode()

    def _busy(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self._address.label}: the app wrote there again and again")


def _newest(records: Iterable[SessionRecord], limit: int) -> list[SessionRecord]:
    return heapq.nlargest(limit, records, key=lambda record: record.session.created_at_ms)


def _can_be_named(session: Session) -> bool:
    return can_be_sent(session.token) and can_be_sent(session.user_id)


def _entries(listed: bytes) -> list[_Listed] | None:
    """The list of a user's sessions; None for a text that is none, which is left alone."""
    try:
        return _LIST.decode(listed or b"[]")
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _without(name: str, listed: bytes, token: str) -> list[_Change]:
    """What becomes of the list when this session goes."""
    entries = _entries(listed)
    if entries is None or all(entry.token != token for entry in entries):
        return []
    others = [entry for entry in entries if entry.token != token]
    if not others:
        return [_Change(name, "delete", listed)]
    return [_Change(name, "keep_ttl", listed, _ENCODER.encode(others))]


def _extended_list(name: str, listed: bytes, extended: _Listed, now_ms: int) -> _Change:
    """What becomes of the list when this session is extended; expired ones leave it then, as with the app."""
    entries = _entries(listed)
    if entries is None:
        return _Change(name, "check", listed)
    kept = [entry for entry in entries if entry.expiresAt > now_ms and entry.token != extended.token]
    kept = sorted([*kept, extended], key=lambda entry: entry.expiresAt)
    ttl_s = int((kept[-1].expiresAt - now_ms) // 1000)
    return _Change(name, "set", listed, _ENCODER.encode(kept), ttl_s)


def _extended(stored: bytes, expires_at_ms: int, now_ms: int) -> bytes:
    """The text under a token with other dates; all else stays as it is, byte for byte."""
    fields = _FIELDS.decode(stored)
    session = _FIELDS.decode(fields["session"])
    session["expiresAt"] = _raw(iso_text(expires_at_ms))
    session["updatedAt"] = _raw(iso_text(now_ms))
    return _ENCODER.encode({**fields, "session": msgspec.Raw(_ENCODER.encode(session))})


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(_ENCODER.encode(text))


def _escaped(text: str) -> str:
    """The text as a pattern that only it fits."""
    return "".join(f"\\{char}" if char in "\\*?[]" else char for char in text)
