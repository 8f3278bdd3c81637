"""`stores.feeds.sqlite_setup`: what the triggers write, on the tables that Better Auth makes."""

import multiprocessing
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.core.errors import GatekeeperError, MissingTable, StoreUnavailable
from gatekeeper.stores.feeds import sqlite_setup
from gatekeeper.stores.feeds.sqlite_setup import apply, definitions, statements
from gatekeeper.stores.tables import BETTER_AUTH, Mapped, Tables
from tests.better_auth_db import DDL, add_session, add_user, create_database, execute, execute_script, insert

ORGANIZATION_VARIANT = "admin+organization+twoFactor"
WITH_ORGANIZATIONS = Tables(with_organizations=True)
DATE = "2026-01-01T00:00:00.000Z"
SESSION = {"expiresAt": DATE, "createdAt": DATE, "updatedAt": DATE, "ipAddress": "", "userAgent": ""}
USER = {"name": "Bob", "emailVerified": 1, "createdAt": DATE, "updatedAt": DATE}

ALL = {"s:a", "s:b", "u:ada", "u:bob"}


class File:
    """A file and a connection to it, with foreign keys as Better Auth's driver has them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("pragma foreign_keys = on")
        self.connection.execute("pragma synchronous = off")

    def run(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, values).fetchall()

    def put(self, verb: str, table: str, row: dict[str, Any]) -> None:
        names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" for _ in row)
        self.run(f'{verb} into "{table}" ({names}) values ({marks})', *row.values())

    def told(self) -> list[str]:
        """What was written since this was last asked, in order."""
        rows = self.run("select kind, key from gatekeeper_change order by seq")
        self.run("delete from gatekeeper_change")
        return [kind if key is None else f"{kind}:{key}" for kind, key in rows]

    def schema(self) -> set[tuple[Any, ...]]:
        return set(self.run("select type, name, sql from sqlite_master"))


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    """Makes a File with the tables of this variant, user `ada`, session `a`, and the triggers for these tables."""
    files: list[File] = []

    def made(variant: str = "core", tables: Tables = BETTER_AUTH, ada: str | int = "ada", **more: Any) -> File:
        path = tmp_path / "auth.db"
        create_database(path, variant)
        add_user(path, id=ada)
        add_session(path, user_id=ada, token="a", expires_at_ms=0, created_at_ms=0, **more)
        apply(path, statements(tables, undo=False))
        files.append(File(path))
        files[0].told()
        return files[0]

    yield made
    for file in files:
        file.connection.close()


def session(id: str, token: str, user_id: str = "ada") -> dict[str, Any]:
    return {"id": id, "token": token, "userId": user_id, **SESSION}


def test_a_sign_in_writes_nothing(make: Any) -> None:
    file = make()
    file.put("insert", "session", session("i2", "b"))
    file.put("insert", "user", {"id": "bob", "email": "bob@example.test", **USER})
    assert file.told() == []
    assert file.run("select count(*) from session") == [(2,)]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        pytest.param("update session set expiresAt = '2040'", ["s:a"], id="session-extended"),
        pytest.param("update session set token = 'new'", ["s:a", "s:new"], id="token-changed"),
        pytest.param("delete from session", ["s:a"], id="session-revoked"),
        pytest.param("update user set name = 'Countess'", ["u:ada"], id="user-changed"),
        pytest.param("delete from user", ["s:a", "u:ada"], id="user-deleted-with-sessions"),
        pytest.param("delete from session where token = 'none'", [], id="nobody-concerned"),
    ],
)
def test_what_is_told(make: Any, statement: str, told: list[str]) -> None:
    file = make()
    file.run(statement)
    assert sorted(file.told()) == told


def test_what_is_rolled_back_is_not_told(make: Any) -> None:
    file = make()
    for statement in ("begin", "delete from session", "rollback"):
        file.run(statement)
    assert file.told() == []


@pytest.mark.parametrize(
    ("verb", "table", "row", "told"),
    [
        pytest.param("insert or replace", "session", session("i2", "a"), "s:a", id="same-token"),
        pytest.param("replace", "session", session("i1", "b"), "s:a", id="same-session-id"),
        pytest.param("insert or replace", "session", session("i2", "b"), None, id="new-session"),
        pytest.param("replace", "user", {"id": "ada", "email": "new@example.test", **USER}, "u:ada", id="same-user-id"),
        pytest.param("replace", "user", {"id": "new", "email": "ada@example.test", **USER}, "u:ada", id="same-email"),
    ],
)
@pytest.mark.parametrize("foreign_keys", ["on", "off"])
def test_what_is_replaced(
    make: Any, verb: str, table: str, row: dict[str, Any], told: str | None, foreign_keys: str
) -> None:
    """SQLite fires no trigger for a row that is removed to make room."""
    file = make(id="i1")
    file.run(f"pragma foreign_keys = {foreign_keys}")
    file.put(verb, table, row)
    found = file.told()
    assert told in found if told else found == []


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        pytest.param("update or replace session set id = 'i1' where id = 'i2'", {"s:a", "s:b"}, id="session-id"),
        pytest.param("update or replace session set token = 'a' where id = 'i2'", {"s:a", "s:b"}, id="token"),
        pytest.param("update or replace user set id = 'ada' where id = 'bob'", ALL, id="user-id"),
        pytest.param("update or replace user set email = 'ada@example.test' where id = 'bob'", ALL, id="email"),
    ],
)
def test_what_an_update_replaces(make: Any, statement: str, told: set[str]) -> None:
    file = make(id="i1")
    file.put("insert", "session", session("i2", "b"))
    file.put("insert", "user", {"id": "bob", "email": "bob@example.test", **USER})
    file.run(statement)
    assert set(file.told()) == told


def test_upserts_are_told(make: Any) -> None:
    file = make(id="i1")
    row = session("i2", "a")
    names = ", ".join(row)
    upsert = f"insert into session ({names}) values (?,?,?,?,?,?,?,?) on conflict (token) do update set ipAddress = 'x'"  # noqa: S608
    file.run(upsert, *row.values())
    assert set(file.told()) == {"s:a"}
    assert file.run("select id, ipAddress from session") == [("i1", "x")]


def test_the_writer_notices_nothing(make: Any) -> None:
    """Neither the last row's number nor how many rows were changed is that of the change table."""
    file = make("core+generateId=serial", ada=1, id=1)
    cursor = file.connection.execute("update session set ipAddress = '::1'")
    assert cursor.rowcount == 1
    row = {name: value for name, value in session("", "b").items() if name != "id"} | {"userId": 1}
    file.put("insert", "session", row)
    assert file.run("select last_insert_rowid(), changes()") == [(2, 1)]
    assert file.run("delete from session where id = 1 returning token") == [("a",)]


