"""Accounts as Better Auth keeps them: password hashes, lengths of passwords, e-mail addresses, ids.

Knows nothing of stores, calls or queues.  A hash costs 32 MiB and the better part of a core's 100 ms: who calls
`hash_password` and `verify_password` from an event loop stops it.  Randomness is passed in.

A stored hash is `<salt>:<key>`, both lower-case hex as we write them, where key = scrypt(NFKC of the password, salt,
N=16384, r=16, p=1, 64 bytes) and the salt is the hex *text*, not what it stands for.  Format: Better Auth wire format,
passwords; RFC 7914.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable
from enum import StrEnum

from gatekeeper.core.cookies import is_same_secret

MAX_PASSWORD_LENGTH = 128
"""In UTF-16 units, as JavaScript counts."""

SALT_BYTES = 16
ID_LENGTH = 32

UNUSABLE_HASH = "disabled:disabled"
"""A stored hash that no password has.  Better Auth too reads it as one, and answers as for a wrong password."""

_N, _R, _P, _KEY_BYTES = 16_384, 16, 1, 64
_MAX_MEMORY = 64 * 2**20  # twice what scrypt takes for these; hashlib's own limit is just too small
_NOBODYS_SALT = "0" * 2 * SALT_BYTES

_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_EVEN = 256 - 256 % len(_ALPHABET)  # bytes from here on would make some characters likelier than others

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_MAILBOX_PART = re.compile(r"[A-Za-z0-9_'+-]+")
_DOMAIN_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_TOP_DOMAIN = re.compile(r"[A-Za-z]{2,}")


class PasswordFault(StrEnum):
    """Why a new password is refused; the values are Better Auth's codes."""

    TOO_SHORT = "PASSWORD_TOO_SHORT"
    TOO_LONG = "PASSWORD_TOO_LONG"


def password_fault(password: str, minimum: int) -> PasswordFault | None:
    """What is wrong with the length of a new password, or None.

    `minimum` is in UTF-16 units, 0 where a password is not new: then only its greatest length counts.
    """
    units = len(password.encode("utf-16-le", "surrogatepass")) // 2
    if units < minimum:
        return PasswordFault.TOO_SHORT
    return PasswordFault.TOO_LONG if units > MAX_PASSWORD_LENGTH else None


def hash_password(password: str, salt: bytes) -> str:
    """The hash to store; `salt` is SALT_BYTES random bytes that no other password has."""
    text = salt.hex()
    return f"{text}:{_derive(password, text)}"


def verify_password(stored: str | None, password: str) -> bool:
    """Whether this is the password of a stored hash; None is the hash of nobody.

    The work is the same whatever is stored.  What Better Auth cannot read as a hash, and answers with an empty 500,
    no password matches here.
    """
    salt, _, rest = (stored or "").partition(":")
    key = rest.partition(":")[0]  # further parts are ignored, as there
    is_readable = bool(salt and key)
    derived = _derive(password, salt if is_readable else _NOBODYS_SALT)
    return is_same_secret(derived, key) and is_readable


def is_email(text: str) -> bool:
    """Whether Better Auth takes this for an e-mail address.  Nothing is trimmed; there is no greatest length.

    Parts of ASCII letters, digits and `_'+-` with single dots between, not ending in `'`; `@`; at least two labels,
    of which the last is two letters or more, and the others letters, digits and `-` but not `-` in front.
    """
    mailbox, at, domain = text.partition("@")
    *labels, top = domain.split(".")
    return (
        bool(at and labels)
        and not mailbox.endswith("'")
        and all(_MAILBOX_PART.fullmatch(part) for part in mailbox.split("."))
        and all(_DOMAIN_PART.fullmatch(label) for label in labels)
        and _TOP_DOMAIN.fullmatch(top) is not None
    )


def make_id(random_bytes: Callable[[int], bytes], length: int = ID_LENGTH) -> str:
    """An id or a token: `length` letters and digits, each as likely as any other.

    `random_bytes` gives so many random bytes, and is asked again where the first were not enough.
    """
    found: list[str] = []
    while len(found) < length:
        drawn = random_bytes(2 * length)
        found += [_ALPHABET[byte % len(_ALPHABET)] for byte in drawn if byte < _EVEN]
    return "".join(found[:length])


def _derive(password: str, salt: str) -> str:
    """The key of a password, 128 hex digits."""
    text = _utf8(unicodedata.normalize("NFKC", password))
    return hashlib.scrypt(text, salt=_utf8(salt), n=_N, r=_R, p=_P, dklen=_KEY_BYTES, maxmem=_MAX_MEMORY).hex()


def _utf8(text: str) -> bytes:
    """UTF-8 as JavaScript writes it: half of a surrogate pair becomes U+FFFD."""
    return _LONE_SURROGATE.sub("\ufffd", text).encode()
