"""Cookies and their signatures: reading the Cookie header, verifying, signing, stripping, Set-Cookie.

With `core.session_data` (and the assertions) the only code that sees a key.  Knows nothing of stores, routes or
responses, and no clock.  A Cookie header is `str`, decoded as latin-1, its lines joined by "; ".

The reading is better-call's, since the app behind must see the same session as the gate: split at `;` only, name
and value apart at the first `=`, both trimmed as JavaScript trims, parts without `=` passed over, the first
cookie of a name counts.  A strict parser that stops at an odd neighbour would sign visitors out.

A signed cookie is `encodeURIComponent(value + "." + base64(HMAC-SHA256(secret, value)))`, the key being the
secret's own UTF-8 bytes.  Format: Better Auth wire format, signed cookies; RFC 6265 §4.2.1; RFC 5869.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal
from urllib.parse import quote, unquote_to_bytes

import itsdangerous
import msgspec

from gatekeeper.core.model import SessionToken

_BLANKS = " \t\n\v\f\r\xa0"  # what JavaScript's trim() removes, as far as latin-1 goes
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_UNESCAPED = "!'()*-._~"  # beside letters and digits, what encodeURIComponent leaves alone
_CHUNK = re.compile(r"\.(0|[1-9][0-9]{0,14})")
_MAX_CHUNKS = 100
_MAX_SIGNED_CHARS = 4096
_MAC_CHARS = 44  # 32 bytes in base64: 43 characters and one "="
OWN_PREFIXES = ("gatekeeper.", "__Host-gatekeeper.")
"""How the gate's own cookies begin: what they say is no business of the app's."""

MAX_AGE_LIMIT_S = 34_560_000  # 400 days, as Better Auth and the browsers have it
_MAX_VERIFIED = 4096
_UNSAFE_IN_SET_COOKIE = re.compile("[^!-:<-~]")  # blanks, controls, ";", non-ASCII

_DATA_KEY_SALT = b"better-auth-session"
_DATA_KEY_INFO = b"BetterAuth.js Generated Encryption Key"


class CookieNames(msgspec.Struct, frozen=True):
    """The full names of the three cookies of a session."""

    session_token: str
    session_data: str
    dont_remember: str


class VerifiedToken(msgspec.Struct, frozen=True, gc=False):
    """A session token and the secret that vouches for it; `key_index` 0 is the current one."""

    token: SessionToken
    key_index: int


class Keys:
    """The configured secrets, the current one first; the others are older ones that still verify.

    Raises ValueError for no secret or an empty one.  No representation shows a secret.
    """

    __slots__ = ("_signer", "current", "data_keys", "find_key", "verified")

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets or not all(secrets):
            raise ValueError("at least one secret is needed, and none may be empty")
        self._signer = _Signer(secrets)
        self.find_key = self._signer.find_key
        self.current = self._signer.secret_key
        derived = [_derive_data_key(secret.encode()) for secret in secrets]
        self.data_keys = tuple((_thumbprint(key), key) for key in derived)
        """For each secret the id and the key of encrypted session_data cookies."""
        self.verified: dict[str, VerifiedToken] = {}
        """Raw cookie values that these secrets have signed, so that one that comes again and again costs no MAC."""

    def __repr__(self) -> str:
        return f"<Keys: {len(self._signer.secret_keys)}>"

    @property
    def has_older(self) -> bool:
        """Whether there are secrets beside the current one."""
        return len(self._signer.secret_keys) > 1

    def sign(self, message: bytes) -> bytes:
        """The message, a dot and its MAC under the current secret in base64."""
        return self._signer.sign(message)

    def mac_matches(self, message: bytes, mac: bytes) -> bool:
        """Whether `mac` is the message's MAC under the current secret; in constant time."""
        return hmac.compare_digest(hmac.digest(self.current, message, "sha256"), mac)


class _Signer(itsdangerous.Signer):
    """Better Auth's signature in itsdangerous' frame: HMAC-SHA256 under the bare secret, padded base64.

    itsdangerous lists keys from oldest to newest, the other way round than our configuration.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        super().__init__([secret.encode() for secret in reversed(secrets)], key_derivation="none")
        # Keyed once and copied for each message: 1.05 µs a MAC where the one-shot hmac.digest takes 1.58.
        self._keyed = [hmac.new(key, digestmod="sha256") for key in reversed(self.secret_keys)]

    def get_signature(self, value: str | bytes) -> bytes:
        return base64.b64encode(hmac.digest(self.secret_key, itsdangerous.want_bytes(value), "sha256"))

    def verify_signature(self, value: str | bytes, sig: str | bytes) -> bool:
        mac = _decode_mac(sig)
        return mac is not None and self.find_key(itsdangerous.want_bytes(value), mac) is not None

    def find_key(self, message: bytes, mac: bytes) -> int | None:
        """The index of the secret under which `mac` is the message's MAC, the current one tried first."""
        for index, keyed in enumerate(self._keyed):
            state = keyed.copy()
            state.update(message)
            if hmac.compare_digest(state.digest(), mac):
                return index
        return None


