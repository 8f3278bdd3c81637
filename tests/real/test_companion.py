"""Companion mode with the real better-auth: it owns the sessions, the gate in front verifies them."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from urllib.parse import unquote

import aiohttp
import pytest

from tests.better_auth_db import iso
from tests.real.conftest import real_app, run_node
from tests.server.conftest import now_ms
from tests.server.gates import COOKIE, FOUR_LINES, SECRET, RunningGate, cookie_value, running_gate

PAGE = {"Accept": "text/html"}
GET_SESSION = "/api/auth/get-session"
SERVED = "session: {serve_get_session: true}\n"
UNCACHED = "session: {memory_cache: {max_age: 0}}\n"


class Person:
    """A browser at the gate: keeps cookies itself, sends the gate's origin."""

    def __init__(self, http: aiohttp.ClientSession, gate: RunningGate) -> None:
        self.http = http
        self.url = gate.url
        self.cookies: dict[str, str] = {}

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str, dict[str, str]]:
        sent = {**PAGE, **headers}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if method != "GET":
            sent["Origin"] = self.url
        data = None if body is None else json.dumps(body)
        if body is not None:
            sent["Content-Type"] = "application/json"
        call = self.http.request(method, self.url + path, headers=sent, data=data, allow_redirects=False)
        async with call as response:
            for line in response.headers.getall("Set-Cookie", []):
                name, _, value = line.partition(";")[0].partition("=")
                self.cookies[name] = value
            return response.status, await response.text(), dict(response.headers)

    async def sign_up(self, email: str) -> dict[str, object]:
        body = {"name": "Zoë Ångström", "email": email, "password": "a long enough password"}
        status, text, _ = await self.ask("POST", "/api/auth/sign-up/email", body)
        assert status == 200, text
        return json.loads(text)["user"]


