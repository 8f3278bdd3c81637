"""What processes and cores used, from /proc.  Linux only.

CPU is in seconds; the kernel counts it in ticks of 10 ms, so windows of seconds are needed.  Memory is in bytes.
"""

import os
from pathlib import Path

import msgspec

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_ESTABLISHED = "01"


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


def parse_accepted(text: str, port: int) -> set[int]:
    """The inodes of the established connections whose local port is this one, from the text of /proc/net/tcp."""
    found: set[int] = set()
    for line in text.splitlines()[1:]:
        fields = line.split()
        if fields[3] == _ESTABLISHED and int(fields[1].rpartition(":")[2], 16) == port:
            found.add(int(fields[9]))
    return found - {0}  # connected by the kernel, and nobody has accepted it yet


def least_share(counts: list[int], workers: int) -> float | None:
    """The smallest share that one of so many workers has, from the count of each process; None of nothing.

    Processes beyond the workers, a supervisor, have none; a worker that is not there has none either.
    """
    largest = (sorted(counts, reverse=True) + [0] * workers)[:workers]
    return min(largest) / sum(counts) if sum(counts) else None


def processes_of(root: int) -> list[int]:
    """This process and its descendants."""
    return [stat.pid for stat in tree_of(root, _all_stats())]


def cpu_seconds(root: int) -> float:
    """User and system time of this process and its descendants so far."""
    return sum(stat.ticks for stat in tree_of(root, _all_stats())) / TICKS_PER_S


def core_seconds(core: int) -> float:
    """How long this core was busy since boot."""
    return parse_core((PROC / "stat").read_text(), core) / TICKS_PER_S


def resident_bytes(root: int) -> int:
    """Resident memory of this process and its descendants; pages that several share count once for each."""
    return sum(resident_of_each(root))


def resident_of_each(root: int) -> list[int]:
    """Resident memory of this process and of each of its descendants."""
    return [parse_rollup((PROC / str(stat.pid) / "smaps_rollup").read_text()) for stat in tree_of(root, _all_stats())]


def connections_of_each(root: int, port: int) -> list[int]:
    """How many clients of this port this process and each of its descendants are connected with (IPv4)."""
    accepted = parse_accepted((PROC / "net" / "tcp").read_text(), port)
    return [len(accepted & _sockets_of(stat.pid)) for stat in tree_of(root, _all_stats())]


def _sockets_of(pid: int) -> set[int]:
    """The inodes of the sockets that a process has open."""
    found: set[int] = set()
    for link in (PROC / str(pid) / "fd").iterdir():
        try:
            target = os.readlink(link)
        except FileNotFoundError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found


def _all_stats() -> list[Stat]:
    found: list[Stat] = []
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            try:
                found.append(parse_stat((folder / "stat").read_text()))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended meanwhile
    return found
