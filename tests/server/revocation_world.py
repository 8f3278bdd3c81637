"""A world without sockets in which sessions are revoked: a store, an app that writes cookies, workers behind feeds.

The gate's own classes decide: `Gate`, `SessionCache`, `Claims`, `Lease`, `Revocations`, `Feed`.  The store, the
channels and the time are in the test's hands.  The store keeps what it held before and until when, so that of every
answer can be said how old it is.  Times are the loop's seconds; all that is done takes multiples of 1/8 s, so no sum
is rounded.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import SessionRecord, SessionToken
from gatekeeper.stores.feeds.feed import Changes, Memory, digest_of
from gatekeeper.stores.lease import MARKER_S
from tests.core.records import record
from tests.core.test_session_data import compact_of, iso, to_json
from tests.server.by_hand import HandLoop
from tests.server.gates import SECRET

BEGAN_MS = 1_790_000_000_000
BEGAN_S = 1_000.0

Tell = Callable[[Changes], None]
"""A message of the store's: what it has a worker's `Changes` do."""

_T = TypeVar("_T")


class World(HandLoop):
    """The loop of everything, whose time goes from timer to timer."""

    def __init__(self) -> None:
        super().__init__()
        self._selector.select = lambda timeout=None: []  # type: ignore[attr-defined]  # there are no sockets

    def now_ms(self) -> int:
        return BEGAN_MS + round((self.at - BEGAN_S) * 1000)

    def pass_s(self, seconds: float) -> None:
        end = self.at + seconds
        while self.at < end:
            timers = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
            self.at = min([end, *(max(when, self.at) for when in timers)])
            self.settle()


class Row(msgspec.Struct):
    """A session as the store has it.  `version` grows with each change."""

    user: str
    created_ms: int
    expires_ms: int
    version: int = 0


class Person(msgspec.Struct):
    role: str = "user"
    banned: bool = False
    version: int = 0


class _Read:
    """A question that is under way.  `look` is what it asks; it has an answer once it has looked."""

    def __init__(self, look: Callable[[], object], at: float) -> None:
        self.began = at
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._look = look
        self._found: list[object] = []

    def look(self) -> object:
        if not self._found:
            self._found.append(self._look())
        return self._found[0]

    def answer(self) -> None:
        self.look()
        if not self.done.done():
            self.done.set_result(None)


class WorldStore:
    """Sessions and users; what they were; who is told of changes; and the reads that wait while it `is_slow`.

    A slow read looks when it begins if the store `is_eager`, else when it is told to, or when it is answered.
    """

    recheck_s = 1.0

    def __init__(self, world: World) -> None:
        self.world = world
        self.rows: dict[str, Row] = {}
        self.people = {"ada": Person(role="admin"), "bob": Person()}
        self.past: dict[str, list[tuple[SessionRecord | None, float]]] = {}
        self.connections: list[Connection] = []
        self.commits = 0
        self.is_slow = False
        self.is_eager = True
        self.fails = False
        self.failed_at = 0.0
        self.waiting: list[_Read] = []

    # what is in it

    def state(self, token: str) -> SessionRecord | None:
        """What it holds now.  The versions are in the user agent and the name, which cookies have too."""
        row = self.rows.get(token)
        if row is None:
            return None
        session = {"token": token, "user_id": row.user, "id": f"id-{token}", "user_agent": f"{row.version}"}
        session |= {"created_at_ms": row.created_ms, "expires_at_ms": row.expires_ms}
        person = self.people[row.user]
        name = f"{row.user} {person.version}"
        return record(session, id=row.user, name=name, role=person.role, banned=person.banned)

    def true_since(self, token: str, since: float) -> list[SessionRecord | None]:
        """What has been so at some moment from then until now."""
        return [*(state for state, until in self.past.get(token, []) if until >= since), self.state(token)]

    def tokens_of(self, user: str) -> list[str]:
        return [token for token, row in self.rows.items() if row.user == user]

    def commit(self, tokens: Sequence[str], change: Callable[[], object], *messages: Tell) -> None:
        """Change something that these tokens depend on, and tell everybody who listens."""
        for token in tokens:
            self.past.setdefault(token, []).append((self.state(token), self.world.at))
        change()
        self.commits += 1
        for connection in self.connections:
            for message in messages:
                connection.put(message)

    # as a SessionStore

    async def read_session(self, token: SessionToken, client_address: str | None = None) -> SessionRecord | None:
        return await self._answer(lambda: self.state(token))

    async def read_sessions(self, tokens: Sequence[SessionToken]) -> dict[SessionToken, SessionRecord]:
        def look() -> dict[SessionToken, SessionRecord]:
            found = {token: self.state(token) for token in tokens}
            return {token: state for token, state in found.items() if state is not None}

        return await self._answer(look)

    async def _answer(self, look: Callable[[], _T]) -> _T:
        read = _Read(look, self.world.at)
        if self.is_slow:
            self.waiting.append(read)
            if self.is_eager:
                read.look()
            try:
                await read.done
            finally:
                self.waiting.remove(read)
        if self.fails:
            self.failed_at = self.world.at
            raise StoreUnavailable("the store of the world is away")
        return read.look()  # type: ignore[return-value]

    def channel(self, memory: Memory) -> None:
        return None

    async def check(self) -> None:
        return

    async def close(self) -> None:
        return


class Connection:
    """What a worker hears over one connection: messages and markers, in one queue.  While `is_held`, they wait."""

    def __init__(self, changes: Changes) -> None:
        self.is_held = False
        self.is_cut = False
        self.is_silent = False
        self.queue: deque[Tell | asyncio.Future[None]] = deque()
        self._changes = changes

    def put(self, item: "Tell | asyncio.Future[None]") -> None:
        if not self.is_silent:
            self.queue.append(item)
            if not self.is_held:
                self.deliver(1)

    def deliver(self, number: int) -> None:
        for _ in range(min(number, len(self.queue))):
            item = self.queue.popleft()
            if isinstance(item, asyncio.Future):
                if not item.done():
                    item.set_result(None)
            else:
                item(self._changes)

    def cut(self) -> None:
        """Lost, with all that is on its way; whoever waits for a marker is told."""
        self.is_cut = self.is_silent = True
        for item in self.queue:
            if isinstance(item, asyncio.Future) and not item.done():
                item.set_exception(StoreUnavailable("the connection was cut"))
        self.queue.clear()

    def fall_silent(self) -> None:
        """Lost, but nobody says so."""
        self.is_silent = True
        self.queue.clear()


class WorldChannel:
    """A worker's Channel.  One that does not name all looks whether there was a commit, and has memory read again."""

    label = "a fake"
    interval_s = MARKER_S

    def __init__(self, store: WorldStore, memory: Memory, *, names_all: bool) -> None:
        self.names_all = names_all
        self.refuses = False
        self.opens: asyncio.Event = asyncio.Event()
        self.opens.set()
        self.connection: Connection | None = None
        self.opened_at = 0.0
        self._store = store
        self._memory = memory
        self._seen = 0

    async def open(self, changes: Changes) -> None:
        await self.opens.wait()
        if self.refuses:
            raise StoreUnavailable("nobody may listen")
        self.connection = Connection(changes)
        self.opened_at = self._store.world.at
        self._seen = self._store.commits
        if self.names_all:
            self._store.connections.append(self.connection)

    async def turn(self) -> None:
        connection = self.connection
        if connection is None or connection.is_cut:
            raise StoreUnavailable("the connection was cut")
        commits = self._store.commits
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connection.put(arrived)
        await arrived
        if self.names_all:
            return
        seen, self._seen = self._seen, commits if self._store.is_eager else self._store.commits
        if self._seen != seen:
            await self._memory.reconcile()

    async def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None and connection in self._store.connections:
            self._store.connections.remove(connection)


