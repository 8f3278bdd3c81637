"""The session-management document, line by line: a test for each line that is covered so far, named after it.

Later lines join as their features land.
"""

import json
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from gatekeeper.cli import main
from gatekeeper.config.load import load_text
from gatekeeper.config.snapshot import compile_settings
from gatekeeper.core.cookies import Keys
from gatekeeper.core.model import Access, Route, Target
from gatekeeper.core.routing import match_route
from gatekeeper.core.session_data import SessionDataCookie, decode
from gatekeeper.core.urls import parse_target
from tests.better_auth_db import execute, iso, session_id
from tests.real.conftest import HAS_NODE, run_node
from tests.server.conftest import TOKEN, USER_ID, database, now_ms, upstream
from tests.server.gates import COOKIE, cookie_value, running_gate
from tests.server.test_session_data_decides import Fed, fed
from tests.server.upstreams import RecordingUpstream
from tests.server.wire import ask, mirrored
from tests.test_cli import FINE

__all__ = ["database", "fed", "upstream"]  # fixtures

SIGNED_IN = f"Cookie: {COOKIE}={cookie_value(TOKEN)}"
PAGE = "Accept: text/html"
DOCS = Path(__file__).parent.parent / "docs"
VECTORS = json.loads((Path(__file__).parent / "vectors" / "session-data.json").read_text())


@pytest.mark.parametrize("strategy", ["compact", "jwt", "jwe"])
def test_line_3_the_cookie_that_caches_the_session_is_read(strategy: str) -> None:
    captured = VECTORS["cookieCache"][strategy]
    keys = Keys([captured["secret"]])
    raw = captured["sessionDataCookie"]
    written = captured["payload"] if "payload" in captured else captured["decoded"]
    expected = written["session"] if strategy == "compact" else written
    at = expected["updatedAt"] + 1_000
    found = decode(raw, keys, strategy=strategy, version="1", now_ms=at)
    assert isinstance(found, SessionDataCookie)
    assert found.record.session.token == expected["session"]["token"]
    assert found.record.user.email == expected["user"]["email"]


async def test_line_3_with_it_requests_read_no_database(fed: Fed) -> None:
    """Where a feed tells of revocations: else it would keep a revoked session alive, as it does without a gate."""
    before = fed.reads
    for _ in range(3):
        assert (await ask(fed.gate.port, "GET", "/dashboard", fed.cookies(TOKEN))).status == 200
    assert fed.reads == before


async def test_line_4_a_session_lives_two_days_and_is_extended_daily_while_it_is_used(
    database: Path, upstream: RecordingUpstream
) -> None:
    """Companion mode, by `extend: gate`; what else is to be said of it is in `tests/server/test_extension.py`."""
    hour_ms, day_ms = 3_600_000, 86_400_000
    settings = "session: {expires_in: 2d, update_age: 1d, extend: gate}\n"
    for age_ms, is_extended in ((day_ms - hour_ms, False), (day_ms + hour_ms, True)):
        began = now_ms()
        execute(database, "update session set expiresAt = ?", (iso(began + 2 * day_ms - age_ms),))
        async with running_gate(upstream.url, database, settings) as gate:
            answers = [await ask(gate.port, "GET", "/dashboard", SIGNED_IN) for _ in range(20)]
        lines = [line for answer in answers for line in answer.values("set-cookie") if line.startswith(COOKIE)]
        assert [answer.status for answer in answers] == [200] * 20
        assert bool(lines) is is_extended
        assert all("Max-Age=172800" in line for line in lines)
        with closing(sqlite3.connect(database)) as connection:
            (expires,) = connection.execute("select expiresAt from session where token = ?", (TOKEN,)).fetchone()
        assert (expires >= iso(began + 2 * day_ms)) is is_extended


async def test_line_5_after_five_minutes_the_next_request_reads_the_database_once(fed: Fed) -> None:
    """The app behind then sets a new cookie, as its get-session does for any request without a current one."""
    fed.lease.begin(time.monotonic() - 3_600)
    for age_ms, reads in ((299_000, 0), (300_000, 1)):
        fed.sessions.all_changed()
        before = fed.reads
        for _ in range(3):
            assert (await ask(fed.gate.port, "GET", "/dashboard", fed.cookies(TOKEN, age_ms=age_ms))).status == 200
        assert fed.reads - before == reads


