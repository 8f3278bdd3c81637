"""`server.revocations`: a change that a feed tells reaches memory, cookies and streams, and is timed."""

from collections.abc import AsyncIterator, Sequence

import pytest

from gatekeeper.core.cookies import Keys
from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import Reason, SessionRecord, SessionToken
from gatekeeper.server.gate import Runtime
from gatekeeper.server.recheck import Recheck
from gatekeeper.server.revocations import Revocations
from gatekeeper.server.streams import Streams
from gatekeeper.stores.cache import SessionCache
from gatekeeper.stores.claims import Claims
from gatekeeper.stores.feeds.feed import digest_of
from gatekeeper.stores.lease import Lease
from gatekeeper.telemetry.telemetry import Telemetry
from tests.core.records import NOW_MS, record
from tests.server.test_streams import FakeStream
from tests.stores.test_cache import FakeStore


class SpokenClaims(Claims):
    """Claims of which the last that counted is the test's choice."""

    spoken: SessionToken | None = None

    def __init__(self) -> None:
        super().__init__(None, Keys(["a secret that signs nothing here"]), Lease(), lambda: 0.0, lambda: 0)

    def any_token(self) -> SessionToken | None:
        return self.spoken


class Setting:
    """A cache on a fake store with three sessions, two of them of one user, streams, and the time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lease = Lease()
        self.store = FakeStore()
        for token, user in (("a", "ada"), ("b", "ada"), ("c", "bob")):
            self.store.records[token] = record({"token": token, "user_id": user}, id=user)
        self.cache = SessionCache(
            self.store,
            max_age_s=300.0,
            entries=10,
            negative_age_s=1.0,
            negative_entries=10,
            clock=lambda: self.now,
            lease=self.lease,
        )
        self.streams = Streams(self.cache.get, lambda: NOW_MS, lambda record: None)
        self.recheck = Recheck(self.streams, self.cache.read_all, lambda: NOW_MS, 1.0)
        self.telemetry = Telemetry()
        self.claims = SpokenClaims()
        runtime = Runtime(None, self.cache, self.claims, {})  # type: ignore[arg-type]  # no requests here
        self.changes = Revocations(runtime, self.streams, self.recheck, self.telemetry, lambda: self.now)

    async def open(self, token: str) -> FakeStream:
        found = await self.cache.get(SessionToken(token))
        assert found is not None
        return self.open_for(found)

    def open_for(self, found: SessionRecord) -> FakeStream:
        stream = FakeStream()
        self.streams.add(stream, found)
        return stream

    def remembered(self) -> list[str]:
        return sorted(self.cache.tokens())


@pytest.fixture
async def s() -> AsyncIterator[Setting]:
    setting = Setting()
    yield setting
    setting.streams.close()
    await setting.cache.close()


@pytest.fixture
async def streams(s: Setting) -> dict[str, FakeStream]:
    return {token: await s.open(token) for token in "abc"}


def cut(streams: dict[str, FakeStream]) -> list[str]:
    return [token for token, stream in streams.items() if stream.cut_for == [Reason.SESSION_ENDED]]


async def test_a_revoked_session_is_forgotten_and_its_streams_are_cut(
    s: Setting, streams: dict[str, FakeStream]
) -> None:
    del s.store.records["a"]
    s.changes.session_changed(digest_of("a"))
    assert s.remembered() == ["b", "c"]
    await s.recheck.look(everything=False)
    assert cut(streams) == ["a"]


async def test_a_session_that_was_only_extended_keeps_its_streams(s: Setting, streams: dict[str, FakeStream]) -> None:
    s.store.records["a"] = record({"token": "a", "expires_at_ms": NOW_MS + 99}, id="ada")
    s.changes.session_changed(digest_of("a"))
    await s.recheck.look(everything=False)
    assert cut(streams) == []


async def test_a_banned_users_streams_are_cut(s: Setting, streams: dict[str, FakeStream]) -> None:
    for token in "ab":
        s.store.records[token] = record({"token": token, "user_id": "ada"}, id="ada", banned=True)
    s.changes.user_changed(digest_of("ada"))
    assert s.remembered() == ["c"]
    await s.recheck.look(everything=False)
    assert cut(streams) == ["a", "b"]


async def test_when_anything_may_have_changed_all_are_read_again(s: Setting, streams: dict[str, FakeStream]) -> None:
    del s.store.records["b"]
    s.changes.all_changed()
    assert s.remembered() == []
    await s.recheck.look(everything=False)
    assert cut(streams) == ["b"]


@pytest.mark.parametrize("change", ["session", "user", "all", "reconciled"])
async def test_a_stream_that_opens_after_its_session_was_revoked_is_cut(s: Setting, change: str) -> None:
    """Its request was let through before; the app took its time to answer."""
    found = await s.cache.get(SessionToken("a"))
    assert found is not None
    del s.store.records["a"]
    match change:
        case "session":
            s.changes.session_changed(digest_of("a"))
        case "user":
            s.changes.user_changed(digest_of("ada"))
        case "all":
            s.changes.all_changed()
        case _:
            await s.changes.reconcile()
    stream = s.open_for(found)
    await s.recheck.look(everything=False)
    assert stream.cut_for == [Reason.SESSION_ENDED]


async def test_a_stream_under_a_session_that_was_never_read_is_looked_at(s: Setting) -> None:
    """A session_data cookie spoke for it."""
    stream, revoked = s.open_for(s.store.records["b"]), s.open_for(record({"token": "elsewhere"}))
    await s.recheck.look(everything=False)
    assert (stream.cut_for, revoked.cut_for) == ([], [Reason.SESSION_ENDED])


async def test_a_stream_under_a_session_that_is_known_costs_no_read(s: Setting) -> None:
    await s.open("a")
    reads = s.cache.counters.reads
    await s.recheck.look(everything=False)
    assert s.cache.counters.reads == reads


async def test_where_the_store_does_not_say_what_changed_all_are_compared(
    s: Setting, streams: dict[str, FakeStream]
) -> None:
    reads = list(s.store.reads)
    del s.store.records["b"]
    s.store.records["c"] = record({"token": "c", "user_id": "bob"}, id="bob", name="Robert")
    await s.changes.reconcile()
    assert s.remembered() == ["a"]
    assert cut(streams) == ["b"]
    assert s.store.reads == reads, "in batches, not one by one"


async def test_sessions_that_have_only_streams_are_compared_too(s: Setting, streams: dict[str, FakeStream]) -> None:
    s.cache.all_changed()
    del s.store.records["b"]
    await s.changes.reconcile()
    assert cut(streams) == ["b"]


async def test_an_emptied_store_is_noticed_by_whatever_session_is_believed(
    s: Setting, streams: dict[str, FakeStream]
) -> None:
    """In memory, else by a cookie, else by an open stream; none whose end was told and is looked into."""
    assert s.changes.any_token() == "c"
    s.cache.all_changed()
    s.claims.spoken = SessionToken("by-a-cookie")
    assert s.changes.any_token() == "by-a-cookie"
    s.claims.spoken = None
    assert s.changes.any_token() == "a"
    del s.store.records["a"]
    s.changes.session_changed(digest_of("a"))
    assert s.changes.any_token() == "b"
    s.store.error = StoreUnavailable("gone")
    with pytest.raises(StoreUnavailable):
        await s.recheck.look(everything=False)
    assert s.changes.any_token() == "b"
    s.store.error = None
    await s.recheck.look(everything=False)
    s.changes.user_changed(digest_of("ada"))
    s.changes.user_changed(digest_of("bob"))
    assert s.changes.any_token() is None
    await s.recheck.look(everything=False)
    assert s.changes.any_token() == "b"


async def test_a_session_that_is_being_looked_into_is_not_chosen(
    s: Setting, streams: dict[str, FakeStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    s.cache.all_changed()
    s.changes.user_changed(digest_of("ada"))
    s.changes.session_changed(digest_of("c"))
    seen: list[str | None] = []
    read = s.store.read_sessions

    async def reading(tokens: Sequence[SessionToken]) -> dict[SessionToken, SessionRecord]:
        seen.append(s.changes.any_token())
        return await read(tokens)

    monkeypatch.setattr(s.store, "read_sessions", reading)
    await s.recheck.look(everything=False)
    assert (seen, s.changes.any_token()) == ([None], "a")


async def test_a_change_is_timed_by_the_last_marker(s: Setting) -> None:
    s.changes.session_changed(digest_of("a"))
    assert sum(s.telemetry.revocations.counts) == 0, "without a lease nothing is known of its age"
    s.lease.renew(s.now)
    s.now += 0.2
    s.changes.session_changed(digest_of("a"))
    s.changes.user_changed(digest_of("ada"))
    assert sum(s.telemetry.revocations.counts) == 2
    assert s.telemetry.revocations.total == pytest.approx(0.4)
