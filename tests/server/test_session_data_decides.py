"""A session_data cookie in front of a real gate: where it stands in for the store, and what the app sees of it.

The feed is the test's: no channel runs, the lease and the changes are told by hand.
"""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatekeeper.stores.claims import SKEW_MS
from gatekeeper.stores.feeds.feed import digest_of
from gatekeeper.stores.sql import SqlStore
from tests.core.test_session_data import compact_of, iso, payload, to_json
from tests.server.conftest import TOKEN, USER_ID
from tests.server.gates import COOKIE, FOUR_LINES, SECRET, RunningGate, cookie_value, running_gate
from tests.server.test_resigning import asked
from tests.server.upstreams import RecordingUpstream
from tests.server.wire import ask

DATA = "better-auth.session_data"
RULES = FOUR_LINES.replace(
    "protect: [/dashboard, /settings]",
    "protect: [/dashboard, {{path: /new, access: fresh}}, {{path: /admin, require: {{roles: [admin]}}}}]",
)
JSON = "Accept: application/json"


class Fed:
    """A gate that believes to be fed, and a visitor whose session the store does not have."""

    def __init__(self, gate: RunningGate) -> None:
        self.gate = gate
        runtime = gate.gate.runtime
        self.lease, self.claims, self.sessions = runtime.sessions.lease, runtime.claims, runtime.sessions
        self.lease.begin(time.monotonic() - 60)
        self.renew()

    def renew(self) -> None:
        self.lease.renew(time.monotonic() + 3_600)

    @property
    def reads(self) -> int:
        return self.sessions.counters.reads

    def cookies(self, token: str, *, age_ms: int = 1_000, secret: str = SECRET, role: str = "admin") -> str:
        now_ms = self.gate.gate.clock()
        session = {"token": token, "userId": USER_ID, "expiresAt": iso(now_ms + 3_600_000), "createdAt": iso(now_ms)}
        fields = payload(session, {"id": USER_ID, "role": role}, updatedAt=now_ms - age_ms)
        data = compact_of(to_json(fields), now_ms + 240_000, secret)
        return f"Cookie: x=y; {COOKIE}={cookie_value(token)}; {DATA}={data}"


@pytest.fixture
async def fed(database: Path, upstream: RecordingUpstream, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fed]:
    monkeypatch.setattr(SqlStore, "channel", lambda store, memory: None)
    async with running_gate(upstream.url, database, text=RULES) as gate:
        feed = Fed(gate)
        yield feed


ELSEWHERE = "NotInTheStoreNotInTheStore000001"


async def test_under_cover_it_decides_without_a_read(fed: Fed, upstream: RecordingUpstream) -> None:
    before = fed.reads
    answer = await asked(fed.gate, "GET", "/dashboard", fed.cookies(ELSEWHERE), JSON)
    assert (answer.status, fed.reads - before) == (200, 0)
    assert [request.values("X-Auth-User-Id") for request in upstream.requests] == [[USER_ID]] * 3
    assert fed.claims.hits >= 3


@pytest.mark.parametrize("path", ["/new", "/admin"])
async def test_rules_that_ask_for_more_never_believe_it(fed: Fed, path: str) -> None:
    answer = await asked(fed.gate, "GET", path, fed.cookies(ELSEWHERE), JSON)
    assert answer.status == 401
    assert fed.claims.hits == 0


async def test_without_a_lease_it_decides_nothing(fed: Fed) -> None:
    fed.lease.lose(0.0)
    assert (await asked(fed.gate, "GET", "/dashboard", fed.cookies(ELSEWHERE), JSON)).status == 401


async def test_once_its_session_is_revoked_it_decides_nothing(fed: Fed) -> None:
    cookies = fed.cookies(ELSEWHERE)
    assert (await asked(fed.gate, "GET", "/dashboard", cookies, JSON)).status == 200
    fed.claims.session_changed(digest_of(ELSEWHERE))
    assert (await asked(fed.gate, "GET", "/dashboard", cookies, JSON)).status == 401


async def test_whoami_asks_the_store(fed: Fed) -> None:
    assert (await asked(fed.gate, "GET", "/.gatekeeper/whoami", fed.cookies(ELSEWHERE), JSON)).status == 401


async def test_the_app_gets_it_as_it_came(fed: Fed, upstream: RecordingUpstream) -> None:
    cookies = fed.cookies(TOKEN)
    await asked(fed.gate, "GET", "/dashboard", cookies, JSON)
    assert [request.values("Cookie") for request in upstream.requests] == [[cookies.removeprefix("Cookie: ")]] * 3


@pytest.mark.parametrize("named", ["session", "user"])
async def test_the_app_does_not_get_one_from_before_a_change(fed: Fed, upstream: RecordingUpstream, named: str) -> None:
    cookies = fed.cookies(TOKEN)
    await asked(fed.gate, "GET", "/dashboard", cookies, JSON)
    digest = digest_of(TOKEN if named == "session" else USER_ID)
    for told in (fed.sessions, fed.claims):
        (told.session_changed if named == "session" else told.user_changed)(digest)
    upstream.requests.clear()
    answer = await asked(fed.gate, "GET", "/dashboard", cookies, JSON)
    assert answer.status == 200
    kept = f"x=y; {COOKIE}={cookie_value(TOKEN)}"
    assert [request.values("Cookie") for request in upstream.requests] == [[kept]] * 3
    upstream.requests.clear()
    fresh = fed.cookies(TOKEN, age_ms=-SKEW_MS - 1_000)
    await asked(fed.gate, "GET", "/dashboard", fresh, JSON)
    assert upstream.requests[0].values("Cookie") == [fresh.removeprefix("Cookie: ")]


async def test_who_has_signed_out_here_is_out_before_the_feed_says_so(fed: Fed) -> None:
    cookies = fed.cookies(TOKEN)
    assert (await asked(fed.gate, "GET", "/dashboard", cookies, JSON)).status == 200
    out = await ask(fed.gate.port, "POST", "/.gatekeeper/sign-out", cookies, f"Origin: {fed.gate.url}")
    assert out.status == 200
    assert (await asked(fed.gate, "GET", "/dashboard", cookies, JSON)).status == 401
