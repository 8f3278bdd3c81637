"""Sessions extended in a real database, by one gate and by two."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.attacks.judge import Response
from tests.better_auth_db import execute, iso
from tests.server.conftest import TOKEN, now_ms
from tests.server.gates import COOKIE, RunningGate, cookie_value, running_gate
from tests.server.upstreams import RecordingUpstream
from tests.server.wire import ask

SIGNED_IN = f"Cookie: {COOKIE}={cookie_value(TOKEN)}"
EXTEND = "session: {extend: gate}\n"
TWO_DAYS_MS = 172_800_000
ATTEMPTS = 200


def row(database: Path) -> dict[str, str]:
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        return dict(connection.execute("select * from session where token = ?", (TOKEN,)).fetchone())


async def first_with_cookies(gate: RunningGate) -> Response:
    """The first of some answers that sets cookies: a busy machine may need longer than one answer waits."""
    for _ in range(ATTEMPTS):
        response = await ask(gate.port, "GET", "/dashboard", SIGNED_IN)
        assert response.status == 200
        if response.values("set-cookie"):
            return response
    raise AssertionError("no cookies came")


async def test_row_is_as_better_auth_would_write_it(database: Path, upstream: RecordingUpstream) -> None:
    before, began = row(database), now_ms()
    async with running_gate(upstream.url, database, EXTEND) as gate:
        response = await first_with_cookies(gate)
        assert (await ask(gate.port, "GET", "/dashboard", SIGNED_IN)).values("set-cookie") == []
    ended, after = now_ms(), row(database)
    assert iso(began) <= after["updatedAt"] <= iso(ended)
    assert iso(began + TWO_DAYS_MS) <= after["expiresAt"] <= iso(ended + TWO_DAYS_MS)
    unchanged = before.keys() - {"expiresAt", "updatedAt"}
    assert {name: after[name] for name in unchanged} == {name: before[name] for name in unchanged}
    assert [line.partition("=")[0] for line in response.values("set-cookie")] == [COOKIE, "better-auth.session_data"]
    assert response.values("cache-control") == ["private, no-store"]


async def test_unless_asked_nothing_is_written(database: Path, upstream: RecordingUpstream) -> None:
    before = row(database)
    async with running_gate(upstream.url, database) as gate:
        response = await ask(gate.port, "GET", "/dashboard", SIGNED_IN)
        assert gate.gate.runtime.extender is None
    assert (response.status, response.values("set-cookie"), row(database)) == (200, [], before)


async def test_of_two_gates_one_extends_and_the_other_reads_again(database: Path, upstream: RecordingUpstream) -> None:
    async with (
        running_gate(upstream.url, database, EXTEND) as one,
        running_gate(upstream.url, database, EXTEND) as other,
    ):
        outcomes = []
        runtimes = [gate.gate.runtime for gate in (one, other)]
        records = [await runtime.sessions.get(TOKEN) for runtime in runtimes]  # type: ignore[arg-type]
        for runtime, record in zip(runtimes, records, strict=True):
            assert runtime.extender is not None
            assert record is not None
            claim = runtime.extender.claim(record, None)
            assert claim is not None
            while not claim.is_settled:
                await runtime.sessions.check()
            outcomes.append(runtime.extender.outcomes)
        again = [await runtime.sessions.get(TOKEN) for runtime in runtimes]  # type: ignore[arg-type]
    assert outcomes == [{"extended": 1, "lost": 0, "failed": 0}, {"extended": 0, "lost": 1, "failed": 0}]
    assert again[0] == again[1]
    assert again[0] is not None
    assert iso(again[0].session.expires_at_ms) == row(database)["expiresAt"]


async def test_session_that_was_revoked_meanwhile_is_not_brought_back(
    database: Path, upstream: RecordingUpstream
) -> None:
    async with running_gate(upstream.url, database, EXTEND) as gate:
        runtime = gate.gate.runtime
        record = await runtime.sessions.get(TOKEN)  # type: ignore[arg-type]
        execute(database, "delete from session")
        assert record is not None
        assert runtime.extender is not None
        claim = runtime.extender.claim(record, None)
        assert claim is not None
        while not claim.is_settled:
            await runtime.sessions.check()
        assert (await ask(gate.port, "GET", "/dashboard", SIGNED_IN)).status == 401
    assert claim.cookies() == []


@pytest.mark.parametrize("path", ["/dashboard", "/other"])
async def test_request_goes_on_where_nothing_can_be_written(
    database: Path, upstream: RecordingUpstream, path: str
) -> None:
    execute(database, "create trigger no before update on session begin select raise(abort, 'no'); end")
    before = row(database)
    async with running_gate(upstream.url, database, EXTEND) as gate:
        for _ in range(3):
            response = await ask(gate.port, "GET", path, SIGNED_IN)
            assert (response.status, response.values("set-cookie")) == (200, [])
    assert row(database) == before
