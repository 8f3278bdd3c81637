"""Accounts in each kind of database: one suite for all, on real ones, and what only some can do."""

import asyncio
import resource
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.core.accounts import UNUSABLE_HASH
from gatekeeper.core.errors import GatekeeperError, StoreError, StoreUnavailable
from gatekeeper.core.model import Session, SessionToken, User
from gatekeeper.stores.accounts import (
    AccountStore,
    EmailTaken,
    NewSession,
    NewUser,
    NewVerification,
    PasswordReset,
    SignedUp,
    Verification,
)
from gatekeeper.stores.opening_accounts import open_accounts
from tests.better_auth_db import execute, iso
from tests.servers.labs import MariadbLab, PostgresLab
from tests.stores.account_places import AccountPlace, MariadbAccounts, PostgresAccounts, SqliteAccounts
from tests.stores.contract import messages_of
from tests.stores.opening import settings_on

NOW_MS = 1_790_000_000_123
LATER_MS = NOW_MS + 3_600_007
END_MS = NOW_MS + 172_800_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ADA, GRACE = "Ada" + "a" * 29, "Grace" + "g" * 27
ODD = ("a\0b", "\ud800")

PLACES: dict[str, Callable[[pytest.FixtureRequest, Path], AccountPlace]] = {
    "sqlite": lambda _request, path: SqliteAccounts(path),
    "postgres": lambda request, _: PostgresAccounts(PostgresLab(request.getfixturevalue("postgres_server"))),
    "mariadb": lambda request, _: MariadbAccounts(MariadbLab(request.getfixturevalue("mariadb_server"))),
}


def new_user(user_id: str = ADA, email: str = "ada@example.test", **more: Any) -> NewUser:
    return NewUser(user_id, f"account-{user_id}"[:32], "Ada", email, f"salt:key-of-{user_id}", **more)


def new_session(number: int = 1, user_id: str = ADA, end_ms: int = END_MS, **more: Any) -> NewSession:
    return NewSession(f"session-{number}", f"token-{number}", user_id, end_ms, **more)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "auth.db"


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest, path: Path) -> AccountPlace:
    found = PLACES[request.param](request, path)
    await found.create("core")
    return found


@pytest.fixture
async def open_store() -> AsyncIterator[Callable[..., AccountStore]]:
    """Opens stores of accounts, and closes them after the test."""
    stores: list[AccountStore] = []

    def open_at(url: str, **settings: Any) -> AccountStore:
        stores.append(open_accounts(settings_on(url, **settings))[0])
        return stores[-1]

    yield open_at
    for store in stores:
        await store.close()


@pytest.fixture
def store(place: AccountPlace, open_store: Callable[..., AccountStore]) -> AccountStore:
    return open_store(place.url)


async def sign_up(store: AccountStore, user: NewUser | None = None) -> User:
    made = await store.create_user(user or new_user(), None, now_ms=NOW_MS)
    assert isinstance(made, SignedUp)
    return made.user


async def sign_in(store: AccountStore, *sessions: NewSession) -> list[Session]:
    made = [await store.create_session(session, now_ms=NOW_MS) for session in sessions]
    assert None not in made
    return made


async def tokens(place: AccountPlace) -> list[str]:
    return sorted(row["token"] for row in await place.rows("session"))


def stored_date(place: AccountPlace, ms: int) -> object:
    """A date as its driver gives it back, were it written by Better Auth (captured in the DDL's types)."""
    if isinstance(place, SqliteAccounts):
        return iso(ms)
    moment = EPOCH + timedelta(milliseconds=ms)
    return moment if isinstance(place, PostgresAccounts) else moment.replace(tzinfo=None)


# Users


