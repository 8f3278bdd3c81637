import io
import re
from pathlib import Path

import pytest

from gatekeeper.demo.guide import Demo, Paint, guide, wants_color
from gatekeeper.demo.people import PASSWORD


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("output", "environment", "expected"),
    [
        pytest.param(Terminal(), {}, True, id="terminal"),
        pytest.param(io.StringIO(), {}, False, id="file"),
        pytest.param(Terminal(), {"NO_COLOR": "1"}, False, id="NO_COLOR"),
        pytest.param(Terminal(), {"NO_COLOR": ""}, True, id="NO_COLOR-empty"),
        pytest.param(Terminal(), {"TERM": "dumb"}, False, id="dumb-terminal"),
    ],
)
def test_color_is_for_terminals(output: io.StringIO, environment: dict[str, str], expected: bool) -> None:
    assert wants_color(output, environment) is expected


def test_the_guide_reads_the_same_without_color() -> None:
    folder = Path("/tmp/demo")
    demo = Demo("http://127.0.0.1:8080", folder / "ada.cookies", folder / "gatekeeper.yaml", is_signed=True)
    plain, colored = guide(demo, Paint(False)), guide(demo, Paint(True))
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == plain
    assert "/tmp/demo/auth.db" in plain
    assert PASSWORD in plain
    assert "curl -i -H 'Accept: text/html' http://127.0.0.1:8080/dashboard" in plain