@pytest.mark.parametrize(
    ("variant", "ada", "id", "told"),
    [
        pytest.param("core+generateId=serial", 1, 7, ["s:a", "u:1"], id="serial"),
        pytest.param(
            "core+generateId=uuid", "0199c3d2-7b1e-4c6f-9e10-2f3a4b5c6d7e", "s1",
            ["s:a", "u:0199c3d2-7b1e-4c6f-9e10-2f3a4b5c6d7e"], id="uuid",
        ),
    ],
)  # fmt: skip
def test_ids_are_told_as_text(make: Any, variant: str, ada: str | int, id: str | int, told: list[str]) -> None:
    file = make(variant, ada=ada, id=id)
    file.run("delete from user")
    assert sorted(file.told()) == told
    assert file.run("select count(*) from session") == [(0,)]


@pytest.fixture
def membership(make: Any) -> File:
    """Ada is a member of Acme."""
    file: File = make(ORGANIZATION_VARIANT, WITH_ORGANIZATIONS)
    file.put("insert", "user", {"id": "bob", "email": "bob@example.test", **USER})
    file.put("insert", "organization", {"id": "o", "name": "Acme", "slug": "acme", "createdAt": DATE})
    assert file.told() == []
    file.put("insert", "member", member("m", "ada"))
    assert file.told() == ["u:ada"]
    return file


