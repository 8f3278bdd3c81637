"""`stores.secondary`: Better Auth with Redis in front of a database, on real ones of both."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.core.errors import MissingTable, StoreUnavailable
from gatekeeper.core.model import SessionToken
from gatekeeper.stores.protocol import SessionStore
from gatekeeper.stores.redis import RedisStore
from gatekeeper.stores.secondary import SecondaryStore
from tests.better_auth_db import add_session, add_user, create_database, execute, insert
from tests.better_auth_redis import CREATED_MS, EXPIRES_MS, Storage, session_fields, stored, user_fields
from tests.servers.redis import RedisServer
from tests.stores.contract import OTHER, TOKEN, StoreContract
from tests.stores.opening import open_on

USER = "user_1"
DATES = ("expiresAt", "createdAt", "updatedAt")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "auth.db"


Open = Callable[..., SecondaryStore]


@pytest.fixture
async def opened(redis: RedisServer, path: Path) -> AsyncIterator[Open]:
    """Opens stores on both, and closes them after the test."""
    stores: list[SecondaryStore] = []

    def open_both(**tables: str) -> SecondaryStore:
        behind = open_on(f"sqlite:///{path}", tables=tables)
        stores.append(SecondaryStore(RedisStore(redis.url), behind))
        return stores[-1]

    yield open_both
    for store in stores:
        await store.close()


class SecondaryContract(StoreContract):
    variant = "core"
    in_redis = True
    in_database = True

    @pytest.fixture
    async def store(self, redis: RedisServer, path: Path, opened: Open) -> SessionStore:
        self.server = redis
        self.path = path
        self.storage = Storage(redis.url)
        self.users: dict[str, dict[str, Any]] = {}
        create_database(path, self.variant)
        return opened()

    async def insert_user(self, **fields: Any) -> None:
        user = self.users[fields["id"]] = user_fields(**fields)
        insert(self.path, "user", {**user, "emailVerified": int(user["emailVerified"])})

    async def insert_session(self, **fields: Any) -> None:
        session = session_fields(**fields)
        if self.in_redis:
            self.storage.sign_in(session, self.users[session["userId"]])
        if self.in_database:
            insert(self.path, "session", session)

    async def delete_session(self, token: str) -> None:
        self.storage.revoke(token)
        if self.in_database:
            execute(self.path, 'delete from "session" where "token" = ?', (token,))

    async def break_store(self) -> None:
        self.server.stop()

    async def repair_store(self) -> None:
        self.server.start()


class TestKeptInBoth(SecondaryContract):
    pass


class TestGoneFromRedis(SecondaryContract):
    """Redis has dropped every key: evicted, or restarted without its data."""

    in_redis = False


class TestDatabaseAway(SecondaryContract):
    """A miss in Redis, and a database that cannot answer."""

    in_redis = False

    async def break_store(self) -> None:
        self.path.rename(self.path.with_suffix(".away"))

    async def repair_store(self) -> None:
        self.path.with_suffix(".away").rename(self.path)


class TestKeptInRedisAlone(SecondaryContract):
    """Without `storeSessionInDatabase` Better Auth makes no table for sessions."""

    variant = "core+secondaryStorage"
    in_database = False


def sign_in(storage: Storage | None, path: Path | None, token: str = TOKEN, created_ms: int = CREATED_MS) -> None:
    if storage is not None:
        storage.sign_in(session_fields(token=token, userId=USER, createdAt=created_ms), user_fields(id=USER))
    if path is not None:
        add_session(path, user_id=USER, token=token, created_at_ms=created_ms, expires_at_ms=EXPIRES_MS)


@pytest.fixture
def database(path: Path) -> Path:
    """A database with one user and no session."""
    create_database(path)
    add_user(path, id=USER, name="In the database", created_at_ms=CREATED_MS)
    return path


async def name_of(store: SessionStore, token: str = TOKEN) -> str | None:
    record = await store.read_session(SessionToken(token))
    return None if record is None else record.user.name


# Who is asked


async def test_redis_is_asked_first(storage: Storage, database: Path, opened: Open) -> None:
    sign_in(storage, database)
    assert await name_of(opened()) == "Ada Lovelace"


async def test_the_database_is_asked_for_what_redis_does_not_have(
    storage: Storage, database: Path, opened: Open
) -> None:
    sign_in(storage, database)
    storage.delete(TOKEN)
    assert await name_of(opened()) == "In the database"


async def test_a_session_in_redis_needs_no_database(storage: Storage, opened: Open) -> None:
    """Its file does not exist."""
    sign_in(storage, None)
    store = opened()
    assert await name_of(store) == "Ada Lovelace"
    with pytest.raises(StoreUnavailable, match="No such file"):
        await store.read_session(OTHER)
    with pytest.raises(StoreUnavailable, match="No such file"):
        await store.check()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("garbage", id="garbage"),
        pytest.param("null", id="null"),
        pytest.param(stored(session_fields(token=OTHER, userId=USER), user_fields(id=USER)), id="of-another-token"),
    ],
)
async def test_what_redis_has_but_cannot_be_read_is_not_looked_for_behind(
    storage: Storage, database: Path, opened: Open, value: str
) -> None:
    """As in the app: only an absent key sends it to the database."""
    sign_in(None, database)
    storage.set(TOKEN, value)
    assert await name_of(opened()) is None


async def test_an_empty_text_in_redis_is_an_absent_key(storage: Storage, database: Path, opened: Open) -> None:
    sign_in(None, database)
    storage.set(TOKEN, "")
    assert await name_of(opened()) == "In the database"


# Revocation


@pytest.mark.parametrize(
    ("before", "lives"),
    [
        pytest.param(CREATED_MS, True, id="made-in-that-millisecond"),
        pytest.param(CREATED_MS + 1, False, id="made-before"),
        pytest.param("garbage", False, id="cannot-be-read"),
    ],
)
@pytest.mark.parametrize("in_redis", [True, False])
async def test_revoking_all_counts_for_rows_too(
    storage: Storage, database: Path, opened: Open, before: object, lives: bool, in_redis: bool
) -> None:
    sign_in(storage if in_redis else None, database)
    storage.revoke_before(USER, before)
    assert (await name_of(opened()) is not None) is lives


async def test_a_row_that_was_made_after_revoking_all_lives(storage: Storage, database: Path, opened: Open) -> None:
    storage.revoke_before(USER, CREATED_MS + 1)
    sign_in(None, database, TOKEN)
    sign_in(None, database, OTHER, created_ms=CREATED_MS + 2)
    store = opened()
    assert await name_of(store, TOKEN) is None
    assert await name_of(store, OTHER) == "In the database"


async def test_without_redis_the_database_is_not_believed(
    redis: RedisServer, storage: Storage, database: Path, opened: Open
) -> None:
    """The row is still there, and that it was revoked is written in Redis alone."""
    sign_in(None, database)
    storage.revoke_before(USER, CREATED_MS + 1)
    store = opened()
    redis.stop()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="Connection refused"):
            await store.read_session(TOKEN)
    with pytest.raises(StoreUnavailable, match="Connection refused"):
        await store.check()
    redis.start()
    assert await name_of(store) is None


async def test_redis_that_goes_while_the_database_is_asked_is_an_outage(
    redis: RedisServer, storage: Storage, database: Path
) -> None:
    sign_in(None, database)
    behind = open_on(f"sqlite:///{database}", pool=1)
    read = behind.read_session

    async def read_and_lose_redis(token: SessionToken, client_address: str | None = None) -> Any:
        redis.stop()
        return await read(token)

    behind.read_session = read_and_lose_redis  # type: ignore[method-assign]
    store = SecondaryStore(RedisStore(redis.url), behind)
    with pytest.raises(StoreUnavailable, match="Connection refused"):
        await store.read_session(TOKEN)
    await store.close()


async def test_of_several_read_at_once_each_is_looked_for_where_it_may_be(
    storage: Storage, database: Path, opened: Open
) -> None:
    add_user(database, id="user_2", email="grace@example.test", name="Grace", created_at_ms=CREATED_MS)
    sign_in(storage, database, "both")
    sign_in(None, database, "row")
    sign_in(None, database, "unreadable")
    storage.set("unreadable", "garbage")
    add_session(database, user_id="user_2", token="dead", created_at_ms=CREATED_MS, expires_at_ms=EXPIRES_MS)
    storage.revoke_before("user_2", CREATED_MS + 1)
    tokens = [SessionToken(token) for token in ("both", "row", "unreadable", "dead", "unknown")]
    found = await opened().read_sessions(tokens)
    assert {token: record.user.name for token, record in found.items()} == {
        "both": "Ada Lovelace",
        "row": "In the database",
    }


# Without a table


async def test_without_a_table_for_sessions_a_miss_is_no_session(storage: Storage, path: Path, opened: Open) -> None:
    create_database(path, "core+secondaryStorage")
    sign_in(storage, None)
    store = opened()
    await store.check()
    assert await name_of(store, OTHER) is None
    assert await name_of(store) == "Ada Lovelace"


async def test_a_table_that_was_named_must_be_there(storage: Storage, path: Path, opened: Open) -> None:
    create_database(path)
    store = opened(session="sessions")
    for ask in (store.check(), store.read_session(TOKEN)):
        with pytest.raises(StoreUnavailable, match="no table 'sessions'") as caught:
            await ask
        assert not isinstance(caught.value, MissingTable)


async def test_a_missing_table_of_users_is_an_outage(storage: Storage, path: Path, opened: Open) -> None:
    create_database(path)
    execute(path, 'drop table "user"')
    with pytest.raises(StoreUnavailable, match="no table 'user'"):
        await opened().check()


async def test_a_database_alone_needs_the_table(path: Path) -> None:
    create_database(path, "core+secondaryStorage")
    store = open_on(f"sqlite:///{path}", pool=1)
    with pytest.raises(MissingTable, match=r"auth\.db: no table 'session' \(setting store\.tables\.session\)"):
        await store.read_session(TOKEN)
    await store.close()


# Closing


async def test_both_are_closed_even_if_one_of_them_fails() -> None:
    class Closing:
        def __init__(self, error: Exception | None = None) -> None:
            self.closed = False
            self.error = error

        async def close(self) -> None:
            self.closed = True
            if self.error is not None:
                raise self.error

    front: Any = Closing(OSError("odd"))
    behind: Any = Closing()
    with pytest.raises(OSError, match="odd"):
        await SecondaryStore(front, behind).close()
    assert front.closed
    assert behind.closed
