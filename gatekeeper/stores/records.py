"""From a stored row to a record: strict, since what cannot be read as a session is none.

A row is a mapping of Better Auth's field names to what the database driver gave.  Dates come as ISO 8601 text (SQLite)
or as datetime objects; a number is no date, although SQLite would store one: Better Auth would take such a session for
a live one, the gate refuses it.  Ids may be text, UUID or integer and are text from here on.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from gatekeeper.core.model import ORGANIZATION_ID, Session, SessionRecord, User

SESSION_FIELDS = ("id", "expiresAt", "token", "createdAt", "updatedAt", "ipAddress", "userAgent", "userId")
USER_FIELDS = ("id", "name", "email", "emailVerified", "image", "createdAt", "updatedAt")
MEMBER_FIELDS = ("organizationId", "userId")
ORGANIZATION_FIELDS = ("id", "slug")
OPTIONAL_SESSION_FIELDS = ("impersonatedBy", "activeOrganizationId")
OPTIONAL_USER_FIELDS = ("role", "banned", "banReason", "banExpires", "twoFactorEnabled")

_DATE = re.compile(
    r"(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))? ?(Z|[+-]\d{2}(?::?\d{2})?)?",
    re.ASCII | re.IGNORECASE,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999  # the years 1 to 9999, which is what datetime can say


def record_of(
    session: Mapping[str, Any],
    user: Mapping[str, Any],
    session_extra: Sequence[str] = (),
    user_extra: Sequence[str] = (),
    organizations: Iterable[Sequence[object]] = (),
) -> SessionRecord | None:
    """The record that these two rows make, or None.

    `*_extra` are the declared further fields, `organizations` id and slug of each that the user is a member of.
    """
    read_session = session_of(session, session_extra)
    read_user = user_of(user, user_extra, organizations)
    if read_session is None or read_user is None or read_session.user_id != read_user.id:
        return None
    return SessionRecord(read_session, read_user)


def date_ms(value: object) -> int | None:
    """Milliseconds since the epoch of a stored date, or None for what is no date.

    Without a zone it is UTC.  What is finer than a millisecond is cut off, as JavaScript does.  PostgreSQL's infinity
    is no date: its driver gives the first or the last moment that datetime can say.
    """
    if isinstance(value, datetime):
        ms = (_aware(value) - _EPOCH) // _MILLISECOND
    elif isinstance(value, str) and (match := _DATE.fullmatch(value)):
        day, time, fraction, zone = match.groups()
        try:
            moment = datetime.fromisoformat(f"{day}T{time}{'+00:00' if zone in (None, 'Z', 'z') else zone}")
        except ValueError:
            return None
        ms = (moment - _EPOCH) // _MILLISECOND + int((fraction or "0")[:3].ljust(3, "0"))
    else:
        return None
    return ms if _FIRST_MS < ms < _LAST_MS else None


def iso_text(ms: int) -> str:
    """A date as Better Auth writes one in text: ISO 8601 with exactly three digits, UTC as Z."""
    return (_EPOCH + ms * _MILLISECOND).isoformat(timespec="milliseconds")[:-6] + "Z"


def session_of(row: Mapping[str, Any], extra: Sequence[str] = ()) -> Session | None:
    """The session that a row makes, or None."""
    expires, created, updated = (date_ms(row.get(name)) for name in ("expiresAt", "createdAt", "updatedAt"))
    session_id, user_id, token = _id(row.get("id")), _id(row.get("userId")), row.get("token")
    if expires is None or created is None or updated is None or session_id is None or user_id is None:
        return None
    if not isinstance(token, str) or not token:
        return None
    return Session(
        id=session_id,
        token=token,
        user_id=user_id,
        expires_at_ms=expires,
        created_at_ms=created,
        updated_at_ms=updated,
        ip_address=_text(row.get("ipAddress")),
        user_agent=_text(row.get("userAgent")),
        impersonated_by=_id(row.get("impersonatedBy")),
        active_organization_id=_id(row.get("activeOrganizationId")),
        extra={name: _plain(row.get(name)) for name in extra},
        present=_present(row, OPTIONAL_SESSION_FIELDS),
    )


def user_of(
    row: Mapping[str, Any], extra: Sequence[str] = (), organizations: Iterable[Sequence[object]] = ()
) -> User | None:
    """The user that a row makes, or None."""
    created, updated = date_ms(row.get("createdAt")), date_ms(row.get("updatedAt"))
    user_id, name, email = _id(row.get("id")), _text(row.get("name")), _text(row.get("email"))
    if created is None or updated is None or user_id is None or name is None or email is None:
        return None
    two_factor = row.get("twoFactorEnabled")
    return User(
        id=user_id,
        name=name,
        email=email,
        email_verified=_flag(row.get("emailVerified")),
        image=_text(row.get("image")),
        created_at_ms=created,
        updated_at_ms=updated,
        two_factor_enabled=_flag(two_factor) if "twoFactorEnabled" in row else None,
        role=_text(row.get("role")),
        banned=_is_banned(row.get("banned")),
        ban_expires_ms=date_ms(row.get("banExpires")),
        extra={field: _plain(row.get(field)) for field in extra},
        organizations=frozenset(name for pair in organizations for name in _organization_names(*pair)),
        ban_reason=_text(row.get("banReason")),
        present=_present(row, OPTIONAL_USER_FIELDS),
    )


def _present(row: Mapping[str, Any], optional: Sequence[str]) -> tuple[str, ...]:
    """Those of these fields that the row has; one tuple for all records that are alike."""
    found = tuple(name for name in optional if name in row)
    return _known_sets.setdefault(found, found)


_known_sets: dict[tuple[str, ...], tuple[str, ...]] = {}  # as many as there are subsets of a few names


def _id(value: object) -> str | None:
    """An id as text; None for none, and for what is no id."""
    if isinstance(value, bool) or not isinstance(value, (str, int, UUID)):
        return None
    return str(value) or None


def _organization_names(organization_id: object, slug: object) -> Iterator[str]:
    """What rules may call an organization.

    Whoever makes one chooses its slug, which may be another one's id: an id is never taken for a slug, nor a slug for
    an id.
    """
    if (found := _id(organization_id)) is not None:
        yield ORGANIZATION_ID + found
    if isinstance(slug, str) and slug and not slug.startswith(ORGANIZATION_ID):
        yield slug


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _flag(value: object) -> bool:
    return isinstance(value, int) and value == 1


def _is_banned(value: object) -> bool:
    """Whatever is not plainly "no" counts as banned."""
    return value is not None and not (isinstance(value, (int, float)) and value == 0)


def _plain(value: object) -> str | int | float | bool | None:
    """What JSON can say of a declared field, a date as Better Auth prints it; None for the rest, bytes for one."""
    if isinstance(value, datetime):
        ms = date_ms(value)
        return None if ms is None else iso_text(ms)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int)) else None


def _aware(value: datetime) -> datetime:
    return value if value.utcoffset() is not None else value.replace(tzinfo=UTC)
