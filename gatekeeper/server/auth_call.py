"""An account call under way: the request, what it needs of the gate, and the cookies that its answer sets.

A call is a function of this and nothing else: the time is a number, randomness and everything that waits come in as
services, so that each can be replayed.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Protocol

import msgspec

from gatekeeper.core.accounts import ID_LENGTH, make_id
from gatekeeper.core.cookies import CookieNames, Keys
from gatekeeper.core.lifecycle import Lifetimes
from gatekeeper.core.model import RequestFacts, SessionRecord, SessionToken, User
from gatekeeper.core.session_cookies import CookieScope
from gatekeeper.core.session_data_writing import SessionDataFormat
from gatekeeper.server.auth_bodies import Body, Json, Query
from gatekeeper.server.data_cookies import DataCookies
from gatekeeper.server.look import PLAIN, Look
from gatekeeper.server.passwords import Busy, Line
from gatekeeper.server.texts import Words, words_for
from gatekeeper.server.throttle import Admitted, Wait
from gatekeeper.stores.accounts import AccountStore


class AuthRequest(msgspec.Struct, frozen=True):
    """A request for an account call, read whole.  `own_origin` is where the visitor believes to be."""

    facts: RequestFacts
    own_origin: str
    content_type: str | None = None
    user_agent: str | None = None
    sec_fetch_dest: str | None = None
    body: bytes = b""


class AuthSettings(msgspec.Struct, frozen=True):
    """What the configuration means for account calls.

    `base_path` has no slash at its end.  `data_format` is None where no session_data cookies are written.  The
    declared further fields of users and sessions are those that their owner may change.  `revoke_on_reset`: whoever
    resets a password that was forgotten ends all sessions of the account.  `look` is that of the error page.
    """

    keys: Keys
    names: CookieNames
    scope: CookieScope
    data_format: SessionDataFormat | None
    lifetimes: Lifetimes
    fresh_age_s: float
    base_path: str = "/api/auth"
    trusted_origins: frozenset[str] = frozenset()
    sign_up: bool = False
    min_password_length: int = 8
    bearer: bool = False
    user_fields: tuple[str, ...] = ()
    session_fields: tuple[str, ...] = ()
    revoke_on_reset: bool = True
    look: Look = PLAIN


class Sessions(Protocol):
    """What the gate believes of sessions."""

    async def read(self, token: SessionToken, facts: RequestFacts, *, from_store: bool) -> SessionRecord | None:
        """The session, expired or not: from memory or the request's session_data cookie where these may decide, but
        for `from_store`.  Raises StoreError.
        """
        ...

    def changed(self, token: str) -> None:
        """Read this session anew from now on."""
        ...

    def ended(self, tokens: Iterable[str]) -> None:
        """These sessions are over: believe nothing of them, and end their streams."""
        ...

    def user_changed(self, user_id: str) -> None:
        """Read the sessions of this user anew from now on."""
        ...


class Passwords(Protocol):
    """Hashing and comparing, which take a while (see `server.passwords`)."""

    async def hash(self, password: str, line: Line) -> str | Busy: ...

    async def verify(self, password: str, stored: str | None, line: Line) -> bool | Busy: ...


class Throttle(Protocol):
    """How often somebody may try a password (see `server.throttle`).  Every call raises StoreError."""

    async def admit(
        self, address: str, email: str | None, *, device_cookie: str | None, keys: Keys, now_ms: int
    ) -> Admitted | Wait: ...

    async def succeeded(self, admitted: Admitted) -> None: ...

    async def withdrawn(self, admitted: Admitted) -> None: ...


class Message(msgspec.Struct, frozen=True):
    """A mail to a user with a link in it, the token that the link has, and the language of who asked for it."""

    kind: Literal["reset-password", "verify-email"]
    user: User
    url: str
    token: str
    words: Words


class Mail(Protocol):
    """What sends mail."""

    def send(self, message: Message) -> None:
        """Send it beside everything else.  Returns at once, so that nobody learns from the time whom there is."""
        ...


class Services(msgspec.Struct, frozen=True):
    """What calls need.  `mail` is None where none is sent, `data_cookies` where no session_data cookies are written.

    `random_bytes` gives so many random bytes.  `audit` takes the name of a security event and what belongs to it, as
    `Telemetry.audit` does.
    """

    accounts: AccountStore
    sessions: Sessions
    passwords: Passwords
    throttle: Throttle
    mail: Mail | None
    random_bytes: Callable[[int], bytes]
    new_uuid: Callable[[], str]
    audit: Callable[..., None]
    data_cookies: DataCookies | None


class Call:
    """A call whose body and query have the form that they should.  `parameter` is what the path has of its own.

    `set_cookies` keeps one line for each cookie, the last that was set, in the order in which they were.  `is_writing`
    is set before the first thing is written that others must hear of: from there on the call goes on to its end,
    although its client may have left.  `ended` are the tokens of the sessions that it has ended.
    """

    __slots__ = (
        "_set_cookies",
        "body",
        "ended",
        "is_writing",
        "now_ms",
        "parameter",
        "query",
        "request",
        "services",
        "settings",
    )

    def __init__(
        self,
        request: AuthRequest,
        body: Body,
        query: Query,
        parameter: str,
        now_ms: int,
        settings: AuthSettings,
        services: Services,
    ) -> None:
        self.request = request
        self.body = body
        self.query = query
        self.parameter = parameter
        self.now_ms = now_ms
        self.settings = settings
        self.services = services
        self.is_writing = False
        self.ended: list[str] = []
        self._set_cookies: dict[str, str] = {}

    def has(self, name: str) -> bool:
        """Whether the body has this field."""
        return isinstance(self.body, dict) and name in self.body

    def field(self, name: str) -> Json:
        """A field of the body, None where there is none."""
        return self.body.get(name) if isinstance(self.body, dict) else None

    def text(self, name: str) -> str:
        """A field of the body that is a text, as its form was checked; "" where there is none."""
        value = self.field(name)
        return value if isinstance(value, str) else ""

    def audit(self, event: str, **fields: object) -> None:
        """Write down that this has happened, and from where it was asked for."""
        self.services.audit(event, client=self.request.facts.client_address, **fields)

    @property
    def words(self) -> Words:
        """The words of the caller's language."""
        return words_for(self.request.facts.accept_language)

    def end(self, tokens: Sequence[str]) -> None:
        """These sessions are no longer in the store: nobody is to believe in them any more."""
        self.ended += tokens
        self.services.sessions.ended(tokens)

    def new_id(self, length: int = ID_LENGTH) -> str:
        """A random id or token."""
        return make_id(self.services.random_bytes, length)

    def set_cookies(self, lines: Iterable[str]) -> None:
        """Send these Set-Cookie lines with the answer, whatever it will be."""
        for line in lines:
            name = line.partition("=")[0]
            self._set_cookies.pop(name, None)
            self._set_cookies[name] = line

    @property
    def cookie_lines(self) -> list[str]:
        return list(self._set_cookies.values())