async def test_a_new_user_has_the_rows_that_better_auth_writes(place: AccountPlace, store: AccountStore) -> None:
    made = await store.create_user(new_user(), new_session(), now_ms=NOW_MS)
    assert isinstance(made, SignedUp)
    assert made.user == User(
        id=ADA,
        name="Ada",
        email="ada@example.test",
        email_verified=False,
        image=None,
        created_at_ms=NOW_MS,
        updated_at_ms=NOW_MS,
    )
    assert made.session == Session("session-1", "token-1", ADA, END_MS, NOW_MS, NOW_MS, "", "")
    now, end = stored_date(place, NOW_MS), stored_date(place, END_MS)
    dates = {"createdAt": now, "updatedAt": now}
    user = {"id": ADA, "name": "Ada", "email": "ada@example.test", "emailVerified": 0, "image": None, **dates}
    assert await place.rows("user") == [user]
    (account,) = await place.rows("account")
    tokens = ("accessToken", "refreshToken", "idToken", "accessTokenExpiresAt", "refreshTokenExpiresAt", "scope")
    assert account == {
        "id": f"account-{ADA}"[:32],
        "accountId": ADA,
        "providerId": "credential",
        "userId": ADA,
        "password": f"salt:key-of-{ADA}",
        **dict.fromkeys(tokens),
        **dates,
    }
    session = {"id": "session-1", "token": "token-1", "userId": ADA, "expiresAt": end, "ipAddress": "", "userAgent": ""}
    assert await place.rows("session") == [{**session, **dates}]


async def test_an_address_is_taken_once(place: AccountPlace, store: AccountStore) -> None:
    await sign_up(store)
    again = await store.create_user(new_user(GRACE), new_session(user_id=GRACE), now_ms=NOW_MS)
    assert again == EmailTaken()
    assert [await place.count(table) for table in ("user", "account", "session")] == [1, 1, 0]


async def test_of_several_with_one_address_at_once_one_is_made(
    place: AccountPlace, open_store: Callable[..., AccountStore]
) -> None:
    stores = [open_store(place.url) for _ in range(3)]
    numbers = range(9)
    made = await asyncio.gather(
        *(
            stores[number % 3].create_user(
                new_user(f"user-{number}"), new_session(number, f"user-{number}"), now_ms=NOW_MS
            )
            for number in numbers
        )
    )
    (won,) = [one for one in made if isinstance(one, SignedUp)]
    assert [one for one in made if one != won] == [EmailTaken()] * 8
    assert [row["id"] for row in await place.rows("user")] == [won.user.id]
    assert [row["accountId"] for row in await place.rows("account")] == [won.user.id]
    assert [row["userId"] for row in await place.rows("session")] == [won.user.id]


async def test_nothing_is_written_where_the_last_row_cannot_be(place: AccountPlace, store: AccountStore) -> None:
    await sign_up(store)
    await sign_in(store, new_session())
    before = [await place.rows(table) for table in ("user", "account", "session")]
    grace = new_user(GRACE, "grace@example.test")
    with pytest.raises(StoreUnavailable) as caught:
        await store.create_user(grace, new_session(1, GRACE), now_ms=NOW_MS)  # its token is another's
    assert "token-1" not in messages_of(caught.value)
    assert [await place.rows(table) for table in ("user", "account", "session")] == before
    assert isinstance(await store.create_user(grace, new_session(2, GRACE), now_ms=NOW_MS), SignedUp)


async def test_a_user_is_found_by_address_in_any_case_and_by_id(store: AccountStore) -> None:
    user = await sign_up(store)
    await sign_up(store, new_user(GRACE, "grace@example.test"))
    for email in ("ada@example.test", "ADA@Example.Test"):
        found = await store.find_by_email(email)
        assert found is not None
        assert (found.user, found.password) == (user, f"salt:key-of-{ADA}")
    assert await store.find_by_id(ADA) == found
    for name in ("", "nobody", "%", ADA.lower(), "adä@example.test", *ODD):
        assert await store.find_by_email(name) is None
        assert await store.find_by_id(name) is None


async def test_who_has_no_password_is_found_without_one(place: AccountPlace, store: AccountStore) -> None:
    user = await sign_up(store)
    await place.set_all("account", "providerId", "github")
    found = await store.find_by_id(ADA)
    assert found is not None
    assert (found.user, found.password) == (user, None)


async def test_a_password_of_another_account_id_is_none(place: AccountPlace, store: AccountStore) -> None:
    await sign_up(store)
    await place.set_all("account", "accountId", "somebody")
    found = await store.find_by_email("ada@example.test")
    assert found is not None
    assert found.password is None


async def test_users_are_listed_newest_first(store: AccountStore) -> None:
    for number in range(3):
        user = new_user(f"user-{number}", f"user-{number}@example.test")
        await store.create_user(user, None, now_ms=NOW_MS + number)
    listed = await store.list_users(limit=2)
    assert [one.user.id for one in listed] == ["user-2", "user-1"]
    assert listed[0].password == "salt:key-of-user-2"


