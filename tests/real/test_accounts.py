"""One SQLite file, written by the gate and by the real better-auth: users, passwords, sessions and links are common."""

import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
from msgspec.structs import replace

from gatekeeper.config.schema import Accounts, Settings
from gatekeeper.core.accounts import SALT_BYTES, hash_password, make_id, verify_password
from gatekeeper.core.model import Session, SessionToken
from gatekeeper.migrate_command import migrate_accounts
from gatekeeper.stores.accounts import NewSession, NewUser, NewVerification, SignedUp
from gatekeeper.stores.opening_accounts import open_accounts
from gatekeeper.stores.sql_accounts import SqlAccounts
from tests.real.conftest import real_app
from tests.server.gates import COOKIE, cookie_value
from tests.stores.opening import settings_on

PASSWORD, OTHER = "pâsswörd① of Zoë", "another long enough one"
EMAIL = "zoe@example.test"
DAY_MS = 86_400_000


def settings_of(path: Path) -> Settings:
    return replace(settings_on(f"sqlite:///{path}"), accounts=Accounts(enabled=True))


@asynccontextmanager
async def both(path: Path, **options: object) -> AsyncIterator[tuple[SqlAccounts, "Real"]]:
    """The gate's accounts, and better-auth, on one file that the gate made."""
    async for _ in migrate_accounts(settings_of(path)):
        pass
    accounts, _ = open_accounts(settings_of(path))
    try:
        async with real_app(path, **options) as url, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
            yield accounts, Real(http, url)
    finally:
        await accounts.close()


