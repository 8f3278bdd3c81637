"""Tables that are there already: which of them accounts mode can use."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, inspect

from gatekeeper.migrations.better_auth import ACCOUNT, SESSION, TABLES, USER, VERIFICATION, Table
from gatekeeper.migrations.fit import faults_of, has_index
from tests.better_auth_db import DDL, create_database

VARIANTS = ("core", "core+generateId=uuid", "core+rateLimit database", "admin+organization+twoFactor")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{tmp_path / 'auth.db'}")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def faults(connection: Connection, table: Table = USER) -> list[str]:
    return list(faults_of(inspect(connection), table))


def create(connection: Connection, old: str = "", new: str = "", variant: str = "core") -> None:
    """Make the tables of this variant, with this replaced in the statements."""
    ddl = DDL[variant]
    assert old in ddl
    for statement in ddl.replace(old, new).split(";"):
        if statement.strip():
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_better_auth_makes_fits(connection: Connection, variant: str) -> None:
    create(connection, variant=variant)
    for table in TABLES:
        assert faults(connection, table) == []
    assert all(has_index(inspect(connection), table) for table in (SESSION, ACCOUNT, VERIFICATION))


@pytest.mark.parametrize(
    "spelling",
    ['"email" varchar(255) not null unique', '"email" text unique', '"email" text not null collate nocase unique'],
)
def test_what_is_like_it_fits(connection: Connection, spelling: str) -> None:
    create(connection, '"email" text not null unique', spelling)
    assert faults(connection) == []


def test_keys_and_indexes_of_their_own_fit(connection: Connection) -> None:
    create(connection, '"email" text not null unique', '"email" text not null')
    assert faults(connection) == ["column user.email is not unique"]
    connection.exec_driver_sql('create unique index "partly" on "user" ("email") where "image" is null')
    connection.exec_driver_sql('create unique index "both" on "user" ("email", "name")')
    assert faults(connection) == ["column user.email is not unique"]
    connection.exec_driver_sql('create unique index "wholly" on "user" ("email")')
    assert faults(connection) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"name" text not null, ', "", "table 'user' has no column 'name'"),
        ('"createdAt" date', '"createdAt" integer', "column user.createdAt is INTEGER, and dates are text"),
        ('"emailVerified" integer', '"emailVerified" text', "column user.emailVerified is TEXT, which is no boolean"),
        ('"image" text', '"image" text not null', "column user.image must not be empty, and the gate leaves it so"),
        ('"image" text', '"image" blob', "column user.image is BLOB, and the gate writes text"),
        (
            '"image" text',
            '"image" text, "age" integer not null',
            "column user.age must be given a value, and the gate has none: give it a default",
        ),
        ('"id" text not null primary key', '"id" text not null', "column user.id is not unique"),
        (
            '"id" text not null primary key',
            '"id" varchar(31) not null primary key',
            "column user.id has room for 31 characters, and an id has 32",
        ),
    ],
)
def test_what_would_fail_later_does_not_fit(connection: Connection, old: str, new: str, fault: str) -> None:
    create(connection, old, new)
    assert faults(connection) == [fault]


def test_further_columns_that_need_no_value_fit(connection: Connection) -> None:
    create(connection, '"image" text', '"image" text, "age" integer, "plan" text not null default \'free\'')
    assert faults(connection) == []


def test_ids_that_the_database_makes_do_not_fit(connection: Connection) -> None:
    create(connection, variant="core+generateId=serial")
    assert faults(connection) == ["column user.id is INTEGER, and the gate writes text"]
    assert faults(connection, SESSION) == [
        "column session.id is INTEGER, and the gate writes text",
        "column session.userId is INTEGER, and the gate writes text",
    ]


def test_every_fault_is_told(connection: Connection) -> None:
    connection.exec_driver_sql('create table "user" ("id" integer primary key, "email" text)')
    assert len(faults(connection)) == 7


def test_an_index_of_another_name_serves(connection: Connection, tmp_path: Path) -> None:
    create_database(tmp_path / "auth.db")
    connection.exec_driver_sql('drop index "session_userId_idx"')
    assert not has_index(inspect(connection), SESSION)
    connection.exec_driver_sql('create index "mine" on "session" ("userId", "expiresAt")')
    assert has_index(inspect(connection), SESSION)
