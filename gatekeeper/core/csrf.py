"""Tokens of forms: whoever sends one has read our page in this very browser, lately.

A browser that opens a form gets a random value in a cookie, before anybody is signed in, and the form a token that is
signed for this value and for what the form does.  Another site can make a browser send a form, but read neither; and
with a cookie and a token of its own it gets nowhere, as it cannot set the cookie: over https its name begins with
`__Host-`.  A token for one purpose holds for no other; that of a signed-in visitor's form names the session.

Token: `<seconds since the epoch>.<MAC in base64url>`.  Signing is `core.cookies`' business.
"""

import base64
import re
from enum import StrEnum

from gatekeeper.core.cookies import Keys, set_cookie

LIFETIME_S = 12 * 3600
"""How long a form may stay open."""

BROWSER_LENGTH = 22
"""Characters of a browser's value, letters and digits: 131 bits."""

_AHEAD_S = 60
_BLANKS = " \t"
_BROWSER = re.compile(r"[A-Za-z0-9]{22}")
_TOKEN = re.compile(r"([0-9]{1,12})\.([A-Za-z0-9_-]{43})")


class TokenFault(StrEnum):
    """Why a form is not carried out."""

    FOREIGN = "foreign"
    STALE = "stale"


def form_cookie_name(*, secure: bool) -> str:
    """The name of the cookie that has a browser's value."""
    return "__Host-gatekeeper.form" if secure else "gatekeeper.form"


def find_browser(header: str | None, *, secure: bool) -> str | None:
    """The browser's value in this Cookie header, as far as it can be one of ours.

    The name is read as browsers read it, and not trimmed as the app's cookies are: a neighbouring host can set a cookie
    that is called the same behind a no-break space, which no browser takes for one with the prefix.
    """
    name = form_cookie_name(secure=secure)
    for part in (header or "").split(";"):
        key, equals, value = part.partition("=")
        if equals and key.strip(_BLANKS) == name:
            value = value.strip(_BLANKS)
            return value if _BROWSER.fullmatch(value) else None
    return None


def browser_line(browser: str, *, secure: bool) -> str:
    """The Set-Cookie value that gives a browser its value, until it is closed."""
    name = form_cookie_name(secure=secure)
    return set_cookie(name, browser, max_age=None, domain=None, secure=secure, same_site="lax")


def make_token(browser: str, purpose: str, keys: Keys, now_s: int) -> str:
    """The token of a form that is shown now to this browser for this purpose."""
    message = _message(browser, purpose, now_s)
    mac = base64.b64decode(keys.sign(message)[len(message) + 1 :])
    return f"{now_s}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def token_fault(
    token: str, browser: str | None, purpose: str, keys: Keys, now_s: int, *, lifetime_s: int = LIFETIME_S
) -> TokenFault | None:
    """Why this token does not show that the browser was shown the form, or None.

    STALE: it was ours, and is too old.  Only the current secret's signature counts.
    """
    match = _TOKEN.fullmatch(token)
    if match is None or browser is None:
        return TokenFault.FOREIGN
    issued_s, mac = int(match[1]), base64.urlsafe_b64decode(f"{match[2]}=")
    if not keys.mac_matches(_message(browser, purpose, issued_s), mac):
        return TokenFault.FOREIGN
    return None if -_AHEAD_S <= now_s - issued_s < lifetime_s else TokenFault.STALE


def _message(browser: str, purpose: str, issued_s: int) -> bytes:
    """What is signed: no session's token begins like this, and no other signed text of ours."""
    return f"gatekeeper.form\n{browser}\n{issued_s}\n{purpose}".encode("utf-8", "surrogatepass")
