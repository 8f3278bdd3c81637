"""Keyspace notifications: the messages by which a Redis tells of every key that is changed.

`notify-keyspace-events` says which are sent, by letters.  For a session's life to be told it has to have K (messages
that name the key) and four kinds of events: g (DEL, RENAME, EXPIRE …), $ (SET and what else writes texts), x (expired)
and e (evicted).  A stands for all kinds.
"""

import asyncio
import re

from gatekeeper.config.redis_url import RedisAddress
from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.stores.feeds.feed import Changes, digest_of
from gatekeeper.stores.redis_link import Answer, RedisLink

SETTING = "notify-keyspace-events"

NEEDED = "K$gxe"
"""What the setting has to have."""

_ACTIVE = b"active-sessions-"
_REVOKED_BEFORE = b"revoked-sessions-before-"
_SPECIAL = re.compile(rb"[*?\[\\]")
_REMOVALS = {b"del", b"expired", b"evicted", b"rename_from", b"move_from"}


def missing_from(flags: str) -> str:
    """Which of NEEDED these letters lack; empty where they suffice."""
    return "".join(flag for flag in NEEDED if flag not in flags and not (flag != "K" and "A" in flags))


def pattern_of(address: RedisAddress) -> bytes:
    """The pattern of the channels that tell of this address's keys, and of no others."""
    prefix = _SPECIAL.sub(rb"\\\g<0>", address.prefix.encode())
    return _channel_of(address) + prefix + b"*"


def _channel_of(address: RedisAddress) -> bytes:
    return b"__keyspace@%d__:" % address.database


class KeyspaceListener:
    """Tells `changes` what comes, from `start` on, at once.  `marker_channel` is a channel for nobody else's use.

    One session can be watched for being removed.
    """

    def __init__(self, address: RedisAddress, timeout_s: float, marker_channel: str, changes: Changes) -> None:
        self._label = address.label
        self._timeout_s = timeout_s
        self._marker_channel = marker_channel
        self._changes = changes
        self._pattern = pattern_of(address)
        self._key_starts = len(_channel_of(address) + address.prefix.encode())
        self._link = RedisLink(address, timeout_s)
        self._listening: asyncio.Task[None] | None = None
        self._marker = b""
        self._came: asyncio.Future[None] | None = None
        self._watched: bytes | None = None
        self._removed = False

    def __repr__(self) -> str:
        return f"<KeyspaceListener {self._label}>"

    async def start(self) -> list[Answer]:
        """Subscribe, and return what Redis says to that: two answers, either of which may be a Refusal."""
        # The own channel first: nothing is sent to it yet, so that no message comes between the two answers.
        answers = await self._link.ask([("SUBSCRIBE", self._marker_channel), ("PSUBSCRIBE", self._pattern)])
        self._listening = asyncio.create_task(self._link.listen(self._take))
        return answers

    def watch(self, digest: bytes | None) -> None:
        """From now on it is to be known whether this session was removed; of one that is watched already, still."""
        if digest != self._watched:
            self._watched = digest
            self._removed = False

    @property
    def was_removed(self) -> bool:
        """Whether removal is the last that was told of the watched session."""
        return self._removed

    def expect(self, marker: bytes) -> asyncio.Future[None]:
        """What `until` waits for.  To be called before this marker is sent."""
        self._marker = marker
        self._came = asyncio.get_running_loop().create_future()
        return self._came

    async def until(self, came: asyncio.Future[None]) -> None:
        """Wait for the marker.  Raises StoreUnavailable as soon as it is known that it cannot come."""
        if self._listening is not None:
            either = {came, self._listening}
            await asyncio.wait(either, timeout=self._timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if came.done():
            return
        if self._listening is not None and self._listening.done():
            self._listening.result()
        raise StoreUnavailable(f"{self._label}: no answer within {self._timeout_s:g} s")

    async def close(self) -> None:
        """Tell nothing any more.  Safe to call twice."""
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
        await self._link.close()
        if listening is not None:
            await asyncio.gather(listening, return_exceptions=True)

    def _take(self, message: Answer) -> None:
        match message:
            case [b"pmessage", _, bytes(channel), bytes(event)]:
                self._tell(channel[self._key_starts :], event)
            case [b"message", _, self._marker] if self._came is not None and not self._came.done():
                self._came.set_result(None)
            case _:
                pass

    def _tell(self, key: bytes, event: bytes) -> None:
        """Keys that are no session's, as those of rate limits, are told too: it costs less than telling them apart."""
        if key.startswith(_ACTIVE):
            return
        try:
            name = key.removeprefix(_REVOKED_BEFORE).decode()
        except UnicodeDecodeError:
            return  # no token, and no user's id
        digest = digest_of(name)
        if key.startswith(_REVOKED_BEFORE):
            self._changes.user_changed(digest)
            return
        if digest == self._watched:
            self._removed = event in _REMOVALS
        self._changes.session_changed(digest)
