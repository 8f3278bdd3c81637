"""Account calls over services in memory, by few words: a site with a clock in hand, and what it answers."""

import json
from typing import Any

from gatekeeper.core.cookies import Keys, sign_value
from gatekeeper.core.session_data_writing import SessionDataFormat
from gatekeeper.server.answers import Answer
from tests.core.records import NOW_MS
from tests.server.auth.fakes import FakeAccounts
from tests.server.auth.replays import NAMES, Replay, request_of, settings_for
from tests.server.auth.rows import MemoryRows

OWN = "https://app.example.test"
SECRET = "a-secret-of-the-tests"
KEYS = Keys([SECRET])
COMPACT = SessionDataFormat("compact", "1", 300)
PASSWORD = "correct horse battery"
DAY_MS = 86_400_000
MINUTE_MS = 60_000


class Result:
    """An answer as a test looks at it: `cookies` are the Set-Cookie lines by name."""

    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self.answer = answer
        self.document: Any = json.loads(answer.body) if answer.body[:1] in (b"{", b"[", b"n") else None
        fields = [(name.decode(), value.decode()) for name, value in answer.headers]
        self.headers = {name: value for name, value in fields if name != "Set-Cookie"}
        self.cookies = {line.partition("=")[0]: line for name, line in fields if name == "Set-Cookie"}

    @property
    def code(self) -> str | None:
        return self.document.get("code")

    @property
    def cookie_header(self) -> str:
        """What a browser that had no cookies sends after this answer."""
        return "; ".join(line.partition(";")[0] for line in self.cookies.values() if "Max-Age=0" not in line)


class Site(Replay):
    """A site of which nothing was captured; its clock stands at NOW_MS, and Ada has an account."""

    def __init__(self, data_format: SessionDataFormat | None = COMPACT, **changes: Any) -> None:
        self.accounts = FakeAccounts()
        settings = settings_for(SECRET, data_format, **{"revoke_on_reset": True} | changes)
        super().__init__(OWN, settings, [], rows=MemoryRows(self.accounts))
        self.now_ms = NOW_MS

    async def call(
        self, method: str, path: str, body: object = None, cookie: str | None = None, **headers: str
    ) -> Result:
        """A call from the own origin; `user_agent="x"` and the like are headers."""
        sent: dict[str, str] = {"Origin": OWN} | {name.replace("_", "-"): value for name, value in headers.items()}
        if cookie is not None:
            sent["Cookie"] = cookie
        if body is not None:
            sent["Content-Type"] = "application/json"
        request = {
            "method": method,
            "path": f"/api/auth{path}",
            "headers": sent,
            "body": None if body is None else json.dumps(body),
        }
        return Result(await self.api.answer(request_of(request, OWN)))

    async def post(self, path: str, body: object = None, cookie: str | None = None, **headers: str) -> Result:
        return await self.call("POST", path, {} if body is None else body, cookie, **headers)

    async def get(self, path: str, cookie: str | None = None, **headers: str) -> Result:
        return await self.call("GET", path, None, cookie, **headers)

    async def sign_up(self, email: str = "ada@example.test", **fields: object) -> Result:
        result = await self.post("/sign-up/email", {"name": "Ada", "email": email, "password": PASSWORD} | fields)
        assert result.status == 200
        return result

    async def sign_in(self, email: str = "ada@example.test", cookie: str | None = None, **fields: object) -> Result:
        return await self.post("/sign-in/email", {"email": email, "password": PASSWORD} | fields, cookie)


def token_cookie(token: str, keys: Keys = KEYS) -> str:
    return f"{NAMES.session_token}={sign_value(token, keys)}"
