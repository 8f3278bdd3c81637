"""The demo's sessions: a SQLite file in Better Auth's schema, with its encodings.

Synchronous: the demo's requests are few and the file is local.  Times are milliseconds since the epoch and are
passed in.
"""

import os
import secrets
import sqlite3
import string
from collections.abc import Generator
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path

import msgspec

from gatekeeper.server.documents import iso_date

SESSION_AGE_S = 2 * 24 * 3600

_ALPHABET = string.ascii_letters + string.digits
_PEOPLE = (("Ada Lovelace", "ada@example.com"), ("Zoë Łoś", "zoe@example.com"))


class DemoUser(msgspec.Struct, frozen=True):
    """One of the people that the demo lets one sign in as."""

    id: str
    name: str
    email: str


class Database:
    """The demo's database file.  Every call opens its own connection, so any thread may call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, now_ms: int) -> "Database":
        """A new file with the schema, two users with a verified e-mail address, and a live session for each.

        Raises FileExistsError if there is a file already.
        """
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        database = cls(path)
        with database._connect() as connection:
            connection.executescript((files("gatekeeper.demo") / "schema.sql").read_text("utf-8"))
            rows = [(_new_id(), name, email, 1, iso_date(now_ms), iso_date(now_ms)) for name, email in _PEOPLE]
            connection.executemany(
                'insert into "user" ("id", "name", "email", "emailVerified", "createdAt", "updatedAt") '
                "values (?, ?, ?, ?, ?, ?)",
                rows,
            )
        for user in database.users():
            database.start_session(user, now_ms)
        return database

    def users(self) -> list[DemoUser]:
        """Everybody who can sign in, by name."""
        with self._connect() as connection:
            rows = connection.execute('select "id", "name", "email" from "user" order by "name"').fetchall()
        return [DemoUser(*row) for row in rows]

    def find_user(self, email: str) -> DemoUser | None:
        """The user with this e-mail address."""
        return next((user for user in self.users() if user.email == email.lower()), None)

    def start_session(
        self, user: DemoUser, now_ms: int, *, address: str | None = None, user_agent: str | None = None
    ) -> str:
        """The token of a new session."""
        token = _new_id()
        now = iso_date(now_ms)
        expires = iso_date(now_ms + SESSION_AGE_S * 1000)
        row = (_new_id(), expires, token, now, now, address or "", user_agent or "", user.id)
        with self._connect() as connection:
            connection.execute(
                'insert into "session" ("id", "expiresAt", "token", "createdAt", "updatedAt", "ipAddress", '
                '"userAgent", "userId") values (?, ?, ?, ?, ?, ?, ?, ?)',
                row,
            )
        return token

    def end_session(self, token: str) -> None:
        """Delete the session with this token, if there is one."""
        with self._connect() as connection:
            connection.execute('delete from "session" where "token" = ?', (token,))

    def token_of(self, user: DemoUser) -> str | None:
        """The token of the user's latest session."""
        with self._connect() as connection:
            row = connection.execute(
                'select "token" from "session" where "userId" = ? order by "createdAt" desc, rowid desc', (user.id,)
            ).fetchone()
        return None if row is None else str(row[0])

    @contextmanager
    def _connect(self) -> Generator[sqlite3.Connection, None, None]:
        with closing(sqlite3.connect(self.path, timeout=5)) as connection, connection:
            connection.execute("pragma foreign_keys = on")
            yield connection


def _new_id() -> str:
    """An id or token as Better Auth makes them: 32 random letters and digits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(32))
