"""An app with Better Auth for tests, on a real socket: its get-session with the sessions in dicts.

Signatures, expiry, cookies and bytes are as Better Auth's wire format has them, in code of its own: what a store sends
is judged independently.  Rows are in Better Auth's names, dates in milliseconds since the epoch.
"""

import base64
import hmac
import json
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from tests.better_auth_db import iso

DATES = ("expiresAt", "createdAt", "updatedAt", "banExpires")
COOKIE = "better-auth.session_token"


@dataclass
class BetterAuthApp:
    """The app.  `now_ms` is its clock; `port` where it listens, once started, and again when started anew."""

    secret: str
    now_ms: int
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    port: int = 0
    tls: ssl.SSLContext | None = None
    runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/api/auth"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/api/auth/get-session", self.get_session)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port, ssl_context=self.tls).start()
        self.port = self.runner.addresses[0][1]

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None

    async def get_session(self, request: web.Request) -> web.Response:
        token = self.signed_token(request.headers.get("Cookie", ""))
        session = None if token is None else self.live_session(token)
        if session is None:
            return answer(None, clears=token is not None)
        return answer({"session": shown(session), "user": shown(self.users[session["userId"]])})

    def signed_token(self, cookies: str) -> str | None:
        """The token of the first session cookie, if the secret signed it."""
        pairs = [part.strip().partition("=") for part in cookies.split(";")]
        value = next((unquote(value) for name, _, value in pairs if name == COOKIE), "")
        token, _, signature = value.rpartition(".")
        mac = hmac.digest(self.secret.encode(), token.encode(), "sha256")
        return token if token and signature == base64.b64encode(mac).decode() else None

    def live_session(self, token: str) -> dict[str, Any] | None:
        """The session of a token with its user there; an expired one is removed."""
        session = self.sessions.get(token)
        if session is None or session["userId"] not in self.users:
            return None
        if session["expiresAt"] < self.now_ms:
            del self.sessions[token]
            return None
        return session


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row as it stands in the answer."""
    return {name: iso(value) if name in DATES and isinstance(value, int) else value for name, value in row.items()}


def answer(body: object, *, clears: bool = False) -> web.Response:
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    response = web.Response(text=text, content_type="application/json")
    response.headers.update({"Cache-Control": "no-store", "Pragma": "no-cache"})
    for name in ("session_token", "session_data", "dont_remember") if clears else ():
        line = f"better-auth.{name}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"
        response.headers.add("Set-Cookie", line)
    return response
