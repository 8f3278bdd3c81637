"""What the gate reports, wired up: the log as configured, and the metrics that are read from its live objects."""

import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager

from gatekeeper.config.schema import Settings
from gatekeeper.server.connection import GateServer
from gatekeeper.server.gate import Gate
from gatekeeper.server.logs import open_configured_log
from gatekeeper.server.streams import Streams
from gatekeeper.stores.cache import SessionCache
from gatekeeper.telemetry.log import Log
from gatekeeper.telemetry.telemetry import Telemetry

_CACHE_COUNTS: dict[str, tuple[str, Callable[[SessionCache], float]]] = {
    "gatekeeper_session_cache_hits_total": ("Sessions found in memory.", lambda cache: cache.counters.hits),
    "gatekeeper_session_cache_stale_hits_total": (
        "Sessions believed longer than usual because the store could not answer.",
        lambda cache: cache.counters.stale_hits,
    ),
    "gatekeeper_session_cache_negative_hits_total": (
        "Tokens known in memory to have no session.",
        lambda cache: cache.counters.negative_hits,
    ),
    "gatekeeper_session_cache_misses_total": ("Sessions not found in memory.", lambda cache: cache.counters.misses),
    "gatekeeper_session_cache_evictions_total": (
        "Sessions that gave way to others in memory.",
        lambda cache: cache.counters.evictions,
    ),
    "gatekeeper_store_reads_total": ("Reads of the session store.", lambda cache: cache.counters.reads),
}


@asynccontextmanager
async def open_telemetry(settings: Settings, log: Log | None = None) -> AsyncGenerator[Telemetry]:
    """Telemetry that writes to `log`, or to one of its own; closed with the block.  Raises LogFileError."""
    own = open_configured_log(settings) if log is None else log
    telemetry = Telemetry(own)
    try:
        yield telemetry
    finally:
        telemetry.close()
        if log is None:
            own.close()


def observe(telemetry: Telemetry, gate: Gate, server: GateServer, streams: Streams) -> None:
    """Register the metrics that are read from the gate and its listener.  They follow when the runtime is replaced."""

    def read_cache(read: Callable[[SessionCache], float]) -> Callable[[], float]:
        return lambda: read(gate.runtime.sessions)

    for name, (help, read) in _CACHE_COUNTS.items():
        telemetry.count_of(name, help, read_cache(read))
    telemetry.gauge("gatekeeper_cached_sessions", "Sessions in memory.", read_cache(lambda cache: cache.size))
    telemetry.count_of(
        "gatekeeper_session_data_hits_total",
        "Sessions believed by their session_data cookie, without a read of the store.",
        lambda: gate.runtime.claims.hits,
    )
    telemetry.gauge(
        "gatekeeper_feeds_held",
        "Processes whose revocation feed is in order: they believe sessions in memory for memory_cache.max_age.",
        read_cache(lambda cache: cache.lease.is_held(time.monotonic())),
    )
    telemetry.count_of(
        "gatekeeper_assertions_signed_total",
        "Assertions that were signed: one for each session and app in half of their life.",
        lambda: 0 if gate.runtime.assertions is None else gate.runtime.assertions.signed,
    )
    telemetry.gauge("gatekeeper_client_connections", "Client connections open now.", lambda: server.crowd.count)
    telemetry.gauge("gatekeeper_open_streams", "WebSockets and event streams open now.", lambda: streams.count)
    telemetry.gauge(
        "gatekeeper_upstream_connections",
        "Connections to upstreams open now, by upstream and state.",
        lambda: _upstream_connections(gate),
        "upstream",
        "state",
    )


def _upstream_connections(gate: Gate) -> Mapping[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = {}
    for name, pool in gate.runtime.upstreams.items():
        found[name or "default", "idle"] = pool.idle
        found[name or "default", "busy"] = pool.busy
        found[name or "default", "streaming"] = pool.streaming
    return found
