"""Streams belong to their session: cut with it, asked about when it expires.  Time is the test's."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import Reason, Require, SessionRecord, SessionToken
from gatekeeper.server.streams import Streams
from gatekeeper.stores.feeds.feed import digest_of
from tests.core.records import record

NOW_MS = 1_800_000_000_000


class FakeStream:
    def __init__(self) -> None:
        self.cut_for: list[Reason] = []

    def cut(self, reason: Reason) -> None:
        self.cut_for.append(reason)


class Held:
    """Streams over a store of records, with a clock; `tick` looks after them and waits for what that asks."""

    def __init__(self) -> None:
        self.at_ms = NOW_MS
        self.stored: dict[str, SessionRecord] = {}
        self.asked: list[str] = []
        self.fault: Exception | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.cut: list[SessionRecord] = []
        self.streams = Streams(self.look_up, lambda: self.at_ms, self.cut.append)

    async def look_up(self, token: SessionToken) -> SessionRecord | None:
        self.asked.append(token)
        await self.answers.wait()
        if self.fault is not None:
            raise self.fault
        return self.stored.get(token)

    def open(self, of: str = "a", user: str = "ada", expires_in_ms: int = 1_000) -> FakeStream:
        found = record({"token": of, "expires_at_ms": self.at_ms + expires_in_ms}, id=user)
        self.stored[of] = found
        stream = FakeStream()
        self.streams.add(stream, found)
        return stream

    async def tick(self, *, after_ms: int = 0) -> None:
        self.at_ms += after_ms
        if self.streams.ticker is not None:
            self.streams.ticker.cancel()
        self.streams.tick()
        for _ in range(5):
            await asyncio.sleep(0)


@pytest_asyncio.fixture
async def held() -> AsyncIterator[Held]:
    made = Held()
    yield made
    made.streams.close()


async def test_a_session_that_has_ended_takes_its_streams_along(held: Held) -> None:
    first, second, other = held.open("a"), held.open("a"), held.open("b")
    held.streams.cut_session("a")
    assert first.cut_for == second.cut_for == [Reason.SESSION_ENDED]
    assert other.cut_for == []
    assert held.streams.count == 1
    assert [found.session.token for found in held.cut] == ["a", "a"]
    held.streams.cut_session("a")
    held.streams.cut_session("nobody's")
    assert first.cut_for == [Reason.SESSION_ENDED]


async def test_streams_are_found_by_what_feeds_call_their_session_and_user(held: Held) -> None:
    streams, digest = held.streams, digest_of
    open_ = [held.open("a", "ada"), held.open("a", "ada"), held.open("b", "ada"), held.open("c", "bob")]
    assert streams.tokens_of_session(digest("a")) == ["a"]
    assert sorted(streams.tokens_of_user(digest("ada"))) == ["a", "b"]
    streams.discard(open_[0])
    assert streams.tokens_of_session(digest("a")) == ["a"]
    streams.discard(open_[1])
    assert (streams.tokens_of_session(digest("a")), streams.tokens_of_user(digest("ada"))) == ([], ["b"])
    streams.cut_session("b")
    assert (streams.tokens_of_session(digest("b")), streams.tokens_of_user(digest("ada"))) == ([], [])
    assert streams.tokens_of_user(digest("bob")) == ["c"]


async def test_a_stream_ends_when_its_user_does_not_meet_its_rule_any_more(held: Held) -> None:
    admins = Require(roles=(frozenset({"admin"}),), organizations=(frozenset({"acme"}),))
    known = record({"token": "a"}, id="ada", role="admin", organizations=frozenset({"acme"}))
    stream, other = FakeStream(), FakeStream()
    held.streams.add(stream, known, admins)
    held.streams.add(other, known)
    held.streams.renew(record({"token": "a"}, id="ada", role="admin"))
    assert (stream.cut_for, other.cut_for) == ([], []), "memberships are not read with several sessions"
    held.streams.renew(record({"token": "a"}, id="ada", role="user"))
    assert (stream.cut_for, other.cut_for) == ([Reason.SESSION_ENDED], [])


async def test_a_session_that_has_become_another_users_takes_its_streams_along(held: Held) -> None:
    stream, other = held.open("a", "ada"), held.open("b", "ada")
    held.streams.renew(record({"token": "a"}, id="bob"))
    assert (stream.cut_for, other.cut_for) == ([Reason.SESSION_ENDED], [])
    assert held.streams.tokens_of_user(digest_of("ada")) == ["b"]
    held.streams.renew(record({"token": "nobody's"}))


async def test_a_stream_under_another_user_ends_those_before_it(held: Held) -> None:
    before, after = held.open("a", "ada"), held.open("a", "bob")
    assert (before.cut_for, after.cut_for) == ([Reason.SESSION_ENDED], [])
    assert held.streams.tokens_of_user(digest_of("ada")) == []
    assert held.streams.tokens_of_user(digest_of("bob")) == ["a"]
    held.streams.cut_session("a")
    assert (after.cut_for, held.streams.count) == ([Reason.SESSION_ENDED], 0)


async def test_a_stream_that_ended_by_itself_is_not_cut(held: Held) -> None:
    gone, left = held.open("a"), held.open("a")
    held.streams.discard(gone)
    held.streams.discard(gone)
    assert held.streams.count == 1
    held.streams.cut_session("a")
    assert (gone.cut_for, left.cut_for) == ([], [Reason.SESSION_ENDED])
    held.streams.discard(left)


async def test_when_the_gate_stops_all_end_those_without_a_session_too(held: Held) -> None:
    anonymous, known = FakeStream(), held.open()
    held.streams.add(anonymous, None)
    assert held.streams.count == 2
    held.streams.cut_session("a")
    held.streams.cut_all()
    held.streams.cut_all()
    assert anonymous.cut_for == [Reason.GATE_STOPS]
    assert known.cut_for == [Reason.SESSION_ENDED]
    assert held.streams.count == 0


async def test_until_a_session_expires_nobody_is_asked(held: Held) -> None:
    stream = held.open(expires_in_ms=1_000)
    await held.tick(after_ms=1_000)
    assert (held.asked, stream.cut_for) == ([], [])


async def test_a_session_that_expires_is_asked_about_and_ends(held: Held) -> None:
    first, second = held.open(expires_in_ms=1_000), held.open(expires_in_ms=1_000)
    await held.tick(after_ms=1_001)
    assert held.asked == ["a"]
    assert first.cut_for == second.cut_for == [Reason.SESSION_ENDED]
    await held.tick()
    assert held.asked == ["a"]


async def test_a_session_that_was_extended_goes_on(held: Held) -> None:
    first, second = held.open(expires_in_ms=1_000), held.open(expires_in_ms=1_000)
    held.stored["a"] = record({"token": "a", "expires_at_ms": NOW_MS + 5_000}, id="ada")
    await held.tick(after_ms=1_001)
    await held.tick(after_ms=1_000)
    assert held.asked == ["a"]
    assert first.cut_for == second.cut_for == []
    await held.tick(after_ms=3_000)
    assert held.asked == ["a", "a"]
    assert first.cut_for == second.cut_for == [Reason.SESSION_ENDED]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(None, id="deleted"),
        pytest.param(StoreUnavailable("the fake store is away"), id="away"),
        pytest.param(RuntimeError("an error that nobody thought of"), id="unforeseen"),
    ],
)
async def test_a_store_that_cannot_say_yes_says_no(held: Held, fault: Exception | None) -> None:
    stream = held.open(expires_in_ms=1_000)
    held.stored.clear()
    held.fault = fault
    await held.tick(after_ms=1_001)
    assert stream.cut_for == [Reason.SESSION_ENDED]


async def test_an_unforeseen_error_of_the_store_is_told_and_ends_no_other_stream(
    held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    held.open("a", expires_in_ms=1_000)
    other = held.open("b", expires_in_ms=5_000)
    held.fault = RuntimeError("an error that nobody thought of")
    await held.tick(after_ms=1_001)
    assert "an error that nobody thought of" in caplog.text
    held.fault = None
    await held.tick()
    assert (held.asked, other.cut_for, held.streams.count) == (["a"], [], 1)
    assert held.streams.ticker is not None


async def test_while_the_store_is_asked_it_is_not_asked_again(held: Held) -> None:
    stream = held.open(expires_in_ms=1_000)
    held.answers.clear()
    for _ in range(3):
        await held.tick(after_ms=1_001)
    assert held.asked == ["a"]
    assert stream.cut_for == []
    held.answers.set()
    await held.tick()
    assert stream.cut_for == [Reason.SESSION_ENDED]


async def test_a_stream_may_end_while_the_store_is_asked(held: Held) -> None:
    stream = held.open(expires_in_ms=1_000)
    held.answers.clear()
    await held.tick(after_ms=1_001)
    held.streams.discard(stream)
    held.answers.set()
    await held.tick()
    assert stream.cut_for == []
    assert held.streams.count == 0


async def test_the_ticker_runs_while_there_are_sessions_to_look_after(held: Held) -> None:
    held.streams.add(FakeStream(), None)
    assert held.streams.ticker is None
    stream = held.open()
    ticker = held.streams.ticker
    assert ticker is not None
    held.open()
    assert held.streams.ticker is ticker
    await held.tick()
    assert held.streams.ticker is not None
    held.streams.cut_session("a")
    assert stream.cut_for == [Reason.SESSION_ENDED]
    await held.tick()
    assert held.streams.ticker is None


async def test_closing_stops_asking(held: Held) -> None:
    stream = held.open(expires_in_ms=1_000)
    held.answers.clear()
    await held.tick(after_ms=1_001)
    held.streams.close()
    held.streams.close()
    held.answers.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert stream.cut_for == []
    assert held.streams.ticker is None
