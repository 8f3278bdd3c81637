"""FastAPI: `install(app, verifier)`, then `Depends(current_user)` or `Depends(require_user)`.

The dependencies work in routes of HTTP and WebSockets alike.
"""

from typing import cast

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response

from gatekeeper.integrations import asgi
from gatekeeper.integrations.assertion import Verifier
from gatekeeper.integrations.model import Answer, Identity, Session, User


class Refused(HTTPException):
    """A user is needed, and there is none; `answer` is the gate's."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status, headers=dict(answer.headers))
        self.answer = answer


def install(app: FastAPI, verifier: Verifier) -> None:
    """Says of each request to this app who is asking, and lets it answer as the gate where `require_user` asks."""
    app.add_middleware(asgi.Gatekeeper, verifier=verifier)
    app.add_exception_handler(Refused, _answer)


def current_identity(connection: HTTPConnection) -> Identity:
    """User and session, or the reason why there are none.  RuntimeError without `install`."""
    return asgi.identity(connection.scope)


def current_user(connection: HTTPConnection) -> User | None:
    """Who is asking, or None.  RuntimeError without `install`."""
    return asgi.user(connection.scope)


def current_session(connection: HTTPConnection) -> Session | None:
    """The session behind the request, or None.  RuntimeError without `install`."""
    return asgi.session(connection.scope)


def require_user(connection: HTTPConnection) -> User:
    """Who is asking; everybody else gets the gate's answer.  RuntimeError without `install`."""
    found = asgi.user(connection.scope)
    if found is None:
        raise Refused(asgi.answer_for(connection.scope))
    return found


async def _answer(connection: HTTPConnection, exc: Exception) -> Response:
    answer = cast("Refused", exc).answer
    return Response(answer.body, answer.status, dict(answer.headers))
