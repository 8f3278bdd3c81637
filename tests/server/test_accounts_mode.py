"""Accounts mode on the listener of a running gate: what its calls need of the rest of it."""

import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gatekeeper.config.load import load_text
from gatekeeper.core.model import SessionToken
from gatekeeper.migrate_command import migrate_accounts
from gatekeeper.server.answers import Answer
from gatekeeper.server.auth_api import AuthApi
from gatekeeper.server.auth_call import AuthRequest
from gatekeeper.server.portal import ACCOUNT_BODY_BYTES
from tests.attacks.judge import Response, parse_responses
from tests.better_auth_db import execute, iso
from tests.server.conftest import now_ms, upstream
from tests.server.gates import COOKIE, FAST_LANE, FOUR_LINES, SECRET, RunningGate, running_gate
from tests.server.upstreams import RecordingUpstream
from tests.server.wire import Wire, ask, head
from tests.servers.smtp import MailServer, mail_server

__all__ = ["upstream"]  # a fixture

ON = "accounts: {enabled: true, sign_up: true}\n"
PERSON = {"name": "Ada", "email": "ada@example.test", "password": "correct horse battery"}
JSON = "Content-Type: application/json"
DATA = "better-auth.session_data"


class Site:
    """A gate in accounts mode, and its file."""

    def __init__(self, gate: RunningGate, database: Path) -> None:
        self.gate = gate
        self.port = gate.port
        self.database = database

    async def post(self, call: str, document: object, *lines: str) -> Response:
        own = f"Origin: http://127.0.0.1:{self.port}"
        lines = lines if any(line.startswith("Origin") for line in lines) else (*lines, own)
        return await ask(self.port, "POST", f"/api/auth{call}", JSON, *lines, body=json.dumps(document).encode())

    async def sign_up(self) -> str:
        """Makes an account; the Cookie line of its session."""
        answer = await self.post("/sign-up/email", PERSON)
        assert answer.status == 200
        return "Cookie: " + "; ".join(line.partition(";")[0] for line in answer.values("set-cookie"))


@asynccontextmanager
async def _site(tmp_path: Path, upstream: RecordingUpstream, more: str = ON) -> AsyncIterator[Site]:
    database = tmp_path / "auth.db"
    text = FOUR_LINES.format(upstream=upstream.url, secret=SECRET, database=database) + more
    settings = load_text(text, source="test.yaml", base_dir=tmp_path, environ={})
    assert [line async for line in migrate_accounts(settings)]
    async with running_gate(upstream.url, database, more) as gate:
        yield Site(gate, database)


@pytest.fixture
async def site(tmp_path: Path, upstream: RecordingUpstream) -> AsyncIterator[Site]:
    async with _site(tmp_path, upstream) as site:
        yield site


async def test_who_signs_up_is_let_in_and_who_signs_out_is_not(site: Site, upstream: RecordingUpstream) -> None:
    cookie = await site.sign_up()
    page = await ask(site.port, "GET", "/dashboard", cookie)
    assert page.status == 200
    (seen,) = upstream.requests
    assert (seen.values("x-auth-email"), seen.values("cookie")) == ([], [])  # not verified; and no cookie for the app
    assert seen.values("x-auth-name") == ["Ada"]
    assert (await site.post("/sign-out", {}, cookie)).status == 200
    assert (await ask(site.port, "GET", "/dashboard", cookie)).status == 401


async def test_what_does_not_exist_below_the_calls_is_never_the_apps_business(
    site: Site, upstream: RecordingUpstream
) -> None:
    for path in ("/api/auth", "/api/auth/nothing", "/API/auth/ok", "/api/auth;x/ok", "/x/../api/AUTH/ok"):
        assert (await ask(site.port, "GET", path)).status == 404, path
    assert upstream.requests == []
    assert (await ask(site.port, "GET", "/api/authors")).status == 200
    assert len(upstream.requests) == 1


async def test_calls_are_open_whatever_the_rules_say(tmp_path: Path, upstream: RecordingUpstream) -> None:
    more = ON + "default: session\npublic: [/sign-in]\n"
    async with _site(tmp_path, upstream, more) as site:
        assert (await ask(site.port, "GET", "/api/auth/ok")).status == 200
        assert (await ask(site.port, "GET", "/api/autho")).status == 401


