"""`stores.sql` and `stores.sqlite` on real files: the contract of every store, and what only files can do."""

import asyncio
import multiprocessing
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import SessionToken
from gatekeeper.stores.protocol import SessionStore
from gatekeeper.stores.sql import SqlStore
from gatekeeper.stores.sqlite import SqliteFile
from tests.better_auth_db import DDL, add_session, add_user, create_database, execute, execute_script, insert, iso
from tests.stores.contract import CREATED_MS, EXPIRES_MS, TOKEN, StoreContract, messages_of
from tests.stores.opening import open_on

DATES = ("expiresAt", "createdAt", "updatedAt")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "auth.db"


@pytest.fixture
async def opened(path: Path) -> AsyncIterator["Opener"]:
    opener = Opener(path)
    yield opener
    for store in opener.stores:
        await store.close()
    await threads_end()


async def threads_end() -> None:
    """Every connection has a thread: once the stores are closed, all of them end."""
    for thread in threading.enumerate():
        if thread.name.startswith("gatekeeper-store"):
            await asyncio.to_thread(thread.join, 30)
            assert not thread.is_alive(), "a connection was left open"


class Opener:
    """Opens stores on one file, and closes them after the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stores: list[SessionStore] = []

    def __call__(self, url: str | None = None, **settings: Any) -> SessionStore:
        return self.keep(open_on(url or f"sqlite:///{self.path}", **settings))

    def impatient(self, timeout_s: float, pool: int = 2) -> SessionStore:
        return self.keep(SqlStore(SqliteFile(self.path), pool=pool, timeout_s=timeout_s))

    def keep(self, store: SessionStore) -> SessionStore:
        self.stores.append(store)
        return store


def sign_in(path: Path, token: str = TOKEN, user_id: str = "user_1", variant: str | None = "core", **user: Any) -> None:
    """A file with one live session; of the tables too, unless `variant` is None."""
    if variant is not None:
        create_database(path, variant)
    add_user(path, id=user_id, created_at_ms=CREATED_MS, **user)
    add_session(path, user_id=user_id, token=token, created_at_ms=CREATED_MS, expires_at_ms=EXPIRES_MS)


class SqliteContract(StoreContract):
    variant = "core"

    @pytest.fixture
    async def store(self, path: Path) -> AsyncIterator[SessionStore]:
        self.path = path
        create_database(path, self.variant)
        store = open_on(f"sqlite:///{path}")
        yield store
        await store.close()
        await threads_end()

    async def insert_user(self, **fields: Any) -> None:
        date = iso(CREATED_MS)
        usual = {"name": "Ada Lovelace", "email": "ada@example.test", "emailVerified": True}
        insert(self.path, "user", _encoded({**usual, "createdAt": date, "updatedAt": date, **fields}))

    async def insert_session(self, **fields: Any) -> None:
        usual = {"createdAt": CREATED_MS, "updatedAt": CREATED_MS, "expiresAt": EXPIRES_MS}
        usual |= {"id": self.session_id(fields["token"]), "ipAddress": "", "userAgent": ""}
        insert(self.path, "session", _encoded({**usual, **fields}))

    def session_id(self, token: str) -> str | int:
        return f"id-of-{token}"

    async def delete_session(self, token: str) -> None:
        execute(self.path, 'delete from "session" where "token" = ?', (token,))

    async def break_store(self) -> None:
        self.path.rename(self.path.with_suffix(".away"))

    async def repair_store(self) -> None:
        self.path.with_suffix(".away").rename(self.path)


def _encoded(fields: dict[str, Any]) -> dict[str, Any]:
    """Values as Better Auth writes them into SQLite."""

    def encoded(name: str, value: Any) -> Any:
        if name in DATES and isinstance(value, int):
            return iso(value)
        return int(value) if isinstance(value, bool) else value

    return {name: encoded(name, value) for name, value in fields.items()}


class TestCore(SqliteContract):
    pass


class TestUuidIds(SqliteContract):
    variant = "core+generateId=uuid"
    user_id = "0b5d9f5e-55cf-4b7e-9f0e-1c3f5a9d7b21"
    other_user_id = "f3c1a7d2-6e3b-4e0b-8a42-9d1c5b7e0f64"


class TestSerialIds(SqliteContract):
    variant = "core+generateId=serial"
    user_id = 1
    other_user_id = 2

    def session_id(self, token: str) -> str | int:
        return 41 if token == TOKEN else 42


class TestPlugins(SqliteContract):
    variant = "admin+organization+twoFactor"

    async def test_columns_of_plugins_are_read(self, store: SessionStore) -> None:
        ban = {"banned": 1, "banExpires": iso(EXPIRES_MS)}
        await self.insert_user(id="user_1", role="admin,editor", twoFactorEnabled=1, **ban)
        await self.insert_session(token=TOKEN, userId="user_1", impersonatedBy="user_2", activeOrganizationId="org_1")
        record = await store.read_session(TOKEN)
        assert record is not None
        user, session = record.user, record.session
        assert (user.role, user.two_factor_enabled) == ("admin,editor", True)
        assert (user.banned, user.ban_expires_ms) == (True, EXPIRES_MS)
        assert (session.impersonated_by, session.active_organization_id) == ("user_2", "org_1")


# What cannot be read as a session


@pytest.mark.parametrize("field", DATES)
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(EXPIRES_MS, id="integer"),
        pytest.param(EXPIRES_MS / 1000, id="real"),
        pytest.param(str(EXPIRES_MS), id="digits-which-affinity-turns-into-an-integer"),
        pytest.param(-1, id="negative"),
        pytest.param("", id="empty"),
        pytest.param("garbage", id="garbage"),
        pytest.param("+275760-09-13T00:00:00.000Z", id="far-future"),
        pytest.param(b"2026-11-24T03:10:54.744Z", id="blob"),
    ],
)
async def test_odd_dates_are_no_session(path: Path, opened: Opener, field: str, value: object) -> None:
    sign_in(path)
    execute(path, f'update "session" set "{field}" = ?', (value,))  # noqa: S608
    assert await opened().read_session(TOKEN) is None


async def test_a_session_whose_user_is_gone_is_none(path: Path, opened: Opener) -> None:
    sign_in(path)
    execute(path, 'delete from "user"')
    assert await opened().read_session(TOKEN) is None


@pytest.mark.parametrize("column", ["session.id", "session.userAgent", "user.name", "user.email"])
async def test_text_that_is_not_utf8_is_no_session_and_no_outage(path: Path, opened: Opener, column: str) -> None:
    sign_in(path)
    add_session(path, user_id="user_1", token="other", created_at_ms=CREATED_MS, expires_at_ms=EXPIRES_MS)
    table, _, name = column.partition(".")
    where = f"where \"token\" = '{TOKEN}'" if table == "session" else ""
    execute(path, f'update "{table}" set "{name}" = cast(x\'c328\' as text) {where}')  # noqa: S608
    store = opened()
    assert await store.read_session(TOKEN) is None
    assert (await store.read_session(SessionToken("other")) is not None) is (table == "session")
    found = await store.read_sessions([TOKEN, SessionToken("other")])
    assert set(found) == ({"other"} if table == "session" else set())


async def test_a_collation_that_ignores_case_finds_the_exact_token_only(path: Path, opened: Opener) -> None:
    loose = DDL["core"].replace('"token" text not null unique', '"token" text not null collate nocase')
    execute_script(path, loose)
    sign_in(path, "abcdef", variant=None)
    add_session(path, user_id="user_1", token="ABCDEF", created_at_ms=CREATED_MS, expires_at_ms=EXPIRES_MS)
    store = opened()
    for token in ("abcdef", "ABCDEF"):
        record = await store.read_session(SessionToken(token))
        assert record is not None
        assert record.session.token == token
    assert await store.read_session(SessionToken("AbCdEf")) is None


# Names and fields

RENAMED = """
create table "group" (
  "select" text primary key, "expires_at" date, "the token" text, "created_at" date, "updated_at" date,
  "ip" text, "agent" text, "who's" text, "device" text
);
create table `Odd "Users"` (
  "uid" text primary key, "full_name" text, "mail" text, "ok" integer, "picture" text, "c" date, "u" date,
  "is_banned" integer, "plan code" text
);
"""
TABLES = {"session": "group", "user": 'Odd "Users"'}
COLUMNS = {
    "session": {
        "id": "select",
        "expiresAt": "expires_at",
        "token": "the token",
        "createdAt": "created_at",
        "updatedAt": "updated_at",
        "ipAddress": "ip",
        "userAgent": "agent",
        "userId": "who's",
    },
    "user": {
        "id": "uid",
        "name": "full_name",
        "email": "mail",
        "emailVerified": "ok",
        "image": "picture",
        "createdAt": "c",
        "updatedAt": "u",
        "banned": "is_banned",
        "plan": "plan code",
    },
}


def write_renamed(path: Path) -> None:
    execute_script(path, RENAMED)
    date = iso(CREATED_MS)
    session = ("session_1", iso(EXPIRES_MS), TOKEN, date, date, "", "", "user_1", "phone")
    marks = ", ".join("?" * 9)
    execute(path, f'insert into "group" values ({marks})', session)  # noqa: S608
    user = ("user_1", "Ada Lovelace", "ada@example.test", 1, None, date, date, 1, "pro")
    execute(path, f'insert into `Odd "Users"` values ({marks})', user)  # noqa: S608


async def test_every_name_may_be_another_one(path: Path, opened: Opener) -> None:
    write_renamed(path)
    fields = {"user": ("plan",), "session": ("device",)}
    record = await opened(tables=TABLES, columns=COLUMNS, fields=fields).read_session(TOKEN)
    assert record is not None
    assert (record.session.id, record.user.name, record.user.banned) == ("session_1", "Ada Lovelace", True)
    assert record.session.extra == {"device": "phone"}
    assert record.user.extra == {"plan": "pro"}


async def test_a_schema_goes_before_the_name(path: Path, opened: Opener) -> None:
    sign_in(path)
    store = opened(tables={"session": "main.session", "user": "main.user"})
    assert await store.read_session(TOKEN) is not None


async def test_views_are_as_good_as_tables(path: Path, opened: Opener) -> None:
    sign_in(path)
    execute(path, "create view sessions as select * from session where ipAddress = ''")
    assert await opened(tables={"session": "sessions"}).read_session(TOKEN) is not None


async def test_declared_fields_come_along(path: Path, opened: Opener) -> None:
    sign_in(path, variant="admin+organization+twoFactor", role="admin", banReason="none")
    fields = {"user": ("role", "banReason", "email"), "session": ("activeOrganizationId",)}
    record = await opened(fields=fields).read_session(TOKEN)
    assert record is not None
    assert record.user.extra == {"role": "admin", "banReason": "none", "email": "ada@example.test"}
    assert record.user.role == "admin"
    assert record.session.extra == {"activeOrganizationId": None}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param(
            {"tables": {"session": "sessions"}}, "no table 'sessions' (setting store.tables.session)", id="table"
        ),
        pytest.param(
            {"tables": {"user": "main.users"}}, "no table 'main.users' (setting store.tables.user)", id="schema-table"
        ),
        pytest.param({"tables": {"user": "auth.user"}}, "unknown database", id="schema"),
        pytest.param(
            {"columns": {"session": {"expiresAt": "expires_at"}}},
            "table 'session' has no column 'expires_at' (setting store.columns.session.expiresAt)",
            id="column",
        ),
        pytest.param(
            {"columns": {"user": {"banned": "is_banned"}}},
            "table 'user' has no column 'is_banned' (setting store.columns.user.banned)",
            id="optional-column-that-is-mapped",
        ),
        pytest.param(
            {"fields": {"user": ("plan",)}}, "table 'user' has no column 'plan' (setting store.fields.user)", id="field"
        ),
        pytest.param(
            {"fields": {"session": ("plan",)}, "columns": {"session": {"plan": "plan_code"}}},
            "table 'session' has no column 'plan_code' (setting store.fields.session)",
            id="mapped-field",
        ),
    ],
)
async def test_what_is_missing_is_named(path: Path, opened: Opener, settings: dict[str, Any], message: str) -> None:
    sign_in(path)
    store = opened(**settings)
    with pytest.raises(StoreUnavailable) as caught:
        await store.check()
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("field", ["session.expiresAt", "user.emailVerified", "session.ipAddress"])
async def test_a_required_column_that_is_missing_is_named(path: Path, opened: Opener, field: str) -> None:
    table, _, column = field.partition(".")
    sign_in(path)
    execute(path, f'alter table "{table}" rename column "{column}" to "away"')
    with pytest.raises(StoreUnavailable, match=rf"table '{table}' has no column '{column}' \(setting store.columns"):
        await opened().check()


async def test_a_dropped_optional_column_is_noticed(path: Path, opened: Opener) -> None:
    sign_in(path, variant="admin+organization+twoFactor", role="admin")
    store = opened()
    assert await store.read_session(TOKEN) is not None
    execute(path, 'alter table "user" drop column "role"')
    with pytest.raises(StoreUnavailable, match="no such column"):
        await store.read_session(TOKEN)
    record = await store.read_session(TOKEN)
    assert record is not None
    assert record.user.role is None


async def test_a_table_that_comes_later_is_found(path: Path, opened: Opener) -> None:
    execute_script(path, "create table other (id)")
    store = opened()
    with pytest.raises(StoreUnavailable, match=r"no table 'session' \(setting store.tables.session\)"):
        await store.read_session(TOKEN)
    sign_in(path)
    assert await store.read_session(TOKEN) is not None


# Files


async def test_opening_and_asking_make_no_file(path: Path, opened: Opener) -> None:
    store = opened()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="No such file") as caught:
            await store.read_session(TOKEN)
        assert str(path) in str(caught.value)
    assert list(path.parent.iterdir()) == []
    sign_in(path)
    assert await store.read_session(TOKEN) is not None


async def test_a_file_that_goes_just_before_it_is_opened_is_not_made(
    path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqliteFile, "state", lambda self: (1, 1))
    with pytest.raises(StoreUnavailable, match="unable to open database file"):
        await opened().check()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"this is no database, whatever its name may say\n" * 100, "not a database", id="garbage"),
        pytest.param(b"", "no table 'session'", id="empty"),
    ],
)
async def test_a_file_that_is_no_database_says_so_until_it_is(
    path: Path, opened: Opener, content: bytes, message: str
) -> None:
    path.write_bytes(content)
    store = opened()
    with pytest.raises(StoreUnavailable, match=message):
        await store.check()
    assert path.read_bytes() == content
    path.unlink()
    sign_in(path)
    assert await store.read_session(TOKEN) is not None


async def test_a_database_overwritten_with_garbage_is_an_outage(path: Path, opened: Opener) -> None:
    sign_in(path)
    whole = path.read_bytes()
    store = opened()
    assert await store.read_session(TOKEN) is not None
    path.write_bytes(b"\x00" * len(whole))
    with pytest.raises(StoreUnavailable):
        await store.read_session(TOKEN)
    path.write_bytes(whole)
    assert await store.read_session(TOKEN) is not None


async def test_what_is_no_file_is_not_opened(path: Path, opened: Opener) -> None:
    path.mkdir()
    with pytest.raises(StoreUnavailable, match="not a file"):
        await opened().check()
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(StoreUnavailable, match="not a file"):
        await opened().check()


async def test_a_replaced_file_is_read_at_once(path: Path, opened: Opener) -> None:
    sign_in(path)
    store = opened()
    assert await store.read_session(TOKEN) is not None
    fresh = path.with_suffix(".new")
    sign_in(fresh, token="later")
    fresh.replace(path)
    assert await store.read_session(TOKEN) is None
    assert await store.read_session(SessionToken("later")) is not None


async def test_a_deleted_file_answers_no_more(path: Path, opened: Opener) -> None:
    sign_in(path)
    store = opened()
    assert await store.read_session(TOKEN) is not None
    path.unlink()
    with pytest.raises(StoreUnavailable, match="No such file"):
        await store.read_session(TOKEN)
    sign_in(path, token="later")
    assert await store.read_session(TOKEN) is None
    assert await store.read_session(SessionToken("later")) is not None


async def test_a_file_whose_log_was_removed_is_opened_anew(path: Path, opened: Opener) -> None:
    """As by somebody who puts a backup in place and removes what lay beside the old file."""
    sign_in(path)
    fresh = path.with_suffix(".new")
    sign_in(fresh, token="later")
    with closing(sqlite3.connect(path)) as app:
        app.execute("pragma journal_mode = wal")
        app.execute("update session set ipAddress = 'x'")
        app.commit()
        store = opened()
        assert await store.read_session(TOKEN) is not None
        path.write_bytes(fresh.read_bytes())
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink()
        assert await store.read_session(TOKEN) is None
        assert await store.read_session(SessionToken("later")) is not None


async def test_readers_of_a_replaced_file_finish_in_peace(path: Path, opened: Opener) -> None:
    """None of them fails, whichever file answers it, and no connection is left behind (a warning is an error)."""
    sign_in(path)
    fresh = path.with_suffix(".new")
    sign_in(fresh)
    store = opened()
    assert await store.read_session(TOKEN) is not None
    reads = [asyncio.ensure_future(store.read_session(TOKEN)) for _ in range(20)]
    await asyncio.sleep(0)  # each has begun, and is at the file
    fresh.replace(path)
    reads += [asyncio.ensure_future(store.read_session(TOKEN)) for _ in range(20)]
    assert all(record is not None for record in await asyncio.gather(*reads))


@pytest.mark.parametrize("name", ["a b.db", "a?b#c.db", "100%.db", "%41.db", "ü🦉.db", "a'b\"c.db", "x?mode=rwc.db"])
async def test_odd_names_of_files(tmp_path: Path, opened: Opener, name: str) -> None:
    store = opened(f"sqlite:///{tmp_path / name}")
    with pytest.raises(StoreUnavailable, match="No such file"):
        await store.check()
    sign_in(tmp_path / name)
    assert await store.read_session(TOKEN) is not None
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


async def test_a_relative_name_is_relative_to_where_the_gate_runs(
    path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(path)
    monkeypatch.chdir(path.parent)
    assert await opened("sqlite:///auth.db").read_session(TOKEN) is not None


async def test_nothing_is_written(path: Path, opened: Opener) -> None:
    sign_in(path)
    before = path.read_bytes()
    store = opened()
    await store.read_session(TOKEN)
    await store.close()
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


# Writers


async def test_a_writer_in_another_process_is_read_at_once(path: Path, opened: Opener) -> None:
    """WAL, the connection of the app held open all the time, as a real app has it."""
    sign_in(path)
    execute(path, "pragma journal_mode = wal")
    store = opened()
    dates = f"'{iso(EXPIRES_MS)}', '{TOKEN}', '{iso(CREATED_MS)}', '{iso(CREATED_MS)}'"
    again = f"insert into session values ('again', {dates}, '', '', 'user_1')"  # noqa: S608
    here, there = multiprocessing.Pipe()
    app = multiprocessing.get_context("spawn").Process(target=write_when_told, args=(path, there), daemon=True)
    app.start()
    try:
        for statement, is_there in (
            ("update session set ipAddress = 'x'", True),
            ("delete from session", False),
            (again, True),
        ):
            here.send(statement)
            await asyncio.to_thread(here.recv)
            assert (await store.read_session(TOKEN) is not None) is is_there
        here.send("begin immediate")
        await asyncio.to_thread(here.recv)
        assert await store.read_session(TOKEN) is not None, "a writer does not block readers"
    finally:
        here.send(None)
        await asyncio.to_thread(app.join)
        here.close()
        there.close()
        app.close()


def write_when_told(path: Path, orders: Any) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        while (statement := orders.recv()) is not None:
            connection.execute(statement)
            orders.send("done")
    orders.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """The file as a writer holds it who lets nobody read."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("begin exclusive")
        yield
        connection.execute("rollback")


