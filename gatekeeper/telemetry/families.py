"""Metrics as plain records, between the counters and whoever shows them: they travel, and can be added up.

Working them out is left until somebody asks; `exposition` writes them down as Prometheus reads them.
"""

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec
from prometheus_client import ProcessCollector

from gatekeeper import __version__
from gatekeeper.telemetry.counts import Histogram, decision_of
from gatekeeper.telemetry.telemetry import Readings, Source, Telemetry

Sample = tuple[tuple[str, ...], tuple[float, ...]]
"""Label values, and the value; of a histogram the count of each bucket, then the total of what was observed."""

_Values = Iterable[tuple[tuple[str, ...], float]]


class Family(msgspec.Struct, frozen=True):
    """One metric: its name as it stands in the text format, without a histogram's suffixes."""

    kind: Literal["counter", "gauge", "histogram", "info"]
    name: str
    help: str
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]


def read_families(telemetry: Telemetry) -> Iterator[Family]:
    """The metrics of a Telemetry."""
    yield from _of_requests(telemetry)
    for tally in telemetry.tallies:
        yield _single("counter", tally.name, tally.help, tally.labels, tuple(tally.values.items()))
    for source in telemetry.sources:
        yield _of_source(source)
    versions = (((__version__, platform.python_version()), 1.0),)
    yield _single("info", "gatekeeper_build_info", "The running version.", ("version", "python"), versions)


def read_process(collector: ProcessCollector) -> Iterator[Family]:
    """What the kernel says of the process; nothing where there is no /proc."""
    for metric in collector.collect():
        is_counter = metric.type == "counter"
        name = f"{metric.name}_total" if is_counter else metric.name
        values = [((), sample.value) for sample in metric.samples]
        yield _single("counter" if is_counter else "gauge", name, metric.documentation, (), values)


def _of_requests(telemetry: Telemetry) -> Iterator[Family]:
    decisions: Counter[tuple[str, ...]] = Counter()
    classes: Counter[tuple[str, ...]] = Counter()
    for (rule, reason, status), count in tuple(telemetry.requests.items()):
        decisions[decision_of(reason, status), reason.value, rule] += count
        classes[(f"{status // 100}xx",)] += count
    labels, help = ("decision", "reason", "rule"), "Requests, by decision, reason and rule."
    yield _single("counter", "gatekeeper_requests_total", help, labels, decisions.items())
    help = "Responses, by class of status."
    yield _single("counter", "gatekeeper_responses_total", help, ("class",), classes.items())
    help = "Bytes of responses sent to clients."
    yield _single("counter", "gatekeeper_sent_bytes_total", help, (), [((), telemetry.sent_bytes)])
    help = "Seconds from a request's head to the end of its response, by who answered: the upstream or the gate."
    histograms: dict[tuple[str, ...], Histogram] = {("upstream",): telemetry.by_upstream, ("gate",): telemetry.by_gate}
    yield _histogram("gatekeeper_request_seconds", help, ("by",), histograms)
    help = "Seconds from a request to the upstream until its response begins."
    yield _histogram("gatekeeper_upstream_seconds", help, (), {(): telemetry.upstream})
    help = "Seconds from a change of a session or user in the store until the feed told of it, at most."
    yield _histogram("gatekeeper_revocation_latency_seconds", help, (), {(): telemetry.revocations})


def _of_source(source: Source) -> Family:
    readings: Readings = source.read()
    values: _Values = readings.items() if isinstance(readings, Mapping) else [((), float(readings))]
    return _single("counter" if source.kind == "counter" else "gauge", source.name, source.help, source.labels, values)


def _single(
    kind: Literal["counter", "gauge", "info"], name: str, help: str, labels: tuple[str, ...], values: _Values
) -> Family:
    return Family(kind, name, help, labels, tuple((label_values, (float(value),)) for label_values, value in values))


def _histogram(
    name: str, help: str, labels: tuple[str, ...], histograms: Mapping[tuple[str, ...], Histogram]
) -> Family:
    samples = tuple((values, (*map(float, one.counts), one.total)) for values, one in histograms.items())
    return Family("histogram", name, help, labels, samples)
