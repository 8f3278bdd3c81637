"""The running gate: one configuration's live objects, its listener, and their end."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from msgspec.structs import asdict

from gatekeeper.config.schema import Settings, Upstream
from gatekeeper.config.snapshot import compile_settings
from gatekeeper.core.errors import ListenError, StoreError
from gatekeeper.server.admin import Health, serve_admin
from gatekeeper.server.connection import LINGER_S, MAX_FIELDS, MAX_TARGET_BYTES, GateServer, require_c_parser
from gatekeeper.server.gate import Gate, Runtime
from gatekeeper.server.pages import PageSettings
from gatekeeper.server.portal import Portal
from gatekeeper.server.proxy import Proxy
from gatekeeper.server.reporting import observe, open_telemetry
from gatekeeper.server.upstream import UpstreamAddress, UpstreamPool
from gatekeeper.stores import open_store
from gatekeeper.stores.cache import SessionCache
from gatekeeper.telemetry.log import Log
from gatekeeper.telemetry.telemetry import Telemetry

logger = logging.getLogger("gatekeeper")

CACHE_AGE_WITHOUT_FEED_S = 1.0
"""How long a session is believed where nothing tells of its revocation."""

NEGATIVE_AGE_S = 1.0
NEGATIVE_ENTRIES = 10_000
DRAIN_S = 10.0


class Served:
    """A gate that serves; `addresses` are its URLs, `admin_address` that of its admin listener, if it has one.

    `health.draining` is set by whoever begins to end it.
    """

    def __init__(self, gate: Gate, addresses: list[str], health: Health, admin_address: str | None) -> None:
        self.gate = gate
        self.telemetry = gate.telemetry
        self.addresses = addresses
        self.health = health
        self.admin_address = admin_address


@asynccontextmanager
async def open_gate(settings: Settings, telemetry: Telemetry | None = None) -> AsyncGenerator[Gate]:
    """A gate without a listener, closed with the block."""
    runtime = _build_runtime(settings, asyncio.get_running_loop())
    try:
        yield Gate(runtime, _page_settings(settings, runtime), now_ms, telemetry)
    finally:
        for pool in runtime.upstreams.values():
            pool.close()
        await runtime.sessions.close()


@asynccontextmanager
async def serve(settings: Settings, log: Log | None = None) -> AsyncGenerator[Served]:
    """Serve until the block ends; then finish the requests in flight and close everything, the telemetry last.

    Lines go to `log`, or without it to one that is opened as configured.  The store may be missing: it is tried and
    logged, and requests that need it get 503 until it is there.  Raises ListenError and LogFileError.
    """
    require_c_parser()
    loop = asyncio.get_running_loop()
    async with (
        open_telemetry(settings, log) as telemetry,
        open_gate(settings, telemetry) as gate,
        serve_admin(settings.admin.listen, gate, Health(gate)) as admin,
    ):
        server = GateServer(
            Proxy(gate, Portal(gate)),
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=settings.timeouts.keep_alive,
            lingering_time=LINGER_S,
            max_line_size=MAX_TARGET_BYTES,
            max_field_size=settings.limits.header_bytes,
            max_headers=MAX_FIELDS,
        )
        host, _, port = settings.listen.rpartition(":")
        try:
            listener = await loop.create_server(server, host.strip("[]") or None, int(port), backlog=1024)
        except OSError as exc:
            raise ListenError(f"cannot listen on {settings.listen}: {exc.strerror or exc}") from exc
        try:
            await _check_store(gate.runtime)
            addresses = [_url_of(socket.getsockname()) for socket in listener.sockets]
            observe(telemetry, gate, server)
            admin.health.started = True
            telemetry.audit("started", listen=addresses, admin=admin.address)
            yield Served(gate, addresses, admin.health, admin.address)
        finally:
            admin.health.draining = True
            telemetry.audit("drain_started")
            listener.close()
            server.pre_shutdown()
            await server.shutdown(DRAIN_S)


def now_ms() -> int:
    """The clock: milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _build_runtime(settings: Settings, loop: asyncio.AbstractEventLoop) -> Runtime:
    store = open_store(
        url=settings.store.url,
        tables=asdict(settings.store.tables),
        columns=asdict(settings.store.columns),
        fields=asdict(settings.store.fields),
        pool=settings.store.pool,
    )
    memory = settings.session.memory_cache
    sessions = SessionCache(
        store,
        max_age_s=min(memory.max_age, CACHE_AGE_WITHOUT_FEED_S),
        entries=memory.entries,
        negative_age_s=min(memory.max_age, NEGATIVE_AGE_S),
        negative_entries=NEGATIVE_ENTRIES,
        clock=time.monotonic,
    )
    upstreams = {"": settings.upstream, **settings.upstreams}
    pools = {name: UpstreamPool(_address(name, upstream), loop) for name, upstream in upstreams.items()}
    return Runtime(compile_settings(settings), sessions, pools)


def _address(name: str, upstream: Upstream) -> UpstreamAddress:
    parts = urlsplit(upstream.url)
    return UpstreamAddress(
        name=name,
        host=parts.hostname or "",
        port=parts.port or 80,
        connect_timeout_s=upstream.connect_timeout,
        response_timeout_s=upstream.response_timeout,
        idle_timeout_s=upstream.idle_timeout,
        max_connections=upstream.max_connections,
    )


def _page_settings(settings: Settings, runtime: Runtime) -> PageSettings:
    return PageSettings(
        sign_in=settings.sign_in,
        public_origin=runtime.snapshot.policy.public_origin,
        trusted_origins=frozenset(settings.trusted_origins),
        secure_cookies=runtime.snapshot.secure_cookies,
        cookie_domain=settings.session.cookie.domain,
    )


async def _check_store(runtime: Runtime) -> None:
    try:
        await runtime.sessions.check()
    except StoreError as error:
        logger.error("session store unavailable, protected requests get 503: %s", error)


def _url_of(address: tuple[str, int]) -> str:
    host, port = address[0], address[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
