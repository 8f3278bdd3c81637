"""The same gate twice, once with the fast lane and once without: what differs is a bug of one of them."""

import itertools
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.config.load import load_text
from gatekeeper.config.snapshot import Snapshot, compile_settings
from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import SessionRecord, SessionToken
from gatekeeper.server.connection import MAX_FIELDS, MAX_TARGET_BYTES, ClientConnection, GateServer
from gatekeeper.server.crowd import Crowd
from gatekeeper.server.deadlines import Deadlines
from gatekeeper.server.exchange import UpstreamConnection
from gatekeeper.server.fastlane import FastLane
from gatekeeper.server.gate import Gate, Runtime
from gatekeeper.server.pages import PageSettings
from gatekeeper.server.portal import Portal
from gatekeeper.server.proxy import Proxy
from gatekeeper.server.reporting import observe
from gatekeeper.server.streams import Streams
from gatekeeper.server.upstream import UpstreamAddress, UpstreamPool
from gatekeeper.stores.cache import SessionCache
from gatekeeper.telemetry.exposition import Exposition
from gatekeeper.telemetry.lines import Lines
from gatekeeper.telemetry.log import Log
from gatekeeper.telemetry.redaction import Redactor
from gatekeeper.telemetry.sink import Sink
from gatekeeper.telemetry.telemetry import Telemetry
from tests.core.records import record
from tests.server.by_hand import HandApp, HandClient, HandLoop, Reply
from tests.server.gates import COOKIE, SECRET, cookie_value
from tests.stores.claims import NO_CLAIMS

