"""A gate in accounts mode on a real database, and the visitors who call it over HTTP."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from gatekeeper.config.schema import Accounts, Settings
from gatekeeper.core.accounts import verify_password
from gatekeeper.migrate_command import migrate_accounts
from gatekeeper.server.passwords import Busy, Line, Passwords
from tests.attacks.judge import Response
from tests.server.gates import COOKIE, RunningGate, cookie_value, running_gate
from tests.server.wire import ask
from tests.stores.account_places import AccountPlace
from tests.stores.opening import settings_on

ORIGIN = "http://app.example.test"
SECRET = "kJ8vQ2mX5tR9wZ3bN6yC1pL4fH7gD0sA"
PASSWORD, OTHER = "correct horse battery", "another horse altogether"
EMAIL = "ada@example.test"
DATA = "better-auth.session_data"
FORGET = "better-auth.dont_remember"
TABLES = ("user", "account", "session", "verification")

CONFIG = """\
listen: 127.0.0.1:0
public_url: http://app.example.test
upstream: {upstream}
secret: {secret}
store: {url}
protect: [/dashboard]
accounts: {{enabled: true, sign_up: true}}
limits: {{sign_in_attempts: 1000/1m}}
"""


class Reply:
    """An answer as a test looks at it: `cookies` are the Set-Cookie lines by name."""

    def __init__(self, response: Response) -> None:
        self.status = response.status
        self.response = response
        self.document: Any = json.loads(response.body) if response.body[:1] in (b"{", b"[", b"n") else None
        self.cookies = {line.partition("=")[0]: line for line in response.values("set-cookie")}

    @property
    def code(self) -> str | None:
        code: str | None = self.document["code"]
        return code


class Visitor:
    """A browser at a gate: it keeps cookies as it is told.  `max_ages` has their Max-Age, None until it is closed."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self.port = port
        self.cookies = {} if token is None else {COOKIE: cookie_value(token, SECRET)}
        self.max_ages: dict[str, int | None] = {}

    @property
    def token(self) -> str:
        """That of the session, without its signature."""
        return self.cookies[COOKIE].partition(".")[0]

    async def ask(self, method: str, target: str, *lines: str, body: bytes = b"") -> Reply:
        if self.cookies:
            lines = (*lines, "Cookie: " + "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        reply = Reply(await ask(self.port, method, target, *lines, body=body))
        for line in reply.response.values("set-cookie"):
            self._keep(line)
        return reply

    async def post(self, path: str, **body: object) -> Reply:
        """A call of the pages of the site.  Lone surrogates go as JavaScript escapes them."""
        lines = (f"Origin: {ORIGIN}", "Content-Type: application/json", "User-Agent: visitor/1")
        return await self.ask("POST", f"/api/auth{path}", *lines, body=json.dumps(body).encode())

    async def get(self, path: str) -> Reply:
        return await self.ask("GET", f"/api/auth{path}")

    async def sign_up(self, email: str = EMAIL, **more: object) -> Reply:
        return await self.post("/sign-up/email", **{"name": "Ada", "email": email, "password": PASSWORD} | more)

    async def sign_in(self, email: str = EMAIL, **more: object) -> Reply:
        return await self.post("/sign-in/email", **{"email": email, "password": PASSWORD} | more)

    async def session(self) -> Any:
        """What get-session says: a session and its user, or None."""
        reply = await self.get("/get-session")
        assert reply.status == 200
        return reply.document

    async def enters(self) -> int:
        """The status of a protected page of the app, for a program."""
        return (await self.ask("GET", "/dashboard")).status

    def close(self) -> None:
        """What a browser forgets that is closed: cookies without an age."""
        for name in [name for name, max_age in self.max_ages.items() if max_age is None]:
            self.cookies.pop(name, None)

    def _keep(self, line: str) -> None:
        pair, *attributes = line.split("; ")
        name, _, value = pair.partition("=")
        ages = [int(one.partition("=")[2]) for one in attributes if one.startswith("Max-Age=")]
        self.max_ages[name] = ages[0] if ages else None
        self.cookies[name] = value
        if ages == [0]:
            del self.cookies[name]


class Site:
    """A gate on a place: `visitor` makes browsers there."""

    def __init__(self, gate: RunningGate, place: AccountPlace) -> None:
        self.gate = gate
        self.place = place

    def visitor(self, token: str | None = None) -> Visitor:
        return Visitor(self.gate.port, token)

    async def signed_up(self, email: str = EMAIL, **more: object) -> Visitor:
        visitor = self.visitor()
        reply = await visitor.sign_up(email, **more)
        assert reply.status == 200, reply.response.body
        return visitor

    async def signed_in(self, email: str = EMAIL, **more: object) -> Visitor:
        visitor = self.visitor()
        reply = await visitor.sign_in(email, **more)
        assert reply.status == 200, reply.response.body
        return visitor


@asynccontextmanager
async def running_site(upstream: str, place: AccountPlace, folder: Path, more: str = "") -> AsyncIterator[Site]:
    """A gate whose accounts are in this place; `more` are further settings, replacing those of the same name."""
    text = config_for(upstream, place.url, more)
    async with running_gate(upstream, folder / "auth.db", text=text.replace("{", "{{").replace("}", "}}")) as gate:
        yield Site(gate, place)


def config_for(upstream: str, url: str, more: str = "") -> str:
    """The configuration of such a gate."""
    text = CONFIG.format(upstream=upstream, secret=SECRET, url=url)
    named = {line.partition(":")[0] for line in more.splitlines()}
    return "".join(f"{line}\n" for line in text.splitlines() if line.partition(":")[0] not in named) + more


def settings_of(place: AccountPlace) -> Settings:
    """The settings of such a gate, as commands get them."""
    accounts = Accounts(enabled=True, sign_up=True)
    return replace(settings_on(place.url), accounts=accounts, public_url=ORIGIN)


async def migrate(place: AccountPlace) -> None:
    """As `gatekeeper migrate` does."""
    async for _ in migrate_accounts(settings_of(place)):
        pass


async def command(config: Path, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Exit status and output of `gatekeeper …`, run as a person runs it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gatekeeper", *arguments, "-c", str(config)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def rows_of(place: AccountPlace) -> dict[str, list[str]]:
    """Every row of Better Auth's tables, in an order of its own."""
    return {table: sorted(map(repr, await place.rows(table))) for table in TABLES}


async def counts_of(place: AccountPlace) -> dict[str, int]:
    """How many rows each of Better Auth's tables has."""
    return {table: await place.count(table) for table in TABLES}


class Meeting:
    """Has so many callers go on together, once the last one is there."""

    def __init__(self, parties: int) -> None:
        self.parties = parties
        self.there = 0
        self._all = asyncio.Event()

    async def __call__(self) -> None:
        self.there += 1
        if self.there == self.parties:
            self._all.set()
        await self._all.wait()


class QuickPasswords(Passwords):
    """Passwords whose hashes cost nothing; real ones are compared as ever.

    `after_hash` and `after_verify` are what a call waits for before it goes on.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(threads, make=_quick_hash, verify=_verify)
        self.after_hash: Callable[[], Awaitable[None]] | None = None
        self.after_verify: Callable[[], Awaitable[None]] | None = None

    async def hash(self, password: str, line: Line) -> str | Busy:
        hashed = await super().hash(password, line)
        if self.after_hash is not None:
            await self.after_hash()
        return hashed

    async def verify(self, password: str, stored: str | None, line: Line) -> bool | Busy:
        right = await super().verify(password, stored, line)
        if self.after_verify is not None:
            await self.after_verify()
        return right


def _quick_hash(password: str, salt: bytes) -> str:
    return f"quick-{salt.hex()}:{password.encode().hex()}"


def _verify(stored: str | None, password: str) -> bool:
    if stored is not None and stored.startswith("quick-"):
        return stored.endswith(f":{password.encode().hex()}")
    return verify_password(stored, password)
