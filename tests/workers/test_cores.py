"""How many workers `auto` is: cores by the scheduler's mask, and what the control groups allow of them."""

import os
from pathlib import Path

import pytest

from gatekeeper.workers.cores import core_quota, count_for, worker_count


@pytest.mark.parametrize(
    ("cores", "quota", "count"),
    [
        pytest.param(8, None, 8, id="no-quota"),
        pytest.param(8, 1.5, 2, id="rounded-up"),
        pytest.param(8, 2.0, 2, id="whole"),
        pytest.param(2, 16.0, 2, id="more-quota-than-cores"),
        pytest.param(4, 0.1, 1, id="a-tenth-of-a-core"),
        pytest.param(1, None, 1, id="one-core"),
        pytest.param(0, None, 1, id="never-none"),
        pytest.param(512, None, 256, id="as-many-as-may-be"),
    ],
)
def test_count(cores: int, quota: float | None, count: int) -> None:
    assert count_for(cores, quota) == count


def test_a_number_is_taken_as_it_is() -> None:
    assert worker_count(7) == 7


def test_auto_is_not_more_than_the_mask_allows() -> None:
    """In a process that may use one core only; the test's own mask is put back."""
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mine)})
        assert worker_count("auto") == 1
    finally:
        os.sched_setaffinity(0, mine)


def group(root: Path, path: str, **files: str) -> None:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_the_tightest_group_around_counts(tmp_path: Path) -> None:
    group(tmp_path, "app.slice", cpu__max="150000 100000\n")
    group(tmp_path, "app.slice/gate.service", cpu__max="max 100000\n")
    assert core_quota("0::/app.slice/gate.service\n", tmp_path) == 1.5
    group(tmp_path, "app.slice/gate.service", cpu__max="50000 100000\n")
    assert core_quota("0::/app.slice/gate.service\n", tmp_path) == 0.5


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    group(tmp_path, ".", cpu__max="300000 100000\n")
    assert core_quota("0::/\n", tmp_path) == 3.0
    assert core_quota("0::/../elsewhere\n", tmp_path) == 3.0


def test_no_limit(tmp_path: Path) -> None:
    group(tmp_path, "x", cpu__max="max 100000\n")
    assert core_quota("0::/x\n", tmp_path) is None
    assert core_quota("", tmp_path) is None
    assert core_quota("nonsense\n", tmp_path / "none") is None


@pytest.mark.parametrize("text", ["", "x 100000", "100000", "100000 0", "-1 100000"])
def test_what_cannot_be_read_is_no_limit(tmp_path: Path, text: str) -> None:
    group(tmp_path, ".", cpu__max=text)
    assert core_quota("0::/\n", tmp_path) is None


def test_version_1(tmp_path: Path) -> None:
    own = "4:memory:/box\n3:cpu,cpuacct:/box\n0::/\n"
    group(tmp_path, "cpu,cpuacct/box", cpu__cfs_quota_us="250000\n", cpu__cfs_period_us="100000\n")
    assert core_quota(own, tmp_path) == 2.5
    group(tmp_path, "cpu,cpuacct/box", cpu__cfs_quota_us="-1\n")
    assert core_quota(own, tmp_path) is None


def test_version_1_in_a_container_whose_root_is_its_group(tmp_path: Path) -> None:
    group(tmp_path, "cpu", cpu__cfs_quota_us="20000\n", cpu__cfs_period_us="10000\n")
    assert core_quota("3:cpu:/docker/0123\n", tmp_path) == 2.0


def test_quotas_of_other_controllers_do_not_count(tmp_path: Path) -> None:
    group(tmp_path, "memory", cpu__cfs_quota_us="20000\n", cpu__cfs_period_us="10000\n")
    assert core_quota("3:memory:/\n", tmp_path) is None