CONFIG = f"""
listen: 127.0.0.1:0
upstream: http://127.0.0.1:9
upstreams: {{api: "http://127.0.0.1:10"}}
secret: {SECRET}
store: sqlite:///none.db
trusted_proxies: [10.0.0.0/8]
trusted_origins: ["http://friend.test"]
protect:
- /dashboard
- /settings
- {{path: /edge, access: presence}}
- {{path: /fresh, access: fresh}}
- {{path: /admin, require: {{roles: [admin]}}}}
- {{path: /verified, require: {{email_verified: true}}}}
- {{path: /form, methods: [GET, POST]}}
- {{path: /api, upstream: api, preflight: answer}}
- {{path: /slash, encoded_slash: pass}}
public:
- {{path: /, identity: optional}}
- {{path: /me, identity: optional}}
session: {{fresh_age: 1h}}
"""
NOW_MS = 1_790_000_000_250
HOUR_MS = 3_600_000
KEEP_ALIVE_S = 5.0
HEAD_S = 3.0
STALL_S = 4.0
RESPONSE_S = 6.0
CACHE_S = 1.0
OK = Reply((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",))
_ID = re.compile(rb"[0-9a-f]{8}(?=[0-9a-f]{8}\b)")

TOKENS = {
    name: (name * 32)[:30] + "01" for name in ("ada", "guest", "expired", "banned", "soon", "unverified", "unknown")
}
"""The tokens of sessions that differ in what there is to say about them."""


def signed_in(name: str) -> str:
    """The Cookie header's text of this session."""
    return f"{COOKIE}={cookie_value(TOKENS[name])}"


def records() -> dict[str, SessionRecord]:
    """The sessions that exist, by their names."""
    made: dict[str, SessionRecord] = {}
    for name, session, user in (
        ("ada", {}, {"role": "user,admin"}),
        ("guest", {"created_at_ms": NOW_MS - 2 * HOUR_MS}, {}),
        ("expired", {"expires_at_ms": NOW_MS - 1}, {}),
        ("banned", {}, {"banned": True}),
        ("soon", {"expires_at_ms": NOW_MS + 5_000, "created_at_ms": NOW_MS + 4_000 - HOUR_MS}, {}),
        ("unverified", {}, {"email_verified": False}),
    ):
        times = {"created_at_ms": NOW_MS - 1_000, "expires_at_ms": NOW_MS + HOUR_MS}
        made[name] = record({"token": TOKENS[name], "id": name, "user_id": name, **times, **session}, id=name, **user)
    return made


class HandStore:
    """A store in the test's hand."""

    recheck_s = 1.0

    def __init__(self) -> None:
        self.records = {TOKENS[name]: found for name, found in records().items()}
        self.fails = False

    async def read_session(self, token: SessionToken, client_address: str | None = None) -> SessionRecord | None:
        if self.fails:
            raise StoreUnavailable("the store is away")
        return self.records.get(token)

    async def check(self) -> None:
        return

    async def close(self) -> None:
        return


class _Lines(Sink):
    """Keeps the lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[bytes] = []

    def put(self, data: bytes, lines: int = 1, *, urgent: bool = False, more: bool = False) -> None:
        self.lines += data.splitlines()


class CountingLane:
    """A lane that counts what it takes, and whether it needed the parser for it."""

    def __init__(self, lane: FastLane) -> None:
        self._lane = lane
        self.recognised = 0
        self.parsed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lane, name)

    def memory(self) -> list[int]:
        """How much is in each of its memories."""
        memories = (*vars(self._lane).values(), *vars(self._lane._plain).values())
        return [len(memory) for memory in memories if isinstance(memory, dict)]

    def recognise(self, client: ClientConnection, data: bytes) -> bool:
        taken = self._lane.recognise(client, data)
        self.recognised += taken
        return taken

    def take(self, client: ClientConnection, data: bytes, message: Any) -> bool:
        taken = self._lane.take(client, data, message)
        self.parsed += taken
        return taken


_snapshots: dict[str, Snapshot] = {}


def snapshot_of(config: str) -> Snapshot:
    if config not in _snapshots:
        settings = load_text(config, source="test", base_dir=Path("."), environ={})
        _snapshots[config] = compile_settings(settings)
    return _snapshots[config]


class HandGate:
    """A gate, its apps on both upstreams, and all that is seen of it from outside.

    `shift_ms` sets the wall clock apart from the loop's.  Everything below happens within a turn of the loop.
    """

    def __init__(self, *, lane: bool, config: str = CONFIG, max_connections: int = 256, **server: Any) -> None:
        self.loop = HandLoop()
        self.shift_ms = 0
        self.store = HandStore()
        self.replies: Callable[[bytes], Reply] = lambda head: OK
        self.app = HandApp(self.loop, 9, lambda head: self.replies(head))
        self.api = HandApp(self.loop, 10, lambda head: self.replies(head))
        self.clients: list[HandClient] = []
        self.lines = _Lines()
        self.lane: CountingLane | None = None
        self._max_connections = max_connections
        self._config = config
        self._has_lane = lane
        self._settings = server
        self.gate: Gate
        self.loop.do(self._build)

    def now_ms(self) -> int:
        return NOW_MS + self.shift_ms + round((self.loop.at - 1_000.0) * 1_000)

    def runtime(self, config: str | None = None) -> Runtime:
        """A runtime as one that is reloaded: with an empty cache."""
        sessions = SessionCache(
            self.store,
            max_age_s=CACHE_S,
            entries=100,
            negative_age_s=CACHE_S,
            negative_entries=100,
            clock=self.loop.time,
        )
        pools = {
            name: UpstreamPool(
                UpstreamAddress(
                    name,
                    "127.0.0.1",
                    port,
                    response_timeout_s=RESPONSE_S,
                    idle_timeout_s=60.0,
                    max_connections=self._max_connections,
                ),
                self.loop,
            )
            for name, port in (("", 9), ("api", 10))
        }
        return Runtime(snapshot_of(config or self._config), sessions, NO_CLAIMS, pools)

    def _build(self) -> None:
        log = Log(self.lines, Lines(Redactor([SECRET], [COOKIE])))
        self.telemetry = Telemetry(log, clock=lambda: self.now_ms() / 1_000)
        self.gate = Gate(self.runtime(), PageSettings("/sign-in"), self.now_ms, self.telemetry)
        self.streams = Streams(self._look_up, self.now_ms, lambda record: None)
        self.proxy = Proxy(self.gate, Portal(self.gate, self.streams), self.streams, scheme="http", body_idle_s=STALL_S)
        self._ours = self.proxy.new_request_id()[:8].encode()
        if self._has_lane:
            self.lane = CountingLane(FastLane(self.proxy))
        self.deadlines = Deadlines(self.loop, head_s=HEAD_S, stall_s=STALL_S)
        self.server = GateServer(
            self.proxy,
            lane=self.lane,
            crowd=Crowd(None, None, self.gate.runtime.snapshot.trusted),
            deadlines=self.deadlines,
            on_refused=lambda peer, status, reason: self.telemetry.record(
                None, "", reason, None, status, "", 0.0, None, 0, peer
            ),
            auto_decompress=False,
            keepalive_timeout=KEEP_ALIVE_S,
            max_line_size=MAX_TARGET_BYTES,
            max_field_size=self.gate.runtime.snapshot.head_bytes,
            max_headers=MAX_FIELDS,
            loop=self.loop,
            **self._settings,
        )
        observe(self.telemetry, self.gate, self.server, self.streams)

    async def _look_up(self, token: SessionToken) -> SessionRecord | None:
        return await self.gate.runtime.sessions.get(token)

    # what happens to it

    def connect(self, peer: str = "203.0.113.7") -> HandClient:
        """A new client; takes a turn."""
        client = HandClient(self.loop, peer)
        self.clients.append(client)

        def come() -> None:
            client.protocol = self.server()
            client.protocol.connection_made(client)

        self.loop.do(come)
        return client

    def say(self, client: HandClient, data: bytes | None) -> None:
        self.loop.do(lambda: client.say(data))

    def change(self, name: str, /, **changes: Any) -> None:
        """Put a session into the store that differs so; None as `session` takes it out."""
        if changes.get("session", {}) is None:
            self.store.records.pop(TOKENS[name], None)
            return
        before = records()[name]
        session = {field: getattr(before.session, field) for field in before.session.__struct_fields__}
        user = {field: getattr(before.user, field) for field in before.user.__struct_fields__}
        session |= changes.pop("session", {})
        self.store.records[TOKENS[name]] = record(session, **(user | changes))

    def forget(self, name: str) -> None:
        self.gate.runtime.sessions.forget(SessionToken(TOKENS[name]))

    # what is seen of it

    @property
    def taken(self) -> int:
        """How many requests the lane has taken."""
        return 0 if self.lane is None else self.lane.recognised + self.lane.parsed

    def seen(self) -> list[tuple[str, bytes, tuple[str, ...]]]:
        """What every client and every connection to an app has got, and what became of it."""
        ends = [(f"client {number}", end) for number, end in enumerate(self.clients)]
        ends += [(f"app {number}", end) for number, end in enumerate(self.app.connections)]  # type: ignore[misc]
        ends += [(f"api {number}", end) for number, end in enumerate(self.api.connections)]  # type: ignore[misc]
        return [(name, self.fixed(bytes(end.got)), tuple(end.ends)) for name, end in ends]

    def logged(self) -> list[bytes]:
        """The access lines, by time and request: of what ends within one tick, chance says which is first."""
        if not self.loop.is_closed():
            self.loop.do(self.telemetry.flush)
        return sorted(self.fixed(line) for line in self.lines.lines)

    def metrics(self) -> list[str]:
        text = Exposition(self.telemetry).render("")[0].decode()
        return [line for line in text.splitlines() if line.startswith("gatekeeper_")]

    def fixed(self, data: bytes) -> bytes:
        """Request ids begin alike in both gates."""
        return data.replace(self._ours, b"00000000")

    def close(self) -> list[str]:
        """End everything; returns what went wrong unseen."""

        def leave() -> None:
            for client in self.clients:
                client.lose(None)
            self.streams.close()
            for pool in self.gate.runtime.upstreams.values():
                pool.close()
            for app in (self.app, self.api):
                for end in app.connections:
                    end.lose(None)
            self.telemetry.close()
            self.deadlines.close()

        self.loop.do(leave)
        self.loop.pass_s(3.0)
        troubles = list(self.loop.troubles)
        self.loop.close()
        return troubles


@contextmanager
def two_gates(**settings: Any) -> Iterator[tuple[HandGate, HandGate]]:
    """The gate with the lane, and the gate without it.  What goes wrong in them unseen, fails here."""
    errors = _Errors()
    logger = logging.getLogger("gatekeeper")
    before = logger.handlers[:], logger.propagate
    patch = pytest.MonkeyPatch()
    patch.setattr(UpstreamConnection, "__hash__", _number_of, raising=False)
    logger.handlers[:], logger.propagate = [errors], False
    gates = HandGate(lane=True, **settings), HandGate(lane=False, **settings)
    try:
        yield gates
    finally:
        troubles = gates[0].close() + gates[1].close()
        logger.handlers[:], logger.propagate = before
        patch.undo()
    found = troubles + errors.said
    assert not found, found


def _number_of(connection: UpstreamConnection) -> int:
    """Of what is in a set, the same comes first in both gates."""
    numbers = connection.pool.__dict__.setdefault("numbers", itertools.count())
    return connection.__dict__.setdefault("number", next(numbers))  # type: ignore[no-any-return]


class _Errors(logging.Handler):
    """Collects the exceptions that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is not None:
            self.said.append(self.format(record))
