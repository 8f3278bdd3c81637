"""aiohttp: a middleware, and a decorator for handlers.

`gatekeeper(verifier)` says who is asking, under `request[IDENTITY]`; with `require=True` nobody else gets through.
Read it with `user` and `session`.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gatekeeper.integrations.assertion import Verifier
from gatekeeper.integrations.model import Identity, Request, Session, User

IDENTITY = web.RequestKey("gatekeeper", Identity)
_VERIFIER = web.RequestKey("gatekeeper.verifier", Verifier)


def gatekeeper(verifier: Verifier, *, require: bool = False) -> Middleware:
    """The middleware.  With `require`, who has no user gets the gate's answer instead of the app's."""

    @web.middleware
    async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[IDENTITY] = await verifier.identify_async(read_request(request))
        request[_VERIFIER] = verifier
        if require and user(request) is None:
            return refusal(request)
        return await handler(request)

    return identify


def require_user(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handler for those alone who have a user; all others get the gate's answer."""

    @wraps(handler)
    async def guarded(request: web.Request) -> web.StreamResponse:
        return refusal(request) if user(request) is None else await handler(request)

    return guarded


def identity(request: web.Request) -> Identity:
    """User and session, or the reason why there are none.  RuntimeError without the middleware."""
    found: Identity | None = request.get(IDENTITY)
    if found is None:
        raise RuntimeError("gatekeeper's middleware is not among the app's")
    return found


def user(request: web.Request) -> User | None:
    """Who is asking, or None.  RuntimeError without the middleware."""
    return identity(request).user


def session(request: web.Request) -> Session | None:
    """The session behind the request, or None.  RuntimeError without the middleware."""
    return identity(request).session


def refusal(request: web.Request) -> web.Response:
    """The gate's answer to a request without a user.  RuntimeError without the middleware."""
    verifier, found = request.get(_VERIFIER), identity(request)
    if verifier is None:
        raise RuntimeError("gatekeeper's middleware is not among the app's")
    answer = verifier.refusal(read_request(request), found)
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body)


def read_request(request: web.Request) -> Request:
    """What the verifier looks at, of a request.  Its peer is the connection's, whatever `clone` made of `remote`."""

    def lines(name: str) -> list[str]:
        return list(request.headers.getall(name, ()))

    named: object = None if request.transport is None else request.transport.get_extra_info("peername")
    peer = str(cast("tuple[object, ...]", named)[0]) if isinstance(named, tuple) and named else None
    return Request(request.method, request.raw_path, lines, peer)