async def test_line_6_reading_the_session_gives_session_and_user_or_none(
    database: Path, upstream: RecordingUpstream
) -> None:
    async with running_gate(upstream.url, database) as gate:
        answer = json.loads((await ask(gate.port, "GET", "/.gatekeeper/whoami", SIGNED_IN)).body)
        nobody = await ask(gate.port, "GET", "/.gatekeeper/whoami")
    assert answer["user"]["id"] == answer["session"]["userId"] == USER_ID
    assert TOKEN not in json.dumps(answer)
    assert nobody.status == 401


async def test_line_7_without_a_session_401_and_with_one_the_user(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        for path in ("/.gatekeeper/whoami", "/dashboard"):
            refused = await ask(gate.port, "GET", path)
            assert refused.status == 401
            assert json.loads(refused.body)["error"] == "Unauthorized"
        answer = await ask(gate.port, "GET", "/.gatekeeper/whoami", SIGNED_IN)
    assert answer.status == 200
    assert json.loads(answer.body)["user"]["name"] == "Ada Łoś"


@pytest.mark.skipif(not HAS_NODE, reason="Node.js or the npm packages of tests/real are missing")
async def test_line_8_components_share_one_get_session_and_focus_asks_again_and_the_gate_answers(
    database: Path, upstream: RecordingUpstream
) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update session set expiresAt = ?", (iso(now_ms() + 172_000_000),))
    async with running_gate(upstream.url, database, "session: {serve_get_session: true}\n") as gate:
        seen = await run_node("use_session.mjs", gate.url, SIGNED_IN.removeprefix("Cookie: "))
    assert seen["emails"] == ["Ada@Example.TEST"] * 3
    assert (seen["mounted"], seen["focused"], seen["early"], seen["late"]) == (1, 2, 2, 3)
    assert upstream.requests == []  # the app was not asked


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/x", "/settings", "/settings/security?tab=2"])
async def test_line_9_route_groups_are_protected_before_the_page_renders(
    database: Path, upstream: RecordingUpstream, path: str
) -> None:
    async with running_gate(upstream.url, database) as gate:
        assert (await ask(gate.port, "GET", path, PAGE)).status == 307
        assert upstream.requests == []
        assert (await ask(gate.port, "GET", path, PAGE, SIGNED_IN)).status == 200
    assert [request.target for request in upstream.requests] == [path]


@pytest.mark.parametrize(
    ("path", "callback"),
    [("/dashboard", "%2Fdashboard"), ("/settings/a?b=c&d=%20", "%2Fsettings%2Fa%3Fb%3Dc%26d%3D%2520")],
)
async def test_line_10_no_cookie_redirects_to_sign_in_with_the_path_asked_for(
    database: Path, upstream: RecordingUpstream, path: str, callback: str
) -> None:
    async with running_gate(upstream.url, database) as gate:
        response = await ask(gate.port, "GET", path, PAGE)
    assert response.values("location") == [f"/sign-in?callbackUrl={callback}"]


def _example(name: str) -> str:
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "migration.md").read_text(), re.DOTALL)
    return next(block for block in blocks if block.startswith(f"# example: {name}\n"))


@pytest.mark.parametrize(
    ("example", "path", "access"),
    [
        ("prefixes", "/dashboard", "session"),
        ("prefixes", "/settings/a.b", "session"),
        ("prefixes", "/dashboardx", "public"),
        ("prefixes", "/api/auth/get-session", "public"),
        ("prefixes", "/_next/static/chunk.js", "public"),
        ("deny-by-default", "/", "public"),
        ("deny-by-default", "/sign-in", "public"),
        ("deny-by-default", "/api/auth/get-session", "public"),
        ("deny-by-default", "/_next/static/chunk.js", "public"),
        ("deny-by-default", "/assets/logo.svg", "public"),
        ("deny-by-default", "/dashboard/x.json", "session"),
        ("deny-by-default", "/anything", "session"),
        ("presence", "/dashboard", "presence"),
        ("open-inside", "/dashboard", "session"),
        ("open-inside", "/dashboard/help", "public"),
        ("open-inside", "/dashboard/helpx", "session"),
    ],
)
def test_line_11_the_migration_page_gets_each_effect_of_the_matcher(example: str, path: str, access: str) -> None:
    environ = {"BETTER_AUTH_SECRET": "kJ8vQ2mX5tR9wZ3bN6yC1pL4fH7gD0sA"}
    settings = load_text(_example(example), source=example, base_dir=DOCS, environ=environ)
    target = parse_target("GET", path)
    assert isinstance(target, Target)
    route = match_route(compile_settings(settings).table, target)
    assert isinstance(route, Route)
    assert route.access is Access(access)


