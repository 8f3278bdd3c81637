"""The running gate: one configuration's live objects, its listeners, and their end."""

import asyncio
import gc
import logging
import resource
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from gatekeeper.config.addresses import port_of
from gatekeeper.config.schema import Branding, Settings, Upstream
from gatekeeper.config.snapshot import Snapshot, compile_settings
from gatekeeper.config.store_checks import APP, kind_of
from gatekeeper.config.tls import listener_context, upstream_context
from gatekeeper.core.errors import StoreError
from gatekeeper.core.model import Reason, SessionRecord
from gatekeeper.server.account_pages.opening import open_pages
from gatekeeper.server.accounts_mode import open_accounts_mode
from gatekeeper.server.admin import Admin, Health, serve_admin
from gatekeeper.server.assertion_keys import AssertionKeys, follow_keys, open_keys
from gatekeeper.server.assertions import Assertions
from gatekeeper.server.connection import MAX_FIELDS, MAX_TARGET_BYTES, GateServer, require_c_parser
from gatekeeper.server.crowd import Crowd
from gatekeeper.server.deadlines import Deadlines
from gatekeeper.server.drain import drain
from gatekeeper.server.extension import Extender
from gatekeeper.server.fastlane import FastLane
from gatekeeper.server.gate import Gate, Runtime
from gatekeeper.server.listeners import UNIX, Listener, open_listener, share_listener
from gatekeeper.server.look import Look, look_of
from gatekeeper.server.pages import PageSettings
from gatekeeper.server.portal import Portal
from gatekeeper.server.proxy import Proxy
from gatekeeper.server.recheck import Recheck
from gatekeeper.server.reporting import observe, open_telemetry
from gatekeeper.server.revocations import Revocations
from gatekeeper.server.share import Share
from gatekeeper.server.streams import Streams
from gatekeeper.server.upstream import UpstreamAddress, UpstreamPool
from gatekeeper.stores import open_store
from gatekeeper.stores.app_sign_out import AppSignOut
from gatekeeper.stores.breaker import Breaker
from gatekeeper.stores.cache import SessionCache
from gatekeeper.stores.claims import Claims, ClaimSettings
from gatekeeper.stores.feeds.feed import Feed
from gatekeeper.stores.lease import Lease
from gatekeeper.stores.writing import SessionWriter, open_writer
from gatekeeper.telemetry.lines import session_mark
from gatekeeper.telemetry.log import Log
from gatekeeper.telemetry.telemetry import Telemetry

logger = logging.getLogger("gatekeeper")

NEGATIVE_AGE_S = 1.0
NEGATIVE_ENTRIES = 10_000

_OTHER_FILES = 256
"""Open files that are no connections: the store, logs, listeners, libraries."""


class Served:
    """A gate that serves; `addresses` are its URLs, `admin_address` that of its admin listener, if it has one."""

    def __init__(
        self, gate: Gate, server: GateServer, streams: Streams, listener: Listener, admin: Admin, share: Share | None
    ) -> None:
        self.gate = gate
        self.telemetry = gate.telemetry
        self.server = server
        self.streams = streams
        self.addresses = list(listener.addresses)
        self.health = admin.health
        self.admin_address = admin.address
        self._listener = listener
        self._share = share

    async def stop(self, *, delay_s: float, limit_s: float) -> None:
        """Stop in order, so that no request is lost (see `drain`)."""
        if not self.health.draining:
            self.health.draining = True
            if self._share is None:
                self.telemetry.audit("drain_started")
        await drain(self._listener, self.server, self.streams, delay_s=delay_s, limit_s=limit_s)


@asynccontextmanager
async def open_gate(
    settings: Settings, telemetry: Telemetry | None = None, keys: AssertionKeys | None = None
) -> AsyncGenerator[Gate]:
    """A gate without a listener, closed with the block.  Without keys it signs no assertions."""
    runtime = _build_runtime(settings, asyncio.get_running_loop(), keys)
    try:
        yield Gate(runtime, _page_settings(settings, runtime), now_ms, telemetry)
    finally:
        await runtime.close()


