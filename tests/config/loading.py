"""What the tests of the configuration load, and from where."""

from pathlib import Path

import pytest

from gatekeeper.config.load import ConfigError, load_text
from gatekeeper.config.problems import Problem
from gatekeeper.config.schema import Settings

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = (ROOT / "config.example.yaml").read_text()
GOOD_SECRET = "kJ8vQ2mX5tR9wZ3bN6yC1pL4fH7gD0sA"
ENVIRON = {"BETTER_AUTH_SECRET": GOOD_SECRET, "EMPTY": ""}
BASE = "upstream: http://127.0.0.1:3000\nsecret: ${BETTER_AUTH_SECRET}\nstore: sqlite:///auth.db\n"


def load(text: str, folder: Path = ROOT) -> Settings:
    return load_text(text, source="c.yaml", base_dir=folder, environ=ENVIRON)


def problems_of(text: str, folder: Path = ROOT) -> list[Problem]:
    with pytest.raises(ConfigError) as raised:
        load(text, folder)
    return list(raised.value.problems)
