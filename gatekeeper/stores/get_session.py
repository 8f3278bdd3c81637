"""Better Auth's `GET …/get-session`, asked at the app, and what else there is about sessions: the only code that speaks
HTTP to it for them.

The app is told to ask its own store (`disableCookieCache`) and to extend nothing (`disableRefresh`).  Nothing of an
answer is kept but the session: no cookies, no redirects.  No proxy of the environment is used.  Of a body at most
BODY_LIMIT_BYTES are read.  An answer is a session, `null`, or no answer: whatever else comes – a page, a refusal, a
rate limit – may have any cause, and must sign nobody out.

Foreign errors become StoreUnavailable here.  Its message names the app's URL, without user info and query, and what to
look at; no token, and nothing that the app sent.
"""

import asyncio
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import aiohttp
import msgspec

from gatekeeper.config.app_url import parse_app_url
from gatekeeper.core.errors import StoreLimited, StoreUnavailable

BODY_LIMIT_BYTES = 1024 * 1024

_QUERY = "disableCookieCache=true&disableRefresh=true"
_SIGN_OUT_HINTS = {403: "is public_url the app's address as its Better Auth knows it (baseURL or trustedOrigins)?"}
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "gatekeeper"}
_KEEP_ALIVE_S = 4.0  # Node.js closes an idle connection after 5 s: give it up before it is found dead
_HINTS = {
    401: "does something before the app ask for a sign-in of its own?",
    403: "does something before the app refuse the gate?",
    404: "is store.url the base path of the app's Better Auth?",
    429: "the app's rate limit: is it enough for /get-session, and does it count by X-Forwarded-For?",
}


class Answer(msgspec.Struct, frozen=True):
    """A session as get-session gives it; further keys are passed over."""

    session: dict[str, Any]
    user: dict[str, Any]


_DECODER: msgspec.json.Decoder[Answer | None] = msgspec.json.Decoder(Answer | None)


