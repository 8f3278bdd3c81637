"""Tokens that prove that somebody read the mail to an address: Better Auth's, a JWS under the secret itself.

The claims are `email`, `userId`, `iat` and `exp`, in seconds.  Nothing is stored: a token holds until it ends, and so
may be used twice.  A session_data cookie of the same form has no `email`, and is none.  Format: RFC 7515
§3.1, RFC 7519.
"""

import base64
import re
from enum import StrEnum

import msgspec

from gatekeeper.core.cookies import Keys

LIFETIME_S = 3600

_HEADER = b'{"alg":"HS256"}'
_TOKEN = re.compile(r"([A-Za-z0-9_-]{1,512})\.([A-Za-z0-9_-]{1,4096})\.([A-Za-z0-9_-]{43})")
_TO_URL_ALPHABET = bytes.maketrans(b"+/", b"-_")


class EmailToken(msgspec.Struct, frozen=True):
    """Whose address it is: `user_id` is None where the token names only the address."""

    email: str
    user_id: str | None


class EmailTokenFault(StrEnum):
    """Why a token proves nothing; the values are Better Auth's codes."""

    INVALID = "INVALID_TOKEN"
    EXPIRED = "TOKEN_EXPIRED"


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alg: str
    typ: str | None = None


class _Claims(msgspec.Struct, frozen=True, rename={"user_id": "userId", "update_to": "updateTo"}):
    email: str
    user_id: str | None = None
    update_to: str | None = None
    exp: float | None = None
    nbf: float | None = None


def make_email_token(email: str, user_id: str, keys: Keys, *, now_ms: int, lifetime_s: int = LIFETIME_S) -> str:
    """The token for this user's address, under the current secret."""
    issued_s = now_ms // 1000
    claims = {"email": email.lower(), "userId": user_id, "iat": issued_s, "exp": issued_s + lifetime_s}
    message = b".".join(map(_encode, (_HEADER, msgspec.json.encode(claims))))
    mac = keys.sign(message)[len(message) + 1 :]
    return b".".join((message, mac.translate(_TO_URL_ALPHABET).rstrip(b"="))).decode()


def read_email_token(token: str, keys: Keys, *, now_ms: int) -> EmailToken | EmailTokenFault:
    """Whose address the token proves, or why it does not.  Only the current secret's count.

    Tokens that change the address, which the gate never makes, are not taken.
    """
    parts = _TOKEN.fullmatch(token)
    if parts is None:
        return EmailTokenFault.INVALID
    header, claims, mac = map(_decode, parts.groups())
    if not keys.mac_matches(token.rpartition(".")[0].encode(), mac):
        return EmailTokenFault.INVALID
    try:
        algorithm = msgspec.json.decode(header, type=_Header).alg
        found = msgspec.json.decode(claims, type=_Claims)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return EmailTokenFault.INVALID
    if algorithm != "HS256" or found.update_to is not None:
        return EmailTokenFault.INVALID
    now_s = now_ms // 1000
    if found.exp is not None and found.exp <= now_s:
        return EmailTokenFault.EXPIRED
    if found.nbf is not None and found.nbf > now_s:
        return EmailTokenFault.INVALID
    return EmailToken(found.email, found.user_id)


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(text: str) -> bytes:
    """The bytes of base64url without padding; what is no multiple of bytes loses its last digit."""
    whole = text if len(text) % 4 != 1 else text[:-1]
    return base64.urlsafe_b64decode(whole + "=" * (-len(whole) % 4))
