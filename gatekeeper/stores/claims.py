"""What session_data cookies say, where that may stand in for the store.

Better Auth's cookie cache goes on saying what it said for minutes after a session was revoked.  Here it counts only
while the feed's lease is held, and only if nothing can have happened since it was written that was not told:

* it was written after this worker's uninterrupted coverage began, with `SKEW_MS` for clocks that differ;
* no change that was told names its session or its user: each leaves a mark, for as long as such a cookie may live;
* it is not from the future, and younger than our own `cookie_cache.max_age`, whatever the app's is;
* it was made with the current secret, for the token that was verified.

There is room for so many marks.  When they overflow, what was written before that moment counts no more.

The wall clock says how old a cookie is now, and nothing else: it may have been wrong when the coverage began, or a
change was told, and have been set since.  How long ago that was the monotonic clock says.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from gatekeeper.core.cookies import Keys, find_session_data
from gatekeeper.core.model import SessionRecord, SessionToken
from gatekeeper.core.session_data import SessionDataCookie, SessionDataFault, Strategy, decode
from gatekeeper.stores.feeds.feed import digest_of
from gatekeeper.stores.lease import Lease

SKEW_MS = 5_000
"""How far the clock of who writes the cookie may be from ours."""

MARKS = 50_000
_KNOWN = 10_000


class ClaimSettings(msgspec.Struct, frozen=True):
    """How session_data cookies are read: the cookie's full name, and `session.cookie_cache`."""

    name: str
    strategy: Strategy
    version: str
    max_age_ms: int


class _Mark(NamedTuple):
    """When a change was told: in monotonic seconds, and in milliseconds since the epoch by the clock of that time."""

    at: float
    at_ms: int


class _Claim:
    """A cookie that was decoded, and what feeds call its session and user."""

    __slots__ = ("cookie", "digest", "raw", "user_digest")

    def __init__(self, raw: str, cookie: SessionDataCookie) -> None:
        self.raw = raw
        self.cookie = cookie
        self.digest = digest_of(cookie.record.session.token)
        self.user_digest = digest_of(cookie.record.user.id)


class Claims:
    """The cookies of one worker.  `clock` gives monotonic seconds, `wall_clock` milliseconds since the epoch.

    Without settings no cookie counts.
    """

    def __init__(
        self,
        settings: ClaimSettings | None,
        keys: Keys,
        lease: Lease,
        clock: Callable[[], float],
        wall_clock: Callable[[], int],
        *,
        marks: int = MARKS,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._lease = lease
        self._clock = clock
        self._wall_clock = wall_clock
        self._marks_limit = marks
        self._marks: OrderedDict[bytes, _Mark] = OrderedDict()
        self._not_before = -math.inf
        self._known: OrderedDict[SessionToken, _Claim] = OrderedDict()
        self._last: _Claim | None = None
        self.hits = 0

    def __repr__(self) -> str:
        return f"<Claims, {len(self._marks)} marks>"

    def read(self, cookies: str | None, token: SessionToken, now_ms: int) -> SessionRecord | None:
        """The session that the session_data cookie in this Cookie header speaks for, if that may decide."""
        settings, since, now = self._settings, self._lease.covered_since, self._clock()
        if settings is None or since is None or not self._lease.is_held(now):
            return None
        claim = self._claim_of(settings, cookies, token, now_ms)
        if claim is None or claim.digest in self._marks or claim.user_digest in self._marks:
            return None
        age_ms = now_ms - claim.cookie.updated_at_ms
        if age_ms >= 1000 * (now - max(since, self._not_before)) - SKEW_MS:
            return None
        if not 0 <= age_ms < settings.max_age_ms or _has_ended(claim.cookie, now_ms):
            return None
        self.hits += 1
        self._last = claim
        return claim.cookie.record

    def any_token(self) -> SessionToken | None:
        """That of the session whose cookie decided last, unless a change of it was told since."""
        return None if self._last is None else SessionToken(self._last.cookie.record.session.token)

    def is_outdated(self, cookies: str | None, token: SessionToken, now_ms: int) -> bool:
        """Whether the app would believe this header's session_data cookie, although it was told since that its session
        or user has changed.
        """
        settings = self._settings
        marks = self._marks
        claim = self._claim_of(settings, cookies, token, now_ms) if settings is not None and marks else None
        if claim is None:
            return False
        written_ms, now = claim.cookie.updated_at_ms, self._clock()
        told = [mark for mark in (marks.get(claim.digest), marks.get(claim.user_digest)) if mark is not None]
        return any(
            written_ms <= mark.at_ms + SKEW_MS or now_ms - written_ms >= 1000 * (now - mark.at) - SKEW_MS
            for mark in told
        )

    def session_changed(self, digest: bytes) -> None:
        self._mark(digest)

    def user_changed(self, digest: bytes) -> None:
        self._mark(digest)

    def all_changed(self) -> None:
        self._marks.clear()
        self._known.clear()
        self._last = None
        self._not_before = self._clock()

    def _mark(self, digest: bytes) -> None:
        settings = self._settings
        if settings is None:
            return
        if self._last is not None and digest in (self._last.digest, self._last.user_digest):
            self._last = None
        now, marks = self._clock(), self._marks
        marks.pop(digest, None)
        marks[digest] = _Mark(now, self._wall_clock())
        kept_s = (settings.max_age_ms + SKEW_MS) / 1000
        while marks and now - next(iter(marks.values())).at > kept_s:
            marks.popitem(last=False)
        if len(marks) > self._marks_limit:
            self.all_changed()

    def _claim_of(
        self, settings: ClaimSettings, cookies: str | None, token: SessionToken, now_ms: int
    ) -> _Claim | None:
        """What the cookie says about this token; decoded once for as long as it stays the same."""
        raw = find_session_data(cookies, settings.name)
        if not raw:
            return None
        known = self._known.get(token)
        if known is not None and known.raw == raw:
            return known
        cookie = decode(raw, self._keys, strategy=settings.strategy, version=settings.version, now_ms=now_ms)
        if isinstance(cookie, SessionDataFault) or cookie.key_index != 0 or cookie.record.session.token != token:
            return None
        claim = self._known[token] = _Claim(raw, cookie)
        self._known.move_to_end(token)
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return claim


def _has_ended(cookie: SessionDataCookie, now_ms: int) -> bool:
    return cookie.expires_at_ms is not None and cookie.expires_at_ms < now_ms
