"""`gatekeeper migrate` in accounts mode, on real databases: empty ones, an app's, and some that do not fit."""

import asyncio
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gatekeeper import migrate_command
from gatekeeper.config import available
from gatekeeper.config.schema import Accounts, Settings
from gatekeeper.core.attempts import Limit, Tally
from gatekeeper.core.errors import GatekeeperError, StoreUnavailable
from gatekeeper.migrate_command import migrate_accounts
from gatekeeper.stores.accounts import SignedUp
from gatekeeper.stores.opening_accounts import open_accounts
from tests.better_auth_db import add_session, add_user, create_database, execute
from tests.servers.labs import MariadbLab, PostgresLab
from tests.stores.account_places import AccountPlace, MariadbAccounts, PostgresAccounts, SqliteAccounts
from tests.stores.conftest import mariadb_server, postgres_server
from tests.stores.opening import settings_on
from tests.stores.test_sql_accounts import NOW_MS, new_session, new_user
from tests.test_cli import FINE, call

__all__ = ["mariadb_server", "postgres_server"]  # fixtures

BETTER_AUTHS = ("account", "session", "user", "verification")
OURS = ("gatekeeper_attempt", "gatekeeper_version")
VARIANTS = ("core", "core+secondaryStorage", "admin+organization+twoFactor")

PLACES: dict[str, Callable[[pytest.FixtureRequest, Path], AccountPlace]] = {
    "sqlite": lambda _request, path: SqliteAccounts(path),
    "postgres": lambda request, _: PostgresAccounts(PostgresLab(request.getfixturevalue("postgres_server"))),
    "mariadb": lambda request, _: MariadbAccounts(MariadbLab(request.getfixturevalue("mariadb_server"))),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "auth.db"


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest, path: Path) -> AccountPlace:
    found = PLACES[request.param](request, path)
    await found.empty()
    return found


def settings_of(place: AccountPlace, **store: Any) -> Settings:
    return replace(settings_on(place.url, **store), accounts=Accounts(enabled=True))


async def migrate(place: AccountPlace, **store: Any) -> list[str]:
    return [line async for line in migrate_accounts(settings_of(place, **store))]


def without_ours(schema: dict[str, Any]) -> dict[str, Any]:
    return {table: columns for table, columns in schema.items() if not table.startswith("gatekeeper_")}


async def test_an_empty_database_gets_what_better_auth_would_make(place: AccountPlace) -> None:
    lines = await migrate(place)
    label = place.url.removeprefix("sqlite:///") if isinstance(place, SqliteAccounts) else ""
    assert f"{label}: made the tables account, gatekeeper_attempt, session, user, verification" in lines[0]
    assert len(lines) == (1 if isinstance(place, MariadbAccounts) else 2)  # MySQL has no feed
    made = await place.schema()
    assert {*BETTER_AUTHS, *OURS} <= made.keys()
    await place.create("core")
    assert without_ours(made) == without_ours(await place.schema())


async def test_it_may_be_done_again(place: AccountPlace) -> None:
    await migrate(place)
    before = await place.schema()
    assert "the tables of accounts are in order" in (await migrate(place))[0]
    assert await place.schema() == before


async def test_what_it_makes_keeps_accounts_and_counts(place: AccountPlace) -> None:
    await migrate(place)
    accounts, attempts = open_accounts(settings_of(place))
    assert isinstance(await accounts.create_user(new_user(), new_session(), now_ms=NOW_MS), SignedUp)
    assert await attempts.note(["a"], Limit(5, 60_000), NOW_MS) == {"a": Tally(1, NOW_MS + 60_000)}
    await accounts.close()


@pytest.mark.parametrize("variant", VARIANTS)
async def test_what_a_better_auth_app_made_is_adopted(place: AccountPlace, variant: str) -> None:
    await place.create(variant)
    await place.execute("drop table gatekeeper_attempt")
    before = await place.schema()
    await migrate(place)
    after = await place.schema()
    assert {table: after[table] for table in before} == before
    assert {*BETTER_AUTHS, *OURS} <= after.keys()


@pytest.mark.parametrize("variant", ["core+generateId=serial", "core+generateId=uuid"])
async def test_ids_that_the_database_makes_are_refused_and_nothing_is_changed(
    place: AccountPlace, variant: str
) -> None:
    await place.create(variant)
    await place.execute("drop table gatekeeper_attempt")
    await place.execute("drop table verification")
    before = await place.schema()
    if variant == "core+generateId=uuid" and not isinstance(place, PostgresAccounts):
        await migrate(place)  # there they are texts
        return
    with pytest.raises(GatekeeperError, match=r"the tables are not as Better Auth makes them: column user\.id is "):
        await migrate(place)
    after = await place.schema()
    after.pop("gatekeeper_version", None)  # MySQL does not undo it
    assert after == before


