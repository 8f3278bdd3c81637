"""What happened, told once: `record` for each finished request, `audit` for security events, gauges and counters.

`record` is on the hot path.  It counts and remembers; lines are made in small batches, so that no request waits long
for others' lines, and written by the sink's thread.
"""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gatekeeper.core.model import Reason, RequestFacts, SessionRecord
from gatekeeper.telemetry.counts import BOUNDS, Histogram, Tally
from gatekeeper.telemetry.lines import Finished
from gatekeeper.telemetry.log import Log

FLUSH_S = 0.1
"""How long an access line waits at most until it is handed to the sink."""

BATCH = 100
"""How many requests wait at most: making their lines takes well under a millisecond."""

Readings = float | Mapping[tuple[str, ...], float]
"""A value, or one for each combination of label values."""


class Source(msgspec.Struct, frozen=True):
    """A metric whose value is asked for when metrics are read."""

    kind: str
    name: str
    help: str
    read: Callable[[], Readings]
    labels: tuple[str, ...]


class Telemetry:
    """One for each process.  Without a log only metrics are kept.  `clock` gives seconds since the epoch."""

    def __init__(self, log: Log | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self.log = log
        self.started_at = clock()
        self.requests: dict[tuple[str, Reason, int], int] = {}
        """How many requests ended by rule, reason and status."""
        self.by_gate = Histogram()
        self.by_upstream = Histogram()
        self.upstream = Histogram()
        self.revocations = Histogram()
        """How long ago what a feed told can have happened at most."""
        self.sent_bytes = 0
        self.sources: list[Source] = []
        self.tallies: list[Tally] = []
        self._clock = clock
        self._access = log is not None and log.access
        self._pending: list[Finished] = []
        self._timer: asyncio.TimerHandle | None = None
        self._audited = self.counter("gatekeeper_audit_events_total", "Security events, by kind.", "event")
        if log is not None:
            sink = log.sink
            help = "Log lines for which there was no room or no disk."
            self.count_of("gatekeeper_log_lines_dropped_total", help, lambda: sink.dropped_lines)
            help = "Writes to the log that failed."
            self.count_of("gatekeeper_log_failures_total", help, lambda: sink.failures)

    def __repr__(self) -> str:
        return f"<Telemetry {sum(self.requests.values())} requests, {len(self._pending)} lines pending>"

    def record(
        self,
        facts: RequestFacts | None,
        route_name: str,
        reason: Reason,
        record: SessionRecord | None,
        status: int,
        request_id: str,
        seconds: float,
        upstream_seconds: float | None,
        sent_bytes: int,
        peer: str,
    ) -> None:
        """Take note of a finished request.

        `facts` is None for one too malformed to be read, `route_name` "" where no rule was asked.  `upstream_seconds`
        is how long the upstream took until its response began, None where the gate answered itself.  `peer` is the
        socket's address or `unix`.  To be called in the event loop's thread, once for each request.
        """
        key = (route_name, reason, status)
        requests = self.requests
        requests[key] = requests.get(key, 0) + 1
        if upstream_seconds is None:
            histogram = self.by_gate
        else:
            histogram = self.upstream
            histogram.counts[bisect_left(BOUNDS, upstream_seconds)] += 1
            histogram.total += upstream_seconds
            histogram = self.by_upstream
        histogram.counts[bisect_left(BOUNDS, seconds)] += 1
        histogram.total += seconds
        self.sent_bytes += sent_bytes
        if self._access:
            pending = self._pending
            pending.append(
                (
                    *(self._clock(), facts, route_name, reason, record, status),
                    *(request_id, seconds, upstream_seconds, sent_bytes, peer),
                )
            )
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._on_timer)
            elif len(pending) >= BATCH:
                self._hand_over(more=True)

    def audit(self, event: str, **fields: Any) -> None:
        """Take note of a security event: count it, and write a line with these fields.

        The event's name becomes a label: it is one of a fixed few.  A session is named by `lines.session_mark`.
        """
        self._audited.add(event)
        if self.log is not None:
            self.log.write_audit(event, fields)

    def counter(self, name: str, help: str, *labels: str) -> Tally:
        """A new counter for rare events.  Its name ends in `_total`; label values are never a client's choice."""
        tally = Tally(name, help, labels)
        self.tallies.append(tally)
        return tally

    def gauge(self, name: str, help: str, read: Callable[[], Readings], *labels: str) -> None:
        """A value that goes up and down, read when metrics are."""
        self.sources.append(Source("gauge", name, help, read, labels))

    def count_of(self, name: str, help: str, read: Callable[[], Readings], *labels: str) -> None:
        """A count that somebody else keeps, read when metrics are.  Its name ends in `_total`."""
        self.sources.append(Source("counter", name, help, read, labels))

    def flush(self) -> None:
        """Make the lines of the requests that are pending, and have the log write them."""
        self._hand_over(more=False)
        if self.log is not None:
            self.log.push()

    def _hand_over(self, *, more: bool) -> None:
        pending, self._pending = self._pending, []
        if pending and self.log is not None:
            self.log.write_access(pending, more=more)

    def close(self) -> None:
        """Hand over what is pending.  What is recorded later is only counted."""
        self.flush()
        self._access = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        self.flush()
