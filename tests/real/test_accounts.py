"""One SQLite file, written by the gate and by the real better-auth: users, passwords, sessions and links are common.

First the store of accounts beside the app, then a gate that runs on the app's file while the app does.
"""

import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from gatekeeper.config.schema import Accounts, Settings
from gatekeeper.core.accounts import SALT_BYTES, hash_password, make_id, verify_password
from gatekeeper.core.model import Session, SessionToken
from gatekeeper.migrate_command import migrate_accounts
from gatekeeper.stores.accounts import NewSession, NewUser, NewVerification, SignedUp
from gatekeeper.stores.opening_accounts import open_accounts
from gatekeeper.stores.sql_accounts import SqlAccounts
from tests.real.conftest import real_app
from tests.server.accounts_gates import DATA, Browser, accounts_gate, migrate_at
from tests.server.accounts_gates import PASSWORD as BROWSER_PASSWORD
from tests.server.conftest import upstream
from tests.server.gates import COOKIE, cookie_value
from tests.server.upstreams import RecordingUpstream
from tests.stores.opening import settings_on

__all__ = ["upstream"]  # a fixture

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
        assert await accounts.find_verification("reset-password:secret", now_ms=now_ms()) is None


async def test_who_is_disabled_at_the_gate_is_refused_there(tmp_path: Path) -> None:
    async with both(tmp_path / "auth.db") as (accounts, real):
        user_id, session = await sign_up(accounts)
        done = await accounts.disable_user(user_id, now_ms=now_ms())
        assert done is not None
        assert not done.is_banned
        status, answer = await real.post("/sign-in/email", email=EMAIL, password=PASSWORD)
        assert (status, answer["code"]) == (401, "INVALID_EMAIL_OR_PASSWORD")
        assert await real.get("/get-session", session.token) is None


UNCACHED = "session: {memory_cache: {max_age: 0}, cookie_cache: {enabled: false}}\n"
"""So that the gate need not be told what the app has done."""


class Sides:
    """A running gate and better-auth on one file: `made` is the one where things are made, `other` the other one."""

    def __init__(self, gate: Browser, app: Browser, made_at: str) -> None:
        self._visitor = Browser(gate.origin)
        self.made, self.other = (gate, app) if made_at == "gate" else (app, gate)

    async def page(self, cookies: dict[str, str]) -> int:
        """What a protected page answers at the gate with these cookies."""
        self._visitor.cookies = dict(cookies)
        return (await self._visitor.ask("GET", "/dashboard")).status


@pytest.fixture(params=["gate", "app"])
async def sides(request: pytest.FixtureRequest, tmp_path: Path, upstream: RecordingUpstream) -> AsyncIterator[Sides]:
    path = tmp_path / "auth.db"
    await migrate_at(f"sqlite:///{path}")
    async with (
        real_app(path) as app,
        accounts_gate(upstream.url, f"sqlite:///{path}", tmp_path, UNCACHED) as gate,
    ):
        yield Sides(Browser(gate.url), Browser(app), request.param)


async def test_an_account_of_one_signs_in_at_the_other(sides: Sides) -> None:
    user = await sides.made.sign_up(EMAIL, "Zoë")
    wrong = await sides.other.ask("POST", "/api/auth/sign-in/email", {"email": EMAIL, "password": OTHER})
    assert (wrong.status, sides.other.cookies) == (401, {})
    assert await sides.other.sign_in(EMAIL) == user
    assert (await sides.other.get("get-session"))["user"] == user
    assert await sides.page(sides.other.cookies) == 200
    taken = {"email": EMAIL, "name": "again", "password": OTHER}
    assert (await Browser(sides.other.origin).ask("POST", "/api/auth/sign-up/email", taken)).status == 422