async def test_the_app_keeps_its_other_cookies(site: Site, upstream: RecordingUpstream) -> None:
    cookie = await site.sign_up()
    await ask(site.port, "GET", "/dashboard", f"{cookie}; theme=dark")
    assert upstream.requests[0].values("cookie") == ["theme=dark"]


@pytest.mark.parametrize("excess", [0, 1])
async def test_longest_body(site: Site, excess: int) -> None:
    body = b'{"email":"%b","password":"x"}' % (b"a" * 100)
    body = body.ljust(ACCOUNT_BODY_BYTES + excess)
    line = f"Origin: http://127.0.0.1:{site.port}"
    answer = await ask(site.port, "POST", "/api/auth/sign-in/email", JSON, line, body=body)
    assert answer.status == (413 if excess else 400)


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(site: Site) -> None:
    body = json.dumps(PERSON).encode()
    wire = await Wire.open(site.port)
    lines = (JSON, f"Origin: http://127.0.0.1:{site.port}", f"Content-Length: {len(body)}", "Expect: 100-continue")
    wire.send(head("POST", "/api/auth/sign-up/email", site.gate.host, *lines))
    assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.send(body)
    assert b" 200 " in await wire.until(b"\r\n")
    await wire.rest()


async def test_exactly_trusted_origins_may_call_and_read(tmp_path: Path, upstream: RecordingUpstream) -> None:
    more = ON + "trusted_origins: ['https://shop.example.test']\n"
    asking = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type")
    async with _site(tmp_path, upstream, more) as site:
        for origin, is_trusted in (("https://shop.example.test", True), ("https://evil.example.test", False)):
            path = "/api/auth/sign-in/email"
            preflight = await ask(site.port, "OPTIONS", path, f"Origin: {origin}", *asking)
            assert preflight.status == (204 if is_trusted else 403)
            assert preflight.values("access-control-allow-origin") == ([origin] if is_trusted else [])
            answer = await site.post("/sign-in/email", PERSON, f"Origin: {origin}", "Cookie: a=b")
            assert answer.status == (401 if is_trusted else 403)
            assert answer.values("access-control-allow-origin") == ([origin] if is_trusted else [])
            assert answer.values("access-control-allow-credentials") == (["true"] if is_trusted else [])


async def test_a_page_extends_a_session_that_is_due(site: Site) -> None:
    cookie = await site.sign_up()
    token = cookie.partition("=")[2].partition(".")[0]
    began = now_ms()
    execute(site.database, "update session set expiresAt = ?", (iso(began + 86_400_000 - 60_000),))
    site.gate.gate.runtime.session_ended(SessionToken(token))  # it was read before the dates were turned back
    cookie = cookie.partition(";")[0]  # nor does a session_data cookie speak for it
    answers = [await ask(site.port, "GET", "/dashboard", cookie) for _ in range(20)]
    assert [answer.status for answer in answers] == [200] * 20
    lines = [line for answer in answers for line in answer.values("set-cookie") if line.startswith(COOKIE)]
    assert lines
    assert all("Max-Age=172800" in line for line in lines)


