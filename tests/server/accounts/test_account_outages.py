"""Account calls while their database cannot be written or asked: 503, one line in the log, nothing half-written."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.stores.sql import SqlStore
from tests.better_auth_db import execute
from tests.server.accounts.conftest import PLACES
from tests.server.accounts.sites import EMAIL, Reply, Site, counts_of, migrate, rows_of, running_site
from tests.server.accounts.troubles import held_by_another_process, nobody_above_the_law, until
from tests.server.upstreams import RecordingUpstream
from tests.server.wire import ask
from tests.stores.account_places import AccountPlace, MariadbAccounts, PostgresAccounts, SqliteAccounts
from tests.stores.test_sql_accounts import full_disk

pytestmark = pytest.mark.usefixtures("quick")

BIG = "x" * 5000
"""A name that needs a page of a SQLite file alone."""
STALE = "session: {stale_if_error: 10m}\n"
AGAIN = "account calls can be carried out again"
HINT = "`gatekeeper migrate`"
COLUMNS = {"session": "token", "user": "email", "account": "password", "gatekeeper_attempt": "ends"}
"""A column of each table that a sign-in needs."""


@pytest.fixture(autouse=True)
def timeout_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the usual time, for machines that have other things to do; as bounded as that."""
    monkeypatch.setitem(SqlStore.__init__.__kwdefaults__, "timeout_s", 4.0)