async def test_the_cookie_of_one_is_a_session_at_the_other(sides: Sides, upstream: RecordingUpstream) -> None:
    user = await sides.made.sign_up(EMAIL, "Zoë")
    sides.other.cookies = cookies = {COOKIE: sides.made.cookies[COOKIE]}
    theirs = await sides.made.get("get-session")
    assert await sides.other.get("get-session") == theirs
    assert await sides.other.get("list-sessions") == [theirs["session"]]
    assert await sides.page(cookies) == 200
    assert upstream.requests[-1].values("X-Auth-User-Id") == [user["id"]]
    await sides.other.post("update-user", name="Zoë Ångström")
    assert (await sides.made.get("get-session"))["user"]["name"] == "Zoë Ångström"


@pytest.mark.parametrize("call", ["sign-out", "revoke-sessions"])
async def test_signed_out_at_one_is_signed_out_at_the_other(sides: Sides, call: str) -> None:
    await sides.made.sign_up(EMAIL)
    sides.other.cookies = cookies = {COOKIE: sides.made.cookies[COOKIE]}
    assert await sides.other.get("get-session") is not None
    assert await sides.page(cookies) == 200
    await sides.made.post(call)
    assert await sides.page(cookies) == 401
    sides.other.cookies = dict(cookies)
    assert await sides.other.get("get-session") is None
    assert sides.other.cookies == {}


async def test_one_of_many_is_revoked_at_the_other(sides: Sides) -> None:
    await sides.made.sign_up(EMAIL)
    await sides.other.sign_in(EMAIL)
    kept = dict(sides.other.cookies)
    await sides.other.post("revoke-session", token=sides.made.token)
    assert await sides.page(sides.made.cookies) == 401
    assert await sides.page(kept) == 200
    assert await sides.made.get("get-session") is None


async def test_a_password_that_was_changed_at_one_is_the_one_at_the_other(sides: Sides) -> None:
    await sides.made.sign_up(EMAIL)
    await sides.other.sign_in(EMAIL)
    change = {"currentPassword": BROWSER_PASSWORD, "newPassword": OTHER, "revokeOtherSessions": True}
    await sides.made.post("change-password", **change)
    assert await sides.other.get("get-session") is None
    statuses = []
    for password in (BROWSER_PASSWORD, OTHER):
        body = {"email": EMAIL, "password": password}
        statuses.append((await sides.other.ask("POST", "/api/auth/sign-in/email", body)).status)
    assert statuses == [401, 200]


async def test_the_gate_is_told_of_what_ends_at_the_app(tmp_path: Path, upstream: RecordingUpstream) -> None:
    """With its caches on, which hold for minutes while the feed is there that `gatekeeper migrate` has set up."""
    url = f"sqlite:///{tmp_path / 'auth.db'}"
    await migrate_at(url)
    async with real_app(tmp_path / "auth.db") as app, accounts_gate(upstream.url, url, tmp_path) as gate:
        here, there = Browser(gate.url), Browser(app)
        await here.sign_up(EMAIL)
        there.cookies = {COOKIE: here.cookies[COOKIE]}
        while not gate.gate.runtime.sessions.lease.is_held(time.monotonic()):
            assert (await here.ask("GET", "/dashboard")).status == 200
        assert (await here.ask("GET", "/dashboard")).status == 200
        await there.post("sign-out")
        while (await here.ask("GET", "/dashboard")).status != 401:
            pass
        assert await here.get("get-session") is None


async def test_a_revoked_session_lives_in_its_cookie_there_and_is_dead_at_the_gate(
    tmp_path: Path, upstream: RecordingUpstream
) -> None:
    """Both may believe a session_data cookie for five minutes; the gate does so only until it knows better."""
    url = f"sqlite:///{tmp_path / 'auth.db'}"
    await migrate_at(url)
    async with (
        real_app(tmp_path / "auth.db", cookieCache="compact") as app,
        accounts_gate(upstream.url, url, tmp_path) as gate,
    ):
        kept, current = Browser(gate.url), Browser(gate.url)
        await kept.sign_up(EMAIL)
        await current.sign_in(EMAIL)
        await current.post("revoke-session", token=kept.token)
        there = Browser(app)
        there.cookies = dict(kept.cookies)
        assert DATA in there.cookies
        assert (await there.get("get-session"))["session"]["token"] == kept.token
        assert (await kept.ask("GET", "/dashboard")).status == 401
        assert await kept.get("get-session") is None
