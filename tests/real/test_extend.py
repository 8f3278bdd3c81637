"""Sessions that the gate extends and ends, as the real better-auth sees them afterwards."""

import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.better_auth_db import iso
from tests.real.conftest import real_app
from tests.real.test_companion import Person
from tests.server.gates import COOKIE, SECRET, running_gate

DATA = "better-auth.session_data"
DAY_MS = 86_400_000
ATTEMPTS = 200


@asynccontextmanager
async def app_behind_gate(
    folder: Path, more: str, *, asks_app: bool = False, **options: object
) -> AsyncIterator[tuple[Person, Path, str]]:
    """Somebody at the gate, the database, and the app's own address."""
    database = folder / "auth.db"
    async with real_app(database, **options) as upstream:
        text = f"listen: 127.0.0.1:0\nupstream: {upstream}\nsecret: {SECRET}\nprotect: [/dashboard]\n"
        text += f"store: {upstream}/api/auth\n" if asks_app else f"store: sqlite:///{database}\n"
        async with (
            running_gate(upstream, database, more, text=text) as gate,
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
        ):
            yield Person(http, gate), database, upstream


def change(database: Path, statement: str, *values: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement, values)


def rows(database: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("select * from session")]


def make_due(database: Path) -> str:
    """A day of the session is over; returns when it ends now."""
    ends = iso(time.time_ns() // 1_000_000 + DAY_MS - 10_000)
    change(database, "update session set expiresAt = ?", ends)
    return ends


async def until_extended(person: Person) -> dict[str, str]:
    """The cookies that the gate sets, as soon as it does."""
    person.cookies.pop(DATA, None)
    for _ in range(ATTEMPTS):
        before = dict(person.cookies)
        status, text, _ = await person.ask("GET", "/dashboard")
        assert status == 200, text
        if person.cookies != before:
            return person.cookies
    raise AssertionError("the session was not extended")


async def get_session(http: aiohttp.ClientSession, app: str, cookies: dict[str, str]) -> Any:
    sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    async with http.get(f"{app}/api/auth/get-session", headers=sent) as response:
        assert response.status == 200
        assert "Set-Cookie" not in response.headers  # nothing is due, and a cookie of no use would be cleared
        return json.loads(await response.text())


@pytest.mark.parametrize("strategy", ["compact", "jwt", "jwe"])
async def test_app_takes_the_gates_cookies_for_its_own(tmp_path: Path, strategy: str) -> None:
    more = f"session: {{extend: gate, cookie_cache: {{strategy: {strategy}}}}}\n"
    async with app_behind_gate(tmp_path, more, cookieCache=strategy, plugins=True) as (person, database, app):
        user = await person.sign_up("zoe@example.test")
        ended = make_due(database)
        cookies = await until_extended(person)
        (row,) = rows(database)
        assert row["expiresAt"] > ended
        change(database, "delete from session")  # so only the cookie can say it
        found = await get_session(person.http, app, cookies)
    assert (found["user"]["id"], found["user"]["role"]) == (user["id"], "user")
    assert found["user"]["name"] == "Zoë Ångström"
    assert found["user"]["email"] == "zoe@example.test"
    names = ("id", "token", "userId", "expiresAt", "createdAt", "updatedAt", "ipAddress", "userAgent")
    assert {name: found["session"][name] for name in names} == {name: row[name] for name in names}


async def test_app_reads_what_the_gate_extended(tmp_path: Path) -> None:
    async with app_behind_gate(tmp_path, "session: {extend: gate}\n") as (person, database, app):
        await person.sign_up("zoe@example.test")
        make_due(database)
        cookies = await until_extended(person)
        found = await get_session(person.http, app, {COOKIE: cookies[COOKIE]})  # not due: the app sets no cookie either
        (row,) = rows(database)
    assert (found["session"]["expiresAt"], found["session"]["updatedAt"]) == (row["expiresAt"], row["updatedAt"])


async def test_who_is_not_to_be_remembered_is_not_extended(tmp_path: Path) -> None:
    async with app_behind_gate(tmp_path, "session: {extend: gate}\n") as (person, database, _):
        await person.sign_up("zoe@example.test")
        person.cookies.clear()
        body = {"email": "zoe@example.test", "password": "a long enough password", "rememberMe": False}
        assert (await person.ask("POST", "/api/auth/sign-in/email", body))[0] == 200
        ended = make_due(database)
        for _ in range(3):
            status, _, headers = await person.ask("GET", "/dashboard")
            assert (status, headers.get("Set-Cookie")) == (200, None)
        assert {row["expiresAt"] for row in rows(database)} == {ended}


@pytest.mark.parametrize("asks_app", [False, True], ids=["in-the-database", "by-the-app"])
async def test_signed_out_at_the_gate_is_signed_out_at_the_app(tmp_path: Path, asks_app: bool) -> None:
    async with app_behind_gate(tmp_path, "", asks_app=asks_app) as (person, database, app):
        await person.sign_up("zoe@example.test")
        kept = dict(person.cookies)
        assert (await person.ask("GET", "/dashboard"))[0] == 200
        status, text, _ = await person.ask("POST", "/.gatekeeper/sign-out", {}, Accept="*/*")
        assert (status, json.loads(text)) == (200, {"success": True})
        assert set(person.cookies.values()) == {""}
        assert rows(database) == []
        person.cookies = kept
        assert (await person.ask("GET", "/dashboard"))[0] == 307
        sent = {"Cookie": f"{COOKIE}={kept[COOKIE]}"}
        async with person.http.get(f"{app}/api/auth/get-session", headers=sent) as response:
            assert await response.text() == "null"
