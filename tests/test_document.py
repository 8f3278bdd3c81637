"""The session-management document, line by line: a test for each line that is covered so far, named after it.

Later lines join as their features land.
"""

import json
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlencode

import pytest
from click.testing import CliRunner

from gatekeeper.cli import main
from gatekeeper.config.load import load_text
from gatekeeper.config.snapshot import compile_settings
from gatekeeper.core.cookies import Keys
from gatekeeper.core.model import Access, Route, SessionToken, Target
from gatekeeper.core.routing import match_route
from gatekeeper.core.session_data import SessionDataCookie, Strategy, decode
from gatekeeper.core.session_data_writing import SessionDataFormat, encode
from gatekeeper.core.urls import parse_target
from gatekeeper.stores.sql import SqlStore
from tests.attacks.judge import Response
from tests.better_auth_db import add_session, add_user, create_database, execute, iso, session_id
from tests.integrations.behind import SIGNED_IN as SIGNED_IN_SECURELY
from tests.integrations.behind import Behind, example_behind_a_gate
from tests.real.conftest import HAS_NODE, run_node
from tests.server.accounts_gates import DATA, PASSWORD, Browser, accounts_gate, migrate_at
from tests.server.conftest import TOKEN, USER_ID, database, now_ms, upstream
from tests.server.gates import COOKIE, SECRET, RunningGate, cookie_value, running_gate
from tests.server.pages.browsing import FIREFOX, SAFARI
from tests.server.test_people_pages import Browser as PageBrowser
from tests.server.test_session_data_decides import Fed, fed
from tests.server.upstreams import RecordingUpstream
from tests.server.wire import ask, mirrored
from tests.stores.account_places import SqliteAccounts
from tests.test_cli import FINE

__all__ = ["database", "fed", "upstream"]  # fixtures

CHANCE = "kJ8vQ2mX5tR9wZ3bN6yC1pL4fH7gD0sA"
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
STRATEGIES: tuple[Strategy, ...] = ("compact", "jwt", "jwe")
GET_SESSION = "/api/auth/get-session"
UNCACHED = "session: {memory_cache: {max_age: 0}}\n"
SIGNED_IN = f"Cookie: {COOKIE}={cookie_value(TOKEN)}"
PAGE = "Accept: text/html"
DOCS = Path(__file__).parent.parent / "docs"
VECTORS = json.loads((Path(__file__).parent / "vectors" / "session-data.json").read_text())


@pytest.fixture
async def accounts(tmp_path: Path) -> SqliteAccounts:
    """A file for accounts mode in which there is nobody yet."""
    place = SqliteAccounts(tmp_path / "auth.db")
    await migrate_at(place.url)
    return place


def data_of(browser: Browser, strategy: Strategy = "compact") -> SessionDataCookie:
    """What the session_data cookie in a browser says."""
    found = decode(browser.cookies[DATA], Keys([SECRET]), strategy=strategy, version="1", now_ms=now_ms())
    assert isinstance(found, SessionDataCookie)
    return found


async def test_line_1_signing_in_creates_a_session_record_in_the_database_in_accounts_mode(
    accounts: SqliteAccounts, upstream: RecordingUpstream
) -> None:
    async with accounts_gate(upstream.url, accounts.url, accounts.path.parent) as gate:
        phone, laptop = Browser(gate.url), Browser(gate.url)
        user = await phone.sign_up()
        refused = await laptop.ask("POST", "/api/auth/sign-in/email", {"email": user["email"], "password": "wrong"})
        assert (refused.status, await accounts.count("session")) == (401, 1)
        began = now_ms()
        await laptop.sign_in()
        ended = now_ms()
    rows = {row["token"]: row for row in await accounts.rows("session")}
    assert rows.keys() == {phone.token, laptop.token}
    row = rows[laptop.token]
    assert row["userId"] == user["id"]
    assert iso(began) <= row["createdAt"] == row["updatedAt"] <= iso(ended)
    assert iso(began + 2 * DAY_MS) <= row["expiresAt"] <= iso(ended + 2 * DAY_MS)


