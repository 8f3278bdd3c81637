"""What processes and cores used, from /proc.  Linux only.

CPU is in seconds; the kernel counts it in ticks of 10 ms, so windows of seconds are needed.  Memory is in bytes.
"""

import os
from pathlib import Path

import msgspec

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Stat(msgspec.Struct, frozen=True, gc=False):
    """One process: its parent, and the user and system time of all its threads in ticks."""

    pid: int
    parent: int
    ticks: int


def parse_stat(text: str) -> Stat:
    """A line of /proc/PID/stat.  The name stands in parentheses and may hold blanks and parentheses itself."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return Stat(int(head.partition(" ")[0]), int(fields[1]), int(fields[11]) + int(fields[12]))


def parse_core(text: str, core: int) -> int:
    """Ticks in which this core was not idle, from the text of /proc/stat; stolen time counts.

    Raises ValueError if there is no such core.
    """
    for line in text.splitlines():
        name, *numbers = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, numbers[:8])
            return user + nice + system + irq + softirq + steal
    raise ValueError(f"there is no core {core}")


def parse_rollup(text: str) -> int:
    """Resident bytes, from the text of /proc/PID/smaps_rollup."""
    line = next(line for line in text.splitlines() if line.startswith("Rss:"))
    return int(line.split()[1]) * 1024


def tree_of(root: int, stats: list[Stat]) -> list[Stat]:
    """Those of `stats` that are the process `root` or descend from it."""
    children: dict[int, list[Stat]] = {}
    for stat in stats:
        children.setdefault(stat.parent, []).append(stat)
    found = [stat for stat in stats if stat.pid == root]
    for stat in found:  # grows while it is read: breadth first
        found += children.get(stat.pid, [])
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of this process and its descendants so far."""
    return sum(stat.ticks for stat in tree_of(root, _all_stats())) / TICKS_PER_S


def core_seconds(core: int) -> float:
    """How long this core was busy since boot."""
    return parse_core((PROC / "stat").read_text(), core) / TICKS_PER_S


def resident_bytes(root: int) -> int:
    """Resident memory of this process and its descendants; pages that several share count once for each."""
    tree = tree_of(root, _all_stats())
    return sum(parse_rollup((PROC / str(stat.pid) / "smaps_rollup").read_text()) for stat in tree)


def _all_stats() -> list[Stat]:
    found: list[Stat] = []
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            try:
                found.append(parse_stat((folder / "stat").read_text()))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended meanwhile
    return found
