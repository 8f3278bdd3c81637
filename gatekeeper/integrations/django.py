"""Django: a middleware that sets `request.gatekeeper`, and a decorator for views.

In the settings: `GATEKEEPER = Verifier("https://app.example.com")`, and `"gatekeeper.integrations.django.middleware"`
in MIDDLEWARE.  Serves synchronous and asynchronous apps alike.  WSGI's limits are told in `wsgi`.
"""

# Django comes without types, and what replaces the deprecated function does not know Django's marks on Python 3.11.
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportDeprecated=false

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

from gatekeeper.integrations.assertion import Verifier
from gatekeeper.integrations.model import Identity, Request, Session, User

KEY = "gatekeeper"

View = Callable[..., Any]


def _middleware(get_response: View) -> View:
    """The middleware.  Raises ImproperlyConfigured, when the app starts, where GATEKEEPER is no Verifier."""
    verifier = _verifier()

    if iscoroutinefunction(get_response):

        async def identify_async(request: HttpRequest) -> Any:
            setattr(request, KEY, await verifier.identify_async(read_request(request)))
            return await get_response(request)

        return identify_async

    def identify(request: HttpRequest) -> Any:
        setattr(request, KEY, verifier.identify(read_request(request)))
        return get_response(request)

    return identify


middleware = cast("Callable[[View], View]", sync_and_async_middleware(_middleware))


def require_user(view: View) -> View:
    """The view for those alone who have a user; all others get the gate's answer."""
    if iscoroutinefunction(view):

        @wraps(view)
        async def guarded_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return refusal(request) if user(request) is None else await view(request, *args, **kwargs)

        return guarded_async

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return refusal(request) if user(request) is None else view(request, *args, **kwargs)

    return guarded


def identity(request: HttpRequest) -> Identity:
    """User and session, or the reason why there are none.  RuntimeError without the middleware."""
    found = getattr(request, KEY, None)
    if not isinstance(found, Identity):
        raise RuntimeError("gatekeeper's middleware is not in MIDDLEWARE")
    return found


def user(request: HttpRequest) -> User | None:
    """Who is asking, or None.  RuntimeError without the middleware."""
    return identity(request).user


def session(request: HttpRequest) -> Session | None:
    """The session behind the request, or None.  RuntimeError without the middleware."""
    return identity(request).session


def refusal(request: HttpRequest) -> HttpResponse:
    """The gate's answer to a request without a user.  RuntimeError without the middleware."""
    answer = _verifier().refusal(read_request(request), identity(request))
    return HttpResponse(answer.body, status=answer.status, headers=dict(answer.headers))


def read_request(request: HttpRequest) -> Request:
    """What the verifier looks at, of a request."""
    meta = cast("dict[str, Any]", request.META)

    def lines(name: str) -> list[str]:
        value = meta.get("HTTP_" + name.upper().replace("-", "_"))
        return [] if value is None else [str(value)]

    return Request(str(request.method), request.get_full_path(), lines, meta.get("REMOTE_ADDR"))


def _verifier() -> Verifier:
    verifier = getattr(settings, "GATEKEEPER", None)
    if not isinstance(verifier, Verifier):
        raise ImproperlyConfigured("GATEKEEPER must be a gatekeeper.integrations.Verifier")
    return verifier
