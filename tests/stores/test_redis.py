"""`stores.redis` on a real server: the contract of every store, what Better Auth keeps there, and what goes wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.core.model import SessionToken
from gatekeeper.stores.protocol import SessionStore
from gatekeeper.stores.redis import VALUE_LIMIT_BYTES, RedisStore
from tests.better_auth_redis import CREATED_MS, EXPIRES_MS, Storage, session_fields, sign_in, stored, user_fields
from tests.servers.redis import RedisServer
from tests.stores.conftest import OpenRedis
from tests.stores.contract import OTHER, TOKEN, StoreContract, user_of
from tests.stores.fake_redis import always, fake_redis, text

CAPTURED: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "redis.json").read_text())
DATES = ("expiresAt", "createdAt", "updatedAt")
USER = "user_1"


@pytest.fixture
def store(redis: RedisServer, open_redis: OpenRedis) -> RedisStore:
    return open_redis(redis.url)


class RedisContract(StoreContract):
    prefix = "better-auth:"

    @pytest.fixture
    async def store(self, redis: RedisServer) -> AsyncIterator[SessionStore]:
        self.server = redis
        self.storage = Storage(redis.url, self.prefix)
        self.users: dict[str, dict[str, Any]] = {}
        store = RedisStore(f"{redis.url}?prefix={self.prefix}")
        yield store
        await store.close()

    async def insert_user(self, **fields: Any) -> None:
        user = user_fields(**fields)
        self.users[user["id"]] = user

    async def insert_session(self, **fields: Any) -> None:
        session = session_fields(**fields)
        self.storage.sign_in(session, self.users[session["userId"]])

    async def delete_session(self, token: str) -> None:
        self.storage.revoke(token)

    async def break_store(self) -> None:
        self.server.stop()

    async def repair_store(self) -> None:
        self.server.start()


class TestBetterAuthsPrefix(RedisContract):
    pass


class TestNoPrefix(RedisContract):
    prefix = ""


class TestNumberedUsers(RedisContract):
    prefix = "app:auth:"
    user_id = 1
    other_user_id = 2


# As Better Auth wrote it


def captured_steps() -> list[Any]:
    return [pytest.param(step["redis"], id=step["after"].replace(" ", "-")) for step in CAPTURED["steps"]]


@pytest.mark.parametrize("keys", captured_steps())
async def test_captured_sessions_are_read_and_no_others(
    storage: Storage, store: RedisStore, keys: dict[str, dict[str, Any]]
) -> None:
    for key, entry in keys.items():
        storage.run("SETEX", key, entry["ttl"], entry["value"])
    for token in CAPTURED["tokens"]:
        record = await store.read_session(SessionToken(token))
        assert (record is not None) is (f"better-auth:{token}" in keys)
        if record is not None:
            assert (record.session.token, record.user.email) == (token, "ada@example.test")


async def test_a_captured_session_is_what_the_app_answered(storage: Storage, store: RedisStore) -> None:
    answered = CAPTURED["getSession"]
    session, user = answered["session"], answered["user"]
    storage.run("SETEX", f"better-auth:{session['token']}", 100, CAPTURED["getSessionFrom"])
    record = await store.read_session(SessionToken(session["token"]))
    assert record is not None
    assert record.session.id == session["id"]
    assert record.session.user_id == record.user.id == user["id"]
    assert (record.session.ip_address, record.session.user_agent) == (session["ipAddress"], session["userAgent"])
    assert (record.user.name, record.user.email, record.user.email_verified) == (user["name"], user["email"], False)


async def test_a_session_that_was_revoked_alone_leaves_its_user_signed_in(storage: Storage, store: RedisStore) -> None:
    sign_in(storage, TOKEN)
    sign_in(storage, OTHER)
    storage.revoke(TOKEN)
    assert await user_of(store, TOKEN) is None
    assert await user_of(store, OTHER) == USER


async def test_a_token_that_is_listed_but_has_no_key_is_none(storage: Storage, store: RedisStore) -> None:
    sign_in(storage, TOKEN)
    storage.delete(TOKEN)
    assert [one["token"] for one in storage.listed(USER)] == [TOKEN]
    assert await user_of(store, TOKEN) is None


async def test_a_session_whose_time_in_redis_is_over_is_none(storage: Storage, store: RedisStore) -> None:
    sign_in(storage, TOKEN)
    storage.run("PEXPIREAT", f"better-auth:{TOKEN}", 1)
    assert await user_of(store, TOKEN) is None


async def test_fields_of_plugins_and_declared_ones_come_along(
    storage: Storage, redis: RedisServer, open_redis: OpenRedis
) -> None:
    user = user_fields(id=USER, role="admin", banned=True, banExpires=EXPIRES_MS, twoFactorEnabled=True, plan="pro")
    session = session_fields(token=TOKEN, userId=USER, impersonatedBy="user_2", activeOrganizationId="org_1", device=7)
    storage.sign_in(session, user)
    store = open_redis(redis.url, session_extra=("device", "absent"), user_extra=("plan",))
    record = await store.read_session(TOKEN)
    assert record is not None
    assert (record.user.role, record.user.banned, record.user.ban_expires_ms) == ("admin", True, EXPIRES_MS)
    assert record.user.two_factor_enabled is True
    assert (record.session.impersonated_by, record.session.active_organization_id) == ("user_2", "org_1")
    assert record.session.extra == {"device": 7, "absent": None}
    assert record.user.extra == {"plan": "pro"}


async def test_keys_with_another_prefix_are_not_read(
    storage: Storage, redis: RedisServer, open_redis: OpenRedis
) -> None:
    sign_in(storage, TOKEN)
    assert await user_of(open_redis(f"{redis.url}?prefix="), TOKEN) is None
    assert await user_of(open_redis(f"{redis.url}?prefix=better-auth:better-auth:"), TOKEN) is None


async def test_other_databases_are_not_read(redis: RedisServer, open_redis: OpenRedis) -> None:
    sign_in(Storage(redis.url[:-1] + "3"), TOKEN)
    assert await user_of(open_redis(redis.url), TOKEN) is None
    assert await user_of(open_redis(redis.url[:-1] + "3"), TOKEN) == USER


# All of a user's sessions revoked


@pytest.mark.parametrize(
    ("before", "lives"),
    [
        pytest.param(CREATED_MS - 1, True, id="made-after"),
        pytest.param(CREATED_MS, True, id="made-in-that-millisecond"),
        pytest.param(CREATED_MS + 1, False, id="made-before"),
        pytest.param(0, True, id="zero"),
        pytest.param("9" * 16, False, id="far-future"),
        pytest.param("9" * 17, False, id="too-long"),
        pytest.param("9" * 1000, False, id="much-too-long"),
        pytest.param(f"{CREATED_MS}.0", False, id="fraction"),
        pytest.param("1e3", False, id="exponent"),
        pytest.param("-1", False, id="negative"),
        pytest.param(" 1", False, id="blank"),
        pytest.param("1\n", False, id="line-end"),
        pytest.param('"1"', False, id="quoted"),
        pytest.param("٣", False, id="other-digits"),
        pytest.param("null", False, id="null"),
        pytest.param("2026-01-01T00:00:00.000Z", False, id="iso-date"),
        pytest.param("", True, id="empty"),
    ],
)
async def test_sessions_older_than_the_revocation_are_dead(
    storage: Storage, store: RedisStore, before: object, lives: bool
) -> None:
    sign_in(storage, TOKEN)
    storage.revoke_before(USER, before)
    assert await user_of(store, TOKEN) == (USER if lives else None)


async def test_a_revocation_that_is_no_text_counts_as_one(storage: Storage, store: RedisStore) -> None:
    sign_in(storage, TOKEN)
    storage.run("RPUSH", f"better-auth:revoked-sessions-before-{USER}", 1)
    assert await user_of(store, TOKEN) is None


async def test_another_users_revocation_is_none_of_ours(storage: Storage, store: RedisStore) -> None:
    sign_in(storage, TOKEN)
    for other in ("user_2", "user_11", "user_", USER.upper()):
        storage.revoke_before(other, CREATED_MS + 1)
    assert await user_of(store, TOKEN) == USER


async def test_who_signs_in_after_revoking_all_lives(storage: Storage, store: RedisStore) -> None:
    sign_in(storage, TOKEN)
    storage.revoke_before(USER, CREATED_MS + 500)
    sign_in(storage, OTHER, createdAt=CREATED_MS + 501)
    assert await user_of(store, TOKEN) is None
    assert await user_of(store, OTHER) == USER


async def test_of_several_read_at_once_each_is_judged_by_itself(storage: Storage, store: RedisStore) -> None:
    """More than one round trip's worth, of three users, with what is no session between them."""
    users = {f"token{number}": f"user_{number % 3}" for number in range(120)}
    for token, user_id in users.items():
        sign_in(storage, token, user_id)
    storage.revoke_before("user_1", CREATED_MS + 1)
    storage.run("RPUSH", "better-auth:a list", 1)
    storage.set("garbage", "garbage")
    found = await store.read_sessions([SessionToken(token) for token in ("a list", *users, "garbage", "unknown")])
    assert {token: record.user.id for token, record in found.items()} == {
        token: user_id for token, user_id in users.items() if user_id != "user_1"
    }


