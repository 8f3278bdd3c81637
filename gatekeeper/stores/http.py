"""Sessions asked of the app itself, by Better Auth's get-session.  Read only.

For apps whose tables the gate cannot read.  Of a visitor's request two things are passed on: the session token, as a
cookie that is signed with the current secret, and one client address, by which the app's rate limit counts.  The app
removes expired sessions on its own account, and answers for them as for unknown ones.

There is no question for several sessions: the sessions of open streams are asked for one by one, rarely, under the
address that asked for them last, and over half of the connections.
"""

import asyncio
from collections.abc import Sequence

from gatekeeper.core.cookies import Keys, sign_value
from gatekeeper.core.errors import StoreLimited, StoreUnavailable
from gatekeeper.core.forwarding import parse_address
from gatekeeper.core.model import SessionRecord, SessionToken
from gatekeeper.stores.feeds.feed import Channel, Memory
from gatekeeper.stores.get_session import Answer, GetSession
from gatekeeper.stores.protocol import TIMEOUT_S, StoreIncomplete
from gatekeeper.stores.records import SESSION_FIELDS, USER_FIELDS, record_of

RECHECK_S = 30.0
"""How often the sessions of open streams are asked for: each is a request to the app."""

FAILURES = 3
"""After so many, the question for several sessions ends."""

_ADDRESSES = 10_000
_MAX_COOKIE_CHARS = 4096  # what the gate reads of a signed cookie: a longer one comes from no request
_SESSION_NEEDS = tuple(name for name in SESSION_FIELDS if name not in ("ipAddress", "userAgent"))
_USER_NEEDS = tuple(name for name in USER_FIELDS if name != "image")  # absent where the app has no database


class HttpStore:
    """A SessionStore that asks the app.

    `url` is the base path of its Better Auth, `http://127.0.0.1:3000/api/auth`; with https, `?ca=FILE` names the only
    authority to trust instead of the system's.  `*_extra` are declared further fields; one that the app does not give
    is None, since it leaves out fields without a value.

    Raises GatekeeperError for a URL that cannot be used, StoreUnavailable from every call when the app cannot answer,
    and works again when it can.
    """

    recheck_s = RECHECK_S

    def __init__(
        self,
        url: str,
        *,
        cookie_name: str,
        keys: Keys,
        session_extra: Sequence[str] = (),
        user_extra: Sequence[str] = (),
        pool: int = 10,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._app = GetSession(url, pool=pool, timeout_s=timeout_s)
        self._cookie_name = cookie_name
        self._keys = keys
        self._session_extra = session_extra
        self._user_extra = user_extra
        self._pool = pool
        self._addresses: dict[SessionToken, str] = {}

    def __repr__(self) -> str:
        return f"<HttpStore {self._app.label}, {self._app.under_way} reads under way>"

    def channel(self, memory: Memory) -> Channel | None:
        return None

    async def check(self) -> None:
        """Raise StoreUnavailable unless the app answers, and knows nobody by no cookie."""
        if await self._app.ask({}) is not None:
            raise self._app.unavailable("get-session gives a session to a request without a cookie")

    async def read_session(self, token: SessionToken, client_address: str | None = None) -> SessionRecord | None:
        cookie = cookie_of(token, self._cookie_name, self._keys)
        if cookie is None:
            return None
        answer = await self._app.ask({"Cookie": cookie, **forwarded_for(client_address)})
        record = None if answer is None else self._record_of(answer, token)
        if record is None:
            self._addresses.pop(token, None)
        elif client_address is not None:
            self._note_address(token, client_address)
        return record

    async def read_sessions(self, tokens: Sequence[SessionToken]) -> dict[SessionToken, SessionRecord]:
        """As every store's.  Who is refused, or fails, keeps nobody else's session from being asked for.

        After some failures no more are asked for: the app cannot answer.
        """
        wanted = dict.fromkeys(tokens)
        said: dict[SessionToken, SessionRecord | None] = {}
        troubles: list[StoreUnavailable] = []
        rest = iter(wanted)

        async def read_on() -> None:
            while sum(not isinstance(trouble, StoreLimited) for trouble in troubles) < FAILURES:
                token = next(rest, None)
                if token is None:
                    return
                try:
                    said[token] = await self.read_session(token, self._addresses.get(token))
                except StoreUnavailable as trouble:
                    troubles.append(trouble)

        readers = [asyncio.ensure_future(read_on()) for _ in range((self._pool + 1) // 2)]
        try:
            await asyncio.gather(*readers)
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        records = {token: record for token, record in said.items() if record is not None}
        if not troubles:
            return records
        if not said:
            raise min(troubles, key=lambda trouble: isinstance(trouble, StoreLimited))
        raise StoreIncomplete(str(troubles[-1]), records, wanted.keys() - said.keys())

    async def close(self) -> None:
        """Close every connection, once the reads under way have ended.  What is asked later is unavailable."""
        await self._app.close()

    def _note_address(self, token: SessionToken, client_address: str) -> None:
        """Remember who asked for a session that there is; the one asked for longest ago is forgotten first."""
        self._addresses.pop(token, None)
        self._addresses[token] = client_address
        if len(self._addresses) > _ADDRESSES:
            del self._addresses[next(iter(self._addresses))]

    def _record_of(self, answer: Answer, token: SessionToken) -> SessionRecord | None:
        """The record, if it is the one that was asked for."""
        missing = [f"session.{name}" for name in _SESSION_NEEDS if name not in answer.session]
        missing += [f"user.{name}" for name in _USER_NEEDS if name not in answer.user]
        if missing:
            raise self._app.unavailable(f"get-session answers without {', '.join(missing)}")
        if answer.session["token"] != token:
            return None
        return record_of(answer.session, answer.user, self._session_extra, self._user_extra)


def cookie_of(token: SessionToken, name: str, keys: Keys) -> str | None:
    """The Cookie header of a token, or None for one that no cookie can hold."""
    try:
        signed = sign_value(token, keys)
    except UnicodeEncodeError:
        return None
    return f"{name}={signed}" if token and len(signed) <= _MAX_COOKIE_CHARS else None


def forwarded_for(client_address: str | None) -> dict[str, str]:
    """The header with the client's address; none where that is no address, as at a Unix socket, or names a zone."""
    address = parse_address(client_address or "")
    return {} if address is None else {"X-Forwarded-For": str(address)}
