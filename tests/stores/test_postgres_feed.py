"""`stores.feeds.postgres` and its triggers on a real PostgreSQL."""

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from gatekeeper.config.server_url import parse_server_url
from gatekeeper.core.errors import GatekeeperError, MissingTable, StoreUnavailable
from gatekeeper.stores.feeds.feed import FeedNotSetUp
from gatekeeper.stores.feeds.postgres import CHECK_TURNS, PostgresChannel
from gatekeeper.stores.feeds.postgres_setup import apply, statements
from gatekeeper.stores.servers import asyncpg_arguments
from gatekeeper.stores.tables import BETTER_AUTH, Mapped, Tables
from tests.servers.labs import PostgresLab
from tests.servers.postgres import PostgresServer
from tests.stores.contract import CREATED_MS, EXPIRES_MS
from tests.stores.told import ALL, Told, session, user

WITH_ORGANIZATIONS = Tables(with_organizations=True)


class KeptLab(PostgresLab):
    """Over one connection: these tests say much."""

    _kept: asyncpg.Connection | None = None

    async def execute(self, sql: str, values: Sequence[object] = ()) -> None:
        if self._kept is None or self._kept.is_closed():
            self._kept = await asyncpg.connect(self.url, statement_cache_size=0)
        parts = sql.split("?") if values else [sql]
        numbered = parts[0] + "".join(f"${number}{part}" for number, part in enumerate(parts[1:], 1))
        await self._kept.execute(numbered, *values)

    async def close(self) -> None:
        if self._kept is not None:
            await self._kept.close()


@pytest.fixture
async def lab(postgres_server: PostgresServer) -> AsyncIterator[PostgresLab]:
    lab = KeptLab(postgres_server)
    await lab.create()
    yield lab
    await lab.close()
    if not postgres_server.is_running:
        postgres_server.start()


@pytest.fixture
async def channel(lab: PostgresLab) -> AsyncIterator[PostgresChannel]:
    channel = channel_to(lab)
    yield channel
    await channel.close()


def channel_to(lab: PostgresLab, tables: Tables = BETTER_AUTH) -> PostgresChannel:
    return PostgresChannel(parse_server_url(lab.url), tables, timeout_s=30.0)


async def set_up(lab: PostgresLab, tables: Tables = BETTER_AUTH, *, undo: bool = False) -> None:
    await apply(parse_server_url(lab.url), statements(tables, undo=undo))


async def add_user(lab: PostgresLab, user_id: str | int = "user_1") -> None:
    fields = {"name": "Ada Lovelace", "email": f"{user_id}@example.test", "emailVerified": True}
    await lab.insert("user", id=user_id, createdAt=CREATED_MS, updatedAt=CREATED_MS, **fields)


async def add_session(lab: PostgresLab, token: str, user_id: str | int = "user_1", **more: object) -> None:
    fields = {"createdAt": CREATED_MS, "updatedAt": CREATED_MS, "expiresAt": EXPIRES_MS, **more}
    await lab.insert("session", **{"id": f"id-of-{token}", "token": token, "userId": user_id, **fields})


async def value_of(lab: PostgresLab, sql: str) -> object:
    connection = await asyncpg.connect(lab.url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def open_with_rows(lab: PostgresLab, channel: PostgresChannel) -> Told:
    """The feed set up and open, two users and three sessions."""
    await set_up(lab)
    await add_user(lab, "user_1")
    await add_user(lab, "user_2")
    for token, user_id in (("one", "user_1"), ("two", "user_1"), ("three", "user_2")):
        await add_session(lab, token, user_id)
    told = Told()
    await channel.open(told)
    return told


# What is told


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("delete from session where token = 'one'", [session("one")]),
        ("update session set \"expiresAt\" = now() where token = 'two'", [session("two")]),
        ("update session set token = 'new' where token = 'one'", [session("one"), session("new")]),
        ("delete from session", [session("one"), session("two"), session("three")]),
        ("truncate session", [ALL]),
        ("update \"user\" set name = 'Grace' where id = 'user_2'", [user("user_2")]),
        ("delete from \"user\" where id = 'user_1'", [session("one"), session("two"), user("user_1")]),
        ('truncate "user" cascade', [ALL]),
        ('update session set "userAgent" = "userAgent"', []),
        ('update "user" set name = name', []),
        ("delete from session where token = 'none'", []),
        ("begin; delete from session; rollback", []),
        ("begin; savepoint a; delete from session; rollback to a; delete from \"user\" where id = 'user_2'; commit",
         [session("three"), user("user_2")]),
        ("set session_replication_role = replica; delete from session where token = 'one'", [session("one")]),
    ],
    ids=["sign-out", "extended", "token", "every-session", "truncate", "user", "cascade", "truncate-users", "same",
         "same-user", "nothing", "rolled-back", "half-rolled-back", "where-ordinary-triggers-are-off"],
)  # fmt: skip
async def test_changes_are_told(
    lab: PostgresLab, channel: PostgresChannel, sql: str, expected: list[tuple[str, bytes]]
) -> None:
    told = await open_with_rows(lab, channel)
    await (connection := await asyncpg.connect(lab.url)).execute(sql)
    await channel.turn()
    assert sorted(told.take()) == sorted(expected)
    await connection.close()