# What cannot be read as a session


SESSION, PERSON = session_fields(token=TOKEN, userId=USER), user_fields(id=USER)


def without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("null", id="null"),
        pytest.param("1", id="number"),
        pytest.param(json.dumps(stored(SESSION, PERSON)), id="json-in-json"),
        pytest.param("[]", id="list"),
        pytest.param("{}", id="empty-object"),
        pytest.param("garbage", id="no-json"),
        pytest.param("{'session':{}}", id="python-not-json"),
        pytest.param(stored(SESSION, PERSON)[:-1], id="cut"),
        pytest.param(stored(SESSION, PERSON) + "{}", id="more-behind"),
        pytest.param("\ufeff" + stored(SESSION, PERSON), id="byte-order-mark"),
        pytest.param(stored(SESSION, PERSON).encode("utf-16"), id="utf-16"),
        pytest.param(stored(SESSION, PERSON).replace("Ada", "\udcff").encode(errors="surrogateescape"), id="no-utf-8"),
        pytest.param(stored(SESSION, PERSON).replace("Ada", "\\ud800"), id="half-a-surrogate-pair"),
        pytest.param(json.dumps({"session": SESSION}), id="no-user"),
        pytest.param(json.dumps({"user": PERSON}), id="no-session"),
        pytest.param(json.dumps({"session": SESSION, "user": None}), id="user-null"),
        pytest.param(json.dumps({"session": [SESSION], "user": PERSON}), id="session-in-a-list"),
        pytest.param(json.dumps({"session": SESSION, "user": [[k, v] for k, v in PERSON.items()]}), id="user-as-pairs"),
        pytest.param(stored({}, {}), id="both-empty"),
        pytest.param(stored({**SESSION, "token": OTHER}, PERSON), id="another-token"),
        pytest.param(stored({**SESSION, "token": TOKEN + " "}, PERSON), id="nearly-the-token"),
        pytest.param(stored({**SESSION, "userId": "user_2"}, PERSON), id="another-users-session"),
        pytest.param(stored({**SESSION, "userId": [USER]}, PERSON), id="user-id-in-a-list"),
        pytest.param(stored({**SESSION, "userId": "", "id": ""}, {**PERSON, "id": ""}), id="empty-ids"),
        pytest.param(stored(SESSION, {**PERSON, "name": None}), id="name-null"),
        pytest.param(stored(SESSION, {**PERSON, "email": 1}), id="email-a-number"),
        pytest.param('{"session":' + "[" * 100_000 + "]" * 100_000 + ',"user":{}}', id="deep-list"),
        pytest.param('{"session":{"x":' * 50_000 + "1" + "}}" * 50_000, id="deep-objects"),
        pytest.param(
            stored({**SESSION, "id": 1}, PERSON).replace('"id":1', '"id":' + "9" * 5000, 1), id="number-of-5000-digits"
        ),
        *(
            pytest.param(stored(without(SESSION, name), PERSON), id=f"no-{name}")
            for name in ("token", "userId", "id", *DATES)
        ),
    ],
)
async def test_what_is_no_session_is_none_and_no_outage(
    storage: Storage, store: RedisStore, value: str | bytes
) -> None:
    storage.set(TOKEN, value)
    sign_in(storage, OTHER)
    assert await user_of(store, TOKEN) is None
    assert await user_of(store, OTHER) == USER