def cookie_names(prefix: str, *, secure: bool) -> CookieNames:
    """The names under a cookie prefix; exactly one spelling each, there is no fallback to the other."""
    start = f"__Secure-{prefix}" if secure else prefix
    return CookieNames(f"{start}.session_token", f"{start}.session_data", f"{start}.dont_remember")


def find_cookie(header: str | None, name: str) -> str | None:
    """The raw text of the first cookie of that exact name: quotes and escapes untouched, "" if empty."""
    if header is None or name not in header:
        return None
    for part in header.split(";"):
        if name in part:
            key, equals, value = part.partition("=")
            if equals and key.strip(_BLANKS) == name:
                return value.strip(_BLANKS)
    return None


def find_session_data(header: str | None, name: str) -> str | None:
    """The raw text of the session_data cookie; if there is none or it is empty, its chunks `name.0`, … joined.

    Chunks stand in the order of their numbers; gaps are not noticed, and of a repeated one the last counts (Better
    Auth reads these by another parser).  What is put together must still pass its MAC.  None if there are none, or
    more than Better Auth makes.
    """
    whole = find_cookie(header, name)
    if whole or header is None:
        return whole
    chunks: dict[int, str] = {}
    for part in header.split(";"):
        if name in part:
            key, equals, value = part.partition("=")
            index = _chunk_index(key.strip(_BLANKS), name) if equals else None
            if index is not None:
                chunks[index] = value.strip(_BLANKS)
    if len(chunks) > _MAX_CHUNKS:
        return None
    return "".join(chunks[index] for index in sorted(chunks)) if chunks else whole


def session_data_names(header: str | None, name: str) -> list[str]:
    """The names in a Cookie header that are the session_data cookie's or one of its chunks', each once."""
    if header is None or name not in header:
        return []
    keys = [part.partition("=")[0].strip(_BLANKS) for part in header.split(";") if "=" in part]
    return list(dict.fromkeys(key for key in keys if key == name or _chunk_index(key, name) is not None))


def decode_value(raw: str) -> str:
    """The value as better-call reads it: a leading quote costs both ends, escapes decoded once.

    Text with a malformed escape, or escapes that are no UTF-8, is kept as it stands.
    """
    text = raw[1:-1] if raw.startswith('"') else raw
    if "%" not in text:
        return text
    # The three escapes of a signature, without the general decoder: no replacement can give rise to another.
    quick = text.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=")
    return quick if "%" not in quick else _decode_escapes(text)


def verify_token(raw: str, keys: Keys) -> VerifiedToken | None:
    """The session token of a raw cookie value, if any of the secrets signed it.

    What was verified is remembered by the whole value: only who knows a right signature finds it there.
    """
    known = keys.verified.get(raw)
    if known is not None:
        return known
    signed = _split_signed(raw)
    if signed is None:
        return None
    value, message, mac = signed
    index = keys.find_key(message, mac)
    if index is None:
        return None
    if len(keys.verified) >= _MAX_VERIFIED:
        keys.verified.clear()
    verified = keys.verified[raw] = VerifiedToken(SessionToken(value), index)
    return verified


def verify_value(raw: str, keys: Keys) -> str | None:
    """The value of another signed cookie, such as dont_remember, if the current secret signed it."""
    signed = _split_signed(raw)
    if signed is None:
        return None
    value, message, mac = signed
    return value if keys.mac_matches(message, mac) else None


def sign_value(value: str, keys: Keys) -> str:
    """The signed cookie of a value under the current secret, as it stands in Set-Cookie.

    An empty value can be signed, but never verifies.  Raises UnicodeEncodeError for a lone surrogate.
    """
    return quote(keys.sign(value.encode()), safe=_UNESCAPED)


def dedupe_cookie(header: str, name: str) -> str:
    """The header without the cookies of that name after the first; the same object if there are none.

    Readers differ in which duplicate they take: this leaves the app the one that was judged.
    """
    if header.count(name) < 2:
        return header
    seen = 0

    def is_repeated(key: str) -> bool:
        nonlocal seen
        seen += key == name
        return key == name and seen > 1

    return _without_cookies(header, is_repeated)


def replace_cookies(header: str, values: Mapping[str, str]) -> str:
    """The header with these values in the first cookies of these names; every other part stays byte for byte."""
    left = dict(values)
    parts = header.split(";")
    for index, part in enumerate(parts):
        key, equals, _ = part.partition("=")
        value = left.pop(key.strip(_BLANKS), None) if equals else None
        if value is not None:
            parts[index] = f"{key}={value}"
    return ";".join(parts)


