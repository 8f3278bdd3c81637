import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gatekeeper.config.load import load_text
from gatekeeper.config.schema import Settings
from gatekeeper.core.accounts import verify_password
from gatekeeper.core.errors import GatekeeperError
from gatekeeper.demo.people import PASSWORD, add_people
from gatekeeper.migrate_command import migrate_accounts

NOW_MS = 1_790_000_000_007


@pytest.fixture
async def settings(tmp_path: Path) -> Settings:
    text = "upstream: http://127.0.0.1:9\nsecret: kJ8vQ2mX5tR9wZ3bN6yC1pL4fH7gD0sA\nprotect: [/dashboard]\n"
    text += "store: sqlite:///auth.db\naccounts: {enabled: true}\n"
    settings = load_text(text, source="test", base_dir=tmp_path, environ={})
    async for _ in migrate_accounts(settings):
        pass
    return settings


def rows(folder: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / "auth.db")) as connection:
        return connection.execute(query).fetchall()


async def test_two_people_can_sign_in(settings: Settings, tmp_path: Path) -> None:
    await add_people(settings, NOW_MS)
    query = 'select name, email, emailVerified, password from "user" join account on userId = "user".id order by email'
    found = rows(tmp_path, query)
    assert [row[:3] for row in found] == [("Ada Lovelace", "ada@example.com", 1), ("Zoë Łoś", "zoe@example.com", 1)]
    assert all(verify_password(str(row[3]), PASSWORD) for row in found)
    assert found[0][3] != found[1][3]


async def test_ada_is_signed_in_on_other_devices_and_by_curl(settings: Settings, tmp_path: Path) -> None:
    token = await add_people(settings, NOW_MS)
    query = "select email, ipAddress, session.createdAt, expiresAt, token from session join user on user.id = userId"
    found = rows(tmp_path, f"{query} order by session.createdAt")
    assert [row[:4] for row in found] == [
        ("ada@example.com", "192.0.2.130", "2026-09-20T07:13:20.007Z", "2026-09-22T07:13:20.007Z"),
        ("ada@example.com", "198.51.100.7", "2026-09-21T07:13:20.007Z", "2026-09-23T07:13:20.007Z"),
        ("ada@example.com", "203.0.113.24", "2026-09-21T13:48:20.007Z", "2026-09-23T13:48:20.007Z"),
        ("ada@example.com", "127.0.0.1", "2026-09-21T14:13:20.007Z", "2026-09-23T14:13:20.007Z"),
    ]
    assert found[-1][4] == token


async def test_people_are_made_once(settings: Settings) -> None:
    await add_people(settings, NOW_MS)
    with pytest.raises(GatekeeperError, match=r"ada@example\.com has an account already"):
        await add_people(settings, NOW_MS)