async def test_a_user_is_changed(place: AccountPlace, store: AccountStore) -> None:
    await sign_up(store)
    other = await sign_up(store, new_user(GRACE, "grace@example.test"))
    changes = {"name": "Zoë \N{GRINNING FACE}", "image": "https://i.test/a.png", "emailVerified": True}
    changed = await store.update_user(ADA, changes, now_ms=LATER_MS)
    assert changed is not None
    assert (changed.name, changed.image, changed.email_verified) == tuple(changes.values())
    assert (changed.created_at_ms, changed.updated_at_ms) == (NOW_MS, LATER_MS)
    again = await store.update_user(ADA, {"image": None}, now_ms=LATER_MS + 1)
    assert again is not None
    assert (again.name, again.image, again.email_verified) == (changes["name"], None, True)
    found = await store.find_by_id(GRACE)
    assert found is not None
    assert found.user == other
    row = next(row for row in await place.rows("user") if row["id"] == ADA)
    assert row["updatedAt"] == stored_date(place, LATER_MS + 1)
    for name in ("nobody", *ODD):
        assert await store.update_user(name, {"name": "x"}, now_ms=LATER_MS) is None


async def test_only_known_fields_are_changed(store: AccountStore) -> None:
    await sign_up(store)
    await sign_in(store, new_session())
    for changes in ({"email": "x@y.test"}, {"id": "x"}, {"role": "admin"}):
        with pytest.raises(ValueError, match="not changed"):
            await store.update_user(ADA, changes, now_ms=LATER_MS)
    with pytest.raises(ValueError, match="not changed"):
        await store.update_session("token-1", {"expiresAt": 1}, now_ms=LATER_MS)


async def test_declared_fields_are_changed(place: AccountPlace, open_store: Callable[..., AccountStore]) -> None:
    await place.execute(f"alter table {place.quoted('user')} add column plan varchar(20)")
    await place.execute(f"alter table {place.quoted('session')} add column theme varchar(20)")
    store = open_store(place.url, fields={"user": ["plan"], "session": ["theme"]})
    await sign_up(store)
    (session,) = await sign_in(store, new_session())
    assert session.extra == {"theme": None}
    user = await store.update_user(ADA, {"plan": "gold"}, now_ms=LATER_MS)
    assert user is not None
    assert user.extra == {"plan": "gold"}
    changed = await store.update_session("token-1", {"theme": "dark"}, now_ms=LATER_MS)
    assert changed is not None
    assert (changed.extra, changed.updated_at_ms) == ({"theme": "dark"}, LATER_MS)
    assert await store.update_session("token-9", {"theme": "dark"}, now_ms=LATER_MS) is None


@pytest.mark.parametrize("odd", ODD)
async def test_what_no_database_holds_is_not_written(place: AccountPlace, store: AccountStore, odd: str) -> None:
    await sign_up(store)
    with pytest.raises(StoreError):
        await store.create_user(NewUser("id", "account", odd, "grace@example.test", "hash"), None, now_ms=NOW_MS)
    with pytest.raises(StoreError):
        await store.update_user(ADA, {"name": odd}, now_ms=NOW_MS)
    with pytest.raises(StoreError):
        await store.create_session(new_session(user_agent=odd), now_ms=NOW_MS)
    assert (await place.count("user"), await place.count("session")) == (1, 0)


# Sessions


async def test_a_session_is_read_with_its_user(store: AccountStore) -> None:
    user = await sign_up(store)
    (session,) = await sign_in(store, new_session(ip_address="203.0.113.9", user_agent="Firefox"))
    record = await store.read_session(SessionToken("token-1"))
    assert record is not None
    assert (record.session, record.user) == (session, user)
    assert (session.ip_address, session.user_agent) == ("203.0.113.9", "Firefox")
    assert await store.read_session(SessionToken("TOKEN-1")) is None


async def test_a_session_of_nobody_is_not_made(place: AccountPlace, store: AccountStore) -> None:
    assert await store.create_session(new_session(), now_ms=NOW_MS) is None
    for odd in ODD:
        assert await store.create_session(new_session(user_id=odd), now_ms=NOW_MS) is None
    assert await place.count("session") == 0