def strip_cookies(header: str, names: CookieNames) -> str:
    """The header without the session's cookies and the gate's own; "" if nothing is left, the same object if there were
    none.
    """
    whole = (names.session_token, names.session_data, names.dont_remember)

    def is_ours(key: str) -> bool:
        return key in whole or key.startswith(OWN_PREFIXES) or _chunk_index(key, names.session_data) is not None

    return _without_cookies(header, is_ours)


def strip_session_data(header: str, name: str) -> str:
    """The header without the session_data cookie of this name and its chunks; as `strip_cookies` else."""
    return _without_cookies(header, lambda key: key == name or _chunk_index(key, name) is not None)


def is_same_secret(one: str, other: str) -> bool:
    """Whether both texts are the same, in a time that depends on their lengths alone."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def set_cookie(
    name: str,
    value: str,
    *,
    max_age: int | None,
    domain: str | None,
    secure: bool,
    same_site: Literal["lax", "strict", "none"],
    http_only: bool = True,
) -> str:
    """A Set-Cookie line with Better Auth's attributes in its order; `max_age` in seconds, 0 clears.

    As there, `Secure` goes with every `__Secure-` name and with SameSite=None, which browsers demand.
    Raises ValueError for text that would not stay inside its place, and for a Max-Age that Better Auth refuses.
    """
    if any(_UNSAFE_IN_SET_COOKIE.search(text) for text in (name, value, domain or "")):
        raise ValueError("a cookie's name, value and domain are printable ASCII without blanks and semicolons")
    if max_age is not None and not 0 <= max_age <= MAX_AGE_LIMIT_S:
        raise ValueError(f"Max-Age is between 0 and {MAX_AGE_LIMIT_S} seconds")
    attributes = [
        f"{name}={value}",
        "" if max_age is None else f"Max-Age={max_age}",
        f"Domain={domain}" if domain else "",
        "Path=/",
        "HttpOnly" if http_only else "",
        "Secure" if secure or same_site == "none" or name.startswith("__Secure-") else "",
        f"SameSite={same_site.capitalize()}",
    ]
    return "; ".join(filter(None, attributes))


def _split_signed(raw: str) -> tuple[str, bytes, bytes] | None:
    """Value, the same as bytes, and the decoded MAC; None where no MAC could make it a signed value."""
    if len(raw) > _MAX_SIGNED_CHARS:
        return None
    text = decode_value(raw)
    dot = len(text) - _MAC_CHARS - 1  # base64 has no dots: the last one stands here, or the signature is no good
    if dot < 1 or text[dot] != ".":
        return None
    mac = _decode_mac(text[dot + 1 :])
    if mac is None:
        return None
    try:
        return text[:dot], text[:dot].encode(), mac
    except UnicodeEncodeError:
        return None


def _decode_mac(text: str | bytes) -> bytes | None:
    """The bytes of padded base64, the unused bits of the last character ignored as `atob` does.

    `atob` would also skip blanks, but 44 characters with a blank among them cannot hold the 32 bytes of a MAC.
    """
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None


def _decode_escapes(text: str) -> str:
    """decodeURIComponent, or the text itself where that would throw."""
    if _BAD_ESCAPE.search(text):
        return text
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeError:
        return text


def _chunk_index(key: str, name: str) -> int | None:
    """The number of a chunk `name.<number>`; None for any other name and for numbers not in canonical form."""
    match = _CHUNK.fullmatch(key, len(name)) if key.startswith(name) else None
    return int(match[1]) if match else None


def _without_cookies(header: str, drop: Callable[[str], bool]) -> str:
    """The header without the parts whose name is to drop; every other part stays byte for byte."""
    parts = header.split(";")
    kept = [part for part in parts if "=" not in part or not drop(part.partition("=")[0].strip(_BLANKS))]
    if len(kept) == len(parts):
        return header
    return ";".join(kept).lstrip(_BLANKS) if any(part.strip(_BLANKS) for part in kept) else ""


def _derive_data_key(secret: bytes) -> bytes:
    """The 64-byte key of encrypted session_data cookies: HKDF-SHA256 (RFC 5869 §2), two blocks long."""
    pseudorandom = hmac.digest(_DATA_KEY_SALT, secret, "sha256")
    first = hmac.digest(pseudorandom, _DATA_KEY_INFO + b"\x01", "sha256")
    return first + hmac.digest(pseudorandom, first + _DATA_KEY_INFO + b"\x02", "sha256")


def _thumbprint(key: bytes) -> str:
    """The key id of a symmetric key (RFC 7638: SHA-256 of its JWK with the required members in order)."""
    jwk = b'{"k":"' + base64.urlsafe_b64encode(key).rstrip(b"=") + b'","kty":"oct"}'
    return base64.urlsafe_b64encode(hashlib.sha256(jwk).digest()).rstrip(b"=").decode()
