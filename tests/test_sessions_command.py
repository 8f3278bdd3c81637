"""`gatekeeper sessions` as a person calls it, on a real file."""

import json
import os
import pty
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gatekeeper.sessions_command import device
from tests.better_auth_db import add_session, add_user, create_database
from tests.better_auth_redis import Storage, session_fields, user_fields
from tests.servers.redis import RedisServer
from tests.stores.conftest import redis, redis_server, storage
from tests.test_cli import FINE, call

__all__ = ["redis", "redis_server", "storage"]  # fixtures

CREATED_MS = 1_700_000_000_000
FAR_MS = 4_000_000_000_000
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


def token_of(number: int) -> str:
    return f"secret{number}" * 4


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Three sessions of Ada, of which the last has expired, and one of Grace, who is banned."""
    path = tmp_path / "auth.db"
    create_database(path, "admin+organization+twoFactor")
    add_user(path, id="ada")
    add_user(path, id="grace", email="grace@example.test", banned=1)
    for number, (user, expires_ms) in enumerate(
        (("ada", FAR_MS), ("ada", FAR_MS), ("ada", CREATED_MS + 1), ("grace", FAR_MS))
    ):
        add_session(
            path,
            id=f"id-{number}",
            user_id=user,
            token=token_of(number),
            created_at_ms=CREATED_MS + 60_000 * number,
            expires_at_ms=expires_ms,
            userAgent=FIREFOX,
            ipAddress="203.0.113.9",
        )
    return path


@pytest.fixture
def config(database: Path) -> Path:
    path = database.with_name("config.yaml")
    path.write_text(FINE)
    return path


def left(database: Path) -> list[str]:
    """Ids of the sessions that are still there."""
    with closing(sqlite3.connect(database)) as connection:
        return [found for (found,) in connection.execute('select id from "session" order by id')]


def test_list_shows_every_session_and_no_token(config: Path) -> None:
    code, output = call("sessions", "list", "-c", str(config))
    assert code == 0
    headings, *rows = output.splitlines()
    assert headings.split() == ["id", "user", "device", "address", "created", "updated", "expires", "state"]
    assert [row.split()[0] for row in rows] == ["id-3", "id-2", "id-1", "id-0"]
    assert [row.split()[-1] for row in rows] == ["banned", "expired", "live", "live"]
    assert "ada@example.test    Firefox on Linux  203.0.113.9  2023-11-14 22:14Z" in rows[2]
    assert "secret" not in output
    assert "\x1b" not in output


def test_list_as_json_has_every_field_but_the_token(config: Path) -> None:
    code, output = call("sessions", "list", "--user", "Ada@example.test", "--json", "-c", str(config))
    assert code == 0
    assert "secret" not in output
    found = json.loads(output)
    assert [(one["session"]["id"], one["user"]["id"], one["state"]) for one in found] == [
        ("id-2", "ada", "expired"),
        ("id-1", "ada", "live"),
        ("id-0", "ada", "live"),
    ]
    assert found[0]["session"]["userAgent"] == FIREFOX


def test_list_says_that_there_are_more_and_that_there_are_none(config: Path) -> None:
    code, output = call("sessions", "list", "--limit", "2", "-c", str(config))
    assert (code, len(output.splitlines())) == (0, 4)
    assert "these are the newest 2; --limit shows more" in output
    code, output = call("sessions", "list", "--limit", "4", "-c", str(config))
    assert (code, len(output.splitlines())) == (0, 5)
    assert call("sessions", "list", "--user", "nobody", "-c", str(config)) == (1, "no sessions\n")
    assert call("sessions", "list", "--user", "nobody", "--json", "-c", str(config)) == (1, "[]\n")


def test_what_strangers_wrote_does_not_steer_the_terminal(config: Path, database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update session set ipAddress = ?, userAgent = ?", ("\x1b]0;x\x07", "\x1b[31mred\nline"))
    code, output = call("sessions", "list", "-c", str(config))
    assert (code, len(output.splitlines())) == (0, 5)
    assert "\x1b" not in output
    assert "\x07" not in output


def test_revoke_by_id_and_by_token_from_standard_input(config: Path, database: Path) -> None:
    assert call("sessions", "revoke", "id-1", "-c", str(config)) == (0, "1 session revoked\n")
    assert left(database) == ["id-0", "id-2", "id-3"]
    lines = f"{token_of(0)}\n\nunknown\n  id-2 \n{token_of(0)}\n"
    code, output = call("sessions", "revoke", "-", "--yes", "-c", str(config), stdin=lines)
    assert (code, output) == (0, "2 sessions revoked; 1 not found\n")
    assert left(database) == ["id-3"]
    assert call("sessions", "revoke", "id-1", "-c", str(config)) == (1, "0 sessions revoked; 1 not found\n")
    code, output = call("sessions", "revoke", "id-3", "no", "--json", "-c", str(config))
    assert (code, json.loads(output)) == (0, {"revoked": 1, "not_found": 1})


def test_revoke_all_of_a_user(config: Path, database: Path) -> None:
    code, output = call("sessions", "revoke", "--user", "ada@example.test", "-c", str(config))
    assert (code, "this revokes 3 sessions: say --yes; nothing was revoked" in output) == (2, True)
    assert len(left(database)) == 4
    code, output = call("sessions", "revoke", "--user", "ada", "--yes", "-c", str(config))
    assert (code, output) == (0, "3 sessions revoked\n")
    assert left(database) == ["id-3"]
    assert call("sessions", "revoke", "--user", "ada", "-c", str(config)) == (1, "0 sessions revoked\n")
    assert call("sessions", "revoke", "--user", "grace@example.test", "-c", str(config))[0] == 0


@pytest.mark.parametrize("given", ["id-1", "-"])
def test_revoke_all_of_a_user_but_one(config: Path, database: Path, given: str) -> None:
    arguments = ("sessions", "revoke", "--all-but", given, "--yes", "-c", str(config))
    assert call(*arguments, stdin=token_of(1)) == (0, "2 sessions revoked\n")
    assert left(database) == ["id-1", "id-3"]
    assert call(*arguments, stdin=token_of(1))[0] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--all-but", "nothing"], "there is no such session; nothing was revoked"),
        (["--all-but", "id-3", "--user", "ada"], "none of this user's; nothing was revoked"),
    ],
)
def test_who_names_the_wrong_session_to_keep_loses_none(
    config: Path, database: Path, arguments: list[str], message: str
) -> None:
    code, output = call("sessions", "revoke", *arguments, "--yes", "-c", str(config))
    assert (code, message in output) == (1, True)
    assert len(left(database)) == 4


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["id-1", "--user", "ada"],
        ["id-1", "--all-but", "id-2"],
        [""],
        ["--all-but", ""],
        ["--all-but", "-"],
    ],
    ids=str,
)
def test_wrong_usage_revokes_nothing(config: Path, database: Path, arguments: list[str]) -> None:
    assert call("sessions", "revoke", *arguments, "--yes", "-c", str(config))[0] == 2
    assert len(left(database)) == 4


@pytest.mark.parametrize(("answer", "code", "count"), [("y\n", 0, 1), ("n\n", 1, 4), ("\n", 1, 4)])
def test_a_person_at_a_terminal_is_asked(config: Path, database: Path, answer: str, code: int, count: int) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "gatekeeper", "sessions", "revoke", "--user", "ada", "-c", str(config)]
    try:
        os.write(ours, answer.encode())
        done = subprocess.run(command, stdin=theirs, capture_output=True, text=True, timeout=30, check=False)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (done.returncode, len(left(database))) == (code, count)
    assert "Revoke 3 sessions?" in done.stderr


def test_a_store_that_cannot_answer_and_the_app_itself_are_failures(config: Path, database: Path) -> None:
    database.unlink()
    for arguments in (["list"], ["revoke", "id-1"], ["revoke", "--user", "ada", "--yes"]):
        code, output = call("sessions", *arguments, "-c", str(config))
        assert (code, "auth.db: No such file" in output) == (1, True)
    config.write_text(FINE.replace("sqlite:///auth.db", "http://127.0.0.1:9/api/auth"))
    code, output = call("sessions", "list", "-c", str(config))
    assert (code, "the app owns these sessions; revoke them there" in output) == (1, True)


def test_in_redis_all_sessions_of_a_user_are_revoked_as_the_app_does(
    tmp_path: Path, redis: RedisServer, storage: Storage
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(FINE.replace("sqlite:///auth.db", redis.url))
    for number in range(2):
        storage.sign_in(session_fields(token=token_of(number), userId="ada"), user_fields(id="ada"))
    code, output = call("sessions", "revoke", "--user", "ada@example.test", "--yes", "-c", str(config))
    assert (code, output) == (0, "2 sessions revoked\n")
    assert storage.run("KEYS", "*") == [b"better-auth:revoked-sessions-before-ada"]


@pytest.mark.parametrize(
    ("user_agent", "named"),
    [
        (None, "-"),
        ("", "-"),
        (FIREFOX, "Firefox on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/130.0 Safari/537.36 Edg/130.0", "Edge on Windows"),
        ("Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/130.0 Mobile Safari/537.36", "Chrome on Android"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Version/17.5 Safari/604.1", "Safari on iPhone"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/17.5 Safari/605.1.15", "Safari on macOS"),
        ("Firefox/1", "Firefox/1"),
        ("curl/8.5.0", "curl"),
        ("acme-sync/2.1 (x)", "acme-sync/2.1"),
        ("x" * 99, "x" * 24),
    ],
)
def test_a_device_is_browser_and_system(user_agent: str | None, named: str) -> None:
    assert device(user_agent) == named
