"""`stores.feeds.setup` and `gatekeeper migrate --feed`: which engine is set up, and what is said of it."""

import re
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from gatekeeper.cli import main
from gatekeeper.config.redis_url import RedisAddress
from gatekeeper.config.server_url import ServerUrl
from gatekeeper.core.errors import GatekeeperError, MissingTable
from gatekeeper.stores.feeds.sqlite_setup import definitions, statements
from gatekeeper.stores.tables import BETTER_AUTH, Tables
from tests.better_auth_db import create_database, execute_script

POSTGRES = "postgresql://gate:sesame@db.example.test/app"
REDIS = "redis://:sesame@redis.example.test:6379"


class Engines:
    """Stands for PostgreSQL and Redis: keeps what they were to do."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.fault: GatekeeperError | None = None

    def statements(self, tables: Tables, *, undo: bool) -> list[str]:
        return [f"-- {tables.session.name}, undo {undo}", "select 1;"]

    async def apply_sql(self, url: ServerUrl, statements: Sequence[str]) -> None:
        if self.fault is not None:
            raise self.fault
        self.done.append(f"{url.label}: {statements[0]}")

    def commands(self, *, undo: bool) -> list[str]:
        return [f"CONFIG SET x {undo}"]

    async def apply_redis(self, address: RedisAddress, *, undo: bool) -> list[str]:
        self.done.append(f"{address.label}, undo {undo}")
        return [f"{address.label}: flags", f"{address.label}: kept"]


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    engines = Engines()
    sql = SimpleNamespace(statements=engines.statements, apply=engines.apply_sql)
    redis = SimpleNamespace(commands=engines.commands, apply=engines.apply_redis)
    monkeypatch.setitem(sys.modules, "gatekeeper.stores.feeds.postgres_setup", sql)
    monkeypatch.setitem(sys.modules, "gatekeeper.stores.feeds.redis_setup", redis)
    return engines


class Command:
    """`gatekeeper migrate` on a configuration in this folder."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "config.yaml"
        self.path = folder / "auth.db"

    def __call__(self, *arguments: str, store: str = "sqlite:///auth.db", require: str = "{}") -> tuple[int, str]:
        """Exit status and output."""
        self.config.write_text(
            "upstream: http://127.0.0.1:9\nsecret: kJ8vQ2mX5tR9wZ3bN6yC1pL4fH7gD0sA\n"
            f"store: {store}\nprotect: [{{path: /dashboard, require: {require}}}]\n"
        )
        result = CliRunner().invoke(main, ["migrate", *arguments, "-c", str(self.config)])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    def schema(self) -> set[str]:
        with closing(sqlite3.connect(self.path)) as connection:
            return {sql for (sql,) in connection.execute("select sql from sqlite_master where sql is not null")}


@pytest.fixture
def migrate(tmp_path: Path) -> Command:
    return Command(tmp_path)


def test_sqlite_is_set_up_and_undone(migrate: Command) -> None:
    create_database(migrate.path)
    before = migrate.schema()
    for _ in range(2):
        assert migrate("--feed") == (0, f"{migrate.path}: triggers tell running gates of changes\n")
        assert migrate.schema() >= set(definitions(BETTER_AUTH))
    assert migrate("--feed", "--undo") == (0, f"{migrate.path}: the triggers were removed\n")
    assert {sql for sql in migrate.schema() - before if "sqlite_sequence" not in sql} == set()


def test_memberships_are_set_up_where_a_rule_requires_them(migrate: Command) -> None:
    create_database(migrate.path)
    code, output = migrate("--feed", require="{organizations: [acme]}")
    assert (code, "no such table: member" in output) == (1, True)
    migrate.path.unlink()
    create_database(migrate.path, "admin+organization+twoFactor")
    code, _ = migrate("--feed", require="{organizations: [acme]}")
    assert (code, any("gatekeeper_member_insert" in sql for sql in migrate.schema())) == (0, True)


def test_names_are_those_of_the_configuration(migrate: Command) -> None:
    create_database(migrate.path)
    execute_script(migrate.path, 'alter table "session" rename to "sessions"')
    code, output = migrate("--feed")
    assert (code, output) == (1, f"gatekeeper: {migrate.path}: no table 'session' (setting store.tables.session)\n")
    code, _ = migrate("--feed", store="{url: 'sqlite:///auth.db', tables: {session: sessions}}")
    assert code == 0


@pytest.mark.parametrize("undo", [False, True])
def test_what_is_printed_does_the_same(migrate: Command, undo: bool) -> None:
    create_database(migrate.path)
    migrate("--feed")
    with_feed = migrate.schema()
    migrate("--feed", "--undo")
    without = migrate.schema()
    if undo:
        migrate("--feed")
    code, output = migrate("--feed", "--print", *(["--undo"] if undo else []))
    assert code == 0
    assert output == "BEGIN IMMEDIATE;\n" + ";\n".join(statements(BETTER_AUTH, undo=undo)) + ";\nCOMMIT;\n"
    assert migrate.schema() == (with_feed if undo else without)
    execute_script(migrate.path, output)
    assert migrate.schema() == (without if undo else with_feed)


