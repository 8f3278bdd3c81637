"""What was measured: the records of one run, their medians, and their JSON file."""

from pathlib import Path
from statistics import median

import msgspec

UNSATURATED = 0.9
"""A proxy busy for less of its core than this could have done more: the load was the limit."""

KEPT = 0.97
"""The share of the requests due in a time that must be answered in it."""


class Midway(msgspec.Struct, frozen=True):
    """What stood in the middle of a window: resident bytes, and the smallest share that a worker had of the clients."""

    resident: int
    least_share: float | None


class Sample(msgspec.Struct, frozen=True):
    """One window of load.

    `cpu_us` is the proxy's CPU per answer; `per_s` the answers per second; `busy` the share of its core that the proxy
    used, `foreign` the share that anybody else used there.  `midway` is looked at where there are many connections.
    """

    cpu_us: float
    per_s: float
    busy: float
    foreign: float
    midway: Midway | None = None


class Latency(msgspec.Struct, frozen=True):
    """Latencies at a fixed rate in milliseconds, from the time when each request was due.

    `rate` was asked for and `achieved` answered, per second.  `generator_busy` is the share of its core that the
    generator used, `late_p99_ms` how late it was itself in sending.
    """

    rate: float
    achieved: float
    p50: float
    p90: float
    p99: float
    p999: float
    generator_busy: float
    late_p99_ms: float


class Memory(msgspec.Struct, frozen=True):
    """Resident bytes at rest, and per idle client connection; `largest` is what the largest process has at rest."""

    rest: int
    per_connection: float
    connections: int
    largest: int = 0


class PeerResult(msgspec.Struct):
    """All that was measured of one proxy; `reasons` says of each thing that was not, why."""

    title: str
    what: str
    version: str = ""
    samples: dict[str, list[Sample]] = {}
    latency: list[Latency] = []
    memory: list[Memory] = []
    reasons: dict[str, str] = {}
    remarks: list[str] = []

    def cpu_us(self, workload: str) -> float | None:
        """The median CPU per answer in microseconds, or None."""
        return self._median(workload, "cpu_us")

    def per_s(self, workload: str) -> float | None:
        """The median of answers per second, or None."""
        return self._median(workload, "per_s")

    def midways(self, workload: str) -> list[Midway]:
        """What was seen in the middle of the windows of a workload."""
        return [sample.midway for sample in self.samples.get(workload, []) if sample.midway is not None]

    def least_share(self, workload: str) -> float | None:
        """The smallest share that any worker had in any round, or None."""
        return min((seen.least_share for seen in self.midways(workload) if seen.least_share is not None), default=None)

    def is_saturated(self, workload: str) -> bool:
        """Whether the proxy was the limit, rather than the load."""
        busy = self._median(workload, "busy")
        return busy is not None and busy >= UNSATURATED

    def keeps_rate(self) -> bool:
        """Whether it answered as many requests per second as were due; else its latencies only tell of the queue."""
        return median(latency.achieved / latency.rate for latency in self.latency) >= KEPT

    def _median(self, workload: str, field: str) -> float | None:
        samples = self.samples.get(workload)
        return median(getattr(sample, field) for sample in samples) if samples else None


class Run(msgspec.Struct):
    """One run of the benchmark: where, when (ISO 8601, UTC), how long, and what came out."""

    machine: dict[str, str]
    began: str
    rounds: int
    window_s: int
    peers: dict[str, PeerResult] = {}
    missing: dict[str, str] = {}
    took_s: float = 0.0

    def ratio(self, name: str, to: str, workload: str) -> float | None:
        """CPU per answer of one proxy by that of another, or None where either was not measured."""
        ours, theirs = (self.peers[peer].cpu_us(workload) if peer in self.peers else None for peer in (name, to))
        return ours / theirs if ours and theirs else None

    def paired_ratio(self, name: str, to: str, workload: str) -> float | None:
        """The median of the ratios of CPU per answer, window by window; None where either was not measured.

        For two that differ by little: what a machine does for some seconds, it does to both windows of a pair.
        """
        ours, theirs = (self.peers[peer].samples.get(workload, []) if peer in self.peers else [] for peer in (name, to))
        return (
            median(one.cpu_us / other.cpu_us for one, other in zip(ours, theirs, strict=False))
            if ours and theirs
            else None
        )

    def foreign(self) -> float:
        """The median share of the proxy's core that others used: how disturbed the run was."""
        shares = [s.foreign for peer in self.peers.values() for samples in peer.samples.values() for s in samples]
        return median(shares) if shares else 0.0


def write_run(path: Path, run: Run) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n")


def read_run(path: Path) -> Run:
    return msgspec.json.decode(path.read_bytes(), type=Run)
