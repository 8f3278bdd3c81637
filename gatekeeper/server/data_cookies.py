"""Which session_data cookies a browser may keep: those that say of a session and its user what is so.

Better Auth leaves a cookie alone until it ends; here it must also be true, or it is made anew.  To find that out takes
as long as a dozen requests, so it is remembered for as long as cookie and record stay the same.
"""

from collections.abc import Callable

from gatekeeper.core.cookies import Keys
from gatekeeper.core.model import SessionRecord
from gatekeeper.core.session_data import SessionDataCookie, decode
from gatekeeper.core.session_data_writing import SessionDataFormat, encode

MOST_KNOWN = 10_000
"""Cookies that are remembered; all are forgotten when there are more."""

MAX_KNOWN_CHARS = 4096
"""What is longer is no single cookie, and found out each time: the user has made it so long, and can spell it in many
ways.
"""

NEVER_MS = 2**63 - 1


class DataCookies:
    """The cookies of this form.  `new_uuid` gives the id that some cookies need."""

    def __init__(self, form: SessionDataFormat, keys: Keys, new_uuid: Callable[[], str]) -> None:
        self._form = form
        self._keys = keys
        self._new_uuid = new_uuid
        self._known: dict[str, tuple[SessionRecord, int]] = {}

    def __repr__(self) -> str:
        return f"<DataCookies {self._form.strategy}, {len(self._known)} known>"

    def true_until_ms(self, raw: str, record: SessionRecord, now_ms: int) -> int | None:
        """The moment when this cookie ends, if it has not, and says of this record what is so; else None."""
        known = self._known.get(raw)
        if known is not None and known[0] is record and now_ms < known[1]:
            return known[1]
        said = self._read(raw, now_ms)
        made = encode(record, self._keys, self._form, now_ms=now_ms, cookie_id=self._new_uuid())
        would_say = None if made is None else self._read(made, now_ms)
        if said is None or would_say is None or said.record != would_say.record:
            return None
        ends_ms = NEVER_MS if said.expires_at_ms is None else said.expires_at_ms
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        if len(raw) <= MAX_KNOWN_CHARS:
            self._known[raw] = (record, ends_ms)
        return ends_ms

    def _read(self, raw: str, now_ms: int) -> SessionDataCookie | None:
        """The cookie, if the current secret made it."""
        form = self._form
        cookie = decode(raw, self._keys, strategy=form.strategy, version=form.version, now_ms=now_ms)
        return cookie if isinstance(cookie, SessionDataCookie) and cookie.key_index == 0 else None
