"""Tables of a run, for the terminal and as Markdown."""

from collections.abc import Sequence

from bench.results import PeerResult, Run
from bench.stats import median_of
from bench.targets import targets_table
from bench.workloads import WORKLOADS

NOTHING = "–"
UNQUIET = 0.05
STRAINED = 0.7
"""A generator that uses more of its core than this measures itself."""

CROWDED = "crowded"
"""This workload has a table of its own."""

PAIRED = "paired"
"""This one has a row among the targets alone."""

UNSIGNED = "unsigned"
"""The gate without assertions has a row below the gate's, where the CPU is told."""

PARTLY = ("gate2", UNSIGNED)
"""Measured for one thing alone."""

Row = list[str]


def cpu_table(run: Run) -> list[Row]:
    """CPU per answer in microseconds; the first row names the columns."""
    names = _measured(run)
    rows = [["CPU per request, µs", *(WORKLOADS[name].title for name in names), "× nginx", "× Go"]]
    for key, peer in _rows_of(run, UNSIGNED):
        ratios = [_times(run.ratio(key, to, "verified")) for to in ("nginx", "go")]
        rows.append([peer.title, *(_number(peer.cpu_us(name)) for name in names), *ratios])
    return rows


def ratio_table(run: Run, to: str) -> list[Row]:
    """CPU per answer as a multiple of that of the proxy `to`."""
    names = _measured(run)
    rows = [[f"× {run.peers[to].title}", *(WORKLOADS[name].title for name in names)]]
    for key, peer in _rows_of(run):
        if key != to:
            rows.append([peer.title, *(_times(run.ratio(key, to, name)) for name in names)])
    return rows


def rate_table(run: Run) -> list[Row]:
    """Answers per second; ≥ where the load was the limit, not the proxy."""
    names = _measured(run)
    rows = [["per second", *(WORKLOADS[name].title for name in names)]]
    for _, peer in _rows_of(run):
        rows.append([peer.title, *(_rate(peer, name) for name in names)])
    return rows


def connections_table(run: Run) -> list[Row]:
    """CPU per verified GET over 32 and over 1,024 connections; what the latter take, and how workers share them."""
    head = ["verified GET", "32 connections, µs", "1,024 connections, µs", "ratio"]
    rows = [[*head, "memory with 1,024, MB", "smallest share of a worker"]]
    for peer in run.peers.values():
        few, many = peer.cpu_us("verified"), peer.cpu_us(CROWDED)
        if many is None:
            continue
        memory, share = peer.midways(CROWDED), peer.least_share(CROWDED)
        rows.append(
            [
                peer.title,
                *(_number(few), _number(many), _times(many / few if few else None)),
                f"{median_of(memory, 'resident') / 2**20:.1f}" if memory else NOTHING,
                NOTHING if share is None else f"{share:.0%}",
            ]
        )
    return rows


def latency_table(run: Run) -> list[Row]:
    """Percentiles of the latency in milliseconds."""
    rows = [["latency, ms", "asked per s", "answered per s", "p50", "p90", "p99", "p99.9", "generator late p99"]]
    for peer in run.peers.values():
        if peer.latency:
            fields = ("rate", "achieved"), ("p50", "p90", "p99", "p999", "late_p99_ms")
            rates = [f"{median_of(peer.latency, field):,.0f}" for field in fields[0]]
            times = [f"{median_of(peer.latency, field):.2f}" for field in fields[1]]
            rows.append([peer.title, *rates, *(times if peer.keeps_rate() else [NOTHING] * len(times))])
    return rows


def memory_table(run: Run) -> list[Row]:
    """Memory at rest in MB, and per idle client connection in KB (1,024 bytes)."""
    rows = [["memory", "at rest, MB", "per idle connection, KB"]]
    for peer in run.peers.values():
        if peer.memory:
            rest, each = median_of(peer.memory, "rest"), median_of(peer.memory, "per_connection")
            rows.append([peer.title, f"{rest / 2**20:.1f}", f"{each / 1024:.1f}"])
    return rows


def all_tables(run: Run) -> list[list[Row]]:
    """Every table that has something to show."""
    tables = [targets_table(run), cpu_table(run)]
    tables += [ratio_table(run, to) for to in ("nginx", "go") if to in run.peers]
    tables += [rate_table(run), connections_table(run), latency_table(run), memory_table(run)]
    return [table for table in tables if len(table) > 1]


def remarks(run: Run) -> list[str]:
    """What the reader must know of: what is missing and why, and how quiet the machine was."""
    lines = [f"{name}: not measured, {reason}" for name, reason in run.missing.items()]
    for peer in run.peers.values():
        by_reason: dict[str, list[str]] = {}
        for name, reason in peer.reasons.items():
            by_reason.setdefault(reason, []).append(WORKLOADS[name].title if name in WORKLOADS else name)
        lines += [f"{peer.title}, {', '.join(names)}: {reason}" for reason, names in by_reason.items()]
        lines += [f"{peer.title}: {remark}" for remark in peer.remarks]
        lines += _latency_remarks(peer)
    others = run.foreign()
    quiet = "" if others < UNQUIET else ": the machine was not quiet"
    lines.append(f"others used {others:.1%} of the proxies' core (median of all windows){quiet}")
    return lines


def as_text(table: Sequence[Row]) -> str:
    """The table for a terminal: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "─" * max(map(len, lines)))
    return "\n".join(lines)


def as_markdown(table: Sequence[Row]) -> str:
    """The table in Markdown; the gate's row in bold."""
    head, *rows = table
    lines = [_line(head), _line(["---", *("---:" for _ in head[1:])])]
    lines += [_line([f"**{cell}**" for cell in row] if row[0] == "gatekeeper" else row) for row in rows]
    return "\n".join(lines) + "\n"


def _latency_remarks(peer: PeerResult) -> list[str]:
    if not peer.latency:
        return []
    lines: list[str] = []
    if not peer.keeps_rate():
        lines.append(f"{peer.title}, latency: it could not keep the rate")
    busy = median_of(peer.latency, "generator_busy")
    if busy > STRAINED:
        lines.append(f"{peer.title}, latency: the generator used {busy:.0%} of its core and adds to the latencies")
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _measured(run: Run) -> list[str]:
    names = [name for name in WORKLOADS if name not in (CROWDED, PAIRED)]
    return [name for name in names if any(name in peer.samples for peer in run.peers.values())]


def _rows_of(run: Run, also: str = "") -> list[tuple[str, PeerResult]]:
    """The proxies of which everything is measured, and this one."""
    return [(key, peer) for key, peer in run.peers.items() if key == also or key not in PARTLY]


def _number(value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _times(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"


def _rate(peer: PeerResult, workload: str) -> str:
    value = peer.per_s(workload)
    if value is None:
        return NOTHING
    return f"{'' if peer.is_saturated(workload) else '≥ '}{value:,.0f}"
