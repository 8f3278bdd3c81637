"""How many workers `workers: auto` is: one for each core that this process may use.

What a scheduler's mask allows, and what a container's quota pays for (control groups, version 2 or 1): a quota of one
and a half cores keeps two workers busy.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from gatekeeper.config.schema import MOST_WORKERS

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def worker_count(wanted: int | str) -> int:
    """How many workers to run, for the setting's number or `auto`."""
    return wanted if isinstance(wanted, int) else count_for(_usable_cores(), core_quota(_own_cgroups(), _CGROUPS))


def count_for(cores: int, quota: float | None) -> int:
    """How many workers these cores and this quota of cores (None for no limit) are worth."""
    count = cores if quota is None else min(cores, math.ceil(quota))
    return max(1, min(count, MOST_WORKERS))


def core_quota(own: str, root: Path) -> float | None:
    """How many cores' time the control groups allow, or None for no limit.

    `own` is the text of /proc/self/cgroup, `root` where control groups are mounted.  The tightest limit of a group and
    all around it holds; a container often sees its own group as the root.
    """
    quotas = [quota for folder in _folders(own, root) if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _folders(own: str, root: Path) -> Iterator[Path]:
    """The folders of our groups that may limit processor time, inside a container and out of one."""
    for line in own.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        names = controllers.split(",")
        if number != "0" and "cpu" not in names:
            continue
        mounts = [root] if number == "0" else [root / controllers, root / "cpu"]
        group_path = PurePosixPath(group.lstrip("/"))
        for mount in mounts:
            yield from (mount / part for part in (group_path, *group_path.parents))


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except (OSError, ValueError):  # no such group, no such controller, or `max`
        return None


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _own_cgroups() -> str:
    try:
        return _OWN_CGROUPS.read_text()
    except OSError:
        return ""
