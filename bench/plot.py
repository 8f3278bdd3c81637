"""A picture of a run: bars as SVG.  Needs no library.

It brings its own background, since a page may be dark where the reader's system is light, and the other way round.
"""

from collections.abc import Sequence
from html import escape

import msgspec

from bench.results import Run
from bench.stats import median_of
from bench.tables import PARTLY

WIDTH = 760
LABELS = 130
VALUES = 90
ROW = 26
BAR = 16
HEAD = 44
TAIL = 22
MARGIN = 16
LEGEND = 18

CAPTION = "Bars are medians; lines reach from the lowest to the highest round."

STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
  .title { font-weight: 600; font-size: 14px; }
  .note { fill: #59636e; font-size: 12px; }
  .page { fill: #ffffff; }
  .bar { fill: #afb8c1; }
  .ours { fill: #1a7f5a; }
  .spread { stroke: #1f2328; stroke-width: 1.5; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .note { fill: #9198a1; }
    .page { fill: #0d1117; }
    .bar { fill: #656c76; }
    .ours { fill: #3fb98a; }
    .spread { stroke: #e6edf3; }
  }
"""


class Bar(msgspec.Struct, frozen=True):
    """One row: the value, and the lowest and highest of the rounds."""

    label: str
    value: float
    low: float
    high: float
    is_ours: bool = False


class Panel(msgspec.Struct, frozen=True):
    """One chart: its bars share a scale that begins at nothing."""

    title: str
    bars: list[Bar]
    digits: int = 1


def panels_of(run: Run) -> list[Panel]:
    """The charts that this run has data for, the smallest value first."""
    panels = [
        _cpu_panel(run, "verified", "CPU per verified request, µs"),
        _cpu_panel(run, "redirect", "CPU per redirect of a request without a cookie, µs"),
        _latency_panel(run),
    ]
    return [panel for panel in panels if len(panel.bars) > 1]


def svg(panels: Sequence[Panel]) -> str:
    """The charts one below the other; the same input gives the same bytes."""
    parts: list[str] = []
    top = 0
    for panel in panels:
        parts += _draw(panel, top)
        top += HEAD + ROW * len(panel.bars) + TAIL
    described = "; ".join(_describe(panel) for panel in panels)
    box = f"{-MARGIN} {-MARGIN} {WIDTH + 2 * MARGIN} {top + LEGEND + 2 * MARGIN}"
    x, y, width, height = box.split()
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img" aria-label="Benchmark">',
            f"<desc>{escape(described)}</desc>",
            f"<style>{STYLE}</style>",
            f'<rect class="page" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>',
            *parts,
            f'<text class="note" x="0" y="{top + 14}">{CAPTION}</text>',
            "</svg>",
            "",
        ]
    )


def _cpu_panel(run: Run, workload: str, title: str) -> Panel:
    bars: list[Bar] = []
    for key, peer in run.peers.items():
        value = peer.cpu_us(workload)
        if value is not None and key not in PARTLY:
            all_values = [sample.cpu_us for sample in peer.samples[workload]]
            bars.append(Bar(peer.title, value, min(all_values), max(all_values), key == "gate"))
    return Panel(title, sorted(bars, key=lambda bar: bar.value))


def _latency_panel(run: Run) -> Panel:
    bars: list[Bar] = []
    rate = 0.0
    for key, peer in run.peers.items():
        if peer.latency and peer.keeps_rate():
            all_values = [latency.p99 for latency in peer.latency]
            rate = peer.latency[0].rate
            bars.append(
                Bar(peer.title, median_of(peer.latency, "p99"), min(all_values), max(all_values), key == "gate")
            )
    title = f"99th percentile of the latency at {rate:,.0f} requests per second, ms"
    return Panel(title, sorted(bars, key=lambda bar: bar.value), digits=2)


def _draw(panel: Panel, top: int) -> list[str]:
    widest = max(bar.high for bar in panel.bars)
    scale = (WIDTH - LABELS - VALUES) / widest
    parts = [f'<text class="title" x="0" y="{top + 22}">{escape(panel.title)}</text>']
    for number, bar in enumerate(panel.bars):
        y = top + HEAD + ROW * number
        middle = y + BAR / 2
        width = max(bar.value * scale, 1)
        kind = "bar ours" if bar.is_ours else "bar"
        low, high = LABELS + bar.low * scale, LABELS + bar.high * scale
        parts += [
            f'<text x="{LABELS - 10}" y="{middle + 5:g}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect class="{kind}" x="{LABELS}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>',
            f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{middle:g}" y2="{middle:g}"/>',
            f'<text class="note" x="{max(LABELS + width, high) + 8:.1f}" y="{middle + 5:g}">'
            f"{bar.value:.{panel.digits}f}</text>",
        ]
    return parts


def _describe(panel: Panel) -> str:
    return f"{panel.title}: " + ", ".join(f"{bar.label} {bar.value:.{panel.digits}f}" for bar in panel.bars)
