"""The Set-Cookie lines of a session: how its cookies are set and cleared, in Better Auth's form and order.

A session_data cookie that would be longer than browsers take is cut into chunks `name.0`, `name.1`, …; what a request
brings of an earlier one, whole or in chunks, is cleared with the same response.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from gatekeeper.core.cookies import CookieNames, session_data_names, set_cookie

_COOKIE_LIMIT = 4050  # characters of name, value and attributes
_MAX_CHUNKS = 100


class CookieScope(msgspec.Struct, frozen=True):
    """The attributes that all cookies of a session have, beside their age."""

    domain: str | None
    secure: bool
    same_site: Literal["lax", "strict", "none"]


def token_line(names: CookieNames, signed: str, scope: CookieScope, max_age_s: int | None) -> str:
    """The session_token cookie of a signed token; without `max_age_s` until the browser is closed."""
    return _line(names.session_token, signed, scope, max_age_s)


def data_lines(
    names: CookieNames, value: str | None, header: str | None, scope: CookieScope, max_age_s: int | None
) -> list[str]:
    """The session_data cookie, or its chunks; `header` is the request's Cookie header, whose leftovers are cleared.

    Only clears where there is no value, or one that is too long for the most chunks.
    """
    cookies = dict.fromkeys(session_data_names(header, names.session_data), "")
    cookies |= _chunks(names.session_data, value or "", scope, max_age_s)
    return [_line(name, part, scope, max_age_s if part else 0) for name, part in cookies.items()]


def dont_remember_line(names: CookieNames, signed: str, scope: CookieScope) -> str:
    """The cookie of who is not to be remembered, until the browser is closed; with "" it is cleared."""
    return _line(names.dont_remember, signed, scope, None if signed else 0)


def clearing_lines(names: CookieNames, header: str | None, scope: CookieScope) -> list[str]:
    """Everything of a session is removed, with what the request's Cookie header has of session_data."""
    chunks = session_data_names(header, names.session_data)
    cleared: Iterable[str] = (names.session_token, names.session_data, *chunks, names.dont_remember)
    return [_line(name, "", scope, 0) for name in dict.fromkeys(cleared)]


def _chunks(name: str, value: str, scope: CookieScope, max_age_s: int | None) -> Iterator[tuple[str, str]]:
    """Name and value of each cookie that the value needs; none where it is empty or too long."""
    size = _COOKIE_LIMIT - len(_line(f"{name}.99", "", scope, max_age_s))
    if 0 < len(value) <= size:
        yield name, value
    elif 0 < len(value) <= size * _MAX_CHUNKS:
        for index, start in enumerate(range(0, len(value), size)):
            yield f"{name}.{index}", value[start : start + size]


def _line(name: str, value: str, scope: CookieScope, max_age_s: int | None) -> str:
    return set_cookie(
        name, value, max_age=max_age_s, domain=scope.domain, secure=scope.secure, same_site=scope.same_site
    )