@pytest.fixture(params=PLACES)
async def empty_place(request: pytest.FixtureRequest, tmp_path: Path) -> AccountPlace:
    """A database that has no tables; of SQLite, not even a file."""
    found = PLACES[request.param](request, tmp_path / "auth.db")
    await found.empty()
    return found


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of account calls since this was last asked."""
    found = [record.getMessage() for record in caplog.records if record.getMessage().startswith("account calls")]
    caplog.clear()
    return found


async def is_refused(*replies: Reply) -> None:
    for reply in replies:
        assert (reply.status, reply.code) == (503, "STORE_UNAVAILABLE")
        assert reply.response.values("retry-after") == ["5"]
        assert reply.cookies == {}


async def status_of_sign_in(site: Site) -> int:
    return (await site.visitor().sign_in()).status


# SQLite


@pytest.mark.parametrize("journal", ["delete", "wal"])
async def test_a_file_that_another_process_holds(
    sqlite: SqliteAccounts,
    upstream: RecordingUpstream,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    journal: str,
) -> None:
    execute(sqlite.path, f"pragma journal_mode = {journal}")
    async with running_site(upstream.url, sqlite, tmp_path, STALE) as site:
        ada = await site.signed_up()
        assert await ada.enters() == 200
        before = await rows_of(sqlite)
        async with held_by_another_process(sqlite.path):
            calls = [site.visitor().sign_in(), site.visitor().sign_up("eve@example.test"), ada.post("/sign-out")]
            pending = asyncio.gather(*calls)
            assert await ada.enters() == 200
            await is_refused(*await pending)
            assert (await ask(ada.port, "GET", "/")).status == 200
        lines = said(caplog)  # the file is locked, and who waits behind others for a thread is told of the time
        assert {line.rpartition(": ")[2] for line in lines} <= {"database is locked", "no answer within 4 s"}
        assert all(str(sqlite.path) in line for line in lines)
        assert 1 <= len(lines) <= 2
        assert await rows_of(sqlite) == before
        await until(lambda: status_of_sign_in(site), 200)
        assert said(caplog) == [AGAIN]
        assert (await ada.post("/sign-out")).status == 200


async def test_a_full_disk(
    sqlite: SqliteAccounts, upstream: RecordingUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_site(upstream.url, sqlite, tmp_path, STALE) as site:
        ada = await site.signed_up()
        before = await rows_of(sqlite)
        with full_disk(sqlite.path):
            await is_refused(
                *[await site.visitor().sign_up(f"user-{number}@example.test", name=BIG) for number in range(3)],
                await ada.post("/update-user", name=BIG),
            )
            assert await ada.enters() == 200
        (line,) = said(caplog)
        assert "disk" in line
        assert await rows_of(sqlite) == before
        made = await site.signed_up("eve@example.test", name=BIG)
        assert await made.enters() == 200
        assert said(caplog) == [AGAIN]
        assert await counts_of(sqlite) == {"user": 2, "account": 2, "session": 2, "verification": 0}


async def test_a_file_that_is_removed_and_one_in_its_place(
    sqlite: SqliteAccounts, upstream: RecordingUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = tmp_path / "kept.db"
    await without_write_ahead(sqlite)
    async with running_site(upstream.url, sqlite, tmp_path) as site:
        ada = await site.signed_up()
        shutil.copy(sqlite.path, kept)
        sqlite.path.unlink()
        await is_refused(
            await site.visitor().sign_in(), await ada.post("/change-password", **dict.fromkeys(WORDS, "x" * 8))
        )
        (line,) = said(caplog)
        assert line.endswith("auth.db: No such file or directory")
        assert not sqlite.path.exists()
        kept.rename(sqlite.path)
        assert await status_of_sign_in(site) == 200
        assert (await ada.session())["user"]["email"] == EMAIL

        await migrate(new := SqliteAccounts(tmp_path / "new.db"))
        await without_write_ahead(new)
        new.path.rename(sqlite.path)
        assert (await site.visitor().sign_in()).code == "INVALID_EMAIL_OR_PASSWORD"
        await until(ada.session, None)  # the feed looks whether it is the same file
        assert await (await site.signed_up()).enters() == 200
        assert await counts_of(sqlite) == {"user": 1, "account": 1, "session": 1, "verification": 0}


WORDS = ("currentPassword", "newPassword")


async def without_write_ahead(sqlite: SqliteAccounts) -> None:
    """The file as others make it: nothing of it is in a log beside it."""
    assert await sqlite.fetch("pragma journal_mode = delete") == [{"journal_mode": "delete"}]


async def test_a_file_that_may_only_be_read(
    sqlite: SqliteAccounts, upstream: RecordingUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await without_write_ahead(sqlite)  # with it, who has the log open writes on
    with nobody_above_the_law():
        async with running_site(upstream.url, sqlite, tmp_path) as site:
            ada = await site.signed_up()
            before = await rows_of(sqlite)
            sqlite.path.chmod(0o400)
            await site.gate.gate.runtime.sessions.check()
            await is_refused(await site.visitor().sign_in(), await site.visitor().sign_up("eve@example.test"))
            assert await ada.enters() == 200
            assert (await ada.session())["session"]["token"] == ada.token
            (line,) = said(caplog)
            assert "readonly" in line
            assert await rows_of(sqlite) == before
            sqlite.path.chmod(0o600)
            assert await status_of_sign_in(site) == 200
            assert said(caplog) == [AGAIN]


# Servers


@pytest.fixture(params=["postgres", "mariadb"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    found = PLACES[request.param](request, tmp_path / "auth.db")
    assert isinstance(found, PostgresAccounts | MariadbAccounts)
    await found.empty()
    await migrate(found)
    yield found
    if not found.lab.server.is_running:
        found.lab.server.start()


async def test_a_server_that_ends_in_the_middle_of_sign_ins_and_comes_back(
    server: PostgresAccounts | MariadbAccounts,
    upstream: RecordingUpstream,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """PostgreSQL is killed; MariaDB, which as it is set up here writes to disk once a second, ends in peace."""
    ending = signal.SIGKILL if isinstance(server, PostgresAccounts) else None
    async with running_site(upstream.url, server, tmp_path, STALE) as site:
        ada = await site.signed_up()
        assert await ada.enters() == 200
        visitors = [site.visitor() for _ in range(20)]
        signing_in = [asyncio.ensure_future(visitor.sign_in()) for visitor in visitors]
        await asyncio.wait(signing_in, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.to_thread(server.lab.server.stop, ending)
        replies = await asyncio.gather(*signing_in)
        assert {reply.status for reply in replies} <= {200, 503}
        await is_refused(*(reply for reply in replies if reply.status == 503), await site.visitor().sign_in())
        assert await ada.enters() == 200
        lines = said(caplog)
        assert 1 <= len(lines) <= 8  # the ways in which it ends, not one for each call
        assert lines[-1].startswith("account calls cannot be carried out: ")

        await asyncio.to_thread(server.lab.server.start)
        await until(lambda: status_of_sign_in(site), 200)
        assert said(caplog)[-1] == AGAIN
        for visitor, reply in zip(visitors, replies, strict=True):
            if reply.status == 200:
                assert await visitor.session() is not None
        assert await counts_of(server) | {"session": 0} == {"user": 1, "account": 1, "session": 0, "verification": 0}


@asynccontextmanager
async def role_with(place: PostgresAccounts, connections: int) -> AsyncIterator[str]:
    """The URL of somebody who may have so many connections there."""
    await place.execute(f"create role few login password 'few' connection limit {connections}")
    await place.execute("grant usage on schema public to few; grant all on all tables in schema public to few")
    try:
        yield place.url.replace("gate:p%40ss%2Fword@", "few:few@")
    finally:
        await place.execute("drop owned by few; drop role few")


async def test_a_postgres_that_is_out_of_connections(
    request: pytest.FixtureRequest, upstream: RecordingUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = PLACES["postgres"](request, tmp_path / "auth.db")
    assert isinstance(place, PostgresAccounts)
    await place.empty()
    await migrate(place)
    async with role_with(place, 50) as url:
        theirs = PostgresAccounts(place.lab)
        theirs.url = url
        async with running_site(upstream.url, theirs, tmp_path, STALE) as site:
            ada = await site.signed_up()
            assert await ada.enters() == 200
            before = await rows_of(place)
            await place.execute("alter role few connection limit 0")
            await place.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'few'")
            await until(lambda: status_of_sign_in(site), 503)
            await is_refused(*await asyncio.gather(*(site.visitor().sign_in() for _ in range(5))))
            assert await ada.enters() == 200
            assert any("too many connections" in line for line in said(caplog))
            assert await rows_of(place) == before
            await place.execute("alter role few connection limit 50")
            await until(lambda: status_of_sign_in(site), 200)
            assert said(caplog) == [AGAIN]


# Tables


async def test_a_gate_that_is_started_before_migrate_works_after_it(
    empty_place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_site(upstream.url, empty_place, tmp_path) as site:
        (line,) = [
            record.getMessage() for record in caplog.records if "session store unavailable" in record.getMessage()
        ]
        assert line.endswith("; `gatekeeper migrate` makes what is missing")
        assert "No such file" in line or "no table 'session'" in line
        await is_refused(await site.visitor().sign_up())
        (problem,) = await site.gate.served.health.problems()
        assert problem.startswith("session store: ")
        await migrate(empty_place)
        ada = await site.signed_up()
        assert await ada.enters() == 200
        await until(site.gate.served.health.problems, [])
        assert said(caplog)[-1] == AGAIN


@pytest.mark.parametrize("what", ["tables", "columns"])
async def test_what_is_missing_is_named_with_what_makes_it(
    place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    async with running_site(upstream.url, place, tmp_path) as site:
        await site.signed_up()
        before = await rows_of(place)
        for table, column in COLUMNS.items():
            if what == "tables":
                missing = table
                take_away, bring_back = f"{table} rename to elsewhere", f"elsewhere rename to {table}"
            else:
                missing = column
                take_away, bring_back = f"{table} rename column {column} to it", f"{table} rename column it to {column}"
            await place.execute("alter table " + take_away.replace(table, place.quoted(table)))
            await is_refused(await site.visitor().sign_in())
            lines = said(caplog)
            assert lines
            assert [line for line in lines if missing not in line or HINT not in line] == []
            await place.execute("alter table " + bring_back.replace(table, place.quoted(table)))
            await until(lambda: status_of_sign_in(site), 200)
            assert said(caplog) == [AGAIN]
        await place.execute(f"delete from {place.quoted('session')} where token <> '{token_in(before)}'")  # noqa: S608
        assert await rows_of(place) == before


def token_in(rows: dict[str, list[str]]) -> str:
    """The token of the one session there."""
    (session,) = rows["session"]
    return session.partition("'token': '")[2].partition("'")[0]


async def test_a_column_that_nobody_fills_is_named(
    server: PostgresAccounts | MariadbAccounts,
    upstream: RecordingUpstream,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Such as a plugin of an app may leave behind."""
    await server.execute(f"alter table {server.quoted('user')} add column age integer not null")
    async with running_site(upstream.url, server, tmp_path) as site:
        reply = await site.visitor().sign_up()
        await is_refused(reply)
        (line,) = said(caplog)
        assert "age" in line
        assert await counts_of(server) == {"user": 0, "account": 0, "session": 0, "verification": 0}
