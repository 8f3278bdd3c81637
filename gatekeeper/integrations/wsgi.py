"""WSGI: a middleware around any app.

`Gatekeeper(app, verifier)` says who is asking, under `environ["gatekeeper.identity"]`; with `require=True` nobody else
gets through.  Read it with `user` and `session`.

WSGI cannot tell `X_Auth_Assertion` from `X-Auth-Assertion`, nor two lines of a header from one with a comma in it: the
first is why the gate drops both spellings, the second is refused here, since no assertion has a comma.
"""

from collections.abc import Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from gatekeeper.integrations.assertion import Verifier
from gatekeeper.integrations.model import Answer, Identity, Request, Session, User

Environ = MutableMapping[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Any, Any], Iterable[bytes]]

KEY = "gatekeeper.identity"
_VERIFIER = "gatekeeper.verifier"
_PATH = "!$&'()*+,/:;=@~-._"


class Gatekeeper:
    """The middleware.  With `require`, who has no user gets the gate's answer instead of the app's."""

    def __init__(self, app: App, verifier: Verifier, *, require: bool = False) -> None:
        self._app = app
        self._verifier = verifier
        self._require = require

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ[KEY] = self._verifier.identify(read_request(environ))
        environ[_VERIFIER] = self._verifier
        app = refusal(environ) if self._require and user(environ) is None else self._app
        return app(environ, start_response)


def identity(environ: Environ) -> Identity:
    """User and session, or the reason why there are none.  RuntimeError without the middleware."""
    found = environ.get(KEY)
    if not isinstance(found, Identity):
        raise RuntimeError("gatekeeper's middleware does not stand before this app")
    return found


def user(environ: Environ) -> User | None:
    """Who is asking, or None.  RuntimeError without the middleware."""
    return identity(environ).user


def session(environ: Environ) -> Session | None:
    """The session behind the request, or None.  RuntimeError without the middleware."""
    return identity(environ).session


def refusal(environ: Environ) -> App:
    """The gate's answer to a request without a user, as an app: a redirect to sign in, or JSON."""
    answer = answer_for(environ)

    def refuse(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        headers = [*answer.headers, ("Content-Length", str(len(answer.body)))]
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    return refuse


def answer_for(environ: Environ) -> Answer:
    """The gate's answer to a request without a user.  RuntimeError without the middleware."""
    verifier = environ.get(_VERIFIER)
    found = identity(environ)
    if not isinstance(verifier, Verifier):
        raise RuntimeError("gatekeeper's middleware does not stand before this app")
    return verifier.refusal(read_request(environ), found)


def read_request(environ: Environ) -> Request:
    """What the verifier looks at, of an environ."""

    def lines(name: str) -> list[str]:
        value = environ.get("HTTP_" + name.upper().replace("-", "_"))
        return [] if value is None else [str(value)]

    path = quote(f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}", safe=_PATH, encoding="latin-1")
    query = environ.get("QUERY_STRING", "")
    target = f"{path or '/'}?{query}" if query else path or "/"
    return Request(str(environ["REQUEST_METHOD"]), target, lines, environ.get("REMOTE_ADDR"))