@pytest.mark.parametrize("field", DATES)
@pytest.mark.parametrize(
    "date", [EXPIRES_MS, EXPIRES_MS / 1000, str(EXPIRES_MS), "", "garbage", None, True, {}], ids=repr
)
async def test_odd_dates_are_no_session(storage: Storage, store: RedisStore, field: str, date: object) -> None:
    storage.set(TOKEN, stored({**SESSION, field: date}, PERSON))
    assert await user_of(store, TOKEN) is None


@pytest.mark.parametrize("size", [VALUE_LIMIT_BYTES, VALUE_LIMIT_BYTES + 1, 3 * VALUE_LIMIT_BYTES])
async def test_a_session_may_be_as_large_as_the_limit(storage: Storage, store: RedisStore, size: int) -> None:
    rest = len(stored(SESSION, {**PERSON, "image": ""}).encode())
    storage.set(TOKEN, stored(SESSION, {**PERSON, "image": "x" * (size - rest)}))
    record = await store.read_session(TOKEN)
    assert (record is not None) is (size <= VALUE_LIMIT_BYTES)


@pytest.mark.parametrize(
    "command", [("RPUSH", "v"), ("SADD", "v"), ("ZADD", 1, "v"), ("HSET", "f", "v"), ("XADD", "*", "f", "v")], ids=str
)
async def test_a_key_of_another_kind_is_none_and_no_outage(
    storage: Storage, store: RedisStore, command: tuple[str, ...]
) -> None:
    name, *values = command
    storage.run(name, f"better-auth:{TOKEN}", *values)
    assert await user_of(store, TOKEN) is None
    assert await store.lookup(TOKEN) is not None


