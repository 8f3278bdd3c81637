"""A world without sockets in which sessions are revoked: its time, its store, and the cookies that its app writes.

The store keeps what it held before and until when, so that of every answer can be said how old it is.  Times are the
loop's seconds; all that is done takes multiples of 1/8 s, so no sum is rounded.
"""

import asyncio
from asyncio import events
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import SessionRecord, SessionToken
from gatekeeper.stores.feeds.feed import Memory
from tests.core.records import record
from tests.core.test_session_data import compact_of, iso, to_json
from tests.server.by_hand import HandLoop
from tests.server.gates import SECRET
from tests.server.revocation_feeds import Connection, Tell

BEGAN_MS = 1_790_000_000_000
BEGAN_S = 1_000.0
MOST_TURNS = 2_000

_T = TypeVar("_T")


class World(HandLoop):
    """The loop of everything, whose time goes from timer to timer.

    There are no sockets, and thousands of runs: so it does without much of what a loop does in each turn.
    """

    def __init__(self) -> None:
        super().__init__()
        self._selector.select = lambda timeout=None: []  # type: ignore[attr-defined]

    def settle(self) -> None:
        ready: Any = self._ready  # type: ignore[attr-defined]
        events._set_running_loop(self)
        try:
            for _ in range(MOST_TURNS):
                self._run_once()  # type: ignore[attr-defined]
                if not ready:
                    return
        finally:
            events._set_running_loop(None)
        raise AssertionError("it does not come to rest")

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

    def time(self) -> float:
        return self.world.at

    # what is in it

    def state(self, token: str) -> SessionRecord | None:
        """What it holds now.  The versions are in the user agent and the name, which cookies have too."""
        row = self.rows.get(token)
        if row is None:
            return None
        session: dict[str, Any] = {
            "token": token,
            "user_id": row.user,
            "id": f"id-{token}",
            "user_agent": f"{row.version}",
        }
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
