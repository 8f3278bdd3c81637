"""Results go between the markers, or nowhere."""

from pathlib import Path

import pytest

from bench.publish import MARK, NotPublished, markers, publish, replaced
from bench.results import read_run
from tests.bench.records import a_run, samples

BEGIN, END = markers(MARK)
PAGE = f"before\n{BEGIN}\nold\n{END}\nafter\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "images").mkdir(parents=True)
    (tmp_path / "README.md").write_text(PAGE)
    (tmp_path / "docs" / "benchmark.md").write_text(PAGE)
    return tmp_path


def test_only_what_stands_between_the_markers_changes() -> None:
    assert replaced(PAGE, "new\n") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert replaced(replaced(PAGE, "new\n"), "new\n") == replaced(PAGE, "new\n")


@pytest.mark.parametrize("text", ["nothing", BEGIN, PAGE + PAGE, f"{END}\n{BEGIN}"])
def test_pages_without_the_two_markers_are_left_alone(text: str) -> None:
    with pytest.raises(NotPublished):
        replaced(text, "new")


def test_tables_and_picture_and_data_are_written(root: Path) -> None:
    written = publish(a_run(), root)
    assert len(written) == len(set(written)) == 4
    assert (
        "| **gatekeeper** | **30.0 µs** | **3.00** | **0.60** | **10.0 µs** | **2.00 ms** | **64 MB** |"
        in (root / "README.md").read_text()
    )
    page = (root / "docs" / "benchmark.md").read_text()
    assert "| **gatekeeper** | **30.0** | **10.0** | **3.00** | **0.60** |" in page
    assert "2030-01-02, medians of 3 interleaved rounds, windows of 2 s." in page
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert read_run(root / "docs" / "benchmark.json") == a_run()


def test_a_disturbed_run_is_not_published(root: Path) -> None:
    run = a_run()
    run.peers["gate"].samples["verified"] = samples(*[30] * 20, foreign=0.3)
    with pytest.raises(NotPublished, match="30%"):
        publish(run, root)
    assert (root / "README.md").read_text() == PAGE
    assert not (root / "docs" / "benchmark.json").exists()


def test_a_run_without_go_is_not_published(root: Path) -> None:
    run = a_run()
    del run.peers["go"]
    with pytest.raises(NotPublished, match="Go"):
        publish(run, root)


def test_the_pages_have_the_markers() -> None:
    here = Path(__file__).parent.parent.parent
    for page in ("README.md", "docs/benchmark.md"):
        replaced((here / page).read_text(), "")
