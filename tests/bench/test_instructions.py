"""From callgrind's sections to figures, and what counts as a regression."""

from pathlib import Path

import pytest

from bench import instructions
from bench.install import Tools
from bench.instructions import (
    CountError,
    Record,
    comparison,
    main,
    page_of,
    per_request,
    read_records,
    regressions,
    stored_for,
    with_record,
    write_records,
)
from bench.publish import markers

ONE = {"python": "3.11.2 (main, Apr 28 2025, 14:11:48) [GCC 12.2.0]", "aiohttp": "3.14.5"}
OTHER = {"python": "3.11.7 (main, May  9 2026, 07:35:25) [GCC 12.2.0]", "aiohttp": "3.14.5"}
FIGURES = {"verified": 1000, "varied": 1500, "redirect": 500, "denied": 400, "post": 2000}


def figures(**changed: int) -> Record:
    return Record(ONE, FIGURES | changed)


def test_what_every_section_has_once_drops_out() -> None:
    once = 5_000
    sections = [once + count * each for each in FIGURES.values() for count in (10, 30)]
    assert per_request(sections, few=10, many=30) == FIGURES


@pytest.mark.parametrize("count", [0, 9, 11])
def test_sections_must_be_complete(count: int) -> None:
    with pytest.raises(CountError, match=f"{count} sections"):
        per_request([1] * count)


def test_five_percent_more_are_still_taken_for_the_same() -> None:
    assert regressions(figures(), figures(verified=1050)) == []
    assert regressions(figures(), figures(redirect=1)) == []
    assert regressions(figures(), figures(verified=1051)) == [
        "verified GET: 1,051 instructions, 5.1% more than the stored 1,000"
    ]


def test_figures_hold_for_their_environment_alone() -> None:
    records = [Record(OTHER, {}), figures()]
    assert stored_for(records, ONE) == figures()
    assert stored_for(records, ONE | {"aiohttp": "3.14.6"}) is None


def test_a_new_record_replaces_that_of_its_environment() -> None:
    other = Record(OTHER, {"verified": 7})
    before = with_record([figures()], other)
    after = with_record(before, figures(verified=900))
    assert after == with_record([other], figures(verified=900)) == [figures(verified=900), other]


def test_comparison_with_and_without_a_record() -> None:
    assert comparison(figures(verified=1100), figures())[1] == ["verified GET", "1,100", "1,000", "+10.0%"]
    assert comparison(figures(), None)[1] == ["verified GET", "1,000", "–", "–"]


def test_the_page_has_a_column_for_each_interpreter() -> None:
    lines = page_of([figures(), Record(OTHER, {"verified": 7})]).splitlines()
    assert (
        lines[0] == "| instructions per request | Python 3.11.2, built Apr 28 2025 | Python 3.11.7, built May  9 2026 |"
    )
    assert lines[2] == "| verified GET | 1,000 | 7 |"
    assert lines[3] == "| varied GET | 1,500 | – |"


class Counted:
    """Stands in for valgrind, which takes a minute."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.record = figures()
        self.page = folder / "page.md"
        self.page.write_text("\n".join(markers("instructions")))
        monkeypatch.setattr(instructions, "ROOT", folder)
        monkeypatch.setattr(instructions, "STORE", folder / "store.json")
        monkeypatch.setattr(instructions, "PAGE", self.page)
        monkeypatch.setattr(instructions, "read_records", lambda: read_records(folder / "store.json"))
        monkeypatch.setattr(instructions, "write_records", lambda new: write_records(new, folder / "store.json"))
        monkeypatch.setattr(instructions, "install", lambda names, say: Tools({"valgrind": "valgrind"}, {}))
        monkeypatch.setattr(instructions, "count", lambda python, tools: self.record)


def test_a_check_fails_for_more_and_for_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counted = Counted(monkeypatch, tmp_path)
    assert main(["--check"]) == 0
    assert "no figure is stored" in capsys.readouterr().out
    assert main(["--record"]) == 0
    assert "| verified GET | 1,000 |" in counted.page.read_text()
    assert main(["--check"]) == 0
    counted.record = figures(post=3000)
    assert main([]) == 0
    assert main(["--check"]) == 1
    assert "POST 10 KB: 3,000 instructions, 50.0% more than the stored 2,000" in capsys.readouterr().out
    assert read_records(tmp_path / "store.json") == [figures()]


def test_without_valgrind_nothing_is_counted() -> None:
    with pytest.raises(CountError, match="as root"):
        instructions.count("python", Tools({}, {"valgrind": "not installed; as root on Debian: …"}))


def test_stored_records_have_every_case() -> None:
    records = read_records()
    assert records
    assert all(list(record.instructions) == list(instructions.CASES) for record in records)
    assert page_of(records) in instructions.PAGE.read_text()
