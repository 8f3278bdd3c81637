"""What is recorded is counted and becomes lines, in batches, none lost at the end; and what metrics say of it."""

import asyncio
import json
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from gatekeeper.core.model import Reason
from gatekeeper.telemetry.counts import BOUNDS, Histogram, decision_of
from gatekeeper.telemetry.exposition import Exposition
from gatekeeper.telemetry.lines import Finished
from gatekeeper.telemetry.log import Log, open_log
from gatekeeper.telemetry.telemetry import BATCH, Telemetry
from tests.core.facts import facts
from tests.core.records import record

ASKED = facts("/dashboard/x?tab=1")
WHO = record()


class KeepingLog(Log):
    """A log that keeps the batches it gets, in place of a sink."""

    def __init__(self, *, access: bool = True) -> None:
        self.access = access
        self.batches: list[list[Finished]] = []
        self.came = asyncio.Event()
        self.sink = type("NoSink", (), {"dropped_lines": 3, "failures": 1})()
        self.pushed = 0

    def write_access(self, finished: list[Finished], *, more: bool = False) -> None:
        self.batches.append(finished)
        self.came.set()

    def push(self) -> None:
        self.pushed += 1

    def write_audit(self, event: str, fields: object) -> None:
        pass


def take(
    telemetry: Telemetry,
    reason: Reason = Reason.SESSION,
    status: int = 200,
    *,
    rule: str = "protect /dashboard",
    seconds: float = 0.003,
    upstream_seconds: float | None = 0.002,
) -> None:
    telemetry.record(ASKED, rule, reason, WHO, status, "id", seconds, upstream_seconds, 100, "127.0.0.1")


