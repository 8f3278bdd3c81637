"""Drill: sessions are revoked in the store, one after the other, behind the gate's back; everything of theirs ends.

Each session has an event stream open, and asks for a page again and again.  Rows and keys are deleted as the app
deletes them, in SQLite, PostgreSQL, MariaDB and Redis, with no feed: what the gate believes is a second old at most,
and it asks about the sessions of streams once a second.

Passes when no session is refused before it was revoked, and after that every one is refused, and its stream has ended,
within the limits; the figures are printed.

    python drills/revocation.py [--sessions 30]
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop
from rig.app import running_app
from rig.client import Client, Stream, request
from rig.figures import percentile
from rig.gate import USER_ID, cookie_of, running_gate

from tests.better_auth_db import add_session, add_user, create_database, execute
from tests.better_auth_redis import Storage, session_fields, user_fields
from tests.servers.labs import Lab, MariadbLab, PostgresLab
from tests.servers.mariadb import MariadbServer
from tests.servers.postgres import PostgresServer
from tests.servers.processes import Server
from tests.servers.redis import RedisServer

PAUSE_S = 0.03
BETWEEN_S = 0.05
REFUSED_WITHIN_S = 1.2
"""A second in memory, and the time until the next request is answered."""

CUT_WITHIN_S = 1.5
"""A second between two looks at the store, and what a look takes."""

HOURS_MS = 36_000_000

Revoke = Callable[[str], Awaitable[None]]


class Visitor:
    """One session: when it was revoked, refused, and when its stream ended; seconds of the monotonic clock."""

    def __init__(self, port: int, token: str) -> None:
        self.token = token
        self.revoked: float | None = None
        self.refused: float | None = None
        self.cut: float | None = None
        self.failures: list[str] = []
        self._port = port
        self._cookie = cookie_of(token)

    async def run(self, is_ready: asyncio.Semaphore) -> None:
        stream = await Stream.open(self._port, request("GET", "/dashboard/events", self._cookie), 200)
        await stream.event()
        is_ready.release()
        await asyncio.gather(self._listen(stream), self._ask())
        stream.close()

    async def _listen(self, stream: Stream) -> None:
        try:
            while True:
                await stream.event()
        except EOFError:
            self.cut = time.monotonic()
        if self.revoked is None:
            self.failures.append("its stream ended before it was revoked")

    async def _ask(self) -> None:
        client = await Client.connect(self._port)
        page = request("GET", "/dashboard/data", self._cookie, "Accept: application/json")
        answer = await client.ask(page)
        while answer.status == 200:
            await asyncio.sleep(PAUSE_S)
            answer = await client.ask(page)
        self.refused = time.monotonic()
        if answer.status != 401 or self.revoked is None:
            self.failures.append(f"answered {answer.status}, {'' if self.revoked else 'not '}revoked")
        client.close()


@asynccontextmanager
async def sqlite(tokens: list[str]) -> AsyncIterator[tuple[str, Revoke]]:
    with TemporaryDirectory() as folder:
        path, now_ms = Path(folder) / "auth.db", time.time_ns() // 1_000_000
        create_database(path)
        add_user(path, id=USER_ID)
        for token in tokens:
            dates = {"created_at_ms": now_ms, "expires_at_ms": now_ms + HOURS_MS}
            add_session(path, user_id=USER_ID, token=token, id=token, **dates)

        async def revoke(token: str) -> None:
            execute(path, "delete from session where token = ?", (token,))

        yield f"sqlite:///{path}", revoke


@asynccontextmanager
async def on_server(
    server: Server, make_lab: Callable[[], Lab], tokens: list[str]
) -> AsyncIterator[tuple[str, Revoke]]:
    with server:
        lab, now_ms = make_lab(), time.time_ns() // 1_000_000
        await lab.create()
        dates = {"createdAt": now_ms, "updatedAt": now_ms}
        await lab.insert("user", id=USER_ID, name="Ada", email="ada@example.test", emailVerified=True, **dates)
        for token in tokens:
            row = {"id": token, "token": token, "userId": USER_ID, "expiresAt": now_ms + HOURS_MS}
            await lab.insert("session", **row, **dates)

        async def revoke(token: str) -> None:
            await lab.execute(f"delete from {lab.quoted('session')} where token = ?", [token])  # noqa: S608

        yield lab.url, revoke


@asynccontextmanager
async def redis(tokens: list[str]) -> AsyncIterator[tuple[str, Revoke]]:
    with RedisServer() as server:
        storage, now_ms = Storage(server.url), time.time_ns() // 1_000_000
        for token in tokens:
            session = session_fields(token=token, userId=USER_ID, createdAt=now_ms, expiresAt=now_ms + HOURS_MS)
            storage.sign_in(session, user_fields(id=USER_ID))

        async def revoke(token: str) -> None:
            storage.revoke(token)

        yield server.url, revoke


async def revoke_all(name: str, store: str, revoke: Revoke, tokens: list[str]) -> list[str]:
    """What went wrong.  Prints how long revocations took."""
    async with running_app() as app, running_gate(app.port, store=store) as gate:
        visitors = [Visitor(gate.port, token) for token in tokens]
        is_ready = asyncio.Semaphore(0)
        running = asyncio.gather(*(visitor.run(is_ready) for visitor in visitors))
        for _ in visitors:
            await is_ready.acquire()
        await asyncio.sleep(1.5)  # every session is in memory, and has been read more than once
        for visitor in visitors:
            visitor.revoked = time.monotonic()
            await revoke(visitor.token)
            await asyncio.sleep(BETWEEN_S)
        async with asyncio.timeout(20):
            await running
        failures = [f"{name}: {failure}" for visitor in visitors for failure in visitor.failures]
        failures += [f"{name}: {line}" for line in gate.troubles()]
    for what, limit, ends in (
        ("refused", REFUSED_WITHIN_S, [(v.refused or 0) - (v.revoked or 0) for v in visitors]),
        ("stream cut", CUT_WITHIN_S, [(v.cut or 0) - (v.revoked or 0) for v in visitors]),
    ):
        p50, p99 = percentile(ends, 50), percentile(ends, 99)
        print(f"{name:12} {what:10} after p50 {p50:.2f} s, p99 {p99:.2f} s, at most {max(ends):.2f} s", flush=True)
        if max(ends) > limit:
            failures.append(f"{name}: {what} after {max(ends):.2f} s, the limit is {limit} s")
    return failures


async def drill(sessions: int) -> list[str]:
    tokens = [f"drill{number:027d}" for number in range(sessions)]
    postgres, mariadb = PostgresServer(), MariadbServer()
    stores = {
        "SQLite": sqlite(tokens),
        "PostgreSQL": on_server(postgres, lambda: PostgresLab(postgres), tokens),
        "MariaDB": on_server(mariadb, lambda: MariadbLab(mariadb), tokens),
        "Redis": redis(tokens),
    }
    failures: list[str] = []
    for name, opened in stores.items():
        async with opened as (url, revoke):
            failures += await revoke_all(name, url, revoke, tokens)
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description="Revoke sessions behind the gate's back, and see when they end.")
    parser.add_argument("--sessions", type=int, default=30)
    failures = uvloop.run(drill(parser.parse_args().sessions))
    for failure in failures:
        print(f"FAILED: {failure}")
    print("passed" if not failures else "failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
