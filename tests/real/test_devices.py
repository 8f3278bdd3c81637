"""The unmodified client on several devices: a gate in accounts mode is to it what the real better-auth is."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tests.real.conftest import HAS_NODE, real_app, run_node
from tests.server.accounts_gates import ACCOUNTS, PATIENT, accounts_gate
from tests.server.conftest import upstream
from tests.server.gates import SECRET
from tests.server.upstreams import RecordingUpstream
from tests.stores.account_places import AccountPlace
from tests.stores.conftest import mariadb_server, postgres_server
from tests.stores.test_sql_accounts import PLACES

__all__ = ["mariadb_server", "postgres_server", "upstream"]  # fixtures

BY_ID = "by id"
WATCH_S = 300.0
"""How long all steps may take."""


class Step(msgspec.Struct, forbid_unknown_fields=True):
    """What the client said, the session's cookies on the device, and how all devices stand after it.

    `signed_in` is the name of whom each device is signed in as; `listed` how many sessions whoever is signed in has.
    """

    label: str
    data: Any
    error: dict[str, Any] | None
    cookies: dict[str, str]
    signed_in: dict[str, str | None] = msgspec.field(name="signedIn")
    listed: dict[str, int]


class Run(msgspec.Struct):
    """All steps at one server; `pages` are the statuses of a protected page for each device, as each step left it."""

    steps: list[Step]
    pages: list[dict[str, int]]

    def labelled(self, label: str) -> Step:
        (step,) = [step for step in self.steps if step.label == label]
        return step


async def run_devices(url: str) -> Run:
    return msgspec.convert(await run_node("devices.mjs", url), Run)


@pytest.fixture(scope="module")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The steps at the real better-auth, which are the same for every gate that is compared with it."""

    async def run() -> Run:
        async with asyncio.timeout(WATCH_S), real_app(tmp_path_factory.mktemp("real") / "auth.db") as app:
            return await run_devices(app)

    if not HAS_NODE:
        pytest.skip("Node.js or the npm packages of tests/real are missing: run `make test`")
    with asyncio.Runner() as runner:
        return runner.run(run())


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AccountPlace:
    """A database with nothing in it but what `gatekeeper migrate` makes."""
    found = PLACES[request.param](request, tmp_path / "auth.db")
    await found.empty()
    config = tmp_path / "config.yaml"
    config.write_text((ACCOUNTS % found.url).format(upstream="http://127.0.0.1:9", secret=SECRET))
    command = (sys.executable, "-m", "gatekeeper", "migrate", "-c", str(config))
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0
    return found


async def test_the_client_is_told_and_signed_in_as_at_the_real_server(
    real_run: Run, place: AccountPlace, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    """By id a session is revoked at a gate alone: all else is the same, and so are all cookies."""
    more = PATIENT + "trusted_proxies: [127.0.0.1]\n"
    async with accounts_gate(upstream.url, place.url, tmp_path, more, patience_s=WATCH_S) as gate:
        run = await run_devices(gate.url)
    ours, theirs = run.labelled(BY_ID), real_run.labelled(BY_ID)
    assert (ours.data, theirs.data) == ({"status": True}, {"status": True})
    assert (ours.signed_in["laptop"], theirs.signed_in["laptop"]) == (None, "Ada Łoś")
    assert (ours.listed["ada@example.test"], theirs.listed["ada@example.test"]) == (2, 3)
    assert run.steps == [replace(step, **_by_id(step)) if step.label == BY_ID else step for step in real_run.steps]
    for step, pages in zip(run.steps, run.pages, strict=True):
        assert pages == {name: 401 if user is None else 200 for name, user in step.signed_in.items()}, step.label
    assert await place.count("user") == 2
    assert [row["userAgent"] for row in await place.rows("session")] == ["stranger/1.0"]


def _by_id(step: Step) -> dict[str, Any]:
    """What it changes that a session is revoked by its id."""
    return {"signed_in": step.signed_in | {"laptop": None}, "listed": step.listed | {"ada@example.test": 2}}
