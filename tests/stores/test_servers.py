"""`stores.servers` on a real PostgreSQL and a real MariaDB: the contract of every store, and what only they can do."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.util import await_only

from gatekeeper.config.server_url import parse_server_url
from gatekeeper.core.errors import SchemaFault, StoreUnavailable
from gatekeeper.core.model import SessionToken
from gatekeeper.stores.protocol import SessionStore
from gatekeeper.stores.servers import ServerDatabase, _Connections
from gatekeeper.stores.sql import SqlStore
from tests.servers.labs import Lab, MariadbLab, PostgresLab
from tests.servers.mariadb import MariadbServer
from tests.servers.postgres import PostgresServer
from tests.stores.contract import CREATED_MS, EXPIRES_MS, TOKEN, StoreContract, messages_of
from tests.stores.opening import open_on

SESSION_DATES = ("expiresAt", "createdAt", "updatedAt")


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Lab:
    return PostgresLab(postgres_server)


@pytest.fixture
def mariadb(mariadb_server: MariadbServer) -> Lab:
    return MariadbLab(mariadb_server)


@pytest.fixture(params=["postgres", "mariadb"])
def lab(request: pytest.FixtureRequest) -> Lab:
    found: Lab = request.getfixturevalue(request.param)
    return found


async def add_user(lab: Lab, **fields: Any) -> None:
    usual = {"name": "Ada Lovelace", "email": "ada@example.test", "emailVerified": True}
    await lab.insert("user", **{**usual, "createdAt": CREATED_MS, "updatedAt": CREATED_MS, **fields})


async def add_session(lab: Lab, **fields: Any) -> None:
    usual = {"createdAt": CREATED_MS, "updatedAt": CREATED_MS, "expiresAt": EXPIRES_MS}
    await lab.insert("session", **{**usual, "ipAddress": "", "userAgent": "", **fields})


async def sign_in(lab: Lab, variant: str = "core", **user: Any) -> None:
    """Tables with one live session."""
    await lab.create(variant)
    await add_user(lab, id="user_1", **user)
    await add_session(lab, id="session_1", token=TOKEN, userId="user_1")


class ServerContract(StoreContract):
    """`kind` names the fixture of the server."""

    kind: str
    variant = "core"

    @pytest.fixture
    async def store(self, request: pytest.FixtureRequest) -> AsyncIterator[SessionStore]:
        self.lab: Lab = request.getfixturevalue(self.kind)
        await self.lab.create(self.variant)
        store = open_on(self.lab.url)
        yield store
        await store.close()

    async def insert_user(self, **fields: Any) -> None:
        await add_user(self.lab, **fields)

    async def insert_session(self, **fields: Any) -> None:
        await add_session(self.lab, id=self.session_id(fields["token"]), **fields)

    def session_id(self, token: str) -> str | int:
        return f"id-of-{token}"[:36]

    async def delete_session(self, token: str) -> None:
        await self.lab.execute(f"delete from {self.lab.quoted('session')} where token = ?", [token])  # noqa: S608

    async def break_store(self) -> None:
        self.lab.server.stop()

    async def repair_store(self) -> None:
        self.lab.server.start()


class WithUuids:
    user_id = "0b5d9f5e-55cf-4b7e-9f0e-1c3f5a9d7b21"
    other_user_id = "f3c1a7d2-6e3b-4e0b-8a42-9d1c5b7e0f64"

    def session_id(self, token: str) -> str | int:
        return "5f0c2a9b-0d1e-4f3a-8b7c-6d5e4f3a2b1c" if token == TOKEN else "6f0c2a9b-0d1e-4f3a-8b7c-6d5e4f3a2b1c"


class WithNumbers:
    user_id = 1
    other_user_id = 2

    def session_id(self, token: str) -> str | int:
        return 41 if token == TOKEN else 42


class TestPostgres(ServerContract):
    kind = "postgres"


class TestPostgresUuids(WithUuids, ServerContract):
    kind = "postgres"
    variant = "core+generateId=uuid"


class TestPostgresSerial(WithNumbers, ServerContract):
    kind = "postgres"
    variant = "core+generateId=serial"


class TestMariadb(ServerContract):
    kind = "mariadb"


class TestMariadbUuids(WithUuids, ServerContract):
    kind = "mariadb"
    variant = "core+generateId=uuid"


class TestMariadbSerial(WithNumbers, ServerContract):
    kind = "mariadb"
    variant = "core+generateId=serial"


# Values


async def test_columns_of_plugins_are_read(lab: Lab) -> None:
    await lab.create("admin+organization+twoFactor")
    await add_user(lab, id="user_1", role="admin", twoFactorEnabled=True, banned=True, banExpires=EXPIRES_MS)
    more = {"impersonatedBy": "user_2", "activeOrganizationId": "org_1"}
    await add_session(lab, id="session_1", token=TOKEN, userId="user_1", **more)
    store = open_on(lab.url, fields={"user": ("banReason",), "session": ()})
    record = await store.read_session(TOKEN)
    await store.close()
    assert record is not None
    user, session = record.user, record.session
    assert (user.role, user.two_factor_enabled, user.extra) == ("admin", True, {"banReason": None})
    assert (user.banned, user.ban_expires_ms) == (True, EXPIRES_MS)
    assert (session.impersonated_by, session.active_organization_id) == ("user_2", "org_1")


@pytest.mark.parametrize("value", ["infinity", "-infinity"])
@pytest.mark.parametrize("field", SESSION_DATES)
async def test_infinity_is_no_date(postgres: Lab, field: str, value: str) -> None:
    await sign_in(postgres)
    await postgres.execute(f'update "session" set "{field}" = \'{value}\'')  # noqa: S608
    store = open_on(postgres.url)
    assert await store.read_session(TOKEN) is None
    await store.close()


@pytest.mark.parametrize("zone", ["Etc/GMT-3", "Etc/GMT+3"])
@pytest.mark.parametrize("value", ["infinity", "-infinity"])
async def test_infinity_is_no_date_in_any_zone(postgres: Lab, value: str, zone: str) -> None:
    await sign_in(postgres)
    await postgres.execute('alter table "session" alter column "expiresAt" type timestamp')
    store = open_on(f"{postgres.url}?timezone={zone}")
    assert await store.read_session(TOKEN) is not None
    await postgres.execute(f'update "session" set "expiresAt" = \'{value}\'')  # noqa: S608
    assert await store.read_session(TOKEN) is None
    await store.close()


async def test_a_date_of_zeros_is_no_session(mariadb: Lab) -> None:
    await sign_in(mariadb)
    await mariadb.execute("set statement sql_mode = '' for update session set expiresAt = '0000-00-00'")
    store = open_on(mariadb.url)
    assert await store.read_session(TOKEN) is None
    await store.close()


@pytest.mark.parametrize(
    ("query", "hours"),
    [("", 0), ("?timezone=UTC", 0), ("?timezone=Etc/GMT-3", 3), ("?timezone=Europe/Berlin", 2)],
)
async def test_dates_without_a_zone_are_read_in_the_zone_of_the_app(mariadb: Lab, query: str, hours: int) -> None:
    """CREATED_MS is in September, when Berlin is two hours ahead of UTC."""
    await sign_in(mariadb)
    store = open_on(mariadb.url + query)
    record = await store.read_session(TOKEN)
    await store.close()
    assert record is not None
    assert record.session.created_at_ms == CREATED_MS - hours * 3_600_000


async def test_of_an_hour_that_comes_twice_the_first_counts(mariadb: Lab) -> None:
    await sign_in(mariadb)
    await mariadb.execute("update session set expiresAt = '2026-10-25 02:30:00.000'")
    store = open_on(f"{mariadb.url}?timezone=Europe/Berlin")
    record = await store.read_session(TOKEN)
    await store.close()
    assert record is not None
    assert record.session.expires_at_ms == 1_792_888_200_000  # 00:30 UTC


async def test_a_collation_that_ignores_case_finds_the_exact_token_only(mariadb: Lab) -> None:
    """As tables are made where nobody chose: there, tokens are unique but for case, and found so."""
    assert isinstance(mariadb, MariadbLab)
    mariadb.collation = "latin1_swedish_ci"
    await sign_in(mariadb)
    store = open_on(mariadb.url)
    near = [SessionToken(token) for token in (TOKEN.lower(), TOKEN + " ", TOKEN.replace("i", "í"))]
    assert [await store.read_session(token) for token in near] == [None] * 3
    assert set(await store.read_sessions([TOKEN, *near])) == {TOKEN}
    assert await store.read_sessions(near) == {}
    await store.close()


# Organizations


async def join(lab: Lab, user_id: Any, organization: str) -> None:
    await lab.insert(
        "organization", id=f"id-of-{organization}", name=organization, slug=organization, createdAt=CREATED_MS
    )
    member = {"id": f"{organization}-{user_id}", "role": "member", "createdAt": CREATED_MS}
    await lab.insert("member", **member, userId=user_id, organizationId=f"id-of-{organization}")


async def test_memberships_come_along_where_they_are_asked_for(lab: Lab) -> None:
    await sign_in(lab, "admin+organization+twoFactor")
    await add_user(lab, id="user_2", email="grace@example.test")
    await add_session(lab, id="session_2", token="other", userId="user_2")
    await join(lab, "user_1", "acme")
    await join(lab, "user_1", "globex")
    await join(lab, "user_2", "initech")
    store, plain = open_on(lab.url, with_organizations=True), open_on(lab.url)
    found = {}
    for token in (TOKEN, SessionToken("other")):
        record = await store.read_session(token)
        assert record is not None
        found[token] = record.user.organizations
    assert found == {
        TOKEN: {"acme", "id:id-of-acme", "globex", "id:id-of-globex"},
        "other": {"initech", "id:id-of-initech"},
    }
    await lab.execute(f"delete from {lab.quoted('member')}")  # noqa: S608
    for opened in (store, plain):
        record = await opened.read_session(TOKEN)
        assert record is not None
        assert record.user.organizations == frozenset()
        await opened.close()


async def test_tables_of_organizations_that_are_missing_are_named(lab: Lab) -> None:
    await sign_in(lab)
    store = open_on(lab.url, with_organizations=True)
    with pytest.raises(StoreUnavailable, match=r"no table 'member' \(setting store.tables.member\)"):
        await store.read_session(TOKEN)
    await store.close()


# Names

RENAMED = {
    "session": {"expiresAt": "expires_at", "userId": "user_id", "ipAddress": "the ip"},
    "user": {"emailVerified": "email_verified", "name": "full name"},
}


async def test_every_name_may_be_another_one(lab: Lab) -> None:
    await sign_in(lab)
    for table, columns in RENAMED.items():
        for column, new in columns.items():
            change = f"alter table {lab.quoted(table)} rename column {lab.quoted(column)} to {lab.quoted(new)}"
            await lab.execute(change)
    await lab.execute(f"alter table {lab.quoted('session')} rename to {lab.quoted('the sessions')}")
    store = open_on(lab.url, tables={"session": "the sessions"}, columns=RENAMED)
    record = await store.read_session(TOKEN)
    await store.close()
    assert record is not None
    assert (record.session.expires_at_ms, record.user.name) == (EXPIRES_MS, "Ada Lovelace")


async def test_a_schema_goes_before_the_name(postgres: Lab) -> None:
    await sign_in(postgres)
    await postgres.script('create schema "auth"; alter table "session" set schema "auth"')
    store = open_on(postgres.url, tables={"session": "auth.session"})
    assert await store.read_session(TOKEN) is not None
    await store.close()


async def test_what_is_missing_is_named(lab: Lab) -> None:
    await lab.empty()
    store = open_on(lab.url)
    with pytest.raises(StoreUnavailable, match=r"no table 'session' \(setting store.tables.session\)"):
        await store.check()
    await sign_in(lab)
    assert await store.read_session(TOKEN) is not None
    await store.close()


async def test_a_migrated_table_is_found(lab: Lab) -> None:
    await sign_in(lab, "admin+organization+twoFactor", role="admin")
    store = open_on(lab.url)
    assert await store.read_session(TOKEN) is not None
    await lab.execute(f"alter table {lab.quoted('user')} drop column role")
    with pytest.raises(StoreUnavailable, match="role"):
        await store.read_session(TOKEN)
    record = await store.read_session(TOKEN)
    await store.close()
    assert record is not None
    assert record.user.role is None


# Connections


async def test_a_restart_between_two_reads_fails_none(lab: Lab) -> None:
    """The connections that were kept are dead: a read notices, and takes a new one."""
    await sign_in(lab)
    store = open_on(lab.url)
    reads = await asyncio.gather(*(store.read_session(TOKEN) for _ in range(4)))
    assert all(reads)
    lab.server.stop()
    lab.server.start()
    assert all(await asyncio.gather(*(store.read_session(TOKEN) for _ in range(4))))
    await store.close()


async def test_more_readers_than_connections_are_all_answered(lab: Lab) -> None:
    await sign_in(lab)
    store = open_on(lab.url, pool=2)
    assert all(await asyncio.gather(*(store.read_session(TOKEN) for _ in range(40))))
    await store.close()


async def test_cancelled_readers_leave_the_store_in_order(lab: Lab) -> None:
    """Whatever the moment: no later reader gets what was meant for one who left."""
    await sign_in(lab)
    store = open_on(lab.url, pool=1)
    await store.check()
    for steps in range(0, 60, 3):
        read = asyncio.ensure_future(store.read_session(SessionToken("unknown")))
        for _ in range(steps):
            await asyncio.sleep(0)
        read.cancel()
        await asyncio.wait((read,))
        assert await store.read_session(TOKEN) is not None
    await store.close()


async def test_a_wrong_password_is_named_and_none_is_shown(lab: Lab) -> None:
    await lab.create()
    url = lab.url.replace("p%40ss%2Fword", "wr%40ng-secret")
    store = open_on(url)
    with pytest.raises(StoreUnavailable) as caught:
        await store.check()
    await store.close()
    text = messages_of(caught.value)
    assert "gate" in text
    assert f"127.0.0.1:{lab.server.port}/auth" in str(caught.value)
    for secret in ("wr%40ng", "wr@ng", "p%40ss", "p@ss"):
        assert secret not in text
        assert secret not in repr(store)


async def test_a_database_that_is_not_there_is_named(lab: Lab) -> None:
    store = open_on(lab.url.replace("/auth", "/elsewhere"))
    with pytest.raises(StoreUnavailable, match="elsewhere"):
        await store.check()
    await store.close()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_nobody_listening(scheme: str, unused_tcp_port: int) -> None:
    url = f"{scheme}://gate:secret@127.0.0.1:{unused_tcp_port}/auth"
    store = open_on(url, pool=1)
    with pytest.raises(StoreUnavailable) as caught:
        await store.check()
    await store.close()
    assert f"{scheme}://127.0.0.1:{unused_tcp_port}/auth: " in str(caught.value)
    assert "secret" not in messages_of(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_a_server_that_does_not_answer_is_given_up(scheme: str) -> None:
    met = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    database = ServerDatabase(parse_server_url(f"{scheme}://gate:secret@127.0.0.1:{port}/auth"))
    store = SqlStore(database, pool=1, timeout_s=0.05)
    while not met.is_set():
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.05 s"):
            await store.check()
    await store.close()
    server.close()
    await server.wait_closed()


class Relay:
    """A way to a server; once it is `cut`, nothing arrives any more by connections, and nobody is told.

    After `mend` new connections are well, and the others as they were.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        self.cut = False
        self._lost: list[asyncio.StreamWriter] = []

    def mend(self) -> None:
        self._lost = list(self._writers)
        self.cut = False

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, to_there]
        await asyncio.gather(self._pass(reader, to_there), self._pass(there, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self.cut and writer not in self._lost:
                writer.write(data)
        if not self.cut and writer not in self._lost:
            writer.close()


async def test_a_server_that_went_without_a_word_holds_nobody_up(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither who reads, nor who closes the connections that were kept."""
    monkeypatch.setattr("gatekeeper.stores.servers.CLOSE_S", 0.05)
    await sign_in(lab)
    relay = Relay(lab.server.port)
    async with relay as port:
        database = ServerDatabase(parse_server_url(lab.url.replace(f":{lab.server.port}/", f":{port}/")))
        store = SqlStore(database, pool=3)
        assert all(await asyncio.gather(*(store.read_session(TOKEN) for _ in range(3))))
        relay.cut = True
        store._timeout_s = 0.05
        with pytest.raises(StoreUnavailable, match="no answer within"):
            await store.read_session(TOKEN)
        async with asyncio.timeout(30):
            await store.close()


async def test_one_lost_connection_stands_for_all(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something between has forgotten the connections that were kept: the next reader gets a new one."""
    monkeypatch.setattr("gatekeeper.stores.servers.CLOSE_S", 0.05)
    await sign_in(lab)
    relay = Relay(lab.server.port)
    async with relay as port:
        database = ServerDatabase(parse_server_url(lab.url.replace(f":{lab.server.port}/", f":{port}/")))
        store = SqlStore(database, pool=3, timeout_s=10.0)
        assert all(await asyncio.gather(*(store.read_session(TOKEN) for _ in range(3))))
        relay.cut = True
        relay.mend()
        store._timeout_s = 0.05
        with pytest.raises(StoreUnavailable, match="no answer within"):
            await store.read_session(TOKEN)
        store._timeout_s = 10.0
        assert await store.read_session(TOKEN) is not None
        await store.close()


async def test_who_gives_up_does_not_wait_for_the_driver(postgres: Lab) -> None:
    """asyncpg takes two seconds to end a query on a server that has gone."""
    await sign_in(postgres)
    relay = Relay(postgres.server.port)
    async with relay as port:
        opened = ServerDatabase(parse_server_url(postgres.url.replace(f":{postgres.server.port}/", f":{port}/"))).open(
            1, 60.0
        )
        assert isinstance(opened, _Connections)
        await opened.run(lambda execute: execute(select(text("1")), {}))
        relay.cut = True
        read = asyncio.ensure_future(opened.run(lambda execute: execute(select(text("1")), {})))
        for _ in range(20):
            await asyncio.sleep(0)
        read.cancel()
        await asyncio.wait((read,))
        assert read.cancelled()
        assert len(opened._under_way) == 1
        await opened.close()
        assert not opened._under_way


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 100])
async def test_a_server_of_another_kind_is_an_outage(scheme: str, answer: bytes) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = open_on(f"{scheme}://gate:x@127.0.0.1:{port}/auth", pool=1)
    with pytest.raises(StoreUnavailable):
        await store.check()
    await store.close()
    server.close()
    await server.wait_closed()


# Several at once


HOLD = {"postgres": "select pg_advisory_lock(1)", "mariadb": "select get_lock('held', 60)"}
LET_GO = {"postgres": "select pg_advisory_unlock(1)", "mariadb": "select release_lock('held')"}


@pytest.mark.parametrize("kind", HOLD)
async def test_what_fails_for_one_does_not_end_what_others_are_doing(request: pytest.FixtureRequest, kind: str) -> None:
    """A store whose tables turn out to be others is opened anew, and closed when nobody uses it any more."""
    lab: Lab = request.getfixturevalue(kind)
    await lab.create()
    store, other = (SqlStore(ServerDatabase(parse_server_url(lab.url)), pool=2, timeout_s=20.0) for _ in range(2))
    has_begun, may_let_go = asyncio.Event(), asyncio.Event()

    def wait_for_it(connection: Connection) -> str:
        has_begun.set()
        connection.execute(text(HOLD[kind]))
        connection.execute(text(LET_GO[kind]))
        return "done"

    def hold(connection: Connection) -> None:
        connection.execute(text(HOLD[kind]))
        has_begun.set()
        await_only(may_let_go.wait())
        connection.execute(text(LET_GO[kind]))

    holding = asyncio.ensure_future(other.work(hold))
    await has_begun.wait()
    has_begun.clear()
    waiting = asyncio.ensure_future(store.work(wait_for_it))
    await has_begun.wait()
    with pytest.raises(SchemaFault, match="nowhere"):
        await store.work(lambda connection: connection.execute(text("select * from nowhere")))
    for _ in range(3):  # by connections of its own: in the meantime the old ones would be closed
        assert await store.work(lambda connection: connection.scalar(text("select 1"))) == 1
    may_let_go.set()
    await holding
    assert await waiting == "done"
    await asyncio.gather(store.close(), other.close())