@asynccontextmanager
async def serve(
    settings: Settings, log: Log | None = None, share: Share | None = None, *, fast_lane: bool = True
) -> AsyncGenerator[Served]:
    """Serve until the block ends; then close everything at once: `Served.stop` before that finishes what is in flight.

    Lines go to `log`, or without it to one that is opened as configured.  The store may be missing: it is tried and
    logged, and requests that need it get 503 until it is there.  With `share` this is one worker of several.  Raises
    ListenError, LogFileError and KeysUnusable.
    """
    require_c_parser()
    keys = open_keys(settings, now_ms(), None if share is None else share.keys)
    async with (
        open_telemetry(settings, log) as telemetry,
        open_gate(settings, telemetry, keys) as gate,
        serve_admin(settings.admin.listen, gate, Health(gate)) as admin,
        _open_streams(gate) as streams,
        open_accounts_mode(settings, gate, streams) as accounts,
        open_pages(settings, gate, streams, accounts) as people,
    ):
        portal = Portal(gate, streams, accounts, people)
        server = _build_server(settings, gate, portal, streams, share, fast_lane=fast_lane)
        _raise_file_limit(settings)
        listener = await _listen(settings, server, share)
        served = Served(gate, server, streams, listener, admin, share)
        following = asyncio.create_task(_follow(gate, streams, server))
        try:
            await _check_store(gate.runtime, settings)
            observe(telemetry, gate, server, streams)
            _observe_extensions(telemetry, gate)
            admin.health.started = True
            if share is None:
                telemetry.audit("started", listen=served.addresses, admin=admin.address)
            yield served
        finally:
            await served.stop(delay_s=0, limit_s=0)
            following.cancel()
            await asyncio.wait((following,))
            server.deadlines.close()


@asynccontextmanager
async def _open_streams(gate: Gate) -> AsyncGenerator[Streams]:
    streams = Streams(gate.runtime.sessions.get, now_ms, _Auditor(gate.telemetry).stream_was_cut)
    try:
        yield streams
    finally:
        streams.close()


class _Auditor:
    """Writes down what is rare and matters."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def stream_was_cut(self, record: SessionRecord) -> None:
        mark = session_mark(record.session.token)
        self._telemetry.audit("stream_cut", session=mark, user=record.user.id)

    def was_refused(self, peer: str, status: int, reason: Reason) -> None:
        """Something was refused before it was a request."""
        self._telemetry.record(None, "", reason, None, status, "", 0.0, None, 0, peer)


async def _follow(gate: Gate, streams: Streams, server: GateServer) -> None:
    """Look after open streams, follow the store's feed if it has one, and the keys if any sign, until cancelled."""
    runtime, sessions, lease = gate.runtime, gate.runtime.sessions, gate.runtime.sessions.lease
    recheck = Recheck(streams, sessions.read_all, now_ms, sessions.recheck_s, lambda: lease.is_held(time.monotonic()))
    changes = Revocations(runtime, streams, recheck, gate.telemetry, time.monotonic)
    channel = sessions.channel(changes)
    async with asyncio.TaskGroup() as group:
        group.create_task(recheck.run())
        if channel is not None:
            group.create_task(Feed(channel, lease, time.monotonic).run(changes))
        if runtime.assertions is not None:
            group.create_task(follow_keys(runtime.assertions.keys, lambda: sign_anew(gate, server)))


def sign_anew(gate: Gate, server: GateServer) -> None:
    """There are other keys: what those of before have signed is sent no more."""
    assertions = gate.runtime.assertions
    if assertions is not None:
        assertions.forget()
        gate.telemetry.audit("keys_rotated", kid=assertions.keys.ring.current.kid)
    if server.lane is not None:
        server.lane.forget()


async def _listen(settings: Settings, server: GateServer, share: Share | None) -> Listener:
    tls = listener_context(settings.tls) if settings.tls is not None else None
    handshake_s = settings.timeouts.headers
    if share is None:
        return await open_listener(settings.listen, server, tls, handshake_s=handshake_s)
    return await share_listener(share.sockets, server, tls, handshake_s=handshake_s, let_go=share.let_go)


def _build_server(
    settings: Settings, gate: Gate, portal: Portal, streams: Streams, share: Share | None, *, fast_lane: bool
) -> GateServer:
    timeouts, limits = settings.timeouts, settings.limits
    board = None if share is None else share.board
    scheme = "http" if settings.tls is None else "https"
    proxy = Proxy(gate, portal, streams, scheme=scheme, body_idle_s=timeouts.body_idle)
    return GateServer(
        proxy,
        lane=FastLane(proxy) if fast_lane else None,
        crowd=Crowd(limits.connections, limits.per_address, gate.runtime.snapshot.trusted, board),
        deadlines=Deadlines(asyncio.get_running_loop(), head_s=timeouts.headers, stall_s=timeouts.body_idle),
        on_refused=_Auditor(gate.telemetry).was_refused,
        auto_decompress=False,
        keepalive_timeout=timeouts.keep_alive,
        max_line_size=MAX_TARGET_BYTES,
        max_field_size=limits.header_bytes,
        max_headers=MAX_FIELDS,
    )


def _raise_file_limit(settings: Settings) -> None:
    """Allow as many open files as there may be connections, as far as this process may; says where it may not.

    Where it can be had, each client gets one more for a stream, which has a connection of its own to an app.
    """
    upstreams = (settings.upstream, *settings.upstreams.values())
    clients = settings.limits.connections or 0
    needed = clients + sum(up.max_connections for up in upstreams) + _OTHER_FILES
    wanted = needed + clients
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < needed:
            logger.warning(
                "%d open files are allowed, and limits.connections needs %d: raise the limit (ulimit -n, LimitNOFILE=) "
                "or lower limits.connections",
                allowed,
                needed,
            )


