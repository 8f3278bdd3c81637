"""Verdicts on runs whose figures are known: met, missed, not measured."""

import msgspec
import pytest

from bench.results import Memory, Midway, PeerResult, Run
from bench.targets import MISSING, TARGETS, Target, Verdict, in_a_sentence, judge, targets_table, verdicts
from tests.bench.records import a_run, latency, samples


def verdict(run: Run, what: str, unit: str) -> Verdict:
    return next(judge(target, run) for target in TARGETS if (target.what, target.unit) == (what, unit))


@pytest.mark.parametrize(
    ("value", "is_floor", "is_met"),
    [(1.499, False, True), (1.5, False, True), (1.501, False, False), (1.5, True, True), (1.499, True, False)],
)
def test_the_limit_itself_is_met_and_figures_are_not_rounded_first(value: float, is_floor: bool, is_met: bool) -> None:
    target = Target("x", 1.5, " × y", lambda _: value, is_floor)
    found = judge(target, a_run())
    assert found.is_met is is_met
    assert found.measured == "1.50 × y"
    assert found.limit == ("≥ 1.50 × y" if is_floor else "≤ 1.50 × y")


def test_ratios_of_medians() -> None:
    assert verdict(a_run(), "verified GET", " × Go") == Verdict("verified GET", "≤ 0.60 × Go", "0.60 × Go", True)
    assert verdict(a_run(), "verified GET", " × nginx").measured == "3.00 × nginx"


def test_what_the_assertion_costs() -> None:
    what, unit = "verified GET with the assertion", " × without"
    run = a_run()
    assert verdict(run, what, unit).is_met is None
    run.peers["gate"].samples["paired"] = samples(30, 64, 33)
    run.peers["unsigned"].samples["paired"] = samples(20, 60, 30)  # a machine half as fast for a while
    assert verdict(run, what, unit) == Verdict(what, "≤ 1.05 × without", "1.10 × without", False)
    run.peers["unsigned"].samples["paired"] = samples(30, 61, 30)
    assert verdict(run, what, unit) == Verdict(what, "≤ 1.05 × without", "1.05 × without", True)
    del run.peers["unsigned"]
    assert verdict(run, what, unit).is_met is None


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    found = verdict(a_run(), "mix", " × Go")
    assert (found.is_met, found.measured, found.word) == (None, MISSING, MISSING)


def test_an_empty_run_meets_nothing() -> None:
    run = a_run()
    run.peers = {}
    assert {found.is_met for found in verdicts(run)} == {None}
    assert len(targets_table(run)) == 1


def test_latency_needs_two_that_keep_the_rate() -> None:
    run = a_run()
    what = "99th percentile at half of Go's rate"
    assert verdict(run, what, " × Go").is_met is None
    run.peers["go"].latency = [latency(4.0)]
    assert verdict(run, what, " × Go") == Verdict(what, "≤ 1.00 × Go", "0.50 × Go", True)
    run.peers["gate"].latency = [latency(1.0, achieved=500)]
    assert verdict(run, what, " × Go").is_met is False
    assert verdict(run, what, " × Go").measured == "could not keep the rate"


def test_memory_is_that_of_the_largest_worker() -> None:
    run = a_run()
    assert verdict(run, "a worker at rest", " MB").measured == "64.0 MB"
    assert verdict(run, "an idle connection", " KB").measured == "10.0 KB"
    run.peers["gate2"] = PeerResult("two", "", memory=[Memory(200 * 2**20, 1, 1024, largest=90 * 2**20)])
    assert verdict(run, "a worker at rest", " MB").measured == "90.0 MB"
    assert verdict(run, "a worker at rest", " MB").is_met is False


def test_two_workers_are_compared_with_one() -> None:
    run = a_run()
    crowded = [
        msgspec.structs.replace(s, midway=Midway(1, share))
        for s, share in zip(samples(36, 33, 90), (0.5, 0.41, 0.45), strict=True)
    ]
    run.peers["gate"].samples["crowded"] = samples(31)
    run.peers["gate2"] = PeerResult("two", "", samples={"paired": samples(33, 22), "crowded": crowded})
    run.peers["gate"].samples["paired"] = samples(30, 20)
    assert verdict(run, "two workers, 32 connections", " × one").measured == "1.10 × one"
    assert verdict(run, "two workers, 1,024 connections", " × one").measured == "1.16 × one"
    share = verdict(run, "smallest share of two workers in 1,024 connections", "%")
    assert (share.measured, share.limit, share.is_met) == ("41%", "≥ 40%", True)


def test_a_sentence_names_what_is_missed_and_what_is_missing() -> None:
    run = a_run()
    run.peers["gate"].samples["redirect"] = samples(100)
    run.peers["go"].samples["redirect"] = samples(50)
    run.peers["gate"].samples["paired"] = samples(32)
    run.peers["unsigned"].samples["paired"] = samples(30)
    text = in_a_sentence(run)
    missed = (
        "verified GET with the assertion (1.07 × without, not ≤ 1.05 × without), redirect (2.00 × Go, not ≤ 1.50 × Go)"
    )
    assert text.startswith(f"4 of 13 targets met; missed: {missed}; not measured: mix, ")


def test_the_table_has_a_row_for_each_target() -> None:
    table = targets_table(a_run())
    assert table[0] == ["target", "limit", "measured", "verdict"]
    assert len(table) == 1 + len(TARGETS)
    assert ["mix", "≤ 0.80 × Go", MISSING, MISSING] in table
    assert ["verified GET", "≤ 0.60 × Go", "0.60 × Go", "met"] in table