async def test_what_is_new_is_not_told(lab: PostgresLab, channel: PostgresChannel) -> None:
    told = await open_with_rows(lab, channel)
    await add_user(lab, "user_3")
    await add_session(lab, "four", "user_3")
    await channel.turn()
    assert told.take() == []


async def test_a_turn_comes_after_every_commit_before_it(lab: PostgresLab, channel: PostgresChannel) -> None:
    told = await open_with_rows(lab, channel)
    connection = await asyncpg.connect(lab.url)
    for number in range(200):
        await connection.execute("update session set \"userAgent\" = $1 where token = 'one'", str(number))
        await channel.turn()
        assert told.take() == [session("one")], number
    await connection.close()


async def test_a_turn_comes_after_commits_by_a_marker_too(
    lab: PostgresLab, channel: PostgresChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with servers that signal after they have answered; this one does not, but does the rest as they do."""
    monkeypatch.setattr("gatekeeper.stores.feeds.postgres.SIGNALS_AT_COMMIT", 1000)
    told = await open_with_rows(lab, channel)
    other = channel_to(lab)
    told_too = Told()
    await other.open(told_too)
    connection = await asyncpg.connect(lab.url)
    for number in range(50):
        await connection.execute("update session set \"userAgent\" = $1 where token = 'one'", str(number))
        await asyncio.gather(channel.turn(), other.turn())
        assert told.take() == told_too.take() == [session("one")], number
    await connection.close()
    await other.close()


async def test_changes_are_told_between_turns(lab: PostgresLab, channel: PostgresChannel) -> None:
    told = await open_with_rows(lab, channel)
    await lab.execute("delete from session where token = 'one'")
    async with asyncio.timeout(30):
        await told.something.wait()
    assert told.take() == [session("one")]


async def test_who_is_told_reads_what_was_committed(lab: PostgresLab, channel: PostgresChannel) -> None:
    """A row is gone for each read that begins when its deletion was told, although its commit is not answered yet."""
    told = await open_with_rows(lab, channel)
    reader = await asyncpg.connect(lab.url)
    writer = await asyncpg.connect(lab.url)
    for number in range(100):
        await add_session(lab, f"short-{number}")
        deleting = asyncio.ensure_future(writer.execute("delete from session where token = $1", f"short-{number}"))
        async with asyncio.timeout(30):
            await told.something.wait()
        told.take()
        assert await reader.fetchval("select count(*) from session where token like 'short-%'") == 0
        await deleting
    await writer.close()
    await reader.close()


@pytest.mark.parametrize(
    "payload", ["", "x", "s", "s00", "s" + " " * 64, "u" + "0" * 62 + "  ", "t" + "0" * 64, "ä" * 65]
)
async def test_a_message_that_is_not_understood_means_anything(
    lab: PostgresLab, channel: PostgresChannel, payload: str
) -> None:
    told = await open_with_rows(lab, channel)
    await lab.execute("select pg_notify('gatekeeper', ?)", [payload])
    await channel.turn()
    assert told.take() == [ALL]


# Ids and names


@pytest.mark.parametrize(
    ("variant", "user_id", "as_text"),
    [
        ("core+generateId=uuid", "0b5d9f5e-55cf-4b7e-9f0e-1c3f5a9d7b21", "0b5d9f5e-55cf-4b7e-9f0e-1c3f5a9d7b21"),
        ("core+generateId=serial", 41, "41"),
    ],
)
async def test_ids_of_every_kind(
    lab: PostgresLab, channel: PostgresChannel, variant: str, user_id: str | int, as_text: str
) -> None:
    await lab.create(variant)
    await set_up(lab)
    await add_user(lab, user_id)
    own_id = 7 if isinstance(user_id, int) else "5f0c2a9b-0d1e-4f3a-8b7c-6d5e4f3a2b1c"
    await add_session(lab, "one", user_id, id=own_id)
    told = Told()
    await channel.open(told)
    await lab.execute('delete from "user"')
    await channel.turn()
    assert sorted(told.take()) == sorted([session("one"), user(as_text)])


STRANGE = Tables(
    session=Mapped('Auth.Se"ss ions', {"token": "To'k\\en", "userId": "user_id"}),
    user=Mapped("Auth.Üsers", {"id": "User Id"}),
)


async def create_strange(lab: PostgresLab) -> None:
    await lab.execute('drop schema if exists "Auth" cascade')
    await lab.execute('create schema "Auth"')
    await lab.execute('create table "Auth"."Üsers" ("User Id" varchar(40) primary key, name text)')
    await lab.execute('create table "Auth"."Se""ss ions" (id int, "To\'k\\en" varchar(80), user_id text)')


async def test_tables_and_columns_of_other_names(lab: PostgresLab) -> None:
    await create_strange(lab)
    await set_up(lab, STRANGE)
    channel, told = channel_to(lab, STRANGE), Told()
    await channel.open(told)
    await lab.execute("""insert into "Auth"."Üsers" values ('ä', 'Ada')""")
    await lab.execute("""insert into "Auth"."Se""ss ions" values (1, 'tökén', 'ä')""")
    await lab.execute('delete from "Auth"."Se""ss ions"')
    await lab.execute('delete from "Auth"."Üsers"')
    await channel.turn()
    assert told.take() == [session("tökén"), user("ä")]
    await channel.close()
    functions = (
        "select nspname from pg_proc p join pg_namespace n on n.oid = pronamespace where proname ~ '^gatekeeper'"
    )
    assert await value_of(lab, functions) == "Auth"
    await set_up(lab, STRANGE, undo=True)
    assert await value_of(lab, functions) is None
    await lab.execute('drop schema "Auth" cascade')


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("insert into member values ('m2', 'org_1', 'user_2', 'member', now())", [user("user_2")]),
        ("update member set role = 'owner'", [user("user_1")]),
        ("update member set \"userId\" = 'user_2'", [user("user_1"), user("user_2")]),
        ("delete from member", [user("user_1")]),
        ("truncate member", [ALL]),
        ("update organization set slug = 'other'", [ALL]),
        ("update organization set slug = slug", []),
        ("delete from organization", [ALL, user("user_1")]),
        ("truncate organization cascade", [ALL]),
    ],
)
async def test_memberships_are_told_where_rules_ask_for_them(
    lab: PostgresLab, sql: str, expected: Sequence[tuple[str, bytes]]
) -> None:
    await lab.create("admin+organization+twoFactor")
    await set_up(lab, WITH_ORGANIZATIONS)
    await add_user(lab, "user_1")
    await add_user(lab, "user_2")
    await lab.insert("organization", id="org_1", name="Acme", slug="acme", createdAt=CREATED_MS)
    fields = {"organizationId": "org_1", "userId": "user_1", "role": "member"}
    await lab.insert("member", id="m1", createdAt=CREATED_MS, **fields)
    channel, told = channel_to(lab, WITH_ORGANIZATIONS), Told()
    await channel.open(told)
    await lab.execute(sql)
    await channel.turn()
    assert sorted(told.take()) == sorted(expected)
    await channel.close()


# The app goes on


@pytest.mark.parametrize(
    "migration",
    [
        "alter table session add column data json; update session set data = '{\"a\": 1}'",
        'alter table session alter column "userAgent" type varchar(500)',
        'alter table session drop column "userAgent"',
        "alter table session rename column token to secret",
        "alter table session rename to sessions",
    ],
    ids=["json", "type", "dropped", "renamed", "table-renamed"],
)
async def test_the_app_may_migrate_its_tables(lab: PostgresLab, channel: PostgresChannel, migration: str) -> None:
    """Each change goes on to be told, a column that is not there any more as anything."""
    told = await open_with_rows(lab, channel)
    await lab.script(migration)
    await channel.turn()
    told.take()
    name = "sessions" if "sessions" in migration else "session"
    await lab.execute(f"update {name} set \"ipAddress\" = '::1' where \"userId\" = 'user_2'")  # noqa: S608
    await channel.turn()
    assert told.take() == [ALL if "secret" in migration else session("three")]


async def test_the_apps_role_needs_no_privileges(lab: PostgresLab, channel: PostgresChannel) -> None:
    await set_up(lab, undo=True)
    await lab.execute('create schema "auth"')
    moved = Tables(session=Mapped("auth.session"))
    await lab.execute('alter table session set schema "auth"')
    await set_up(lab, moved)
    await add_user(lab)
    await lab.execute(
        """insert into "auth".session (id, "expiresAt", token, "updatedAt", "userId")
        values ('1', now(), 'one', now(), 'user_1')"""
    )
    channel, told = channel_to(lab, moved), Told()
    await channel.open(told)
    await lab.script(
        'drop role if exists app; create role app; grant usage on schema "auth" to app; '
        'grant select, delete on "auth".session to app; revoke all on function "auth".gatekeeper_tell() from public'
    )
    connection = await asyncpg.connect(lab.url)
    await connection.execute('set role app; delete from "auth".session')
    await connection.close()
    await channel.turn()
    assert told.take() == [session("one")]
    await channel.close()
    await lab.script("drop owned by app; drop role app")


async def test_a_value_that_is_no_text_is_anything(lab: PostgresLab, channel: PostgresChannel) -> None:
    told = await open_with_rows(lab, channel)
    await lab.script("alter table session alter column token drop not null; update session set token = null")
    await channel.turn()
    assert sorted(told.take()) == sorted([ALL, session("one"), session("two"), session("three")])


async def test_what_cannot_be_named_does_not_fail_the_app(lab: PostgresLab) -> None:
    """A token that is no UTF-8, in a database that does not mind: what it was before is lost with it in `ALL`."""
    await lab.execute("drop database if exists ascii")
    await lab.execute("create database ascii encoding 'SQL_ASCII' template template0")
    other = KeptLab(lab.server)
    other.url = lab.url.removesuffix("auth") + "ascii"
    await other.script(PostgresLab.ddl["core"])
    await set_up(other)
    await add_user(other)
    await add_session(other, "one")
    channel, told = channel_to(other), Told()
    await channel.open(told)
    await other.execute(r"update session set token = convert_from('\xff', 'SQL_ASCII')")
    await other.execute("delete from session")
    await channel.turn()
    assert told.take() == [ALL, ALL]
    await channel.close()
    await other.close()
    await lab.execute("drop database ascii")


# Partitions


PARTED = Tables(session=Mapped("parted"))


@pytest.fixture
async def parted(lab: PostgresLab) -> AsyncIterator[tuple[PostgresLab, PostgresChannel, Told]]:
    """Sessions in two partitions, one of them in two of its own; the feed is open."""
    await lab.script(
        "create table parted (token text, region text, seen int) partition by list (region); "
        "create table west partition of parted for values in ('w') partition by hash (token); "
        "create table west_0 partition of west for values with (modulus 2, remainder 0); "
        "create table west_1 partition of west for values with (modulus 2, remainder 1); "
        "create table east partition of parted for values in ('e')"
    )
    await set_up(lab, PARTED)
    await lab.execute("insert into parted values ('one', 'w', 0), ('two', 'w', 0), ('three', 'e', 0)")
    channel, told = channel_to(lab, PARTED), Told()
    await channel.open(told)
    yield lab, channel, told
    await channel.close()


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("delete from parted", [session("one"), session("two"), session("three")]),
        ("delete from east", [session("three")]),
        ("update parted set seen = 1 where token = 'one'", [session("one")]),
        ("update parted set seen = seen", []),
        ("update parted set region = 'e' where token = 'one'", [session("one")]),
        ("truncate parted", [ALL]),
    ],
)
async def test_partitions_tell(
    parted: tuple[PostgresLab, PostgresChannel, Told], sql: str, expected: Sequence[tuple[str, bytes]]
) -> None:
    lab, channel, told = parted
    await lab.execute(sql)
    await channel.turn()
    assert sorted(told.take()) == sorted(expected)


@pytest.mark.parametrize(
    "sql",
    [
        "truncate west_1",
        "alter table parted detach partition east",
        "drop table west_0",
        "create table south partition of parted for values in ('s')",
    ],
)
async def test_what_partitions_cannot_tell_is_noticed(
    parted: tuple[PostgresLab, PostgresChannel, Told], sql: str
) -> None:
    lab, channel, told = parted
    await lab.execute(sql)
    with pytest.raises(StoreUnavailable, match="changed"):
        await turn_until_it_is_checked(channel)
    await channel.open(told)
    await lab.execute("insert into parted values ('new', 'w', 0), ('south', 's', 0)" if "south" in sql else "select 1")
    await lab.execute("delete from parted where region = 's'")
    await turn_until_it_is_checked(channel)
    assert told.take() == ([session("south")] if "south" in sql else [])


async def test_a_trigger_of_one_partition_that_goes_is_noticed(
    parted: tuple[PostgresLab, PostgresChannel, Told],
) -> None:
    lab, channel, _ = parted
    await lab.execute("alter table west_1 disable trigger gatekeeper_session_delete")
    with pytest.raises(FeedNotSetUp, match="gatekeeper_session_delete"):
        await turn_until_it_is_checked(channel)


async def test_partitions_are_left_alone_when_it_is_undone(parted: tuple[PostgresLab, PostgresChannel, Told]) -> None:
    lab, _, _ = parted
    await set_up(lab, PARTED)
    await set_up(lab, PARTED, undo=True)
    assert await value_of(lab, "select count(*) from pg_trigger where tgname ~ '^gatekeeper'") == 0


# Set up or not


def test_what_is_done_can_be_shown_beforehand() -> None:
    shown = "\n".join(statements(BETTER_AUTH, undo=False))
    assert 'ON "session"' in shown
    assert '"member"' not in shown
    assert statements(BETTER_AUTH, undo=True)[0] == "DROP FUNCTION IF EXISTS gatekeeper_tell() CASCADE"


async def test_a_database_that_is_not_set_up(lab: PostgresLab, channel: PostgresChannel) -> None:
    with pytest.raises(FeedNotSetUp, match=r"/auth: triggers are missing .*gatekeeper_session_delete.*migrate --feed"):
        await channel.open(Told())
    await set_up(lab)
    await channel.open(Told())
    await channel.turn()


async def test_a_database_without_the_tables_is_not_set_up(lab: PostgresLab, channel: PostgresChannel) -> None:
    await lab.empty()
    named = channel_to(lab, Tables(session=Mapped("sessions")))
    with pytest.raises(FeedNotSetUp):
        await named.open(Told())


async def test_sessions_may_have_no_table(lab: PostgresLab, channel: PostgresChannel) -> None:
    """Better Auth makes none where it keeps them in its secondary storage alone."""
    await lab.create("core+secondaryStorage")
    with pytest.raises(MissingTable, match=r"/auth: no table 'session' \(setting store\.tables\.session\)"):
        await channel.open(Told())
    with pytest.raises(MissingTable, match=r"/auth: no table 'session' \(setting store\.tables\.session\)"):
        await set_up(lab)
    await set_up(lab, undo=True)


@pytest.mark.parametrize(
    ("tables", "cause"),
    [
        (Tables(session=Mapped("sessions")), 'relation "sessions" does not exist'),
        (Tables(user=Mapped("users")), 'relation "users" does not exist'),
        (Tables(session=Mapped("session", {"token": "tokn"})), "column t.tokn does not exist"),
        (Tables(user=Mapped("user", {"id": "name; drop table session"})), "column t.name; drop table session does not"),
    ],
    ids=["session-table", "user-table", "column", "injection"],
)
async def test_names_that_are_not_there_are_told(lab: PostgresLab, tables: Tables, cause: str) -> None:
    with pytest.raises(
        GatekeeperError, match=f"(?s)/auth: {cause}.* \\(settings store.tables and store.columns\\)"
    ) as told:
        await set_up(lab, tables)
    assert not isinstance(told.value, MissingTable)
    assert await value_of(lab, "select count(*) from pg_proc where proname ~ '^gatekeeper'") == 0


async def test_other_columns_are_not_set_up(lab: PostgresLab) -> None:
    """Triggers that name what is in another column tell nothing of use."""
    await set_up(lab)
    channel = channel_to(lab, Tables(session=Mapped("session", {"token": "id"})))
    with pytest.raises(FeedNotSetUp, match="gatekeeper_session_delete, gatekeeper_session_update"):
        await channel.open(Told())


async def test_setting_up_again_changes_nothing(lab: PostgresLab, channel: PostgresChannel) -> None:
    count = "select count(*) from pg_trigger where tgname ~ '^gatekeeper' and tgenabled = 'A'"
    await set_up(lab)
    assert await value_of(lab, count) == 6
    await asyncio.gather(set_up(lab), set_up(lab))
    assert await value_of(lab, count) == 6
    await set_up(lab, undo=True)
    await set_up(lab, undo=True)
    assert await value_of(lab, "select count(*) from pg_trigger where tgname ~ '^gatekeeper'") == 0
    assert await value_of(lab, "select count(*) from pg_proc where proname ~ '^gatekeeper'") == 0


async def test_tables_that_were_mapped_before_are_rid_of_it(lab: PostgresLab) -> None:
    await set_up(lab)
    await lab.execute("create table new_session (like session)")
    await set_up(lab, Tables(session=Mapped("new_session")))
    left = "select string_agg(distinct tgrelid::regclass::text, ' ') from pg_trigger where tgname ~ '^gatekeeper'"
    assert sorted(str(await value_of(lab, left)).split()) == ['"user"', "new_session"]


async def test_others_keep_their_memberships(lab: PostgresLab) -> None:
    """Two gates before one app: what one of them does not need is not taken from the other."""
    await lab.create("admin+organization+twoFactor")
    await set_up(lab, WITH_ORGANIZATIONS)
    await set_up(lab)
    channel = channel_to(lab, WITH_ORGANIZATIONS)
    await channel.open(Told())
    await channel.close()


async def test_who_does_not_own_the_tables_is_told_so(lab: PostgresLab) -> None:
    await lab.script(
        "drop role if exists reader; create role reader login password 'x'; "
        "grant all on schema public to reader; grant all on all tables in schema public to reader"
    )
    url = lab.url.partition("@127")
    reader = parse_server_url(f"postgresql://reader:x@127{url[2]}")
    with pytest.raises(GatekeeperError, match=r"must be owner of (relation|table) session: it takes a role that owns"):
        await apply(reader, statements(BETTER_AUTH, undo=False))
    assert await value_of(lab, "select count(*) from pg_proc where proname ~ '^gatekeeper'") == 0
    await lab.script("drop owned by reader; drop role reader")


async def test_a_view_cannot_be_listened_to(lab: PostgresLab) -> None:
    await lab.execute("create view seen as select * from session")
    with pytest.raises(GatekeeperError, match="the feed needs the tables themselves"):
        await set_up(lab, Tables(session=Mapped("seen")))


async def test_setting_up_where_nobody_answers(lab: PostgresLab) -> None:
    lab.server.stop()
    with pytest.raises(GatekeeperError, match="127"):
        await set_up(lab)


async def test_setting_up_where_somebody_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekeeper.stores.feeds.postgres_setup.CONNECT_S", 0.05)

    ended = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    url = parse_server_url(f"postgresql://gate:x@127.0.0.1:{server.sockets[0].getsockname()[1]}/auth?sslmode=disable")
    with pytest.raises(GatekeeperError, match=r"/auth: no answer within 0\.05 s"):
        await apply(url, statements(BETTER_AUTH, undo=False))
    async with asyncio.timeout(30):
        await ended.wait()
    server.close()
    await server.wait_closed()


# What happens to it meanwhile


@pytest.mark.parametrize(
    "sql",
    [
        "alter table session disable trigger all",
        "alter table session enable trigger gatekeeper_session_delete",
        "alter table session enable replica trigger gatekeeper_session_delete",
        'drop trigger gatekeeper_user_delete on "user"',
        "drop function gatekeeper_tell() cascade",
        "alter table session rename to old; create table session (like old)",
        "create schema gate; create table gate.session (like public.session)",
    ],
)
async def test_triggers_that_go_are_noticed(lab: PostgresLab, channel: PostgresChannel, sql: str) -> None:
    await open_with_rows(lab, channel)
    await lab.script(sql)
    with pytest.raises(FeedNotSetUp, match="missing or not enabled"):
        await turn_until_it_is_checked(channel)
    with pytest.raises(StoreUnavailable, match="closed"):
        await channel.turn()
    await lab.execute("drop schema if exists gate cascade")


@pytest.mark.parametrize(
    "sql",
    ["alter table session disable trigger all; alter table session enable always trigger gatekeeper_session_delete; "
     "alter table session enable always trigger gatekeeper_session_update; "
     "alter table session enable always trigger gatekeeper_session_truncate",
     "alter table session disable trigger all; truncate session; drop function gatekeeper_tell() cascade"],
)  # fmt: skip
async def test_triggers_that_were_gone_are_noticed(lab: PostgresLab, channel: PostgresChannel, sql: str) -> None:
    """Nobody knows what happened in between."""
    await open_with_rows(lab, channel)
    await lab.script(sql)
    await set_up(lab) if "drop" in sql else None
    with pytest.raises(StoreUnavailable, match="changed"):
        await turn_until_it_is_checked(channel)


async def test_a_table_that_goes_is_noticed(lab: PostgresLab, channel: PostgresChannel) -> None:
    await open_with_rows(lab, channel)
    await lab.script("drop table session")
    with pytest.raises(MissingTable):
        await turn_until_it_is_checked(channel)


async def turn_until_it_is_checked(channel: PostgresChannel) -> None:
    for _ in range(CHECK_TURNS):
        await channel.turn()


async def test_turns_go_on_and_on(lab: PostgresLab, channel: PostgresChannel) -> None:
    """Also after what looks at tables and rewrites none."""
    await open_with_rows(lab, channel)
    await lab.script('vacuum freeze; analyze; create index on session ("ipAddress")')
    for _ in range(3):
        await turn_until_it_is_checked(channel)


async def test_a_connection_that_the_server_ends(lab: PostgresLab, channel: PostgresChannel) -> None:
    await open_with_rows(lab, channel)
    ended = await value_of(
        lab, "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_listening_channels%' "
        "and application_name = 'gatekeeper'"
    )  # fmt: skip
    assert ended is True
    with pytest.raises(StoreUnavailable, match=r"/auth: "):
        await channel.turn()
    await channel.close()
    told = Told()
    await channel.open(told)
    await lab.execute("delete from session where token = 'one'")
    await channel.turn()
    assert told.take() == [session("one")]


async def test_a_server_that_stops(lab: PostgresLab, channel: PostgresChannel) -> None:
    await open_with_rows(lab, channel)
    lab.server.stop()
    with pytest.raises(StoreUnavailable):
        await channel.turn()
    with pytest.raises(StoreUnavailable):
        await channel.open(Told())
    lab.server.start()
    await channel.open(Told())
    await channel.turn()


async def test_a_replica_has_no_feed(lab: PostgresLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even for who would read from one."""
    await set_up(lab)
    server = lab.server
    assert isinstance(server, PostgresServer)
    server.stop()
    standby = server._data / "standby.signal"
    standby.touch()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(server, "ready_text", "ready to accept read-only connections")
            server.start()
        for query, cause in (("", "target attribute"), ("?target_session_attrs=any", "LISTEN during recovery")):
            channel = PostgresChannel(parse_server_url(lab.url + query), BETTER_AUTH)
            with pytest.raises(StoreUnavailable, match=cause):
                await channel.open(Told())
    finally:
        server.stop()
        standby.unlink()
        server.start()


async def test_another_connection_that_listens_is_noticed(lab: PostgresLab, channel: PostgresChannel) -> None:
    """As behind a pooler whose mode was changed meanwhile."""
    await open_with_rows(lab, channel)
    assert channel._connection is not None
    await channel._connection.execute("unlisten *")
    with pytest.raises(StoreUnavailable, match="a pooler must be in session mode"):
        await turn_until_it_is_checked(channel)


def test_it_connects_as_the_pool_does() -> None:
    query = "sslmode=require&prepared_statement_cache_size=0&target_session_attrs=any&krbsrvname=pg"
    arguments = asyncpg_arguments(parse_server_url(f"postgresql://gate:p%40ss@db.internal:6432/app?{query}"), 1.5)
    assert arguments.pop("ssl").check_hostname is False
    assert arguments == {
        **{"user": "gate", "password": "p@ss", "host": "db.internal", "port": 6432, "database": "app"},
        **{"target_session_attrs": "any", "krbsrvname": "pg", "timeout": 1.5},
        "server_settings": {"application_name": "gatekeeper"},
    }
    socket = asyncpg_arguments(parse_server_url("postgresql://gate@/app?host=/run/postgresql"), 1.5)
    assert (socket["host"], socket["target_session_attrs"]) == ("/run/postgresql", "primary")


async def test_one_connection_is_kept(lab: PostgresLab, channel: PostgresChannel) -> None:
    await open_with_rows(lab, channel)
    await channel.turn()
    ours = "select count(*) from pg_stat_activity where application_name = 'gatekeeper'"
    assert await value_of(lab, ours) == 1
    await channel.close()
    await channel.close()
    async with asyncio.timeout(30):
        while await value_of(lab, ours) != 0:
            pass


# What stands between


class Between:
    """What stands between a gate and the server, message by message.

    It is `silent` when nothing of the server's passes any more, and `deaf` when no notification does.  It `forgets`
    what no question has asked for: so does a pooler that gives the server's connection away after each transaction.
    """

    def __init__(self, port: int, *, forgets: bool = False) -> None:
        self._port = port
        self._forgets = forgets
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self.silent = self.deaf = False
        self.forgotten = 0

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, to_there]
        state = {"rests": False}
        for passing in (self._ask(reader, to_there, state), self._answer(there, writer, state)):
            self._tasks.append(asyncio.ensure_future(passing))

    async def _ask(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, state: dict[str, bool]) -> None:
        try:
            while data := await reader.read(65536):
                state["rests"] = False
                to.write(data)
        finally:
            to.close()

    async def _answer(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, state: dict[str, bool]) -> None:
        try:
            while True:
                head = await reader.readexactly(5)
                body = await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
                if head[:1] == b"A" and self._forgets and state["rests"]:
                    self.forgotten += 1
                elif not self.silent and not (self.deaf and head[:1] == b"A"):
                    to.write(head + body)
                state["rests"] = state["rests"] or head[:1] == b"Z"
        except asyncio.IncompleteReadError:
            while self.silent:
                await asyncio.Event().wait()
        finally:
            to.close()


