"""The rows and cookies of the benchmark are those that the gate takes."""

from pathlib import Path

from bench.session import SECRET, USER_ID, cookie_of, write_sessions
from bench.workloads import BROWSER_HEADERS, GUARDED, PAGE, SCRIPT_HEADERS
from tests.server.gates import FOUR_LINES, running_gate
from tests.server.upstreams import recording_upstream
from tests.server.wire import ask


async def test_the_gate_takes_them(tmp_path: Path) -> None:
    database = tmp_path / "auth.db"
    write_sessions(database, 3)
    text = FOUR_LINES.replace("{secret}", SECRET)
    async with recording_upstream() as app, running_gate(app.url, database, text=text) as gate:
        for number, expected in ((0, 200), (2, 200), (3, 307)):
            lines = as_lines(BROWSER_HEADERS | {"Cookie": cookie_of(number)})
            assert (await ask(gate.port, "GET", PAGE, *lines)).status == expected
        assert (await ask(gate.port, "GET", GUARDED, *as_lines(SCRIPT_HEADERS))).status == 401
    assert [received.values("X-Auth-User-Id") for received in app.requests] == [[USER_ID]] * 2


def as_lines(headers: dict[str, str]) -> list[str]:
    return [f"{name}: {value}" for name, value in headers.items()]
