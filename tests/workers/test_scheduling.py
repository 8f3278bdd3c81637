"""`workers.scheduling` on this kernel, in processes of their own: what was asked for cannot be taken back."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from gatekeeper.workers import scheduling

ROOT = Path(__file__).parents[2]

ASK = """
import os, threading
from gatekeeper.workers.scheduling import ask_for_longer_turns
{before}
print(ask_for_longer_turns())
def tell():
    lines = open("/proc/thread-self/sched") if os.path.exists("/proc/thread-self/sched") else ()
    slices = [line.split()[-1] for line in lines if line.startswith("se.slice")]
    print(*slices or ["unknown"], os.sched_getscheduler(0), os.nice(0))
tell()
other = threading.Thread(target=tell)
other.start()
other.join()
"""


def ask(before: str = "") -> list[str]:
    """What a process says that asked: whether it was taken; then slice in ns, policy and nice value of two threads."""
    command = [sys.executable, "-c", ASK.format(before=before)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])


@pytest.mark.parametrize("nice", [0, 7])
def test_turns_are_longer_and_all_else_is_as_it_was(nice: int) -> None:
    before = os.nice(0)
    taken, *threads = ask(f"os.nice({nice})")
    assert taken == "True"
    assert len(threads) == 2
    for line in threads:
        slice_ns, policy, now = line.split()
        assert (int(policy), int(now)) == (os.SCHED_OTHER, before + nice)
        if kernel() >= (6, 12) and slice_ns != "unknown":
            assert int(slice_ns) == scheduling.TURN_MS * 1_000_000


def test_another_policy_is_left_alone() -> None:
    taken, first, _ = ask("os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))")
    assert taken == "False"
    assert int(first.split()[1]) == os.SCHED_IDLE


def test_an_unknown_machine_is_asked_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "m68k")
    assert not scheduling.ask_for_longer_turns()
