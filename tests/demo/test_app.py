import re
from collections.abc import Awaitable, Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from gatekeeper.core.cookies import Keys, sign_value, verify_token
from gatekeeper.demo.app import SESSION_COOKIE, make_app
from gatekeeper.demo.database import Database

NOW_S = 1_790_000_000
KEYS = Keys(["demo-secret-of-the-tests-0123456789"])
IDENTITY = {
    "X-Auth-Status": "authenticated",
    "X-Auth-User-Id": "user-1",
    "X-Auth-Email": "zoe@example.com",
    "X-Auth-Name": "Zo%C3%AB <b>%C5%81o%C5%9B",
}
HTML = {"Accept": "text/html"}

Client = TestClient[web.Request, web.Application]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database.create(tmp_path / "auth.db", NOW_S * 1000)


@pytest.fixture
async def client(database: Database, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    return await aiohttp_client(make_app(database, KEYS, clock=lambda: NOW_S))


async def text_of(client: Client, path: str, headers: dict[str, str] | None = None) -> str:
    response = await client.get(path, headers=headers)
    assert response.status == 200
    assert response.headers["Cache-Control"] == "no-store"
    return await response.text()


async def sign_in(client: Client, *, headers: dict[str, str] | None = None, **form: str) -> Any:
    return await client.post("/sign-in", data=form, headers=headers, allow_redirects=False)


def token_of(set_cookie: str) -> str | None:
    value = re.fullmatch(f"{re.escape(SESSION_COOKIE)}=([^;]*);.*", set_cookie)
    assert value is not None
    verified = verify_token(value[1], KEYS)
    return None if verified is None else verified.token


async def test_the_home_page_says_what_to_try(client: Client) -> None:
    page = await text_of(client, "/")
    assert 'href="/dashboard"' in page
    assert f"curl -i http://{client.host}:{client.port}/dashboard" in page
    assert "You are signed out" in page
    assert "Sign in</a>" in page


async def test_the_home_page_greets_who_the_gate_names(client: Client) -> None:
    page = await text_of(client, "/", IDENTITY)
    assert "Zoë &lt;b&gt;Łoś" in page
    assert '<form class="actions" method="post" action="/sign-out">' in page


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/", "/dashboard/x/y", "/settings", "/settings?tab=1"])
async def test_protected_pages_show_the_user_and_every_header(client: Client, path: str) -> None:
    page = unescape(await text_of(client, path, IDENTITY | HTML | {"X-Other": "<script>alert(1)</script>"}))
    assert "user-1" in page
    assert "zoe@example.com" in page
    assert "Zoë <b>Łoś" in page
    assert re.search(r'<tr role="row" class="ours"><th [^>]*>X-Auth-User-Id</th><td [^>]*>user-1</td>', page)
    assert re.search(r'<tr role="row"><th [^>]*>X-Other</th><td [^>]*><script>alert', page)


async def test_what_a_client_sent_is_shown_as_text(client: Client) -> None:
    page = await text_of(client, "/dashboard", IDENTITY | HTML | {"X-Other": "<script>alert(1)</script>"})
    assert "<script" not in page
    assert "<b>" not in page


async def test_programs_get_the_same_as_json(client: Client) -> None:
    response = await client.get("/dashboard", headers={**IDENTITY, "X-Other": "1"})
    assert response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    shown = await response.json()
    assert shown["status"] == "authenticated"
    assert shown["user"] == {"id": "user-1", "email": "zoe@example.com", "name": "Zoë <b>Łoś"}
    assert shown["headers"]["X-Auth-User-Id"] == "user-1"
    assert shown["headers"]["X-Other"] == "1"


async def test_repeated_headers_are_all_shown(client: Client) -> None:
    response = await client.get("/dashboard", headers=[("X-Other", "1"), ("X-Other", "2")])
    assert (await response.json())["headers"]["X-Other"] == "1, 2"


async def test_without_the_gate_nobody_is_known(client: Client) -> None:
    assert "Did you reach it without going through the gate?" in await text_of(client, "/dashboard", HTML)
    assert (await (await client.get("/dashboard")).json())["user"] is None


async def test_credentials_are_shortened(client: Client) -> None:
    cookie = f"{SESSION_COOKIE}=abcdefghijklmnopqrst.sig; theme=dark; better-auth.session_data=short; odd"
    sent = {"Cookie": cookie, "Authorization": "Bearer abcdefghijkl"}
    shown = (await (await client.get("/dashboard", headers=sent)).json())["headers"]
    assert shown["Cookie"] == (
        f"{SESSION_COOKIE}=abcdefgh… (shortened); theme=dark; better-auth.session_data=short; odd"
    )
    assert shown["Authorization"] == "Bearer a… (shortened)"


async def test_preview_names_nobody(client: Client) -> None:
    page = await text_of(client, "/preview", {"X-Auth-Status": "anonymous"} | HTML)
    assert "anonymous" in page
    assert (await (await client.get("/preview", headers={"X-Auth-Status": "anonymous"})).json())["user"] is None


async def test_help_is_a_page(client: Client) -> None:
    assert "<h1>Help</h1>" in await text_of(client, "/dashboard/help")


async def test_other_pages_do_not_exist(client: Client) -> None:
    for response in (await client.get("/x"), await client.post("/dashboard")):
        assert response.status in (404, 405)
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_sign_in_page_offers_two_people(client: Client) -> None:
    page = await text_of(client, "/sign-in?callbackUrl=%2Fdashboard%3Ftab%3D%22")
    assert page.count("<button") == 2
    assert "Ada Lovelace" in page
    assert "Zoë Łoś" in page
    assert 'name="callbackUrl" value="/dashboard?tab=&#34;"' in page


async def test_signing_in_makes_a_session_and_leads_back(client: Client, database: Database) -> None:
    response = await sign_in(client, user="ada@example.com", callbackUrl="/dashboard?tab=1")
    assert response.status == 303
    assert response.headers["Location"] == "/dashboard?tab=1"
    assert response.headers["Cache-Control"] == "no-store"
    cookie = response.headers["Set-Cookie"]
    assert cookie.endswith("; Max-Age=172800; Path=/; HttpOnly; SameSite=Lax")
    ada = database.find_user("ada@example.com")
    assert ada is not None
    assert token_of(cookie) == database.token_of(ada)


@pytest.mark.parametrize("text", ["", "//evil.test", "https://evil.test/", "/\\evil.test", "/%09/evil.test"])
async def test_signing_in_never_leads_away(client: Client, text: str) -> None:
    response = await sign_in(client, user="ada@example.com", callbackUrl=text)
    assert response.headers["Location"] == "/"


async def test_a_callback_of_the_own_origin_is_cut_to_its_path(client: Client) -> None:
    response = await sign_in(client, user="ada@example.com", callbackUrl=f"http://{client.host}:{client.port}/settings")
    assert response.headers["Location"] == "/settings"


async def test_nobody_else_can_sign_in(client: Client) -> None:
    for response in (await sign_in(client, user="root@example.com"), await sign_in(client)):
        assert response.status == 400
        assert "Set-Cookie" not in response.headers


async def test_signing_out_ends_the_session(client: Client, database: Database) -> None:
    ada = database.find_user("ada@example.com")
    assert ada is not None
    token = database.token_of(ada)
    assert token is not None
    sent = {"Cookie": f"{SESSION_COOKIE}={sign_value(token, KEYS)}"}
    response = await client.post("/sign-out", headers=sent, allow_redirects=False)
    assert response.status == 303
    assert response.headers["Location"] == "/"
    assert response.headers["Set-Cookie"] == f"{SESSION_COOKIE}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"
    assert database.token_of(ada) is None


@pytest.mark.parametrize("cookie", [None, f"{SESSION_COOKIE}=forged.signature"])
async def test_signing_out_without_a_session_changes_nothing(
    client: Client, database: Database, cookie: str | None
) -> None:
    headers = {} if cookie is None else {"Cookie": cookie}
    response = await client.post("/sign-out", headers=headers, allow_redirects=False)
    assert response.status == 303
    assert all(database.token_of(user) for user in database.users())


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
@pytest.mark.parametrize(
    ("sent", "accepted"),
    [
        pytest.param({}, True, id="a-program"),
        pytest.param({"Sec-Fetch-Site": "same-origin", "Origin": "http://{host}"}, True, id="own-page"),
        pytest.param({"Origin": "http://{host}"}, True, id="own-page-in-an-old-browser"),
        pytest.param({"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.test"}, False, id="other-site"),
        pytest.param({"Sec-Fetch-Site": "same-site", "Origin": "http://{host}"}, False, id="sibling-site"),
        pytest.param({"Origin": "http://evil.test"}, False, id="other-origin"),
        pytest.param({"Origin": "null"}, False, id="opaque-origin"),
        pytest.param({"Origin": "http://{host}.evil.test"}, False, id="lookalike"),
    ],
)
async def test_forms_of_other_sites_are_refused(
    client: Client, path: str, sent: dict[str, str], accepted: bool
) -> None:
    headers = {name: value.format(host=f"{client.host}:{client.port}") for name, value in sent.items()}
    response = await client.post(path, data={"user": "ada@example.com"}, headers=headers, allow_redirects=False)
    assert response.status == (303 if accepted else 403)
    assert ("Set-Cookie" in response.headers) is accepted


async def test_pages_have_the_gates_dress_and_no_scripts(client: Client) -> None:
    for path in ("/", "/sign-in", "/dashboard", "/dashboard/help", "/preview", "/x"):
        response = await client.get(path, headers=HTML)
        page = await response.text()
        assert re.search(r'<link rel="stylesheet" href="/\.gatekeeper/static/gatekeeper\.css\?v=[0-9a-f]{12}">', page)
        assert not re.search(r"<script|<style|style=", page)
        assert page.count("<h1>") == 1
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