def member(id: str, user_id: str) -> dict[str, Any]:
    return {"id": id, "organizationId": "o", "userId": user_id, "role": "member", "createdAt": DATE}


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        pytest.param("update member set userId = 'bob'", ["u:ada", "u:bob"], id="handed-on"),
        pytest.param("update member set role = 'owner'", [], id="role"),
        pytest.param("delete from member", ["u:ada"], id="left"),
        pytest.param("update organization set slug = 'umbrella'", ["a"], id="slug"),
        pytest.param("update organization set name = 'Acme Ltd'", [], id="name"),
        pytest.param("delete from organization", ["a", "u:ada"], id="dissolved"),
    ],
)
def test_memberships(membership: File, statement: str, told: list[str]) -> None:
    membership.run(statement)
    assert sorted(membership.told()) == told


def test_memberships_that_are_replaced(membership: File) -> None:
    membership.put("replace", "member", member("m", "bob"))
    assert set(membership.told()) == {"u:ada", "u:bob"}
    membership.put("replace", "organization", {"id": "o2", "name": "B", "slug": "acme", "createdAt": DATE})
    assert "a" in membership.told()


MAPPED = Tables(
    session=Mapped('our "best" sessions', {"id": "key", "token": "secret token", "userId": "user_id"}),
    user=Mapped("main.Users", {"id": "key", "email": "mail"}),
)
MAPPED_DDL = """
create table "Users" ("key" integer primary key, "mail" text unique);
create table "our ""best"" sessions" ("key" integer primary key, "secret token" text unique, "user_id" integer);
insert into "Users" values (1, 'ada@example.test');
insert into "our ""best"" sessions" values (1, 'a', 1);
"""


def test_other_names(tmp_path: Path) -> None:
    path = tmp_path / "auth.db"
    execute_script(path, MAPPED_DDL)
    apply(path, statements(MAPPED, undo=False))
    file = File(path)
    with closing(file.connection):
        file.told()
        file.run('insert or replace into "our ""best"" sessions" values (2, \'a\', 1)')
        file.run('update "Users" set mail = null')
        file.run('delete from "our ""best"" sessions"')
        assert file.told() == ["s:a", "u:1", "s:a"]


def test_other_names_than_before(make: Any) -> None:
    file = make()
    file.connection.executescript(MAPPED_DDL)
    apply(file.path, statements(MAPPED, undo=False))
    file.told()
    file.run("delete from session")
    assert file.told() == []
    file.run('delete from "our ""best"" sessions"')
    assert file.told() == ["s:a"]


def test_organizations_that_no_rule_requires_any_more(membership: File) -> None:
    apply(membership.path, statements(BETTER_AUTH, undo=False))
    membership.told()
    membership.run("delete from member")
    assert membership.told() == []


@pytest.mark.parametrize("variant", sorted(set(DDL) - {"core+secondaryStorage"}))
def test_undo_leaves_no_trace(tmp_path: Path, variant: str) -> None:
    """Except for the table in which SQLite itself counts: nobody can remove that."""
    path = tmp_path / "auth.db"
    create_database(path, variant)
    tables = Tables(with_organizations="organization" in variant)
    file = File(path)
    with closing(file.connection):
        before = file.schema()
        for undo in (False, False, True, True):
            apply(path, statements(tables, undo=undo))
            if not undo:
                made = {sql for _, _, sql in file.schema() - before}
                assert made.issuperset(definitions(tables))
                assert file.run("select count(*) from gatekeeper_change") == [(1,)]
        assert {name for _, name, _ in file.schema() - before} == {"sqlite_sequence"}
        assert before <= file.schema()
        assert file.run("select count(*) from sqlite_sequence") == [(0,)]


