"""The SQLite feed under the real better-auth: its triggers tell of what it does, and are not in its way."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp

from gatekeeper.stores.feeds.sqlite import SqliteChannel
from gatekeeper.stores.feeds.sqlite_setup import apply, statements
from gatekeeper.stores.tables import Tables
from tests.real.conftest import real_app
from tests.real.test_companion import Person
from tests.server.gates import COOKIE
from tests.stores.feeds.listener import Listener

TABLES = Tables(with_organizations=True)
ZOE = {"email": "zoe@example.test", "password": "a long enough password"}


class Told:
    """The person Zoë, two signed-in browsers of hers, and what the feed tells of these."""

    def __init__(self, app: str, database: Path, http: aiohttp.ClientSession) -> None:
        self.first, self.second = (Person(http, SimpleNamespace(url=app)) for _ in range(2))  # type: ignore[arg-type]
        self.database = database
        self.channel = SqliteChannel(database, TABLES, self._never)
        self.listener = Listener()

    async def begin(self) -> None:
        user = await self.first.sign_up(ZOE["email"])
        apply(self.database, statements(TABLES, undo=False))
        await self.channel.open(self.listener)
        await self.do(self.second, "sign-in/email", ZOE)
        assert await self.news() == []
        self.listener.know("zoe", user["id"])
        self.listener.know("first", self.token_of(self.first))
        self.listener.know("second", self.token_of(self.second))

    async def do(self, person: Person, call: str, body: object) -> dict[str, Any]:
        status, text, _ = await person.ask("POST", f"/api/auth/{call}", body)
        assert status == 200, text
        return json.loads(text)

    async def news(self) -> list[str]:
        await self.channel.turn()
        return self.listener.took()

    def token_of(self, person: Person) -> str:
        return person.cookies[COOKIE].partition(".")[0]

    async def _never(self) -> None:
        raise AssertionError("there is a change table")


@asynccontextmanager
async def told_of_an_app(folder: Path) -> AsyncIterator[Told]:
    database = folder / "auth.db"
    async with (
        real_app(database, plugins=True) as app,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        told = Told(app, database, http)
        try:
            await told.begin()
            yield told
        finally:
            await told.channel.close()


async def test_sessions_that_end_are_named(tmp_path: Path) -> None:
    async with told_of_an_app(tmp_path) as told:
        await told.do(told.first, "revoke-other-sessions", {})
        assert await told.news() == ["s:second"]
        await told.do(told.second, "sign-in/email", ZOE)
        assert await told.news() == []
        await told.do(told.first, "sign-out", {})
        assert await told.news() == ["s:first"]


async def test_sessions_and_users_that_change_are_named(tmp_path: Path) -> None:
    async with told_of_an_app(tmp_path) as told:
        await told.do(told.first, "update-user", {"name": "Zoë"})
        assert "u:zoe" in await told.news()
        with closing(sqlite3.connect(told.database)) as connection, connection:
            connection.execute(
                "update session set expiresAt = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+1 hour') where token = ?",
                (told.token_of(told.second),),
            )
        assert await told.news() == ["s:second"]
        status, _, _ = await told.second.ask("GET", "/api/auth/get-session")
        assert status == 200
        assert await told.news() == ["s:second"]  # it was extended


async def test_memberships_are_told_by_user(tmp_path: Path) -> None:
    async with told_of_an_app(tmp_path) as told:
        made = await told.do(told.first, "organization/create", {"name": "Acme", "slug": "acme"})
        news = await told.news()
        assert "u:zoe" in news
        assert "all" not in news
        organization = {"organizationId": made["id"]}
        await told.do(told.first, "organization/update", {**organization, "data": {"name": "Acme Ltd"}})
        assert await told.news() == []
        await told.do(told.first, "organization/update", {**organization, "data": {"slug": "umbrella"}})
        assert await told.news() == ["all"]
        await told.do(told.first, "organization/delete", organization)
        assert "all" in await told.news()
