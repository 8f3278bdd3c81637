"""User and session, read from an assertion's claims or from plain headers.

Whatever has not the form that the gate writes is None: nothing is guessed or repaired.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TypeVar, cast
from urllib.parse import unquote

from gatekeeper.integrations.model import Request, Session, User

USER_ID, EMAIL, EMAIL_VERIFIED = "x-auth-user-id", "x-auth-email", "x-auth-email-verified"
NAME, ROLES = "x-auth-name", "x-auth-roles"
PLAIN_HEADERS = (USER_ID, EMAIL, EMAIL_VERIFIED, NAME, ROLES)

_USER_FIELDS = frozenset(
    ("id", "name", "email", "emailVerified", "image", "createdAt", "updatedAt", "twoFactorEnabled")
)
_SESSION_FIELDS = frozenset(("id", "userId", "expiresAt", "createdAt", "updatedAt", "ipAddress", "userAgent"))

_T = TypeVar("_T")


class DocumentError(ValueError):
    """A field is missing or of another type."""


def read_user(claims: Mapping[str, Any]) -> User:
    """The user of these claims, who must be their subject.  Raises DocumentError.

    Where the document was too long to be sent, the user has what the other claims tell.
    """
    if "user" not in claims:
        return _read_short_user(claims)
    document = _object(claims, "user")
    user = User(
        id=_typed(document, "id", str),
        name=_typed(document, "name", str),
        email=_typed(document, "email", str),
        email_verified=_typed(document, "emailVerified", bool),
        image=_optional(document, "image", str),
        created_at=_moment(document, "createdAt"),
        updated_at=_moment(document, "updatedAt"),
        two_factor_enabled=_optional(document, "twoFactorEnabled", bool),
        roles=_roles(claims),
        extra=_rest(document, _USER_FIELDS),
    )
    if not user.id or claims.get("sub") != user.id:
        raise DocumentError("the user is not the subject")
    return user


def read_session(claims: Mapping[str, Any], user: User) -> Session | None:
    """The session of these claims, which must be this user's; None where it was too long to be sent.

    Raises DocumentError.
    """
    if "session" not in claims:
        return None
    document = _object(claims, "session")
    session = Session(
        id=_typed(document, "id", str),
        user_id=_typed(document, "userId", str),
        expires_at=_moment(document, "expiresAt"),
        created_at=_moment(document, "createdAt"),
        updated_at=_moment(document, "updatedAt"),
        ip_address=_optional(document, "ipAddress", str),
        user_agent=_optional(document, "userAgent", str),
        extra=_rest(document, _SESSION_FIELDS),
    )
    if session.user_id != user.id:
        raise DocumentError("the session is another user's")
    return session


def read_plain_headers(request: Request) -> User | None:
    """The user of the gate's plain headers, or None where they have not the form that the gate writes.

    The email address is there only if it is verified, since the gate sends no other.
    """
    user_id, verified = request.header(USER_ID), request.header(EMAIL_VERIFIED)
    # Servers that join the lines of a header leave a comma where an id has none.
    if not user_id or "," in user_id or verified not in ("true", "false"):
        return None
    email = request.header(EMAIL) if verified == "true" else None
    roles = (request.header(ROLES) or "").split(",")
    return User(
        id=unquote(user_id),
        name=unquote(request.header(NAME) or ""),
        email=None if email is None else unquote(email),
        email_verified=email is not None,
        roles=tuple(unquote(role) for role in roles if role),
    )


def _read_short_user(claims: Mapping[str, Any]) -> User:
    user_id = _typed(claims, "sub", str)
    if not user_id:
        raise DocumentError("no subject")
    name, email = _typed(claims, "name", str), _typed(claims, "email", str)
    return User(user_id, name, email, _typed(claims, "email_verified", bool), roles=_roles(claims))


def _typed(document: Mapping[str, Any], name: str, kind: type[_T]) -> _T:
    value = document.get(name)
    if not isinstance(value, kind):
        raise DocumentError(f"{name} is missing or no {kind.__name__}")
    return value


def _object(claims: Mapping[str, Any], name: str) -> dict[str, Any]:
    return cast("dict[str, Any]", _typed(claims, name, dict))


def _optional(document: Mapping[str, Any], name: str, kind: type[_T]) -> _T | None:
    return None if document.get(name) is None else _typed(document, name, kind)


def _moment(document: Mapping[str, Any], name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(_typed(document, name, str))
    except ValueError as exc:
        raise DocumentError(f"{name} is no date") from exc
    if moment.tzinfo is None:
        raise DocumentError(f"{name} names no time zone")
    return moment.astimezone(UTC)


def _roles(claims: Mapping[str, Any]) -> tuple[str, ...]:
    roles = cast("list[object]", _typed(claims, "roles", list))
    if not all(isinstance(role, str) for role in roles):
        raise DocumentError("a role is no text")
    return tuple(str(role) for role in roles)


def _rest(document: Mapping[str, Any], known: frozenset[str]) -> Mapping[str, Any]:
    return MappingProxyType({name: value for name, value in document.items() if name not in known})
