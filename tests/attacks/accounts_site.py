"""A gate in accounts mode under attack: Ada's account, cheap hashes that are counted, and tries of passwords.

Hashing is a fake as quick as a checksum, so that a thousand tries are no wait; all else is as in a gate.
"""

import hashlib
import itertools
import json
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from tests.attacks.site import Site
from tests.attacks.strict import Answer
from tests.better_auth_db import create_database, execute
from tests.server.gates import running_gate
from tests.server.upstreams import recording_upstream
from tests.stores.account_places import ATTEMPTS

OLD_SECRET = "an-older-secret-of-more-than-32-bytes-1b7d"
OTHER_PEER = "127.0.0.2"
"""A peer that is no trusted proxy."""

CONFIG = f"""\
listen: 127.0.0.1:0
upstream: {{upstream}}
secrets: [{{{{version: 2, value: {{secret}}}}}}, {{{{version: 1, value: {OLD_SECRET}}}}}]
store: sqlite:///{{database}}
protect: [/dashboard]
trusted_proxies: [127.0.0.1]
trusted_origins: ['https://spa.example.test']
accounts: {{{{enabled: true, sign_up: true}}}}
"""
EMAIL, PASSWORD = "ada@example.test", "correct horse battery"
JSON_TYPE = "Content-Type: application/json"
MOST = 5
"""How many tries a minute an account and an address have."""


class Hashes:
    """In place of `hashlib.scrypt`: counts what is hashed, and holds it up while `held` is set."""

    def __init__(self) -> None:
        self.count = 0
        self.held = False
        self.begun = threading.Event()
        self.goes_on = threading.Event()

    def __call__(self, password: bytes, *, salt: bytes, **cost: Any) -> bytes:
        self.count += 1
        if self.held:
            self.begun.set()
            self.goes_on.wait(20)
        return hashlib.blake2b(password, salt=salt[:16]).digest()


class Accounts(Site):
    """The site, whose visitors come from addresses that nobody had before unless one is named."""

    _numbers = itertools.count(1)

    def new_address(self) -> str:
        number = next(self._numbers)
        return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"

    async def post(
        self,
        call: str,
        body: object,
        *lines: str,
        client: str | None = None,
        address: str | None = None,
        own_origin: bool = True,
    ) -> Answer:
        """An account call; `body` is sent as JSON unless it is bytes.  `client` is what a proxy says, if trusted."""
        is_raw = isinstance(body, bytes)
        typed = [] if is_raw else [JSON_TYPE]
        origin = [f"Origin: {self.gate.url}"] if own_origin else []
        forwarded = f"X-Forwarded-For: {client or self.new_address()}"
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        path = call if call.startswith("/") else f"/api/auth/{call}"
        return await self.ask("POST", path, forwarded, *origin, *typed, *lines, body=sent, address=address)

    async def sign_in(self, email: str = EMAIL, password: str = PASSWORD, *lines: str, **more: Any) -> Answer:
        return await self.post("sign-in/email", {"email": email, "password": password}, *lines, **more)

    async def sign_up(self, email: str) -> Answer:
        made = await self.post("sign-up/email", {"name": "Ada", "email": email, "password": PASSWORD})
        assert made.status == 200, made.body
        return made

    async def use_up(self, email: str = EMAIL) -> None:
        """Try wrong passwords until no more are looked at."""
        for _ in range(MOST):
            assert (await self.sign_in(email, "wrong password")).status == 401
        assert (await self.sign_in(email, "wrong password")).status == 429

    def forget_tries(self) -> None:
        execute(self.database, "delete from gatekeeper_attempt")

    def rows(self, table: str) -> int:
        with closing(sqlite3.connect(self.database)) as connection:
            (count,) = connection.execute(f"select count(*) from {table}").fetchone()  # noqa: S608
        return int(count)


def cookies_of(answer: Answer) -> dict[str, str]:
    """The cookies that an answer sets, by name."""
    pairs = (line.decode().partition(";")[0].partition("=") for line in answer.values(b"set-cookie"))
    return {name: value for name, _, value in pairs}


def without_date(answer: Answer) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in answer.fields if name.lower() != b"date"]


@asynccontextmanager
async def open_accounts_site(database: Path, more: str = "") -> AsyncIterator[Accounts]:
    """The gate with an empty database; `more` are further settings."""
    create_database(database)
    execute(database, ATTEMPTS)
    async with (
        recording_upstream() as upstream,
        recording_upstream() as other,
        running_gate(upstream.url, database, more, text=CONFIG, patience_s=None) as gate,
    ):
        yield Accounts(gate, upstream, other, database)
