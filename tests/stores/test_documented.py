"""Each configuration of docs/stores.md before a real store: a session is let in, and is not once it was revoked."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gatekeeper.config.load import load_text
from gatekeeper.server.app import serve
from tests.better_auth_db import add_session, add_user, create_database, execute, insert
from tests.better_auth_redis import Storage, session_fields, user_fields
from tests.server.gates import FAST_LANE, SECRET, cookie_header
from tests.server.upstreams import RecordingUpstream, recording_upstream
from tests.servers.labs import Lab, MariadbLab, PostgresLab
from tests.stores.better_auth_app import BetterAuthApp
from tests.stores.contract import CREATED_MS, TOKEN

PAGE = (Path(__file__).parents[2] / "docs" / "stores.md").read_text()
BLOCKS: dict[str, str] = {
    section.splitlines()[0]: block
    for section in PAGE.split("\n## ")[1:]
    for block in re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
}
FAR_MS = 4_000_000_000_000
QUIET = "listen: 127.0.0.1:0\nadmin: {listen: null}\nlog: {access: false, file: /dev/null}\n"
NO_MEMORY = "session: {memory_cache: {max_age: 0s}}\n"

Revoke = Callable[[], Awaitable[None]]


@pytest.fixture
async def upstream() -> AsyncIterator[RecordingUpstream]:
    async with recording_upstream() as found:
        yield found


@asynccontextmanager
async def gate_of(section: str, upstream: RecordingUpstream, folder: Path, **urls: str) -> AsyncIterator[str]:
    """The URL of a gate with this section's configuration; `urls` stand in for the documented ones, by scheme."""
    text = BLOCKS[section]
    for scheme, url in urls.items():
        text, replaced = re.subn(rf"{scheme}://\S+", url, text)
        assert replaced, (section, scheme)
    text = text.replace("upstream: http://127.0.0.1:3000", f"upstream: {upstream.url}")
    environ = {"BETTER_AUTH_SECRET": SECRET, "DB_PASSWORD": "unused"}
    settings = load_text(text + QUIET + NO_MEMORY, source="docs/stores.md", base_dir=folder, environ=environ)
    async with serve(settings, fast_lane=FAST_LANE) as served:
        yield served.addresses[0]


async def ask(url: str, path: str = "/dashboard/x") -> int:
    async with aiohttp.ClientSession() as client, client.get(url + path, headers=cookie_header(TOKEN)) as response:
        return response.status


async def lets_in_until_revoked(url: str, upstream: RecordingUpstream, revoke: Revoke) -> None:
    assert await ask(url) == 200
    assert upstream.requests[-1].values("X-Auth-Email") == ["ada@example.test"]
    await revoke()
    assert await ask(url) == 401


def test_every_configuration_of_the_page_is_tried() -> None:
    assert set(BLOCKS) == {
        "SQLite",
        "PostgreSQL",
        "MySQL and MariaDB",
        "Redis",
        "A database with Redis in front of it",
        "The app itself",
        "Other names",
        "Organizations",
    }


async def test_sqlite(upstream: RecordingUpstream, tmp_path: Path) -> None:
    with sqlite_session(tmp_path / "auth.db") as revoke:
        async with gate_of("SQLite", upstream, tmp_path) as url:
            await lets_in_until_revoked(url, upstream, revoke)


async def test_postgresql(upstream: RecordingUpstream, tmp_path: Path, postgres_server: Any) -> None:
    lab = PostgresLab(postgres_server)
    revoke = await server_session(lab)
    async with gate_of("PostgreSQL", upstream, tmp_path, postgresql=lab.url) as url:
        await lets_in_until_revoked(url, upstream, revoke)


async def test_mariadb(upstream: RecordingUpstream, tmp_path: Path, mariadb_server: Any) -> None:
    lab = MariadbLab(mariadb_server)
    revoke = await server_session(lab)
    async with gate_of("MySQL and MariaDB", upstream, tmp_path, mysql=lab.url) as url:
        await lets_in_until_revoked(url, upstream, revoke)


async def test_redis(upstream: RecordingUpstream, tmp_path: Path, redis: Any, storage: Storage) -> None:
    revoke = redis_session(storage)
    async with gate_of("Redis", upstream, tmp_path, redis=redis.url) as url:
        await lets_in_until_revoked(url, upstream, revoke)