async def test_live_sessions_are_listed_in_the_order_of_the_database(place: AccountPlace, store: AccountStore) -> None:
    await sign_up(store)
    await sign_up(store, new_user(GRACE, "grace@example.test"))
    made = await sign_in(store, *(new_session(number) for number in (3, 1, 2)))
    await sign_in(store, new_session(4, end_ms=LATER_MS), new_session(5, GRACE))
    order = [row["token"] for row in await place.rows("session")]
    made.sort(key=lambda session: order.index(session.token))
    assert list(await store.list_live(ADA, now_ms=LATER_MS)) == made
    listed = await store.list_live(ADA, now_ms=LATER_MS - 1)
    assert [session.token for session in listed] == [token for token in order if token != "token-5"]
    for name in ("nobody", ADA.lower(), *ODD):
        assert list(await store.list_live(name, now_ms=NOW_MS)) == []


async def test_a_session_is_extended_from_what_it_was(store: AccountStore) -> None:
    await sign_up(store)
    (session,) = await sign_in(store, new_session())
    assert await store.extend(session, expires_at_ms=END_MS + 5, now_ms=LATER_MS)
    assert not await store.extend(session, expires_at_ms=END_MS + 6, now_ms=LATER_MS)
    record = await store.read_session(SessionToken("token-1"))
    assert record is not None
    assert (record.session.expires_at_ms, record.session.updated_at_ms) == (END_MS + 5, LATER_MS)


async def test_one_session_is_revoked_by_token_and_by_id_by_its_user(place: AccountPlace, store: AccountStore) -> None:
    await sign_up(store)
    await sign_up(store, new_user(GRACE, "grace@example.test"))
    one, two, _ = await sign_in(store, new_session(1), new_session(2), new_session(3, GRACE))
    for name in ("token-3", "session-3", "", "nothing", "TOKEN-1", *ODD):
        assert await store.revoke_session(ADA, name) is None
    assert await store.revoke_session(ADA, "token-1") == one
    assert await store.revoke_session(ADA, "session-2") == two
    assert await store.revoke_session(ADA, "token-1") is None
    assert await tokens(place) == ["token-3"]


async def test_a_token_comes_before_an_id(place: AccountPlace, store: AccountStore) -> None:
    await sign_up(store)
    await sign_in(store, NewSession("a", "b", ADA, END_MS), NewSession("b", "c", ADA, END_MS))
    revoked = await store.revoke_session(ADA, "b")
    assert revoked is not None
    assert (revoked.id, await tokens(place)) == ("a", ["c"])


async def test_all_sessions_are_revoked_but_one(place: AccountPlace, store: AccountStore) -> None:
    await sign_up(store)
    await sign_up(store, new_user(GRACE, "grace@example.test"))
    await sign_in(store, *(new_session(number) for number in (1, 2, 3)), new_session(4, GRACE))
    await sign_in(store, new_session(5, end_ms=NOW_MS - 1))
    assert sorted(await store.revoke_sessions(ADA, but_token="token-2")) == ["token-1", "token-3", "token-5"]
    assert await tokens(place) == ["token-2", "token-4"]
    assert list(await store.revoke_sessions(ADA)) == ["token-2"]
    for name in (ADA, "nobody", *ODD):
        assert list(await store.revoke_sessions(name)) == []
    assert await tokens(place) == ["token-4"]


async def test_sessions_that_cannot_be_read_are_revoked_with_all(path: Path, open_store: Any) -> None:
    place = SqliteAccounts(path)
    await place.create("core")
    store = open_store(place.url)
    await sign_up(store)
    await sign_in(store, new_session())
    execute(path, 'update "session" set expiresAt = 1')
    assert list(await store.list_live(ADA, now_ms=0)) == []
    assert list(await store.revoke_sessions(ADA)) == ["token-1"]


async def test_a_session_is_deleted_once(place: AccountPlace, store: AccountStore) -> None:
    await sign_up(store)
    await sign_in(store, new_session(1), new_session(2))
    for name in ("token-9", "session-1", "TOKEN-1", *ODD):
        assert not await store.delete_session(name)
    assert await store.delete_session("token-1")
    assert not await store.delete_session("token-1")
    assert await tokens(place) == ["token-2"]


# Passwords