def test_undo_where_the_change_table_is_gone(make: Any) -> None:
    file = make()
    file.run("drop table gatekeeper_change")
    with pytest.raises(sqlite3.OperationalError, match="gatekeeper_change"):
        file.run("delete from session")
    apply(file.path, statements(BETTER_AUTH, undo=True))
    file.run("select 1 from session")  # whereby this connection learns of it
    file.run("delete from session")


def test_who_has_it_open_writes_on_when_it_is_set_up_and_taken_away(make: Any) -> None:
    file = make()
    writes = "update session set ipAddress = ipAddress || ?"
    for undo in (True, False, False, True):
        file.run(writes, "x")
        apply(file.path, statements(BETTER_AUTH, undo=undo))
        file.run(writes, "y")
    assert file.run("select ipAddress from session") == [("xy" * 4,)]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        pytest.param(Tables(session=Mapped("sessions")), "no such table: sessions (settings store.tables", id="table"),
        pytest.param(
            Tables(user=Mapped("user", {"email": "mail"})), r"no such column: user.mail \(settings store", id="column"
        ),
        pytest.param(WITH_ORGANIZATIONS, r"no such table: member \(settings", id="organizations"),
    ],
)
def test_what_is_missing_is_named_and_nothing_changed(make: Any, tables: Tables, message: str) -> None:
    file = make()
    before = file.schema()
    with pytest.raises(GatekeeperError, match=message.replace("sessions (", r"sessions \(")) as raised:
        apply(file.path, statements(tables, undo=False))
    assert str(raised.value).endswith("; nothing was changed")
    assert file.schema() == before


def test_a_file_without_sessions(tmp_path: Path) -> None:
    path = tmp_path / "auth.db"
    create_database(path, "core+secondaryStorage")
    with pytest.raises(MissingTable, match="no table 'session'"):
        apply(path, statements(BETTER_AUTH, undo=False))


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    with pytest.raises(StoreUnavailable, match=r"none\.db: No such file"):
        apply(path, statements(BETTER_AUTH, undo=False))
    assert not path.exists()


def test_a_file_that_another_program_writes_to(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_setup, "PATIENCE_S", 0.0)
    file = make()
    file.run("begin immediate")
    with pytest.raises(GatekeeperError, match="database is locked: another program"):
        apply(file.path, statements(BETTER_AUTH, undo=False))
    file.run("rollback")


def test_a_file_that_may_not_be_written_to(tmp_path: Path) -> None:
    path = tmp_path / "auth.db"
    create_database(path)
    path.chmod(0o444)
    for folder in (one for one in (tmp_path, *tmp_path.parents) if not one.stat().st_mode & 0o001):  # pytest's own
        folder.chmod(folder.stat().st_mode | 0o111)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=_apply_as_anybody, args=(path, answers))
    process.start()
    process.join(30)
    assert "readonly database: run this as a user who may write" in answers.get()


def _apply_as_anybody(path: Path, answers: Any) -> None:
    if os.geteuid() == 0:  # who may write to everything
        os.setuid(65534)
    try:
        apply(path, statements(BETTER_AUTH, undo=False))
        answers.put("written")
    except GatekeeperError as error:
        answers.put(str(error))


def test_a_view_can_be_no_table_of_sessions(tmp_path: Path) -> None:
    path = tmp_path / "auth.db"
    create_database(path)
    execute(path, 'create view "sessions" as select * from "session"')
    with pytest.raises(GatekeeperError, match="cannot create BEFORE trigger on view"):
        apply(path, statements(Tables(session=Mapped("sessions")), undo=False))


def test_another_schema_than_the_files(tmp_path: Path) -> None:
    with pytest.raises(GatekeeperError, match=r"auth\.session: a SQLite file has no schemas"):
        statements(Tables(session=Mapped("auth.session")), undo=False)


def test_columns_may_be_added(make: Any) -> None:
    """As the app's own migrations do."""
    file = make()
    file.run('alter table "session" add column "activeOrganizationId" text')
    insert(file.path, "user", {"id": "bob", "email": "bob@example.test", **USER})
    file.run("update session set activeOrganizationId = 'o'")
    assert file.told() == ["s:a"]
