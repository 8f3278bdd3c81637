"""Ending a session that the app owns and only the app can reach: Better Auth's sign-out, called as a browser would."""

from gatekeeper.core.cookies import Keys
from gatekeeper.core.model import RequestFacts, SessionToken
from gatekeeper.stores.get_session import GetSession
from gatekeeper.stores.http import cookie_of, forwarded_for
from gatekeeper.stores.protocol import TIMEOUT_S


class AppSignOut:
    """The sign-out of the app at this URL, as for `HttpStore`."""

    def __init__(self, url: str, *, cookie_name: str, keys: Keys, pool: int = 1, timeout_s: float = TIMEOUT_S) -> None:
        self._app = GetSession(url, pool=pool, timeout_s=timeout_s)
        self._cookie_name = cookie_name
        self._keys = keys

    async def sign_out(self, token: SessionToken, facts: RequestFacts, own_origin: str) -> None:
        """End this session.  Raises StoreUnavailable unless the app says that it has.

        Better Auth takes such a call from its own origin alone.  Whether it knows that from its configuration or from
        the request, the origin and the host are those by which the visitor came, as for requests that are passed on.
        """
        cookie = cookie_of(token, self._cookie_name, self._keys)
        if cookie is None:
            return
        forwarded = {"Host": facts.host, "X-Forwarded-Host": facts.host, "X-Forwarded-Proto": facts.scheme}
        await self._app.sign_out(
            {"Cookie": cookie, "Origin": own_origin, **forwarded, **forwarded_for(facts.client_address)}
        )

    async def close(self) -> None:
        """Close every connection.  Safe to call twice."""
        await self._app.close()
