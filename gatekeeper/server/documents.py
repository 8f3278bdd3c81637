"""User and session as JSON documents: Better Auth's field names and dates, for every reader outside the gate.

A session's document never holds its token; but for the one that stands in for the app's own get-session.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from gatekeeper.core.model import Session, SessionRecord, User

_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999  # the years 1 to 9999
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def user_document(user: User) -> dict[str, Any]:
    """The fields that every user has, declared ones, and those of plugins where the table has them."""
    fields: dict[str, Any] = {
        "id": user.id,
        "name": user.name,
        "email": user.email,
        "emailVerified": user.email_verified,
        "image": user.image,
        "createdAt": iso_date(user.created_at_ms),
        "updatedAt": iso_date(user.updated_at_ms),
    }
    return _with_optional(fields, {"twoFactorEnabled": user.two_factor_enabled, "role": user.role}, user.extra)


def session_document(session: Session) -> dict[str, Any]:
    """The fields that every session has but for the token, declared ones, and those of plugins in use."""
    fields: dict[str, Any] = {
        "id": session.id,
        "userId": session.user_id,
        "expiresAt": iso_date(session.expires_at_ms),
        "createdAt": iso_date(session.created_at_ms),
        "updatedAt": iso_date(session.updated_at_ms),
        "ipAddress": session.ip_address,
        "userAgent": session.user_agent,
    }
    plugins = {
        "impersonatedBy": session.impersonated_by,
        "activeOrganizationId": session.active_organization_id,
    }
    return _with_optional(fields, plugins, session.extra)


def get_session_document(record: SessionRecord) -> dict[str, Any]:
    """What Better Auth's get-session says of this session, its token and empty plugin fields as well."""
    session, user = record.session, record.user
    of_session = {"impersonatedBy": session.impersonated_by, "activeOrganizationId": session.active_organization_id}
    of_user = {
        "role": user.role,
        "banned": user.banned,
        "banReason": user.ban_reason,
        "banExpires": None if user.ban_expires_ms is None else iso_date(user.ban_expires_ms),
        "twoFactorEnabled": user.two_factor_enabled,
    }
    return {
        "session": {
            **session_document(session),
            "token": session.token,
            **{name: of_session[name] for name in session.present},
        },
        "user": {**user_document(user), **{name: of_user[name] for name in user.present}},
    }


def iso_date(ms: int) -> str:
    """Milliseconds since the epoch as JavaScript's toISOString writes them, held to the years 1 to 9999."""
    moment = _EPOCH + timedelta(milliseconds=min(max(ms, _FIRST_MS), _LAST_MS))
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _with_optional(fields: dict[str, Any], plugins: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """All of them in one document; a declared field overrides nothing and is never the token."""
    declared = {name: value for name, value in extra.items() if name not in fields and name != "token"}
    return {**fields, **declared, **{name: value for name, value in plugins.items() if value is not None}}
