import re
from collections.abc import Awaitable, Callable
from html import unescape

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from gatekeeper.demo.app import make_app
from gatekeeper.demo.people import PASSWORD, PEOPLE
from tests.integrations.gate import RECORD, STRANGER, claims, mint, verifier

IDENTITY = {
    "X-Auth-Status": "authenticated",
    "X-Auth-User-Id": "user-1",
    "X-Auth-Email": "zoe@example.com",
    "X-Auth-Name": "Zo%C3%AB <b>%C5%81o%C5%9B",
}
HTML = {"Accept": "text/html"}

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client(aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    return await aiohttp_client(make_app(verifier(), PEOPLE))


async def text_of(client: Client, path: str, headers: dict[str, str] | None = None) -> str:
    response = await client.get(path, headers=headers)
    assert response.status == 200
    assert response.headers["Cache-Control"] == "no-store"
    return await response.text()


async def test_the_home_page_says_what_to_try(client: Client) -> None:
    page = await text_of(client, "/")
    assert 'href="/dashboard"' in page
    assert f"curl -i http://{client.host}:{client.port}/dashboard" in page
    assert "You are signed out" in page
    assert "Sign in</a>" in page


async def test_the_home_page_greets_who_the_gate_names(client: Client) -> None:
    page = await text_of(client, "/", IDENTITY)
    assert "Zoë &lt;b&gt;Łoś" in page
    assert '<form class="actions" method="post" action="/.gatekeeper/sign-out">' in page
    assert 'name="callbackUrl" value="/.gatekeeper/signed-out"' in page
    assert 'href="/.gatekeeper/sessions">Active sessions</a>' in page
    assert PASSWORD not in page.partition("On the command line")[0]


async def test_the_home_page_says_who_can_sign_in(client: Client) -> None:
    page = unescape(await text_of(client, "/"))
    for person in PEOPLE:
        assert person.name in page
        assert person.email in page
    assert PASSWORD in page.partition("On the command line")[0]
    assert f'"email":"ada@example.com","password":"{PASSWORD}"' in page.partition("On the command line")[2]


async def test_where_nobody_has_an_account_yet_the_home_page_names_nobody(
    aiohttp_client: Callable[..., Awaitable[Client]],
) -> None:
    page = await text_of(await aiohttp_client(make_app()), "/")
    assert PASSWORD not in page
    assert 'href="/sign-up?callbackUrl=/">Make an account</a>' in page


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


SIGNED = {
    "verified": (mint(), "verified", "Verified: the gate signed this"),
    "none": (None, "MISSING", "Not verified: <code>MISSING</code>"),
    "forged": (mint(key=STRANGER), "BAD_SIGNATURE", "Not verified: <code>BAD_SIGNATURE</code>"),
    "another": (mint(claims(user=None, session=None, sub="user-2")), "names somebody else", "Not verified: "),
}


@pytest.mark.parametrize(("token", "said", "shown"), SIGNED.values(), ids=SIGNED)
async def test_the_signature_is_verified(client: Client, token: str | None, said: str, shown: str) -> None:
    sent = IDENTITY | {"X-Auth-User-Id": RECORD.user.id} | ({} if token is None else {"X-Auth-Assertion": token})
    response = await client.get("/dashboard", headers=sent)
    assert (await response.json())["signature"] == said
    assert shown in await text_of(client, "/dashboard", sent | HTML)


async def test_without_keys_of_a_gate_nothing_is_said_of_signatures(
    aiohttp_client: Callable[..., Awaitable[Client]],
) -> None:
    client = await aiohttp_client(make_app())
    sent = IDENTITY | {"X-Auth-Assertion": mint()}
    assert (await (await client.get("/dashboard", headers=sent)).json())["signature"] is None
    assert "Signature" not in await text_of(client, "/dashboard", sent | HTML)


async def test_credentials_are_shortened(client: Client) -> None:
    cookie = "better-auth.session_token=abcdefghijklmnopqrst.sig; theme=dark; better-auth.session_data=short; odd"
    sent = {"Cookie": cookie, "Authorization": "Bearer abcdefghijkl", "X-Auth-Assertion": mint()}
    shown = (await (await client.get("/dashboard", headers=sent)).json())["headers"]
    assert shown["Cookie"] == (
        "better-auth.session_token=abcdefgh… (shortened); theme=dark; better-auth.session_data=short; odd"
    )
    assert shown["Authorization"] == "Bearer a… (shortened)"
    assert shown["X-Auth-Assertion"] == "eyJhbGci… (shortened)"


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


async def test_pages_have_the_gates_dress_and_no_scripts(client: Client) -> None:
    for path in ("/", "/dashboard", "/dashboard/help", "/preview", "/x"):
        response = await client.get(path, headers=HTML)
        page = await response.text()
        assert re.search(r'<link rel="stylesheet" href="/\.gatekeeper/static/gatekeeper\.css\?v=[0-9a-f]{12}">', page)
        assert not re.search(r"<script|<style|style=", page)
        assert page.count("<h1>") == 1
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
