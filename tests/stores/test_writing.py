"""What is written to each kind of store: one suite for all of them, on real ones, and what only some can do."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.core.errors import GatekeeperError, StoreError, StoreUnavailable
from gatekeeper.core.model import Session
from gatekeeper.stores import redis_writing, tables_of
from gatekeeper.stores.redis import RedisStore
from gatekeeper.stores.redis_writing import RedisWriter
from gatekeeper.stores.sql import SqlStore
from gatekeeper.stores.sql_writing import SqlWriter
from gatekeeper.stores.sqlite import SqliteFile
from gatekeeper.stores.writing import SessionWriter, open_writer
from tests.better_auth_db import execute, iso
from tests.better_auth_redis import Storage, session_fields, stored, user_fields
from tests.servers.labs import MariadbLab, PostgresLab
from tests.servers.redis import RedisServer
from tests.stores.contract import CREATED_MS, EXPIRES_MS, messages_of
from tests.stores.opening import open_on, settings_on
from tests.stores.places import (
    BehindOnlyPlace,
    BothPlace,
    FrontOnlyPlace,
    Place,
    RedisPlace,
    SerialPlace,
    ServerPlace,
    SqlitePlace,
    UuidPlace,
)

NOW_MS = CREATED_MS + 90_000_000
LATER_MS = NOW_MS + 172_800_000
TWO_DAYS_S = 172_800


def _lab(kind: str, request: pytest.FixtureRequest) -> Any:
    server = request.getfixturevalue(f"{kind}_server")
    return PostgresLab(server) if kind == "postgres" else MariadbLab(server)


PLACES: dict[str, Callable[[pytest.FixtureRequest, Path], Place]] = {
    "sqlite": lambda _request, path: SqlitePlace(path),
    "postgres": lambda request, _path: ServerPlace(_lab("postgres", request)),
    "postgres-uuid": lambda request, _path: UuidPlace(_lab("postgres", request), "core+generateId=uuid"),
    "postgres-serial": lambda request, _path: SerialPlace(_lab("postgres", request), "core+generateId=serial"),
    "mariadb": lambda request, _path: ServerPlace(_lab("mariadb", request)),
    "mariadb-serial": lambda request, _path: SerialPlace(_lab("mariadb", request), "core+generateId=serial"),
    "redis": lambda request, _path: RedisPlace(request.getfixturevalue("redis").url),
    "both": lambda request, path: BothPlace(path, request.getfixturevalue("redis").url),
    "front-only": lambda request, path: FrontOnlyPlace(path, request.getfixturevalue("redis").url),
    "behind-only": lambda request, path: BehindOnlyPlace(path, request.getfixturevalue("redis").url),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "auth.db"


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest, path: Path) -> Place:
    found = PLACES[request.param](request, path)
    await found.create()
    return found


@pytest.fixture
async def writer(place: Place) -> AsyncIterator[SessionWriter]:
    found = open_writer(place.settings())
    yield found
    await found.close()


async def session_of(place: Place, token: str) -> Session:
    found = await place.read(token)
    assert found is not None
    return found


async def test_sessions_are_listed_newest_first(place: Place, writer: SessionWriter) -> None:
    tokens = [await place.sign_in(number) for number in (0, 1, 2)]
    await place.sign_in(3, user=1)
    listed = await writer.list_sessions(None, limit=10)
    assert [record.session.id for record in listed] == [str(place.session_id(number)) for number in (3, 2, 1, 0)]
    assert [record.user.email for record in listed] == [place.emails[1], *[place.emails[0]] * 3]
    assert listed[1].session == await place.read(tokens[2])
    assert await writer.list_sessions(None, limit=2) == listed[:2]


async def test_sessions_of_a_user_are_listed_by_id_and_by_address(place: Place, writer: SessionWriter) -> None:
    await place.sign_in(0)
    await place.sign_in(1, user=1)
    for name in (str(place.user_ids[1]), "grace@example.test", "Grace@Example.TEST"):
        (found,) = await writer.list_sessions(name, limit=10)
        assert found.session.id == str(place.session_id(1))
    for name in ("nobody", "nobody@example.test", "", "%", "*", "a\0b", "\ud800", "\ud800@x"):
        assert list(await writer.list_sessions(name, limit=10)) == []


async def test_expired_sessions_are_listed(place: Place, writer: SessionWriter) -> None:
    await place.sign_in(0, expiresAt=CREATED_MS - 1)
    (found,) = await writer.list_sessions(None, limit=10)
    assert found.session.expires_at_ms == CREATED_MS - 1


async def test_a_session_is_found_by_token_and_by_id(place: Place, writer: SessionWriter) -> None:
    await place.sign_in(0)
    token = await place.sign_in(1)
    session = await place.read(token)
    assert session is not None
    assert await writer.find(token) == await writer.find(str(place.session_id(1))) == session
    for name in ("", "unknown", token[:-1], token.upper(), "a\0b", "\ud800", str(place.user_ids[0])):
        assert await writer.find(name) is None


async def test_a_revoked_session_is_gone_and_no_other(place: Place, writer: SessionWriter) -> None:
    one, two, three = [await place.sign_in(number) for number in (0, 1, 2)]
    sessions = [await session_of(place, token) for token in (one, two)]
    assert await writer.revoke(sessions) == 2
    assert [await place.read(token) for token in (one, two)] == [None, None]
    assert await place.read(three) is not None
    assert [record.session.token for record in await writer.list_sessions(None, limit=9)] == [three]
    assert await writer.revoke(sessions) == 0
    assert await writer.revoke([]) == 0


async def test_all_sessions_of_a_user_are_revoked(place: Place, writer: SessionWriter) -> None:
    mine = [await place.sign_in(number) for number in (0, 1, 2)]
    other = await place.sign_in(3, user=1)
    user_id = str(place.user_ids[0])
    assert await writer.revoke_all(user_id, now_ms=NOW_MS, expires_in_s=TWO_DAYS_S) == 3
    assert [await place.read(token) for token in mine] == [None] * 3
    assert await place.read(other) is not None
    for name in (user_id, "unknown", "a\0b", "\ud800"):
        assert await writer.revoke_all(name, now_ms=NOW_MS, expires_in_s=TWO_DAYS_S) == 0


async def test_an_extended_session_has_new_dates_and_is_otherwise_the_same(place: Place, writer: SessionWriter) -> None:
    token, other = await place.sign_in(0), await place.sign_in(1)
    before, untouched = await session_of(place, token), await session_of(place, other)
    assert await writer.extend(before, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    after = await session_of(place, token)
    assert (after.expires_at_ms, after.updated_at_ms) == (LATER_MS, NOW_MS)
    assert (after.id, after.user_id, after.created_at_ms) == (before.id, before.user_id, before.created_at_ms)
    assert await session_of(place, other) == untouched


async def test_a_session_is_extended_from_what_it_was_only(place: Place, writer: SessionWriter) -> None:
    before = await session_of(place, await place.sign_in(0))
    assert await writer.extend(before, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    assert not await writer.extend(before, expires_at_ms=LATER_MS + 1, now_ms=NOW_MS + 1)
    after = await session_of(place, before.token)
    assert after.expires_at_ms == LATER_MS
    assert await writer.extend(after, expires_at_ms=LATER_MS + 2, now_ms=NOW_MS + 2)


async def test_of_two_at_once_one_extends(place: Place, writer: SessionWriter) -> None:
    before = await session_of(place, await place.sign_in(0))
    other = open_writer(place.settings())
    both = [
        each.extend(before, expires_at_ms=LATER_MS + number, now_ms=NOW_MS)
        for number, each in enumerate((writer, other, writer, other))
    ]
    won = await asyncio.gather(*both)
    await other.close()
    assert sorted(won) == [False, False, False, True]
    assert (await session_of(place, before.token)).expires_at_ms == LATER_MS + won.index(True)


async def test_a_revoked_session_is_not_extended_back_to_life(place: Place, writer: SessionWriter) -> None:
    one, two = [await session_of(place, await place.sign_in(number)) for number in (0, 1)]
    await writer.revoke([one])
    await writer.revoke_all(two.user_id, now_ms=NOW_MS, expires_in_s=TWO_DAYS_S)
    for session in (one, two):
        assert not await writer.extend(session, expires_at_ms=LATER_MS, now_ms=NOW_MS)
        assert await place.read(session.token) is None
        assert await writer.find(session.token) is None
    assert list(await writer.list_sessions(None, limit=9)) == []


async def test_odd_tokens_write_nothing(place: Place, writer: SessionWriter) -> None:
    session = await session_of(place, await place.sign_in(0))
    for odd in ("a\0b", "\ud800", "' or '1'='1", "*", "%"):
        changed = Session(odd, odd, odd, EXPIRES_MS, CREATED_MS, CREATED_MS, None, None)
        assert await writer.revoke([changed]) == 0
        assert not await writer.extend(changed, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    assert await place.read(session.token) == session


async def test_a_writer_closes_twice_and_is_unavailable_then(place: Place, writer: SessionWriter) -> None:
    session = await session_of(place, await place.sign_in(0))
    await writer.close()
    await writer.close()
    for work in (writer.revoke([session]), writer.extend(session, expires_at_ms=LATER_MS, now_ms=NOW_MS)):
        with pytest.raises(StoreUnavailable) as caught:
            await work
        assert session.token not in messages_of(caught.value)


@pytest.mark.parametrize("place", ["postgres", "mariadb", "redis"], indirect=True)
async def test_a_restart_of_the_server_between_two_writes_fails_none(
    place: Any, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("redis") if isinstance(place, RedisPlace) else place.lab.server
    writer = open_writer(place.settings())
    one, two = [await session_of(place, await place.sign_in(number)) for number in (0, 1)]
    assert await writer.extend(one, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    server.stop()
    with pytest.raises(StoreUnavailable) as caught:
        await writer.revoke([one])
    assert one.token not in messages_of(caught.value)
    server.start()
    assert await writer.extend(two, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    assert await writer.revoke([one]) == 1
    await writer.close()


def test_the_app_itself_is_not_written_to() -> None:
    with pytest.raises(GatekeeperError, match="the app owns these sessions; revoke them there"):
        open_writer(settings_on("http://127.0.0.1:9/api/auth"))


# SQLite


def stored_dates(path: Path) -> tuple[object, object]:
    with closing(sqlite3.connect(path)) as connection:
        found: tuple[object, object] = connection.execute('select expiresAt, updatedAt from "session"').fetchone()
        return found


async def sqlite_session(path: Path) -> tuple[SqlitePlace, Session]:
    place = SqlitePlace(path)
    await place.create()
    return place, await session_of(place, await place.sign_in(0))


async def test_sqlite_dates_are_written_as_better_auth_writes_them(path: Path) -> None:
    place, session = await sqlite_session(path)
    writer = open_writer(place.settings())
    assert await writer.extend(session, expires_at_ms=2_000_000_000_007, now_ms=1_900_000_000_120)
    await writer.close()
    assert stored_dates(path) == ("2033-05-18T03:33:20.007Z", "2030-03-17T17:46:40.120Z")


@pytest.mark.parametrize("spelling", ["2026-09-23 14:13:20+00:00", "2026-09-23T16:13:20.000999+02:00"])
async def test_a_date_in_another_spelling_is_the_same_date(path: Path, spelling: str) -> None:
    place, session = await sqlite_session(path)
    execute(path, 'update "session" set expiresAt = ?', (spelling,))
    session = await session_of(place, session.token)
    writer = open_writer(place.settings())
    assert await writer.extend(session, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    await writer.close()
    assert stored_dates(path) == (iso(LATER_MS), iso(NOW_MS))


async def test_what_is_no_date_is_not_extended(path: Path) -> None:
    place, session = await sqlite_session(path)
    execute(path, 'update "session" set expiresAt = ?', (EXPIRES_MS,))
    writer = open_writer(place.settings())
    assert not await writer.extend(session, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    await writer.close()
    assert stored_dates(path)[0] == EXPIRES_MS


async def test_sessions_that_cannot_be_read_are_revoked_with_all(path: Path) -> None:
    place, session = await sqlite_session(path)
    execute(path, 'update "session" set expiresAt = 1')
    writer = open_writer(place.settings())
    assert await writer.revoke_all(session.user_id, now_ms=NOW_MS, expires_in_s=TWO_DAYS_S) == 1
    await writer.close()


async def test_a_token_that_was_given_to_another_session_is_left_alone(path: Path) -> None:
    place, session = await sqlite_session(path)
    execute(path, 'update "session" set id = ?', ("another",))
    writer = open_writer(place.settings())
    assert not await writer.extend(session, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    assert await writer.revoke([session]) == 0
    await writer.close()
    assert await place.read(session.token) is not None


async def test_a_file_that_is_missing_is_never_made(path: Path) -> None:
    place, session = await sqlite_session(path)
    writer = open_writer(place.settings())
    path.unlink()
    with pytest.raises(StoreUnavailable):
        await writer.revoke([session])
    await writer.close()
    assert not path.exists()


async def test_the_file_is_opened_for_writing_with_the_first_write(path: Path) -> None:
    place, session = await sqlite_session(path)
    writer = open_writer(place.settings())
    assert isinstance(writer, SqlWriter)
    assert await writer.find(session.token) == session
    assert "not open" in repr(writer)
    assert await writer.revoke([session]) == 1
    assert "not open" not in repr(writer)
    await writer.close()


async def test_a_file_that_another_one_is_writing_to_is_unavailable(path: Path) -> None:
    place, session = await sqlite_session(path)
    tables = tables_of(place.settings())
    reader = SqlStore(SqliteFile(path), tables)
    writer = SqlWriter(reader, SqlStore(SqliteFile(path, writable=True), tables, timeout_s=1), tables)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("begin immediate")
        with pytest.raises(StoreUnavailable, match="locked"):
            await writer.extend(session, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    await writer.close()
    assert await place.read(session.token) == session


async def test_what_only_reads_cannot_write(path: Path) -> None:
    _, session = await sqlite_session(path)
    tables = tables_of(settings_on(f"sqlite:///{path}"))
    reader = SqlStore(SqliteFile(path), tables)
    writer = SqlWriter(reader, reader, tables)
    with pytest.raises(StoreUnavailable, match="readonly"):
        await writer.revoke([session])
    await writer.close()


# Names and zones


async def test_every_name_may_be_another_one(path: Path) -> None:
    columns = {
        "session": {"expiresAt": "expires_at", "userId": "user_id", "updatedAt": "the update", "id": "key"},
        "user": {"id": "number", "email": "mail"},
    }
    place = SqlitePlace(path, tables={"session": "the sessions", "user": "people"}, columns=columns)
    await place.create()
    tokens = [await place.sign_in(number) for number in (0, 1)]
    for table, renamed in columns.items():
        for old, new in renamed.items():
            execute(path, f'alter table "{table}" rename column "{old}" to "{new}"')
    execute(path, 'alter table "session" rename to "the sessions"')
    execute(path, 'alter table "user" rename to "people"')
    writer = open_writer(place.settings())
    assert len(await writer.list_sessions("ada@example.test", limit=9)) == 2
    session = await writer.find("session-0")
    assert session is not None
    assert await writer.extend(session, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    assert (await session_of(place, tokens[0])).updated_at_ms == NOW_MS
    assert await writer.revoke([session]) == 1
    assert await writer.revoke_all(session.user_id, now_ms=NOW_MS, expires_in_s=TWO_DAYS_S) == 1
    await writer.close()


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
async def test_a_schema_goes_before_the_name(place: ServerPlace) -> None:
    token = await place.sign_in(0)
    await place.lab.script('create schema "auth"; alter table "session" set schema "auth"')
    place.store["tables"] = {"session": "auth.session"}
    writer = open_writer(place.settings())
    session = await session_of(place, token)
    assert await writer.extend(session, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    assert await writer.revoke([session]) == 1
    await writer.close()


@pytest.mark.parametrize(("place", "column"), [("postgres", "timestamp"), ("mariadb", None)], indirect=["place"])
async def test_dates_without_a_zone_are_in_that_of_the_url(place: ServerPlace, column: str | None) -> None:
    token = await place.sign_in(0)
    if column is not None:
        for name in ("expiresAt", "updatedAt"):
            await place.lab.execute(f'alter table "session" alter column "{name}" type {column}')
    place.store["url"] += "?timezone=Europe/Berlin"
    writer = open_writer(place.settings())
    session = await session_of(place, token)
    assert await writer.extend(session, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    await writer.close()
    after = await session_of(place, token)
    assert (after.expires_at_ms, after.updated_at_ms) == (LATER_MS, NOW_MS)
    store = open_on(place.lab.url)
    assert isinstance(store, SqlStore)
    in_utc = await store.read_session(session.token)  # type: ignore[arg-type]
    await store.close()
    assert in_utc is not None
    assert in_utc.session.expires_at_ms - LATER_MS == 2 * 3_600_000  # the clock of Berlin in September


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
async def test_a_date_that_is_finer_than_a_millisecond_is_extended(place: ServerPlace, writer: SessionWriter) -> None:
    token = await place.sign_in(0)
    await place.lab.execute('update "session" set "expiresAt" = "expiresAt" + interval \'7 microseconds\'')
    assert await writer.extend(await session_of(place, token), expires_at_ms=LATER_MS, now_ms=NOW_MS)


# Redis


@pytest.fixture
async def redis_writer(redis: RedisServer) -> AsyncIterator[RedisWriter]:
    found = RedisWriter(redis.url, RedisStore(redis.url))
    yield found
    await found.close()


async def redis_sessions(storage: Storage, redis: RedisServer, count: int = 2) -> list[Session]:
    place = RedisPlace(redis.url)
    await place.create()
    return [await session_of(place, await place.sign_in(number)) for number in range(count)]


def ttl(storage: Storage, key: str) -> int:
    found: int = storage.run("TTL", "better-auth:" + key)
    return found


async def test_redis_is_left_as_better_auth_would_leave_it(
    redis: RedisServer, storage: Storage, redis_writer: RedisWriter
) -> None:
    one, two = await redis_sessions(storage, redis)
    listed = f"active-sessions-{one.user_id}"
    assert await redis_writer.extend(one, expires_at_ms=LATER_MS, now_ms=NOW_MS + 1)
    dates = {"createdAt": CREATED_MS, "updatedAt": NOW_MS + 1, "expiresAt": LATER_MS}
    fields = session_fields(id=one.id, token=one.token, userId=one.user_id, **dates)
    written = json.loads(storage.get(one.token) or "")
    assert written == {"session": fields, "user": user_fields(id=one.user_id)}
    assert list(written["session"])[:4] == ["id", "ipAddress", "userAgent", "expiresAt"]  # the order stays, too
    assert storage.get(listed) == (
        f'[{{"token":"{two.token}","expiresAt":{EXPIRES_MS}}},{{"token":"{one.token}","expiresAt":{LATER_MS}}}]'
    )
    assert ttl(storage, one.token) in (172_799, 172_798)
    assert ttl(storage, listed) in (172_799, 172_798)
    await redis_writer.revoke([one])
    assert storage.get(listed) == f'[{{"token":"{two.token}","expiresAt":{EXPIRES_MS}}}]'
    assert 0 < ttl(storage, listed) < 172_800
    await redis_writer.revoke([two])
    assert storage.run("KEYS", "*") == []


async def test_revoking_all_leaves_the_date_that_better_auth_leaves(
    redis: RedisServer, storage: Storage, redis_writer: RedisWriter
) -> None:
    (one,) = await redis_sessions(storage, redis, 1)
    before = f"revoked-sessions-before-{one.user_id}"
    for now_ms, kept_ms, expires_in_s, ttl_s in (
        (NOW_MS, NOW_MS, TWO_DAYS_S, TWO_DAYS_S),
        (NOW_MS - 1, NOW_MS, 60, 86_400),  # never moved backwards
    ):
        await redis_writer.revoke_all(one.user_id, now_ms=now_ms, expires_in_s=expires_in_s)
        assert storage.run("KEYS", "*") == [f"better-auth:{before}".encode()]
        assert storage.get(before) == str(kept_ms)
        assert ttl(storage, before) in (ttl_s, ttl_s - 1)


async def test_a_session_whose_key_outlived_its_revocation_is_not_extended(
    redis: RedisServer, storage: Storage, redis_writer: RedisWriter
) -> None:
    (one,) = await redis_sessions(storage, redis, 1)
    kept = storage.get(one.token)
    storage.revoke_before(one.user_id, CREATED_MS + 1)
    assert not await redis_writer.extend(one, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    assert storage.get(one.token) == kept


async def test_what_is_not_understood_is_kept_byte_for_byte(
    redis: RedisServer, storage: Storage, redis_writer: RedisWriter
) -> None:
    session, user = session_fields(token="t" * 32, userId="user_1", plan="ü"), user_fields(id="user_1", seen=1.50)
    odd_user = json.dumps(user, indent=1, ensure_ascii=True)
    storage.set("t" * 32, f'{{"more":[1, 2],"user": {odd_user},"session":{json.dumps(session)}}}')
    found = await redis_writer.find("t" * 32)
    assert found is not None
    assert await redis_writer.extend(found, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    written = storage.get("t" * 32) or ""
    assert odd_user in written
    assert '"more":[1, 2]' in written
    assert json.loads(written)["session"]["plan"] == "ü"


@pytest.mark.parametrize("text", ["no list", '{"token":1}', '[{"token":1}]', "null"])
async def test_a_list_that_is_none_is_left_alone(
    redis: RedisServer, storage: Storage, redis_writer: RedisWriter, text: str
) -> None:
    (one,) = await redis_sessions(storage, redis, 1)
    listed = f"active-sessions-{one.user_id}"
    storage.set(listed, text)
    assert await redis_writer.extend(one, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    assert await redis_writer.revoke([one]) == 1
    assert storage.get(listed) == text
    assert storage.get(one.token) is None


async def test_a_session_is_revoked_whatever_its_list_is(
    redis: RedisServer, storage: Storage, redis_writer: RedisWriter
) -> None:
    (one,) = await redis_sessions(storage, redis, 1)
    key = f"better-auth:active-sessions-{one.user_id}"
    storage.run("DEL", key)
    storage.run("HSET", key, "a", "b")
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        await redis_writer.extend(one, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    assert await redis_writer.revoke([one]) == 1
    assert storage.get(one.token) is None


async def test_sessions_that_are_revoked_at_once_all_leave_the_list(
    redis: RedisServer, storage: Storage, redis_writer: RedisWriter
) -> None:
    sessions = await redis_sessions(storage, redis, 6)
    assert await asyncio.gather(*(redis_writer.revoke([session]) for session in sessions)) == [1] * 6
    assert storage.run("KEYS", "*") == []


async def test_keys_are_those_with_the_prefix_to_the_letter(redis: RedisServer) -> None:
    prefixes = ("a*:", "ab:", "a\\*:", "[a]*?:")
    for number, prefix in enumerate(prefixes):
        session = session_fields(token=f"token-{number}", userId=f"user_{number}")
        Storage(redis.url, prefix).sign_in(session, user_fields(id=f"user_{number}"))
    for number, prefix in enumerate(prefixes):
        url = f"{redis.url}?prefix=" + prefix.replace("*", "%2A").replace("?", "%3F").replace("\\", "%5C")
        writer = RedisWriter(url, RedisStore(url))
        (found,) = await writer.list_sessions(None, limit=9)
        assert found.session.token == f"token-{number}"
        assert await writer.find(f"id-of-token-{number}") == found.session
        await writer.close()


async def test_other_keys_are_no_sessions(storage: Storage, redis_writer: RedisWriter) -> None:
    storage.set("127.0.0.1|/sign-in", "3")
    storage.set("verification:x", '{"value":1}')
    storage.run("HSET", "better-auth:hash", "a", "b")
    storage.run("SETEX", b"better-auth:\xff\xfe", 60, "x")
    assert await redis_writer.list_sessions(None, limit=9) == []


async def test_among_too_many_keys_sessions_are_not_looked_for(
    redis: RedisServer, storage: Storage, redis_writer: RedisWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = await redis_sessions(storage, redis, 1)
    monkeypatch.setattr(redis_writing, "SCAN_LIMIT_KEYS", 1)
    with pytest.raises(StoreError, match="more than 1 keys"):
        await redis_writer.list_sessions(None, limit=9)
    assert await redis_writer.find(one.token) == one
    assert len(await redis_writer.list_sessions(one.user_id, limit=9)) == 1


async def test_many_sessions_are_listed(storage: Storage, redis_writer: RedisWriter) -> None:
    commands = []
    for number in range(2500):
        fields = session_fields(token=f"token-{number}", userId="user_1", createdAt=CREATED_MS + number)
        commands += [f"better-auth:token-{number}", stored(fields, user_fields(id="user_1"))]
    storage.run("MSET", *commands)
    found = await redis_writer.list_sessions("ada@example.test", limit=3)
    assert [record.session.token for record in found] == ["token-2499", "token-2498", "token-2497"]
    assert await redis_writer.find("id-of-token-1234") is not None


async def test_the_documented_rights_are_enough(redis: RedisServer, storage: Storage) -> None:
    page = (Path(__file__).parents[2] / "docs" / "stores.md").read_text().partition("## Writing")[2]
    rights = next(line for line in page.splitlines() if "ACL SETUSER" in line).split()
    one, two, three = await redis_sessions(storage, redis, 3)
    storage.run(*rights)
    url = redis.url.replace("redis://", "redis://gate:password@")
    writer = RedisWriter(url, RedisStore(url))
    assert len(await writer.list_sessions(None, limit=9)) == 3
    assert await writer.extend(one, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    assert await writer.revoke([two]) == 1
    assert await writer.revoke_all(three.user_id, now_ms=NOW_MS, expires_in_s=TWO_DAYS_S) == 2
    await writer.close()


async def test_a_user_who_may_not_write_is_told_so(redis: RedisServer, storage: Storage) -> None:
    (one,) = await redis_sessions(storage, redis, 1)
    storage.run("ACL", "SETUSER", "reader", "on", ">secret", "~better-auth:*", "+getrange", "+select")
    url = redis.url.replace("redis://", "redis://reader:secret@")
    writer = RedisWriter(url, RedisStore(url))
    with pytest.raises(StoreUnavailable, match="eval") as caught:
        await writer.revoke([one])
    await writer.close()
    assert one.token not in messages_of(caught.value)


# Redis in front of a database


async def test_in_front_of_a_database_both_are_written(path: Path, redis: RedisServer) -> None:
    place = BothPlace(path, redis.url)
    await place.create()
    writer = open_writer(place.settings())
    session = await session_of(place, await place.sign_in(0))
    assert await writer.extend(session, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    assert stored_dates(path) == (iso(LATER_MS), iso(NOW_MS))
    assert (await session_of(place.front, session.token)).expires_at_ms == LATER_MS
    assert await writer.revoke([session]) == 1
    await writer.close()
    assert await place.front.read(session.token) is None
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute('select count(*) from "session"').fetchone() == (0,)


async def test_a_row_that_differs_from_redis_is_left_alone(path: Path, redis: RedisServer) -> None:
    place = BothPlace(path, redis.url)
    await place.create()
    writer = open_writer(place.settings())
    session = await session_of(place, await place.sign_in(0))
    execute(path, 'update "session" set expiresAt = ?', (iso(5),))
    assert await writer.extend(session, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    await writer.close()
    assert stored_dates(path)[0] == iso(5)
    assert (await session_of(place, session.token)).expires_at_ms == LATER_MS


async def test_a_row_of_a_user_whose_sessions_were_all_revoked_is_not_extended(path: Path, redis: RedisServer) -> None:
    place = BehindOnlyPlace(path, redis.url)
    await place.create()
    session = await session_of(place, await place.sign_in(0))
    place.front.storage.revoke_before(session.user_id, NOW_MS)
    writer = open_writer(place.settings())
    assert not await writer.extend(session, expires_at_ms=LATER_MS, now_ms=NOW_MS)
    assert list(await writer.list_sessions(None, limit=9)) == []
    await writer.close()
    assert stored_dates(path)[0] == iso(EXPIRES_MS)


async def test_without_redis_the_row_is_not_revoked(path: Path, redis: RedisServer) -> None:
    place = BothPlace(path, redis.url)
    await place.create()
    session = await session_of(place, await place.sign_in(0))
    writer = open_writer(place.settings())
    redis.stop()
    with pytest.raises(StoreUnavailable):
        await writer.revoke([session])
    await writer.close()
    assert stored_dates(path)[0] == iso(EXPIRES_MS)