@pytest.mark.parametrize("is_https", [False, True])
async def test_line_2_the_signed_cookie_in_accounts_mode(
    accounts: SqliteAccounts, upstream: RecordingUpstream, is_https: bool
) -> None:
    """The app behind never sees it."""
    origin, more = ("https://app.example.test", "public_url: https://app.example.test\n") if is_https else (None, "")
    folder = accounts.path.parent
    async with accounts_gate(upstream.url, accounts.url, folder, more, secret=CHANCE) as gate:
        browser = Browser(gate.url, origin=origin)
        await browser.sign_up()
        answer = await browser.ask(
            "POST", "/api/auth/sign-in/email", {"email": "ada@example.test", "password": PASSWORD}
        )
        assert (await browser.ask("GET", "/dashboard")).status == 200
    name = f"__Secure-{COOKIE}" if is_https else COOKIE
    token = json.loads(answer.body)["token"]
    assert browser.cookies[name] == cookie_value(token, CHANCE)
    (line,) = [line for line in answer.values("set-cookie") if line.startswith(f"{name}=")]
    attributes = line.split("; ")[1:]
    assert set(attributes) == {"Max-Age=172800", "Path=/", "HttpOnly", "SameSite=Lax"} | (
        {"Secure"} if is_https else set()
    )
    (request,) = upstream.requests
    assert token not in request.head.decode()
    assert "Cookie: " not in request.head.decode()


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_line_3_the_cookie_that_caches_the_session_is_written_in_accounts_mode(
    accounts: SqliteAccounts, upstream: RecordingUpstream, strategy: Strategy
) -> None:
    more = f"session: {{cookie_cache: {{enabled: true, max_age: 5m, strategy: {strategy}}}}}\n"
    async with accounts_gate(upstream.url, accounts.url, accounts.path.parent, more) as gate:
        browser, began = Browser(gate.url), now_ms()
        user = await browser.sign_up()
        said = data_of(browser, strategy)
        assert began <= said.updated_at_ms <= now_ms()
        assert said.expires_at_ms is not None
        assert said.updated_at_ms // 1000 + 300 == said.expires_at_ms // 1000
        assert said.record.user.id == user["id"]
        assert said.record == await gate.gate.runtime.sessions.get(SessionToken(browser.token), "")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_line_3_the_cookie_that_caches_the_session_is_read(strategy: Strategy) -> None:
    captured = VECTORS["cookieCache"][strategy]
    keys = Keys([captured["secret"]])
    raw = captured["sessionDataCookie"]
    written = captured["payload"] if "payload" in captured else captured["decoded"]
    expected = written["session"] if strategy == "compact" else written
    at = expected["updatedAt"] + 1_000
    found = decode(raw, keys, strategy=strategy, version="1", now_ms=at)
    assert isinstance(found, SessionDataCookie)
    assert found.record.session.token == expected["session"]["token"]
    assert found.record.user.email == expected["user"]["email"]


async def test_line_3_with_it_requests_read_no_database(fed: Fed) -> None:
    """Where a feed tells of revocations: else it would keep a revoked session alive, as it does without a gate."""
    before = fed.reads
    for _ in range(3):
        assert (await ask(fed.gate.port, "GET", "/dashboard", fed.cookies(TOKEN))).status == 200
    assert fed.reads == before


async def test_line_4_a_session_lives_two_days_and_is_extended_daily_while_it_is_used(
    database: Path, upstream: RecordingUpstream
) -> None:
    """Companion mode, by `extend: gate`; what else is to be said of it is in `tests/server/test_extension.py`."""
    settings = "session: {expires_in: 2d, update_age: 1d, extend: gate}\n"
    for age_ms, is_extended in ((DAY_MS - HOUR_MS, False), (DAY_MS + HOUR_MS, True)):
        began = now_ms()
        execute(database, "update session set expiresAt = ?", (iso(began + 2 * DAY_MS - age_ms),))
        async with running_gate(upstream.url, database, settings) as gate:
            answers = [await ask(gate.port, "GET", "/dashboard", SIGNED_IN) for _ in range(20)]
        lines = [line for answer in answers for line in answer.values("set-cookie") if line.startswith(COOKIE)]
        assert [answer.status for answer in answers] == [200] * 20
        assert bool(lines) is is_extended
        assert all("Max-Age=172800" in line for line in lines)
        with closing(sqlite3.connect(database)) as connection:
            (expires,) = connection.execute("select expiresAt from session where token = ?", (TOKEN,)).fetchone()
        assert (expires >= iso(began + 2 * DAY_MS)) is is_extended


async def test_line_5_after_five_minutes_the_next_request_reads_the_database_once(fed: Fed) -> None:
    """The app behind then sets a new cookie, as its get-session does for any request without a current one."""
    fed.lease.begin(time.monotonic() - 3_600)
    for age_ms, reads in ((299_000, 0), (300_000, 1)):
        fed.sessions.all_changed()
        before = fed.reads
        for _ in range(3):
            assert (await ask(fed.gate.port, "GET", "/dashboard", fed.cookies(TOKEN, age_ms=age_ms))).status == 200
        assert fed.reads - before == reads


async def use(browser: Browser, target: str, *, times: int) -> bool:
    """Use a session without its session_data cookie until it is extended, so often at most; whether it was.

    A request through to the app waits for its extension only for a moment, so that it may be the next one that tells.
    """
    for _ in range(times):
        browser.cookies.pop(DATA, None)
        answer = await browser.ask("GET", target)
        assert answer.status == 200
        lines = [line for line in answer.values("set-cookie") if line.startswith(f"{COOKIE}=")]
        if lines:
            assert "; Max-Age=172800; " in lines[0]
            return True
    return False


@pytest.mark.parametrize("target", [GET_SESSION, "/dashboard"])
async def test_line_4_a_session_is_extended_daily_while_it_is_used_in_accounts_mode(
    accounts: SqliteAccounts, upstream: RecordingUpstream, target: str
) -> None:
    async with accounts_gate(upstream.url, accounts.url, accounts.path.parent, UNCACHED) as gate:
        browser = Browser(gate.url)
        await browser.sign_up()
        for age_ms, is_extended in ((DAY_MS - HOUR_MS, False), (DAY_MS + HOUR_MS, True)):
            signed_in, ends = now_ms() - age_ms, now_ms() - age_ms + 2 * DAY_MS
            dates = (iso(signed_in), iso(signed_in), iso(ends))
            execute(accounts.path, "update session set createdAt = ?, updatedAt = ?, expiresAt = ?", dates)
            began = now_ms()
            assert await use(browser, target, times=200 if is_extended else 5) is is_extended
            (row,) = await accounts.rows("session")
            assert row["createdAt"] == iso(signed_in)
            if is_extended:
                assert iso(began + 2 * DAY_MS) <= row["expiresAt"] <= iso(now_ms() + 2 * DAY_MS)
                assert iso(began) <= row["updatedAt"] <= iso(now_ms())
            else:
                assert (row["expiresAt"], row["updatedAt"]) == (iso(ends), iso(signed_in))
        execute(accounts.path, "update session set expiresAt = ?", (iso(now_ms() - 1),))
        assert (await browser.ask("GET", "/dashboard")).status == 401


