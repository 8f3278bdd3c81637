"""The targets that the gate is held to, and whether a run met them."""

import math
from collections.abc import Callable

import msgspec

from bench.results import Run
from bench.stats import median_of

MISSING = "not measured"


class Target(msgspec.Struct, frozen=True):
    """One target.  `measured` gives the run's figure, None where it has none.

    `unit` is written behind figures, with a blank of its own where it needs one.  With `is_floor` the limit is the
    least that is allowed, else the most.
    """

    what: str
    limit: float
    unit: str
    measured: Callable[[Run], float | None]
    is_floor: bool = False


class Verdict(msgspec.Struct, frozen=True):
    """A target's limit, the figure, and whether it is met, all as text but for `is_met`: None where not measured."""

    what: str
    limit: str
    measured: str
    is_met: bool | None

    @property
    def word(self) -> str:
        return MISSING if self.is_met is None else "met" if self.is_met else "missed"


def judge(target: Target, run: Run) -> Verdict:
    """What this run says of a target.  The figure itself is compared, not what is left of it in the table."""
    value = target.measured(run)
    limit = f"{'≥' if target.is_floor else '≤'} {_figure(target, target.limit)}"
    if value is None:
        return Verdict(target.what, limit, MISSING, None)
    is_met = value >= target.limit if target.is_floor else value <= target.limit
    return Verdict(target.what, limit, _figure(target, value), is_met)


def verdicts(run: Run) -> list[Verdict]:
    """What this run says of each target."""
    return [judge(target, run) for target in TARGETS]


def targets_table(run: Run) -> list[list[str]]:
    """All targets, met or not; only the first row where the gate was not measured."""
    rows = [["target", "limit", "measured", "verdict"]]
    if "gate" in run.peers:
        rows += [[verdict.what, verdict.limit, verdict.measured, verdict.word] for verdict in verdicts(run)]
    return rows


def in_a_sentence(run: Run) -> str:
    """How many targets are met, and which are not."""
    found = verdicts(run)
    missed = [
        f"{verdict.what} ({verdict.measured}, not {verdict.limit})" for verdict in found if verdict.is_met is False
    ]
    missing = [verdict.what for verdict in found if verdict.is_met is None]
    parts = [f"{sum(verdict.is_met is True for verdict in found)} of {len(found)} targets met"]
    parts += [f"missed: {', '.join(missed)}"] if missed else []
    parts += [f"{MISSING}: {', '.join(missing)}"] if missing else []
    return "; ".join(parts) + "."


def _figure(target: Target, value: float) -> str:
    if math.isinf(value):
        return "could not keep the rate"
    if target.unit == "%":
        return f"{value:.0%}"
    digits = 2 if target.unit.startswith(" ×") else 1
    return f"{value:.{digits}f}{target.unit}"


def _ratio(workload: str, to: str, of: str = "gate") -> Callable[[Run], float | None]:
    return lambda run: run.ratio(of, to, workload)


def _paired(of: str, to: str) -> Callable[[Run], float | None]:
    return lambda run: run.paired_ratio(of, to, "paired")


def _p99_ratio(run: Run) -> float | None:
    """The gate's 99th percentile by Go's; infinite where the gate could not keep the rate."""
    gate, go = run.peers.get("gate"), run.peers.get("go")
    if gate is None or go is None or not gate.latency or not go.latency or not go.keeps_rate():
        return None
    return median_of(gate.latency, "p99") / median_of(go.latency, "p99") if gate.keeps_rate() else math.inf


def _memory_at_rest(run: Run) -> float | None:
    """MB of the largest worker, whether it is the only one or one of two."""
    memories = [memory for name in ("gate", "gate2") if name in run.peers for memory in run.peers[name].memory]
    return max((memory.largest or memory.rest for memory in memories), default=0) / 2**20 or None


def _memory_per_connection(run: Run) -> float | None:
    memories = run.peers["gate"].memory if "gate" in run.peers else []
    return median_of(memories, "per_connection") / 1024 if memories else None


def _least_share(run: Run) -> float | None:
    return run.peers["gate2"].least_share("crowded") if "gate2" in run.peers else None


TARGETS: tuple[Target, ...] = (
    Target("verified GET", 0.6, " × Go", _ratio("verified", "go")),
    Target("verified GET", 3, " × nginx", _ratio("verified", "nginx")),
    Target(
        "verified GET with the assertion",
        1.05,
        " × without",
        _paired("gate", "unsigned"),
    ),
    Target("mix", 0.8, " × Go", _ratio("mixed", "go")),
    Target("redirect", 1.5, " × Go", _ratio("redirect", "go")),
    Target("1 MB down", 1.5, " × nginx", _ratio("down", "nginx")),
    Target("1 MB up", 1.5, " × nginx", _ratio("up", "nginx")),
    Target("99th percentile at half of Go's rate", 1, " × Go", _p99_ratio),
    Target("two workers, 32 connections", 1.1, " × one", _paired("gate2", "gate")),
    Target("two workers, 1,024 connections", 1.1, " × one", _ratio("crowded", "gate", "gate2")),
    Target("smallest share of two workers in 1,024 connections", 0.4, "%", _least_share, is_floor=True),
    Target("a worker at rest", 80, " MB", _memory_at_rest),
    Target("an idle connection", 20, " KB", _memory_per_connection),
)