async def test_a_password_is_changed(place: AccountPlace, store: AccountStore) -> None:
    await sign_up(store)
    await sign_in(store, new_session())
    done = await store.change_password(ADA, "new:hash", account_id="unused", now_ms=LATER_MS)
    assert done is not None
    assert (list(done.revoked), done.session) == ([], None)
    (account,) = await place.rows("account")
    assert (account["password"], account["id"]) == ("new:hash", f"account-{ADA}"[:32])
    assert account["updatedAt"] == stored_date(place, LATER_MS)
    assert await tokens(place) == ["token-1"]


async def test_a_changed_password_ends_all_sessions_and_begins_one(place: AccountPlace, store: AccountStore) -> None:
    await sign_up(store)
    await sign_up(store, new_user(GRACE, "grace@example.test"))
    await sign_in(store, new_session(1), new_session(2), new_session(3, GRACE))
    done = await store.change_password(
        ADA, "new:hash", account_id="x", now_ms=LATER_MS, old=f"salt:key-of-{ADA}", revoke=True, session=new_session(4)
    )
    assert done is not None
    assert done.session == Session("session-4", "token-4", ADA, END_MS, LATER_MS, LATER_MS, "", "")
    assert sorted(done.revoked) == ["token-1", "token-2"]
    assert await tokens(place) == ["token-3", "token-4"]


async def test_a_password_that_is_another_meanwhile_stays(place: AccountPlace, store: AccountStore) -> None:
    await sign_up(store)
    await sign_in(store, new_session())
    change = store.change_password(ADA, "new:hash", account_id="x", now_ms=LATER_MS, old="salt:other", revoke=True)
    assert await change is None
    assert [row["password"] for row in await place.rows("account")] == [f"salt:key-of-{ADA}"]
    assert await tokens(place) == ["token-1"]
    for name in ("nobody", *ODD):
        assert await store.change_password(name, "new:hash", account_id="x", now_ms=LATER_MS) is None


async def test_who_had_no_password_gets_one(place: AccountPlace, store: AccountStore) -> None:
    await sign_up(store)
    await place.execute("delete from account")
    assert await store.change_password(ADA, "new:hash", account_id="x", now_ms=LATER_MS, old="some") is None
    assert await store.change_password(ADA, "new:hash", account_id="made", now_ms=LATER_MS) is not None
    (account,) = await place.rows("account")
    assert (account["id"], account["providerId"], account["accountId"]) == ("made", "credential", ADA)


async def test_a_failed_change_of_password_changes_nothing(place: AccountPlace, store: AccountStore) -> None:
    await sign_up(store)
    await sign_up(store, new_user(GRACE, "grace@example.test"))
    await sign_in(store, new_session(1), new_session(2, GRACE))
    with pytest.raises(StoreUnavailable):  # the token of the new session is another's
        await store.change_password(
            ADA, "new:hash", account_id="x", now_ms=LATER_MS, revoke=True, session=new_session(2)
        )
    assert sorted(row["password"] for row in await place.rows("account")) == [
        f"salt:key-of-{ADA}",
        f"salt:key-of-{GRACE}",
    ]
    assert await tokens(place) == ["token-1", "token-2"]


# Values that are found once


def reset(number: int = 1, end_ms: int = END_MS, value: str = ADA) -> NewVerification:
    return NewVerification(f"verification-{number}", "reset-password:secret", value, end_ms)


async def test_a_value_is_found_and_consumed_once(place: AccountPlace, store: AccountStore) -> None:
    await store.create_verification(reset(), now_ms=NOW_MS)
    (row,) = await place.rows("verification")
    now, end = stored_date(place, NOW_MS), stored_date(place, END_MS)
    assert row == {
        "id": "verification-1",
        "identifier": "reset-password:secret",
        "value": ADA,
        "expiresAt": end,
        "createdAt": now,
        "updatedAt": now,
    }
    wanted = Verification("reset-password:secret", ADA, END_MS)
    assert await store.find_verification("reset-password:secret", now_ms=END_MS) == wanted
    for name in ("reset-password:other", "RESET-PASSWORD:SECRET", "", *ODD):
        assert await store.find_verification(name, now_ms=NOW_MS) is None
        assert await consume(store, name) is None
    assert await store.find_verification("reset-password:secret", now_ms=NOW_MS) == wanted


