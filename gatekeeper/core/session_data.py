"""The session_data cookie (Better Auth's cookie cache): decoding it, in all three strategies.

A cookie that decodes says what Better Auth knew at `updated_at_ms`, no more.  Whether it may stand in for the
store is for others to say, and whoever uses it compares `record.session.token` with the verified session token:
this cookie alone proves nobody's presence.

One rule against all games with JSON text: what is parsed is the very text that the MAC covers, or the plaintext
that was decrypted, never a second reading of the cookie.  Every refusal sends the gate to the store, so what is
doubtful is refused, also where Better Auth would be more patient.  Format: Better Auth wire format, cookie cache;
RFC 7515 and 7516.
"""

import re
from binascii import a2b_base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal, TypeVar

import msgspec
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from jwt.algorithms import HMACAlgorithm
from msgspec import UNSET, Meta, UnsetType

from gatekeeper.core.cookies import Keys, decode_value
from gatekeeper.core.model import Session, SessionRecord, User

Strategy = Literal["compact", "jwt", "jwe"]

_MAX_CHARS = 65536  # as much as a header block
_MAX_JOSE_HEADER_CHARS = 512
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

_BASE64URL = re.compile("[A-Za-z0-9_-]*")
_TO_STANDARD_BASE64 = str.maketrans("-_", "+/")
_COMPACT = re.compile(
    rb'\{"session":(\{.*)\},"expiresAt":([1-9][0-9]{0,15}),"signature":"([A-Za-z0-9_-]{43})"\}', re.DOTALL
)
_JWE_WITHOUT_KEY_PART = re.compile(r"([A-Za-z0-9_-]+)\.\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# Better Auth's JSON reader makes a Date of every text of the first form, and prints a Date in the second.
_READ_AS_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?Z")
_PRINTED_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_QUOTED_DATE = re.compile(f'"({_READ_AS_DATE.pattern})"'.encode())

_HMACS = {
    "HS256": HMACAlgorithm(HMACAlgorithm.SHA256),
    "HS384": HMACAlgorithm(HMACAlgorithm.SHA384),
    "HS512": HMACAlgorithm(HMACAlgorithm.SHA512),
}
_JWE_REGISTRY = jwe.JWERegistry(algorithms=["dir", "A256CBC-HS512"])

_Milliseconds = Annotated[int, Meta(ge=0, le=2**53 - 1)]  # what JavaScript holds exactly
_Seconds = Annotated[int, Meta(ge=0, le=(2**53 - 1) // 1000)]
_StructT = TypeVar("_StructT", bound=msgspec.Struct)


class SessionDataFault(StrEnum):
    """Why a session_data cookie is of no use."""

    TOO_LARGE = "too_large"
    UNDECODABLE = "undecodable"
    BAD_SIGNATURE = "bad_signature"
    UNKNOWN_KEY = "unknown_key"
    SCHEMA = "schema"
    VERSION = "version"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    SESSION_EXPIRED = "session_expired"


class SessionDataCookie(msgspec.Struct, frozen=True):
    """A session_data cookie that decoded, and neither has expired itself nor holds an expired session.

    `expires_at_ms` is None for a jwt or jwe without `exp`.  `key_index` says which secret it was made with; 0 is
    the current one, and only a jwe can have another.
    """

    record: SessionRecord
    updated_at_ms: int
    version: str
    expires_at_ms: int | None
    key_index: int = 0


def decode(
    raw: str, keys: Keys, *, strategy: Strategy, version: str, now_ms: int
) -> SessionDataCookie | SessionDataFault:
    """The session in a raw session_data value, or why it is of no use.  Never raises.

    The rules of time are those of Better Auth's get-session, without tolerance: the cookie's end and the session's
    may be `now_ms` itself, but a jwt's must be later, as the library that reads it there has it.
    """
    if len(raw) > _MAX_CHARS:
        return SessionDataFault.TOO_LARGE
    opened = _OPENERS[strategy](decode_value(raw), keys)
    if isinstance(opened, SessionDataFault):
        return opened
    payload = _parse(opened.text, _Payload)
    record = None if payload is None else _to_record(payload, now_ms)
    if payload is None or record is None:
        return SessionDataFault.SCHEMA
    end_ms = _end_ms(payload, strategy)
    if payload.version != version:
        return SessionDataFault.VERSION
    if end_ms is not None and (end_ms < now_ms or (strategy == "jwt" and end_ms == now_ms)):
        return SessionDataFault.EXPIRED
    if payload.nbf * 1000 > now_ms:
        return SessionDataFault.NOT_YET_VALID
    if record.session.expires_at_ms < now_ms:
        return SessionDataFault.SESSION_EXPIRED
    return SessionDataCookie(record, payload.updated_at, payload.version, end_ms, opened.key_index)


class _Opened(msgspec.Struct, frozen=True):
    """JSON text whose origin is proven, and by which secret."""

    text: bytes
    key_index: int = 0


def _open_compact(value: str, keys: Keys) -> _Opened | SessionDataFault:
    """The text that a compact cookie's MAC covers: the payload with `expiresAt` appended as one more key.

    Better Auth parses the cookie and prints it anew to check the MAC.  For all that it writes itself the outcome is
    the cookie's own text, cut and joined; so this is taken, and refused where printing would not give the same.
    """
    parts = _COMPACT.fullmatch(_decode_base64url(value.removesuffix("=").removesuffix("=")) or b"")
    if parts is None:
        return SessionDataFault.UNDECODABLE
    payload, expires_at, mac = parts.groups()
    signed = payload + b',"expiresAt":' + expires_at + b"}"
    if not keys.mac_matches(signed, _decode_base64url(mac.decode()) or b""):
        return SessionDataFault.BAD_SIGNATURE
    return _Opened(signed) if _prints_the_same(signed) else SessionDataFault.BAD_SIGNATURE


class _JwtHeader(msgspec.Struct, forbid_unknown_fields=True):
    """A header that asks for nothing that would have to be understood: no `crit`, no keys to fetch."""

    alg: Literal["HS256", "HS384", "HS512"]
    typ: str = ""
    kid: str = ""
    cty: str = ""


def _open_jwt(value: str, keys: Keys) -> _Opened | SessionDataFault:
    """The payload of a JWS in compact form under the current secret (RFC 7515 §3.1, §5.2)."""
    signed, _, mac_part = value.rpartition(".")
    head, _, body = signed.partition(".")
    header = _parse_header(head, _JwtHeader)
    text, mac = _decode_base64url(body), _decode_base64url(mac_part)
    if header is None or text is None or mac is None:
        return SessionDataFault.UNDECODABLE
    if not _HMACS[header.alg].verify(signed.encode(), keys.current, mac):
        return SessionDataFault.BAD_SIGNATURE
    return _Opened(text)


class _JweHeader(msgspec.Struct, forbid_unknown_fields=True):
    """As above, and no `zip`: nothing is decompressed.

    Better Auth names A256GCM as well, but its keys are too long for that, and its library refuses them.
    """

    alg: Literal["dir"]
    enc: Literal["A256CBC-HS512"]
    kid: str | UnsetType = UNSET
    typ: str = ""
    cty: str = ""


def _open_jwe(value: str, keys: Keys) -> _Opened | SessionDataFault:
    """The plaintext of a JWE in compact form (RFC 7516 §3.1, §5.2), by the key that it names, else by any."""
    parts = _JWE_WITHOUT_KEY_PART.fullmatch(value)
    header = None if parts is None else _parse_header(parts[1], _JweHeader)
    if header is None:
        return SessionDataFault.UNDECODABLE
    fault = SessionDataFault.UNKNOWN_KEY
    for index, (kid, key) in enumerate(keys.data_keys):
        if header.kid in (UNSET, kid):
            text = _decrypt(value, key)
            if text is not None:
                return _Opened(text, index)
            fault = SessionDataFault.BAD_SIGNATURE
    return fault


_OPENERS: dict[Strategy, Callable[[str, Keys], _Opened | SessionDataFault]] = {
    "compact": _open_compact,
    "jwt": _open_jwt,
    "jwe": _open_jwe,
}


def _decrypt(value: str, key: bytes) -> bytes | None:
    try:
        return jwe.decrypt_compact(value, OctKey.import_key(key), registry=_JWE_REGISTRY).plaintext
    except (JoseError, ValueError):  # the latter for broken base64 and padding
        return None


class _SessionFields(msgspec.Struct, rename="camel"):
    """What Better Auth's schema asks of a session, and the plugins' columns that we know; any other key passes."""

    id: str
    token: str
    user_id: str | _Milliseconds
    expires_at: str
    created_at: str | UnsetType = UNSET
    updated_at: str | UnsetType = UNSET
    ip_address: str | None = None
    user_agent: str | None = None
    impersonated_by: str | None = None
    active_organization_id: str | None = None


class _UserFields(msgspec.Struct, rename="camel"):
    """The same for a user."""

    id: str
    name: str
    email: str
    email_verified: bool = False
    image: str | None = None
    created_at: str | UnsetType = UNSET
    updated_at: str | UnsetType = UNSET
    two_factor_enabled: bool | None = None
    role: str | None = None
    banned: bool | None = None
    ban_expires: str | None = None


class _Payload(msgspec.Struct, rename="camel"):
    """The payload of every strategy; `expires_at` is compact's, in ms, the last three are JOSE's claims in s."""

    session: _SessionFields
    user: _UserFields
    updated_at: _Milliseconds
    version: str = "1"
    expires_at: _Milliseconds = 0
    exp: _Seconds | UnsetType = UNSET
    nbf: _Seconds = 0
    iat: _Seconds = 0


def _end_ms(payload: _Payload, strategy: Strategy) -> int | None:
    if strategy == "compact":
        return payload.expires_at
    return None if payload.exp is UNSET else payload.exp * 1000


def _to_record(payload: _Payload, now_ms: int) -> SessionRecord | None:
    """The record, an absent date being now; None for a bad date, and for a text that Better Auth reads as a date."""
    session, user = payload.session, payload.user
    if any(_READ_AS_DATE.fullmatch(text) for text in _texts(session, user)):
        return None
    try:
        return SessionRecord(_to_session(session, now_ms), _to_user(user, now_ms))
    except ValueError:
        return None


def _texts(session: _SessionFields, user: _UserFields) -> list[str]:
    optional = (
        session.ip_address,
        session.user_agent,
        session.impersonated_by,
        session.active_organization_id,
        user.image,
        user.role,
    )
    certain = (session.id, session.token, str(session.user_id), user.id, user.name, user.email)
    return [*certain, *filter(None, optional)]


def _to_session(fields: _SessionFields, now_ms: int) -> Session:
    return Session(
        id=fields.id,
        token=fields.token,
        user_id=str(fields.user_id),
        expires_at_ms=_date_ms(fields.expires_at),
        created_at_ms=_date_ms(fields.created_at) if fields.created_at is not UNSET else now_ms,
        updated_at_ms=_date_ms(fields.updated_at) if fields.updated_at is not UNSET else now_ms,
        ip_address=fields.ip_address,
        user_agent=fields.user_agent,
        impersonated_by=fields.impersonated_by,
        active_organization_id=fields.active_organization_id,
    )


def _to_user(fields: _UserFields, now_ms: int) -> User:
    return User(
        id=fields.id,
        name=fields.name,
        email=fields.email.lower(),
        email_verified=fields.email_verified,
        image=fields.image,
        created_at_ms=_date_ms(fields.created_at) if fields.created_at is not UNSET else now_ms,
        updated_at_ms=_date_ms(fields.updated_at) if fields.updated_at is not UNSET else now_ms,
        two_factor_enabled=fields.two_factor_enabled,
        role=fields.role,
        banned=fields.banned is True,
        ban_expires_ms=None if fields.ban_expires is None else _date_ms(fields.ban_expires),
    )


def _date_ms(text: str) -> int:
    """Milliseconds since the epoch of a date as Better Auth prints it; ValueError for any other text."""
    if not _PRINTED_DATE.fullmatch(text):
        raise ValueError("not a date as Better Auth prints it")
    return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND


def _prints_the_same(text: bytes) -> bool:
    """Whether JSON text stays as it is when parsed and printed: no blanks, repeated keys, odd escapes or odd dates."""
    try:
        for found in _QUOTED_DATE.finditer(text):
            _date_ms(found[1].decode())
        return msgspec.json.encode(msgspec.json.decode(text)) == text
    except (ValueError, RecursionError):
        return False


def _parse(text: bytes, shape: type[_StructT]) -> _StructT | None:
    try:
        return msgspec.json.decode(text, type=shape)
    except (ValueError, RecursionError):
        return None


def _parse_header(text: str, shape: type[_StructT]) -> _StructT | None:
    """A JOSE header; short, since it is read before anything is proven."""
    decoded = _decode_base64url(text) if len(text) <= _MAX_JOSE_HEADER_CHARS else None
    return None if decoded is None else _parse(decoded, shape)


def _decode_base64url(text: str) -> bytes | None:
    """The bytes of unpadded base64url; None for any other text."""
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        return None
    return a2b_base64(text.translate(_TO_STANDARD_BASE64) + "==")
