"""Two gates on one database, and commands while they run: what is changed at one place shows at the other."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gatekeeper import users_command
from gatekeeper.sessions_command import Revoked, revoke_sessions
from tests.server.accounts.sites import (
    EMAIL,
    OTHER,
    Site,
    Visitor,
    command,
    config_for,
    counts_of,
    running_site,
    settings_of,
)
from tests.server.accounts.troubles import until
from tests.server.conftest import now_ms
from tests.server.upstreams import RecordingUpstream
from tests.server.wire import mirrored
from tests.stores.account_places import AccountPlace, MariadbAccounts, SqliteAccounts
from tests.workers.running import MORE, workers

pytestmark = pytest.mark.usefixtures("quick", "patient")

MANY = 24
"""Connections of which none goes to one of two workers once in ten million times."""


@asynccontextmanager
async def two_gates(place: AccountPlace, upstream: RecordingUpstream, folder: Path) -> AsyncIterator[tuple[Site, Site]]:
    """Both have memory of their own; on SQLite and PostgreSQL both follow the feed before the block begins."""
    async with running_site(upstream.url, place, folder) as here, running_site(upstream.url, place, folder) as there:
        if not isinstance(place, MariadbAccounts):
            for site in (here, there):
                await until(lambda site=site: is_fed(site), True)  # type: ignore[misc]
        yield here, there


async def is_fed(site: Site) -> bool:
    """Whether this gate holds the lease of its feed."""
    await asyncio.sleep(0)
    lease = site.gate.gate.runtime.sessions.lease
    return lease.is_held(asyncio.get_running_loop().time())


def at(site: Site, visitor: Visitor) -> Visitor:
    """The same browser, led to another gate by a load balancer."""
    other = site.visitor()
    other.cookies, other.max_ages = visitor.cookies, visitor.max_ages
    return other


async def name_at(visitor: Visitor) -> str:
    seen = mirrored((await visitor.ask("GET", "/dashboard")).response)["headers"]
    name: str = seen["x-auth-name"]
    return name


async def test_what_is_done_at_one_gate_is_so_at_the_other(
    place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    async with two_gates(place, upstream, tmp_path) as (here, there):
        ada, lost, password = await here.signed_up(), await there.signed_in(), await there.signed_in()
        assert [await at(there, ada).enters(), await at(here, lost).enters(), await lost.enters()] == [200, 200, 200]
        assert await password.enters() == 200

        await ada.post("/revoke-session", token=lost.token)
        assert await at(here, lost).enters() == 401
        await until(lost.enters, 401)  # although its session_data cookie lives
        assert await at(there, ada).enters() == 200

        assert await name_at(at(there, ada)) == "Ada"
        await ada.post("/update-user", name="Grace")
        assert await name_at(ada) == "Grace"
        await until(lambda: name_at(at(there, ada)), "Grace")
        await until(lambda: name_at(password), "Grace")

        before = ada.token
        changed = {"currentPassword": "correct horse battery", "newPassword": OTHER, "revokeOtherSessions": True}
        assert (await ada.post("/change-password", **changed)).status == 200
        await until(password.enters, 401)
        await until(there.visitor(before).enters, 401)
        assert await at(there, ada).enters() == 200
        assert (await there.visitor().sign_in()).status == 401

        assert (await at(there, ada).post("/sign-out")).status == 200
        await until(here.visitor(before).enters, 401)
        assert (await counts_of(place))["session"] == 0


async def test_what_commands_do_shows_while_the_gate_runs(
    place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    settings = settings_of(place)
    async with running_site(upstream.url, place, tmp_path) as site:
        ada = await site.signed_up()
        assert (await ada.enters(), await is_verified(ada)) == (200, False)
        await users_command.verify_user(settings, EMAIL, now_ms())
        await until(lambda: is_verified(ada), True)

        assert (await users_command.set_password(settings, EMAIL, OTHER, now_ms())).revoked == 1
        await until(ada.enters, 401)
        assert (await site.visitor().sign_in()).status == 401
        ada, kept = await site.signed_in(password=OTHER), await site.signed_in(password=OTHER)
        assert [await ada.enters(), await kept.enters()] == [200, 200]

        mine = (await ada.session())["session"]["id"]
        revoked = await revoke_sessions(settings, [mine], None, None, now_ms(), lambda count: False)
        assert revoked == Revoked(1, 0)
        await until(ada.enters, 401)
        assert await kept.enters() == 200

        assert (await users_command.disable_user(settings, EMAIL, now_ms())).revoked == 1
        await until(kept.enters, 401)
        assert (await site.visitor().sign_in(password=OTHER)).status == 401
        assert (await counts_of(place))["session"] == 0


async def test_commands_as_they_are_called(sqlite: SqliteAccounts, upstream: RecordingUpstream, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(config_for(upstream.url, sqlite.url))
    async with running_site(upstream.url, sqlite, tmp_path) as site:
        ada = await site.signed_up()
        assert await ada.enters() == 200
        code, output, _ = await command(config, "sessions", "list", "--json")
        (listed,) = json.loads(output)
        assert (code, listed["user"]["email"], listed["state"]) == (0, EMAIL, "live")
        code, _, errors = await command(config, "users", "disable", EMAIL)
        assert (code, "1 session ended" in errors) == (0, True)
        await until(ada.enters, 401)


async def test_a_session_that_is_revoked_is_dead_at_every_worker(
    sqlite: SqliteAccounts, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(config_for(upstream.url, sqlite.url) + MORE.format(workers=2))
    async with workers(config) as gate:
        ada, lost = Visitor(gate.port), Visitor(gate.port)
        assert (await ada.sign_up()).status == 200
        assert (await lost.sign_in()).status == 200
        assert {await lost.enters() for _ in range(MANY)} == {200}
        assert (await ada.post("/revoke-session", token=lost.token)).status == 200
        await until(lambda: statuses(lost), {401})
        assert await statuses(ada) == {200}
        assert (await ada.post("/update-user", name="Grace")).status == 200
        await until(lambda: names(ada), {"Grace"})
        assert await gate.stop() == 0


async def statuses(visitor: Visitor) -> set[int]:
    """What a visitor gets over so many connections that both workers are among those who answer."""
    return {await visitor.enters() for _ in range(MANY)}


async def names(visitor: Visitor) -> set[str]:
    return {await name_at(visitor) for _ in range(MANY)}


async def is_verified(visitor: Visitor) -> bool:
    found = await visitor.session()
    verified: bool = found["user"]["emailVerified"]
    return verified