def session_message(token: str) -> Tell:
    digest = digest_of(token)
    return lambda changes: changes.session_changed(digest)


def user_message(user: str) -> Tell:
    digest = digest_of(user)
    return lambda changes: changes.user_changed(digest)


def any_message(changes: Changes) -> None:
    changes.all_changed()


def data_cookie(state: SessionRecord, written_ms: int, lasts_ms: int) -> str:
    """The value of a session_data cookie, as an app whose clock says `written_ms` writes it."""
    session, user = state.session, state.user
    fields = {
        "session": {
            "id": session.id,
            "token": session.token,
            "userId": session.user_id,
            "expiresAt": iso(session.expires_at_ms),
            "createdAt": iso(session.created_at_ms),
            "updatedAt": iso(session.updated_at_ms),
            "ipAddress": "",
            "userAgent": session.user_agent,
        },
        "user": {
            "id": user.id,
            "name": user.name,
            "email": user.email,
            "emailVerified": True,
            "image": None,
            "createdAt": iso(user.created_at_ms),
            "updatedAt": iso(user.updated_at_ms),
            "role": user.role,
            "banned": user.banned,
        },
        "updatedAt": written_ms,
        "version": "1",
    }
    return compact_of(to_json(fields), written_ms + lasts_ms, SECRET)
