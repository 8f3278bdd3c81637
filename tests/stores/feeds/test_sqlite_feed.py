"""`stores.feeds.sqlite` on real files, with writers in other connections and processes."""

import asyncio
import logging
import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.core.errors import MissingTable, StoreUnavailable
from gatekeeper.stores.feeds.feed import Feed, FeedNotSetUp
from gatekeeper.stores.feeds.sqlite import SqliteChannel
from gatekeeper.stores.feeds.sqlite_setup import KEPT, apply, statements
from gatekeeper.stores.lease import Lease
from gatekeeper.stores.tables import BETTER_AUTH, Mapped, Tables
from tests.better_auth_db import add_session, add_user, create_database, execute, execute_script, insert
from tests.stores.feeds.listener import Listener

WITH_ORGANIZATIONS = Tables(with_organizations=True)
ORGANIZATION_VARIANT = "admin+organization+twoFactor"
EXPIRES_MS, CREATED_MS = 1_990_000_000_000, 1_790_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with the user `ada` and the session `a`."""
    path = tmp_path / "auth.db"
    create_database(path)
    add_user(path, id="ada")
    sign_in(path, "a")
    return path


@pytest.fixture(params=["delete", "wal"])
def in_each_mode(request: pytest.FixtureRequest, path: Path) -> Path:
    """The same file, once with a rollback journal and once with a write-ahead log."""
    execute_script(path, f"pragma journal_mode = {request.param}")
    return path


class Watching:
    """A channel and what it has told.  `reconciled` counts how often memory was to be read again."""

    def __init__(self, path: Path, tables: Tables = BETTER_AUTH, *, busy_s: float = 0.25) -> None:
        self.listener = Listener("a", "b", "c", "ada", "bob", "1", "2")
        self.reconciled = 0
        self.fault: StoreUnavailable | None = None
        self.channel = SqliteChannel(path, tables, self, busy_s=busy_s)

    async def open(self) -> None:
        await self.channel.open(self.listener)

    async def turn(self) -> list[str]:
        """What the next turn tells."""
        await self.channel.turn()
        return self.listener.took()

    def any_token(self) -> str | None:
        raise AssertionError("a file is not probed")

    async def reconcile(self) -> None:
        self.reconciled += 1
        if self.fault is not None:
            raise self.fault


@pytest.fixture
async def watch() -> AsyncIterator[Any]:
    """Makes a Watching, opens it and closes it after the test."""
    made: list[Watching] = []

    async def make(path: Path, tables: Tables = BETTER_AUTH, **settings: float) -> Watching:
        made.append(Watching(path, tables, **settings))
        await made[-1].open()
        return made[-1]

    yield make
    for watching in made:
        await watching.channel.close()
    for thread in threading.enumerate():
        if thread.name.startswith("gatekeeper-feed"):
            await asyncio.to_thread(thread.join, 30)
            assert not thread.is_alive(), "a connection was left open"


def sign_in(path: Path, token: str, user_id: str = "ada") -> None:
    add_session(path, user_id=user_id, token=token, expires_at_ms=EXPIRES_MS, created_at_ms=CREATED_MS)


def set_up(path: Path, tables: Tables = BETTER_AUTH, *, undo: bool = False) -> None:
    apply(path, statements(tables, undo=undo))


def revoke(path: Path, token: str = "a") -> None:  # noqa: S107
    execute(path, 'delete from "session" where "token" = ?', (token,))


@contextmanager
def writer(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


async def test_names_what_changed_and_nothing_else(in_each_mode: Path, watch: Any) -> None:
    path = in_each_mode
    set_up(path)
    watching = await watch(path)
    assert watching.channel.names_all
    assert await watching.turn() == []
    sign_in(path, "b")
    assert await watching.turn() == []
    execute(path, 'update "session" set "expiresAt" = ? where "token" = ?', ("2040-01-01T00:00:00.000Z", "b"))
    assert await watching.turn() == ["s:b"]
    revoke(path)
    execute(path, 'update "user" set "name" = ?', ("Countess",))
    assert await watching.turn() == ["s:a", "u:ada"]
    assert await watching.turn() == []
    assert watching.reconciled == 0


async def test_without_a_change_table_memory_is_read_again_after_a_commit(in_each_mode: Path, watch: Any) -> None:
    path = in_each_mode
    watching = await watch(path)
    assert not watching.channel.names_all
    assert await watching.turn() == []
    assert watching.reconciled == 0
    revoke(path)
    assert await watching.turn() == []
    assert watching.reconciled == 1
    assert await watching.turn() == []
    assert watching.reconciled == 1


async def test_a_turn_fails_when_memory_cannot_be_read_again(path: Path, watch: Any) -> None:
    watching = await watch(path)
    watching.fault = StoreUnavailable("busy")
    revoke(path)
    with pytest.raises(StoreUnavailable, match="busy"):
        await watching.turn()
    with pytest.raises(StoreUnavailable, match="not open"):
        await watching.turn()


async def test_another_process_is_seen(in_each_mode: Path, watch: Any) -> None:
    path = in_each_mode
    set_up(path)
    watching = await watch(path)
    program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('delete from session'); c.commit()"
    done = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(path))
    assert await done.wait() == 0
    assert await watching.turn() == ["s:a"]


async def test_what_is_not_committed_is_not_told(in_each_mode: Path, watch: Any) -> None:
    path = in_each_mode
    set_up(path)
    watching = await watch(path)
    with writer(path) as connection:
        connection.execute("begin immediate")
        connection.execute('delete from "session"')
        assert await watching.turn() == []
        connection.execute("rollback")
        assert await watching.turn() == []
        connection.execute("begin immediate")
        connection.execute('delete from "session"')
        assert await watching.turn() == []
        connection.execute("commit")
    assert await watching.turn() == ["s:a"]


async def test_a_writer_that_keeps_everybody_out_makes_a_turn_fail(path: Path, watch: Any) -> None:
    set_up(path)
    watching = await watch(path, busy_s=0.0)
    with writer(path) as connection:
        connection.execute("begin exclusive")
        connection.execute('delete from "session"')
        with pytest.raises(StoreUnavailable, match="a writer has held it for too long"):
            await watching.turn()
        with pytest.raises(StoreUnavailable, match="a writer has held it for too long"):
            await watching.open()


async def test_a_turn_waits_for_a_writer(path: Path, watch: Any) -> None:
    set_up(path)
    watching = await watch(path, busy_s=1.0)
    with writer(path) as connection:
        connection.execute("begin exclusive")
        connection.execute('delete from "session"')
        turn = asyncio.ensure_future(watching.turn())
        await asyncio.sleep(0)  # the look has gone to its thread
        assert not turn.done()
        connection.execute("commit")
        assert await turn == ["s:a"]


async def test_a_file_that_was_replaced_is_opened_anew(in_each_mode: Path, watch: Any, tmp_path: Path) -> None:
    path = in_each_mode
    set_up(path)
    watching = await watch(path)
    other = tmp_path / "other.db"
    shutil.copy(path, other)
    execute_script(other, "pragma journal_mode = delete; delete from session")
    os.replace(other, path)
    with pytest.raises(StoreUnavailable, match="the file was replaced"):
        await watching.turn()
    for beside in ("-wal", "-shm"):
        Path(f"{path}{beside}").unlink(missing_ok=True)
    await watching.open()
    sign_in(path, "c")
    revoke(path, "c")
    assert await watching.turn() == ["s:c"]


async def test_a_file_that_was_deleted_is_no_file(path: Path, watch: Any) -> None:
    watching = await watch(path)
    path.unlink()
    with pytest.raises(StoreUnavailable, match=r"auth\.db: No such file"):
        await watching.turn()
    with pytest.raises(StoreUnavailable, match=r"auth\.db: No such file"):
        await watching.open()
    assert not path.exists()


async def test_a_file_that_comes_later(tmp_path: Path, watch: Any) -> None:
    path = tmp_path / "later.db"
    with pytest.raises(StoreUnavailable, match=r"later\.db: No such file"):
        await watch(path)
    path.write_bytes(b"")
    with pytest.raises(MissingTable, match=r"later\.db: no table 'session'"):
        await watch(path)
    with pytest.raises(StoreUnavailable, match="no table 'sessions'") as raised:
        await watch(path, Tables(session=Mapped("sessions")))
    assert not isinstance(raised.value, MissingTable)
    create_database(path)
    await watch(path)


async def test_what_is_no_database_is_unavailable(tmp_path: Path, watch: Any) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be looked at " * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        await watch(path)
    with pytest.raises(StoreUnavailable, match="not a file"):
        await watch(tmp_path)


async def test_a_write_ahead_log_that_was_removed_is_noticed(path: Path, watch: Any) -> None:
    """As when a backup is copied over the file, and what was beside it removed: a connection would never know."""
    execute_script(path, "pragma journal_mode = wal")
    set_up(path)
    watching = await watch(path)
    with writer(path) as connection:
        connection.execute("select * from session").fetchall()
        for beside in ("-wal", "-shm"):
            Path(f"{path}{beside}").unlink()
    revoke(path)
    with pytest.raises(StoreUnavailable, match="write-ahead log was removed"):
        await watching.turn()


async def test_a_write_ahead_log_that_is_begun_is_followed(path: Path, watch: Any) -> None:
    set_up(path)
    watching = await watch(path)
    with writer(path) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute('delete from "session"')
        assert await watching.turn() == ["s:a"]
    add_user(path, id="bob", email="bob@example.test")
    execute(path, 'delete from "user" where "id" = ?', ("bob",))
    assert await watching.turn() == ["u:bob"]
    Path(f"{path}-shm").unlink()
    with pytest.raises(StoreUnavailable, match="write-ahead log was removed"):
        await watching.turn()


async def test_vacuum_and_other_changes_of_the_schema_forget_everything_once(path: Path, watch: Any) -> None:
    set_up(path)
    watching = await watch(path)
    execute(path, "vacuum")
    assert await watching.turn() == ["all"]
    execute(path, 'alter table "user" add column "plan" text')
    assert await watching.turn() == ["all"]
    sign_in(path, "b")
    assert await watching.turn() == []
    revoke(path, "b")
    assert await watching.turn() == ["s:b"]


async def test_a_feed_that_is_set_up_or_taken_away_meanwhile_is_opened_anew(path: Path, watch: Any) -> None:
    watching = await watch(path)
    set_up(path)
    with pytest.raises(StoreUnavailable, match="installed or removed"):
        await watching.turn()
    await watching.open()
    assert watching.channel.names_all
    set_up(path, undo=True)
    with pytest.raises(StoreUnavailable, match="installed or removed"):
        await watching.turn()
    await watching.open()
    assert not watching.channel.names_all


async def test_a_feed_that_is_set_up_again_forgets_everything_once(path: Path, watch: Any) -> None:
    set_up(path)
    watching = await watch(path)
    revoke(path)
    set_up(path)
    assert await watching.turn() == ["all"]
    assert await watching.turn() == []


@pytest.mark.parametrize(
    "statement",
    [
        "drop trigger gatekeeper_session_delete",
        # As tools do that cannot alter a table: the triggers go with the old one.
        'create table "new" as select * from "session"; drop table "session"; alter table "new" rename to "session"',
        "drop table gatekeeper_change",
    ],
    ids=["trigger", "table-made-anew", "change-table"],
)
async def test_half_a_feed_is_none(path: Path, watch: Any, statement: str) -> None:
    set_up(path)
    watching = await watch(path)
    execute_script(path, statement)
    with pytest.raises(StoreUnavailable, match="installed or removed"):
        await watching.turn()
    await watching.open()
    assert not watching.channel.names_all


async def test_triggers_for_other_tables_count_as_none(path: Path, watch: Any) -> None:
    set_up(path)
    execute_script(path, 'create table "sessions" as select * from "session"')
    watching = await watch(path, Tables(session=Mapped("sessions")))
    assert not watching.channel.names_all


async def test_memberships_need_triggers(tmp_path: Path, watch: Any) -> None:
    path = tmp_path / "auth.db"
    create_database(path, ORGANIZATION_VARIANT)
    with pytest.raises(FeedNotSetUp, match="memberships: run `gatekeeper migrate --feed`"):
        await watch(path, WITH_ORGANIZATIONS)
    set_up(path)
    with pytest.raises(FeedNotSetUp, match="memberships"):
        await watch(path, WITH_ORGANIZATIONS)
    set_up(path, WITH_ORGANIZATIONS)
    watching = await watch(path, WITH_ORGANIZATIONS)
    without = await watch(path)
    assert (watching.channel.names_all, without.channel.names_all) == (True, True)
    add_user(path, id="ada")
    date = "2026-01-01T00:00:00.000Z"
    insert(path, "organization", {"id": "o", "name": "Acme", "slug": "acme", "createdAt": date})
    assert await watching.turn() == []
    insert(path, "member", {"id": "m", "organizationId": "o", "userId": "ada", "role": "member", "createdAt": date})
    assert await watching.turn() == ["u:ada"]
    set_up(path)
    with pytest.raises(FeedNotSetUp, match="memberships"):
        await watching.turn()


async def test_rows_that_came_and_went_unseen_may_have_been_anything(path: Path, watch: Any) -> None:
    set_up(path)
    watching = await watch(path)
    execute(path, "delete from gatekeeper_change where seq <= ?", (KEPT,))
    revoke(path)
    assert await watching.turn() == ["all"]
    assert await watching.turn() == []
    sign_in(path, "b")
    revoke(path, "b")
    assert await watching.turn() == ["s:b"]


async def test_a_change_table_that_was_emptied(path: Path, watch: Any) -> None:
    set_up(path)
    watching = await watch(path)
    execute(path, "delete from gatekeeper_change")
    assert await watching.turn() == ["all"]
    sign_in(path, "b")
    assert await watching.turn() == []
    revoke(path, "b")
    assert await watching.turn() == ["all"]
    revoke(path)
    assert await watching.turn() == ["s:a"]


async def test_an_older_copy_that_was_written_over_the_file(path: Path, watch: Any, tmp_path: Path) -> None:
    """Its rows go on from where they were then: the numbers alone say nothing."""
    set_up(path)
    backup = tmp_path / "backup.db"
    shutil.copy(path, backup)
    execute(path, 'update "session" set "userAgent" = ?', ("x",))
    execute(path, 'update "session" set "userAgent" = ?', ("y",))
    watching = await watch(path)
    path.write_bytes(backup.read_bytes())
    for token in ("b", "c", "a"):
        if token != "a":
            sign_in(path, token)
        revoke(path, token)
    assert await watching.turn() == ["all"]


async def test_more_changes_than_are_kept_may_have_been_anything(path: Path, watch: Any) -> None:
    set_up(path)
    watching = await watch(path)
    with writer(path) as connection:
        connection.execute("pragma synchronous = off")
        connection.execute(
            """with recursive n(n) as (select 1 union all select n + 1 from n where n < ?)
            insert into session select 'i' || n, '', 't' || n, '', '', '', '', 'ada' from n""",
            (KEPT + 200,),
        )
        assert await watching.turn() == []
        connection.execute('delete from "session"')
        (kept,) = connection.execute("select count(*) from gatekeeper_change").fetchone()
    assert KEPT <= kept < KEPT + 100
    assert await watching.turn() == ["all"]


async def test_a_row_of_a_kind_unknown_may_be_anything(path: Path, watch: Any) -> None:
    set_up(path)
    watching = await watch(path)
    execute(path, "insert into gatekeeper_change (kind, key) values ('z', 'a'), ('s', 'b')")
    assert await watching.turn() == ["all", "s:b"]


async def test_a_token_that_is_no_text_hides_no_other(path: Path, watch: Any) -> None:
    set_up(path)
    watching = await watch(path)
    execute(path, "insert into session select 'x', expiresAt, cast(x'ff' as text), '', '', '', '', 'ada' from session")
    execute(path, 'delete from "session"')
    told = await watching.turn()
    assert "s:a" in told
    assert len(told) == 2


async def test_closing_twice_and_opening_again(path: Path, watch: Any) -> None:
    watching = await watch(path)
    await watching.channel.close()
    await watching.channel.close()
    assert "not open" in repr(watching.channel)
    with pytest.raises(StoreUnavailable, match="not open"):
        await watching.turn()
    await watching.open()
    await watching.open()
    revoke(path)
    await watching.turn()
    assert watching.reconciled == 1


async def test_a_turn_that_is_cancelled_lets_go(path: Path, watch: Any) -> None:
    watching = await watch(path, busy_s=0.0)
    turn = asyncio.ensure_future(watching.turn())
    await asyncio.sleep(0)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    with pytest.raises(StoreUnavailable, match="not open"):
        await watching.turn()


async def test_it_holds_no_lock_between_turns(path: Path, watch: Any) -> None:
    watching = await watch(path)
    await watching.turn()
    with writer(path) as connection:
        connection.execute("pragma busy_timeout = 0")
        connection.execute("begin exclusive")
        connection.execute("rollback")


async def test_the_command_is_named_once(path: Path, watch: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watching = await watch(path)
    await watching.open()
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: sessions in memory are read again after commits; `gatekeeper migrate --feed` makes that cheaper"
    ]


async def test_a_schema_that_files_do_not_have_is_unavailable(path: Path, watch: Any) -> None:
    with pytest.raises(StoreUnavailable, match="a SQLite file has no schemas"):
        await watch(path, Tables(session=Mapped("auth.session")))


async def test_a_feed_runs_on_it(path: Path) -> None:
    """With a clock of the test's: a lease is held after the first turn, and lost when the file is gone."""
    set_up(path)
    lease, now = Lease(), [100.0]
    asked: asyncio.Queue[float] = asyncio.Queue()
    go_on: asyncio.Queue[None] = asyncio.Queue()

    async def sleep(delay_s: float) -> None:
        await asked.put(delay_s)
        await go_on.get()

    watching = Watching(path)
    feed = Feed(watching.channel, lease, lambda: now[0], sleep)
    running = asyncio.ensure_future(feed.run(watching.listener))
    try:
        assert await asked.get() == pytest.approx(0.2)
        assert (lease.is_held(100.5), lease.covered_since, watching.listener.took()) == (True, 100.0, ["all"])
        revoke(path)
        go_on.put_nowait(None)
        await asked.get()
        assert watching.listener.took() == ["s:a"]
        path.unlink()
        go_on.put_nowait(None)
        await asked.get()
        assert (lease.is_held(100.0), lease.covered_since) == (False, None)
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_reading_again_that_takes_too_long_is_warned_of_once(
    path: Path, watch: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = await watch(path)
    sign_in(path, "b")
    await watching.turn()
    assert "saves that" not in caplog.text
    monkeypatch.setattr("gatekeeper.stores.feeds.sqlite.LOST_S", -1.0)
    for token in ("c", "d"):
        sign_in(path, token)
        await watching.turn()
    assert caplog.text.count("saves that") == 1
    assert watching.reconciled == 3