async def test_line_4_who_is_not_to_be_remembered_is_not_extended_in_accounts_mode(
    accounts: SqliteAccounts, upstream: RecordingUpstream
) -> None:
    """Such a session lives for a day, so that it would be due at once."""
    async with accounts_gate(upstream.url, accounts.url, accounts.path.parent, UNCACHED) as gate:
        browser = Browser(gate.url)
        await browser.sign_up()
        await browser.post("sign-out")
        began = now_ms()
        await browser.sign_in(rememberMe=False)
        before = await accounts.rows("session")
        assert iso(began + DAY_MS) <= before[0]["expiresAt"] <= iso(now_ms() + DAY_MS)
        for target in (GET_SESSION, "/dashboard"):
            assert not await use(browser, target, times=5)
        assert await accounts.rows("session") == before
        del browser.cookies["better-auth.dont_remember"]
        assert await use(browser, "/dashboard", times=200)


class Covered:
    """A gate in accounts mode that is told of every change, and was for a while, so that session_data cookies count."""

    def __init__(self, gate: RunningGate) -> None:
        self.fed = Fed(gate)
        self.fed.lease.begin(time.monotonic() - 3_600)
        self.browser, self.other = Browser(gate.url), Browser(gate.url)

    async def age(self, browser: Browser, age_ms: int) -> None:
        """Give a browser the session_data cookie that it would have been given so long ago; the gate forgets it."""
        record = await self.fed.sessions.get(SessionToken(browser.token), "")
        assert record is not None
        form = SessionDataFormat("compact", "1", 300)
        made = encode(record, Keys([SECRET]), form, now_ms=now_ms() - age_ms, cookie_id="")
        assert made is not None
        browser.cookies[DATA] = made
        self.fed.sessions.all_changed()

    async def reads(self, browser: Browser, target: str) -> tuple[int, Response]:
        """How often the database is read for this, and the answer."""
        before = self.fed.reads
        answer = await browser.ask("GET", target)
        return self.fed.reads - before, answer


@pytest.fixture
async def covered(
    accounts: SqliteAccounts, upstream: RecordingUpstream, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Covered]:
    monkeypatch.setattr(SqlStore, "channel", lambda store, memory: None)
    async with accounts_gate(upstream.url, accounts.url, accounts.path.parent) as gate:
        covered = Covered(gate)
        await covered.browser.sign_up()
        await covered.other.sign_in()
        yield covered


async def test_line_5_after_five_minutes_get_session_reads_the_database_and_renews_the_cookie_in_accounts_mode(
    covered: Covered,
) -> None:
    browser = covered.browser
    for age_ms, reads in ((290_000, 0), (301_000, 1)):
        await covered.age(browser, age_ms)
        before, began = browser.cookies[DATA], now_ms()
        read, answer = await covered.reads(browser, GET_SESSION)
        assert (read, json.loads(answer.body)["user"]["name"]) == (reads, "Ada Łoś")
        assert (browser.cookies[DATA] != before) is (reads == 1)
    (line,) = answer.values("set-cookie")
    assert line.startswith(f"{DATA}={browser.cookies[DATA]}; Max-Age=300; ")
    assert began <= data_of(browser).updated_at_ms <= now_ms()
    covered.fed.sessions.all_changed()
    assert (await covered.reads(browser, "/dashboard"))[1].status == 200


async def test_line_5_a_revoked_session_is_dead_although_its_cookie_lives_in_accounts_mode(covered: Covered) -> None:
    """Better Auth goes on believing the cookie (see `tests/real/test_accounts.py`)."""
    for revoked, by in ((covered.other, covered.browser), (covered.browser, covered.browser)):
        await covered.age(revoked, 60_000)
        kept = dict(revoked.cookies)
        for target in (GET_SESSION, "/dashboard"):
            read, answer = await covered.reads(revoked, target)
            assert (read, answer.status, answer.body == b"null") == (0, 200, False)
        await by.post("revoke-session", token=revoked.token)
        revoked.cookies = dict(kept)
        assert data_of(revoked).record.session.token == revoked.token
        assert (await revoked.ask("GET", "/dashboard")).status == 401
        assert (await revoked.ask("GET", GET_SESSION)).body == b"null"
        assert not {COOKIE, DATA} & revoked.cookies.keys()


async def test_line_6_reading_the_session_gives_session_and_user_or_none(
    database: Path, upstream: RecordingUpstream
) -> None:
    async with running_gate(upstream.url, database) as gate:
        answer = json.loads((await ask(gate.port, "GET", "/.gatekeeper/whoami", SIGNED_IN)).body)
        nobody = await ask(gate.port, "GET", "/.gatekeeper/whoami")
    assert answer["user"]["id"] == answer["session"]["userId"] == USER_ID
    assert TOKEN not in json.dumps(answer)
    assert nobody.status == 401


