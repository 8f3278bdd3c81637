"""Each framework gives the same user, refuses the same forgeries, and answers as the gate."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from wsgiref.validate import validator

import fastapi
import pytest
from aiohttp import web
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.test.utils import override_settings

from gatekeeper.core.identity import identity_headers
from gatekeeper.core.model import AuthStatus
from gatekeeper.core.model import Identity as GateIdentity
from gatekeeper.integrations import Reason, User, asgi, wsgi
from gatekeeper.integrations import aiohttp as for_aiohttp
from gatekeeper.integrations import django as for_django
from gatekeeper.integrations import fastapi as for_fastapi
from tests.integrations.apps import FRAMEWORKS, App, ask_wsgi
from tests.integrations.forgeries import Forgery, every_forgery
from tests.integrations.gate import RECORD, KeysInMemory, mint, verifier

ADA = ["user_1", "Ada Łoś", "ada@example.com", True, ["admin", "editor"]]
NAVIGATION = [("Sec-Fetch-Mode", "navigate"), ("Accept", "text/html")]

in_each_framework = pytest.mark.parametrize("framework", FRAMEWORKS)


@asynccontextmanager
async def app_in(framework: str, **changes: Any) -> AsyncIterator[App]:
    async with FRAMEWORKS[framework](verifier(**changes)) as app:
        yield app


def counted(app: App) -> Counter[Reason]:
    """What was counted for one request: where apps are mounted in one another, each looks by itself."""
    return Counter(set(app.verifier.reasons))


@in_each_framework
async def test_the_user_and_the_session(framework: str) -> None:
    async with app_in(framework) as app:
        reply = await app.ask("/who", [("X-Auth-Assertion", mint())])
        assert (reply.status, reply.json()["user"]) == (200, ADA)
        assert reply.json()["session"][0] == "session_1"
        assert (await app.ask("/private/page", [("x-auth-assertion", mint())])).status == 200
        assert len(app.reached) == 1
        assert counted(app) == Counter()


@in_each_framework
@every_forgery
async def test_a_forgery_is_nobody_and_never_an_error(framework: str, forgery: Forgery) -> None:
    lines = [("X-Auth-Assertion", line) for line in forgery.lines]
    async with app_in(framework) as app:
        reply = await app.ask("/who", lines)
        assert (reply.status, reply.json()) == (200, {"user": None, "session": None})
        assert app.verifier.reasons == Counter({forgery.reason: 1})
        refused = await app.ask("/private/page", [*lines, *NAVIGATION])
        assert (refused.status, "location" in refused.headers) == (401, False)
        assert f"ASSERTION_{forgery.reason}".encode() in refused.body
        assert app.reached == []
        assert set(app.verifier.reasons) == {forgery.reason}


@in_each_framework
async def test_a_signed_out_person_is_led_to_sign_in(framework: str) -> None:
    prefix = "%2Fasync" if framework == "django-async" else ""
    async with app_in(framework) as app:
        reply = await app.ask("/private/page?tab=1&x=%20y", NAVIGATION)
        assert reply.status == 307
        way_back = "%2Fprivate%2Fpage%3Ftab%3D1%26x%3D%2520y"
        assert reply.headers["location"] == f"/sign-in?callbackUrl={prefix}{way_back}"
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["vary"] == "Cookie, Authorization, Accept, Sec-Fetch-Mode"
        assert b"Go on to sign in" in reply.body
        assert app.reached == []
        assert counted(app) == Counter({Reason.MISSING: 1})


@in_each_framework
async def test_a_form_of_a_signed_out_person_leads_back_to_its_page(framework: str) -> None:
    async with app_in(framework) as app:
        sent = [*NAVIGATION, ("Referer", "https://app.example.com/form?x=1")]
        reply = await app.ask("/private/page", sent, method="POST")
        assert (reply.status, reply.headers["location"]) == (303, "/sign-in?callbackUrl=%2Fform%3Fx%3D1")


@in_each_framework
async def test_a_signed_out_program_gets_json(framework: str) -> None:
    async with app_in(framework) as app:
        reply = await app.ask("/private/page", [("Accept", "application/json")])
        assert (reply.status, reply.headers["content-type"]) == (401, "application/json")
        assert reply.json()["error"] == "Unauthorized"
        assert reply.json()["code"] == "ASSERTION_MISSING"
        assert reply.json()["signInUrl"].endswith("private%2Fpage")
        assert reply.headers["content-length"] == str(len(reply.body))


@in_each_framework
async def test_without_keys_it_is_503(framework: str) -> None:
    async with app_in(framework, fetch=KeysInMemory(None)) as app:
        reply = await app.ask("/private/page", [("X-Auth-Assertion", mint()), *NAVIGATION])
        assert (reply.status, reply.headers["retry-after"]) == (503, "5")
        assert counted(app) == Counter({Reason.KEYS_UNAVAILABLE: 1})


PLAIN = list(identity_headers(GateIdentity(AuthStatus.AUTHENTICATED, RECORD)).items())


@in_each_framework
async def test_plain_headers_alone_are_nobody(framework: str) -> None:
    async with app_in(framework) as app:
        reply = await app.ask("/who", PLAIN, peer="127.0.0.1")
        assert reply.json()["user"] is None
        assert counted(app) == Counter({Reason.MISSING: 1})


@in_each_framework
async def test_plain_headers_of_a_named_peer_are_believed(framework: str) -> None:
    async with app_in(framework, trust_headers_from=["127.0.0.0/8"]) as app:
        reply = await app.ask("/who", PLAIN, peer="127.0.0.1")
        assert reply.json() == {"user": ADA, "session": None}


@in_each_framework
async def test_plain_headers_of_another_peer_are_not(framework: str) -> None:
    async with app_in(framework, trust_headers_from=["198.51.100.7"]) as app:
        reply = await app.ask("/who", PLAIN)
        assert reply.json()["user"] is None
        assert counted(app) == Counter({Reason.UNTRUSTED_PEER: 1})


@pytest.mark.parametrize("framework", sorted(set(FRAMEWORKS) - {"wsgi", "flask", "django", "django-async"}))
async def test_an_underscore_is_another_name_where_names_are_told_apart(framework: str) -> None:
    async with app_in(framework) as app:
        assert (await app.ask("/who", [("X_Auth_Assertion", mint())])).json()["user"] is None
        sent = [("X-Auth-Assertion", mint()), ("X_Auth_Assertion", "forged")]
        assert (await app.ask("/who", sent)).json()["user"] == ADA


@pytest.mark.parametrize("framework", ["wsgi", "flask", "django"])
async def test_an_underscore_is_a_second_line_where_they_are_not(framework: str) -> None:
    async with app_in(framework) as app:
        sent = [("X-Auth-Assertion", mint()), ("X_Auth_Assertion", "forged")]
        assert (await app.ask("/who", sent)).json()["user"] is None
        assert app.verifier.reasons == Counter({Reason.DUPLICATE: 1})


@pytest.mark.parametrize("framework", ["asgi", "starlette", "wsgi", "flask", "aiohttp", "django"])
async def test_head_is_answered_without_a_body(framework: str) -> None:
    async with app_in(framework) as app:
        reply = await app.ask("/private/page", [], method="HEAD")
        assert (reply.status, reply.body) == (401, b"")


# What only one of them does.


def websocket_scope(**changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {"type": "websocket", "path": "/private", "headers": [(b"upgrade", b"websocket")]}
    return usual | changes


async def handshake(app: asgi.App, scope: dict[str, Any]) -> list[dict[str, Any]]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


async def accept(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    await send({"type": "websocket.accept"})


async def test_asgi_refuses_a_websocket_before_it_is_accepted() -> None:
    guarded = asgi.Gatekeeper(accept, verifier(), require=True)
    assert await handshake(guarded, websocket_scope()) == [{"type": "websocket.close", "code": 1008}]
    full = await handshake(guarded, websocket_scope(extensions={"websocket.http.response": {}}))
    assert [message["type"] for message in full] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert (full[0]["status"], json.loads(full[1]["body"])["code"]) == (401, "ASSERTION_MISSING")


async def test_asgi_lets_a_users_websocket_through() -> None:
    guarded = asgi.Gatekeeper(accept, verifier(), require=True)
    fields = [(b"upgrade", b"websocket"), (b"x-auth-assertion", mint().encode())]
    assert await handshake(guarded, websocket_scope(headers=fields)) == [{"type": "websocket.accept"}]


async def test_asgi_leaves_the_lifespan_alone() -> None:
    scopes: list[Any] = []

    async def app(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        scopes.append(scope)

    await handshake(asgi.Gatekeeper(app, verifier(), require=True), {"type": "lifespan"})
    assert scopes == [{"type": "lifespan"}]


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        ({"path": "/a b", "raw_path": b"/a%20b", "query_string": b"x=1"}, "/a%20b?x=1"),
        ({"path": "/a b", "raw_path": None}, "/a%20b"),
        ({"path": "/a?b#c"}, "/a%3Fb%23c"),
        ({"path": "/caf\xe9%"}, "/caf%C3%A9%25"),
        ({"path": "/app/x", "root_path": "/app", "raw_path": b"/x"}, "/app/x"),
        ({"path": "/x", "root_path": "/app", "raw_path": b"/x"}, "/app/x"),
        ({"path": "/x", "raw_path": b"/x?y"}, "/x"),
    ],
)
def test_asgi_reads_the_target(changes: dict[str, Any], target: str) -> None:
    assert asgi.read_request({"type": "http", "headers": [], "path": "/", **changes}).target == target


@pytest.mark.parametrize(
    ("environ", "target"),
    [
        ({"SCRIPT_NAME": "/app", "PATH_INFO": "/a b", "QUERY_STRING": "x=1"}, "/app/a%20b?x=1"),
        ({"SCRIPT_NAME": "", "PATH_INFO": ""}, "/"),
        ({"PATH_INFO": "", "QUERY_STRING": "x"}, "/?x"),
        ({"PATH_INFO": "/caf\xc3\xa9?#%"}, "/caf%C3%A9%3F%23%25"),
    ],
)
def test_wsgi_reads_the_target(environ: dict[str, Any], target: str) -> None:
    assert wsgi.read_request({"REQUEST_METHOD": "GET", **environ}).target == target


async def test_wsgi_can_guard_a_whole_app() -> None:
    def never(environ: Any, start_response: Any) -> list[bytes]:
        raise AssertionError("reached")

    reply = await ask_wsgi(validator(wsgi.Gatekeeper(never, verifier(), require=True)))("/x", NAVIGATION)
    assert (reply.status, reply.headers["location"]) == (307, "/sign-in?callbackUrl=%2Fx")


async def test_aiohttp_can_guard_a_whole_app(aiohttp_client: Any) -> None:
    app = web.Application(middlewares=[for_aiohttp.gatekeeper(verifier(), require=True)])
    client = await aiohttp_client(app)
    reply = await client.get("/nowhere", headers=dict(NAVIGATION), allow_redirects=False)
    assert (reply.status, reply.headers["Location"]) == (307, "/sign-in?callbackUrl=%2Fnowhere")
    assert (await client.get("/nowhere", headers={"X-Auth-Assertion": mint()})).status == 404


async def test_aiohttp_takes_the_connections_peer_and_no_other(aiohttp_client: Any) -> None:
    """`clone(remote=…)`, as forwarding middlewares do, does not change who is believed."""

    @web.middleware
    async def forwarded(request: web.Request, handler: Any) -> web.StreamResponse:
        return await handler(request.clone(remote="198.51.100.7"))

    async def who(request: web.Request) -> web.Response:
        return web.json_response(for_aiohttp.user(request) is not None)

    trusting = verifier(trust_headers_from=["198.51.100.7"])
    app = web.Application(middlewares=[forwarded, for_aiohttp.gatekeeper(trusting)])
    app.router.add_get("/", who)
    client = await aiohttp_client(app)
    assert await (await client.get("/", headers=PLAIN)).json() is False


def test_without_the_middleware_it_is_said_so() -> None:
    for call in (asgi.user, asgi.session, asgi.refusal, wsgi.user, wsgi.session, wsgi.refusal):
        with pytest.raises(RuntimeError, match="middleware"):
            call({"gatekeeper": {"user": "forged"}, "gatekeeper.identity": "forged"})
    with pytest.raises(RuntimeError, match="MIDDLEWARE"):
        for_django.user(HttpRequest())


def test_identity_without_its_verifier_is_no_middleware_either() -> None:
    identity = asgi.Identity(None, None, Reason.MISSING)
    for call in (asgi.refusal, wsgi.refusal):
        with pytest.raises(RuntimeError, match="middleware"):
            call({"gatekeeper": identity, "gatekeeper.identity": identity})


async def test_aiohttp_without_the_middleware_says_so(aiohttp_client: Any) -> None:
    said: list[str] = []

    async def who(request: web.Request) -> web.Response:
        for call in (for_aiohttp.user, for_aiohttp.refusal):
            try:
                call(request)
            except RuntimeError as error:
                said.append(str(error))
        request[for_aiohttp.IDENTITY] = asgi.Identity(None, None, Reason.MISSING)
        try:
            for_aiohttp.refusal(request)
        except RuntimeError as error:
            said.append(str(error))
        return web.Response()

    app = web.Application()
    app.router.add_get("/", who)
    client = await aiohttp_client(app)
    assert (await client.get("/")).status == 200
    assert said == ["gatekeeper's middleware is not among the app's"] * 3


@pytest.mark.parametrize("setting", [None, {"issuer": "https://app.example.com"}, "https://app.example.com"])
def test_django_says_what_is_not_set_up(setting: object) -> None:
    with override_settings(GATEKEEPER=setting), pytest.raises(ImproperlyConfigured, match="GATEKEEPER"):
        for_django.middleware(lambda request: None)


async def test_fastapi_answers_a_websocket_in_full() -> None:
    app = fastapi.FastAPI()
    for_fastapi.install(app, verifier())
    needed = fastapi.Depends(for_fastapi.require_user)

    @app.websocket("/private")
    async def talk(websocket: fastapi.WebSocket, user: Annotated[User, needed]) -> None:
        raise AssertionError("reached")

    scope = websocket_scope(extensions={"websocket.http.response": {}}, query_string=b"", subprotocols=[])
    sent = await handshake(app, scope)
    assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 401)
    assert json.loads(sent[1]["body"])["code"] == "ASSERTION_MISSING"


async def test_fastapi_documents_itself_with_the_dependencies() -> None:
    async with app_in("fastapi") as app:
        reply = await app.ask("/openapi.json", [])
        assert {"/who", "/private", "/private/page"} <= set(reply.json()["paths"])