@pytest.mark.parametrize("how", ["by-a-link", "changed", "changed-from"])
async def test_links_for_a_new_password_end_with_the_old_one(
    place: AccountPlace, store: AccountStore, how: str
) -> None:
    await sign_up(store)
    for name, value in (
        ("reset-password:1", ADA),
        ("reset-password:2", ADA),
        ("reset-password:3", GRACE),
        ("RESET-password:4", GRACE),
        ("another:1", ADA),
    ):
        await store.create_verification(NewVerification(name, name, value, END_MS), now_ms=NOW_MS)
    if how == "by-a-link":
        assert await store.reset_password("reset-password:1", "new:hash", account_id="x", now_ms=NOW_MS)
    else:
        old = f"salt:key-of-{ADA}" if how == "changed-from" else None
        assert not await store.change_password(ADA, "new:hash", account_id="x", now_ms=NOW_MS, old="other:hash")
        assert await place.count("verification") == 5
        assert await store.change_password(ADA, "new:hash", account_id="x", now_ms=NOW_MS, old=old)
    left = sorted(row["identifier"] for row in await place.rows("verification"))
    assert left == ["RESET-password:4", "another:1", "reset-password:3"]


async def consume(
    store: AccountStore, identifier: str = "reset-password:secret", *, now_ms: int = NOW_MS
) -> PasswordReset | None:
    """What becomes of a link that is followed."""
    return await store.reset_password(identifier, "new:hash", account_id="x", now_ms=now_ms)


async def test_an_expired_value_is_none_and_goes(place: AccountPlace, store: AccountStore) -> None:
    await store.create_verification(reset(), now_ms=NOW_MS)
    assert await store.find_verification("reset-password:secret", now_ms=END_MS + 1) is None
    assert await consume(store, now_ms=END_MS + 1) is None
    assert await place.count("verification") == 0
    await store.create_verification(reset(1), now_ms=NOW_MS)
    other = NewVerification("verification-2", "other", "x", END_MS + 9)
    await store.create_verification(other, now_ms=END_MS + 1)
    assert [row["id"] for row in await place.rows("verification")] == ["verification-2"]


async def test_the_newest_of_several_counts_and_all_go(place: AccountPlace, store: AccountStore) -> None:
    await store.create_verification(reset(1, value="old"), now_ms=NOW_MS)
    await store.create_verification(reset(2, value="new"), now_ms=NOW_MS + 1)
    found = await store.find_verification("reset-password:secret", now_ms=NOW_MS)
    assert found is not None
    assert found.value == "new"
    assert await consume(store) is None  # "new" is nobody's id
    assert await place.count("verification") == 0


async def test_of_several_at_once_one_consumes(place: AccountPlace, open_store: Callable[..., AccountStore]) -> None:
    stores = [open_store(place.url) for _ in range(3)]
    await sign_up(stores[0])
    await stores[0].create_verification(reset(), now_ms=NOW_MS)
    found = await asyncio.gather(*(consume(stores[number % 3]) for number in range(9)))
    assert sorted(one is not None for one in found) == [False] * 8 + [True]


async def test_a_password_is_reset_once(place: AccountPlace, store: AccountStore) -> None:
    user = await sign_up(store)
    await sign_in(store, new_session())
    await store.create_verification(reset(), now_ms=NOW_MS)
    done = await store.reset_password("reset-password:secret", "new:hash", account_id="x", now_ms=LATER_MS, revoke=True)
    assert done is not None
    assert (done.user, list(done.revoked)) == (user, ["token-1"])
    assert [row["password"] for row in await place.rows("account")] == ["new:hash"]
    assert [await place.count(table) for table in ("session", "verification")] == [0, 0]
    again = store.reset_password("reset-password:secret", "newer:hash", account_id="x", now_ms=LATER_MS)
    assert await again is None
    assert [row["password"] for row in await place.rows("account")] == ["new:hash"]


async def test_a_reset_leaves_sessions_unless_told(place: AccountPlace, store: AccountStore) -> None:
    await sign_up(store)
    await sign_in(store, new_session())
    await place.execute("delete from account")
    await store.create_verification(reset(), now_ms=NOW_MS)
    done = await store.reset_password("reset-password:secret", "new:hash", account_id="made", now_ms=LATER_MS)
    assert done is not None
    assert [row["id"] for row in await place.rows("account")] == ["made"]
    assert await tokens(place) == ["token-1"]


