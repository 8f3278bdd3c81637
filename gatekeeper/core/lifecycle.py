"""When a used session is extended, and until when: Better Auth's arithmetic.

A session is due once the time left is `expires_in - update_age` or less.  It then lives for `expires_in` from now on.
Its token, its id and the time of signing in stay as they are.  Who asked not to be remembered has a signed
`dont_remember` cookie, and keeps the end that the session began with.
"""

import msgspec

from gatekeeper.core.cookies import CookieNames, Keys, find_cookie, verify_token
from gatekeeper.core.model import Session


class Lifetimes(msgspec.Struct, frozen=True, gc=False):
    """How long a session lives, and how often a used one is extended; both in milliseconds."""

    expires_in_ms: int
    update_age_ms: int


def due_at_ms(session: Session, lifetimes: Lifetimes) -> int:
    """From when on a use of this session extends it."""
    return session.expires_at_ms - lifetimes.expires_in_ms + lifetimes.update_age_ms


def is_due(session: Session, lifetimes: Lifetimes, now_ms: int) -> bool:
    """Whether a use now extends this session.  One that has expired is not brought back."""
    return due_at_ms(session, lifetimes) <= now_ms <= session.expires_at_ms


def is_remembered(cookie: str | None, names: CookieNames, keys: Keys) -> bool:
    """Whether the session of this Cookie header may be extended: no dont_remember cookie that any secret signed."""
    raw = find_cookie(cookie, names.dont_remember)
    return not raw or verify_token(raw, keys) is None


def extended(session: Session, lifetimes: Lifetimes, now_ms: int) -> Session:
    """The session after a use now that extends it."""
    return msgspec.structs.replace(session, expires_at_ms=now_ms + lifetimes.expires_in_ms, updated_at_ms=now_ms)
