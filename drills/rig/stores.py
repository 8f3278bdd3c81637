"""Session stores for drills: real servers, written to as Better Auth writes, set up to tell of changes, and counted.

Each is empty when it is opened.  Dates are those of sessions that were created now and live for ten hours.
"""

import asyncio
import json
import re
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import asyncpg
import redis.asyncio as aioredis

from gatekeeper.config.redis_url import parse_redis_url
from gatekeeper.config.server_url import parse_server_url
from gatekeeper.stores.feeds import postgres_setup, redis_setup, sqlite_setup
from gatekeeper.stores.tables import BETTER_AUTH
from tests.better_auth_db import create_database, execute, insert_all, iso
from tests.better_auth_redis import PREFIX, session_fields, stored, user_fields
from tests.servers.labs import Lab, MariadbLab, PostgresLab
from tests.servers.mariadb import MariadbServer
from tests.servers.postgres import PostgresServer
from tests.servers.processes import Server
from tests.servers.redis import RedisServer

LIFE_MS = 36_000_000
TTL_S = LIFE_MS // 1000

_Server = TypeVar("_Server", bound=Server)


class Session:
    """A session to be: its token, and its user's id."""

    __slots__ = ("token", "user_id")

    def __init__(self, token: str, user_id: str) -> None:
        self.token = token
        self.user_id = user_id

    def row(self, now_ms: int) -> dict[str, Any]:
        dates = {"createdAt": now_ms, "updatedAt": now_ms, "expiresAt": now_ms + LIFE_MS}
        return {"id": f"id-{self.token}", "token": self.token, "userId": self.user_id, **dates}


def user_row(user_id: str, now_ms: int) -> dict[str, Any]:
    dates = {"createdAt": now_ms, "updatedAt": now_ms}
    return {"id": user_id, "name": "Ada", "email": f"{user_id}@example.test", "emailVerified": True, **dates}


class Store(ABC):
    """One store.  `url` is what gates are given, `app` what the better-auth server of the tests is."""

    name: str
    has_feed = True
    tells_sign_ins = False
    """Whether gates are told of sessions that are new."""

    @property
    @abstractmethod
    def url(self) -> str: ...

    @property
    def app(self) -> dict[str, str]:
        raise NotImplementedError

    @abstractmethod
    async def sign_in(self, sessions: Sequence[Session]) -> None:
        """Write these sessions, and those of their users that are not there."""

    @abstractmethod
    async def delete(self, token: str) -> None:
        """Remove the session and nothing else."""

    async def set_up_feed(self) -> None:
        """What `gatekeeper migrate --feed` does."""
        raise NotImplementedError

    async def reads(self) -> int | None:
        """How many sessions gates have asked for one by one, as the store itself counts; None where it does not."""
        return None

    @abstractmethod
    async def stop(self) -> None:
        """Take it away, with its data kept."""

    @abstractmethod
    async def start(self) -> None:
        """Bring it back."""

    async def cut_feed(self) -> int:
        """End the connections by which gates are told; how many there were."""
        return 0


class SqliteStore(Store):
    """A file with Better Auth's tables, in the journal mode that it has by itself."""

    name = "SQLite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._users: set[str] = set()

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator["SqliteStore"]:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "auth.db"
            create_database(path)
            yield cls(path)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    @property
    def app(self) -> dict[str, str]:
        return {"database": str(self.path)}

    async def sign_in(self, sessions: Sequence[Session]) -> None:
        now_ms = time.time_ns() // 1_000_000
        users = [user_row(user_id, now_ms) for user_id in _new_users(sessions, self._users)]
        await asyncio.to_thread(insert_all, self.path, "user", [_texts(row) for row in users])
        await asyncio.to_thread(insert_all, self.path, "session", [_texts(session.row(now_ms)) for session in sessions])

    async def delete(self, token: str) -> None:
        await asyncio.to_thread(execute, self.path, "delete from session where token = ?", (token,))

    async def set_up_feed(self) -> None:
        sqlite_setup.apply(self.path, sqlite_setup.statements(BETTER_AUTH, undo=False))

    async def take_feed_away(self) -> None:
        sqlite_setup.apply(self.path, sqlite_setup.statements(BETTER_AUTH, undo=True))

    async def stop(self) -> None:
        self.path.rename(self.path.with_suffix(".away"))

    async def start(self) -> None:
        self.path.with_suffix(".away").rename(self.path)


