"""What carries a session's token in a request: its cookie, or the Authorization header.

Knows which of the two counts, and how what an older secret signed is signed anew: the app behind takes the current
secret's signature alone.  Knows nothing of stores and routes, and sees no key: signing is `core.cookies`' business.

Only what looks like a token is signed anew.  Whoever has an older secret can make the gate sign; all else that the
current secret signs, such as session_data cookies and links of mails, has characters that no token has.

The header is read as Better Auth's bearer plugin reads it: the scheme in any case, one blank, a signed token with or
without percent-encoding.  A token without a signature is nobody's.
"""

from gatekeeper.core.cookies import (
    CookieNames,
    Keys,
    VerifiedToken,
    find_cookie,
    set_cookie,
    sign_value,
    verify_token,
)
from gatekeeper.core.lifecycle import is_remembered
from gatekeeper.core.model import Reason
from gatekeeper.core.session_cookies import CookieScope

_SCHEME = "bearer "


def bearer_token(authorization: str | None, keys: Keys) -> VerifiedToken | None:
    """The session token of an Authorization header, if any of the secrets signed it; None: the header says nothing."""
    if authorization is None or authorization[: len(_SCHEME)].lower() != _SCHEME:
        return None
    raw = authorization[len(_SCHEME) :].strip()
    return None if raw.startswith('"') else verify_token(raw, keys)  # quotes are a cookie's way of writing


def presented_token(
    cookie: str | None, authorization: str | None, name: str, keys: Keys, *, bearer: bool
) -> VerifiedToken | Reason:
    """The token of a request's Authorization header, where `bearer` lets that carry one, else of its cookie `name`.

    NO_COOKIE or BAD_SIGNATURE without one.
    """
    if bearer and (carried := bearer_token(authorization, keys)) is not None:
        return carried
    raw = find_cookie(cookie, name)
    if not raw:
        return Reason.NO_COOKIE
    return verify_token(raw, keys) or Reason.BAD_SIGNATURE


def presented_tokens(
    cookie: str | None, authorization: str | None, name: str, keys: Keys, *, bearer: bool
) -> list[VerifiedToken]:
    """All tokens that a request carries, that which counts (`presented_token`) first; those of one session once."""
    raw = find_cookie(cookie, name)
    carried = bearer_token(authorization, keys) if bearer else None
    found = {one.token: one for one in (carried, verify_token(raw, keys) if raw else None) if one is not None}
    return list(found.values())


def bearer_header(token: VerifiedToken, keys: Keys) -> bytes:
    """The Authorization header's value for this token under the current secret."""
    return f"Bearer {sign_value(token.token, keys)}".encode("ascii")


def resigned_cookies(header: str | None, names: CookieNames, keys: Keys) -> dict[str, str]:
    """By name, the values under the current secret of those of a session's signed cookies that an older one signed."""
    if header is None or not keys.has_older:
        return {}
    found = {name: _verified(header, name, keys) for name in (names.session_token, names.dont_remember)}
    return {name: sign_value(old.token, keys) for name, old in found.items() if old is not None and is_outdated(old)}


def is_outdated(token: VerifiedToken) -> bool:
    """Whether it is to be signed anew: an older secret signed it, and it is a token, or `true`."""
    return token.key_index > 0 and token.token.isascii() and token.token.isalnum()


def resigned_set_cookies(
    resigned: dict[str, str], header: str | None, names: CookieNames, scope: CookieScope, max_age_s: int, keys: Keys
) -> tuple[bytes, ...]:
    """The Set-Cookie values that give the browser these, as Better Auth would.

    It says the whole life of a new session whatever is left of this one: what counts is the store's date.  Where the
    visitor did not want to be remembered both cookies end with the browser.
    """
    remembered = is_remembered(header, names, keys)
    lines: list[bytes] = []
    for name, value in resigned.items():
        lasts = remembered and name == names.session_token
        line = set_cookie(
            name,
            value,
            max_age=max_age_s if lasts else None,
            domain=scope.domain,
            secure=scope.secure,
            same_site=scope.same_site,
        )
        lines.append(line.encode("ascii"))
    return tuple(lines)


def _verified(header: str | None, name: str, keys: Keys) -> VerifiedToken | None:
    raw = find_cookie(header, name)
    return verify_token(raw, keys) if raw else None
