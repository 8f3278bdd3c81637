"""/proc, from fixed samples as Linux 6 writes them, and of this very process."""

import os
import time

import pytest

from bench.procfs import Stat, cpu_seconds, parse_core, parse_rollup, parse_stat, resident_bytes, tree_of

STAT = (
    "4242 (a b) c) S 4200 4242 4242 0 -1 4194560 27914 0 3 0 1507 268 11 12 20 0 9 0 123456 1268000000 9000 "
    "18446744073709551615 1 1 0 0 0 0 0 16781312 134234626 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)
CPUS = """\
cpu  3000 40 500 90000 700 0 60 8 0 0
cpu0 1000 10 200 50000 300 7 20 5 0 0
cpu1 2000 30 300 40000 400 0 40 3 0 0
intr 12345 0 0
"""
ROLLUP = """\
55d0a0000000-7ffd9b7fe000 ---p 00000000 00:00 0                          [rollup]
Rss:               12340 kB
Pss:                9876 kB
Private_Dirty:      4321 kB
"""


def test_stat_of_a_process_whose_name_has_parentheses() -> None:
    assert parse_stat(STAT) == Stat(pid=4242, parent=4200, ticks=1507 + 268)


def test_a_core_is_busy_but_for_idle_and_iowait() -> None:
    assert parse_core(CPUS, 0) == 1000 + 10 + 200 + 7 + 20 + 5
    assert parse_core(CPUS, 1) == 2000 + 30 + 300 + 40 + 3


def test_a_core_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="no core 2"):
        parse_core(CPUS, 2)


def test_resident_memory_in_bytes() -> None:
    assert parse_rollup(ROLLUP) == 12340 * 1024


def test_tree_has_descendants_whatever_the_order_of_ids() -> None:
    stats = [Stat(5, 9, 1), Stat(9, 30, 2), Stat(30, 1, 4), Stat(31, 1, 8), Stat(6, 5, 16)]
    assert sum(stat.ticks for stat in tree_of(30, stats)) == 4 + 2 + 1 + 16


def test_tree_of_a_process_that_has_ended_is_empty() -> None:
    assert tree_of(77, [Stat(5, 9, 1)]) == []


def test_this_process_has_used_what_the_clock_says() -> None:
    before = time.process_time()
    counted = cpu_seconds(os.getpid())
    assert before - 0.05 < counted
    assert resident_bytes(os.getpid()) > 2**20
