"""A database with one person in it, and an app that records what reaches it."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.better_auth_db import add_session, add_user, create_database
from tests.server.upstreams import RecordingUpstream, recording_upstream

TOKEN = "AdaAdaAdaAdaAdaAdaAdaAdaAdaAda01"
USER_ID = "user-ada"
HOUR_MS = 3_600_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "auth.db"
    create_database(path, "admin+organization+twoFactor")
    now = now_ms()
    add_user(path, id=USER_ID, name="Ada Łoś", email="Ada@Example.TEST", role="admin,user", twoFactorEnabled=1)
    add_session(path, user_id=USER_ID, token=TOKEN, expires_at_ms=now + HOUR_MS, created_at_ms=now - HOUR_MS)
    return path


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[RecordingUpstream]:
    async with recording_upstream() as app:
        yield app