async def test_line_7_without_a_session_401_and_with_one_the_user(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        for path in ("/.gatekeeper/whoami", "/dashboard"):
            refused = await ask(gate.port, "GET", path)
            assert refused.status == 401
            assert json.loads(refused.body)["error"] == "Unauthorized"
        answer = await ask(gate.port, "GET", "/.gatekeeper/whoami", SIGNED_IN)
    assert answer.status == 200
    assert json.loads(answer.body)["user"]["name"] == "Ada Łoś"


@pytest.mark.skipif(not HAS_NODE, reason="Node.js or the npm packages of tests/real are missing")
async def test_line_8_components_share_one_get_session_and_focus_asks_again_and_the_gate_answers(
    database: Path, upstream: RecordingUpstream
) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update session set expiresAt = ?", (iso(now_ms() + 172_000_000),))
    async with running_gate(upstream.url, database, "session: {serve_get_session: true}\n") as gate:
        seen = await run_node("use_session.mjs", gate.url, SIGNED_IN.removeprefix("Cookie: "))
    assert seen["emails"] == ["Ada@Example.TEST"] * 3
    assert (seen["mounted"], seen["focused"], seen["early"], seen["late"]) == (1, 2, 2, 3)
    assert upstream.requests == []  # the app was not asked


@pytest.mark.skipif(not HAS_NODE, reason="Node.js or the npm packages of tests/real are missing")
async def test_line_8_components_share_one_get_session_and_focus_asks_again_in_accounts_mode(
    accounts: SqliteAccounts, upstream: RecordingUpstream
) -> None:
    async with accounts_gate(upstream.url, accounts.url, accounts.path.parent) as gate:
        browser = Browser(gate.url)
        await browser.sign_up()
        cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        seen = await run_node("use_session.mjs", gate.url, cookies)
        assert seen["emails"] == ["ada@example.test"] * 3
        assert (seen["mounted"], seen["focused"], seen["early"], seen["late"]) == (1, 2, 2, 3)
        await browser.post("sign-out")
        seen = await run_node("use_session.mjs", gate.url, cookies)
        assert seen["emails"] == [None] * 3
    assert upstream.requests == []


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/x", "/settings", "/settings/security?tab=2"])
async def test_line_9_route_groups_are_protected_before_the_page_renders(
    database: Path, upstream: RecordingUpstream, path: str
) -> None:
    async with running_gate(upstream.url, database) as gate:
        assert (await ask(gate.port, "GET", path, PAGE)).status == 307
        assert upstream.requests == []
        assert (await ask(gate.port, "GET", path, PAGE, SIGNED_IN)).status == 200
    assert [request.target for request in upstream.requests] == [path]


@pytest.mark.parametrize(
    ("path", "callback"),
    [("/dashboard", "%2Fdashboard"), ("/settings/a?b=c&d=%20", "%2Fsettings%2Fa%3Fb%3Dc%26d%3D%2520")],
)
async def test_line_10_no_cookie_redirects_to_sign_in_with_the_path_asked_for(
    database: Path, upstream: RecordingUpstream, path: str, callback: str
) -> None:
    async with running_gate(upstream.url, database) as gate:
        response = await ask(gate.port, "GET", path, PAGE)
    assert response.values("location") == [f"/sign-in?callbackUrl={callback}"]


def _example(name: str) -> str:
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "migration.md").read_text(), re.DOTALL)
    return next(block for block in blocks if block.startswith(f"# example: {name}\n"))


@pytest.mark.parametrize(
    ("example", "path", "access"),
    [
        ("prefixes", "/dashboard", "session"),
        ("prefixes", "/settings/a.b", "session"),
        ("prefixes", "/dashboardx", "public"),
        ("prefixes", "/api/auth/get-session", "public"),
        ("prefixes", "/_next/static/chunk.js", "public"),
        ("deny-by-default", "/", "public"),
        ("deny-by-default", "/sign-in", "public"),
        ("deny-by-default", "/api/auth/get-session", "public"),
        ("deny-by-default", "/_next/static/chunk.js", "public"),
        ("deny-by-default", "/assets/logo.svg", "public"),
        ("deny-by-default", "/dashboard/x.json", "session"),
        ("deny-by-default", "/anything", "session"),
        ("presence", "/dashboard", "presence"),
        ("open-inside", "/dashboard", "session"),
        ("open-inside", "/dashboard/help", "public"),
        ("open-inside", "/dashboard/helpx", "session"),
    ],
)
def test_line_11_the_migration_page_gets_each_effect_of_the_matcher(example: str, path: str, access: str) -> None:
    environ = {"BETTER_AUTH_SECRET": CHANCE}
    settings = load_text(_example(example), source=example, base_dir=DOCS, environ=environ)
    target = parse_target("GET", path)
    assert isinstance(target, Target)
    route = match_route(compile_settings(settings).table, target)
    assert isinstance(route, Route)
    assert route.access is Access(access)


async def test_line_12_presence_sees_the_cookie_without_verifying_it(
    database: Path, upstream: RecordingUpstream
) -> None:
    text = (
        "listen: 127.0.0.1:0\nupstream: {upstream}\nsecret: {secret}\nstore: sqlite:///{database}\n"
        "protect: [{{path: /dashboard, access: presence}}]\n"
    )
    async with running_gate(upstream.url, database, text=text) as gate:
        database.unlink()  # no store is asked
        forged = await ask(gate.port, "GET", "/dashboard", PAGE, f"Cookie: {COOKIE}=forged")
        absent = await ask(gate.port, "GET", "/dashboard", PAGE)
    assert mirrored(forged)["headers"]["x-auth-status"] == "anonymous"
    assert absent.status == 307