@pytest.mark.parametrize(("end_ms", "value"), [(LATER_MS - 1, ADA), (END_MS, "nobody")])
async def test_a_reset_without_value_or_user_changes_nothing(
    place: AccountPlace, store: AccountStore, end_ms: int, value: str
) -> None:
    await sign_up(store)
    await store.create_verification(reset(1, end_ms, value), now_ms=NOW_MS)
    assert await store.reset_password("reset-password:secret", "a:b", account_id="x", now_ms=LATER_MS) is None
    assert [row["password"] for row in await place.rows("account")] == [f"salt:key-of-{ADA}"]
    assert await place.count("verification") == 0


# Disabling


async def test_who_is_disabled_has_neither_password_nor_session(place: AccountPlace, store: AccountStore) -> None:
    await sign_up(store)
    await sign_up(store, new_user(GRACE, "grace@example.test"))
    await sign_in(store, new_session(1), new_session(2, GRACE))
    await store.create_verification(reset(), now_ms=NOW_MS)
    done = await store.disable_user(ADA, now_ms=LATER_MS)
    assert done is not None
    assert (done.user.id, list(done.revoked), done.is_banned) == (ADA, ["token-1"], False)
    found = await store.find_by_id(ADA)
    assert found is not None
    assert found.password == UNUSABLE_HASH
    assert await tokens(place) == ["token-2"]
    again = store.reset_password("reset-password:secret", "new:hash", account_id="x", now_ms=LATER_MS)
    assert await again is None  # a link in an old mail brings nobody back
    found = await store.find_by_id(ADA)
    assert found is not None
    assert found.password == UNUSABLE_HASH
    for name in ("nobody", *ODD):
        assert await store.disable_user(name, now_ms=LATER_MS) is None
        assert await store.enable_user(name, now_ms=LATER_MS) is None


async def test_where_the_table_has_it_who_is_disabled_is_banned(
    place: AccountPlace, open_store: Callable[..., AccountStore]
) -> None:
    await place.create("admin+organization+twoFactor")
    store = open_store(place.url)
    await sign_up(store)
    await sign_in(store, new_session())
    await place.set_all("user", "banReason", "old")
    done = await store.disable_user(ADA, now_ms=LATER_MS)
    assert done is not None
    assert (done.user.banned, done.user.ban_reason, list(done.revoked)) == (True, None, ["token-1"])
    assert done.is_banned
    found = await store.find_by_id(ADA)
    assert found is not None
    assert (found.user, found.password) == (done.user, f"salt:key-of-{ADA}")
    again = await store.enable_user(ADA, now_ms=LATER_MS)
    assert again is not None
    assert not again.user.banned


# When it cannot be written


async def test_a_store_closes_twice_and_is_unavailable_then(store: AccountStore) -> None:
    await sign_up(store)
    await store.check()
    await store.close()
    await store.close()
    for work in (store.check(), store.find_by_id(ADA), store.create_session(new_session(), now_ms=NOW_MS)):
        with pytest.raises(StoreUnavailable):
            await work


@pytest.mark.parametrize("place", ["postgres", "mariadb"], indirect=True)
async def test_a_restart_of_the_server_fails_nothing_after_it(place: Any, store: AccountStore) -> None:
    await sign_up(store)
    place.lab.server.stop()
    with pytest.raises(StoreUnavailable):
        await store.create_session(new_session(), now_ms=NOW_MS)
    place.lab.server.start()
    assert await store.create_session(new_session(), now_ms=NOW_MS) is not None


@pytest.mark.parametrize("place", ["mariadb"], indirect=True)
async def test_a_text_that_does_not_fit_is_no_outage(place: AccountPlace, store: AccountStore) -> None:
    with pytest.raises(StoreError, match="does not fit") as caught:
        await store.create_user(NewUser("id", "account", "x" * 256, "ada@example.test", "hash"), None, now_ms=NOW_MS)
    assert not isinstance(caught.value, StoreUnavailable)
    assert await place.count("user") == 0


@pytest.mark.parametrize("value", [True, 7, 1.5, 2**40, "x"])
async def test_a_value_of_another_type_than_its_column_is_no_outage(
    place: AccountPlace, open_store: Callable[..., AccountStore], value: object
) -> None:
    """The owner of a declared field says what stands there, and must not be able to make the store seem unavailable."""
    for kind, column in (("text", "plan"), ("integer", "size")):
        await place.execute(f"alter table {place.quoted('user')} add column {place.quoted(column)} {kind}")
    store = open_store(place.url, fields={"user": ["plan", "size"]})
    await sign_up(store)
    for column in ("plan", "size"):
        try:
            await store.update_user(ADA, {column: value}, now_ms=LATER_MS)
        except StoreError as error:
            assert not isinstance(error, StoreUnavailable)  # noqa: PT017 - it may be taken, or refused


