"""Metrics of several processes as those of one.

Counters and histograms are summed over all that ever were, so that no sum goes backwards when a worker ends; gauges
over those that live.  What cannot be summed is the supervisor's: which version runs, and since when.
"""

from collections.abc import Iterable

from gatekeeper.telemetry.families import Family, Sample

_SUPERVISORS = frozenset({"gatekeeper_build_info", "process_start_time_seconds"})

_Values = dict[tuple[str, ...], tuple[float, ...]]


class Ended:
    """What workers that have ended had counted until they were asked last."""

    def __init__(self) -> None:
        self._families: list[Family] = []

    @property
    def families(self) -> tuple[Family, ...]:
        return tuple(self._families)

    def add(self, families: Iterable[Family]) -> None:
        """Another one has ended.  Its gauges are gone with it."""
        counted = [family for family in families if family.kind in ("counter", "histogram")]
        self._families = total([self._families, counted])


def total(processes: Iterable[Iterable[Family]]) -> list[Family]:
    """The metrics of these processes together; the first one is the supervisor's.  The order is that of appearance."""
    found: dict[str, Family] = {}
    sums: dict[str, _Values] = {}
    for families in processes:
        for family in families:
            if family.name not in found:
                found[family.name] = family
                sums[family.name] = dict(family.samples)
            elif family.name not in _SUPERVISORS:
                _add(sums[family.name], family.samples)
    samples = {name: tuple(values.items()) for name, values in sums.items()}
    return [Family(one.kind, one.name, one.help, one.labels, samples[one.name]) for one in found.values()]


def _add(sums: _Values, samples: Iterable[Sample]) -> None:
    for labels, values in samples:
        known = sums.get(labels)
        sums[labels] = values if known is None else tuple(map(sum, zip(known, values, strict=True)))
