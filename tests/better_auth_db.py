"""SQLite files as Better Auth makes them, for tests: its captured DDL, its encodings of values."""

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

DDL: dict[str, str] = json.loads((Path(__file__).parent / "vectors" / "sqlite-ddl.json").read_text())["ddl"]


def iso(ms: int) -> str:
    """A date as Better Auth writes it into SQLite: ISO 8601 with exactly three digits, UTC as Z."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def create_database(path: Path, variant: str = "core") -> None:
    """Make the tables of this variant of the captured DDL."""
    execute_script(path, DDL[variant])


def add_user(
    path: Path,
    *,
    id: str | int,
    name: str = "Ada Lovelace",
    email: str = "ada@example.test",
    email_verified: bool = True,
    created_at_ms: int = 1_790_000_000_000,
    **more: Any,
) -> None:
    """Insert a user; `more` are further columns by their names."""
    date = iso(created_at_ms)
    row = {"id": id, "name": name, "email": email, "emailVerified": int(email_verified), "createdAt": date}
    insert(path, "user", {**row, "updatedAt": date, **more})


def add_session(
    path: Path,
    *,
    user_id: str | int,
    token: str,
    expires_at_ms: int,
    created_at_ms: int,
    id: str | int | None = None,
    **more: Any,
) -> None:
    """Insert a session; `more` are further columns by their names, and replace the usual values."""
    date = iso(created_at_ms)
    row = {
        "id": session_id(token) if id is None else id,
        "expiresAt": iso(expires_at_ms),
        "token": token,
        "createdAt": date,
        "updatedAt": date,
        "ipAddress": "",
        "userAgent": "",
        "userId": user_id,
    }
    insert(path, "session", {**row, **more})


def session_id(token: str) -> str:
    """The id that `add_session` gives the session of this token."""
    return "session-" + hashlib.sha256(token.encode()).hexdigest()[:8]


def insert(path: Path, table: str, row: dict[str, Any]) -> None:
    columns = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join("?" for _ in row)
    execute(path, f'insert into "{table}" ({columns}) values ({marks})', tuple(row.values()))  # noqa: S608


def insert_all(path: Path, table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Insert these rows, which have the same columns, in one transaction."""
    if rows:
        columns, marks = ", ".join(f'"{name}"' for name in rows[0]), ", ".join("?" for _ in rows[0])
        with _connect(path) as connection, connection:
            sql = f'insert into "{table}" ({columns}) values ({marks})'  # noqa: S608
            connection.executemany(sql, [tuple(row.values()) for row in rows])


def execute(path: Path, sql: str, values: tuple[Any, ...] = ()) -> None:
    with _connect(path) as connection, connection:
        connection.execute(sql, values)


def execute_script(path: Path, sql: str) -> None:
    with _connect(path) as connection:
        connection.executescript(sql)


def _connect(path: Path) -> closing[sqlite3.Connection]:
    connection = sqlite3.connect(path)
    connection.execute("pragma synchronous = off")  # nothing here must survive a power cut
    return closing(connection)
