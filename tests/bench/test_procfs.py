"""/proc, from fixed samples as Linux 6 writes them, and of this very process."""

import os
import socket
import time

import pytest

from bench.procfs import (
    Stat,
    connections_of_each,
    cpu_seconds,
    least_share,
    parse_accepted,
    parse_core,
    parse_rollup,
    parse_stat,
    resident_bytes,
    resident_of_each,
    tree_of,
)

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

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 5001 1 0000000000000000 100
   1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 5002 1 0000000000000000 20 4
   2: 0100007F:D431 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 5003 1 0000000000000000 20 4
   3: 0200007F:1F90 0100007F:D432 01 00000000:00000000 00:00000000 00000000     0        0 5004 1 0000000000000000 20 4
   4: 0100007F:1F90 0100007F:D433 06 00000000:00000000 03:00000E5A 00000000     0        0 0 3 0000000000000000
   5: 0100007F:1F90 0100007F:D434 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 20 4
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


def test_accepted_are_established_and_local_and_taken() -> None:
    assert parse_accepted(TCP, 0x1F90) == {5002, 5004}
    assert parse_accepted(TCP, 0xD431) == {5003}
    assert parse_accepted(TCP, 1) == set()


@pytest.mark.parametrize(
    ("counts", "workers", "share"),
    [
        pytest.param([0, 600, 400], 2, 0.4, id="a-supervisor-has-none"),
        pytest.param([0, 1000, 0], 2, 0.0, id="one-has-all"),
        pytest.param([1000], 2, 0.0, id="one-is-not-there"),
        pytest.param([1000], 1, 1.0, id="one-worker"),
        pytest.param([0, 0], 2, None, id="nobody-came"),
    ],
)
def test_the_least_share_is_that_of_a_worker(counts: list[int], workers: int, share: float | None) -> None:
    assert least_share(counts, workers) == share


def test_connections_of_this_process_are_those_that_it_accepted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        taken = [server.accept()[0] for _ in range(2)]
        assert connections_of_each(os.getpid(), port)[0] == 2
        for open_socket in clients + taken:
            open_socket.close()


def test_resident_of_each_adds_up() -> None:
    assert sum(resident_of_each(os.getpid())) == pytest.approx(resident_bytes(os.getpid()), rel=0.05)