def spare_the_collector() -> None:
    """Keep what was loaded at the start out of the garbage collector's sight, and let it look less often.

    A full look at some hundred thousand objects that stay anyway would hold up every request for half a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def wants_fast_lane(environ: Mapping[str, str]) -> bool:
    """Whether the fast lane is on: yes, but for GATEKEEPER_FASTLANE=0, which is for finding out whose fault it is."""
    return environ.get("GATEKEEPER_FASTLANE") != "0"


def now_ms() -> int:
    """The clock: milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _build_runtime(settings: Settings, loop: asyncio.AbstractEventLoop, keys: AssertionKeys | None) -> Runtime:
    snapshot = compile_settings(settings)
    store = open_store(settings, snapshot.keys, snapshot.cookies.session_token)
    memory, lease = settings.session.memory_cache, Lease()
    sessions = SessionCache(
        Breaker(store, time.monotonic),
        max_age_s=memory.max_age,
        entries=memory.entries,
        negative_age_s=min(memory.max_age, NEGATIVE_AGE_S),
        negative_entries=NEGATIVE_ENTRIES,
        clock=time.monotonic,
        stale_s=settings.session.stale_if_error,
        lease=lease,
    )
    claims = Claims(_claim_settings(settings, snapshot), snapshot.keys, lease, time.monotonic, now_ms)
    upstreams = {"": settings.upstream, **settings.upstreams}
    pools = {name: UpstreamPool(_address(name, upstream), loop) for name, upstream in upstreams.items()}
    revoker = _open_revoker(settings, snapshot)
    extender = None
    is_owner = settings.session.extend == "gate" or settings.accounts.enabled
    if is_owner and not isinstance(revoker, AppSignOut):
        extender = Extender(revoker, snapshot, sessions.forget, now_ms)
    assertions = None
    if snapshot.terms is not None and keys is not None:
        assertions = Assertions(snapshot.terms, keys, snapshot.names.assertion)
    return Runtime(snapshot, sessions, claims, pools, extender, revoker, assertions)


def _claim_settings(settings: Settings, snapshot: Snapshot) -> ClaimSettings | None:
    """How session_data cookies are read; None where they are not, or lack fields that the app is to be told."""
    cache, fields = settings.session.cookie_cache, settings.store.fields
    if not cache.enabled or fields.session or fields.user:
        return None
    name = snapshot.cookies.session_data
    return ClaimSettings(name, cache.strategy, cache.version, round(cache.max_age * 1000))


def _open_revoker(settings: Settings, snapshot: Snapshot) -> SessionWriter | AppSignOut:
    """What ends sessions where they are kept.  Nothing is connected yet."""
    url = settings.store.url
    if kind_of(url) in APP:
        return AppSignOut(url, cookie_name=snapshot.cookies.session_token, keys=snapshot.keys)
    return open_writer(settings)


def _address(name: str, upstream: Upstream) -> UpstreamAddress:
    parts = urlsplit(upstream.url)
    return UpstreamAddress(
        name=name,
        host=parts.hostname or "",
        port=port_of(parts),
        unix_path=upstream.url.removeprefix(UNIX) if parts.scheme == "unix" else None,
        tls=upstream_context(upstream.tls) if parts.scheme == "https" else None,
        connect_timeout_s=upstream.connect_timeout,
        response_timeout_s=upstream.response_timeout,
        idle_timeout_s=upstream.idle_timeout,
        max_connections=upstream.max_connections,
    )


def _observe_extensions(telemetry: Telemetry, gate: Gate) -> None:
    def read() -> Mapping[tuple[str, ...], float]:
        extender = gate.runtime.extender
        return {} if extender is None else {(outcome,): count for outcome, count in extender.outcomes.items()}

    help = "Attempts to extend a session, by what came of them."
    telemetry.count_of("gatekeeper_session_extensions_total", help, read, "outcome")


def _page_settings(settings: Settings, runtime: Runtime) -> PageSettings:
    return PageSettings(
        sign_in=settings.sign_in,
        public_origin=runtime.snapshot.policy.public_origin,
        trusted_origins=frozenset(settings.trusted_origins),
        secure_cookies=runtime.snapshot.secure_cookies,
        cookie_domain=settings.session.cookie.domain,
        look=_look(settings.branding),
        keep_fragment=settings.keep_fragment,
        asks_again=settings.accounts.enabled,
    )


def _look(branding: Branding) -> Look:
    logo = None if branding.logo is None else Path(branding.logo)
    return look_of(branding.name, logo, branding.accent)


async def _check_store(runtime: Runtime, settings: Settings) -> None:
    try:
        await runtime.sessions.check()
    except StoreError as error:
        hint = "; `gatekeeper migrate` makes what is missing" if settings.accounts.enabled else ""
        logger.error("session store unavailable, protected requests get 503: %s%s", error, hint)
