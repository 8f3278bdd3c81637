"""The statements are those that better-auth makes its tables with."""

import json
from pathlib import Path

import pytest

from gatekeeper.migrations.better_auth import TABLES, Dialect, create_index, create_table

VECTORS = Path(__file__).parents[1] / "vectors"


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql"])
def test_statements_are_better_auths_own(dialect: Dialect) -> None:
    name = {"postgresql": "postgres"}.get(dialect, dialect)
    captured = json.loads((VECTORS / f"{name}-ddl.json").read_text())
    made = [create_table(table, dialect) for table in TABLES]
    made += [create_index(table, dialect) for table in TABLES if table.indexed]
    assert ";\n\n".join(made) + ";" == captured["ddl"]["core"]
