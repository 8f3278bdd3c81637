"""`stores.http` before the real better-auth: what its API says of a session is what the store says."""

import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from urllib.parse import unquote

import aiohttp
import pytest

from gatekeeper.core.cookies import Keys
from gatekeeper.core.errors import StoreLimited, StoreUnavailable
from gatekeeper.core.model import SessionToken
from gatekeeper.stores.http import HttpStore
from tests.better_auth_db import iso
from tests.real.conftest import real_app
from tests.server.gates import COOKIE, SECRET
from tests.stores.opening import open_on

ADDRESS = "203.0.113.7"
HOUR_MS = 3_600_000


class Visitor:
    """Somebody with a browser at the app itself, who keeps the session cookie."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http = http
        self.url = url
        self.cookie = ""

    @property
    def token(self) -> SessionToken:
        return SessionToken(unquote(self.cookie.partition("=")[2]).rpartition(".")[0])

    async def ask(self, method: str, path: str, body: object = None) -> object:
        headers = {"X-Forwarded-For": "203.0.113.99"}
        if self.cookie:
            headers |= {"Cookie": self.cookie, "Origin": self.url.removesuffix("/api/auth")}
        async with self.http.request(method, self.url + path, headers=headers, json=body) as response:
            assert response.status == 200, await response.text()
            for line in response.headers.getall("Set-Cookie", []):
                if COOKIE in line:
                    self.cookie = line.partition(";")[0]
            return json.loads(await response.text())

    async def sign_up(self) -> None:
        body = {"name": "Zoë Ångström", "email": "zoe@example.test", "password": "a long enough password"}
        await self.ask("POST", "/sign-up/email", body)

    async def sign_in(self) -> None:
        await self.ask("POST", "/sign-in/email", {"email": "zoe@example.test", "password": "a long enough password"})


class Setting:
    """The app, a visitor who is signed in, and the store that asks the app."""

    def __init__(self, database: Path, visitor: Visitor, store: HttpStore) -> None:
        self.database = database
        self.visitor = visitor
        self.store = store

    def rows(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Run a statement in the app's database."""
        with closing(sqlite3.connect(self.database, timeout=10)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def expire_at(self, ms: int) -> None:
        self.rows("update session set expiresAt = ? where token = ?", iso(ms), self.visitor.token)


@asynccontextmanager
async def signed_in(
    folder: Path, *, production: bool = False, path: str = "/api/auth", **options: object
) -> AsyncIterator[Setting]:
    database = folder / "auth.db"
    name = f"__Secure-{COOKIE}" if production else COOKIE
    async with (
        real_app(database, production=production, **options) as app,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        visitor = Visitor(http, f"{app}/api/auth")
        await visitor.sign_up()
        store = HttpStore(app + path, cookie_name=name, keys=Keys([SECRET]), timeout_s=30)
        try:
            yield Setting(database, visitor, store)
        finally:
            await store.close()


@pytest.mark.parametrize("plugins", [False, True], ids=["core", "plugins"])
async def test_the_record_is_that_of_the_database(tmp_path: Path, plugins: bool) -> None:
    async with signed_in(tmp_path, plugins=plugins) as s:
        sql = open_on(f"sqlite:///{s.database}", pool=1)
        record = await s.store.read_session(s.visitor.token, ADDRESS)
        assert record is not None
        assert record == await sql.read_session(s.visitor.token)
        assert (record.user.name, record.user.email) == ("Zoë Ångström", "zoe@example.test")
        assert record.session.ip_address == "203.0.113.99"
        await sql.close()


async def test_unknown_tokens_are_none_and_clear_nothing(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as s:
        await s.store.check()
        for token in ("unknown", s.visitor.token.swapcase(), s.visitor.token[:-1], "a\x00b", "ü", "x" * 100_000):
            assert await s.store.read_session(SessionToken(token), ADDRESS) is None
        assert await s.store.read_session(s.visitor.token, ADDRESS) is not None


@pytest.mark.parametrize("cache", [None, "compact", "jwt", "jwe"])
async def test_a_revoked_session_is_none_at_once(tmp_path: Path, cache: str | None) -> None:
    """Also where the app keeps sessions in cookies for a time: the store never sends one."""
    async with signed_in(tmp_path, **({} if cache is None else {"cookieCache": cache})) as s:
        first = s.visitor.token
        await s.visitor.sign_in()
        second = s.visitor.token
        for token in (first, second):
            assert await s.store.read_session(token, ADDRESS) is not None
        assert await s.visitor.ask("POST", "/revoke-session", {"token": first}) == {"status": True}
        assert await s.store.read_session(first, ADDRESS) is None
        assert await s.store.read_session(second, ADDRESS) is not None
        assert await s.visitor.ask("POST", "/sign-out", {}) == {"success": True}
        assert await s.store.read_session(second, ADDRESS) is None


async def test_an_expired_session_is_none(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as s:
        assert await s.store.read_session(s.visitor.token, ADDRESS) is not None
        s.expire_at(int(time.time() * 1000) - HOUR_MS)
        assert await s.store.read_session(s.visitor.token, ADDRESS) is None


async def test_a_date_that_is_none_is_no_session(tmp_path: Path) -> None:
    """The app itself takes such a session for a live one."""
    async with signed_in(tmp_path) as s:
        s.rows("update session set expiresAt = 'garbage'")
        assert await s.visitor.ask("GET", "/get-session") is not None
        assert await s.store.read_session(s.visitor.token, ADDRESS) is None


async def test_a_deleted_user_has_no_session(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as s:
        s.rows("delete from user")
        assert await s.store.read_session(s.visitor.token, ADDRESS) is None


@pytest.mark.parametrize("cache", [None, "compact"])
async def test_reads_extend_no_session(tmp_path: Path, cache: str | None) -> None:
    """The same question as a browser puts it does extend this one."""
    async with signed_in(tmp_path, **({} if cache is None else {"cookieCache": cache})) as s:
        s.expire_at(int(time.time() * 1000) + HOUR_MS)
        before = s.rows("select * from session")
        for _ in range(3):
            assert await s.store.read_session(s.visitor.token, ADDRESS) is not None
        assert s.rows("select * from session") == before
        await s.visitor.ask("GET", "/get-session")
        assert s.rows("select * from session") != before


async def test_the_rate_limit_counts_by_visitor(tmp_path: Path) -> None:
    """In production the app answers a hundred questions of one address in ten seconds."""
    async with signed_in(tmp_path, production=True) as s:
        for number in range(130):
            assert await s.store.read_session(s.visitor.token, f"198.51.100.{number}") is not None
        for _ in range(100):
            assert await s.store.read_session(s.visitor.token, ADDRESS) is not None
        with pytest.raises(StoreLimited, match=r"get-session answered 429; the app's rate limit") as caught:
            await s.store.read_session(s.visitor.token, ADDRESS)
        assert s.visitor.token not in str(caught.value)
        assert await s.store.read_session(s.visitor.token, "203.0.113.8") is not None


@pytest.mark.parametrize(
    ("path", "trouble"),
    [
        pytest.param("/api/auth/nothing", "get-session answered 404; is store.url the base path", id="not-an-endpoint"),
        pytest.param("/elsewhere", "something else than a session or null; is store.url right?", id="the-app-itself"),
    ],
)
async def test_another_path_is_unavailable(tmp_path: Path, path: str, trouble: str) -> None:
    async with signed_in(tmp_path, path=path) as s:
        with pytest.raises(StoreUnavailable, match=trouble.replace("?", r"\?")) as caught:
            await s.store.read_session(s.visitor.token, ADDRESS)
        assert s.visitor.token not in str(caught.value)
        with pytest.raises(StoreUnavailable):
            await s.store.check()


async def test_another_secret_knows_nobody(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as s:
        other = HttpStore(
            s.visitor.url, cookie_name=COOKIE, keys=Keys(["another-secret-of-more-than-32-bytes", SECRET])
        )
        assert await other.read_session(s.visitor.token, ADDRESS) is None
        await other.close()
