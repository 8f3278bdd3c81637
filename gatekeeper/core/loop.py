"""The loop breaker's memory: a short cookie that counts how often one path led to sign-in.

The cookie is a hint for a human being, so it is not signed: whoever forges it only shows the explaining page to
their own browser, or hides it.  Whatever is malformed, of another path, too old or from the future counts as none.
Value: `<8 hex digits of SHA-256 of the path>.<count>.<seconds since the epoch of the first redirect>`.
"""

import hashlib
import re
from typing import NamedTuple

from gatekeeper.core.cookies import find_cookie

COOKIE = "gatekeeper.redirects"
WINDOW_S = 30
"""How long redirects of one path belong together."""

_VALUE = re.compile(r"([0-9a-f]{8})\.([1-9][0-9]{0,3})\.([0-9]{1,12})")


class _Redirects(NamedTuple):
    times: int
    first_s: int


def read_redirects(header: str | None, path: str, now_ms: int) -> int:
    """How many redirects of `path` this Cookie header remembers from the last 30 s."""
    found = _find(header, path, now_ms)
    return 0 if found is None else found.times


def redirects_cookie(header: str | None, path: str, count: int, now_ms: int, *, secure: bool) -> str:
    """The Set-Cookie value that remembers `count` redirects of `path`, this one included.

    `header` is the request's Cookie header: where it remembers earlier redirects of the path, the window goes on
    from the first of them.
    """
    found = _find(header, path, now_ms)
    first_s = now_ms // 1000 if found is None else found.first_s
    flags = "HttpOnly; Secure; SameSite=Lax" if secure else "HttpOnly; SameSite=Lax"
    return f"{COOKIE}={_mark(path)}.{min(count, 9999)}.{first_s}; Max-Age={WINDOW_S}; Path=/; {flags}"


def _find(header: str | None, path: str, now_ms: int) -> _Redirects | None:
    value = find_cookie(header, COOKIE)
    match = None if value is None else _VALUE.fullmatch(value)
    if match is None or match[1] != _mark(path):
        return None
    first_s = int(match[3])
    return _Redirects(int(match[2]), first_s) if 0 <= now_ms // 1000 - first_s <= WINDOW_S else None


def _mark(path: str) -> str:
    return hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()[:8]
