"""Metrics as Prometheus reads them, made from plain counters when they are asked for.

No label holds a path, a user, an address or anything else that a client chooses: rules and upstreams are named in the
configuration, the rest are fixed words.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gatekeeper.telemetry.counts import BOUNDS
from gatekeeper.telemetry.families import Family, read_families, read_process
from gatekeeper.telemetry.telemetry import Telemetry


class Exposition:
    """The metrics of a Telemetry, and of the process, in the format that the reader asks for."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._process = ProcessCollector(registry=None)

    def families(self) -> list[Family]:
        """The metrics as records."""
        return [*read_families(self._telemetry), *read_process(self._process)]

    def render(self, accept: str) -> tuple[bytes, str]:
        """The metrics and their Content-Type, for a request with this Accept header ("" for none)."""
        return render(self.families, accept)

    def names(self) -> list[str]:
        """The names of all metrics, as they stand in the text format, without a histogram's suffixes."""
        return [family.name for family in self.families()]


def render(read: Callable[[], Iterable[Family]], accept: str) -> tuple[bytes, str]:
    """These metrics in the format that an Accept header asks for, and their Content-Type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(read))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Families(Collector):
    def __init__(self, read: Callable[[], Iterable[Family]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        return map(_metric, self._read())


def _metric(family: Family) -> Metric:
    if family.kind == "histogram":
        return _histogram(family)
    if family.kind == "info":
        ((values, _),) = family.samples
        named = dict(zip(family.labels, values, strict=True))
        return InfoMetricFamily(family.name.removesuffix("_info"), family.help, value=named)
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for values, (value,) in family.samples:
        metric.add_metric(values, value)
    return metric


def _histogram(family: Family) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    for values, (*counts, total) in family.samples:
        buckets = [(_bound_text(bound), sum) for bound, sum in zip((*BOUNDS, None), accumulate(counts), strict=True)]
        metric.add_metric(values, buckets, total)
    return metric


def _bound_text(bound: float | None) -> str:
    return "+Inf" if bound is None else str(bound)
