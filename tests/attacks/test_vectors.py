"""The 127 captured attack requests, sent through a raw socket to a running gate, one connection each."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.attacks.judge import Filler, run_case
from tests.better_auth_db import add_session, add_user, create_database
from tests.server.gates import SECRET, RunningGate, running_gate
from tests.server.upstreams import RecordingUpstream, recording_upstream

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "http-attacks.json").read_text())
CASES = VECTORS["cases"]
TOKEN = "drilltoken0000000000000000000001"
USER_ID = "drilluser"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[RunningGate, RecordingUpstream]]:
    database = tmp_path_factory.mktemp("attacks") / "auth.db"
    now_ms = time.time_ns() // 1_000_000
    create_database(database)
    add_user(database, id=USER_ID, name="Drill", email="drill@example.test", email_verified=True)
    add_session(database, user_id=USER_ID, token=TOKEN, expires_at_ms=now_ms + 3_600_000, created_at_ms=now_ms)
    async with recording_upstream() as upstream, running_gate(upstream.url, database, patience_s=None) as gate:
        yield gate, upstream


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in CASES])
async def test_attack(case: dict[str, object], target: tuple[RunningGate, RecordingUpstream]) -> None:
    gate, upstream = target
    fill = Filler(gate.host, f"127.0.0.1:{upstream.port}", SECRET, TOKEN, USER_ID)
    assert await run_case(case, gate.port, upstream, fill) == []


def test_all_vectors_are_here() -> None:
    assert len(CASES) == 127