async def test_the_apps_other_keys_are_no_sessions(storage: Storage, store: RedisStore) -> None:
    sign_in(storage, TOKEN)
    storage.revoke_before(USER, 1)
    storage.set("203.0.113.9|/sign-in/email", '{"count":1}')
    for key in (f"active-sessions-{USER}", f"revoked-sessions-before-{USER}", "203.0.113.9|/sign-in/email"):
        assert storage.get(key) is not None
        assert await user_of(store, key) is None


async def test_of_a_name_that_stands_twice_the_last_counts(storage: Storage, store: RedisStore) -> None:
    """As in JavaScript, so that the gate and the app read the same."""
    twice = stored(SESSION, PERSON).replace('"name":"Ada Lovelace"', '"name":"Grace","name":"Ada"')
    storage.set(TOKEN, twice)
    record = await store.read_session(TOKEN)
    assert record is not None
    assert record.user.name == "Ada"


# Reading only


async def test_nothing_is_connected_before_the_first_read(open_redis: OpenRedis) -> None:
    async with fake_redis(always(text(""))) as fake:
        store = open_redis(fake.url)
        await asyncio.sleep(0)
        assert fake.connections == 0
        await store.check()
        assert fake.connections == 1


async def test_a_read_writes_nothing_and_leaves_the_time_to_live(storage: Storage, store: RedisStore) -> None:
    sign_in(storage, TOKEN)
    storage.run("CONFIG", "RESETSTAT")
    our_own = set(storage.run("INFO", "commandstats"))
    before = storage.run("PEXPIRETIME", f"better-auth:{TOKEN}")
    storage.run("CONFIG", "RESETSTAT")
    await store.read_session(TOKEN)
    await store.check()
    assert set(storage.run("INFO", "commandstats")) - our_own == {"cmdstat_getrange"}
    assert storage.run("PEXPIRETIME", f"better-auth:{TOKEN}") == before


async def test_connections_are_kept_and_no_more_than_the_pool(redis: RedisServer, open_redis: OpenRedis) -> None:
    storage = Storage(redis.url)
    tokens = [f"token{number}" for number in range(50)]
    for token in tokens:
        sign_in(storage, token, user_id=f"user of {token}")
    storage.run("CONFIG", "RESETSTAT")
    store = open_redis(redis.url, pool=3)
    users = await asyncio.gather(*(user_of(store, token) for token in tokens * 4))
    assert users == [f"user of {token}" for token in tokens] * 4
    # one of them is the test's own
    assert storage.run("INFO", "stats")["total_connections_received"] <= 3 + 2


async def test_a_cancelled_reader_leaves_no_answer_for_the_next_one(redis: RedisServer, open_redis: OpenRedis) -> None:
    """Cancelled after each possible number of steps of the loop."""
    storage = Storage(redis.url)
    sign_in(storage, TOKEN, "user_1")
    sign_in(storage, OTHER, "user_2")
    storage.revoke_before("user_1", CREATED_MS + 1)
    store = open_redis(redis.url, pool=1)
    cancelled = 0
    for steps in range(60):
        if steps % 15 == 0:
            await store.close()
            store = open_redis(redis.url, pool=1)
        read = asyncio.ensure_future(store.read_session(TOKEN))
        for _ in range(steps):
            await asyncio.sleep(0)
        read.cancel()
        try:
            assert await read is None
        except asyncio.CancelledError:
            cancelled += 1
        assert await user_of(store, OTHER) == "user_2"
        assert await user_of(store, TOKEN) is None
    assert cancelled


async def test_an_answer_that_was_meant_for_another_is_not_believed(open_redis: OpenRedis) -> None:
    async with fake_redis(always(text(stored(SESSION, PERSON)))) as fake:
        entry = await open_redis(fake.url).lookup(OTHER)
        assert entry is not None
        assert entry.record is None
