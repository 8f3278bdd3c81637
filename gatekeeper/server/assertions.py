"""Assertions for the app: signed once for each session and audience, and sent again for half of their life.

One is sent only with requests of the very session record that it was made of, or an equal one: when a session is
revoked, extended or read otherwise, nobody gets the old one any more.  Those that are half used up go out of memory as
new ones are made.
"""

from collections.abc import Callable
from secrets import token_bytes

from gatekeeper.core.assertion import Terms, assertion_payload, audience_of
from gatekeeper.core.model import SessionRecord
from gatekeeper.server.assertion_keys import AssertionKeys
from gatekeeper.server.documents import session_document, user_document

LIMIT = 20_000
"""How many assertions are remembered: at most about 30 MB."""

_RANDOM_BYTES = 16


class Minted:
    """An assertion as a header line, and when it is to be sent: from `since_ms` until before `until_ms`."""

    __slots__ = ("line", "record", "since_ms", "until_ms")

    def __init__(self, line: bytes, record: SessionRecord, since_ms: int, until_ms: int) -> None:
        self.line = line
        self.record = record
        self.since_ms = since_ms
        self.until_ms = until_ms


class Assertions:
    """The assertions of one process.  `header` is the name of theirs; `random` gives so many bytes."""

    def __init__(
        self,
        terms: Terms,
        keys: AssertionKeys,
        header: str,
        *,
        random: Callable[[int], bytes] = token_bytes,
        limit: int = LIMIT,
    ) -> None:
        self.keys = keys
        self.signed = 0
        self._terms = terms
        self._header = header
        self._random = random
        self._limit = limit
        self._minted: dict[tuple[str, str], Minted] = {}

    def __repr__(self) -> str:
        return f"<Assertions, {len(self._minted)} in memory>"

    @property
    def size(self) -> int:
        """How many are in memory."""
        return len(self._minted)

    def mint(self, record: SessionRecord, upstream: str, now_ms: int) -> Minted:
        """The assertion of this live session for this upstream, "" for the default one."""
        minted = self._minted.get((record.session.token, upstream))
        if minted is not None and minted.since_ms <= now_ms < minted.until_ms:
            if minted.record is record:
                return minted
            if minted.record == record:  # read anew, and nothing had changed
                minted.record = record
                return minted
        return self._make(record, upstream, now_ms)

    def forget(self) -> None:
        """Make all of them anew: there are other keys."""
        self._minted.clear()

    def _make(self, record: SessionRecord, upstream: str, now_ms: int) -> Minted:
        payload = assertion_payload(
            record,
            user_document(record.user),
            session_document(record.session),
            self._terms,
            audience=audience_of(self._terms, upstream),
            now_ms=now_ms,
            random=self._random(_RANDOM_BYTES),
        )
        self.signed += 1
        line = f"{self._header}: {self.keys.ring.current.sign(payload)}\r\n".encode()
        key, until_ms = (record.session.token, upstream), now_ms + self._terms.ttl_s * 500
        self._minted.pop(key, None)
        self._make_room(now_ms)
        minted = self._minted[key] = Minted(line, record, now_ms, until_ms)
        return minted

    def _make_room(self, now_ms: int) -> None:
        """Forget what is used up, two for each one that is made, and the oldest where there are too many."""
        for _ in range(2):
            oldest = next(iter(self._minted), None)
            if oldest is None or (self._minted[oldest].until_ms > now_ms and len(self._minted) < self._limit):
                return
            del self._minted[oldest]
