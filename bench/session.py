"""The session that requests carry: rows in a real Better Auth database, and their signed cookies."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from gatekeeper.core.cookies import Keys, sign_value
from tests.better_auth_db import add_user, create_database, iso, session_id

SECRET = "a-bench-secret-of-more-than-32-bytes-51c8"  # noqa: S105 - loopback only, made for the benchmark
COOKIE = "better-auth.session_token"
USER_ID = "6DzkIWPZ5a3vTnqJm0c2Yg8LhRb1uXeS"
DAY_MS = 86_400_000
VARIED_SESSIONS = 50
"""How many sessions varied requests take in turn."""


def write_sessions(path: Path, count: int) -> None:
    """Make the database with one user and this many sessions that live for two days."""
    now_ms = time.time_ns() // 1_000_000
    create_database(path)
    add_user(path, id=USER_ID)
    created, expires = iso(now_ms), iso(now_ms + 2 * DAY_MS)
    tokens = map(token_of, range(count))
    rows = ((session_id(t), expires, t, created, created, "127.0.0.1", "bench", USER_ID) for t in tokens)
    columns = '"id", "expiresAt", "token", "createdAt", "updatedAt", "ipAddress", "userAgent", "userId"'
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(f'insert into "session" ({columns}) values (?, ?, ?, ?, ?, ?, ?, ?)', rows)  # noqa: S608


def token_of(number: int) -> str:
    """A token as long as Better Auth's, 32 letters and digits."""
    return f"{number:08d}Vx3mQ9tLz7KpWc2RbN5hJd8G"


def cookie_of(number: int) -> str:
    """The Cookie header's value for this session."""
    return f"{COOKIE}={sign_value(token_of(number), Keys([SECRET]))}"
