"""The demo's sample app: what stands behind the gate, without any auth of its own.

It knows nothing of passwords, sessions or protection: it shows who the gate says is asking, whether the gate has signed
that, and every header that reached it.  The pages on which people sign in and out are the gate's.
"""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import unquote

import msgspec
from aiohttp import web

from gatekeeper.core.identity import fold_name
from gatekeeper.demo.people import PASSWORD, Person
from gatekeeper.integrations import Verifier
from gatekeeper.integrations.aiohttp import IDENTITY, gatekeeper
from gatekeeper.server.answers import NO_STORE, compile_templates, page_headers

_PAGE_HEADERS = {name.decode(): value.decode() for name, value in page_headers()}
_NO_STORE = {NO_STORE[0].decode(): NO_STORE[1].decode()}
_CREDENTIALS = ("authorization", "x-auth-assertion")
_SECRET_COOKIES = ("session_token", "session_data", "dont_remember", "gatekeeper.")


class HeaderRow(msgspec.Struct, frozen=True):
    """A header as the app shows it; `ours` marks those that the gate sets and no client can."""

    name: str
    value: str
    ours: bool


def make_app(verifier: Verifier | None = None, people: Sequence[Person] = ()) -> web.Application:
    """The sample app.  With a verifier it says of each request whether the gate has signed who is asking.

    `people` are those with an account and the demo's password, for the home page to say so.
    """
    sample = _SampleApp(people)
    app = web.Application(middlewares=[] if verifier is None else [gatekeeper(verifier)])
    app.router.add_get("/", sample.home)
    app.router.add_get("/dashboard/help", sample.help)
    app.router.add_get("/preview", sample.preview)
    for section in ("dashboard", "settings"):
        app.router.add_get(f"/{section}", sample.account)
        app.router.add_get(f"/{section}/{{rest:.*}}", sample.account)
    app.router.add_route("*", "/{rest:.*}", sample.not_found)
    return app


class _SampleApp:
    def __init__(self, people: Sequence[Person]) -> None:
        self._people = people

    async def home(self, request: web.Request) -> web.Response:
        values = {"origin": _own_origin(request), "people": self._people, "password": PASSWORD}
        return _page(request, "home.html", values)

    async def help(self, request: web.Request) -> web.Response:
        return _page(request, "help.html")

    async def preview(self, request: web.Request) -> web.Response:
        return _headers_page(request, "preview.html", "Preview")

    async def account(self, request: web.Request) -> web.Response:
        return _headers_page(request, "account.html", request.path.split("/")[1].capitalize())

    async def not_found(self, request: web.Request) -> web.Response:
        text = "The sample app has no page at this address."
        return _page(request, "message.html", {"title": "Page not found", "text": text}, status=404)


def seen_headers(request: web.BaseRequest) -> list[HeaderRow]:
    """Every header that reached the app, those of the gate first.  Credentials are shortened."""
    rows = [
        HeaderRow(name, _without_secrets(name, value), fold_name(name.encode()).startswith("x-auth-"))
        for name, value in request.headers.items()
    ]
    return sorted(rows, key=lambda row: (not row.ours, row.name.lower()))


def who(request: web.BaseRequest) -> dict[str, Any] | None:
    """Who is asking, as the gate says; None for nobody known.  Values come percent-encoded.

    The address is told only once it is verified.
    """
    user_id = request.headers.get("X-Auth-User-Id")
    if user_id is None:
        return None
    email, name = (unquote(request.headers.get(field, "")) for field in ("X-Auth-Email", "X-Auth-Name"))
    return {"id": unquote(user_id), "email": email or None, "name": name}


def signature(request: web.Request) -> str | None:
    """`verified` where the gate has signed that this user asks, else why it cannot be told; None without a verifier."""
    found = request.get(IDENTITY)
    if found is None:
        return None
    if found.user is None:
        return str(found.reason)
    named = who(request)
    return "verified" if named is not None and named["id"] == found.user.id else "names somebody else"


def _headers_page(request: web.Request, template: str, title: str) -> web.Response:
    status = request.headers.get("X-Auth-Status")
    rows = seen_headers(request)
    if "text/html" in request.headers.get("Accept", ""):
        values = {"title": title, "status": status, "signature": signature(request), "headers": rows}
        return _page(request, template, values)
    document = {
        "page": request.path,
        "status": status,
        "user": who(request),
        "signature": signature(request),
        "headers": _joined(rows),
    }
    body = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
    return web.Response(body=body, content_type="application/json", headers={**_NO_STORE, "Vary": "Accept, Cookie"})


def _joined(rows: list[HeaderRow]) -> dict[str, str]:
    """Header values by name, repeated ones joined as RFC 9110 §5.3 allows."""
    values: dict[str, str] = {}
    for row in rows:
        values[row.name] = f"{values[row.name]}, {row.value}" if row.name in values else row.value
    return values


def _page(
    request: web.Request, template: str, values: dict[str, Any] | None = None, *, status: int = 200
) -> web.Response:
    common = {"user": who(request), "here": request.path}
    html = _templates.get_template(template).render({**common, **(values or {})})
    headers = {**_PAGE_HEADERS, "Vary": "Accept, Cookie"}
    return web.Response(status=status, body=html.encode(), headers=headers)


def _own_origin(request: web.BaseRequest) -> str:
    return f"{request.headers.get('X-Forwarded-Proto', 'http')}://{request.host}"


def _without_secrets(name: str, value: str) -> str:
    """A header's value fit to be shown: of what lets anybody in, only the beginning."""
    if name.lower() in _CREDENTIALS:
        return _shortened(value)
    if name.lower() != "cookie":
        return value
    pairs = [pair.partition("=") for pair in value.split(";")]
    return ";".join(
        f"{key}={_shortened(text)}" if any(secret in key for secret in _SECRET_COOKIES) else key + equals + text
        for key, equals, text in pairs
    )


def _shortened(text: str) -> str:
    return f"{text[:8]}… (shortened)" if len(text) > 8 else text


_templates = compile_templates(str(files("gatekeeper.demo") / "templates"))
