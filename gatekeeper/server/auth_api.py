"""Accounts mode's calls below `accounts.base_path`: Better Auth's paths, and its order of checks.

    path and method (404) → body (400, 415) → origin and where it leads (403) → fields (400) → the call's own checks

A call is looked up by its canonical path.  Whatever waits or knows is a service (`auth_call`).  Where the store fails,
nothing that the call would have set or cleared is sent: a 503 if it does not answer, a 400 for what it cannot hold.
Format: Better Auth wire format, HTTP API.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from gatekeeper.core.errors import SchemaFault, StoreError, StoreUnavailable
from gatekeeper.core.model import Reason
from gatekeeper.server.answers import NO_STORE, Answer, json_answer, page_answer
from gatekeeper.server.auth_bodies import (
    FORM,
    JSON,
    Field,
    Json,
    Query,
    Shape,
    body_fault,
    query_fault,
    read_body,
    read_query,
)
from gatekeeper.server.auth_call import AuthRequest, AuthSettings, Call, Services
from gatekeeper.server.auth_origins import callback_fault, form_origin_fault, link_fault, origin_fault
from gatekeeper.server.auth_recovery import (
    follow_reset_link,
    request_password_reset,
    reset_password,
    send_verification_email,
    verify_email,
)
from gatekeeper.server.auth_refusals import NOT_STORABLE, STORE_UNAVAILABLE, Refusal, refused
from gatekeeper.server.auth_sessions import (
    get_session,
    list_sessions,
    post_session,
    revoke_other_sessions,
    revoke_session,
    revoke_sessions,
    update_session,
)
from gatekeeper.server.auth_signing import sign_in, sign_out, sign_up
from gatekeeper.server.auth_users import change_password, update_user
from gatekeeper.server.pages import dress
from gatekeeper.server.troubles import Troubles

logger = logging.getLogger("gatekeeper")

_NOT_FOUND = Answer(404, (NO_STORE,), b"", Reason.NOT_FOUND)
_CODE = re.compile("['A-Za-z0-9_-]+")
_VARY = (b"Vary", b"Accept-Language")


async def _ok(call: Call) -> Answer | Refusal:
    return json_answer(200, {"ok": True})


async def _error(call: Call) -> Answer | Refusal:
    """A page that names an error; a code that is no word is not shown."""
    given = call.query.get("error")
    code = given if isinstance(given, str) and _CODE.fullmatch(given) else "UNKNOWN"
    values = dress(call.words, call.settings.look) | {"code": code}
    return page_answer(200, "auth_error.html", values, (_VARY,))


class Outcome(msgspec.Struct, frozen=True):
    """What a call came to, the Set-Cookie lines that go with its answer, whatever that is, and the tokens of the
    sessions that it has ended.
    """

    result: Answer | Refusal
    cookie_lines: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()


class _Route(msgspec.Struct, frozen=True):
    """A call and what is checked before it.

    `shape` is None where the body is not looked at, `is_read` false where it is not even read.  `is_sign_in`: another
    site must not make a browser send it, cookies or none.
    """

    call: Callable[[Call], Awaitable[Answer | Refusal]]
    shape: Shape | None = None
    query: tuple[Field, ...] = ()
    media_types: tuple[str, ...] = (JSON,)
    is_read: bool = True
    is_sign_in: bool = False


_EMAIL = Field("email", "e-mail")
_REMEMBER = Field("rememberMe", "flag", is_required=False)
_CALLBACK = Field("callbackURL", "text", is_required=False)
_ANY_RECORD = Shape(names=("record",))

_SIGN_UP = Shape(
    (
        Field("name", "text"),
        _EMAIL,
        Field("password", "filled text"),
        Field("image", "text", is_required=False),
        _CALLBACK,
        _REMEMBER,
    ),
    names=("object", "record"),
)
_SIGN_IN = Shape((Field("email", "text"), Field("password", "text"), _CALLBACK, _REMEMBER))
_CHANGE_PASSWORD = Shape(
    (
        Field("newPassword", "text"),
        Field("currentPassword", "text"),
        Field("revokeOtherSessions", "flag", is_required=False),
    )
)
_RESET = Shape((Field("newPassword", "text"), Field("token", "text", is_required=False)))

_BOTH = (FORM, JSON)
_ROUTES: dict[tuple[str, str], _Route] = {
    ("GET", "/ok"): _Route(_ok),
    ("GET", "/error"): _Route(_error),
    ("GET", "/get-session"): _Route(get_session, is_read=False),
    ("POST", "/get-session"): _Route(post_session, is_read=False),
    ("POST", "/sign-up/email"): _Route(sign_up, _SIGN_UP, media_types=_BOTH, is_sign_in=True),
    ("POST", "/sign-in/email"): _Route(sign_in, _SIGN_IN, media_types=_BOTH, is_sign_in=True),
    ("POST", "/sign-out"): _Route(sign_out, Shape(is_required=False)),
    ("GET", "/list-sessions"): _Route(list_sessions),
    ("POST", "/revoke-session"): _Route(revoke_session, Shape((Field("token", "text"),))),
    ("POST", "/revoke-sessions"): _Route(revoke_sessions),
    ("POST", "/revoke-other-sessions"): _Route(revoke_other_sessions),
    ("POST", "/update-session"): _Route(update_session, _ANY_RECORD),
    ("POST", "/update-user"): _Route(update_user, _ANY_RECORD),
    ("POST", "/change-password"): _Route(change_password, _CHANGE_PASSWORD),
    ("POST", "/request-password-reset"): _Route(
        request_password_reset, Shape((_EMAIL, Field("redirectTo", "text", is_required=False)))
    ),
    ("POST", "/reset-password"): _Route(reset_password, _RESET, (Field("token", "text", is_required=False),)),
    ("POST", "/send-verification-email"): _Route(send_verification_email, Shape((_EMAIL, _CALLBACK))),
    ("GET", "/verify-email"): _Route(verify_email, query=(Field("token", "text"), _CALLBACK)),
}
_RESET_LINK = _Route(follow_reset_link, query=(Field("callbackURL", "text"),))
_RESET_LINK_PATH = re.compile("/reset-password/([^/]+)")


class AuthApi:
    """Answers account calls.  `clock` gives milliseconds since the epoch."""

    def __init__(self, settings: AuthSettings, services: Services, clock: Callable[[], int]) -> None:
        self._settings = settings
        self._services = services
        self._clock = clock
        self._troubles = Troubles("account calls cannot be carried out", "account calls can be carried out again")
        self._left: set[asyncio.Task[Outcome]] = set()

    @property
    def settings(self) -> AuthSettings:
        return self._settings

    @property
    def services(self) -> Services:
        return self._services

    def owns(self, path: str) -> bool:
        """Whether this canonical path is a call's, or could be one."""
        return f"{path}/".startswith(self._settings.base_path + "/")

    async def answer(self, request: AuthRequest) -> Answer:
        """The answer to a request for a path that it owns."""
        route, parameter = self._route_of(request)
        if route is None:
            return _NOT_FOUND
        query = read_query(request.facts.target.query)
        checked = self._checked(route, request, query, parameter)
        if isinstance(checked, Refusal):
            return refused(checked)
        outcome = await self._carry_out(route, checked)
        cookies = tuple((b"Set-Cookie", line.encode("ascii")) for line in outcome.cookie_lines)
        if isinstance(outcome.result, Refusal):
            reason = Reason.STORE_UNAVAILABLE if outcome.result is STORE_UNAVAILABLE else None
            return msgspec.structs.replace(refused(outcome.result, cookies), reason=reason)
        return msgspec.structs.replace(outcome.result, headers=outcome.result.headers + cookies)

    async def run(self, path: str, request: AuthRequest, body: Mapping[str, Json]) -> Outcome:
        """What the POST call at this path, without the base path, comes to for a form of our own pages.

        Where the form comes from is for the page to see to, and where it leads to: whatever else holds for the call
        holds here.
        """
        route = _ROUTES["POST", path]
        fields = dict(body)
        fault = None if route.shape is None else body_fault(route.shape, fields)
        if fault is not None:
            return Outcome(fault)
        return await self._carry_out(
            route, Call(request, fields, {}, "", self._clock(), self._settings, self._services)
        )

    async def close(self) -> None:
        """Wait for what is being written for clients who have left."""
        await asyncio.gather(*self._left, return_exceptions=True)

    async def _carry_out(self, route: _Route, call: Call) -> Outcome:
        """What a call comes to.  One that writes goes on to its end where its client leaves."""
        carrying_out = asyncio.create_task(self._outcome_of(route, call))
        try:
            return await asyncio.shield(carrying_out)
        except asyncio.CancelledError:
            if call.is_writing:
                self._left.add(carrying_out)
                carrying_out.add_done_callback(self._was_left)
            else:
                carrying_out.cancel()
            raise

    def _was_left(self, carrying_out: "asyncio.Task[Outcome]") -> None:
        self._left.discard(carrying_out)
        if not carrying_out.cancelled() and (error := carrying_out.exception()) is not None:
            logger.error("unforeseen error in an account call whose client has left", exc_info=error)

    async def _outcome_of(self, route: _Route, call: Call) -> Outcome:
        """The same.  Where the store fails no cookie is set."""
        try:
            result = await route.call(call)
        except StoreUnavailable as error:
            hint = "; `gatekeeper migrate` makes what is missing" if isinstance(error, SchemaFault) else ""
            self._troubles.began(error, hint)
            return Outcome(STORE_UNAVAILABLE)
        except StoreError as error:
            logger.info("an account call has what cannot be stored: %s", error)
            return Outcome(NOT_STORABLE)
        if isinstance(result, Answer) and route.shape is not None and route.shape.is_required:
            self._troubles.ended()  # it has asked the store for something
        return Outcome(result, tuple(call.cookie_lines), tuple(call.ended))

    def _route_of(self, request: AuthRequest) -> tuple[_Route | None, str]:
        """The route of a request, and what its path has of its own."""
        path = request.facts.target.path.removeprefix(self._settings.base_path)
        link = _RESET_LINK_PATH.fullmatch(path) if request.facts.method == "GET" else None
        return (_RESET_LINK, link[1]) if link else (_ROUTES.get((request.facts.method, path)), "")

    def _checked(self, route: _Route, request: AuthRequest, query: Query, parameter: str) -> Call | Refusal:
        """The call, once all that is checked before it holds; else the first thing that does not."""
        trusted, changes = self._settings.trusted_origins, request.facts.method == "POST"
        data = request.body if changes and route.is_read else b""
        body = read_body(request.content_type, data, route.media_types)
        if isinstance(body, Refusal):
            return body
        fault = origin_fault(request, trusted) if changes else None
        fault = fault or (callback_fault(body, query, request, trusted) if changes else None)
        fault = fault or (None if route.shape is None else body_fault(route.shape, body))
        fault = fault or query_fault(route.query, query)
        fault = fault or (form_origin_fault(request, trusted) if route.is_sign_in else None)
        fault = fault or (link_fault(query, request, trusted) if route.query and not changes else None)
        if fault is not None:
            return fault
        return Call(request, body, query, parameter, self._clock(), self._settings, self._services)