@pytest.mark.parametrize("place", ["mariadb"], indirect=True)
async def test_dates_of_mysql_are_in_the_zone_of_the_url(
    place: AccountPlace, open_store: Callable[..., AccountStore]
) -> None:
    store = open_store(f"{place.url}?timezone=Europe/Berlin")
    user = await sign_up(store)
    assert user.created_at_ms == NOW_MS
    (row,) = await place.rows("user")
    assert row["createdAt"] == stored_date(place, NOW_MS + 7_200_000)  # summer time


@pytest.fixture
async def sqlite(path: Path, open_store: Callable[..., AccountStore]) -> AccountStore:
    await SqliteAccounts(path).create("core")
    return open_store(f"sqlite:///{path}")


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Files of this process grow no further than this one is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def big_user(number: int) -> NewUser:
    """One who needs a page of the file alone."""
    return NewUser(f"user-{number}", f"account-{number}", "x" * 5000, f"user-{number}@example.test", "salt:key")


async def test_a_full_disk_is_said_and_leaves_nothing_half_written(sqlite: AccountStore, path: Path) -> None:
    await sign_up(sqlite)
    with full_disk(path), pytest.raises(StoreUnavailable, match=r"auth\.db: .*disk") as caught:
        await sqlite.create_user(big_user(1), new_session(9, "user-1"), now_ms=NOW_MS)
    assert "example.test" not in messages_of(caught.value)
    place = SqliteAccounts(path)
    assert [await place.count(table) for table in ("user", "account", "session")] == [1, 1, 0]
    assert isinstance(await sqlite.create_user(big_user(1), None, now_ms=NOW_MS), SignedUp)  # there is room again
    assert [await place.count(table) for table in ("user", "account", "session")] == [2, 2, 0]


async def test_a_locked_file_is_said(sqlite: AccountStore, path: Path) -> None:
    await sign_up(sqlite)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("begin immediate")
        with pytest.raises(StoreUnavailable, match=r"auth\.db: database is locked"):
            await sqlite.create_session(new_session(), now_ms=NOW_MS)
        assert await sqlite.find_by_id(ADA) is not None
    assert await SqliteAccounts(path).count("session") == 0
    assert await sqlite.create_session(new_session(), now_ms=NOW_MS) is not None


async def test_a_file_that_is_missing_is_never_made(sqlite: AccountStore, path: Path) -> None:
    path.unlink()
    with pytest.raises(StoreUnavailable, match="No such file"):
        await sqlite.create_user(new_user(), None, now_ms=NOW_MS)
    assert not path.exists()


async def test_a_missing_table_is_named(sqlite: AccountStore, path: Path) -> None:
    execute(path, "drop table account")
    with pytest.raises(StoreUnavailable, match="no such table: account"):
        await sqlite.create_user(new_user(), None, now_ms=NOW_MS)
    assert await SqliteAccounts(path).count("user") == 0


async def test_a_text_that_is_not_utf_8_is_a_fault_of_the_row(sqlite: AccountStore, path: Path) -> None:
    await sign_up(sqlite)
    execute(path, "update user set name = cast(x'ff' as text)")
    with pytest.raises(StoreError, match="not UTF-8"):
        await sqlite.find_by_id(ADA)


async def test_names_of_tables_are_passed_over(path: Path, open_store: Callable[..., AccountStore]) -> None:
    await SqliteAccounts(path).create("core")
    store = open_store(f"sqlite:///{path}", tables={"user": "people"}, columns={"user": {"email": "mail"}})
    assert (await sign_up(store)).email == "ada@example.test"


@pytest.mark.parametrize(
    ("url", "settings"),
    [("redis://127.0.0.1:9", {}), ("http://127.0.0.1:9/api/auth", {}), ("sqlite:///x", {"secondary": "redis://h"})],
)
def test_accounts_are_kept_in_a_database_alone(url: str, settings: dict[str, str]) -> None:
    with pytest.raises(GatekeeperError, match="database"):
        open_accounts(settings_on(url, **settings))