async def test_line_12_presence_sees_the_cookie_without_verifying_it(
    database: Path, upstream: RecordingUpstream
) -> None:
    text = (
        "listen: 127.0.0.1:0\nupstream: {upstream}\nsecret: {secret}\nstore: sqlite:///{database}\n"
        "protect: [{{path: /dashboard, access: presence}}]\n"
    )
    async with running_gate(upstream.url, database, text=text) as gate:
        database.unlink()  # no store is asked
        forged = await ask(gate.port, "GET", "/dashboard", PAGE, f"Cookie: {COOKIE}=forged")
        absent = await ask(gate.port, "GET", "/dashboard", PAGE)
    assert mirrored(forged)["headers"]["x-auth-status"] == "anonymous"
    assert absent.status == 307


async def test_line_13_the_verified_user_needs_a_real_session(database: Path, upstream: RecordingUpstream) -> None:
    token, _, signature = cookie_value(TOKEN).rpartition(".")
    other = "A" if signature[0] != "A" else "B"
    async with running_gate(upstream.url, database) as gate:
        forged = f"Cookie: {COOKIE}={token}.{other}{signature[1:]}"
        assert (await ask(gate.port, "GET", "/dashboard", PAGE, forged)).status == 307
        unknown = f"Cookie: {COOKIE}={cookie_value('signed-but-unknown')}"
        assert (await ask(gate.port, "GET", "/dashboard", PAGE, unknown)).status == 307
        assert upstream.requests == []
        assert (await ask(gate.port, "GET", "/dashboard", PAGE, SIGNED_IN)).status == 200


async def test_line_15_the_fields_of_the_user(database: Path, upstream: RecordingUpstream) -> None:
    async with running_gate(upstream.url, database) as gate:
        user = json.loads((await ask(gate.port, "GET", "/.gatekeeper/whoami", SIGNED_IN)).body)["user"]
    assert user["id"] == USER_ID
    assert (user["name"], user["email"], user["emailVerified"]) == ("Ada Łoś", "Ada@Example.TEST", True)
    assert user["image"] is None
    assert user["createdAt"] == user["updatedAt"] == iso(1_790_000_000_000)
    assert user["twoFactorEnabled"] is True


async def test_line_16_the_fields_of_the_session(database: Path, upstream: RecordingUpstream) -> None:
    expires = now_ms() + 60_000
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update session set expiresAt = ?, ipAddress = null, userAgent = 'Firefox'", (iso(expires),))
    async with running_gate(upstream.url, database) as gate:
        session = json.loads((await ask(gate.port, "GET", "/.gatekeeper/whoami", SIGNED_IN)).body)["session"]
    assert session["id"] == session_id(TOKEN)
    assert session["userId"] == USER_ID
    assert session["expiresAt"] == iso(expires)
    assert session["createdAt"] == session["updatedAt"]
    assert session["ipAddress"] is None
    assert session["userAgent"] == "Firefox"
    assert "token" not in session


@pytest.mark.parametrize("named_by", ["token", "id"])
def test_line_18_one_session_is_revoked_by_token_and_by_id(database: Path, tmp_path: Path, named_by: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(FINE.replace("sqlite:///auth.db", f"sqlite:///{database}"))
    name = TOKEN if named_by == "token" else session_id(TOKEN)
    done = CliRunner().invoke(main, ["sessions", "revoke", "-", "-c", str(config)], input=f"{name}\n")
    assert (done.exit_code, done.output) == (0, "1 session revoked\n")
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("select count(*) from session where token = ?", (TOKEN,)).fetchone() == (0,)
