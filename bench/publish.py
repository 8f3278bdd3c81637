"""Puts a run's results into the documentation, between markers, and beside it as JSON and as a picture."""

from pathlib import Path

from bench import plot, tables, targets
from bench.results import Run, write_run
from bench.stats import median_of
from bench.tables import NOTHING, Row, as_markdown

MARK = "bench"
DISTURBED = 0.10
"""Where others used more of the proxies' core than this, the figures are not worth publishing."""


class NotPublished(Exception):
    """The run is not published; the message says why."""


def publish(run: Run, root: Path) -> list[Path]:
    """Write the documentation below `root`; the files that were written.  Raises NotPublished before writing any."""
    if run.foreign() > DISTURBED:
        raise NotPublished(f"others used {run.foreign():.0%} of the proxies' core, and the figures are off")
    if not {"gate", "nginx", "go"} <= run.peers.keys():
        raise NotPublished("the gate, nginx and Go must be in it")
    readme, page = root / "README.md", root / "docs" / "benchmark.md"
    texts = {readme: replaced(readme.read_text(), short(run)), page: replaced(page.read_text(), full(run))}
    picture, data = root / "docs" / "images" / "benchmark.svg", root / "docs" / "benchmark.json"
    picture.write_text(plot.svg(plot.panels_of(run)))
    write_run(data, run)
    for path, text in texts.items():
        path.write_text(text)
    return [*texts, picture, data]


def replaced(text: str, block: str, mark: str = MARK) -> str:
    """The text with this block between the two markers that `mark` names.

    Raises NotPublished where they are not there exactly once.
    """
    begin, end = markers(mark)
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise NotPublished(f"{begin} and {end} must stand in the page, once each")
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n{block}{end}{rest.partition(end)[2]}"


def markers(mark: str) -> tuple[str, str]:
    """Between what a generated block stands."""
    return f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"


def write_between(page: Path, mark: str, block: str) -> None:
    """Put this block between the page's markers.  Raises NotPublished where they are not there."""
    page.write_text(replaced(page.read_text(), block, mark))


def short(run: Run) -> str:
    """The README's table."""
    head = ["one core, 32 connections", "verified GET, CPU", "× nginx", "× Go", "redirect, CPU", "p99", "at rest"]
    rows: list[Row] = [head]
    for key, peer in run.peers.items():
        if key in tables.PARTLY:
            continue
        ratios = [run.ratio(key, to, "verified") for to in ("nginx", "go")]
        keeps = bool(peer.latency) and peer.keeps_rate()
        rows.append(
            [
                peer.title,
                _with_unit(peer.cpu_us("verified"), "µs", 1),
                *(NOTHING if ratio is None else f"{ratio:.2f}" for ratio in ratios),
                _with_unit(peer.cpu_us("redirect"), "µs", 1),
                _with_unit(median_of(peer.latency, "p99") if keeps else None, "ms", 2),
                _with_unit(median_of(peer.memory, "rest") / 2**20 if peer.memory else None, "MB", 0),
            ]
        )
    return f"{as_markdown(rows)}\n{_conditions(run)}\n\n{targets.in_a_sentence(run)}\n"


def full(run: Run) -> str:
    """The page's part that a run fills."""
    machine = ", ".join(f"{name} {value}" for name, value in run.machine.items())
    parts = [
        f"{_conditions(run)}\n\nMachine: {machine}.\n\n",
        "![CPU per request and latency, as bars](images/benchmark.svg)\n\n",
        *(f"{as_markdown(table)}\n" for table in tables.all_tables(run)),
        _peers(run),
        *(f"- {line}\n" for line in tables.remarks(run)),
    ]
    return "".join(parts)


def _conditions(run: Run) -> str:
    day = run.began.partition("T")[0]
    return f"{day}, medians of {run.rounds} interleaved rounds, windows of {run.window_s} s."


def _peers(run: Run) -> str:
    rows = [["proxy", "what it does here", "version"]]
    rows += [[peer.title, peer.what, peer.version or NOTHING] for peer in run.peers.values()]
    return as_markdown(rows).replace("---:", "---") + "\n"


def _with_unit(value: float | None, unit: str, digits: int) -> str:
    return NOTHING if value is None else f"{value:.{digits}f} {unit}"