@pytest.mark.parametrize(
    ("store", "undo", "done", "output"),
    [
        pytest.param(
            POSTGRES,
            False,
            ["postgresql://db.example.test/app: -- session, undo False"],
            "postgresql://db.example.test/app: triggers tell running gates of changes\n",
            id="postgresql",
        ),
        pytest.param(
            REDIS,
            True,
            ["redis://redis.example.test:6379/0, undo True"],
            "redis://redis.example.test:6379/0: flags\nredis://redis.example.test:6379/0: kept\n",
            id="redis",
        ),
        pytest.param(
            f"{{url: '{POSTGRES}', secondary: '{REDIS}'}}",
            True,
            ["redis://redis.example.test:6379/0, undo True", "postgresql://db.example.test/app: -- session, undo True"],
            "redis://redis.example.test:6379/0: flags\nredis://redis.example.test:6379/0: kept\n"
            "postgresql://db.example.test/app: the triggers were removed\n",
            id="both",
        ),
    ],
)
def test_each_engine(migrate: Command, engines: Engines, store: str, undo: bool, done: list[str], output: str) -> None:
    assert migrate("--feed", *(["--undo"] if undo else []), store=store) == (0, output)
    assert engines.done == done


def test_what_was_done_before_a_failure_is_said(migrate: Command, engines: Engines) -> None:
    engines.fault = GatekeeperError("db.example.test: permission denied")
    code, output = migrate("--feed", store=f"{{url: '{POSTGRES}', secondary: '{REDIS}'}}")
    assert code == 1
    assert output.splitlines()[0] == "redis://redis.example.test:6379/0: flags"
    assert output.endswith("gatekeeper: db.example.test: permission denied\n")


def test_a_database_that_has_no_sessions_is_left_alone(migrate: Command, engines: Engines) -> None:
    engines.fault = MissingTable("db.example.test: no table 'session'")
    code, output = migrate("--feed", store=f"{{url: '{POSTGRES}', secondary: '{REDIS}'}}")
    assert (code, output.splitlines()[-1]) == (
        0,
        "db.example.test: no table 'session': sessions are in Redis alone, and nothing is to be done there",
    )
    code, _ = migrate("--feed", store=POSTGRES)
    assert code == 1


@pytest.mark.parametrize(
    ("store", "output"),
    [
        pytest.param(POSTGRES, "BEGIN;\n-- session, undo False;\nselect 1;\nCOMMIT;\n", id="postgresql"),
        pytest.param(REDIS, "CONFIG SET x False\n", id="redis"),
        pytest.param(
            f"{{url: '{POSTGRES}', secondary: '{REDIS}'}}",
            "-- redis://redis.example.test:6379/0\nCONFIG SET x False\n"
            "-- postgresql://db.example.test/app\nBEGIN;\n-- session, undo False;\nselect 1;\nCOMMIT;\n",
            id="both",
        ),
    ],
)
def test_each_engine_printed(migrate: Command, engines: Engines, store: str, output: str) -> None:
    assert migrate("--feed", "--print", store=store) == (0, output)
    assert engines.done == []


@pytest.mark.parametrize("arguments", [[], ["--print"], ["--undo"]])
@pytest.mark.parametrize(
    ("store", "message"),
    [
        pytest.param("mysql://gate@db.example.test/app", "MySQL has no feed; a session is believed", id="mysql"),
        pytest.param("mariadb://gate@db.example.test/app", "MySQL has no feed; a session is believed", id="mariadb"),
        pytest.param("https://app.example.test/api/auth", "an app that is asked has no feed; a session", id="app"),
        pytest.param(
            f"{{url: 'mysql://gate@db.example.test/app', secondary: '{REDIS}'}}", "MySQL has no feed", id="with-redis"
        ),
    ],
)
def test_stores_without_a_feed(
    migrate: Command, engines: Engines, arguments: list[str], store: str, message: str
) -> None:
    code, output = migrate("--feed", *arguments, store=store)
    assert (code, engines.done) == (1, [])
    assert message in output


def test_wrong_usage(migrate: Command) -> None:
    code, output = migrate()
    assert (code, "--feed is what can be migrated" in output) == (2, True)
    code, output = migrate("--feed", store="nonsense")
    assert (code, bool(re.search("cannot be used", output))) == (1, True)
    code, output = migrate("--feed")
    assert (code, "No such file" in output) == (1, True)
    assert not migrate.path.exists()
