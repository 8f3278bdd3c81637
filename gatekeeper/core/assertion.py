"""What an assertion says: the claims about a session and its user (RFC 7519), for one app.

Knows no key: `assertion_keys` signs the payload that is made here.  An app must read from it what the identity headers
say, so ids, roles and the address are those of `identity`; texts are true ones, not percent-encoded.
"""

import json
from base64 import urlsafe_b64encode
from typing import Any

import msgspec

from gatekeeper.core.identity import session_digest, told_email, told_roles
from gatekeeper.core.model import SessionRecord

PAYLOAD_LIMIT = 4096
"""Bytes of the claims as JSON; what may be long is cut to keep them."""

SKEW_S = 30
"""How far the clock of whoever verifies may be behind ours."""


class Terms(msgspec.Struct, frozen=True):
    """What all assertions of a gate have in common: who issues them, and how many seconds they are valid."""

    issuer: str
    ttl_s: int


def audience_of(terms: Terms, upstream: str) -> str:
    """For whom assertions are that go to this upstream, "" for the default one: no other app may take them."""
    return f"gatekeeper:{upstream}" if upstream else terms.issuer


def assertion_payload(
    record: SessionRecord,
    user: dict[str, Any],
    session: dict[str, Any],
    terms: Terms,
    *,
    audience: str,
    now_ms: int,
    random: bytes,
) -> bytes:
    """The claims as JSON.  `user` and `session` are the documents of the record, without its token.

    `random` are 16 bytes that no other assertion was made with.  It ends with the session at the latest, to the second.
    Claims without a value are left out.
    """
    now_s = now_ms // 1000
    ends_s = record.session.expires_at_ms // 1000
    claims: dict[str, Any] = {
        "iss": terms.issuer,
        "aud": audience,
        "sub": record.user.id,
        "sid": session_digest(record.session.token),
        "iat": now_s,
        "nbf": now_s - SKEW_S,
        "exp": min(now_s + terms.ttl_s, ends_s),
        "jti": urlsafe_b64encode(random).rstrip(b"=").decode(),
        "email": told_email(record.user),
        "email_verified": record.user.email_verified,
        "name": record.user.name,
        "roles": told_roles(record.user),
        "auth_time": record.session.created_at_ms // 1000,
        "session_exp": ends_s,
    }
    if record.session.active_organization_id:
        claims["org"] = record.session.active_organization_id
    if record.session.impersonated_by:
        claims["imp"] = record.session.impersonated_by
    return _within_limit({**claims, "user": user, "session": session})


def _within_limit(claims: dict[str, Any]) -> bytes:
    """The claims as JSON, with what is left out or cut, step by step, as long as they are too long."""
    payload = _as_json(claims)
    if len(payload) > PAYLOAD_LIMIT:
        claims = {**claims, "user": {**claims["user"], "image": None}}
        payload = _as_json(claims)
    if len(payload) > PAYLOAD_LIMIT:
        device = _shortened(claims["session"].get("userAgent"), len(payload) - PAYLOAD_LIMIT)
        claims = {**claims, "session": {**claims["session"], "userAgent": device}}
        payload = _as_json(claims)
    if len(payload) > PAYLOAD_LIMIT:
        claims = {name: value for name, value in claims.items() if name not in ("user", "session")}
        payload = _as_json(claims)
    if len(payload) > PAYLOAD_LIMIT:
        payload = _as_json({**claims, "name": _shortened(claims["name"], len(payload) - PAYLOAD_LIMIT)})
    return payload


def _shortened(text: str | None, by_bytes: int) -> str | None:
    """The beginning of a text that is shorter by at least so many bytes, as far as it has them."""
    if text is None:
        return None
    raw = text.encode("utf-8", "replace")
    return raw[: max(len(raw) - by_bytes, 0)].decode("utf-8", "ignore")


def _as_json(claims: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(claims, enc_hook=str)
    except UnicodeEncodeError:  # half of a surrogate pair, which JavaScript lets stand in a text
        return json.dumps(claims, default=str, separators=(",", ":")).encode()