@pytest.mark.parametrize("where", ["redis", "database"])
async def test_redis_in_front_of_postgresql(
    upstream: RecordingUpstream, tmp_path: Path, redis: Any, storage: Storage, postgres_server: Any, where: str
) -> None:
    lab = PostgresLab(postgres_server)
    if where == "redis":
        await lab.create("core+secondaryStorage")
        revoke = redis_session(storage)
    else:
        revoke = await server_session(lab)
    section = "A database with Redis in front of it"
    async with gate_of(section, upstream, tmp_path, postgresql=lab.url, redis=redis.url) as url:
        await lets_in_until_revoked(url, upstream, revoke)


async def test_the_app_itself(upstream: RecordingUpstream, tmp_path: Path) -> None:
    app = BetterAuthApp(SECRET, now_ms=CREATED_MS)
    await app.start()
    dates = {"createdAt": CREATED_MS, "updatedAt": CREATED_MS}
    app.users["user_1"] = {"id": "user_1", "name": "Ada", "email": "ada@example.test", "emailVerified": True, **dates}
    app.users["user_1"]["image"] = None
    session = {"id": "s1", "token": TOKEN, "userId": "user_1", "ipAddress": "", "userAgent": "", **dates}
    app.sessions[TOKEN] = {**session, "expiresAt": FAR_MS}

    async def revoke() -> None:
        del app.sessions[TOKEN]

    async with gate_of("The app itself", upstream, tmp_path, **{"store: http": f"store: {app.url}"}) as url:
        await lets_in_until_revoked(url, upstream, revoke)
    await app.stop()


async def test_other_names(upstream: RecordingUpstream, tmp_path: Path, postgres_server: Any) -> None:
    lab = PostgresLab(postgres_server)
    await server_session(lab)
    renamed = {"expiresAt": "expires_at", "userId": "user_id", "createdAt": "created_at", "updatedAt": "updated_at"}
    for old, new in renamed.items():
        await lab.execute(f'alter table "session" rename column "{old}" to "{new}"')
    await lab.script(
        'alter table "user" rename column "emailVerified" to email_verified; alter table "user" add column plan text;'
        'create schema auth; alter table "session" rename to sessions; alter table "user" rename to users;'
        "alter table sessions set schema auth; alter table users set schema auth"
    )

    async def revoke() -> None:
        await lab.execute("delete from auth.sessions")

    async with gate_of("Other names", upstream, tmp_path, postgresql=lab.url) as url:
        await lets_in_until_revoked(url, upstream, revoke)


async def test_organizations(upstream: RecordingUpstream, tmp_path: Path) -> None:
    database = tmp_path / "auth.db"
    with sqlite_session(database, "admin+organization+twoFactor"):
        async with gate_of("Organizations", upstream, tmp_path) as url:
            assert await ask(url, "/acme/x") == 403
            insert(database, "organization", {"id": "o1", "name": "Acme", "slug": "acme", "createdAt": "2026"})
            member = {"id": "m1", "organizationId": "o1", "userId": "user_1", "role": "member", "createdAt": "2026"}
            insert(database, "member", member)
            assert await ask(url, "/acme/x") == 200
            execute(database, "delete from member")
            assert await ask(url, "/acme/x") == 403


@contextmanager
def sqlite_session(path: Path, variant: str = "core") -> Iterator[Revoke]:
    create_database(path, variant)
    add_user(path, id="user_1")
    add_session(path, user_id="user_1", token=TOKEN, created_at_ms=CREATED_MS, expires_at_ms=FAR_MS)

    async def revoke() -> None:
        execute(path, "delete from session")

    yield revoke


async def server_session(lab: Lab) -> Revoke:
    await lab.create()
    dates = {"createdAt": CREATED_MS, "updatedAt": CREATED_MS}
    await lab.insert("user", id="user_1", name="Ada", email="ada@example.test", emailVerified=True, **dates)
    far_ms = 2_000_000_000_000  # what MySQL's TIMESTAMP can hold
    await lab.insert("session", id="s1", token=TOKEN, userId="user_1", expiresAt=far_ms, **dates)

    async def revoke() -> None:
        await lab.execute(f"delete from {lab.quoted('session')}")  # noqa: S608

    return revoke


def redis_session(storage: Storage) -> Revoke:
    storage.sign_in(session_fields(token=TOKEN, userId="user_1", expiresAt=FAR_MS), user_fields(id="user_1"))

    async def revoke() -> None:
        storage.revoke(TOKEN)

    return revoke
