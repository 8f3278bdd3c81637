import re
import sqlite3
from pathlib import Path

import pytest

from gatekeeper.demo.database import SESSION_AGE_S, Database

NOW_MS = 1_790_000_000_007
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database.create(tmp_path / "auth.db", NOW_MS)


def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(database.path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_has_better_auths_core_tables(database: Database) -> None:
    found = rows(database, "select name from sqlite_master where type = 'table' order by name")
    assert found == [("account",), ("session",), ("user",), ("verification",)]
    columns = [row[1:3] for row in rows(database, "pragma table_info(session)")]
    assert ("expiresAt", "date") in columns
    assert ("userId", "TEXT") in [(name, str(kind).upper()) for name, kind in columns]


def test_two_people_with_a_verified_address_can_sign_in(database: Database) -> None:
    found = rows(database, 'select "id", "email", "emailVerified", "image", "createdAt" from "user" order by "email"')
    assert [row[1:4] for row in found] == [("ada@example.com", 1, None), ("zoe@example.com", 1, None)]
    for row in found:
        assert re.fullmatch("[A-Za-z0-9]{32}", str(row[0]))
        assert ISO.fullmatch(str(row[4]))
    assert [user.name for user in database.users()] == ["Ada Lovelace", "Zoë Łoś"]


def test_each_has_one_live_session(database: Database) -> None:
    found = rows(database, 'select "userId", "token", "expiresAt", "createdAt", "ipAddress" from "session"')
    assert {row[0] for row in found} == {user.id for user in database.users()}
    for _, token, expires, created, address in found:
        assert re.fullmatch("[A-Za-z0-9]{32}", str(token))
        assert (created, expires) == ("2026-09-21T14:13:20.007Z", "2026-09-23T14:13:20.007Z")
        assert address == ""


def test_sessions_start_and_end(database: Database) -> None:
    ada = database.find_user("ADA@example.com")
    assert ada is not None
    first = database.token_of(ada)
    token = database.start_session(ada, NOW_MS + 1, address="192.0.2.1", user_agent="curl")
    assert database.token_of(ada) == token != first
    assert rows(database, f"select ipAddress, userAgent from session where token = '{token}'") == [  # noqa: S608
        ("192.0.2.1", "curl")
    ]
    database.end_session(token)
    database.end_session(token)
    assert database.token_of(ada) == first


def test_a_user_without_sessions_has_no_token(database: Database) -> None:
    ada = database.find_user("ada@example.com")
    assert ada is not None
    database.end_session(database.token_of(ada) or "")
    assert database.token_of(ada) is None


def test_nobody_else_is_known(database: Database) -> None:
    assert database.find_user("root@example.com") is None


def test_never_overwrites_a_file_and_keeps_it_private(database: Database) -> None:
    assert database.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        Database.create(database.path, NOW_MS)


def test_sessions_last_two_days() -> None:
    assert SESSION_AGE_S == 172_800