def scraped(telemetry: Telemetry, accept: str = "") -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples of a Telemetry, as a scraper reads them."""
    text = Exposition(telemetry).render(accept)[0].decode()
    samples: list[Sample] = [one for family in text_string_to_metric_families(text) for one in family.samples]
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}


async def test_lines_come_in_batches_and_the_rest_by_time() -> None:
    log = KeepingLog()
    telemetry = Telemetry(log)
    for _ in range(BATCH + 1):
        take(telemetry)
    assert ([len(batch) for batch in log.batches], log.pushed) == ([BATCH], 0)
    log.came.clear()
    async with asyncio.timeout(20):
        await log.came.wait()
    assert ([len(batch) for batch in log.batches], log.pushed) == ([BATCH, 1], 1)
    take(telemetry)  # the timer was started anew
    log.came.clear()
    async with asyncio.timeout(20):
        await log.came.wait()
    assert [len(batch) for batch in log.batches] == [BATCH, 1, 1]
    telemetry.close()


async def test_nothing_is_lost_at_the_end(tmp_path: Path) -> None:
    log = open_log(format="json", file=str(tmp_path / "log"), access=True, secrets=(), cookie_names=())
    telemetry = Telemetry(log, clock=lambda: 1_790_000_000.0)
    for number in range(3):
        telemetry.record(None, "", Reason.BAD_HEADER, None, 400, str(number), 0.001, None, 0, "192.0.2.1")
    telemetry.close()
    take(telemetry)  # too late for a line
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["request_id"] for line in lines] == ["0", "1", "2"]
    assert {line["time"] for line in lines} == {"2026-09-21T14:13:20.000Z"}
    assert sum(telemetry.requests.values()) == 4


async def test_without_access_lines_requests_are_only_counted() -> None:
    log = KeepingLog(access=False)
    telemetry = Telemetry(log)
    take(telemetry)
    telemetry.flush()
    telemetry.close()
    assert log.batches == []
    assert telemetry.requests == {("protect /dashboard", Reason.SESSION, 200): 1}


@pytest.mark.parametrize(
    ("reason", "status", "decision"),
    [
        (Reason.PUBLIC, 404, "allow"),
        (Reason.SESSION, 302, "allow"),
        (Reason.PREFLIGHT, 204, "allow"),
        (Reason.NO_COOKIE, 307, "sign_in"),
        (Reason.BAD_SIGNATURE, 303, "sign_in"),
        (Reason.NO_COOKIE, 401, "deny"),
        (Reason.SIGN_IN_LOOP, 401, "deny"),
        (Reason.ROLE_REQUIRED, 403, "deny"),
        (Reason.METHOD_NOT_ALLOWED, 405, "deny"),
        (Reason.ENCODED_SLASH, 400, "malformed"),
        (Reason.HEAD_TOO_LARGE, 431, "malformed"),
        (Reason.STORE_UNAVAILABLE, 503, "unavailable"),
        (Reason.UPSTREAM_TIMEOUT, 504, "unavailable"),
        (Reason.INTERNAL_ERROR, 500, "error"),
        (Reason.HEAD_TIMEOUT, 408, "limit"),
        (Reason.TOO_MANY_CONNECTIONS, 503, "limit"),
        (Reason.CLIENT_LEFT, 200, "cut"),
        (Reason.SESSION_ENDED, 101, "cut"),
    ],
)
def test_decisions(reason: Reason, status: int, decision: str) -> None:
    assert decision_of(reason, status) == decision


def test_each_reason_has_a_decision_of_the_few() -> None:
    found = {decision_of(reason, status) for reason in Reason for status in (200, 307, 401)}
    assert found == {"allow", "sign_in", "deny", "malformed", "limit", "cut", "unavailable", "error"}


def test_requests_and_responses_as_metrics() -> None:
    telemetry = Telemetry()
    for status in (200, 200, 404):
        take(telemetry, status=status)
    take(telemetry, Reason.NO_COOKIE, 307, upstream_seconds=None)
    take(telemetry, Reason.NO_COOKIE, 401, rule='odd "rule"\\', upstream_seconds=None)
    samples = scraped(telemetry)
    name, rule = "gatekeeper_requests_total", ("rule", "protect /dashboard")
    assert samples[name, (("decision", "allow"), ("reason", "SESSION"), rule)] == 3
    assert samples[name, (("decision", "sign_in"), ("reason", "NO_COOKIE"), rule)] == 1
    assert samples[name, (("decision", "deny"), ("reason", "NO_COOKIE"), ("rule", 'odd "rule"\\'))] == 1
    responses = {labels[0][1]: value for (name, labels), value in samples.items() if "responses" in name}
    assert responses == {"2xx": 2, "3xx": 1, "4xx": 2}
    assert samples["gatekeeper_sent_bytes_total", ()] == 500


@pytest.mark.parametrize("seconds", [0.0, BOUNDS[0], BOUNDS[3], BOUNDS[3] + 1e-9, BOUNDS[-1], 1e9])
def test_buckets_count_what_is_at_most_their_bound(seconds: float) -> None:
    histogram = Histogram()
    histogram.add(seconds)
    telemetry = Telemetry()
    take(telemetry, seconds=seconds, upstream_seconds=seconds)
    assert telemetry.upstream.counts == telemetry.by_upstream.counts == histogram.counts
    samples = scraped(telemetry)
    for bound in (*BOUNDS, float("inf")):
        le = ("le", "+Inf" if bound == float("inf") else str(bound))
        assert samples["gatekeeper_upstream_seconds_bucket", (le,)] == (seconds <= bound)
        assert samples["gatekeeper_request_seconds_bucket", (("by", "upstream"), le)] == (seconds <= bound)
        assert samples["gatekeeper_request_seconds_bucket", (("by", "gate"), le)] == 0
    assert samples["gatekeeper_upstream_seconds_count", ()] == 1
    assert samples["gatekeeper_upstream_seconds_sum", ()] == seconds


def test_gauges_and_counters_of_others() -> None:
    telemetry = Telemetry(KeepingLog())
    level = {"now": 1.0}
    telemetry.gauge("level", "A level.", lambda: level["now"])
    telemetry.gauge("levels", "Levels.", lambda: {("a", "x"): 1.0, ("b", "y"): 2.0}, "one", "two")
    telemetry.count_of("seen_total", "A count.", lambda: 7)
    refused = telemetry.counter("refused_total", "Refusals.", "reason")
    plain = telemetry.counter("plain_total", "A count.")
    refused.add("full")
    refused.add("full", by=2)
    level["now"] = 5.0
    telemetry.audit("stream_cut", session="x")
    samples = scraped(telemetry)
    assert samples["level", ()] == 5
    assert samples["levels", (("one", "b"), ("two", "y"))] == 2
    assert (samples["seen_total", ()], samples["plain_total", ()]) == (7, 0)
    assert samples["refused_total", (("reason", "full"),)] == 3
    assert samples["gatekeeper_audit_events_total", (("event", "stream_cut"),)] == 1
    assert samples["gatekeeper_log_lines_dropped_total", ()] == 3
    assert samples["gatekeeper_log_failures_total", ()] == 1
    assert plain.values == {(): 0.0}


def test_names_are_those_of_the_text_format() -> None:
    exposition = Exposition(Telemetry())
    text = exposition.render("")[0].decode()
    assert [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")] == exposition.names()
    assert "gatekeeper_build_info" in exposition.names()


def test_openmetrics_where_it_is_asked_for() -> None:
    exposition = Exposition(Telemetry())
    body, content_type = exposition.render("application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    assert exposition.render("")[1].startswith("text/plain; version=0.0.4")
