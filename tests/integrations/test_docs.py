"""docs/integrations.md keeps up: each reason, argument and field is there, and its code runs."""

import dataclasses
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gatekeeper.integrations import Reason, Session, User, Verifier

PAGE = (Path(__file__).parent.parent.parent / "docs" / "integrations.md").read_text()
CODE = [
    (section.partition("\n")[0], code)
    for section in PAGE.split("\n## ")
    for code in re.findall(r"```python\n(.*?)```", section, re.DOTALL)
]


def rows(heading: str) -> list[str]:
    """The names in the first column of the table below a heading."""
    table = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    first = re.findall(r"^\| ([^|]*`[^|]*) \|", table, re.MULTILINE)
    return [name for cell in first for name in re.findall(r"`([A-Za-z_]+)`", cell)]


def test_each_reason_is_documented() -> None:
    assert rows("What is refused, and counted") == [reason.value for reason in Reason]


def test_each_argument_is_documented() -> None:
    assert rows("Verifier") == list(inspect.signature(Verifier).parameters)


def test_each_field_is_documented() -> None:
    fields = [field.name for record in (User, Session) for field in dataclasses.fields(record)]
    assert sorted(set(rows("What it gives")) - {"User", "Session"}) == sorted(set(fields))


async def no_app(scope: Any, receive: Any, send: Any) -> None: ...


def test_there_is_code_for_each_framework() -> None:
    names = ["ASGI", "FastAPI", "WSGI", "aiohttp", "Django", "Plain headers, of named peers"]
    assert [name for name, _ in CODE] == names


@pytest.mark.parametrize(("name", "code"), CODE, ids=[name for name, _ in CODE])
def test_the_code_runs(name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = ModuleType("myapp")
    theirs.app = no_app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "myapp", theirs)
    assert code.count("\n") <= 10
    exec(compile(code, name, "exec"), {"__name__": "page", "Verifier": Verifier})  # noqa: S102