async def test_line_13_the_verified_user_needs_a_real_session(database: Path, upstream: RecordingUpstream) -> None:
    token, _, signature = cookie_value(TOKEN).rpartition(".")
    other = "A" if signature[0] != "A" else "B"
    async with running_gate(upstream.url, database) as gate:
        forged = f"Cookie: {COOKIE}={token}.{other}{signature[1:]}"
        assert (await ask(gate.port, "GET", "/dashboard", PAGE, forged)).status == 307
        unknown = f"Cookie: {COOKIE}={cookie_value('signed-but-unknown')}"
        assert (await ask(gate.port, "GET", "/dashboard", PAGE, unknown)).status == 307
        assert upstream.requests == []
        assert (await ask(gate.port, "GET", "/dashboard", PAGE, SIGNED_IN)).status == 200


async def test_line_15_the_fields_of_the_user(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        user = json.loads((await ask(gate.port, "GET", "/.gatekeeper/whoami", SIGNED_IN)).body)["user"]
    assert user["id"] == USER_ID
    assert (user["name"], user["email"], user["emailVerified"]) == ("Ada Łoś", "Ada@Example.TEST", True)
    assert user["image"] is None
    assert user["createdAt"] == user["updatedAt"] == iso(1_790_000_000_000)
    assert user["twoFactorEnabled"] is True


async def test_line_16_the_fields_of_the_session(database: Path, upstream: RecordingUpstream) -> None:
    expires = now_ms() + 60_000
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update session set expiresAt = ?, ipAddress = null, userAgent = 'Firefox'", (iso(expires),))
    async with running_gate(upstream.url, database) as gate:
        session = json.loads((await ask(gate.port, "GET", "/.gatekeeper/whoami", SIGNED_IN)).body)["session"]
    assert session["id"] == session_id(TOKEN)
    assert session["userId"] == USER_ID
    assert session["expiresAt"] == iso(expires)
    assert session["createdAt"] == session["updatedAt"]
    assert session["ipAddress"] is None
    assert session["userAgent"] == "Firefox"
    assert "token" not in session


async def test_line_17_sessions_are_listed_with_their_devices_in_accounts_mode(
    accounts: SqliteAccounts, upstream: RecordingUpstream
) -> None:
    phones = {"203.0.113.7": "Phone/1.0", "2001:db8:1:2:3:4:5:6": "Laptop/2.0 (a; b)"}
    network = {"2001:db8:1:2:3:4:5:6": "2001:0db8:0001:0002:0000:0000:0000:0000"}
    more = "trusted_proxies: [127.0.0.1]\n"
    async with accounts_gate(upstream.url, accounts.url, accounts.path.parent, more) as gate:
        stranger = Browser(gate.url, "X-Forwarded-For: 198.51.100.1")
        await stranger.sign_up("eve@example.test")
        browsers = [
            Browser(gate.url, f"X-Forwarded-For: 198.51.100.9, {address}", f"User-Agent: {agent}")
            for address, agent in phones.items()
        ]
        user = await browsers[0].sign_up()
        await browsers[1].sign_in()
        expired = Browser(gate.url)
        await expired.sign_in()
        execute(accounts.path, "update session set expiresAt = ? where token = ?", (iso(now_ms()), expired.token))
        listed = await browsers[0].get("list-sessions")
    assert {one["token"] for one in listed} == {browser.token for browser in browsers}
    found = {one["token"]: (one["ipAddress"], one["userAgent"], one["userId"]) for one in listed}
    for browser, (address, agent) in zip(browsers, phones.items(), strict=True):
        assert found[browser.token] == (network.get(address, address), agent, user["id"])


@pytest.mark.parametrize(
    ("trusted", "forwarded", "kept"),
    [
        pytest.param("[]", "203.0.113.7", "127.0.0.1", id="nobody-is-trusted"),
        pytest.param("[192.0.2.0/24]", "203.0.113.7", "127.0.0.1", id="somebody-else-is"),
        pytest.param("[127.0.0.1]", "203.0.113.7", "203.0.113.7", id="the-peer-is"),
        pytest.param("[127.0.0.1]", "203.0.113.7, 198.51.100.9", "198.51.100.9", id="whom-the-peer-saw"),
        pytest.param(
            "[127.0.0.1, 198.51.100.9]", "1.2.3.4, 203.0.113.7, 198.51.100.9", "203.0.113.7", id="two-proxies"
        ),
        pytest.param("[127.0.0.1]", "no-address", "127.0.0.1", id="what-is-no-address"),
    ],
)
async def test_line_17_addresses_are_believed_of_trusted_proxies_alone_in_accounts_mode(
    accounts: SqliteAccounts, upstream: RecordingUpstream, trusted: str, forwarded: str, kept: str
) -> None:
    more = f"trusted_proxies: {trusted}\n"
    async with accounts_gate(upstream.url, accounts.url, accounts.path.parent, more) as gate:
        browser = Browser(gate.url, f"X-Forwarded-For: {forwarded}")
        await browser.sign_up()
        (listed,) = await browser.get("list-sessions")
    (row,) = await accounts.rows("session")
    assert listed["ipAddress"] == row["ipAddress"] == kept


class Three:
    """Three browsers of Ada's and one of Eve's, signed in at a gate in accounts mode."""

    def __init__(self, gate: RunningGate, place: SqliteAccounts) -> None:
        self.ada = [Browser(gate.url) for _ in range(3)]
        self.eve = Browser(gate.url)
        self.place = place

    async def sign_in(self) -> None:
        first, *others = self.ada
        await first.sign_up()
        for other in others:
            await other.sign_in()
        await self.eve.sign_up("eve@example.test", "Eve")

    async def live(self) -> list[bool]:
        """Whether each of them is let through now, Eve last; only the sessions of those are in the database."""
        browsers, tokens = [*self.ada, self.eve], {row["token"] for row in await self.place.rows("session")}
        statuses = [(await browser.ask("GET", "/dashboard")).status for browser in browsers]
        live = [status == 200 for status in statuses]
        assert set(statuses) <= {200, 401}
        assert tokens == {browser.token for browser, is_live in zip(browsers, live, strict=True) if is_live}
        return live


@pytest.fixture
async def three(accounts: SqliteAccounts, upstream: RecordingUpstream) -> AsyncIterator[Three]:
    async with accounts_gate(upstream.url, accounts.url, accounts.path.parent) as gate:
        three = Three(gate, accounts)
        await three.sign_in()
        assert await three.live() == [True] * 4
        yield three


@pytest.mark.parametrize("named_by", ["token", "id"])
async def test_line_18_one_session_is_revoked_by_token_and_by_id_in_accounts_mode(three: Three, named_by: str) -> None:
    """Better Auth takes the token alone, and the document passes the id."""
    first, second, _ = three.ada
    (name,) = [one[named_by] for one in await first.get("list-sessions") if one["token"] == second.token]
    assert await first.post("revoke-session", token=name) == {"status": True}
    assert await three.live() == [True, False, True, True]


@pytest.mark.parametrize("named_by", ["token", "id"])
async def test_line_18_only_one_s_own_is_revoked_in_accounts_mode(three: Three, named_by: str) -> None:
    """The answer does not say whether there is such a session."""
    (theirs,) = await three.eve.get("list-sessions")
    assert await three.ada[0].post("revoke-session", token=theirs[named_by]) == {"status": True}
    assert await three.ada[0].post("revoke-session", token="nothing") == {"status": True}
    assert await three.live() == [True] * 4


@pytest.mark.parametrize(
    ("call", "live"),
    [
        ("revoke-other-sessions", [True, False, False, True]),
        ("sign-out", [False, True, True, True]),
        ("revoke-sessions", [False, False, False, True]),
    ],
)
async def test_line_18_all_others_or_this_one_or_all_end_in_accounts_mode(
    three: Three, call: str, live: list[bool]
) -> None:
    kept = dict(three.ada[0].cookies)
    assert await three.ada[0].post(call) == ({"success": True} if call == "sign-out" else {"status": True})
    assert (COOKIE in three.ada[0].cookies) is live[0]
    three.ada[0].cookies = kept  # whoever copied the cookies has no more of them than the browser
    assert await three.live() == live


async def test_line_18_the_gate_s_own_form_signs_out_in_accounts_mode(three: Three) -> None:
    kept = dict(three.ada[0].cookies)
    assert (await three.ada[0].ask("POST", "/.gatekeeper/sign-out", None, "Accept: */*")).status == 200
    assert COOKIE not in three.ada[0].cookies
    three.ada[0].cookies = kept
    assert await three.live() == [False, True, True, True]


@pytest.mark.parametrize("named_by", ["token", "id"])
def test_line_18_one_session_is_revoked_by_token_and_by_id(database: Path, tmp_path: Path, named_by: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(FINE.replace("sqlite:///auth.db", f"sqlite:///{database}"))
    name = TOKEN if named_by == "token" else session_id(TOKEN)
    done = CliRunner().invoke(main, ["sessions", "revoke", "-", "-c", str(config)], input=f"{name}\n")
    assert (done.exit_code, done.output) == (0, "1 session revoked\n")
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("select count(*) from session where token = ?", (TOKEN,)).fetchone() == (0,)


# --- through an app behind the gate ----------------------------------------------------------------------------------


async def app_reads(behind: Behind) -> Response:
    """What a route handler of the app answers that tells the session it reads."""
    return await behind.ask("/api/me", SIGNED_IN_SECURELY, "Accept: application/json")


async def test_line_6_reading_the_session_in_the_app_gives_session_and_user_or_none(database: Path) -> None:
    async with example_behind_a_gate("aiohttp_app.py", database) as behind:
        document = json.loads((await app_reads(behind)).body)
        assert document.keys() == {"session", "user"}
        assert document["user"]["id"] == document["session"]["userId"] == USER_ID
        assert TOKEN not in json.dumps(document)
        assert (await behind.ask("/", SIGNED_IN_SECURELY)).body == f"Hello {USER_ID}".encode()
        assert (await behind.ask("/")).body == b"Hello nobody"


async def test_line_7_a_route_handler_of_the_app_answers_401_without_a_session(database: Path) -> None:
    async with example_behind_a_gate("aiohttp_app.py", database) as behind:
        refused = await behind.ask("/api/me", "Accept: application/json")
        answer = await app_reads(behind)
    assert refused.status == 401
    assert json.loads(refused.body)["error"] == "Unauthorized"
    assert (answer.status, json.loads(answer.body)["user"]["name"]) == (200, "Ada Łoś")


async def test_line_14_pages_that_slip_through_are_guarded_again_by_the_app(database: Path) -> None:
    """Through the gate, which lets everybody pass there, and around it."""
    async with example_behind_a_gate("aiohttp_app.py", database) as behind:
        for slipped in (behind.ask, behind.ask_around):
            page = await slipped("/api/me", PAGE)
            assert (page.status, page.values("location")) == (307, ["/sign-in?callbackUrl=%2Fapi%2Fme"])
        around = await behind.ask_around("/dashboard?tab=1", PAGE, SIGNED_IN_SECURELY)
        assert around.values("location") == ["/sign-in?callbackUrl=%2Fdashboard%3Ftab%3D1"]
        assert (await behind.ask("/dashboard", PAGE, SIGNED_IN_SECURELY)).status == 200


@pytest.mark.parametrize("has_plugin", [True, False])
async def test_line_15_the_fields_of_the_user_in_the_app(tmp_path: Path, has_plugin: bool) -> None:
    """The second factor is told with that plugin alone."""
    path, now = tmp_path / "auth.db", now_ms()
    create_database(path, "admin+organization+twoFactor" if has_plugin else "core")
    more = {"twoFactorEnabled": 0} if has_plugin else {"image": "https://img.test/ada.png"}
    add_user(path, id=USER_ID, name="Ada Łoś", email="Ada@Example.TEST", email_verified=False, **more)
    add_session(path, user_id=USER_ID, token=TOKEN, expires_at_ms=now + HOUR_MS, created_at_ms=now)
    execute(path, "update user set updatedAt = ?", (iso(1_790_000_000_123),))
    async with example_behind_a_gate("aiohttp_app.py", path) as behind:
        user = json.loads((await app_reads(behind)).body)["user"]
    assert user == {
        "id": USER_ID,
        "name": "Ada Łoś",
        "email": "Ada@Example.TEST",
        "emailVerified": False,
        "image": None if has_plugin else "https://img.test/ada.png",
        "createdAt": "2026-09-21T14:13:20.000Z",
        "updatedAt": "2026-09-21T14:13:20.123Z",
    } | ({"twoFactorEnabled": False} if has_plugin else {})


@pytest.mark.parametrize(("address", "agent"), [(None, None), ("203.0.113.7", "Firefox")])
async def test_line_16_the_fields_of_the_session_in_the_app(
    database: Path, address: str | None, agent: str | None
) -> None:
    expires, created = now_ms() + 60_000, now_ms() - HOUR_MS
    columns = "expiresAt = ?, createdAt = ?, updatedAt = ?, ipAddress = ?, userAgent = ?"
    dates = (iso(expires), iso(created), iso(created + 1))
    execute(database, f"update session set {columns}", (*dates, address, agent))  # noqa: S608
    async with example_behind_a_gate("aiohttp_app.py", database) as behind:
        session = json.loads((await app_reads(behind)).body)["session"]
    assert session == {
        "id": session_id(TOKEN),
        "userId": USER_ID,
        "expiresAt": iso(expires),
        "createdAt": iso(created),
        "updatedAt": iso(created + 1),
        "ipAddress": address,
        "userAgent": agent,
    }


CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
)
SESSIONS = "/.gatekeeper/sessions"
MODES = ("companion", "accounts")
AGENTS = (FIREFOX, SAFARI, CHROME)
"""Those of Ada's devices at the page of active sessions, in the order in which they signed in."""


class AtPage:
    """Ada's three devices and Eve's one, with browsers that show the page of active sessions."""

    def __init__(self, gate: RunningGate, database: Path, cookies: Sequence[str]) -> None:
        self.database = database
        self._tokens = [unquote(value).rpartition(".")[0] for value in cookies]
        self._gate = gate
        self._cookies = cookies
        self.laptop, self.phone, self.desktop, self.eve = (PageBrowser(gate, {COOKIE: value}) for value in cookies)

    async def live(self) -> list[bool]:
        """Whether each device is let through now, Eve's last; only the sessions of those are in the database."""
        headers = [f"Cookie: {COOKIE}={value}" for value in self._cookies]
        statuses = [(await ask(self._gate.port, "GET", "/dashboard", header)).status for header in headers]
        assert set(statuses) <= {200, 401}
        live = [status == 200 for status in statuses]
        with closing(sqlite3.connect(self.database)) as connection:
            kept = {token for (token,) in connection.execute("select token from session")}
        assert kept == {token for token, is_live in zip(self._tokens, live, strict=True) if is_live}
        return live


@asynccontextmanager
async def in_companion_mode(upstream: RecordingUpstream, database: Path) -> AsyncIterator[AtPage]:
    add_user(database, id="eve", name="Eve", email="eve@example.test")
    execute(database, "update session set userAgent = ?, ipAddress = '203.0.113.7'", (FIREFOX,))
    owners = {"A" * 32: (USER_ID, SAFARI), "B" * 32: (USER_ID, CHROME), "E" * 32: ("eve", "Eve/1.0")}
    for number, (token, (user_id, agent)) in enumerate(owners.items()):
        dates = {"created_at_ms": now_ms() - 3_000 + 1_000 * number, "expires_at_ms": now_ms() + HOUR_MS}
        add_session(database, user_id=user_id, token=token, userAgent=agent, ipAddress="203.0.113.7", **dates)
    async with running_gate(upstream.url, database) as gate:
        yield AtPage(gate, database, [cookie_value(token) for token in (TOKEN, *owners)])


@asynccontextmanager
async def in_accounts_mode(upstream: RecordingUpstream, path: Path) -> AsyncIterator[AtPage]:
    place = SqliteAccounts(path)
    await migrate_at(place.url)
    more = "trusted_proxies: [127.0.0.1]\n"
    async with accounts_gate(upstream.url, place.url, path.parent, more) as gate:
        address = "X-Forwarded-For: 203.0.113.7"
        browsers = [Browser(gate.url, f"User-Agent: {agent}", address) for agent in (*AGENTS, "Eve/1.0")]
        first, *others, eve = browsers
        await first.sign_up()
        for other in others:
            await other.sign_in()
        await eve.sign_up("eve@example.test", "Eve")
        yield AtPage(gate, path, [browser.cookies[COOKIE] for browser in browsers])


@pytest.fixture(params=MODES)
async def at_page(request: pytest.FixtureRequest, upstream: RecordingUpstream, database: Path) -> AsyncIterator[AtPage]:
    is_companion = request.param == "companion"
    async with (
        in_companion_mode(upstream, database)
        if is_companion
        else in_accounts_mode(upstream, database.with_name("accounts.db"))
    ) as at_page:
        assert await at_page.live() == [True] * 4
        yield at_page


async def press(browser: PageBrowser, button: str) -> Response:
    """What comes of a button of the page that the browser shows, by its text or its label."""
    forms = re.findall(r"<form(.*?)>(.*?)</form>", browser.page, re.DOTALL)
    name = re.compile(rf'<button[^>]*(?:aria-label="{re.escape(button)}"[^>]*>|>\s*{re.escape(button)}\s*</button>)')
    ((given, inside),) = [form for form in forms if name.search(unescape(form[1]))]
    (action,) = re.findall(r'action="(.*?)"', given)
    fields = dict(re.findall(r'<input type="hidden" name="(.*?)" value="(.*?)"', inside))
    if 'method="get"' in given:
        return await browser.get(f"{action}?{urlencode(fields)}")
    browser.page = inside
    return await browser.send(action, fields)


async def test_line_17_devices_are_named_on_the_page(at_page: AtPage) -> None:
    await at_page.phone.get(SESSIONS)
    page = at_page.phone.page
    names = re.findall("<h2>(.*?)</h2>", page)
    assert names[0] == "Safari on iPhone"
    assert sorted(names) == ["Chrome on Windows", "Firefox on Linux", "Safari on iPhone"]
    assert page.count("This device") == 1
    assert page.index("Safari on iPhone") < page.index("This device") < page.index(names[1])
    assert (page.count(">203.0.113.7<"), "Eve" in page) == (3, False)


async def test_line_18_one_session_is_revoked_on_the_page(at_page: AtPage) -> None:
    await at_page.laptop.get(SESSIONS)
    assert (await press(at_page.laptop, "Sign out: Safari on iPhone")).values("location") == [SESSIONS]
    assert await at_page.live() == [True, False, True, True]
    await at_page.laptop.get(SESSIONS)
    assert "Done. The device has been signed out." in at_page.laptop.page
    assert re.findall("<h2>(.*?)</h2>", at_page.laptop.page) == ["Firefox on Linux", "Chrome on Windows"]
    assert (await at_page.phone.get(SESSIONS)).status == 303


async def test_line_18_only_one_s_own_are_revoked_on_the_page(at_page: AtPage) -> None:
    with closing(sqlite3.connect(at_page.database)) as connection:
        ((theirs,),) = connection.execute("select id from session where userAgent = 'Eve/1.0'").fetchall()
    await at_page.laptop.get(SESSIONS)
    await at_page.laptop.send(SESSIONS, {"revoke": theirs})
    assert await at_page.live() == [True] * 4


async def test_line_18_this_device_is_signed_out_on_the_page(at_page: AtPage) -> None:
    await at_page.laptop.get(SESSIONS)
    assert (await press(at_page.laptop, "Sign out: Firefox on Linux")).status == 303
    assert COOKIE not in at_page.laptop.cookies
    assert await at_page.live() == [False, True, True, True]


async def test_line_18_a_form_that_another_page_made_ends_nothing(at_page: AtPage) -> None:
    """Neither that of a stranger, nor that of another session."""
    await at_page.phone.get(SESSIONS)
    theirs = dict(re.findall(r'<input type="hidden" name="(token)" value="(.*?)"', at_page.phone.page))
    for token in (theirs, {"token": ""}):
        assert (await at_page.laptop.send(SESSIONS, {"others": "yes", **token})).status == 403
    assert await at_page.live() == [True] * 4


async def test_line_19_sign_out_of_all_other_devices_stands_on_the_page_and_asks_first(at_page: AtPage) -> None:
    browser = at_page.desktop
    await browser.get(SESSIONS)
    assert (await press(browser, "Sign out of all other devices")).status == 200
    assert "<h1>Sign out of 2 other devices?</h1>" in browser.page
    assert [name in browser.page for name in ("Firefox on Linux", "Safari on iPhone", "Chrome on Windows")] == [
        *(True, True, False)
    ]
    assert await at_page.live() == [True] * 4
    assert (await press(browser, "Yes, sign out of 2 devices")).values("location") == [SESSIONS]
    assert await at_page.live() == [False, False, True, True]
    await browser.get(SESSIONS)
    assert "Done. 2 other devices have been signed out." in browser.page
    assert "You are signed in on this device only." in browser.page
    assert "Sign out of all other devices" not in browser.page