class GetSession:
    """The endpoint of the app at this URL (see `HttpStore`), over `pool` connections at most.

    Nothing is connected before it is first asked.  Raises GatekeeperError for a URL that cannot be used.
    """

    def __init__(self, url: str, *, pool: int, timeout_s: float) -> None:
        found = parse_app_url(url)
        self.label = found.label
        """What messages call it."""
        self.under_way = 0
        """How many are asking."""
        self._url = f"{found.base}/get-session?{_QUERY}"
        self._base = found.base
        self._tls = found.ssl_context()
        self._pool = pool
        self._timeout_s = timeout_s
        self._client: aiohttp.ClientSession | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    async def ask(self, headers: Mapping[str, str]) -> Answer | None:
        """What get-session says to these headers."""
        try:
            with self._asking():
                async with asyncio.timeout(self._timeout_s):
                    status, body = await self._get(headers)
            if status == 200 and body is not None:
                return _decode(body)
            if status == 429:
                raise StoreLimited(f"{self.label}: {_complaint(status)}")
            trouble = _complaint(status) if status != 200 else f"the answer is longer than {BODY_LIMIT_BYTES} bytes"
        except TimeoutError:
            trouble = f"no answer within {self._timeout_s:g} s"
        except aiohttp.ClientError as exc:
            trouble = _cause_of(exc)
        except (msgspec.DecodeError, ValueError, RecursionError):
            trouble = "get-session answered 200 with something else than a session or null; is store.url right?"
        # Not raised from those errors, nor while they are handled: some hold the request's cookie or the answer.
        raise self.unavailable(trouble)

    async def sign_out(self, headers: Mapping[str, str]) -> None:
        """Have the app end the session that these headers say.  Raises StoreUnavailable unless it says that it did."""
        status, _ = await self.call("POST", "sign-out", headers, b"{}")
        if status != 200:
            raise self.unavailable(_complaint(status, "sign-out"))

    async def call(
        self, method: str, name: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Status and body of another call of the app's Better Auth, with a JSON body or none.

        Raises StoreUnavailable where there is no answer or it is too long, StoreLimited for a rate limit's.
        """
        try:
            with self._asking():
                async with asyncio.timeout(self._timeout_s):
                    status, answer = await self._send(method, name, headers, body)
            if status == 429:
                raise StoreLimited(f"{self.label}: {_complaint(status, name)}")
            if answer is not None:
                return status, answer
            trouble = f"the answer to {name} is longer than {BODY_LIMIT_BYTES} bytes"
        except TimeoutError:
            trouble = f"no answer within {self._timeout_s:g} s"
        except aiohttp.ClientError as exc:
            trouble = _cause_of(exc)
        raise self.unavailable(trouble)

    async def close(self) -> None:
        """Close every connection, once all who are asking have been told.  Who asks later is told StoreUnavailable."""
        self._closed = True
        await self._idle.wait()  # the library would cancel those who wait for a connection
        if self._client is not None:
            await self._client.close()

    def unavailable(self, trouble: str) -> StoreUnavailable:
        """The error to raise."""
        return StoreUnavailable(f"{self.label}: {trouble}")

    async def _get(self, headers: Mapping[str, str]) -> tuple[int, bytes | None]:
        """The status, and the body of a 200; None for one that is too long.

        The library asks once more when a connection turns out to be dead.
        """
        async with self._opened().get(self._url, headers=headers, allow_redirects=False) as response:
            return response.status, await _whole(response) if response.status == 200 else b""

    async def _send(
        self, method: str, name: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes | None]:
        sent = dict(headers) if body is None else {"Content-Type": "application/json", **headers}
        url = f"{self._base}/{name}"
        async with self._opened().request(method, url, data=body, headers=sent, allow_redirects=False) as response:
            return response.status, await _whole(response)

    def _opened(self) -> aiohttp.ClientSession:
        if self._client is None:
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._pool, keepalive_timeout=_KEEP_ALIVE_S, use_dns_cache=False, ssl=self._tls
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=_HEADERS,
                timeout=aiohttp.ClientTimeout(),
                trust_env=False,
            )
        return self._client

    @contextmanager
    def _asking(self) -> Generator[None]:
        """Somebody for whom `close` waits."""
        if self._closed:
            raise self.unavailable("the store was closed")
        self.under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.under_way -= 1
            if not self.under_way:
                self._idle.set()


async def _whole(response: aiohttp.ClientResponse) -> bytes | None:
    """The body of an answer, None where it is too long."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > BODY_LIMIT_BYTES:
            return None
    return bytes(body)


def _decode(body: bytes) -> Answer | None:
    """The session of an answer.  Raises DecodeError, ValueError or RecursionError for one of another kind.

    Half of a surrogate pair, which JSON can say and no text can hold, makes a session that cannot be read.
    """
    try:
        return _DECODER.decode(body)
    except msgspec.DecodeError:
        if b"\\ud" not in body.lower():
            raise
        msgspec.convert(json.loads(body), Answer)
        return None


def _complaint(status: int, call: str = "get-session") -> str:
    """What a status other than 200 says, and what to look at."""
    if 300 <= status < 400:
        hint = "redirects are not followed: store.url must name the app itself"
    elif status >= 500:
        hint = "see the app's own log"
    elif call == "sign-out" and status in _SIGN_OUT_HINTS:
        hint = _SIGN_OUT_HINTS[status]
    else:
        hint = _HINTS.get(status, "is store.url right?")
    return f"{call} answered {status}; {hint}"


def _cause_of(exc: aiohttp.ClientError) -> str:
    """What went wrong, in our own words wherever the library's might quote a header."""
    match exc:
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(exc.certificate_error, "verify_message", type(exc.certificate_error).__name__)
            return f"its certificate is not trusted: {reason}"
        case aiohttp.ClientConnectorError():
            return f"cannot connect: {exc.strerror or exc.os_error}"
        case aiohttp.ClientPayloadError():
            return "the answer's body is cut off or malformed"
        case aiohttp.ClientConnectionError():
            return "the connection ended before the answer"
        case _:
            return "the answer is not HTTP"
