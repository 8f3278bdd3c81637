"""Redis as Better Auth's secondary storage fills it, for tests: its keys, its texts, the order of its commands."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from tests.better_auth_db import iso

PREFIX = "better-auth:"
CREATED_MS = 1_790_000_000_123
EXPIRES_MS = CREATED_MS + 172_800_000
TTL_S = 172_800
DATES = ("expiresAt", "createdAt", "updatedAt", "banExpires")


def user_fields(**fields: Any) -> dict[str, Any]:
    """A user with `id`, and whatever differs from a verified one; dates are milliseconds since the epoch."""
    usual = {"name": "Ada Lovelace", "email": "ada@example.test", "emailVerified": True, "image": None}
    return _texts({**usual, "createdAt": CREATED_MS, "updatedAt": CREATED_MS, **fields})


def session_fields(**fields: Any) -> dict[str, Any]:
    """A session with `token` and `userId`, and whatever differs from CREATED_MS to EXPIRES_MS."""
    usual = {"id": f"id-of-{fields['token']}", "ipAddress": "", "userAgent": "", "expiresAt": EXPIRES_MS}
    return _texts({**usual, "createdAt": CREATED_MS, "updatedAt": CREATED_MS, **fields})


def stored(session: dict[str, Any], user: dict[str, Any]) -> str:
    """The text under a token, as JSON.stringify gives it."""
    return json.dumps({"session": session, "user": user}, separators=(",", ":"), ensure_ascii=False)


class Storage:
    """The app's side of a Redis.  Each call is a connection of its own, as the server may be restarted between them."""

    def __init__(self, url: str, prefix: str = PREFIX) -> None:
        self._url = url
        self._prefix = prefix

    def run(self, *command: str | bytes | int) -> Any:
        """The server's answer to one command, keys given in full."""
        with self._client() as client:
            return client.execute_command(*command)

    def set(self, key: str, value: str | bytes, ttl_s: int = TTL_S) -> None:
        self.run("SETEX", self._prefix + key, ttl_s, value)

    def get(self, key: str) -> str | None:
        value = self.run("GET", self._prefix + key)
        return None if value is None else value.decode()

    def delete(self, key: str) -> None:
        self.run("DEL", self._prefix + key)

    def sign_in(self, session: dict[str, Any], user: dict[str, Any]) -> None:
        """What creating a session writes: the list of the user's sessions, then the session."""
        token, listed = session["token"], self.listed(user["id"])
        expires_ms = EXPIRES_MS
        self._write_list(user["id"], [*(one for one in listed if one["token"] != token), _listed(token, expires_ms)])
        self.set(token, stored(session, user))

    def revoke(self, token: str) -> None:
        """What revoking one session writes."""
        value = self.get(token)
        if value is not None:
            user_id = json.loads(value)["session"]["userId"]
            self._write_list(user_id, [one for one in self.listed(user_id) if one["token"] != token])
        self.delete(token)

    def revoke_before(self, user_id: object, value: object) -> None:
        """What revoking all sessions of a user leaves behind; `value` is milliseconds since the epoch."""
        self.set(f"revoked-sessions-before-{user_id}", str(value))

    def listed(self, user_id: object) -> list[dict[str, Any]]:
        """The list of the user's sessions."""
        found: list[dict[str, Any]] = json.loads(self.get(f"active-sessions-{user_id}") or "[]")
        return found

    def _write_list(self, user_id: object, listed: list[dict[str, Any]]) -> None:
        key = f"active-sessions-{user_id}"
        if listed:
            self.set(key, json.dumps(sorted(listed, key=lambda one: one["expiresAt"]), separators=(",", ":")))
        else:
            self.delete(key)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        client = redis.Redis.from_url(self._url, protocol=2)
        try:
            yield client
        finally:
            client.close()
            client.connection_pool.disconnect()


def sign_in(storage: Storage, token: str, user_id: str = "user_1", **session: Any) -> None:
    """Write a live session of this user; `session` is what differs from the usual one."""
    storage.sign_in(session_fields(token=token, userId=user_id, **session), user_fields(id=user_id))


def _listed(token: str, expires_ms: int) -> dict[str, Any]:
    return {"token": token, "expiresAt": expires_ms}


def _texts(fields: dict[str, Any]) -> dict[str, Any]:
    """Dates as Better Auth writes them; ids too are texts there."""

    def text(name: str, value: Any) -> Any:
        if name in DATES and isinstance(value, int):
            return iso(value)
        return str(value) if name in ("id", "userId") and isinstance(value, int) else value

    return {name: text(name, value) for name, value in fields.items()}