class CountingPostgres(PostgresServer):
    """Counts its statements."""

    def command(self) -> list[str]:
        settings = {"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.max": 1000}
        return [*super().command(), *(f"--{name}={value}" for name, value in settings.items())]


class PostgresStore(Store):
    name = "PostgreSQL"

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._lab = PostgresLab(server)
        self._users: set[str] = set()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._writing = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator["PostgresStore"]:
        async with _running(CountingPostgres()) as server:
            store = cls(server)
            await store._lab.create()
            await store._lab.execute("create extension pg_stat_statements")
            yield store
            await store._close()

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def app(self) -> dict[str, str]:
        return {"database": self._server.url}

    async def sign_in(self, sessions: Sequence[Session]) -> None:
        now_ms = time.time_ns() // 1_000_000
        users = [user_row(user_id, now_ms) for user_id in _new_users(sessions, self._users)]
        await self._insert("user", users)
        await self._insert("session", [session.row(now_ms) for session in sessions])

    async def delete(self, token: str) -> None:
        async with self._writing:
            await (await self._connected()).execute("delete from session where token = $1", token)

    async def set_up_feed(self) -> None:
        await postgres_setup.apply(parse_server_url(self.url), postgres_setup.statements(BETTER_AUTH, undo=False))

    async def reads(self) -> int:
        """Of the gate's statement alone: the app's are in lower case, and that for several at once says IN."""
        async with self._writing:
            count: int = await (await self._connected()).fetchval(
                "select coalesce(sum(calls), 0)::bigint from pg_stat_statements"
                " where query like 'SELECT %' and query like '%session% JOIN %user%WHERE %token_ = $1%'"
            )
        return count

    async def stop(self) -> None:
        await self._close()
        await asyncio.to_thread(self._server.stop)

    async def start(self) -> None:
        await asyncio.to_thread(self._server.start)

    async def cut_feed(self) -> int:
        """Those whose last statement was to listen, or one of a feed's turns."""
        async with self._writing:
            count: int = await (await self._connected()).fetchval(
                "select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity"
                " where pid <> pg_backend_pid() and backend_type = 'client backend'"
                " and (query ilike 'listen %' or query = 'select 1' or query like '%pg_listening_channels%'"
                " or query like '%pg_notify($1%')"
            )
        return count

    async def _insert(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        if rows:
            names = ", ".join(f'"{name}"' for name in rows[0])
            marks = ", ".join(f"${number}" for number in range(1, len(rows[0]) + 1))
            values = [[self._lab.date(v) if type(v) is int else v for v in row.values()] for row in rows]
            async with self._writing:
                connection = await self._connected()
                await connection.executemany(f'insert into "{table}" ({names}) values ({marks})', values)  # noqa: S608

    async def _connected(self) -> "asyncpg.Connection[asyncpg.Record]":
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self.url)
        return self._connection

    async def _close(self) -> None:
        if self._connection is not None:
            await self._connection.close()


class ConfiguredRedis(RedisServer):
    """Has a configuration file, so that what is set outlives a restart."""

    def prepare(self) -> None:
        self._file.touch(mode=0o666)
        self._file.chmod(0o666)

    def command(self) -> list[str]:
        program, *options = super().command()
        return [program, str(self._file), *options]

    @property
    def _file(self) -> Path:
        return self.folder / "redis.conf"