class Real:
    """better-auth's calls."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url

    async def post(self, path: str, **body: object) -> tuple[int, dict[str, Any]]:
        async with self._http.post(f"{self._url}/api/auth{path}", json=body) as response:
            return response.status, await response.json()

    async def get(self, path: str, token: str) -> Any:
        cookie = f"{COOKIE}={cookie_value(token)}"
        async with self._http.get(f"{self._url}/api/auth{path}", headers={"Cookie": cookie}) as response:
            assert response.status == 200
            return await response.json()

    async def sign_in(self, password: str) -> int:
        return (await self.post("/sign-in/email", email=EMAIL, password=password))[0]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def sign_up(accounts: SqlAccounts) -> tuple[str, Session]:
    user_id, at_ms = make_id(os.urandom), now_ms()
    user = NewUser(user_id, make_id(os.urandom), "Zoë", EMAIL, hash_password(PASSWORD, os.urandom(SALT_BYTES)))
    session = NewSession(make_id(os.urandom), make_id(os.urandom), user_id, at_ms + 2 * DAY_MS, "203.0.113.9", "x/1")
    made = await accounts.create_user(user, session, now_ms=at_ms)
    assert isinstance(made, SignedUp)
    assert made.session is not None
    return user_id, made.session


def schema_of(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("select name, sql from sqlite_master where sql is not null"))


async def test_better_auth_finds_nothing_to_migrate(tmp_path: Path) -> None:
    path = tmp_path / "auth.db"
    async for _ in migrate_accounts(settings_of(path)):
        pass
    before = schema_of(path)
    async with real_app(path):
        assert schema_of(path) == before


async def test_better_auth_adds_the_columns_of_its_plugins_and_the_gate_goes_on(tmp_path: Path) -> None:
    async with both(tmp_path / "auth.db", plugins=True) as (accounts, real):
        user_id, session = await sign_up(accounts)
        assert await real.sign_in(PASSWORD) == 200
        assert (await real.get("/get-session", session.token))["user"]["id"] == user_id
        done = await accounts.disable_user(user_id, now_ms=now_ms())
        assert done is not None
        assert done.is_banned
        status, answer = await real.post("/sign-in/email", email=EMAIL, password=PASSWORD)
        assert (status, answer["code"]) == (403, "BANNED_USER")


async def test_a_user_of_the_gate_signs_in_at_better_auth(tmp_path: Path) -> None:
    async with both(tmp_path / "auth.db") as (accounts, real):
        user_id, _ = await sign_up(accounts)
        assert await real.sign_in(OTHER) == 401
        status, answer = await real.post("/sign-in/email", email=EMAIL.upper(), password=PASSWORD)
        assert (status, answer["user"]["id"], answer["user"]["name"]) == (200, user_id, "Zoë")
        record = await accounts.read_session(SessionToken(answer["token"]))
        assert record is not None
        assert len(await accounts.list_live(user_id, now_ms=now_ms())) == 2
        status, answer = await real.post("/sign-up/email", email=EMAIL, password=PASSWORD, name="again")
        assert (status, answer["code"]) == (422, "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL")


async def test_a_session_of_the_gate_is_better_auths_session(tmp_path: Path) -> None:
    async with both(tmp_path / "auth.db") as (accounts, real):
        user_id, session = await sign_up(accounts)
        found = await real.get("/get-session", session.token)
        assert found["session"]["token"] == session.token
        assert (found["session"]["ipAddress"], found["session"]["userAgent"]) == ("203.0.113.9", "x/1")
        assert (found["user"]["id"], found["user"]["emailVerified"], found["user"]["image"]) == (user_id, False, None)
        assert [one["id"] for one in await real.get("/list-sessions", session.token)] == [session.id]
        assert list(await accounts.revoke_sessions(user_id)) == [session.token]
        assert await real.get("/get-session", session.token) is None


async def test_a_user_and_a_session_of_better_auth_are_the_gates(tmp_path: Path) -> None:
    async with both(tmp_path / "auth.db") as (accounts, real):
        status, answer = await real.post("/sign-up/email", email=EMAIL, password=PASSWORD, name="Zoë")
        assert status == 200
        found = await accounts.find_by_email(EMAIL)
        assert found is not None
        assert verify_password(found.password, PASSWORD)
        theirs = await real.get("/get-session", answer["token"])
        (session,) = await accounts.list_live(found.user.id, now_ms=now_ms())
        assert (session.id, session.token) == (theirs["session"]["id"], answer["token"])
        assert await accounts.revoke_session(found.user.id, session.id) == session
        assert await real.get("/get-session", answer["token"]) is None


async def test_a_password_that_the_gate_changed_is_the_one_there(tmp_path: Path) -> None:
    async with both(tmp_path / "auth.db") as (accounts, real):
        user_id, _ = await sign_up(accounts)
        hashed = hash_password(OTHER, os.urandom(SALT_BYTES))
        assert await accounts.change_password(user_id, hashed, account_id="x", now_ms=now_ms()) is not None
        assert [await real.sign_in(password) for password in (PASSWORD, OTHER)] == [401, 200]


async def test_a_link_of_the_gate_resets_the_password_there(tmp_path: Path) -> None:
    async with both(tmp_path / "auth.db") as (accounts, real):
        user_id, _ = await sign_up(accounts)
        value = NewVerification(make_id(os.urandom), "reset-password:secret", user_id, now_ms() + DAY_MS)
        await accounts.create_verification(value, now_ms=now_ms())
        assert (await real.post("/reset-password", newPassword=OTHER, token="secret"))[0] == 200
        assert [await real.sign_in(password) for password in (PASSWORD, OTHER)] == [401, 200]
        assert await accounts.consume_verification("reset-password:secret", now_ms=now_ms()) is None


async def test_who_is_disabled_at_the_gate_is_refused_there(tmp_path: Path) -> None:
    async with both(tmp_path / "auth.db") as (accounts, real):
        user_id, session = await sign_up(accounts)
        done = await accounts.disable_user(user_id, now_ms=now_ms())
        assert done is not None
        assert not done.is_banned
        status, answer = await real.post("/sign-in/email", email=EMAIL, password=PASSWORD)
        assert (status, answer["code"]) == (401, "INVALID_EMAIL_OR_PASSWORD")
        assert await real.get("/get-session", session.token) is None