@pytest.mark.parametrize("is_open", [False, True], ids=["before-the-first-read", "after-it"])
async def test_a_locked_database_is_unavailable_until_it_is_free(path: Path, opened: Opener, is_open: bool) -> None:
    sign_in(path)
    store = opened.impatient(timeout_s=0.05)
    if is_open:
        await until_it_answers(store)
    with locked(path):
        with pytest.raises(StoreUnavailable) as caught:
            await store.read_session(TOKEN)
        assert str(path) in str(caught.value)
        assert TOKEN not in messages_of(caught.value)
    await until_it_answers(store)


async def test_many_readers_of_a_locked_database_are_all_told(path: Path, opened: Opener) -> None:
    """More than there are connections: those who wait for one are told as well."""
    sign_in(path)
    store = opened.impatient(timeout_s=0.05, pool=2)
    with locked(path):
        results = await asyncio.gather(*(store.read_session(TOKEN) for _ in range(12)), return_exceptions=True)
        assert [type(result) for result in results] == [StoreUnavailable] * 12
    await until_it_answers(store)


async def until_it_answers(store: SessionStore) -> None:
    """The time-out of this test's store is so short that a busy machine may miss it; the store must come back."""
    for _ in range(200):
        try:
            if await store.read_session(TOKEN) is not None:
                return
        except StoreUnavailable:
            continue
    pytest.fail("the store did not come back")