def past(lab: PostgresLab, port: int, *, timeout_s: float) -> PostgresChannel:
    url = f"{lab.url.replace(f':{lab.server.port}/', f':{port}/')}?sslmode=disable"
    return PostgresChannel(parse_server_url(url), BETTER_AUTH, timeout_s=timeout_s)


async def test_a_pooler_in_transaction_mode_is_found_out(lab: PostgresLab) -> None:
    """It would answer every question, and tell of nothing."""
    await set_up(lab)
    between = Between(lab.server.port, forgets=True)
    async with between as port:
        channel = past(lab, port, timeout_s=4.0)
        with pytest.raises(
            StoreUnavailable, match="no notification arrives within 2 s: a pooler must be in session mode"
        ):
            await channel.open(Told())
    assert between.forgotten == 1


async def test_a_pooler_in_session_mode_is_well(lab: PostgresLab) -> None:
    await set_up(lab)
    async with Between(lab.server.port) as port:
        channel = past(lab, port, timeout_s=30.0)
        await channel.open(Told())
        await channel.turn()
        await channel.close()


async def test_a_server_that_went_without_a_word(lab: PostgresLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekeeper.stores.feeds.postgres_connection.CLOSE_S", 0.05)
    await set_up(lab)
    between = Between(lab.server.port)
    async with between as port:
        first, second = past(lab, port, timeout_s=30.0), past(lab, port, timeout_s=30.0)
        await first.open(Told())
        await second.open(Told())
        between.silent = True
        first._timeout_s = 0.05
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.05 s"):
            await first.turn()
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.05 s"):
            await first.open(Told())
        async with asyncio.timeout(30):
            await second.close()


async def test_a_marker_that_never_comes(lab: PostgresLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection ends while it is waited for."""
    monkeypatch.setattr("gatekeeper.stores.feeds.postgres.SIGNALS_AT_COMMIT", 1000)
    await set_up(lab)
    between = Between(lab.server.port)
    async with between as port:
        channel = past(lab, port, timeout_s=30.0)
        await channel.open(Told())
        between.deaf = True
        turn = asyncio.ensure_future(channel.turn())
        ended = "select pg_terminate_backend(pid) from pg_stat_activity where query ~ 'pg_notify' and state = 'idle' "
        async with asyncio.timeout(30):
            while not await value_of(lab, ended + "and application_name = 'gatekeeper'"):
                pass
        with pytest.raises(StoreUnavailable, match="the connection was lost"):
            await turn


async def test_who_is_cancelled_leaves_it_closed(lab: PostgresLab) -> None:
    await set_up(lab)
    between = Between(lab.server.port)
    async with between as port:
        channel = past(lab, port, timeout_s=30.0)
        await channel.open(Told())
        between.silent = True
        turn = asyncio.ensure_future(channel.turn())
        for _ in range(5):
            await asyncio.sleep(0)
        turn.cancel()
        await asyncio.wait((turn,))
        assert turn.cancelled()
        with pytest.raises(StoreUnavailable, match="closed"):
            await channel.turn()
        await channel.close()


async def test_without_a_table_of_sessions_they_are_elsewhere(lab: PostgresLab) -> None:
    await lab.execute('drop table "session"')
    with pytest.raises(MissingTable, match=r"no table 'session' \(setting store\.tables\.session\)"):
        await apply(parse_server_url(lab.url), statements(BETTER_AUTH, undo=False))
    channel = channel_to(lab)
    with pytest.raises(MissingTable):
        await channel.open(Told())
    named = channel_to(lab, Tables(session=Mapped("sess")))
    with pytest.raises(FeedNotSetUp):
        await named.open(Told())


async def test_undoing_where_the_function_is_not_found_says_so_and_leaves_everything(lab: PostgresLab) -> None:
    await set_up(lab)
    await lab.execute("create schema elsewhere")
    await lab.execute("alter function gatekeeper_tell() set schema elsewhere")
    with pytest.raises(GatekeeperError, match="triggers are left"):
        await apply(parse_server_url(lab.url), statements(BETTER_AUTH, undo=True))
    assert await value_of(lab, "select count(*) from pg_trigger where tgname like 'gatekeeper_%'") == 6
