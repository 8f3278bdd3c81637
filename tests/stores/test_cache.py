"""`stores.cache`: what is remembered, for how long, and what is asked how often.  No real time passes here."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import Session, SessionRecord, SessionToken, User
from gatekeeper.stores.cache import ABSENT, SessionCache
from gatekeeper.stores.feeds.feed import digest_of
from gatekeeper.stores.protocol import StoreIncomplete

MAX_AGE_S = 10.0
NEGATIVE_AGE_S = 2.0


class FakeStore:
    """Sessions in a dict.  While `held`, reads wait for `release`; each answers with what was stored when it began."""

    def __init__(self) -> None:
        self.records: dict[str, SessionRecord] = {}
        self.error: StoreUnavailable | None = None
        self.held = False
        self.reads: list[str] = []
        self.addresses: list[str | None] = []
        self.waiting: list[tuple[str, asyncio.Event]] = []
        self.most_at_once: dict[str, int] = {}
        self.closed = 0

    def put(self, token: str, user_id: str = "user_1", version: int = 0) -> SessionRecord:
        user = User(user_id, "Ada", "ada@example.test", True, None, 0, version)
        record = SessionRecord(Session(f"id-{token}", token, user_id, 0, 0, version, None, None), user)
        self.records[token] = record
        return record

    async def read_session(self, token: SessionToken, client_address: str | None = None) -> SessionRecord | None:
        self.reads.append(token)
        self.addresses.append(client_address)
        record = self.records.get(token)
        if self.held:
            entry = (token, asyncio.Event())
            self.waiting.append(entry)
            at_once = sum(1 for waiting, _ in self.waiting if waiting == token)
            self.most_at_once[token] = max(self.most_at_once.get(token, 0), at_once)
            try:
                await entry[1].wait()
            finally:
                self.waiting.remove(entry)
        if self.error is not None:
            raise self.error
        return record

    def release(self) -> None:
        """Let the oldest read that waits answer."""
        next(event for _, event in self.waiting if not event.is_set()).set()

    recheck_s = 1.0

    async def read_sessions(self, tokens: Sequence[SessionToken]) -> dict[SessionToken, SessionRecord]:
        await self.check()
        return {token: self.records[token] for token in tokens if token in self.records}

    async def check(self) -> None:
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.closed += 1


class Setting:
    """A cache in front of a fake store, and the time."""

    def __init__(self, **limits: Any) -> None:
        self.now = 1000.0
        self.store = FakeStore()
        sizes = {"max_age_s": MAX_AGE_S, "entries": 3, "negative_age_s": NEGATIVE_AGE_S, "negative_entries": 2}
        self.cache = SessionCache(self.store, **{**sizes, **limits}, clock=lambda: self.now)

    async def get(self, token: str, address: str | None = None) -> SessionRecord | None:
        return await self.cache.get(SessionToken(token), address)

    def peek(self, token: str) -> Any:
        return self.cache.peek(SessionToken(token))

    def forget(self, token: str) -> None:
        self.cache.forget(SessionToken(token))

    async def begin(self, token: str, address: str | None = None) -> "asyncio.Task[SessionRecord | None]":
        """A caller who waits for a read that is held."""
        task = asyncio.ensure_future(self.get(token, address))
        await turn()
        return task


async def turn() -> None:
    """Let everything that can run do so."""
    for _ in range(8):
        await asyncio.sleep(0)


@pytest.fixture
async def s() -> AsyncIterator[Setting]:
    setting = Setting()
    yield setting
    await setting.cache.close()


# Age


async def test_a_read_is_remembered_until_its_age_is_reached(s: Setting) -> None:
    record = s.store.put("a")
    assert s.peek("a") is None
    assert await s.get("a") is record
    s.now += MAX_AGE_S - 0.001
    assert s.peek("a") is record
    assert await s.get("a") is record
    s.now += 0.001
    assert s.peek("a") is None
    assert s.store.reads == ["a"]
    assert await s.get("a") is record
    assert s.store.reads == ["a", "a"]


async def test_absence_is_remembered_briefly(s: Setting) -> None:
    assert await s.get("a") is None
    s.store.put("a")
    s.now += NEGATIVE_AGE_S - 0.001
    assert s.peek("a") is ABSENT
    assert await s.get("a") is None
    s.now += 0.001
    assert s.peek("a") is None
    assert await s.get("a") is s.store.records["a"]


async def test_age_counts_from_the_start_of_the_read(s: Setting) -> None:
    record = s.store.put("a")
    s.store.held = True
    caller = await s.begin("a")
    s.now += MAX_AGE_S - 1
    s.store.release()
    assert await caller is record
    assert s.peek("a") is record
    s.now += 1
    assert s.peek("a") is None


async def test_a_read_that_took_longer_than_the_age_answers_its_caller_only(s: Setting) -> None:
    record = s.store.put("a")
    s.store.held = True
    caller = await s.begin("a")
    s.now += MAX_AGE_S
    s.store.release()
    assert await caller is record
    assert s.peek("a") is None


async def test_who_comes_to_an_old_read_waits_for_a_new_one(s: Setting) -> None:
    """It says what was true longer ago than an answer may be old."""
    s.store.put("a")
    s.store.held = True
    first = await s.begin("a")
    s.now += MAX_AGE_S
    joins = await s.begin("a")
    s.now += 0.001
    late = await s.begin("a")
    del s.store.records["a"]
    s.store.release()
    await turn()
    assert first.done()
    assert joins.done()
    assert not late.done()
    s.store.release()
    assert await late is None
    assert s.store.reads == ["a", "a"]
    assert s.cache.size == 0


async def test_age_of_absence_counts_from_the_start_of_the_read_too(s: Setting) -> None:
    s.store.held = True
    caller = await s.begin("a")
    s.now += NEGATIVE_AGE_S - 1
    s.store.release()
    assert await caller is None
    assert s.peek("a") is ABSENT
    s.now += 1
    assert s.peek("a") is None


async def test_without_an_age_nothing_is_remembered() -> None:
    s = Setting(max_age_s=0, negative_age_s=0)
    record = s.store.put("a")
    assert [await s.get("a"), await s.get("a")] == [record, record]
    assert [await s.get("b"), await s.get("b")] == [None, None]
    assert s.store.reads == ["a", "a", "b", "b"]
    assert s.peek("a") is None
    assert s.peek("b") is None
    await s.cache.close()


# A store that cannot answer


@pytest.fixture
async def patient() -> AsyncIterator[Setting]:
    setting = Setting(stale_s=60.0)
    yield setting
    await setting.cache.close()


async def test_a_session_in_memory_is_believed_longer_while_the_store_is_down(patient: Setting) -> None:
    record = patient.store.put("a")
    await patient.get("a")
    patient.now += MAX_AGE_S
    patient.store.error = StoreUnavailable("gone")
    assert patient.peek("a") is None, "the store is asked first"
    assert await patient.get("a") is record
    patient.now += 59.999
    assert await patient.get("a") is record
    assert patient.cache.counters.stale_hits == 2
    patient.now += 0.001
    with pytest.raises(StoreUnavailable, match="gone"):
        await patient.get("a")
    assert patient.cache.size == 0


async def test_a_store_that_answers_is_believed_and_not_the_memory(patient: Setting) -> None:
    patient.store.put("a")
    await patient.get("a")
    patient.now += MAX_AGE_S
    del patient.store.records["a"]
    assert await patient.get("a") is None
    patient.now += NEGATIVE_AGE_S
    patient.store.error = StoreUnavailable("gone")
    with pytest.raises(StoreUnavailable):
        await patient.get("a")
    assert patient.cache.counters.stale_hits == 0


async def test_what_was_never_in_memory_is_not_made_up(patient: Setting) -> None:
    patient.store.error = StoreUnavailable("gone")
    with pytest.raises(StoreUnavailable):
        await patient.get("a")


@pytest.mark.parametrize("how", ["token", "user", "all"])
async def test_what_was_forgotten_is_not_believed(patient: Setting, how: str) -> None:
    patient.store.put("a")
    await patient.get("a")
    patient.now += MAX_AGE_S
    patient.store.error = StoreUnavailable("gone")
    if how == "token":
        patient.forget("a")
    elif how == "user":
        patient.cache.user_changed(digest_of("user_1"))
    else:
        patient.cache.all_changed()
    with pytest.raises(StoreUnavailable):
        await patient.get("a")


async def test_without_patience_nothing_is_believed_longer(s: Setting) -> None:
    s.store.put("a")
    await s.get("a")
    s.now += MAX_AGE_S
    s.store.error = StoreUnavailable("gone")
    with pytest.raises(StoreUnavailable):
        await s.get("a")


# Several at once


async def test_what_a_look_at_several_does_not_find_is_forgotten(s: Setting) -> None:
    s.store.put("a")
    s.store.put("b")
    await s.get("a")
    await s.get("b")
    del s.store.records["a"]
    found = await s.cache.read_all([SessionToken("a"), SessionToken("b")])
    assert found == {"b": s.store.records["b"]}
    assert s.peek("a") is None
    assert s.peek("b") is s.store.records["b"]
    s.store.error = StoreUnavailable("gone")
    with pytest.raises(StoreUnavailable):
        await s.cache.read_all([SessionToken("b")])
    assert s.peek("b") is s.store.records["b"]


async def test_a_look_that_says_nothing_of_some_leaves_these_as_they_are(s: Setting) -> None:
    for token in ("a", "b", "c"):
        s.store.put(token)
        await s.get(token)
    found = {SessionToken("a"): s.store.records["a"]}
    s.store.error = StoreIncomplete("gone", found, {SessionToken("b")})
    with pytest.raises(StoreIncomplete):
        await s.cache.read_all([SessionToken("a"), SessionToken("b"), SessionToken("c")])
    assert [s.peek(token) for token in ("a", "b", "c")] == [s.store.records["a"], s.store.records["b"], None]


async def test_what_a_look_at_several_finds_changed_is_forgotten(s: Setting) -> None:
    record = s.store.put("a")
    member = msgspec.structs.replace(record.user, organizations=frozenset({"acme"}))
    s.store.records["a"] = SessionRecord(record.session, member)
    await s.get("a")
    s.store.records["a"] = record
    await s.cache.read_all([SessionToken("a")])
    assert s.peek("a") is not None, "memberships are not read there"
    s.store.records["a"] = SessionRecord(record.session, msgspec.structs.replace(record.user, banned=True))
    await s.cache.read_all([SessionToken("a")])
    assert s.peek("a") is None


# Bounds


async def test_the_least_recently_used_session_goes_first(s: Setting) -> None:
    for token in "abc":
        s.store.put(token)
        await s.get(token)
    assert s.peek("a")
    s.store.put("d")
    await s.get("d")
    assert [bool(s.peek(token)) for token in "abcd"] == [True, False, True, True]
    assert s.cache.counters.evictions == 1
    assert s.cache.size == 3


async def test_a_session_read_again_counts_once(s: Setting) -> None:
    for token in "abc":
        s.store.put(token)
        await s.get(token)
    s.now += MAX_AGE_S
    for token in "abc":
        assert await s.get(token)
    assert s.cache.counters.evictions == 0
    assert s.cache.size == 3


async def test_made_up_tokens_push_no_session_out(s: Setting) -> None:
    record = s.store.put("a")
    await s.get("a")
    for number in range(100):
        assert await s.get(f"made-up-{number}") is None
    assert s.peek("a") is record
    assert [s.peek(f"made-up-{number}") for number in (0, 97, 98, 99)] == [None, None, ABSENT, ABSENT]


async def test_a_session_that_went_is_absent_and_one_that_came_is_there(s: Setting) -> None:
    s.store.put("a")
    await s.get("a")
    del s.store.records["a"]
    s.now += MAX_AGE_S
    assert await s.get("a") is None
    assert s.peek("a") is ABSENT
    assert s.cache.size == 0
    record = s.store.put("a")
    s.now += NEGATIVE_AGE_S
    assert await s.get("a") is record
    assert s.peek("a") is record


@pytest.mark.parametrize("entries", [0, 1])
async def test_the_smallest_bounds_hold(entries: int) -> None:
    s = Setting(entries=entries, negative_entries=entries)
    for token in "ab":
        s.store.put(token)
        assert await s.get(token)
        assert await s.get(f"no-{token}") is None
    assert [bool(s.peek(token)) for token in "ab"] == [False, entries == 1]
    assert [s.peek(f"no-{token}") is ABSENT for token in "ab"] == [False, entries == 1]
    await s.cache.close()


# Flights


async def test_callers_at_the_same_time_share_one_read(s: Setting) -> None:
    record = s.store.put("a")
    s.store.held = True
    callers = [await s.begin("a") for _ in range(50)]
    other = await s.begin("b")
    s.store.release()
    assert await asyncio.gather(*callers) == [record] * 50
    s.store.release()
    assert await other is None
    assert s.store.reads == ["a", "b"]
    assert (s.cache.counters.misses, s.cache.counters.reads) == (51, 2)


@pytest.mark.parametrize("leaver", [0, 1], ids=["the-one-who-began-it", "one-who-joined"])
async def test_a_caller_who_leaves_does_not_take_the_read_along(s: Setting, leaver: int) -> None:
    record = s.store.put("a")
    s.store.held = True
    callers = [await s.begin("a"), await s.begin("a")]
    callers[leaver].cancel()
    await turn()
    assert callers[leaver].cancelled()
    s.store.release()
    assert await callers[1 - leaver] is record
    assert s.store.reads == ["a"]


@pytest.mark.parametrize("fails", [False, True], ids=["an-answer", "a-failure"])
async def test_a_read_whose_callers_all_left_ends_quietly(s: Setting, fails: bool) -> None:
    record = s.store.put("a")
    s.store.error = StoreUnavailable("away") if fails else None
    s.store.held = True
    caller = await s.begin("a")
    caller.cancel()
    await turn()
    s.store.release()
    await turn()
    assert s.peek("a") is (None if fails else record)
    assert "0 reads" in repr(s.cache)


async def test_a_failure_is_told_to_all_and_not_remembered(s: Setting) -> None:
    s.store.error = StoreUnavailable("auth.db: away")
    s.store.held = True
    callers = [await s.begin("a") for _ in range(3)]
    s.store.release()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert results == [s.store.error] * 3
    assert s.peek("a") is None
    s.store.error, s.store.held = None, False
    record = s.store.put("a")
    assert await s.get("a") is record


async def test_a_failure_leaves_what_is_in_memory(s: Setting) -> None:
    record = s.store.put("a")
    await s.get("a")
    s.store.error = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable):
        await s.get("b")
    assert await s.get("a") is record


async def test_the_store_is_told_the_address_of_who_began_the_read(s: Setting) -> None:
    s.store.put("a")
    s.store.held = True
    callers = [await s.begin("a", address) for address in ("203.0.113.1", "203.0.113.2", None)]
    s.forget("a")
    for _ in range(2):  # what was forgotten is read again, for the same caller
        s.store.release()
        await turn()
    assert all(await asyncio.gather(*callers))
    s.store.held = False
    await s.get("b")
    assert s.store.addresses == ["203.0.113.1", "203.0.113.1", None]


# Forgetting


@pytest.mark.parametrize("how", ["token", "user", "all"])
async def test_what_is_forgotten_is_read_again(s: Setting, how: str) -> None:
    for token, user_id in (("a", "user_1"), ("b", "user_1"), ("c", "user_2")):
        s.store.put(token, user_id)
        await s.get(token)
    forget(s, how)
    kept = {"token": "bc", "user": "c", "all": ""}[how]
    assert [bool(s.peek(token)) for token in "abc"] == [token in kept for token in "abc"]


@pytest.mark.parametrize("how", ["token", "all"])
async def test_forgotten_absence_is_asked_again(s: Setting, how: str) -> None:
    assert await s.get("a") is None
    forget(s, how)
    assert s.peek("a") is None


@pytest.mark.parametrize("how", ["token", "user", "all"])
@pytest.mark.parametrize("revoked", [False, True])
async def test_a_read_that_began_before_is_done_again(s: Setting, how: str, revoked: bool) -> None:
    """The read saw the session as it was before; neither its callers nor those after them may."""
    s.store.put("a", version=1)
    s.store.held = True
    before = await s.begin("a")
    if revoked:
        del s.store.records["a"]
    else:
        s.store.put("a", version=2)
    forget(s, how)
    after = await s.begin("a")
    s.now += 1
    s.store.release()
    await turn()
    assert not before.done()
    assert s.peek("a") is None
    s.store.release()
    expected = s.store.records.get("a")
    assert await before is expected
    assert await after is expected
    assert s.store.reads == ["a", "a"]
    assert s.peek("a") is (ABSENT if revoked else expected)
    s.now += (NEGATIVE_AGE_S if revoked else MAX_AGE_S) - 0.001
    assert s.peek("a") is not None, "age counts from the start of the second read"


async def test_each_forgetting_counts_for_a_read_under_way(s: Setting) -> None:
    s.store.put("a", version=1)
    s.store.held = True
    caller = await s.begin("a")
    for version in (2, 3):
        s.store.put("a", version=version)
        s.forget("a")
        s.store.release()
        await turn()
        assert not caller.done()
    s.store.release()
    assert await caller is s.store.records["a"]
    assert s.store.reads == ["a"] * 3


async def test_what_others_forget_does_not_hold_a_read_up(s: Setting) -> None:
    record = s.store.put("a", "user_1")
    s.store.held = True
    caller = await s.begin("a")
    s.forget("b")
    s.cache.user_changed(digest_of("user_2"))
    s.store.release()
    assert await caller is record
    assert s.peek("a") is record
    assert s.store.reads == ["a"]


async def test_absence_found_while_a_user_was_forgotten_is_not_remembered(s: Setting) -> None:
    s.store.held = True
    caller = await s.begin("a")
    s.cache.user_changed(digest_of("user_1"))
    s.store.release()
    assert await caller is None
    assert s.peek("a") is None


async def test_forgetting_what_is_not_there_is_nothing(s: Setting) -> None:
    s.forget("a")
    s.cache.user_changed(digest_of("user_1"))
    s.cache.all_changed()
    assert s.cache.size == 0


def forget(s: Setting, how: str) -> None:
    if how == "token":
        s.forget("a")
    elif how == "user":
        s.cache.user_changed(digest_of("user_1"))
    else:
        s.cache.all_changed()


# The rest


async def test_counters_say_what_happened(s: Setting) -> None:
    s.store.put("a")
    await s.get("a")
    await s.get("a")
    s.peek("a")
    await s.get("b")
    await s.get("b")
    s.peek("c")
    counters = s.cache.counters
    assert (counters.hits, counters.negative_hits, counters.misses, counters.reads) == (2, 1, 2, 2)


async def test_check_asks_the_store(s: Setting) -> None:
    await s.cache.check()
    s.store.error = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable, match="away"):
        await s.cache.check()


async def test_closing_ends_the_reads_and_closes_the_store() -> None:
    s = Setting()
    s.store.held = True
    callers = [await s.begin("a"), await s.begin("b")]
    await s.cache.close()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable] * 2, "told, not cancelled"
    assert s.store.waiting == []
    assert s.store.closed == 1
    with pytest.raises(StoreUnavailable, match="closed"):
        await s.get("a")


async def test_closing_before_a_read_began_is_told_too() -> None:
    s = Setting()
    caller = asyncio.ensure_future(s.get("a"))
    await asyncio.sleep(0)
    await s.cache.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await caller
    assert s.store.reads == []


async def test_nothing_shown_names_a_token(s: Setting) -> None:
    s.store.put("very-secret")
    await s.get("very-secret")
    assert repr(s.cache) == "<SessionCache 1 sessions, 0 reads under way>"


class CacheMachine(RuleBasedStateMachine):
    """Any interleaving of callers, answers, revocations and time.

    The model keeps the earlier states of each token with the moment at which they ended; what was forgotten is struck
    out.  An answer is right if it is the present state, or one that ended no longer than `max_age` before the question.
    """

    TOKENS = st.sampled_from(["a", "b", "c"])
    USERS = st.sampled_from(["user_1", "user_2"])
    callers = Bundle("callers")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.version = 0
        self.past: dict[str, list[tuple[SessionRecord | None, float]]] = {}
        self.tasks: list[asyncio.Task[None]] = []
        self.setting = Setting()

    @initialize(entries=st.integers(0, 2), negative_entries=st.integers(0, 2), max_age_s=st.sampled_from([20, 5, 0]))
    def begin(self, entries: int, negative_entries: int, max_age_s: float) -> None:
        self.entries, self.negative_entries, self.max_age_s = entries, negative_entries, max_age_s
        sizes = {"entries": entries, "negative_entries": negative_entries}
        self.setting = Setting(**sizes, max_age_s=max_age_s, negative_age_s=max_age_s / 2)
        self.setting.store.held = True
        self.write("a", "user_1")
        self.write("b", "user_2")

    @rule(token=TOKENS, user=USERS)
    def write(self, token: str, user: str) -> None:
        self._end(token)
        self.version += 1
        self.setting.store.put(token, user, self.version)

    @rule(token=TOKENS, tell=st.booleans())
    def revoke(self, token: str, tell: bool) -> None:
        """Where nobody tells the cache, age must find it out."""
        self._end(token)
        self.setting.store.records.pop(token, None)
        if tell:
            self.setting.forget(token)
            self.past.pop(token)

    @rule(user=USERS)
    def change_user_and_tell(self, user: str) -> None:
        for token, record in list(self.setting.store.records.items()):
            if record.user.id == user:
                self.write(token, user)
        self.setting.cache.user_changed(digest_of(user))
        for token, states in self.past.items():
            self.past[token] = [(old, at) for old, at in states if old is None or old.user.id != user]

    @rule()
    def clear(self) -> None:
        self.setting.cache.all_changed()
        self.past.clear()

    @rule(seconds=st.sampled_from([1, 3, 6]))
    def wait(self, seconds: float) -> None:
        self.setting.now += seconds

    @rule(target=callers, token=TOKENS)
    def ask(self, token: str) -> Any:
        task = self.loop.create_task(self._ask(token))
        self.tasks.append(task)
        self._turn()
        return task

    @rule(task=consumes(callers))
    def leave(self, task: Any) -> None:
        task.cancel()
        self._turn()

    @rule(token=TOKENS)
    def serve(self, token: str) -> None:
        """A question answered at once, with all that were waiting."""
        self.ask(token)
        while self.setting.store.waiting:
            self.answer()

    @rule()
    def answer(self) -> None:
        if self.setting.store.waiting:
            self.setting.store.release()
            self._turn()

    @rule()
    def fail(self) -> None:
        """The oldest read fails."""
        self.setting.store.error = StoreUnavailable("away")
        self.answer()
        self.setting.store.error = None

    @rule(token=TOKENS)
    def look(self, token: str) -> None:
        found = self.setting.peek(token)
        if found is not None:
            assert (None if found is ABSENT else found) in self._true_since(token, self.setting.now)

    @invariant()
    def nobody_was_told_wrong(self) -> None:
        for task in [task for task in self.tasks if task.done()]:
            self.tasks.remove(task)
            if not task.cancelled():
                task.result()

    @invariant()
    def is_bounded(self) -> None:
        cache, store = self.setting.cache, self.setting.store
        if store.held:  # from `begin` on
            assert cache.size <= self.entries
            assert len(cache._absent) <= self.negative_entries
            assert {token for tokens in cache._tokens_of.values() for token in tokens} == set(cache._records)
            assert all(cache._tokens_of.values())
            assert cache._records.keys().isdisjoint(cache._absent)
            assert max(store.most_at_once.values(), default=0) <= 1
            assert len(store.waiting) == len(cache._flights)

    def teardown(self) -> None:
        while self.setting.store.waiting:
            self.answer()
        self.nobody_was_told_wrong()
        assert self.tasks == [], "nobody waits for ever"
        self.loop.run_until_complete(self.setting.cache.close())
        self.loop.close()

    async def _ask(self, token: str) -> None:
        asked = self.setting.now
        try:
            answer = await self.setting.get(token)
        except StoreUnavailable:
            return
        assert answer in self._true_since(token, asked)

    def _true_since(self, token: str, asked: float) -> list[SessionRecord | None]:
        ended = [state for state, at in self.past.get(token, []) if at >= asked - self.max_age_s]
        return [*ended, self.setting.store.records.get(token)]

    def _end(self, token: str) -> None:
        state = self.setting.store.records.get(token)
        self.past.setdefault(token, []).append((state, self.setting.now))

    def _turn(self) -> None:
        self.loop.run_until_complete(turn())


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
