"""The same small app in each framework, asked in the same way.

`/who` tells who is asking, `/private` and `/private/page` are for users alone, and count as reached when the app's own
code ran.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes
from wsgiref.validate import validator

import django
import fastapi as fastapi_library
import flask
from aiohttp import web
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, JsonResponse
from django.test import Client
from django.test.utils import override_settings
from django.urls import path
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from gatekeeper.integrations import Session, User, Verifier, asgi, wsgi
from gatekeeper.integrations import aiohttp as for_aiohttp
from gatekeeper.integrations import django as for_django
from gatekeeper.integrations import fastapi as for_fastapi

HeaderList = Sequence[tuple[str, str]]


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


Ask = Callable[..., Awaitable[Reply]]
"""ask(path, headers, method="GET", peer="192.0.2.1")"""


@dataclass
class App:
    ask: Ask
    verifier: Verifier
    reached: list[str] = field(default_factory=list)


def told(user: User | None, session: Session | None) -> dict[str, Any]:
    return {
        "user": None if user is None else [user.id, user.name, user.email, user.email_verified, list(user.roles)],
        "session": None if session is None else [session.id, session.expires_at.isoformat()],
    }


@asynccontextmanager
async def plain_asgi(verifier: Verifier) -> AsyncIterator[App]:
    async def answer(scope: asgi.Scope, send: asgi.Send, document: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(document).encode()})

    async def own(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["path"].startswith("/private"):
            if asgi.user(scope) is None:
                await asgi.refusal(scope)(scope, receive, send)
                return
            app.reached.append(scope["path"])
        await answer(scope, send, told(asgi.user(scope), asgi.session(scope)))

    app = App(ask_asgi(asgi.Gatekeeper(own, verifier)), verifier)
    yield app


@asynccontextmanager
async def starlette(verifier: Verifier) -> AsyncIterator[App]:
    async def who(request: StarletteRequest) -> JSONResponse:
        return JSONResponse(told(asgi.user(request.scope), asgi.session(request.scope)))

    async def private(request: StarletteRequest) -> JSONResponse:
        app.reached.append(request.url.path)
        return JSONResponse({})

    inner = asgi.Gatekeeper(
        Starlette(routes=[Route("/{rest:path}", private, methods=["GET", "POST"])]), verifier, require=True
    )
    outer = Starlette(
        routes=[Route("/who", who), Mount("/private", inner)],
        middleware=[Middleware(asgi.Gatekeeper, verifier=verifier)],
    )
    app = App(ask_asgi(outer), verifier)
    yield app


@asynccontextmanager
async def fastapi(verifier: Verifier) -> AsyncIterator[App]:
    own = fastapi_library.FastAPI()
    for_fastapi.install(own, verifier)
    current = fastapi_library.Depends(for_fastapi.current_user)
    behind = fastapi_library.Depends(for_fastapi.current_session)
    needed = fastapi_library.Depends(for_fastapi.require_user)

    @own.get("/who")
    async def who(user: Annotated[User | None, current], session: Annotated[Session | None, behind]) -> Any:
        return told(user, session)

    @own.get("/private")
    @own.get("/private/page")
    @own.post("/private/page")
    def private(user: Annotated[User, needed]) -> Any:
        app.reached.append(user.id)
        return {}

    app = App(ask_asgi(own), verifier)
    yield app


@asynccontextmanager
async def plain_wsgi(verifier: Verifier) -> AsyncIterator[App]:
    def own(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/private"):
            if wsgi.user(environ) is None:
                return wsgi.refusal(environ)(environ, start_response)
            app.reached.append(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(told(wsgi.user(environ), wsgi.session(environ))).encode()]

    # The validator stands outside and inside: the middleware keeps the rules both ways.
    app = App(ask_wsgi(validator(wsgi.Gatekeeper(validator(own), verifier))), verifier)
    yield app


@asynccontextmanager
async def flask_app(verifier: Verifier) -> AsyncIterator[App]:
    own = flask.Flask("own")
    own.wsgi_app = wsgi.Gatekeeper(own.wsgi_app, verifier)  # type: ignore[method-assign]

    @own.get("/who")
    def who() -> Any:
        return told(wsgi.user(flask.request.environ), wsgi.session(flask.request.environ))

    @own.route("/private", methods=["GET", "POST"])
    @own.route("/private/page", methods=["GET", "POST"])
    def private() -> Any:
        if wsgi.user(flask.request.environ) is None:
            return wsgi.refusal(flask.request.environ)
        app.reached.append(flask.request.path)
        return {}

    app = App(ask_wsgi(validator(own)), verifier)
    yield app


@asynccontextmanager
async def aiohttp_app(verifier: Verifier) -> AsyncIterator[App]:
    async def who(request: web.Request) -> web.Response:
        return web.json_response(told(for_aiohttp.user(request), for_aiohttp.session(request)))

    @for_aiohttp.require_user
    async def private(request: web.Request) -> web.StreamResponse:
        app.reached.append(request.path)
        return web.json_response({})

    own = web.Application(middlewares=[for_aiohttp.gatekeeper(verifier)])
    own.router.add_get("/who", who)
    for name in ("/private", "/private/page"):
        own.router.add_route("*", name, private)
    runner = web.AppRunner(own, max_field_size=64 * 1024, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        app = App(ask_socket(runner.addresses[0][1]), verifier)
        yield app
    finally:
        await runner.cleanup()


def _who(request: HttpRequest) -> JsonResponse:
    return JsonResponse(told(for_django.user(request), for_django.session(request)))


@for_django.require_user
def _private(request: HttpRequest) -> JsonResponse:
    _django_reached.append(request.path)
    return JsonResponse({})


async def _who_async(request: HttpRequest) -> JsonResponse:
    return _who(request)


@for_django.require_user
async def _private_async(request: HttpRequest) -> JsonResponse:
    _django_reached.append(request.path)
    return JsonResponse({})


_django_reached: list[str] = []
urlpatterns = [
    path("who", _who),
    path("private", _private),
    path("private/page", _private),
    path("async/who", _who_async),
    path("async/private", _private_async),
    path("async/private/page", _private_async),
]
if not settings.configured:
    settings.configure(
        SECRET_KEY="only-for-tests",
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        APPEND_SLASH=False,
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "gatekeeper.integrations.django.middleware",
            "django.middleware.common.CommonMiddleware",
        ],
    )
    django.setup()


@asynccontextmanager
async def django_sync(verifier: Verifier) -> AsyncIterator[App]:
    with override_settings(GATEKEEPER=verifier):
        client = Client()

        async def ask(target: str, headers: HeaderList, method: str = "GET", peer: str = "192.0.2.1") -> Reply:
            meta = {"REMOTE_ADDR": peer, **_meta(headers)}
            return _reply_of(client.generic(method, target, **meta))

        _django_reached.clear()
        yield App(ask, verifier, _django_reached)


@asynccontextmanager
async def django_async(verifier: Verifier) -> AsyncIterator[App]:
    with override_settings(GATEKEEPER=verifier):
        ask_django = ask_asgi(ASGIHandler())

        async def ask(target: str, headers: HeaderList, method: str = "GET", peer: str = "192.0.2.1") -> Reply:
            return await ask_django("/async" + target, headers, method, peer)

        _django_reached.clear()
        yield App(ask, verifier, _django_reached)


FRAMEWORKS = {
    "asgi": plain_asgi,
    "starlette": starlette,
    "fastapi": fastapi,
    "wsgi": plain_wsgi,
    "flask": flask_app,
    "aiohttp": aiohttp_app,
    "django": django_sync,
    "django-async": django_async,
}


def ask_asgi(app: Any) -> Ask:
    async def ask(target: str, headers: HeaderList, method: str = "GET", peer: str = "192.0.2.1") -> Reply:
        raw_path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote_to_bytes(raw_path).decode(),
            "raw_path": raw_path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
            "client": (peer, 50_000),
            "server": ("127.0.0.1", 80),
        }
        sent: list[Any] = []

        bodies: list[dict[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not bodies:
                await asyncio.Event().wait()  # for a disconnect that does not come
            return bodies.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)
        fields = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        return Reply(sent[0]["status"], fields, b"".join(message.get("body", b"") for message in sent[1:]))

    return ask


def ask_wsgi(app: Any) -> Ask:
    async def ask(target: str, headers: HeaderList, method: str = "GET", peer: str = "192.0.2.1") -> Reply:
        raw_path, _, query = target.partition("?")
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(raw_path).decode("latin-1"),
            "QUERY_STRING": query,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": peer,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            **_meta(headers),
        }
        started: list[Any] = []

        def start_response(status: str, fields: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
            started.extend((int(status[:3]), {name.lower(): value for name, value in fields}))
            return lambda data: None

        body = app(environ, start_response)
        try:
            read = b"".join(body)
        finally:
            body.close()
        return Reply(started[0], started[1], read)

    return ask


def ask_socket(port: int) -> Ask:
    """Over a connection of its own, byte for byte."""

    async def ask(target: str, headers: HeaderList, method: str = "GET", peer: str = "") -> Reply:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        lines = [f"{method} {target} HTTP/1.1", "Host: app.example.com", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        first, *rest = head.decode().split("\r\n")
        fields = dict(line.split(": ", 1) for line in rest)
        return Reply(int(first.split(" ")[1]), {name.lower(): value for name, value in fields.items()}, body)

    return ask


def _meta(headers: HeaderList) -> dict[str, str]:
    """Headers as CGI names them; lines of the same name are joined, as servers do."""
    meta: dict[str, str] = {}
    for name, value in headers:
        key = "HTTP_" + name.upper().replace("-", "_")
        meta[key] = f"{meta[key]},{value}" if key in meta else value
    return meta


def _reply_of(response: Any) -> Reply:
    return Reply(response.status_code, {name.lower(): value for name, value in response.items()}, response.content)
