"""A wrong file, and beside it the exact list of its problems: what an operator reads.

After a change of wording on purpose: `GOLDEN=write pytest tests/config/test_golden.py`, then read the difference.
"""

import os
from pathlib import Path

import pytest

from gatekeeper.config.load import ConfigError, load_text
from tests.config.loading import ENVIRON

FOLDER = Path(__file__).parent / "golden"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_problems_are_those_beside_the_file(path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_text(path.read_text(encoding="utf-8"), source=path.name, base_dir=FOLDER, environ=ENVIRON)
    beside = path.with_suffix(".txt")
    if os.environ.get("GOLDEN") == "write":
        beside.write_text(f"{raised.value}\n", encoding="utf-8")
    assert f"{raised.value}\n" == beside.read_text(encoding="utf-8")


def test_places_point_at_the_fault() -> None:
    """Lines and columns of the golden lists hold what the path says: the last name of it, or its value."""
    for path in FOLDER.glob("*.yaml"):
        lines = path.read_text(encoding="utf-8").splitlines()
        for problem in path.with_suffix(".txt").read_text(encoding="utf-8").splitlines():
            _, line, column, _ = problem.split(":", 3)
            at = lines[int(line) - 1][int(column) - 1 :]
            assert at, problem
            assert column == "1" or lines[int(line) - 1][int(column) - 2] in " [{\t:$", problem
