"""Metrics of several processes as those of one: what is summed, what is not, and that nothing goes backwards."""

import re

from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core.model import Reason
from gatekeeper.telemetry.exposition import Exposition, render
from gatekeeper.telemetry.families import Family, Sample
from gatekeeper.telemetry.telemetry import Telemetry
from gatekeeper.workers.totals import Ended, total
from tests.core.facts import facts


def family(kind: str, name: str, *samples: Sample, labels: tuple[str, ...] = ()) -> Family:
    return Family(kind, name, "help", labels, samples)  # type: ignore[arg-type]


def values(families: list[Family], name: str) -> dict[tuple[str, ...], tuple[float, ...]]:
    (found,) = [one for one in families if one.name == name]
    return dict(found.samples)


def test_counters_are_summed_by_label() -> None:
    one = family("counter", "c_total", (("a",), (1.0,)), (("b",), (2.0,)), labels=("l",))
    other = family("counter", "c_total", (("b",), (10.0,)), (("c",), (5.0,)), labels=("l",))
    assert values(total([[one], [other]]), "c_total") == {("a",): (1.0,), ("b",): (12.0,), ("c",): (5.0,)}


def test_histograms_are_summed_bucket_by_bucket() -> None:
    one, other = family("histogram", "h", ((), (1.0, 0.0, 0.5))), family("histogram", "h", ((), (2.0, 3.0, 0.25)))
    assert values(total([[one], [other]]), "h") == {(): (3.0, 3.0, 0.75)}


def test_what_cannot_be_summed_is_the_supervisors() -> None:
    first = [family("gauge", "process_start_time_seconds", ((), (100.0,))), family("info", "gatekeeper_build_info")]
    second = [family("gauge", "process_start_time_seconds", ((), (200.0,))), family("info", "gatekeeper_build_info")]
    assert values(total([first, second]), "process_start_time_seconds") == {(): (100.0,)}
    build = family("info", "gatekeeper_build_info", (("1", "3"), (1.0,)), labels=("version", "python"))
    assert values(total([[build], [build]]), "gatekeeper_build_info") == {("1", "3"): (1.0,)}


def test_of_those_who_ended_counters_stay_and_gauges_go() -> None:
    ended = Ended()
    assert ended.families == ()
    for count in (3.0, 4.0):
        ended.add(
            [
                family("counter", "c_total", ((), (count,))),
                family("histogram", "h", ((), (count, 1.0))),
                family("gauge", "g", ((), (9.0,))),
                family("info", "i", ((), (1.0,))),
            ]
        )
    assert values(list(ended.families), "c_total") == {(): (7.0,)}
    assert values(list(ended.families), "h") == {(): (7.0, 2.0)}
    assert {one.name for one in ended.families} == {"c_total", "h"}
    assert values(total([[], ended.families, [family("gauge", "g", ((), (2.0,)))]]), "g") == {(): (2.0,)}


COUNTS = st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=1, max_size=4)


@given(COUNTS)
def test_the_sum_never_goes_backwards(lives: list[list[int]]) -> None:
    """Each worker counts on from zero and ends; whenever somebody looks, the sum is at least what it was before."""
    ended, seen = Ended(), 0.0
    for life in lives:
        counted = 0.0
        for step in life:
            counted += step
            now = [family("counter", "c_total", ((), (counted,)))]
            (shown,) = values(total([[], ended.families, now]), "c_total").values()
            assert shown[0] >= seen
            seen = shown[0]
        ended.add([family("counter", "c_total", ((), (counted,)))])
    assert seen == sum(map(sum, lives))


def counted(times: int) -> Telemetry:
    telemetry = Telemetry()
    for number in range(times):
        upstream_seconds = 0.25 if number % 2 else None
        telemetry.record(facts("/x"), "protect /x", Reason.SESSION, None, 200, "i", 0.5, upstream_seconds, 9, "p")
    telemetry.audit("stream_cut")
    telemetry.gauge("gatekeeper_open_streams", "Open.", lambda: times)
    return telemetry


def without_process(text: bytes) -> str:
    return re.sub(r"(?m)^(# \w+ )?process_.*\n", "", text.decode())


def test_two_workers_read_as_one_process_that_did_the_work_of_both() -> None:
    """Durations are such that sums of them are exact."""
    shares = [Exposition(counted(3)).families(), Exposition(counted(4)).families()]
    together, _ = render(lambda: total(shares), "")
    whole = counted(7)
    whole.audit("stream_cut")
    alone, _ = Exposition(whole).render("")
    assert without_process(together) == without_process(alone)


def test_process_metrics_are_summed() -> None:
    mine = Exposition(Telemetry()).families()
    (resident,) = values(mine, "process_resident_memory_bytes").values()
    twice = total([mine, mine])
    assert values(twice, "process_resident_memory_bytes") == {(): (2 * resident[0],)}
    assert values(twice, "process_cpu_seconds_total")[()] == (2 * values(mine, "process_cpu_seconds_total")[()][0],)
