"""The demo's sample app: what stands behind the gate.

It knows nothing of protection: it shows who the gate says is asking, and every header that reached it.  Its sign-in
does what a Better Auth app does, without passwords: it writes a session row and sets the signed cookie.
"""

import asyncio
import time
from collections.abc import Callable
from importlib.resources import files
from typing import Any
from urllib.parse import unquote

import msgspec
from aiohttp import web

from gatekeeper.core.cookies import Keys, cookie_names, find_cookie, set_cookie, sign_value, verify_token
from gatekeeper.core.identity import fold_name
from gatekeeper.core.urls import safe_callback
from gatekeeper.demo.database import SESSION_AGE_S, Database
from gatekeeper.server.answers import NO_STORE, compile_templates, page_headers

SESSION_COOKIE = cookie_names("better-auth", secure=False).session_token

_PAGE_HEADERS = {name.decode(): value.decode() for name, value in page_headers()}
_NO_STORE = {NO_STORE[0].decode(): NO_STORE[1].decode()}
_SECRET_COOKIES = ("session_token", "session_data", "dont_remember")


class HeaderRow(msgspec.Struct, frozen=True):
    """A header as the app shows it; `ours` marks those that the gate sets and no client can."""

    name: str
    value: str
    ours: bool


def make_app(database: Database, keys: Keys, *, clock: Callable[[], float] = time.time) -> web.Application:
    """The sample app over this database; `keys` sign its cookies, `clock` tells seconds since the epoch."""
    sample = _SampleApp(database, keys, clock)
    app = web.Application()
    app.router.add_get("/", sample.home)
    app.router.add_get("/sign-in", sample.choose)
    app.router.add_post("/sign-in", sample.sign_in)
    app.router.add_post("/sign-out", sample.sign_out)
    app.router.add_get("/dashboard/help", sample.help)
    app.router.add_get("/preview", sample.preview)
    for section in ("dashboard", "settings"):
        app.router.add_get(f"/{section}", sample.account)
        app.router.add_get(f"/{section}/{{rest:.*}}", sample.account)
    app.router.add_route("*", "/{rest:.*}", sample.not_found)
    return app


class _SampleApp:
    def __init__(self, database: Database, keys: Keys, clock: Callable[[], float]) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    async def home(self, request: web.Request) -> web.Response:
        return _page(request, "home.html", {"origin": _own_origin(request)})

    async def help(self, request: web.Request) -> web.Response:
        return _page(request, "help.html")

    async def preview(self, request: web.Request) -> web.Response:
        return _headers_page(request, "preview.html", "Preview")

    async def account(self, request: web.Request) -> web.Response:
        return _headers_page(request, "account.html", request.path.split("/")[1].capitalize())

    async def not_found(self, request: web.Request) -> web.Response:
        return _message(request, 404, "Page not found", "The sample app has no page at this address.")

    async def choose(self, request: web.Request) -> web.Response:
        users = await asyncio.to_thread(self._database.users)
        return_to = _return_to(request, request.query.get("callbackUrl"))
        return _page(request, "choose.html", {"users": users, "return_to": return_to})

    async def sign_in(self, request: web.Request) -> web.Response:
        if not is_same_origin(request):
            return _message(request, 403, "Request refused", "This sign-in was started by another website.")
        form = await request.post()
        user = await asyncio.to_thread(self._database.find_user, str(form.get("user", "")))
        if user is None:
            return _message(request, 400, "Nobody of that name", "Pick one of the two people on the sign-in page.")
        address, agent = request.headers.get("X-Forwarded-For"), request.headers.get("User-Agent")
        now_ms = int(self._clock() * 1000)
        token = await asyncio.to_thread(self._database.start_session, user, now_ms, address=address, user_agent=agent)
        cookie = _session_cookie(sign_value(token, self._keys), SESSION_AGE_S)
        return _redirect(_return_to(request, str(form.get("callbackUrl", ""))), cookie)

    async def sign_out(self, request: web.Request) -> web.Response:
        if not is_same_origin(request):
            return _message(request, 403, "Request refused", "This sign-out was started by another website.")
        raw = find_cookie("; ".join(request.headers.getall("Cookie", [])), SESSION_COOKIE)
        verified = None if raw is None else verify_token(raw, self._keys)
        if verified is not None:
            await asyncio.to_thread(self._database.end_session, verified.token)
        return _redirect("/", _session_cookie("", 0))


def is_same_origin(request: web.BaseRequest) -> bool:
    """Whether a form was sent from one of our own pages, or by a program: browsers always name the origin of a POST.

    The gate passes the client's Host on, so comparing with it is comparing with the address in the browser.
    """
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("Origin")
    return origin is None or origin.partition("://")[2].lower() == request.host.lower()


def seen_headers(request: web.BaseRequest) -> list[HeaderRow]:
    """Every header that reached the app, those of the gate first.  Session cookies are shortened."""
    rows = [
        HeaderRow(name, _without_secrets(name, value), fold_name(name.encode()).startswith("x-auth-"))
        for name, value in request.headers.items()
    ]
    return sorted(rows, key=lambda row: (not row.ours, row.name.lower()))


def who(request: web.BaseRequest) -> dict[str, Any] | None:
    """Who is asking, as the gate says; None for nobody known.  Values come percent-encoded."""
    user_id = request.headers.get("X-Auth-User-Id")
    if user_id is None:
        return None
    email, name = (unquote(request.headers.get(field, "")) for field in ("X-Auth-Email", "X-Auth-Name"))
    return {"id": unquote(user_id), "email": email, "name": name}


def _headers_page(request: web.Request, template: str, title: str) -> web.Response:
    status = request.headers.get("X-Auth-Status")
    rows = seen_headers(request)
    if "text/html" in request.headers.get("Accept", ""):
        return _page(request, template, {"title": title, "status": status, "headers": rows})
    document = {
        "page": request.path,
        "status": status,
        "user": who(request),
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


def _message(request: web.Request, status: int, title: str, text: str) -> web.Response:
    return _page(request, "message.html", {"title": title, "text": text}, status=status)


def _redirect(location: str, cookie: str) -> web.Response:
    return web.Response(status=303, headers={**_NO_STORE, "Location": location, "Set-Cookie": cookie})


def _session_cookie(value: str, max_age_s: int) -> str:
    return set_cookie(SESSION_COOKIE, value, max_age=max_age_s, domain=None, secure=False, same_site="lax")


def _return_to(request: web.BaseRequest, text: str | None) -> str:
    return safe_callback(text, own_origin=_own_origin(request))


def _own_origin(request: web.BaseRequest) -> str:
    return f"{request.headers.get('X-Forwarded-Proto', 'http')}://{request.host}"


def _without_secrets(name: str, value: str) -> str:
    """A header's value fit to be shown: of a session cookie or an Authorization only the beginning."""
    if name.lower() == "authorization":
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
