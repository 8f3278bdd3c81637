"""A gate under attack for each module: with `CONFIG` of the module as its configuration, or the four lines of the tour.

Modules share the gate among their tests, since an attack must not depend on a fresh one.
"""

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.attacks.site import TOKEN, USER_ID, Site
from tests.better_auth_db import add_session, add_user, create_database
from tests.server.gates import FOUR_LINES, running_gate
from tests.server.upstreams import recording_upstream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    database = tmp_path_factory.mktemp("site") / "auth.db"
    now_ms = time.time_ns() // 1_000_000
    create_database(database)
    add_user(database, id=USER_ID)
    add_session(database, user_id=USER_ID, token=TOKEN, expires_at_ms=now_ms + 86_400_000, created_at_ms=now_ms)
    text = getattr(request.module, "CONFIG", FOUR_LINES)
    async with recording_upstream() as upstream, recording_upstream() as other:
        text = text.replace("{other}", other.url)
        async with running_gate(upstream.url, database, text=text, patience_s=None) as gate:
            yield Site(gate, upstream, other, database)


@pytest.fixture(autouse=True)
def _forget(request: pytest.FixtureRequest) -> None:
    """Each test sees only what it caused itself."""
    if "site" in request.fixturenames:
        request.getfixturevalue("site").forget()