async def test_a_table_that_was_dropped_later_is_told(place: AccountPlace) -> None:
    await migrate(place)
    await place.execute("drop table verification")
    with pytest.raises(GatekeeperError, match="there is no table 'verification'"):
        await migrate(place)


async def test_two_at_once_make_it_once(place: AccountPlace) -> None:
    lines = [done[0].partition(": ")[2] for done in await asyncio.gather(migrate(place), migrate(place))]
    assert sorted(line.partition(" tables")[0] for line in lines) == ["made the", "the"]
    assert await place.count("gatekeeper_version") == 1


# SQLite


async def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    await migrate(SqliteAccounts(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_the_file_has_a_write_ahead_log_and_one_that_is_there_keeps_its_own_way(path: Path) -> None:
    app_s = path.with_name("app.db")
    create_database(app_s)
    for place in (SqliteAccounts(path), SqliteAccounts(app_s)):
        await migrate(place)
    modes = [await SqliteAccounts(file).fetch("pragma journal_mode") for file in (path, app_s)]
    assert modes == [[{"journal_mode": "wal"}], [{"journal_mode": "delete"}]]


async def test_a_file_that_is_there_keeps_its_mode_and_its_rows(path: Path) -> None:
    create_database(path)
    path.chmod(0o640)
    add_user(path, id="ada")
    add_session(path, user_id="ada", token="t" * 32, expires_at_ms=NOW_MS, created_at_ms=NOW_MS)
    place = SqliteAccounts(path)
    before = [await place.rows(table) for table in ("user", "session")]
    await migrate(place)
    assert [await place.rows(table) for table in ("user", "session")] == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


async def test_the_feed_is_set_up_for_better_auths_own_names(path: Path) -> None:
    place = SqliteAccounts(path)
    lines = await migrate(place, tables={"session": "sessions", "user": "people"}, columns={"user": {"id": "key"}})
    assert lines[1:] == [f"{path}: triggers tell running gates of changes"]
    triggers = await place.fetch("select tbl_name from sqlite_master where type = 'trigger'")
    assert {row["tbl_name"] for row in triggers} == {"session", "user", "gatekeeper_change"}


async def test_a_locked_file_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate_command, "MIGRATE_S", 0.2)
    create_database(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("begin immediate")
        with pytest.raises(StoreUnavailable, match=r"auth\.db: (database is locked|no answer within 0\.2 s)"):
            await migrate(SqliteAccounts(path))


async def test_a_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(GatekeeperError, match="No such file or directory"):
        await migrate(SqliteAccounts(tmp_path / "none" / "auth.db"))


async def test_what_is_no_database_is_said(path: Path) -> None:
    path.write_text("hello, this is a text and no database at all" * 99)
    with pytest.raises(StoreUnavailable, match="file is not a database"):
        await migrate(SqliteAccounts(path))


@pytest.mark.parametrize("url", ["redis://127.0.0.1:9", "http://127.0.0.1:9/api/auth"])
async def test_accounts_need_a_database(url: str) -> None:
    with pytest.raises(GatekeeperError, match="accounts are kept in a database"):
        [line async for line in migrate_accounts(settings_on(url))]


# The command


def test_in_accounts_mode_the_command_needs_no_option(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(available._DEFAULTS, "accounts.enabled", raising=False)
    config = path.with_name("config.yaml")
    config.write_text(FINE + "accounts: {enabled: true}\n")
    code, output = call("migrate", "-c", str(config))
    assert (code, output.splitlines()[1:]) == (0, [f"{path}: triggers tell running gates of changes"])
    assert call("migrate", "--undo", "-c", str(config))[0] == 2
    assert call("migrate", "--print", "-c", str(config))[0] == 2
    execute(path, 'drop table "account"')
    code, output = call("migrate", "-c", str(config))
    assert (code, "there is no table 'account'" in output) == (1, True)


def test_in_companion_mode_it_must_be_said_what(path: Path) -> None:
    config = path.with_name("config.yaml")
    config.write_text(FINE)
    code, output = call("migrate", "-c", str(config))
    assert (code, "while accounts.enabled is off" in output) == (2, True)