@asynccontextmanager
async def app_behind_gate(folder: Path, more: str = "", **options: object) -> AsyncIterator[tuple[Person, Path]]:
    database = folder / "auth.db"
    async with (
        real_app(database, **options) as upstream,
        running_gate(upstream, database, more) as gate,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        yield Person(http, gate), database


async def test_signed_up_at_the_app_and_verified_by_the_gate(tmp_path: Path) -> None:
    async with app_behind_gate(tmp_path) as (person, _):
        assert (await person.ask("GET", "/dashboard"))[0] == 307
        user = await person.sign_up("zoe@example.test")
        status, text, _ = await person.ask("GET", "/dashboard?tab=1")
        assert status == 200
        seen = json.loads(text)
        assert seen["url"] == "/dashboard?tab=1"
        assert seen["headers"]["x-auth-user-id"] == user["id"]
        assert seen["headers"]["x-auth-name"] == "Zo%C3%AB %C3%85ngstr%C3%B6m"
        assert seen["headers"]["x-auth-status"] == "authenticated"
        assert seen["headers"]["x-auth-email-verified"] == "false"
        assert "x-auth-email" not in seen["headers"]


async def test_whoami_says_what_the_app_says(tmp_path: Path) -> None:
    async with app_behind_gate(tmp_path, plugins=True) as (person, _):
        await person.sign_up("zoe@example.test")
        own = json.loads((await person.ask("GET", "/.gatekeeper/whoami"))[1])
        theirs = json.loads((await person.ask("GET", "/api/auth/get-session"))[1])
        token = theirs["session"].pop("token")
        for name in ("id", "userId", "expiresAt", "createdAt", "updatedAt", "ipAddress", "userAgent"):
            assert own["session"][name] == theirs["session"][name]
        for name in ("id", "name", "email", "emailVerified", "image", "createdAt", "updatedAt", "twoFactorEnabled"):
            assert own["user"][name] == theirs["user"][name]
        assert token not in json.dumps(own)


async def test_the_app_sees_one_client_address(tmp_path: Path) -> None:
    async with app_behind_gate(tmp_path) as (person, _):
        await person.sign_up("zoe@example.test")
        theirs = json.loads((await person.ask("GET", "/api/auth/get-session"))[1])
        assert theirs["session"]["ipAddress"] == "127.0.0.1"


async def test_signed_out_at_the_app_is_a_redirect_at_the_gate(tmp_path: Path) -> None:
    async with app_behind_gate(tmp_path, UNCACHED) as (person, _):
        await person.sign_up("zoe@example.test")
        before = dict(person.cookies)
        assert (await person.ask("GET", "/dashboard"))[0] == 200
        assert (await person.ask("POST", "/api/auth/sign-out", {}))[0] == 200
        person.cookies = before  # the browser kept the cookie: the session behind it is gone
        assert (await person.ask("GET", "/dashboard"))[0] == 307


async def test_deleted_row_is_a_redirect(tmp_path: Path) -> None:
    async with app_behind_gate(tmp_path, UNCACHED) as (person, database):
        await person.sign_up("zoe@example.test")
        assert (await person.ask("GET", "/dashboard"))[0] == 200
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("delete from session")
        assert (await person.ask("GET", "/dashboard"))[0] == 307


async def test_banned_user_has_no_session(tmp_path: Path) -> None:
    async with app_behind_gate(tmp_path, UNCACHED, plugins=True) as (person, database):
        await person.sign_up("zoe@example.test")
        assert (await person.ask("GET", "/dashboard"))[0] == 200
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("update user set banned = 1")
        assert (await person.ask("GET", "/dashboard"))[0] == 307


async def test_changed_signature_is_a_redirect(tmp_path: Path) -> None:
    async with app_behind_gate(tmp_path) as (person, _):
        await person.sign_up("zoe@example.test")
        token, dot, signature = person.cookies[COOKIE].rpartition(".")
        other = "A" if signature[0] != "A" else "B"
        person.cookies[COOKIE] = token + dot + other + signature[1:]
        status, _, headers = await person.ask("GET", "/dashboard")
        assert (status, headers["Location"]) == (307, "/sign-in?callbackUrl=%2Fdashboard")
        assert COOKIE not in headers.get("Set-Cookie", "")  # never cleared by the gate


async def test_roles_are_those_of_the_admin_plugin(tmp_path: Path) -> None:
    async with app_behind_gate(tmp_path, UNCACHED, plugins=True) as (person, database):
        await person.sign_up("zoe@example.test")
        seen = json.loads((await person.ask("GET", "/dashboard"))[1])
        assert seen["headers"]["x-auth-roles"] == "user"
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("update user set role = 'user,admin'")
        seen = json.loads((await person.ask("GET", "/dashboard"))[1])
        assert seen["headers"]["x-auth-roles"] == "admin,user"


@pytest.mark.parametrize("strategy", ["compact", "jwt", "jwe"])
async def test_cookie_cache_beside_the_session_cookie(tmp_path: Path, strategy: str) -> None:
    async with app_behind_gate(tmp_path, cookieCache=strategy) as (person, _):
        user = await person.sign_up("zoe@example.test")
        assert "better-auth.session_data" in person.cookies
        seen = json.loads((await person.ask("GET", "/dashboard"))[1])
        assert seen["headers"]["x-auth-user-id"] == user["id"]
        only_cache = {"better-auth.session_data": person.cookies["better-auth.session_data"]}
        person.cookies = only_cache
        assert (await person.ask("GET", "/dashboard"))[0] == 307


async def asked_of_the_app(person: Person, path: str) -> int:
    """How often the app was asked this."""
    return int(json.loads((await person.ask("GET", "/"))[1])["asked"].get(path, 0))


@pytest.mark.parametrize("plugins", [False, True], ids=["core", "plugins"])
@pytest.mark.parametrize("cache", [None, "compact"])
async def test_get_session_of_the_gate_is_that_of_the_app(tmp_path: Path, plugins: bool, cache: str | None) -> None:
    options = {"plugins": plugins} | ({} if cache is None else {"cookieCache": cache})
    async with app_behind_gate(tmp_path, SERVED, **options) as (person, database):
        await person.sign_up("zoe@example.test")
        if plugins:  # as older users are, and as admins make them
            with closing(sqlite3.connect(database)) as connection, connection:
                connection.execute("update user set banReason = 'was once', banExpires = '2020-01-02T03:04:05.006Z'")
        ours, ours_text, our_headers = await person.ask("GET", GET_SESSION)
        assert await asked_of_the_app(person, GET_SESSION) == 0
        theirs, their_text, their_headers = await person.ask("GET", f"{GET_SESSION}?disableCookieCache=true")
        assert ours == theirs == 200
        assert json.loads(ours_text) == json.loads(their_text)
        for name in ("content-type", "cache-control", "pragma"):
            found = [
                [value for key, value in headers.items() if key.lower() == name]
                for headers in (our_headers, their_headers)
            ]
            assert found[0] == found[1]
        person.cookies = {}
        assert (await person.ask("GET", GET_SESSION))[1] == "null"
        assert await asked_of_the_app(person, GET_SESSION) == 0


async def test_a_session_that_is_over_is_cleared_by_the_app(tmp_path: Path) -> None:
    async with app_behind_gate(tmp_path, SERVED) as (person, database):
        await person.sign_up("zoe@example.test")
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("delete from session")
        assert (await person.ask("GET", GET_SESSION))[1] == "null"
        assert person.cookies[COOKIE] == ""
        assert await asked_of_the_app(person, GET_SESSION) == 1


async def test_a_session_that_is_due_is_extended_by_the_app(tmp_path: Path) -> None:
    async with app_behind_gate(tmp_path, SERVED) as (person, database):
        await person.sign_up("zoe@example.test")
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("update session set expiresAt = ?", (iso(now_ms() + 86_390_000),))
        extended = json.loads((await person.ask("GET", GET_SESSION))[1])
        assert await asked_of_the_app(person, GET_SESSION) == 1
        assert extended["session"]["expiresAt"] > iso(now_ms() + 172_000_000)
        assert json.loads((await person.ask("GET", GET_SESSION))[1]) == extended
        assert await asked_of_the_app(person, GET_SESSION) == 1


async def test_what_an_older_secret_signed_is_taken_by_the_app_behind_the_gate(tmp_path: Path) -> None:
    before = "an-older-secret-of-more-than-32-bytes-77aa"
    database = tmp_path / "auth.db"
    text = FOUR_LINES.replace(
        "secret: {secret}", f"secrets: [{{{{version: 2, value: {SECRET}}}}}, {{{{version: 1, value: {before}}}}}]"
    )
    async with (
        real_app(database) as upstream,
        running_gate(upstream, database, text=text) as gate,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        person = Person(http, gate)
        user = await person.sign_up("zoe@example.test")
        now = person.cookies[COOKIE]
        person.cookies[COOKIE] = cookie_value(unquote(now).rpartition(".")[0], before)
        said = json.loads((await person.ask("GET", GET_SESSION))[1])
        assert said["user"]["id"] == user["id"]
        assert person.cookies[COOKIE] == now


async def test_unmodified_client_and_a_gate_that_answers_it(tmp_path: Path) -> None:
    async with app_behind_gate(tmp_path, SERVED) as (person, _):
        seen = await run_node("client.mjs", person.url, "node@example.test")
        assert await asked_of_the_app(person, GET_SESSION) == 0
        assert await asked_of_the_app(person, "/api/auth/update-user") == 1
    assert (seen["email"], seen["names"]) == ("node@example.test", ["Node Client", "Renamed Client"])
    assert (seen["isDate"], seen["after"], seen["cookies"]) == (True, None, [])


async def test_unmodified_client_through_the_gate(tmp_path: Path) -> None:
    async with app_behind_gate(tmp_path) as (person, _):
        seen = await run_node("client.mjs", person.url, "node@example.test")
        assert await asked_of_the_app(person, GET_SESSION) == 3
    assert seen["names"] == ["Node Client", "Renamed Client"]
    assert seen["before"] == 401  # Node's fetch says Sec-Fetch-Mode: cors, so this is no page navigation
    assert seen["signUpError"] is None
    assert seen["email"] == "node@example.test"
    assert seen["during"] == 200
    assert seen["signOut"] is True
    assert seen["after"] is None
    assert seen["cookies"] == []
