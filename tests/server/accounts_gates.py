"""Gates in accounts mode for tests, on databases that were migrated for it, and browsers at them."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from msgspec.structs import replace

from gatekeeper.config.schema import Accounts
from gatekeeper.migrate_command import migrate_accounts
from tests.attacks.judge import Response
from tests.server.gates import COOKIE, PATIENCE_S, SECRET, RunningGate, running_gate
from tests.server.wire import ask
from tests.stores.opening import settings_on

DATA = "better-auth.session_data"
PASSWORD = "a long enough password"
ACCOUNTS = """\
listen: 127.0.0.1:0
upstream: {upstream}
secret: {secret}
store: %s
accounts: {{enabled: true, sign_up: true}}
protect: [/dashboard]
"""
PATIENT = "limits: {sign_in_attempts: 1000/1m}\n"
"""For who tries more passwords in a minute than anybody may."""


async def migrate_at(url: str) -> None:
    """Make what accounts mode needs in the database of this URL."""
    async for _ in migrate_accounts(replace(settings_on(url), accounts=Accounts(enabled=True))):
        pass


@asynccontextmanager
async def accounts_gate(
    upstream: str, url: str, folder: Path, more: str = "", *, secret: str = SECRET, patience_s: float = PATIENCE_S
) -> AsyncIterator[RunningGate]:
    """A gate that keeps accounts in the database of this URL, which was migrated."""
    text = (ACCOUNTS % url).replace("{secret}", secret)
    async with running_gate(upstream, folder / "auth.db", more, text=text, patience_s=patience_s) as gate:
        yield gate


class Browser:
    """A browser at the server of this URL, which keeps its cookies; `lines` are header lines that it always sends.

    `origin` is where its user believes to be, that URL unless said.
    """

    def __init__(self, url: str, *lines: str, origin: str | None = None) -> None:
        self.port = int(url.rpartition(":")[2])
        self.lines = lines
        self.origin = origin or url
        self.cookies: dict[str, str] = {}

    @property
    def token(self) -> str:
        """That of its session, out of the cookie, whatever that is called."""
        (value,) = [value for name, value in self.cookies.items() if name.endswith(COOKIE)]
        return unquote(value).rpartition(".")[0]

    async def ask(self, method: str, target: str, body: object = None, *lines: str) -> Response:
        """The answer, whose cookies it keeps."""
        sent = [*self.lines, *lines]
        if self.cookies:
            sent.append("Cookie: " + "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        if method == "POST":
            sent += [f"Origin: {self.origin}", "Content-Type: application/json"]
        data = b"" if method != "POST" else json.dumps({} if body is None else body).encode()
        response = await ask(self.port, method, target, *sent, body=data)
        for line in response.values("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
            if "Max-Age=0" in line:
                del self.cookies[name]
        return response

    async def post(self, call: str, **body: object) -> Any:
        """What a call answers that succeeds."""
        return _document(await self.ask("POST", f"/api/auth/{call}", body))

    async def get(self, call: str) -> Any:
        """What a question answers that is answered."""
        return _document(await self.ask("GET", f"/api/auth/{call}"))

    async def sign_up(self, email: str = "ada@example.test", name: str = "Ada Łoś") -> Any:
        return (await self.post("sign-up/email", email=email, name=name, password=PASSWORD))["user"]

    async def sign_in(self, email: str = "ada@example.test", **more: object) -> Any:
        return (await self.post("sign-in/email", email=email, password=PASSWORD, **more))["user"]


def _document(response: Response) -> Any:
    assert response.status == 200, response.body
    return json.loads(response.body)
