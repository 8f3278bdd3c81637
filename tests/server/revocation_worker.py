"""A worker of a gate in a `World`, and the judgement of what it answers.

Two laws.  What lets a request through was so in the store at some moment of the last second before the request came.
And a request is only refused if it would have been right to refuse it at some moment of that second, or by the store.
"""

import asyncio
from functools import lru_cache
from pathlib import Path
from typing import Literal

from gatekeeper.config.load import load_text
from gatekeeper.config.snapshot import Snapshot, compile_settings
from gatekeeper.core.model import Allow, AuthStatus, Reason, RequestFacts, SessionRecord
from gatekeeper.server.gate import Admission, Gate, Runtime
from gatekeeper.server.pages import PageSettings
from gatekeeper.server.recheck import Recheck
from gatekeeper.server.revocations import Revocations
from gatekeeper.server.streams import Streams
from gatekeeper.stores.cache import SessionCache
from gatekeeper.stores.claims import Claims, ClaimSettings
from gatekeeper.stores.feeds.feed import Feed
from gatekeeper.stores.lease import Lease
from gatekeeper.telemetry.telemetry import Telemetry
from tests.core.facts import facts
from tests.server.gates import COOKIE, SECRET, cookie_value
from tests.server.revocation_feeds import WorldChannel
from tests.server.revocation_world import World, WorldStore

PROMISE_S = 1.0
"""How long what was revoked may still be let through."""

FRESH_S = 20
DATA_COOKIE = "better-auth.session_data"
DATA_AGE_MS = 20_000
Feeds = Literal["names", "looks", "none"]
"""What a store has: a feed that names all that changes, one that looks after each commit, or none."""

PATHS = ["/plain", "/fresh", "/admin", "/open"]
CONFIG = f"""
listen: 127.0.0.1:0
upstream: http://127.0.0.1:9
secret: {SECRET}
store: sqlite:///none.db
protect: [/plain, {{path: /fresh, access: fresh}}, {{path: /admin, require: {{roles: [admin]}}}}]
public: [{{path: /open, identity: optional}}]
session: {{fresh_age: {FRESH_S}s}}
"""


def snapshot() -> Snapshot:
    return compile_settings(load_text(CONFIG, source="test", base_dir=Path("."), environ={}))


def may(state: SessionRecord | None, path: str, now_ms: int) -> bool:
    """Whether it is right to let a request through, or to say whose it is, when this is so."""
    if state is None or state.user.banned or state.session.expires_at_ms < now_ms:
        return False
    if path == "/fresh":
        return now_ms - state.session.created_at_ms < FRESH_S * 1000
    return path != "/admin" or state.user.role == "admin"


class Worker:
    """One process of the gate; what it remembers is gone when it is started again."""

    def __init__(
        self, world: World, store: WorldStore, compiled: Snapshot, *, feed: Feeds, entries: int, marks: int
    ) -> None:
        self.world = world
        self.store = store
        self.lease = Lease()
        self.cache = SessionCache(
            store,
            max_age_s=15.0,
            entries=entries,
            negative_age_s=1.0,
            negative_entries=2,
            clock=world.time,
            lease=self.lease,
        )
        settings = ClaimSettings(DATA_COOKIE, "compact", "1", DATA_AGE_MS)
        self.claims = Claims(settings, compiled.keys, self.lease, world.time, world.now_ms, marks=marks)
        self.gate = Gate(Runtime(compiled, self.cache, self.claims, {}), PageSettings("/sign-in"), world.now_ms)
        streams = Streams(self.cache.get, world.now_ms, lambda record: None)
        recheck = Recheck(streams, self.cache.read_all, world.now_ms, 1.0)
        changes = Revocations(self.gate.runtime, streams, recheck, Telemetry(), world.time)
        self.channel = WorldChannel(store, changes, names_all=feed == "names")
        following = Feed(self.channel, self.lease, world.time).run
        self.following = [world.create_task(following(changes))] if feed != "none" else []
        self.asked: list[asyncio.Task[None]] = []
        world.settle()

    def ask(self, token: str, path: str, data: str | None = None) -> None:
        """A request comes, and is answered when what it needs is known; `judged` says whether it was right."""
        self.asked.append(self.world.create_task(self._ask(token, path, data)))
        self.world.settle()

    def look(self, token: str, path: str, data: str | None = None) -> None:
        """A request comes that is answered at once, or is forgotten."""
        hits = self.claims.hits
        admission = self.gate.try_admit(request(token, path, data))
        if isinstance(admission, Admission):
            self._judge(admission, token, path, self.world.at)
        assert path in ("/plain", "/open") or self.claims.hits == hits, "a cookie has decided where it may not"

    def judged(self) -> None:
        """Fail if any answer so far was wrong."""
        for task in [task for task in self.asked if task.done()]:
            self.asked.remove(task)
            task.result()

    def is_covered_rightly(self) -> None:
        """What the lease says is so: a channel is open, and was before the coverage began."""
        connection = self.channel.connection
        assert connection is not None or not self.lease.is_held(self.world.at), "held without a channel"
        since = self.lease.covered_since
        if since is not None:
            assert self.channel.names_all
            assert connection is not None, "covered without a channel"
            assert since >= self.channel.opened_at, "covered before the channel was open"

    def stop(self) -> None:
        """The process ends; its clients are told nothing."""
        for task in [*self.asked, *self.following]:
            task.cancel()
        self.asked.clear()
        self.world.settle()
        closing = self.world.create_task(self.cache.close())
        self.world.settle()
        closing.result()

    async def _ask(self, token: str, path: str, data: str | None) -> None:
        came = self.world.at
        admission = await self.gate.admit(request(token, path, data))
        self._judge(admission, token, path, came)

    def _judge(self, admission: Admission, token: str, path: str, came: float) -> None:
        decision, now_ms = admission.decision, self.world.now_ms()
        states = self.store.true_since(token, came - PROMISE_S)
        identity = decision.identity if isinstance(decision, Allow) else None
        if identity is not None and identity.status is AuthStatus.AUTHENTICATED:
            right = [state for state in states if state is not None and same(state, identity.record)]
            assert any(may(state, path, now_ms) for state in right), f"{path} was opened for {identity.record}"
        elif decision.reason is Reason.STORE_UNAVAILABLE or (identity and identity.status is AuthStatus.UNKNOWN):
            assert self.store.failed_at >= came, "the store can answer"
        else:
            came_ms = now_ms - round((self.world.at - came) * 1000)
            wrong = [state for state in states if not (may(state, path, came_ms) and may(state, path, now_ms))]
            assert wrong, f"{path} was refused to {states[-1]} for {decision}"


def same(state: SessionRecord, record: SessionRecord | None) -> bool:
    """Whether a record, which may come from a cookie, is this state of the store's."""
    assert record is not None
    ours, theirs = (
        (one.session.token, one.session.user_agent, one.session.expires_at_ms, one.user.name, one.user.role)
        for one in (state, record)
    )
    return ours == theirs and state.user.banned == record.user.banned


@lru_cache(10_000)
def request(token: str, path: str, data: str | None) -> RequestFacts:
    """What a browser with these cookies sends."""
    rest = "" if data is None else f"; {DATA_COOKIE}={data}"
    return facts(path, cookie=f"{COOKIE}={signed(token)}{rest}")


@lru_cache(1_000)
def signed(token: str) -> str:
    return cookie_value(token)
