"""Users and sessions as account calls answer them: Better Auth's fields in the order of its own tables."""

from typing import Any

from gatekeeper.core.model import Session, SessionRecord, User
from gatekeeper.server.answers import NO_STORE, Answer, Headers, json_answer, to_ascii
from gatekeeper.server.documents import get_session_document, session_document, user_document

_SESSION_ORDER = ("expiresAt", "token", "createdAt", "updatedAt", "ipAddress", "userAgent", "userId")
_USER_ORDER = ("name", "email", "emailVerified", "image", "createdAt", "updatedAt")


def done(document: object, headers: Headers = ()) -> Answer:
    """The answer to a call that was carried out."""
    return json_answer(200, document, headers)


def redirected(location: str) -> Answer:
    """The answer that leads somewhere else, with the type of content that Better Auth gives it."""
    return Answer(302, ((b"Content-Type", b"application/json"), NO_STORE, (b"Location", to_ascii(location))), b"")


def user_fields(user: User) -> dict[str, Any]:
    """A user on its own, as sign-in has it."""
    return _ordered(user_document(user), _USER_ORDER)


def session_fields(session: Session) -> dict[str, Any]:
    """A session on its own, with its token, as list-sessions has it."""
    return _ordered({**session_document(session), "token": session.token}, _SESSION_ORDER)


def record_fields(record: SessionRecord | None) -> dict[str, Any] | None:
    """A session with its user, as get-session has it, None for nobody."""
    if record is None:
        return None
    document = get_session_document(record)
    return {
        "session": _ordered(document["session"], _SESSION_ORDER),
        "user": _ordered(document["user"], _USER_ORDER),
    }


def _ordered(document: dict[str, Any], order: tuple[str, ...]) -> dict[str, Any]:
    """What the table has first, then further fields, the id at the end."""
    first = {name: document[name] for name in order}
    return first | {name: value for name, value in document.items() if name != "id"} | {"id": document["id"]}