async def test_a_database_that_does_not_answer_is_given_up(
    path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread of the connection hangs until the read has been given up."""
    sign_in(path)
    given_up = threading.Event()
    connect = sqlite3.connect

    def hanging(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        given_up.wait(30)
        return connect(*args, **kwargs)

    store = opened.impatient(timeout_s=0.05)
    monkeypatch.setattr(sqlite3.dbapi2, "connect", hanging)
    with pytest.raises(StoreUnavailable, match=r"no answer within 0\.05 s"):
        await store.check()
    given_up.set()
    await until_it_answers(store)


# Callers


async def test_a_cancelled_reader_leaves_the_store_in_order(path: Path, opened: Opener) -> None:
    """Cancelled after each possible number of steps of the loop: cancellation passes, nothing leaks."""
    sign_in(path)
    store = opened()
    cancelled = 0
    for steps in range(40):
        if steps % 8 == 0:
            await store.close()
            store = opened()
        read = asyncio.ensure_future(store.read_session(TOKEN))
        for _ in range(steps):
            await asyncio.sleep(0)
        read.cancel()
        try:
            assert await read is not None
        except asyncio.CancelledError:
            cancelled += 1
        assert await store.read_session(TOKEN) is not None
    assert cancelled


async def test_first_readers_share_one_opening(path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(path)
    store = opened()
    assert isinstance(store, SqlStore)
    plans = 0
    make_plan = SqlStore._plan

    def counted(self: SqlStore, connection: Any) -> Any:
        nonlocal plans
        plans += 1
        return make_plan(self, connection)

    monkeypatch.setattr(SqlStore, "_plan", counted)
    records = await asyncio.gather(*(store.read_session(TOKEN) for _ in range(20)))
    assert all(records)
    assert plans == 1


async def test_closing_waits_for_the_reads_under_way(path: Path, opened: Opener) -> None:
    sign_in(path)
    store = opened()
    await store.check()
    reads = [asyncio.ensure_future(store.read_session(TOKEN)) for _ in range(5)]
    await asyncio.sleep(0)
    await store.close()
    assert all(await asyncio.gather(*reads))


async def test_closing_while_opening_leaves_nothing_open(path: Path, opened: Opener) -> None:
    sign_in(path)
    store = opened()
    read = asyncio.ensure_future(store.read_session(TOKEN))
    await asyncio.sleep(0)
    await store.close()
    outcome = (await asyncio.gather(read, return_exceptions=True))[0]
    assert outcome is not None
    assert "not open" in repr(store)
    with pytest.raises(StoreUnavailable, match="the store was closed"):
        await store.check()
