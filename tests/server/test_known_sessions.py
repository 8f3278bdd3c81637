"""What account calls read of a gate's memory, and what they make it forget."""

from collections.abc import AsyncIterator

import pytest

from gatekeeper.core.cookies import find_cookie
from gatekeeper.core.model import Reason, RequestFacts, SessionRecord, SessionToken, Target
from gatekeeper.server.gate import Gate
from gatekeeper.server.known_sessions import KnownSessions
from gatekeeper.server.streams import Streams
from gatekeeper.stores.claims import Claims
from tests.core.records import TOKEN, record
from tests.server.test_gate import FakeStore, gate_on
from tests.server.test_streams import NOW_MS, FakeStream

RECORD = record({"expires_at_ms": NOW_MS + 60_000})
ID = SessionToken(TOKEN)
FACTS = RequestFacts(
    "GET", Target("/api/auth/get-session", None, (), ()), "http", "app.test", "203.0.113.7", cookie="a=b"
)


class SaidByCookie(Claims):
    """A session_data cookie that speaks for RECORD until something is told of it."""

    def __init__(self) -> None:
        self.speaks = True

    def read(self, cookies: str | None, token: SessionToken, now_ms: int) -> SessionRecord | None:
        return RECORD if self.speaks and find_cookie(cookies, "a") == "b" and token == ID else None

    def session_changed(self, digest: bytes) -> None:
        self.speaks = False

    def user_changed(self, digest: bytes) -> None:
        self.speaks = False


class Known:
    def __init__(self, gate: Gate, store: FakeStore) -> None:
        self.store = store
        self.streams = Streams(gate.runtime.sessions.get, gate.clock, lambda _: None)
        self.claims = SaidByCookie()
        self.claims.speaks = False
        gate.runtime.claims = self.claims
        self.sessions = KnownSessions(gate, self.streams)
        store.records[TOKEN] = RECORD

    async def read(self, *, from_store: bool = False) -> SessionRecord | None:
        return await self.sessions.read(ID, FACTS, from_store=from_store)


@pytest.fixture
async def known() -> AsyncIterator[Known]:
    store = FakeStore()
    async with gate_on(store) as gate:
        yield Known(gate, store)


async def test_what_is_in_memory_is_not_read_again_unless_the_store_is_to_say(known: Known) -> None:
    assert [await known.read(), await known.read()] == [RECORD, RECORD]
    assert known.store.asked == [TOKEN]
    assert await known.read(from_store=True) == RECORD
    assert known.store.asked == [TOKEN, TOKEN]
    assert known.store.addresses == ["203.0.113.7", "203.0.113.7"]


async def test_a_cookie_that_may_speak_saves_the_read_unless_the_store_is_to_say(known: Known) -> None:
    known.claims.speaks = True
    known.store.records.clear()
    assert await known.read() == RECORD
    assert known.store.asked == []
    assert await known.read(from_store=True) is None
    assert await known.read() is None  # as was just found
    assert known.store.asked == [TOKEN]


async def test_a_session_that_changed_is_read_again_and_its_cookie_speaks_no_more(known: Known) -> None:
    await known.read()
    known.claims.speaks = True
    known.sessions.changed(TOKEN)
    assert await known.read() == RECORD
    assert known.store.asked == [TOKEN, TOKEN]


async def test_the_sessions_of_a_user_who_changed_are_read_again(known: Known) -> None:
    await known.read()
    known.claims.speaks = True
    known.sessions.user_changed("somebody-else")
    await known.read()
    assert known.store.asked == [TOKEN]
    known.claims.speaks = True
    known.sessions.user_changed(RECORD.user.id)
    await known.read()
    assert known.store.asked == [TOKEN, TOKEN]


async def test_streams_end_with_their_sessions(known: Known) -> None:
    await known.read()
    known.claims.speaks = True
    ended, other = FakeStream(), FakeStream()
    known.streams.add(ended, RECORD)
    known.streams.add(other, record({"token": "another", "expires_at_ms": NOW_MS + 60_000}))
    known.store.records.clear()
    known.sessions.ended([TOKEN, "unknown"])
    assert (ended.cut_for, other.cut_for) == ([Reason.SESSION_ENDED], [])
    assert await known.read() is None
    known.streams.close()
