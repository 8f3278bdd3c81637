"""ASGI: a middleware around any app or part of one.

`Gatekeeper(app, verifier=…)` says who is asking, under `scope["gatekeeper"]`; with `require=True` nobody else gets
through.  Read it with `user` and `session`.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast
from urllib.parse import quote

from gatekeeper.integrations.assertion import Verifier
from gatekeeper.integrations.model import Answer, Identity, Request, Session, User

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

KEY = "gatekeeper"
_VERIFIER = "gatekeeper.verifier"
_PATH = "!$&'()*+,/:;=@~-._%"
"""What stands in a path as it is; `%` only where the path comes raw."""


class Gatekeeper:
    """The middleware.  With `require`, who has no user gets the gate's answer instead of the app's."""

    def __init__(self, app: App, verifier: Verifier, *, require: bool = False) -> None:
        self._app = app
        self._verifier = verifier
        self._require = require

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope[KEY] = await self._verifier.identify_async(read_request(scope))
        scope[_VERIFIER] = self._verifier
        app = refusal(scope) if self._require and user(scope) is None else self._app
        await app(scope, receive, send)


def identity(scope: Scope) -> Identity:
    """User and session, or the reason why there are none.  RuntimeError without the middleware."""
    found = scope.get(KEY)
    if not isinstance(found, Identity):
        raise RuntimeError("gatekeeper's middleware does not stand before this app")
    return found


def user(scope: Scope) -> User | None:
    """Who is asking, or None.  RuntimeError without the middleware."""
    return identity(scope).user


def session(scope: Scope) -> Session | None:
    """The session behind the request, or None.  RuntimeError without the middleware."""
    return identity(scope).session


def refusal(scope: Scope) -> App:
    """The gate's answer to a request without a user, as an app: a redirect to sign in, or JSON."""
    answer = answer_for(scope)

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and "websocket.http.response" not in (scope.get("extensions") or {}):
            await receive()  # the handshake
            await send({"type": "websocket.close", "code": 1008})
            return
        prefix = "websocket.http" if scope["type"] == "websocket" else "http"
        headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
        headers.append((b"content-length", b"%d" % len(answer.body)))
        await send({"type": f"{prefix}.response.start", "status": answer.status, "headers": headers})
        body = b"" if scope.get("method") == "HEAD" else answer.body
        await send({"type": f"{prefix}.response.body", "body": body})

    return refuse


def answer_for(scope: Scope) -> Answer:
    """The gate's answer to a request without a user.  RuntimeError without the middleware."""
    verifier = scope.get(_VERIFIER)
    found = identity(scope)
    if not isinstance(verifier, Verifier):
        raise RuntimeError("gatekeeper's middleware does not stand before this app")
    return verifier.refusal(read_request(scope), found)


def read_request(scope: Scope) -> Request:
    """What the verifier looks at, of a scope of type `http` or `websocket`."""
    fields = cast("list[tuple[bytes, bytes]]", list(scope["headers"]))
    client = scope.get("client")

    def lines(name: str) -> list[str]:
        wanted = name.encode()
        return [value.decode("latin-1") for field, value in fields if bytes(field).lower() == wanted]

    return Request(str(scope.get("method", "GET")), _target(scope), lines, client[0] if client else None)


def _target(scope: Scope) -> str:
    """Path and query as in the URL: `raw_path` where the server tells it and nothing is mounted."""
    root, path, raw = str(scope.get("root_path", "")), str(scope["path"]), scope.get("raw_path")
    if raw is not None and not root:
        path = bytes(raw).partition(b"?")[0].decode("latin-1")
    else:
        whole = path if path.startswith(root) else root + path  # ASGI 2.x servers leave the root out
        path = quote(whole, safe=_PATH.replace("%", ""))
    query = bytes(scope.get("query_string", b"")).decode("latin-1")
    return f"{path}?{query}" if query else path
