"""The rig's requests are answered by the gate itself, through the app that the rig pretends to be."""

import asyncio
import json
import time
from pathlib import Path

import msgspec
import pytest

from bench import rig
from bench.instructions import CASES
from bench.rig import Case, RigError, cases, open_rig
from bench.session import USER_ID
from bench.wires import RigLoop, standing_clock


def run(work: object) -> object:
    with asyncio.Runner(loop_factory=RigLoop) as runner:
        return runner.run(work)  # type: ignore[arg-type]


def access_lines(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "access.log").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == "access"]


def test_every_case_is_answered_as_it_should(tmp_path: Path) -> None:
    async def ask_all() -> None:
        async with open_rig(tmp_path) as (_, clients):
            for case in cases():
                await clients.learn(case)
                await clients.ask(case, 20)

    run(ask_all())
    lines = access_lines(tmp_path)
    assert [line["status"] for line in lines] == [200] * 42 + [307] * 21 + [401] * 21 + [200] * 21
    varied = lines[21:42]
    assert len({(line["path"], line["query"], line["session"]) for line in varied}) == len(varied)
    assert {line["user"] for line in lines if line["status"] == 200} == {USER_ID}
    assert {line["bytes"] for line in lines if line["method"] == "POST"} == {
        line["bytes"] for line in lines if line["status"] == 200
    }


def test_a_wrong_status_is_noticed(tmp_path: Path) -> None:
    async def ask() -> None:
        async with open_rig(tmp_path) as (_, clients):
            await clients.learn(msgspec.structs.replace(cases()[0], status=404))

    with pytest.raises(RigError, match=r"verified: answered b'HTTP/1\.1 200"):
        run(ask())


def test_an_answer_of_another_length_is_noticed(tmp_path: Path) -> None:
    async def ask() -> None:
        page, _, redirect = cases()[:3]
        async with open_rig(tmp_path) as (_, clients):
            either = Case("either", redirect.requests + page.requests, 307)
            await clients.learn(either)
            await clients.ask(either, 5)

    with pytest.raises(RigError, match="bytes instead of"):
        run(ask())


def test_sections_are_marked_and_no_timer_fires_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig, "FEW", 8)
    monkeypatch.setattr(rig, "MANY", 24)
    monkeypatch.setattr(rig, "_WARM_UP", 8)
    monkeypatch.setattr(rig, "_LOG_S", 0)
    marks: list[float] = []
    run(rig.measure(tmp_path, lambda: marks.append(time.monotonic())))
    assert len(marks) == 2 * len(cases()) + 1
    assert len(set(marks)) == 1, "the clock did not stand"
    assert len(access_lines(tmp_path)) == len(cases()) * (1 + 8 + 8 + 24)


def test_the_clock_goes_on_afterwards() -> None:
    real = time.monotonic
    with standing_clock():
        assert time.monotonic() == time.monotonic()
    assert time.monotonic is real


def test_cases_are_those_of_the_tables() -> None:
    assert [case.name for case in cases()] == list(CASES)
