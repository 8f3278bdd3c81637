"""`gatekeeper users` as a person calls it, on a real file."""

import json
import os
import pty
import select
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gatekeeper.config import available
from gatekeeper.core.accounts import UNUSABLE_HASH, verify_password
from tests.better_auth_db import add_session, add_user, create_database, insert, iso
from tests.server.gates import SECRET
from tests.test_cli import FINE, call

CREATED_MS = 1_700_000_000_000
FAR_MS = 4_000_000_000_000
PASSWORD = "correct horse battery"
CHANCE = "kJ8vQ2mX5tR9wZ3bN6yC1pL4fH7gD0sA"
ACCOUNTS = FINE.replace(SECRET, CHANCE) + "accounts: {enabled: true}\npublic_url: https://app.example.com\n"


@pytest.fixture(autouse=True)
def _accounts_mode_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(available._DEFAULTS, "accounts.enabled", raising=False)


@pytest.fixture(params=["core", "admin+organization+twoFactor"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Ada has a password and two sessions, Grace came by another provider."""
    path = tmp_path / "auth.db"
    create_database(path, request.param)
    add_user(path, id="ada", email_verified=False, created_at_ms=CREATED_MS)
    add_user(path, id="grace", name="Grace\x1b[31m", email="grace@example.test", created_at_ms=CREATED_MS + 60_000)
    dates = {"createdAt": iso(CREATED_MS), "updatedAt": iso(CREATED_MS)}
    for user, provider, password in (("ada", "credential", "salt:key"), ("grace", "github", None)):
        row = {"id": f"account-{user}", "accountId": user, "providerId": provider, "userId": user}
        insert(path, "account", {**row, "password": password, **dates})
    for number in (0, 1):
        add_session(path, user_id="ada", token=f"{number}" * 32, expires_at_ms=FAR_MS, created_at_ms=CREATED_MS)
    return path


@pytest.fixture
def has_bans(request: pytest.FixtureRequest, database: Path) -> bool:
    with closing(sqlite3.connect(database)) as connection:
        return "banned" in {row[1] for row in connection.execute("pragma table_info(user)")}


@pytest.fixture
def config(database: Path) -> str:
    path = database.with_name("config.yaml")
    path.write_text(ACCOUNTS)
    return str(path)


def value_of(database: Path, sql: str) -> object:
    with closing(sqlite3.connect(database)) as connection:
        (found,) = connection.execute(sql).fetchone()
        return found


def password_of(database: Path, user: str = "ada") -> str:
    return str(value_of(database, f"select password from account where accountId = '{user}'"))  # noqa: S608


def sessions(database: Path) -> object:
    return value_of(database, "select count(*) from session")


def test_add_makes_a_user_who_can_sign_in(config: str, database: Path) -> None:
    code, output = call("users", "add", "Zoe@Example.test", "-c", config, stdin=f"{PASSWORD}\nmore\n")
    assert code == 0
    user_id = str(value_of(database, "select id from user where email = 'zoe@example.test'"))
    assert output == f"zoe@example.test was added: {user_id}\n"
    assert len(user_id) == 32
    assert verify_password(password_of(database, user_id), PASSWORD)
    assert value_of(database, "select name || emailVerified from user where name = 'Zoe'") == "Zoe0"


def test_add_as_json_with_name_and_verified(config: str, database: Path) -> None:
    arguments = ("users", "add", "zoe@example.test", "--name", "Zoë", "--verified", "--json", "-c", config)
    code, output = call(*arguments, stdin=PASSWORD)
    assert code == 0
    user = json.loads(output)["user"]
    assert (user["email"], user["name"], user["emailVerified"]) == ("zoe@example.test", "Zoë", True)
    assert PASSWORD not in output
    assert value_of(database, f"select emailVerified from user where id = '{user['id']}'") == 1  # noqa: S608


@pytest.mark.parametrize(
    ("email", "password", "message"),
    [
        ("ADA@example.test", PASSWORD, "there is a user with this address already"),
        ("zoe", PASSWORD, "this is no e-mail address"),
        ("zoe@example.test", "short", "the password is too short"),
        ("zoe@example.test", "", "the password is too short"),
        ("zoe@example.test", "x" * 129, "the password is too long"),
    ],
)
def test_what_is_refused_adds_nobody(config: str, database: Path, email: str, password: str, message: str) -> None:
    code, output = call("users", "add", email, "-c", config, stdin=password)
    assert (code, output) == (1, f"gatekeeper: {message}\n")
    assert value_of(database, "select count(*) from user") == 2


def shown_by(terminal: int) -> bytes:
    """What a terminal shows next; fails where nothing comes."""
    assert select.select([terminal], [], [], 30)[0], "nothing is shown"
    return os.read(terminal, 1000)


@pytest.mark.parametrize(
    ("typed", "code", "users"), [([PASSWORD, PASSWORD], 0, 3), ([PASSWORD, "another one"], None, 2)]
)
def test_at_a_terminal_the_password_is_asked_for_twice_and_not_shown(
    config: str, database: Path, typed: list[str], code: int | None, users: int
) -> None:
    ours, theirs = pty.openpty()
    program = (
        "from gatekeeper.config import available; available._DEFAULTS.pop('accounts.enabled', None);"
        "from gatekeeper.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "users", "add", "zoe@example.test", "-c", config]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, close_fds=True
    )
    os.close(theirs)
    shown = b""
    try:
        for number, line in enumerate(typed, 1):
            while shown.count(b": ") < number:  # what is typed before the question is thrown away
                shown += shown_by(ours)
            os.write(ours, line.encode() + b"\n")
        if code is None:
            while b"Error" not in shown:
                shown += shown_by(ours)
            process.terminate()
        assert process.wait(30) == (code if code is not None else -15)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert PASSWORD.encode() not in shown
    assert value_of(database, "select count(*) from user") == users


def test_a_password_is_no_argument(config: str) -> None:
    for arguments in (("add", "zoe@example.test", PASSWORD), ("set-password", "ada", PASSWORD)):
        assert call("users", *arguments, "-c", config)[0] == 2
    assert call("users", "add", "zoe@example.test", "--password", PASSWORD, "-c", config)[0] == 2


def test_list_shows_every_user_and_no_password(config: str) -> None:
    code, output = call("users", "list", "-c", config)
    assert code == 0
    headings, *rows = output.splitlines()
    assert headings.split() == ["id", "e-mail", "name", "verified", "created", "state"]
    assert [row.split()[0] for row in rows] == ["grace", "ada"]
    assert rows[0].endswith("yes       2023-11-14 22:14Z  no password")
    assert rows[1].endswith("no        2023-11-14 22:13Z  active")
    assert "salt" not in output
    assert "\x1b" not in output


def test_list_as_json_and_how_many(config: str, database: Path) -> None:
    code, output = call("users", "list", "--json", "-c", config)
    assert code == 0
    assert [(one["user"]["id"], one["state"]) for one in json.loads(output)] == [
        ("grace", "no password"),
        ("ada", "active"),
    ]
    assert "salt" not in output
    code, output = call("users", "list", "--limit", "1", "-c", config)
    assert (code, "these are the newest 1; --limit shows more" in output) == (0, True)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("delete from user")
    assert call("users", "list", "-c", config) == (1, "no users\n")
    assert call("users", "list", "--json", "-c", config) == (1, "[]\n")


def test_who_is_disabled_is_out(config: str, database: Path, has_bans: bool) -> None:
    code, output = call("users", "disable", "ada@example.test", "-c", config)
    assert (code, output.splitlines()[0]) == (0, "ada@example.test is disabled; 2 sessions ended")
    assert sessions(database) == 0
    assert ("the password was taken away" in output) is not has_bans
    if has_bans:
        assert value_of(database, "select banned from user where id = 'ada'") == 1
        assert password_of(database) == "salt:key"
    else:
        assert password_of(database) == UNUSABLE_HASH
    assert call("users", "list", "-c", config)[1].splitlines()[2].endswith("  disabled")


def test_who_was_disabled_comes_back(config: str, database: Path, has_bans: bool) -> None:
    call("users", "disable", "ada", "-c", config)
    code, output = call("users", "disable", "ada", "--undo", "-c", config)
    assert (code, output.splitlines()[0]) == (0, "ada@example.test is enabled")
    assert ("set a new one" in output) is not has_bans
    if has_bans:
        assert value_of(database, "select banned from user where id = 'ada'") == 0
    else:
        assert call("users", "set-password", "ada", "-c", config, stdin=PASSWORD)[0] == 0
    assert call("users", "list", "-c", config)[1].splitlines()[2].endswith("  active")


def test_an_address_counts_as_verified(config: str, database: Path) -> None:
    assert call("users", "verify", "ADA@example.test", "-c", config) == (0, "ada@example.test is verified\n")
    assert value_of(database, "select emailVerified from user where id = 'ada'") == 1
    code, output = call("users", "verify", "ada", "--json", "-c", config)
    assert (code, json.loads(output)["user"]["emailVerified"]) == (0, True)


def test_another_password_ends_all_sessions(config: str, database: Path) -> None:
    code, output = call("users", "set-password", "ada", "-c", config, stdin=f"{PASSWORD}\n")
    assert (code, output) == (0, "ada@example.test has another password; 2 sessions ended\n")
    assert verify_password(password_of(database), PASSWORD)
    assert sessions(database) == 0
    code, output = call("users", "set-password", "ada", "--json", "-c", config, stdin="short")
    assert (code, output) == (1, "gatekeeper: the password is too short\n")
    assert verify_password(password_of(database), PASSWORD)


def test_who_came_by_another_provider_gets_a_password(config: str, database: Path) -> None:
    code, output = call("users", "set-password", "grace", "--json", "-c", config, stdin=PASSWORD)
    assert (code, json.loads(output)["revoked"]) == (0, 0)
    stored = value_of(database, "select password from account where userId = 'grace' and providerId = 'credential'")
    assert verify_password(str(stored), PASSWORD)


def test_a_link_is_printed_alone_and_kept_for_an_hour(config: str, database: Path) -> None:
    code, output = call("users", "reset-link", "ada", "--json", "-c", config)
    assert code == 0
    link = json.loads(output)
    before, token = link["url"].split("?token=")
    assert (before, link["email"]) == ("https://app.example.com/.gatekeeper/reset-password", "ada@example.test")
    assert len(token) == 24
    stored = value_of(database, f"select value from verification where identifier = 'reset-password:{token}'")  # noqa: S608
    assert stored == "ada"
    assert value_of(database, "select expiresAt from verification") == link["expiresAt"]
    code, output = call("users", "reset-link", "ada", "-c", config)
    assert output.splitlines()[0].startswith("https://app.example.com/.gatekeeper/reset-password?token=")
    assert value_of(database, "select count(*) from verification") == 2


def test_who_was_disabled_gets_no_link(config: str, database: Path) -> None:
    call("users", "disable", "ada", "-c", config)
    code, output = call("users", "reset-link", "ada", "-c", config)
    assert (code, output) == (1, "gatekeeper: this user was disabled: no link would let them in\n")
    assert value_of(database, "select count(*) from verification") == 0


def test_without_public_url_there_is_no_link(config: str, database: Path) -> None:
    Path(config).write_text(ACCOUNTS.replace("public_url: https://app.example.com\n", ""))
    code, output = call("users", "reset-link", "ada", "-c", config)
    assert (code, "public_url" in output) == (1, True)


@pytest.mark.parametrize("command", ["disable", "verify", "set-password", "reset-link"])
def test_who_is_not_there_is_not_changed(config: str, command: str) -> None:
    for name in ("nobody", "nobody@example.test", "ADA", ""):
        assert call("users", command, name, "-c", config, stdin=PASSWORD) == (1, "gatekeeper: there is no such user\n")


def test_the_apps_own_users_are_left_alone(config: str, database: Path) -> None:
    Path(config).write_text(FINE)
    code, output = call("users", "list", "-c", config)
    assert (code, "accounts.enabled: it is off" in output) == (1, True)


def test_what_is_missing_is_said(config: str, database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("drop table session")
    code, output = call("users", "list", "-c", config)
    assert (code, "run `gatekeeper migrate` first" in output) == (1, True)
    database.unlink()
    code, output = call("users", "list", "-c", config)
    assert (code, "auth.db: No such file" in output) == (1, True)
