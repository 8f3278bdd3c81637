"""Figures: percentiles, a slope, and what the kernel says of a process."""

import asyncio
import math
import os
from collections.abc import Sequence
from pathlib import Path


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that so many percent of them do not exceed; nan of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """How much y grows for each 1 of x, by least squares; 0 where that cannot be told."""
    count = len(points)
    if count < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_files(pid: int, *, without_port: int | None = None) -> int:
    """How many file descriptors a process has open; on request without those of connections to this TCP port."""
    links = [link for name in os.listdir(f"/proc/{pid}/fd") if (link := _link_of(f"/proc/{pid}/fd/{name}"))]
    if without_port is None:
        return len(links)
    connected: set[str] = set()
    with open(f"/proc/{pid}/net/tcp") as table:
        for line in list(table)[1:]:
            fields = line.split()
            if int(fields[2].rpartition(":")[2], 16) == without_port:
                connected.add(f"socket:[{fields[9]}]")
    return sum(link not in connected for link in links)


def _link_of(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""


class Memory:
    """The resident memory of a process, in MB, sampled four times a second while `watch` runs."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.start_mb = memory_mb(pid)
        self.peak_mb = self.start_mb

    def __str__(self) -> str:
        return f"{self.start_mb:.1f} MB before, {self.peak_mb:.1f} MB at most (+{self.growth_mb:.1f} MB)"

    @property
    def growth_mb(self) -> float:
        return self.peak_mb - self.start_mb

    async def watch(self) -> None:
        while True:
            self.peak_mb = max(self.peak_mb, memory_mb(self._pid))
            await asyncio.sleep(0.25)
