"""`server.recheck`: which streams are cut after a look at the store, and which go on."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import Reason, SessionRecord, SessionToken
from gatekeeper.server.recheck import Recheck
from gatekeeper.server.streams import Streams
from gatekeeper.stores.protocol import StoreIncomplete
from gatekeeper.stores.tables import BATCH
from tests.core.records import NOW_MS, record
from tests.server.test_streams import FakeStream


class BrokenStream:
    def cut(self, reason: Reason) -> None:
        raise ValueError("a defect")


class Looked:
    def __init__(self) -> None:
        self.stored: dict[str, SessionRecord] = {}
        self.fault: Exception | None = None
        self.asked: list[list[str]] = []
        self.was_asked = asyncio.Event()
        self.fails_from = 1_000
        self.meanwhile: Callable[[], None] | None = None
        self.revoked: list[str] = []
        self.streams = Streams(self.look_up, lambda: NOW_MS, lambda record: None)
        self.recheck = Recheck(self.streams, self.read_all, lambda: NOW_MS, 0.0)

    async def look_up(self, token: SessionToken) -> SessionRecord | None:
        raise AssertionError("one at a time")

    async def read_all(self, tokens: Sequence[SessionToken]) -> Mapping[SessionToken, SessionRecord]:
        self.asked.append(sorted(tokens))
        self.was_asked.set()
        if len(self.asked) >= self.fails_from:
            raise StoreUnavailable("gone")
        if self.fault is not None:
            raise self.fault
        found = {token: self.stored[token] for token in tokens if token in self.stored}
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return found

    async def until(self, times: int) -> None:
        """Wait until the store was asked so often."""
        while len(self.asked) < times and self.streams.count:
            self.was_asked.clear()
            await self.was_asked.wait()

    def open(self, token: str) -> FakeStream:
        self.stored[token] = record({"token": token, "expires_at_ms": NOW_MS + 1_000})
        stream = FakeStream()
        self.streams.add(stream, self.stored[token])
        return stream


@pytest.fixture
async def looked() -> Looked:
    return Looked()


async def test_all_sessions_are_asked_about_at_once(looked: Looked) -> None:
    streams = [looked.open("a"), looked.open("b"), looked.open("a")]
    await looked.recheck.look(everything=True)
    assert looked.asked == [["a", "b"]]
    assert [stream.cut_for for stream in streams] == [[], [], []]
    looked.streams.close()


async def test_without_streams_nobody_asks(looked: Looked) -> None:
    looked.streams.add(FakeStream(), None)
    await looked.recheck.look(everything=True)
    assert looked.asked == []


async def test_streams_of_a_revoked_session_end(looked: Looked) -> None:
    first, second, other = looked.open("a"), looked.open("a"), looked.open("b")
    del looked.stored["a"]
    await looked.recheck.look(everything=True)
    assert first.cut_for == second.cut_for == [Reason.SESSION_ENDED]
    assert other.cut_for == []
    await looked.recheck.look(everything=True)
    assert looked.asked == [["a", "b"], ["b"]]
    looked.streams.close()


@pytest.mark.parametrize("change", ["expired", "banned"])
async def test_streams_of_a_session_that_is_not_live_any_more_end(looked: Looked, change: str) -> None:
    stream = looked.open("a")
    session = {"token": "a", "expires_at_ms": NOW_MS - 1 if change == "expired" else NOW_MS + 1_000}
    looked.stored["a"] = record(session, banned=change == "banned")
    await looked.recheck.look(everything=True)
    assert stream.cut_for == [Reason.SESSION_ENDED]
    looked.streams.close()


async def test_of_some_nothing_is_known(looked: Looked) -> None:
    """Those that have ended are cut all the same."""
    live, unknown, ended = looked.open("live"), looked.open("unknown"), looked.open("ended")
    found = {SessionToken("live"): looked.stored["live"]}
    looked.fault = StoreIncomplete("one is refused", found, {SessionToken("unknown")})
    await looked.recheck.look(everything=True)
    assert (live.cut_for, unknown.cut_for, ended.cut_for) == ([], [], [Reason.SESSION_ENDED])
    looked.streams.close()


async def test_an_extended_session_is_known_as_such(looked: Looked) -> None:
    stream = looked.open("a")
    looked.stored["a"] = record({"token": "a", "expires_at_ms": NOW_MS + 9_000})
    await looked.recheck.look(everything=True)
    found: list[SessionRecord] = []
    looked.streams._on_cut = found.append
    looked.streams.cut_session("a")
    assert stream.cut_for == [Reason.SESSION_ENDED]
    assert found == [looked.stored["a"]]
    looked.streams.close()


@pytest.mark.parametrize("fault", [StoreUnavailable("gone"), ValueError("a defect")])
async def test_a_store_that_cannot_answer_cuts_nothing_and_is_asked_again(looked: Looked, fault: Exception) -> None:
    stream = looked.open("a")
    looked.fault = fault
    running = asyncio.create_task(looked.recheck.run())
    await looked.until(3)
    assert stream.cut_for == []
    looked.fault = None
    del looked.stored["a"]
    await looked.until(len(looked.asked) + 1)
    await asyncio.sleep(0)
    assert stream.cut_for == [Reason.SESSION_ENDED]
    running.cancel()
    looked.streams.close()


async def test_many_are_asked_about_some_at_a_time(looked: Looked) -> None:
    """Asked about at once, they would take longer than a store may take, and none would ever be cut."""
    streams = [looked.open(f"{number:03}") for number in range(2 * BATCH + 1)]
    looked.stored.clear()
    looked.recheck.look_soon([SessionToken("000"), SessionToken("closed")])
    await looked.recheck.look(everything=True)
    assert looked.asked[0] == ["000", "closed"]
    assert [len(tokens) for tokens in looked.asked[1:]] == [BATCH, BATCH, 1]
    assert all(stream.cut_for for stream in streams)
    assert not looked.recheck.doubted


async def test_after_a_failure_the_rest_stays_due(looked: Looked) -> None:
    streams = [looked.open(f"{number:03}") for number in range(2 * BATCH)]
    looked.stored.clear()
    looked.recheck.look_soon(looked.streams.tokens())
    looked.fails_from = 2
    with pytest.raises(StoreUnavailable):
        await looked.recheck.look(everything=False)
    assert sum(bool(stream.cut_for) for stream in streams) == BATCH
    assert len(looked.recheck.doubted) == BATCH
    looked.fails_from = 99
    await looked.recheck.look(everything=False)
    assert all(stream.cut_for for stream in streams)


@pytest.mark.parametrize("everything", [False, True])
async def test_a_stream_that_cannot_be_cut_keeps_no_other_one_open(looked: Looked, everything: bool) -> None:
    first, broken, last = looked.open("a"), BrokenStream(), looked.open("c")
    looked.streams.add(broken, record({"token": "b"}))
    looked.streams.add(last, record({"token": "c"}))
    looked.stored.clear()
    looked.recheck.look_soon([SessionToken(token) for token in "abc"])
    with pytest.raises(ValueError, match="a defect"):
        await looked.recheck.look(everything=everything)
    await looked.recheck.look(everything=False)
    assert (first.cut_for, bool(last.cut_for), looked.streams.count) == ([Reason.SESSION_ENDED], True, 0)


@pytest.mark.parametrize("everything", [False, True])
async def test_who_is_told_of_while_many_are_looked_at_comes_next(looked: Looked, everything: bool) -> None:
    """All are looked at after a feed was opened anew, which may take seconds."""
    streams = {f"{number:03}": looked.open(f"{number:03}") for number in range(4 * BATCH)}
    if not everything:
        looked.recheck.look_soon(looked.streams.tokens())

    def is_revoked() -> None:
        first = looked.asked[0][0]
        token = next(token for token in streams if token not in looked.asked[0])
        for revoked in (first, token):
            looked.stored.pop(revoked, None)
            looked.recheck.look_soon([SessionToken(revoked)])
        looked.revoked = [first, token]

    looked.meanwhile = is_revoked
    await looked.recheck.look(everything=everything)
    assert set(looked.revoked) <= set(looked.asked[1])
    assert [token for token, stream in streams.items() if stream.cut_for] == sorted(looked.revoked)


async def test_whom_the_store_says_nothing_of_is_asked_about_once_in_a_look(looked: Looked) -> None:
    live = looked.open("live")
    looked.recheck.look_soon([SessionToken("live")])
    looked.fault = StoreIncomplete("refused", {}, {SessionToken("live")})
    await looked.recheck.look(everything=False)
    assert (looked.asked, looked.recheck.doubted, live.cut_for) == ([["live"]], {"live"}, [])
    looked.streams.close()
