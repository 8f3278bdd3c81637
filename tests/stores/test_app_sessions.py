"""An app's own calls about sessions, on a real socket."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from gatekeeper.core.cookies import Keys, sign_value
from gatekeeper.core.errors import StoreLimited, StoreUnavailable
from gatekeeper.core.model import SessionToken
from gatekeeper.stores.app_sessions import AppSessions, NotFresh
from tests.better_auth_db import iso
from tests.core.records import NOW_MS
from tests.server.test_pages import facts

KEYS = Keys(["a-secret-of-the-tests"])
COOKIE = "better-auth.session_token"
TOKEN = SessionToken("AdaAdaAdaAdaAdaAdaAdaAdaAdaAda01")
ORIGIN = "https://app.example.com"
ROW = {
    **{"id": "one", "token": str(TOKEN), "userId": "ada", "ipAddress": "", "userAgent": "x"},
    **dict.fromkeys(("createdAt", "updatedAt", "expiresAt"), iso(NOW_MS)),
}


class App:
    """Answers as it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body: str | bytes = json.dumps([ROW])
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []

    async def handle(self, request: web.Request) -> web.Response:
        text = await request.text()
        self.asked.append((request.method, request.path, dict(request.headers), json.loads(text) if text else None))
        body = self.body.encode() if isinstance(self.body, str) else self.body
        return web.Response(status=self.status, body=body, headers={"Location": "/elsewhere"})


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
async def sessions(app: App) -> AsyncIterator[AppSessions]:
    server = web.Application()
    server.router.add_route("*", "/api/auth/{call}", app.handle)
    runner = web.AppRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    asking = AppSessions(f"http://127.0.0.1:{port}/api/auth", cookie_name=COOKIE, keys=KEYS)
    yield asking
    await asking.close()
    await runner.cleanup()


async def test_lists_as_the_visitors_browser_would(app: App, sessions: AppSessions) -> None:
    (found,) = await sessions.list_sessions(TOKEN, facts(), ORIGIN)
    assert (found.id, found.token, found.user_id, found.expires_at_ms) == ("one", TOKEN, "ada", NOW_MS)
    ((method, path, headers, body),) = app.asked
    assert (method, path, body) == ("GET", "/api/auth/list-sessions", None)
    assert headers["Cookie"] == f"{COOKIE}={sign_value(TOKEN, KEYS)}"
    assert headers["Origin"] == ORIGIN
    assert headers["X-Forwarded-For"] == "192.0.2.1"
    assert (headers["Host"], headers["X-Forwarded-Proto"]) == ("app.example.com", "https")


async def test_ends_by_the_apps_calls(app: App, sessions: AppSessions) -> None:
    app.body = '{"status":true}'
    await sessions.revoke("other-token", TOKEN, facts(), ORIGIN)
    await sessions.revoke_others(TOKEN, facts(), ORIGIN)
    assert [(method, path, body) for method, path, _, body in app.asked] == [
        ("POST", "/api/auth/revoke-session", {"token": "other-token"}),
        ("POST", "/api/auth/revoke-other-sessions", {}),
    ]


async def test_rows_that_are_no_sessions_are_left_out(app: App, sessions: AppSessions) -> None:
    app.body = json.dumps([ROW, {}, None, "x", ROW | {"expiresAt": 5}])
    assert [one.id for one in await sessions.list_sessions(TOKEN, facts(), ORIGIN)] == ["one"]


async def test_a_session_that_the_app_does_not_know_lists_nothing(app: App, sessions: AppSessions) -> None:
    app.status = 401
    assert list(await sessions.list_sessions(TOKEN, facts(), ORIGIN)) == []
    assert list(await sessions.list_sessions(SessionToken("\ud800"), facts(), ORIGIN)) == []
    assert len(app.asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (403, '{"code":"SESSION_NOT_FRESH"}', NotFresh),
        (403, '{"code":"INVALID_ORIGIN"}', StoreUnavailable),
        (403, "no JSON", StoreUnavailable),
        (403, "[]", StoreUnavailable),
        (403, '{"code":5}', StoreUnavailable),
        (429, "", StoreLimited),
        (404, "", StoreUnavailable),
        (500, "", StoreUnavailable),
        (302, "", StoreUnavailable),
        (200, "<html>", StoreUnavailable),
        (200, "{}", StoreUnavailable),
        (200, "[" * 100_000, StoreUnavailable),
        (200, b"[" + b" " * (1024 * 1024) + b"]", StoreUnavailable),
    ],
)
async def test_what_is_no_list_is_no_answer(
    app: App, sessions: AppSessions, status: int, body: str | bytes, error: type[Exception]
) -> None:
    app.status, app.body = status, body
    with pytest.raises(error) as raised:
        await sessions.list_sessions(TOKEN, facts(), ORIGIN)
    assert str(TOKEN) not in str(raised.value)


async def test_an_app_that_is_away_is_said() -> None:
    asking = AppSessions("http://127.0.0.1:9/api/auth", cookie_name=COOKIE, keys=KEYS)
    for call in (
        asking.list_sessions(TOKEN, facts(), ORIGIN),
        asking.revoke("x", TOKEN, facts(), ORIGIN),
        asking.revoke_others(TOKEN, facts(), ORIGIN),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    await asking.close()
    await asking.close()
