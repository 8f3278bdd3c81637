"""The sessions of a visitor that only the app can reach: Better Auth's own calls, made as the visitor's browser would.

The app decides: it lists sessions only to who signed in lately, and ends nobody's but the caller's.
"""

import json
from collections.abc import Sequence
from typing import Any, cast

from gatekeeper.core.cookies import Keys
from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import RequestFacts, Session, SessionToken
from gatekeeper.stores.get_session import GetSession
from gatekeeper.stores.http import cookie_of, forwarded_for
from gatekeeper.stores.protocol import TIMEOUT_S
from gatekeeper.stores.records import session_of


class NotFresh(Exception):
    """The app asks for a recent sign-in first."""


class AppSessions:
    """The calls of the app at this URL, as for `HttpStore`.

    Each raises StoreUnavailable where the app does not answer as it should, and NotFresh.  An app that knows the
    session no more lists nothing and ends nothing.
    """

    def __init__(self, url: str, *, cookie_name: str, keys: Keys, pool: int = 2, timeout_s: float = TIMEOUT_S) -> None:
        self._app = GetSession(url, pool=pool, timeout_s=timeout_s)
        self._cookie_name = cookie_name
        self._keys = keys

    async def list_sessions(self, token: SessionToken, facts: RequestFacts, own_origin: str) -> Sequence[Session]:
        """The live sessions of whose session this is, in the order of the app."""
        body = await self._call("GET", "list-sessions", token, facts, own_origin, None)
        if body is None:
            return ()
        try:
            rows = json.loads(body)
        except (ValueError, RecursionError):
            rows = None
        if not isinstance(rows, list):
            raise self._app.unavailable("list-sessions answered 200 with something else than a list")
        found = [session_of(cast(dict[str, Any], row)) for row in cast(list[object], rows) if isinstance(row, dict)]
        return [session for session in found if session is not None]

    async def revoke(self, ended: str, token: SessionToken, facts: RequestFacts, own_origin: str) -> None:
        """End the session with the token `ended`, if it is of the same user."""
        await self._call("POST", "revoke-session", token, facts, own_origin, json.dumps({"token": ended}).encode())

    async def revoke_others(self, token: SessionToken, facts: RequestFacts, own_origin: str) -> None:
        """End all sessions of the same user but this one."""
        await self._call("POST", "revoke-other-sessions", token, facts, own_origin, b"{}")

    async def close(self) -> None:
        """Close every connection.  Safe to call twice."""
        await self._app.close()

    async def _call(
        self, method: str, name: str, token: SessionToken, facts: RequestFacts, own_origin: str, body: bytes | None
    ) -> bytes | None:
        """The body of a 200, None where the app does not know the session."""
        cookie = cookie_of(token, self._cookie_name, self._keys)
        if cookie is None:
            return None
        sent = {"Cookie": cookie, "Origin": own_origin, "Host": facts.host, "X-Forwarded-Host": facts.host}
        sent |= {"X-Forwarded-Proto": facts.scheme, **forwarded_for(facts.client_address)}
        status, answer = await self._app.call(method, name, sent, body)
        if status == 200:
            return answer
        if status == 401:
            return None
        if status == 403 and _code_of(answer) == "SESSION_NOT_FRESH":
            raise NotFresh
        raise self._refused(name, status)

    def _refused(self, name: str, status: int) -> StoreUnavailable:
        hint = "is public_url the app's address as its Better Auth knows it?" if status == 403 else "see the app's log"
        return self._app.unavailable(f"{name} answered {status}; {hint}")


def _code_of(body: bytes) -> str | None:
    """The code of a refusal, if it has one."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    code = cast(dict[str, object], document).get("code") if isinstance(document, dict) else None
    return code if isinstance(code, str) else None
