"""The session_data cookie (Better Auth's cookie cache): writing it, in all three strategies.

Better Auth must read it as its own.  A compact cookie's MAC covers the payload as JavaScript prints it, so what is
printed is what JavaScript would print; and whatever is written is read back, as strictly as any other, before it is
given out.  A session that cannot be said so that both read the same gets no such cookie, which costs a store read.
Format: Better Auth wire format, cookie cache; RFC 7515 and 7516.
"""

import base64
import hmac
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from joserfc import jwe
from joserfc.jwk import OctKey

from gatekeeper.core.cookies import Keys
from gatekeeper.core.model import Session, SessionRecord, User
from gatekeeper.core.session_data import SessionDataCookie, Strategy, decode

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_LAST_MS = 253_402_300_799_999  # the year 9999, the last one that both print alike
_EXACT = 2**53 - 1  # what JavaScript holds exactly
_INTEGER_LIKE = re.compile("0|[1-9][0-9]*")  # keys that JavaScript moves to the front
_FORGOTTEN_S: dict[Strategy, int] = {"compact": 60, "jwt": 300, "jwe": 300}
"""How long a cookie of a session that is not remembered holds, whatever `max_age_s` says."""

_JWT_HEADER = b'{"alg":"HS256"}'
_JWE_REGISTRY = jwe.JWERegistry(algorithms=["dir", "A256CBC-HS512"])


class SessionDataFormat(msgspec.Struct, frozen=True):
    """How the app makes these cookies: `session.cookieCache` there.  `max_age_s` is in whole seconds, 1 at least."""

    strategy: Strategy
    version: str
    max_age_s: int


def encode(
    record: SessionRecord, keys: Keys, form: SessionDataFormat, *, now_ms: int, cookie_id: str, remembered: bool = True
) -> str | None:
    """The cookie's value for this record as it is known now, or None where Better Auth would not read it as we do.

    `cookie_id` is a UUID that no other cookie has; only a jwe has a use for it.
    """
    try:
        text = _encode(record, keys, form, now_ms, cookie_id, remembered=remembered)
    except ValueError:  # a surrogate, a number that JavaScript does not hold, a date that it prints otherwise
        return None
    read = decode(text, keys, strategy=form.strategy, version=form.version, now_ms=now_ms)
    return text if isinstance(read, SessionDataCookie) else None


def _encode(
    record: SessionRecord, keys: Keys, form: SessionDataFormat, now_ms: int, cookie_id: str, *, remembered: bool
) -> str:
    lifetime_s = form.max_age_s if remembered else _FORGOTTEN_S[form.strategy]
    payload: dict[str, Any] = {
        "session": _session_fields(record.session),
        "user": _user_fields(record.user),
        "updatedAt": now_ms,
        "version": form.version,
    }
    if form.strategy == "compact":
        return _seal(payload, now_ms + lifetime_s * 1000, keys)
    claims = payload | {"iat": now_ms // 1000, "exp": now_ms // 1000 + lifetime_s}
    return _sign(claims, keys) if form.strategy == "jwt" else _encrypt(claims | {"jti": cookie_id}, keys)


def _seal(payload: dict[str, Any], expires_at_ms: int, keys: Keys) -> str:
    """compact: base64url of the payload, its end, and the MAC over both."""
    mac = hmac.digest(keys.current, _to_json(payload | {"expiresAt": expires_at_ms}), "sha256")
    return _base64url(_to_json({"session": payload, "expiresAt": expires_at_ms, "signature": _base64url(mac)}))


def _sign(claims: dict[str, Any], keys: Keys) -> str:
    """jwt: a JWS in compact form (RFC 7515 §3.1, §5.1)."""
    signed = f"{_base64url(_JWT_HEADER)}.{_base64url(_to_json(claims))}"
    return f"{signed}.{_base64url(hmac.digest(keys.current, signed.encode(), 'sha256'))}"


def _encrypt(claims: dict[str, Any], keys: Keys) -> str:
    """jwe: a JWE in compact form (RFC 7516 §3.1, §5.1) by the key of the current secret."""
    kid, key = keys.data_keys[0]
    header = {"alg": "dir", "enc": "A256CBC-HS512", "kid": kid}
    return jwe.encrypt_compact(header, _to_json(claims), OctKey.import_key(key), registry=_JWE_REGISTRY)


def _session_fields(session: Session) -> dict[str, Any]:
    """In the order of Better Auth's own rows: further fields, then the id, are last."""
    known = {
        "expiresAt": _date(session.expires_at_ms),
        "token": session.token,
        "createdAt": _date(session.created_at_ms),
        "updatedAt": _date(session.updated_at_ms),
        "ipAddress": session.ip_address,
        "userAgent": session.user_agent,
        "userId": session.user_id,
    }
    plugins = {"impersonatedBy": session.impersonated_by, "activeOrganizationId": session.active_organization_id}
    return _with_further(known, plugins, session.extra, session.id)


def _user_fields(user: User) -> dict[str, Any]:
    known = {
        "name": user.name,
        "email": user.email,
        "emailVerified": user.email_verified,
        "image": user.image,
        "createdAt": _date(user.created_at_ms),
        "updatedAt": _date(user.updated_at_ms),
    }
    plugins = {
        "twoFactorEnabled": user.two_factor_enabled,
        "role": user.role,
        "banned": user.banned or None,
        "banExpires": None if user.ban_expires_ms is None else _date(user.ban_expires_ms),
    }
    return _with_further(known, plugins, user.extra, user.id)


def _with_further(
    known: dict[str, Any], plugins: dict[str, Any], extra: dict[str, Any], record_id: str
) -> dict[str, Any]:
    """Plugin fields that have a value, declared fields by their names, and the id.  What is known has one meaning."""
    if any(_INTEGER_LIKE.fullmatch(name) for name in extra):
        raise ValueError("JavaScript prints such a key elsewhere")
    taken = {*known, *plugins, "id"}
    further = {name: _plain(value) for name, value in extra.items() if name not in taken}
    present = {name: value for name, value in plugins.items() if value is not None}
    return known | present | further | {"id": record_id}


def _plain(value: Any) -> Any:
    """The value as JavaScript prints it.  Raises ValueError for numbers that it holds or prints otherwise."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and abs(value) > _EXACT:
        raise ValueError("JavaScript does not hold this number")
    if isinstance(value, float) and not 1e-4 <= abs(value) < 1e15:
        raise ValueError("JavaScript prints this number otherwise")
    return value


def _date(ms: int) -> str:
    """A date as Better Auth prints it.  Raises ValueError where years have more than four digits."""
    if not 0 <= ms <= _LAST_MS:
        raise ValueError("not a date that is printed with four digits")
    return (_EPOCH + ms * _MILLISECOND).isoformat(timespec="milliseconds")[:-6] + "Z"


def _to_json(value: dict[str, Any]) -> bytes:
    """As JSON.stringify prints it.  Raises UnicodeEncodeError, a ValueError, for half of a surrogate pair."""
    return msgspec.json.encode(value)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
