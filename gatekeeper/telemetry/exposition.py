"""Metrics as Prometheus reads them, made from plain counters when they are asked for.

No label holds a path, a user, an address or anything else that a client chooses: rules and upstreams are named in the
configuration, the rest are fixed words.
"""

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
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

from gatekeeper import __version__
from gatekeeper.telemetry.counts import BOUNDS, Histogram, decision_of
from gatekeeper.telemetry.telemetry import Readings, Source, Telemetry

_Values = Iterable[tuple[tuple[str, ...], float]]


class Exposition:
    """The metrics of a Telemetry, and of the process, in the format that the reader asks for."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_TelemetryCollector(telemetry))
        ProcessCollector(registry=self._registry)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The metrics and their Content-Type, for a request with this Accept header ("" for none)."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def names(self) -> list[str]:
        """The names of all metrics, as they stand in the text format, without a histogram's suffixes."""
        return [_text_name(metric) for metric in self._registry.collect()]


class _TelemetryCollector(Collector):
    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterator[Metric]:
        telemetry = self._telemetry
        yield from _of_requests(telemetry)
        for tally in telemetry.tallies:
            yield _counter(tally.name, tally.help, tally.labels, tuple(tally.values.items()))
        for source in telemetry.sources:
            yield _of_source(source)
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("gatekeeper_build", "The running version.", value=build)


def _of_requests(telemetry: Telemetry) -> Iterator[Metric]:
    decisions: Counter[tuple[str, ...]] = Counter()
    classes: Counter[tuple[str, ...]] = Counter()
    for (rule, reason, status), count in tuple(telemetry.requests.items()):
        decisions[decision_of(reason, status), reason.value, rule] += count
        classes[(f"{status // 100}xx",)] += count
    labels = ("decision", "reason", "rule")
    yield _counter("gatekeeper_requests_total", "Requests, by decision, reason and rule.", labels, decisions.items())
    yield _counter("gatekeeper_responses_total", "Responses, by class of status.", ("class",), classes.items())
    help = "Bytes of responses sent to clients."
    yield _counter("gatekeeper_sent_bytes_total", help, (), [((), telemetry.sent_bytes)])
    help = "Seconds from a request's head to the end of its response, by who answered: the upstream or the gate."
    histograms: dict[tuple[str, ...], Histogram] = {("upstream",): telemetry.by_upstream, ("gate",): telemetry.by_gate}
    yield _histogram("gatekeeper_request_seconds", help, ("by",), histograms)
    help = "Seconds from a request to the upstream until its response begins."
    yield _histogram("gatekeeper_upstream_seconds", help, (), {(): telemetry.upstream})


def _of_source(source: Source) -> Metric:
    readings: Readings = source.read()
    values: _Values = readings.items() if isinstance(readings, Mapping) else [((), float(readings))]
    if source.kind == "counter":
        return _counter(source.name, source.help, source.labels, values)
    gauge = GaugeMetricFamily(source.name, source.help, labels=source.labels)
    for labels, value in values:
        gauge.add_metric(labels, value)
    return gauge


def _counter(name: str, help: str, labels: tuple[str, ...], values: _Values) -> Metric:
    family = CounterMetricFamily(name, help, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def _histogram(
    name: str, help: str, labels: tuple[str, ...], histograms: Mapping[tuple[str, ...], Histogram]
) -> Metric:
    family = HistogramMetricFamily(name, help, labels=labels)
    for label_values, histogram in histograms.items():
        sums = accumulate(histogram.counts)
        buckets = [(_bound_text(bound), float(count)) for bound, count in zip((*BOUNDS, None), sums, strict=True)]
        family.add_metric(label_values, buckets, histogram.total)
    return family


def _bound_text(bound: float | None) -> str:
    return "+Inf" if bound is None else str(bound)


def _text_name(metric: Metric) -> str:
    return metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")