class RedisStore(Store):
    """A secondary storage with all of the sessions; the users' database is the app's alone."""

    name = "Redis"
    tells_sign_ins = True

    def __init__(self, server: RedisServer, users_file: Path) -> None:
        self._server = server
        self._users_file = users_file
        self._lists: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._client = aioredis.Redis.from_url(server.url, protocol=2)

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator["RedisStore"]:
        with TemporaryDirectory() as folder:
            async with _running(ConfiguredRedis()) as server:
                store = cls(server, Path(folder) / "users.db")
                yield store
                await store._client.aclose()

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def app(self) -> dict[str, str]:
        return {"database": str(self._users_file), "redis": self.url}

    async def sign_in(self, sessions: Sequence[Session]) -> None:
        """The list of the user's sessions, then the session.  Nobody else may write lists of these users meanwhile."""
        now_ms = time.time_ns() // 1_000_000
        pipeline = self._client.pipeline(transaction=False)
        for session in sessions:
            row, listed = session.row(now_ms), self._lists[session.user_id]
            listed.append({"token": session.token, "expiresAt": row["expiresAt"]})
            value = stored(session_fields(**row), user_fields(**user_row(session.user_id, now_ms)))
            pipeline.setex(f"{PREFIX}active-sessions-{session.user_id}", TTL_S, json.dumps(listed))
            pipeline.setex(f"{PREFIX}{session.token}", TTL_S, value)
        await pipeline.execute()

    async def delete(self, token: str) -> None:
        await self._client.delete(PREFIX + token)

    async def set_up_feed(self) -> None:
        await redis_setup.apply(parse_redis_url(self.url), undo=False)

    async def reads(self) -> int:
        """GETRANGE is the command of gates alone: two for a session that is there; one, half a read, for another."""
        stats = await self._client.info("commandstats")
        return -(-stats.get("cmdstat_getrange", {"calls": 0})["calls"] // 2)

    async def stop(self) -> None:
        await self._client.connection_pool.disconnect()
        await asyncio.to_thread(self._server.stop)

    async def start(self) -> None:
        await asyncio.to_thread(self._server.start)

    async def cut_feed(self) -> int:
        ids = [client["id"] for client in await self._client.client_list() if int(client["psub"])]
        return sum([await self._client.client_kill_filter(_id=one) for one in ids])


class MariadbStore(Store):
    """No feed.  Written to over a connection for each statement."""

    name = "MariaDB"
    has_feed = False

    def __init__(self, server: MariadbServer) -> None:
        self._server = server
        self._lab: Lab = MariadbLab(server)
        self._users: set[str] = set()

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator["MariadbStore"]:
        async with _running(MariadbServer()) as server:
            store = cls(server)
            await store._lab.create()
            yield store

    @property
    def url(self) -> str:
        return self._server.url

    async def sign_in(self, sessions: Sequence[Session]) -> None:
        now_ms = time.time_ns() // 1_000_000
        for user_id in _new_users(sessions, self._users):
            await self._lab.insert("user", **user_row(user_id, now_ms))
        for session in sessions:
            await self._lab.insert("session", **session.row(now_ms))

    async def delete(self, token: str) -> None:
        await self._lab.execute("delete from `session` where token = ?", [token])

    async def stop(self) -> None:
        await asyncio.to_thread(self._server.stop)

    async def start(self) -> None:
        await asyncio.to_thread(self._server.start)


@asynccontextmanager
async def _running(server: _Server) -> AsyncIterator[_Server]:
    """The server, started and removed while the loop goes on."""
    try:
        yield await asyncio.to_thread(server.__enter__)
    finally:
        await asyncio.to_thread(server.remove)


def _new_users(sessions: Sequence[Session], known: set[str]) -> list[str]:
    """Users of these sessions that are not known yet; they are from now on."""
    found = [user_id for user_id in dict.fromkeys(session.user_id for session in sessions) if user_id not in known]
    known.update(found)
    return found


_DATE = re.compile("At$")


def _texts(row: dict[str, Any]) -> dict[str, Any]:
    """The row as SQLite gets it."""
    return {name: iso(value) if _DATE.search(name) else value for name, value in row.items()}


@asynccontextmanager
async def empty_sqlite() -> AsyncIterator[str]:
    """The URL of a file that is not there yet."""
    with TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/auth.db"


@asynccontextmanager
async def empty_postgres() -> AsyncIterator[str]:
    """The URL of a database of a server of its own."""
    async with PostgresStore.opened() as store:
        yield store.url
