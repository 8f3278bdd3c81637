"""The pages on the listener of a running gate, in both modes."""

import json
import re
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from urllib.parse import urlencode

import pytest

from gatekeeper.config.load import load_text
from gatekeeper.migrate_command import migrate_accounts
from tests.attacks.judge import Response
from tests.better_auth_db import add_session, add_user, iso
from tests.server.conftest import HOUR_MS, TOKEN, USER_ID, now_ms
from tests.server.gates import COOKIE, FOUR_LINES, SECRET, RunningGate, cookie_value, running_gate
from tests.server.upstreams import RecordingUpstream
from tests.server.wire import ask

SESSIONS = "/.gatekeeper/sessions"
PAGE = "Accept: text/html"
FORM = "Content-Type: application/x-www-form-urlencoded"
PERSON = {"name": "Ada", "email": "ada@example.test", "password": "correct horse battery"}
ACCOUNTS = "accounts: {enabled: true, sign_up: true}\n"


class Browser:
    """Keeps its cookies, and sends a form with the hidden fields of the page before."""

    def __init__(self, gate: RunningGate, cookies: Mapping[str, str] | None = None) -> None:
        self.gate = gate
        self.cookies = dict(cookies or {})
        self.page = ""

    async def get(self, path: str, *lines: str, method: str = "GET") -> Response:
        return self._kept(await ask(self.gate.port, method, path, PAGE, *self._cookie(), *lines))

    async def send(self, path: str, fields: Mapping[str, str], *lines: str) -> Response:
        hidden = dict(re.findall(r'<input type="hidden" name="(token|callbackUrl)" value="(.*?)"', self.page))
        body = urlencode(hidden | fields).encode()
        origin = f"Origin: {self.gate.url}"
        return self._kept(
            await ask(self.gate.port, "POST", path, PAGE, FORM, origin, *self._cookie(), *lines, body=body)
        )

    def _cookie(self) -> list[str]:
        pairs = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return [f"Cookie: {pairs}"] if pairs else []

    def _kept(self, answer: Response) -> Response:
        for line in answer.values("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            if "Max-Age=0" in line:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        self.page = answer.body.decode()
        return answer


@asynccontextmanager
async def accounts_gate(
    tmp_path: Path, upstream: RecordingUpstream, more: str = "", *, protect: str | None = None
) -> AsyncIterator[RunningGate]:
    lines = (
        FOUR_LINES
        if protect is None
        else re.sub("protect:.*\n", protect.replace("{", "{{").replace("}", "}}"), FOUR_LINES)
    )
    text = lines.format(upstream=upstream.url, secret=SECRET, database=tmp_path / "accounts.db") + ACCOUNTS + more
    settings = load_text(text, source="test.yaml", base_dir=tmp_path, environ={})
    assert [line async for line in migrate_accounts(settings)]
    async with running_gate(upstream.url, tmp_path / "accounts.db", ACCOUNTS + more, text=lines) as gate:
        yield gate


async def test_from_a_protected_page_to_signing_up_and_back(tmp_path: Path, upstream: RecordingUpstream) -> None:
    async with accounts_gate(tmp_path, upstream) as gate:
        browser = Browser(gate)
        sent_away = await browser.get("/dashboard?tab=1", "Sec-Fetch-Mode: navigate")
        (location,) = sent_away.values("location")
        assert location == "/sign-in?callbackUrl=%2Fdashboard%3Ftab%3D1"
        page = await browser.get(location)
        (sign_up,) = re.findall(r'href="(/sign-up.*?)"', browser.page)
        assert (page.status, sign_up) == (200, "/sign-up?callbackUrl=%2Fdashboard%3Ftab%3D1")
        await browser.get(sign_up)
        done = await browser.send("/sign-up", PERSON)
        assert (done.status, done.values("location")) == (303, ["/dashboard?tab=1"])
        assert upstream.requests == []
        assert (await browser.get("/dashboard?tab=1")).status == 200
    (seen,) = upstream.requests
    assert seen.values("x-auth-name") == ["Ada"]
    assert seen.values("cookie") == []  # neither the session's nor the form's


async def test_changing_the_password_and_signing_out(tmp_path: Path, upstream: RecordingUpstream) -> None:
    async with accounts_gate(tmp_path, upstream) as gate:
        browser = Browser(gate)
        await browser.get("/sign-up")
        await browser.send("/sign-up", PERSON)
        before = browser.cookies[COOKIE]
        await browser.get("/.gatekeeper/change-password")
        fields = {"currentPassword": PERSON["password"], "newPassword": "another good password", "others": "on"}
        assert (await browser.send("/.gatekeeper/change-password", fields)).values("location") == [SESSIONS]
        assert (await ask(gate.port, "GET", "/dashboard", f"Cookie: {COOKIE}={before}")).status == 401
        await browser.get(SESSIONS)
        assert "Your password has been changed." in browser.page
        out = await browser.send("/.gatekeeper/sign-out", {"callbackUrl": "/.gatekeeper/signed-out"})
        assert out.values("location") == ["/.gatekeeper/signed-out"]
        await browser.get("/.gatekeeper/signed-out")
        assert "You are signed out" in browser.page
        assert (await browser.get("/dashboard")).status in (303, 307)


async def test_the_pages_are_open_where_everything_is_protected(tmp_path: Path, upstream: RecordingUpstream) -> None:
    async with accounts_gate(tmp_path, upstream, "default: session\n") as gate:
        browser = Browser(gate)
        for path in ("/sign-in", "/sign-up", "/.gatekeeper/forgot-password", "/.gatekeeper/signed-out"):
            assert (await browser.get(path)).status == 200
            head = await browser.get(path, method="HEAD")
            assert (head.status, head.body) == (200, b"")
        for path in ("/sign-in/", "/Sign-In", "/sign-in/x", "/sign-up;x"):
            assert (await browser.get(path)).status == 404, path
    assert upstream.requests == []


async def test_who_signed_in_too_long_ago_is_asked_again(tmp_path: Path, upstream: RecordingUpstream) -> None:
    more = "session: {fresh_age: 1s}\ndefault: public\n"
    text = "protect: [{path: /admin, access: fresh}]\n"
    async with accounts_gate(tmp_path, upstream, more, protect=text) as gate:
        browser = Browser(gate)
        await browser.get("/sign-up")
        await browser.send("/sign-up", PERSON)
        age_sessions(tmp_path / "accounts.db")
        page = await browser.get("/admin?a=1", "Sec-Fetch-Mode: navigate")
        assert (page.status, page.values("location")) == (307, ["/sign-in?reauth=1&callbackUrl=%2Fadmin%3Fa%3D1"])
        form = await browser.send("/admin", {}, "Sec-Fetch-Mode: navigate", f"Referer: {gate.url}/form?x")
        assert (form.status, form.values("location")) == (303, ["/sign-in?reauth=1&callbackUrl=%2Fform%3Fx"])
        program = await browser.get("/admin", "Sec-Fetch-Mode: cors")
        assert (program.status, json.loads(program.body)["code"]) == (403, "SESSION_NOT_FRESH")
        await browser.get("/sign-in?reauth=1&callbackUrl=%2Fadmin")
        assert PERSON["email"] in browser.page
    assert upstream.requests == []


async def test_who_must_sign_in_anew_at_the_app_is_signed_out_and_led_back(
    database: Path, upstream: RecordingUpstream
) -> None:
    age_sessions(database)
    text = FOUR_LINES.replace("[/dashboard, /settings]", "[{{path: /admin, access: fresh}}]")
    async with running_gate(upstream.url, database, "session: {fresh_age: 1s}\n", text=text) as gate:
        browser = Browser(gate, {COOKIE: cookie_value(TOKEN)})
        page = await browser.get("/admin?a=%22", "Sec-Fetch-Mode: navigate")
        assert page.status == 403
        assert re.findall('<form method="post" action="(.*?)">', browser.page) == ["/.gatekeeper/sign-out"]
        assert "form-action 'self';" in page.values("content-security-policy")[0]
        out = await browser.send("/.gatekeeper/sign-out", {})
        assert (out.status, out.values("location")) == (303, ["/admin?a=%22"])
        assert COOKIE not in browser.cookies
        led = await browser.get("/admin?a=%22", "Sec-Fetch-Mode: navigate")
        assert led.values("location") == ["/sign-in?callbackUrl=%2Fadmin%3Fa%3D%2522"]


async def test_the_way_back_may_lead_through_a_sign_in_page_elsewhere(
    database: Path, upstream: RecordingUpstream
) -> None:
    """Browsers hold the redirects after a form against the policy of the page."""
    age_sessions(database)
    text = FOUR_LINES.replace("[/dashboard, /settings]", "[{{path: /admin, access: fresh}}]")
    more = "session: {fresh_age: 1s}\nsign_in: https://login.example.test/in\n"
    more += "public_url: http://127.0.0.1\ntrusted_origins: [https://login.example.test]\n"
    async with running_gate(upstream.url, database, more, text=text) as gate:
        browser = Browser(gate, {COOKIE: cookie_value(TOKEN)})
        page = await browser.get("/admin", "Sec-Fetch-Mode: navigate")
        assert page.status == 403
        assert "form-action 'self' https://login.example.test;" in page.values("content-security-policy")[0]


def age_sessions(database: Path) -> None:
    """Every session began an hour ago."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute('update session set "createdAt" = ?', (iso(now_ms() - HOUR_MS),))
        connection.commit()


async def test_a_form_that_is_too_long_is_refused(tmp_path: Path, upstream: RecordingUpstream) -> None:
    async with accounts_gate(tmp_path, upstream) as gate:
        browser = Browser(gate)
        await browser.get("/sign-in")
        assert (await browser.send("/sign-in", {"email": "x" * 20_000})).status == 413


async def test_script_theme_and_logo_are_served(tmp_path: Path, upstream: RecordingUpstream) -> None:
    (tmp_path / "logo.svg").write_text("<svg/>")
    branding = 'branding: {name: Site, logo: logo.svg, accent: "#7a3ea1"}\n'
    async with accounts_gate(tmp_path, upstream, branding) as gate:
        browser = Browser(gate)
        await browser.get("/sign-in")
        paths = re.findall(r'(?:src|href)="(/\.gatekeeper/static/.*?)"', browser.page)
        assert len(set(paths)) == 4
        for path in paths:
            answer = await browser.get(path)
            assert answer.status == 200
            (etag,) = answer.values("etag")
            if "theme" not in path and "logo" not in path:
                assert (await browser.get(path, f"If-None-Match: {etag}")).status == 304
        assert "<title>Sign in – Site</title>" in (await browser.get("/sign-in")).body.decode()
        assert "– Site</title>" in (await browser.get("/api/auth/error?error=x")).body.decode()


@pytest.fixture
async def companion(database: Path, upstream: RecordingUpstream) -> AsyncIterator[RunningGate]:
    add_session(database, user_id=USER_ID, token="A" * 32, created_at_ms=now_ms(), expires_at_ms=now_ms() + HOUR_MS)
    add_user(database, id="eve", name="Eve", email="eve@example.test")
    add_session(database, user_id="eve", token="E" * 32, created_at_ms=now_ms(), expires_at_ms=now_ms() + HOUR_MS)
    async with running_gate(upstream.url, database) as gate:
        yield gate


def tokens(database: Path) -> set[str]:
    with closing(sqlite3.connect(database)) as connection:
        return {token for (token,) in connection.execute("select token from session")}


async def test_sessions_of_an_apps_store_are_listed_and_ended(
    companion: RunningGate, database: Path, upstream: RecordingUpstream
) -> None:
    other = f"Cookie: {COOKIE}={cookie_value('A' * 32)}"
    assert (await ask(companion.port, "GET", "/dashboard", other)).status == 200
    browser = Browser(companion, {COOKIE: cookie_value(TOKEN)})
    page = await browser.get(SESSIONS)
    assert page.status == 200
    assert "You are signed in on 1 other device." in browser.page
    await browser.get(f"{SESSIONS}?confirm=others")
    assert "Sign out of 1 other device?" in browser.page
    assert (await browser.send(SESSIONS, {"others": "yes"})).status == 303
    await browser.get(SESSIONS)
    assert "Done. 1 other device has been signed out." in browser.page
    assert tokens(database) == {TOKEN, "E" * 32}
    assert (await ask(companion.port, "GET", "/dashboard", other)).status == 401  # at once, in this process
    assert [request.target for request in upstream.requests] == ["/dashboard"]


async def test_an_app_has_its_own_sign_in_page(companion: RunningGate, upstream: RecordingUpstream) -> None:
    assert (await ask(companion.port, "GET", "/sign-in", PAGE)).status == 200
    assert [request.target for request in upstream.requests] == ["/sign-in"]
    for path in ("/.gatekeeper/change-password", "/.gatekeeper/signed-out"):
        assert (await ask(companion.port, "GET", path, PAGE)).status == 404
    nobody = await ask(companion.port, "GET", SESSIONS, PAGE)
    assert (nobody.status, nobody.values("location")) == (303, ["/sign-in?callbackUrl=%2F.gatekeeper%2Fsessions"])


async def test_what_stands_behind_the_hash_is_carried_by_a_page(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database, "keep_fragment: true\n") as gate:
        page = await ask(gate.port, "GET", "/dashboard", "Sec-Fetch-Mode: navigate")
        assert (page.status, page.values("location")) == (401, [])
        text = page.body.decode()
        assert 'href="/sign-in?callbackUrl=%2Fdashboard" data-carry-fragment' in text
        assert (
            '<noscript><meta http-equiv="refresh" content="0; url=/sign-in?callbackUrl=%2Fdashboard"></noscript>'
            in text
        )
        program = await ask(gate.port, "GET", "/dashboard", "Accept: application/json")
        assert program.values("content-type") == ["application/json"]
        form = await ask(gate.port, "POST", "/dashboard", "Sec-Fetch-Mode: navigate")
        assert form.status == 303