async def thrice(port: int, target: str, line: str) -> list[Response]:
    """The same three times on a connection that is kept: what the fast lane takes."""
    wire, raw = await Wire.open(port), b""
    for _ in range(3):
        wire.send(head("GET", target, f"127.0.0.1:{port}", line, close=False))
        answered = await wire.until(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", answered)
        assert length is not None
        raw += answered + await wire.reader.readexactly(int(length[1]))
    wire.close()
    return parse_responses(raw, "GET")[0]


class Calls:
    """How often account calls have come to where they are carried out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        answer = AuthApi.answer

        async def counted(api: AuthApi, request: AuthRequest) -> Answer:
            self.count += 1
            return await answer(api, request)

        monkeypatch.setattr(AuthApi, "answer", counted)


@pytest.mark.parametrize("who", ["signed-in", "nobody"])
async def test_get_session_is_answered_at_once_where_it_has_nothing_else_to_do(
    site: Site, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    cookie = await site.sign_up() if who == "signed-in" else "Cookie: theme=dark"
    calls = Calls(monkeypatch)
    at_once = await thrice(site.port, "/api/auth/get-session", cookie)
    first = 1 if who == "signed-in" else 0  # which reads the session
    assert calls.count == (first if FAST_LANE else 3)
    called = await ask(site.port, "GET", "/api/auth/get-session?x=y", cookie)
    for answer in at_once:
        assert (answer.status, answer.body) == (called.status, called.body)
        assert sorted(answer.headers) == sorted(set(called.headers) - {("Connection", "close")})
    assert (json.loads(called.body) is None) is (who == "nobody")


async def test_get_session_after_a_change_says_the_new_and_renews_the_cookie(
    site: Site, upstream: RecordingUpstream
) -> None:
    cookie = await site.sign_up()
    assert json.loads((await ask(site.port, "GET", "/api/auth/get-session", cookie)).body)["user"]["name"] == "Ada"
    changed = await site.post("/update-user", {"name": "Countess"}, cookie)
    assert changed.status == 200
    for answer in await thrice(site.port, "/api/auth/get-session", cookie):
        assert json.loads(answer.body)["user"]["name"] == "Countess"
        assert [line for line in answer.values("set-cookie") if line.startswith(f"{DATA}=ey")]
    await site.post("/sign-out", {}, cookie)
    for answer in await thrice(site.port, "/api/auth/get-session", cookie):
        assert json.loads(answer.body) is None
        assert [line for line in answer.values("set-cookie") if line.startswith(f"{COOKIE}=;")]
    assert upstream.requests == []


async def test_get_session_is_never_the_apps_business(site: Site, upstream: RecordingUpstream) -> None:
    """Whatever the lane cannot answer: no memory of the session, a session that is due, a cookie that has ended."""
    cookie = await site.sign_up()
    pieces = cookie.removeprefix("Cookie: ").split("; ")
    for spelling in (cookie, f"Cookie: {pieces[0]}", f"Cookie: {pieces[0]}; {DATA}=x", f"Cookie: {COOKIE}=x.y"):
        for _ in range(3):
            site.gate.gate.runtime.session_ended(SessionToken(pieces[0].partition("=")[2].partition(".")[0]))
            for path in ("/api/auth/get-session", "/API/auth/get-session", "/api/auth/get-session/"):
                for method in ("GET", "HEAD", "POST", "DELETE"):
                    assert (await ask(site.port, method, path, spelling)).status in (200, 403, 404, 405)
    assert upstream.requests == []


@pytest.mark.parametrize(("more", "warnings"), [("", 1), ("trusted_proxies: [127.0.0.1]\n", 0)])
async def test_a_proxy_that_is_not_trusted_is_warned_of_once(
    tmp_path: Path, upstream: RecordingUpstream, caplog: pytest.LogCaptureFixture, more: str, warnings: int
) -> None:
    async with _site(tmp_path, upstream, ON + more) as site:
        await site.post("/sign-in/email", PERSON)
        assert "X-Forwarded-For" not in caplog.text
        for number in range(3):
            await site.post("/sign-in/email", PERSON, f"X-Forwarded-For: 203.0.113.{number}")
    assert caplog.text.count("from 127.0.0.1, which trusted_proxies does not name") == warnings


async def test_the_address_of_a_session_is_believed_from_trusted_proxies_alone(
    tmp_path: Path, upstream: RecordingUpstream
) -> None:
    said = "X-Forwarded-For: 203.0.113.7"
    for number, (more, address) in enumerate((("", "127.0.0.1"), ("trusted_proxies: [127.0.0.1]\n", "203.0.113.7"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with _site(folder, upstream, ON + more) as site:
            assert (await site.post("/sign-up/email", PERSON, said)).status == 200
            found = await site.post("/sign-in/email", PERSON, said)
            cookie = "Cookie: " + found.values("set-cookie")[0].partition(";")[0]
            sessions = json.loads((await ask(site.port, "GET", "/api/auth/list-sessions", cookie)).body)
            assert [session["ipAddress"] for session in sessions] == [address, address]


async def test_events_are_written_down_and_name_no_secret(tmp_path: Path, upstream: RecordingUpstream) -> None:
    log = tmp_path / "gate.log"
    async with _site(tmp_path, upstream, ON + f"log: {{access: false, format: json, file: {log}}}\n") as site:
        cookie = await site.sign_up()
        await site.post("/sign-in/email", PERSON | {"password": "wrong-password-typed"})
        await site.post("/sign-in/email", PERSON | {"email": "nobody@example.test"})
        await site.post("/revoke-other-sessions", {}, cookie)
        changed = {"currentPassword": PERSON["password"], "newPassword": "another horse battery"}
        await site.post("/change-password", changed | {"revokeOtherSessions": True}, cookie)
        await site.post("/sign-in/email", PERSON | {"password": "another horse battery"})
        await site.post("/sign-out", {}, cookie)
    text = log.read_text()
    lines = [line for line in map(json.loads, text.splitlines()) if line["kind"] == "audit"]
    events = [line["event"] for line in lines if line["event"] not in ("started", "drain_started")]
    assert events == [
        "signed_up",
        "sign_in_failed",
        "sign_in_failed",
        "sessions_revoked",
        "password_changed",
        "signed_in",
    ]
    assert all(line["client"] == "127.0.0.1" for line in lines if line["event"] in events)
    failed = [line["user"] for line in lines if line["event"] == "sign_in_failed"]
    assert failed == [lines[1]["user"], None]
    assert not any(
        secret in text for secret in ("wrong-password-typed", "horse", "ada@", cookie.partition("=")[2][:32])
    )


async def test_before_migrate_everything_that_needs_the_tables_is_503_and_the_log_says_what_to_do(
    tmp_path: Path, upstream: RecordingUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    database = tmp_path / "auth.db"
    with caplog.at_level(logging.ERROR, "gatekeeper"):
        async with running_gate(upstream.url, database, ON) as gate:
            site = Site(gate, database)
            answer = await site.post("/sign-in/email", PERSON)
            assert (answer.status, json.loads(answer.body)["code"]) == (503, "STORE_UNAVAILABLE")
            assert answer.values("set-cookie") == []
            text = FOUR_LINES.format(upstream=upstream.url, secret=SECRET, database=database) + ON
            settings = load_text(text, source="test.yaml", base_dir=tmp_path, environ={})
            assert [line async for line in migrate_accounts(settings)]
            await site.sign_up()
    assert "`gatekeeper migrate` makes what is missing" in caplog.text


async def mailed_link(mails: MailServer, count: int) -> str:
    """The path and query of the link in the mail of this number, once it has come."""
    body = (await mails.mail(count)).mail.get_body(("plain",))
    assert body is not None
    found = re.search(r"http://localhost:8080(/api/auth/\S+)", body.get_content())
    assert found is not None
    return found[1]


async def test_a_forgotten_password_is_replaced_and_an_address_verified_by_mail(
    tmp_path: Path, upstream: RecordingUpstream
) -> None:
    async with mail_server() as mails:
        smtp = f"smtp://127.0.0.1:{mails.port}?from=no-reply@example.test"
        more = f"accounts: {{enabled: true, sign_up: true, smtp: '{smtp}'}}\npublic_url: http://localhost:8080\n"
        more += "limits: {sign_in_attempts: 50/1m}\n"
        async with _site(tmp_path, upstream, more) as site:
            own = "Origin: http://localhost:8080"
            signed_up = await site.post("/sign-up/email", PERSON, own)
            cookie = "Cookie: " + signed_up.values("set-cookie")[0].split(";")[0]
            # whoever asks says where he believes to be, and the link leads to the gate all the same
            foreign = ("X-Forwarded-Host: evil.example.test", "Forwarded: host=evil.example.test")
            asked = {"email": PERSON["email"], "redirectTo": "/new-password"}
            assert (await site.post("/request-password-reset", asked, own, *foreign)).status == 200
            assert (
                await site.post("/request-password-reset", asked | {"email": "nobody@example.test"}, own)
            ).status == 200
            led = await ask(site.port, "GET", await mailed_link(mails, 1))
            location = led.values("location")[0]
            assert (led.status, location.split("?token=")[0]) == (302, "http://localhost:8080/new-password")
            reset = {"newPassword": "another horse battery", "token": location.split("?token=")[1]}
            assert (await site.post("/reset-password", reset, own)).status == 200
            assert (await site.post("/reset-password", reset, own)).status == 400
            assert (await ask(site.port, "GET", "/dashboard", cookie)).status == 401
            assert (await site.post("/sign-in/email", PERSON, own)).status == 401
            signed_in = await site.post("/sign-in/email", PERSON | {"password": "another horse battery"}, own)
            cookie = "Cookie: " + signed_in.values("set-cookie")[0].split(";")[0]
            await site.post("/send-verification-email", {"email": PERSON["email"]}, own, cookie)
            led = await ask(site.port, "GET", await mailed_link(mails, 2))
            assert (led.status, led.values("location")) == (302, ["/"])
            found = json.loads((await ask(site.port, "GET", "/api/auth/get-session", cookie)).body)
            assert found["user"]["emailVerified"] is True
    assert [taken.recipient for taken in mails.taken] == [PERSON["email"]] * 2
