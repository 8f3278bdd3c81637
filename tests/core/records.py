"""Small builders of records for the tests of `core`: only what a test is about need be said."""

from typing import Any

from gatekeeper.core.model import AuthStatus, Identity, Session, SessionRecord, User

TOKEN = "Hi6S9rraIHeIRnN1vBUEIReA83O8vrVz"
NOW_MS = 1_790_000_000_000


def user(**changes: Any) -> User:
    fields: dict[str, Any] = {
        "id": "user_1",
        "name": "Ada Lovelace",
        "email": "ada@example.com",
        "email_verified": True,
        "image": None,
        "created_at_ms": NOW_MS,
        "updated_at_ms": NOW_MS,
    }
    return User(**(fields | changes))


def session(**changes: Any) -> Session:
    fields: dict[str, Any] = {
        "id": "session_1",
        "token": TOKEN,
        "user_id": "user_1",
        "expires_at_ms": NOW_MS + 86_400_000,
        "created_at_ms": NOW_MS,
        "updated_at_ms": NOW_MS,
        "ip_address": None,
        "user_agent": None,
    }
    return Session(**(fields | changes))


def record(session_changes: dict[str, Any] | None = None, **user_changes: Any) -> SessionRecord:
    return SessionRecord(session(**(session_changes or {})), user(**user_changes))


def authenticated(session_changes: dict[str, Any] | None = None, **user_changes: Any) -> Identity:
    return Identity(AuthStatus.AUTHENTICATED, record(session_changes, **user_changes))
