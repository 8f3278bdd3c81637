"""Whatever happens, in whatever order: what was revoked a second ago opens nothing, and what is live is not refused.

Hypothesis makes up runs: several workers over one store, each with a feed of its own that lags, is lost and comes back,
while sessions and users change, reads take long, and browsers send session_data cookies of before.

A run is a list of numbers, one for each step, since so are drawn ten times as many runs as by a rule for each step.  A
run that fails is shown as the calls that it makes.  Clocks differ: an app's cookie bears a time that is off by up to
`SKEW_MS`, the time that it took to write it included.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from gatekeeper.core.model import SessionRecord
from gatekeeper.stores.claims import SKEW_MS
from tests.server.revocation_worker import PATHS, Worker, snapshot
from tests.server.revocation_world import (
    Connection,
    Row,
    World,
    WorldStore,
    any_message,
    data_cookie,
    session_message,
    user_message,
)

COMPILED = snapshot()
APP_AGE_MS = 60_000
"""The app's cookieCache.maxAge: longer than the gate's."""

WHICH = range(4)
RECENT = [0, 0, 0, 1, 2]
SOME = [1, 1, 2, 4]
USERS = ["ada", "bob"]
MOMENTS_S = [0.125, 0.25, 0.5, 0.875, 1.125, 1.5, 2.5, 4.5, 6.0, 21.0, 27.0]
SKEWS_MS = [-5_000, -1_000, 0, 0, 3_000, 4_875, 5_000]
taken = {"looks": 0, "fed": 0, "cookies": 0, "reads": 0}


class Run:
    """One course of things.  `kept` are the browsers' session_data cookies by token; `drafts` what an app has read and
    not written yet.  Sessions are called by their number, the newest first.
    """

    def __init__(self, workers: int, **limits: Any) -> None:
        self.world = World()
        self.store = WorldStore(self.world)
        self.limits = limits
        self.tokens: list[str] = []
        self.kept: dict[str, list[str]] = {}
        self.drafts: list[tuple[SessionRecord, float]] = []
        self.workers = [self.new_worker() for _ in range(workers)]
        self.sign_in("ada", 120)
        self.sign_in("bob", 120)
        self.wait(12.0)
        self.all_ask()

    def new_worker(self) -> Worker:
        return Worker(self.world, self.store, COMPILED, **self.limits)

    def worker(self, number: int) -> Worker:
        return self.workers[number % len(self.workers)]

    def connection(self, number: int) -> list[Connection]:
        """That of a worker, where it has one."""
        connection = self.worker(number).channel.connection
        return [] if connection is None else [connection]

    def token(self, number: int) -> str:
        return self.tokens[-1 - number % len(self.tokens)]

    # the app

    def sign_in(self, user: str, lasts_s: int) -> None:
        token = f"{len(self.tokens):032d}"
        now_ms = self.world.now_ms()
        row = Row(user, now_ms, now_ms + lasts_s * 1000)
        self.tokens.append(token)
        self.commit([token], lambda: self.store.rows.update({token: row}))

    def revoke(self, number: int) -> None:
        token = self.token(number)
        self.commit([token], lambda: self.store.rows.pop(token, None), session_message(token))

    def revoke_all_of(self, user: str) -> None:
        tokens = self.store.tokens_of(user)
        messages = [session_message(token) for token in tokens]
        self.commit(tokens, lambda: [self.store.rows.pop(token) for token in tokens], *messages)

    def empty_the_store(self) -> None:
        self.commit(list(self.store.rows), self.store.rows.clear, any_message)

    def extend(self, number: int, lasts_s: int) -> None:
        token = self.token(number)
        row = self.store.rows.get(token)
        if row is not None:
            changed = Row(row.user, row.created_ms, self.world.now_ms() + lasts_s * 1000, row.version + 1)
            self.commit([token], lambda: self.store.rows.update({token: changed}), session_message(token))

    def change_user(self, user: str, role: str, banned: bool) -> None:
        person = self.store.people[user]

        def change() -> None:
            person.role, person.banned, person.version = role, banned, person.version + 1

        self.commit(self.store.tokens_of(user), change, user_message(user))

    def others_change(self, number: int) -> None:
        messages = [session_message(f"other {self.store.commits} {other}") for other in range(number)]
        self.commit([], lambda: None, *messages)

    def commit(self, *change: Any) -> None:
        self.world.do(lambda: self.store.commit(*change))

    def app_reads(self, number: int) -> None:
        state = self.store.state(self.token(number))
        if state is not None:
            self.drafts.append((state, self.world.at))

    def app_writes_cookies(self, skew_ms: int) -> None:
        """Those of all that it has read; what took too long to count in `SKEW_MS` is no case."""
        for state, read_at in self.drafts:
            took_ms = (self.world.at - read_at) * 1000
            if took_ms + skew_ms <= SKEW_MS and state.session.expires_at_ms > self.world.now_ms():
                cookie = data_cookie(state, self.world.now_ms() + skew_ms, APP_AGE_MS)
                self.kept.setdefault(state.session.token, []).append(cookie)
        self.drafts.clear()

    def all_get_cookies(self, skew_ms: int) -> None:
        for number in range(min(3, len(self.tokens))):
            self.app_reads(number)
        self.app_writes_cookies(skew_ms)

    def sign_in_and_get_cookie(self, user: str, skew_ms: int) -> None:
        self.sign_in(user, 120)
        self.app_reads(0)
        self.app_writes_cookies(skew_ms)

    # visitors

    def ask(self, number: int, who: int, path: str, with_cookie: bool) -> None:
        token = self.token(who)
        kept = self.kept.get(token) if with_cookie else None
        self.worker(number).ask(token, path, kept[-1] if kept else None)

    def all_ask(self) -> None:
        for worker in self.workers:
            for token in self.tokens[-4:]:
                worker.ask(token, "/plain")

    def sign_in_and_ask(self, user: str) -> None:
        """Somebody whom no worker has in memory."""
        self.sign_in(user, 120)
        for number in WHICH:
            self.ask(number, 0, "/plain", with_cookie=False)

    def all_look(self) -> None:
        """Whatever can be answered at once, is.  Among the cookies is one of somebody else's session."""
        tokens = self.tokens[-3:]
        for worker in self.workers:
            for token, other in zip(tokens, tokens[1:] + tokens[:1], strict=True):
                for path in ("/plain", "/admin"):
                    worker.look(token, path)
                for data in (*self.kept.get(token, [])[-2:], *self.kept.get(other, [])[-1:]):
                    worker.look(token, "/plain", data)
                    worker.look(token, "/fresh", data)
            taken["looks"] += 1
            taken["fed"] += worker.lease.is_held(self.world.at)

    # feeds

    def feeds_lag(self) -> None:
        for number in range(len(self.workers)):
            for connection in self.connection(number):
                connection.is_held = True

    def feeds_tell(self, some: int) -> None:
        for number in range(len(self.workers)):
            for connection in self.connection(number):
                self.world.do(partial(connection.deliver, some))

    def feed_catches_up(self, number: int) -> None:
        for connection in self.connection(number):
            connection.is_held = False
            self.world.do(partial(connection.deliver, len(connection.queue)))

    def feed_is_lost(self, number: int, silently: bool, opens: str) -> None:
        self.feed_opens(number, opens)
        for connection in self.connection(number):
            self.world.do(connection.fall_silent if silently else connection.cut)

    def feed_opens(self, number: int, how: str) -> None:
        """From now on."""
        channel = self.worker(number).channel
        channel.refuses = how == "not"
        self.world.do(channel.opens.clear if how == "slowly" else channel.opens.set)

    # the store

    def store_takes_its_time(self, eager: bool) -> None:
        self.store.is_slow, self.store.is_eager = True, eager

    def store_looks(self, some: int) -> None:
        for read in self.store.waiting[:some]:
            read.look()

    def store_answers(self, some: int) -> None:
        self.world.do(*(read.answer for read in self.store.waiting[:some]))

    def store_answers_all(self) -> None:
        self.store.is_slow = False
        while self.store.waiting:
            self.store_answers(1)

    def store_fails(self, fails: bool) -> None:
        self.store.fails = fails

    # the rest

    def worker_starts_again(self, number: int) -> None:
        at = number % len(self.workers)
        self.workers[at].stop()
        self.workers[at] = self.new_worker()

    def all_is_well_again(self) -> None:
        """For long enough that cookies which are written from now on count."""
        self.store.fails = False
        self.store_answers_all()
        for number in range(len(self.workers)):
            self.feed_opens(number, "at once")
            self.feed_catches_up(number)
        self.wait(12.0)

    def wait(self, seconds: float) -> None:
        """Of a long time only the last second is lived through; before, every worker was suspended."""
        if seconds > 3.0:
            self.world.at += seconds - 1.0
            seconds = 1.0
        self.world.pass_s(seconds)

    def wait_and_look(self, seconds: float) -> None:
        self.wait(seconds)
        self.all_look()

    # the laws

    def judge(self) -> None:
        for worker in self.workers:
            worker.judged()
            worker.is_covered_rightly()

    def end(self) -> None:
        """Everybody is answered, and everything is closed."""
        try:
            self.all_look()
            self.store_answers_all()
            self.judge()
            assert not any(worker.asked for worker in self.workers), "somebody waits for ever"
        finally:
            self.close()
        assert self.world.troubles == []

    def close(self) -> None:
        for worker in self.workers:
            taken["cookies"] += worker.claims.hits
            taken["reads"] += worker.cache.counters.reads
            worker.stop()
        self.world.close()


class Step(msgspec.Struct, frozen=True):
    """Something that can happen, how often it does, and with what."""

    does: Callable[..., None]
    weight: int
    arguments: tuple[Sequence[Any], ...] = ()

    def take(self, run: Run, number: int) -> None:
        chosen = []
        for values in self.arguments:
            number, place = divmod(number, len(values))
            chosen.append(values[place])
        note(f"{self.does.__name__}({', '.join(map(repr, chosen))})")
        self.does(run, *chosen)


BOTH = [False, True]
APP = [
    Step(Run.sign_in, 1, (USERS, [3, 30, 120])),
    Step(Run.revoke, 6, (RECENT,)),
    Step(Run.revoke_all_of, 1, (USERS,)),
    Step(Run.empty_the_store, 1),
    Step(Run.extend, 2, (RECENT, [2, 60])),
    Step(Run.change_user, 3, (USERS, ["user", "admin"], BOTH)),
]
COOKIES = [
    Step(Run.others_change, 4, ([1, 3],)),
    Step(Run.app_reads, 3, (RECENT,)),
    Step(Run.app_writes_cookies, 3, (SKEWS_MS,)),
    Step(Run.all_get_cookies, 3, (SKEWS_MS,)),
    Step(Run.sign_in_and_get_cookie, 6, (USERS, SKEWS_MS)),
]
VISITORS = [
    Step(Run.ask, 4, (WHICH, RECENT, PATHS, BOTH)),
    Step(Run.all_ask, 2),
    Step(Run.all_look, 2),
    Step(Run.wait, 6, (MOMENTS_S,)),
    Step(Run.wait_and_look, 10, (MOMENTS_S,)),
    Step(Run.all_is_well_again, 2),
]
LAG = [
    Step(Run.feeds_lag, 4),
    Step(Run.feeds_tell, 5, (SOME,)),
    Step(Run.feed_catches_up, 1, (WHICH,)),
]
LOSS = [
    Step(Run.feed_is_lost, 4, (WHICH, BOTH, ["at once", "at once", "slowly", "not"])),
    Step(Run.feed_opens, 2, (WHICH, ["at once", "slowly", "not"])),
    Step(Run.worker_starts_again, 1, (WHICH,)),
]
READS = [
    Step(Run.store_takes_its_time, 3, (BOTH,)),
    Step(Run.sign_in_and_ask, 5, (USERS,)),
    Step(Run.store_looks, 3, (SOME,)),
    Step(Run.store_answers, 5, (SOME,)),
    Step(Run.store_answers_all, 2),
    Step(Run.store_fails, 1, (BOTH,)),
]


def course(*groups: list[Step]) -> list[Step]:
    """The steps of a kind of runs, each as often as it weighs."""
    return [step for group in groups for step in group for _ in range(step.weight)]


COURSES = {
    "calm": course(APP, VISITORS, COOKIES, COOKIES),
    "lag": course(APP, VISITORS, LAG, LAG),
    "loss": course(APP, VISITORS, LOSS),
    "reads": course(APP, VISITORS, READS, READS),
    "reads and loss": course(APP, VISITORS, READS, READS, LOSS),
    "cookies and loss": course(APP, VISITORS, LAG, LOSS, COOKIES, COOKIES),
    "all": course(APP, VISITORS, LAG, LOSS, COOKIES, READS),
}
"""Runs in which everything may happen get nowhere in particular."""


@given(
    kind=st.sampled_from(sorted(COURSES)),
    workers=st.integers(2, 3),
    names_all=st.sampled_from([True, True, True, False]),
    small=st.booleans(),
    numbers=st.lists(st.integers(0, 2**20 - 1), min_size=25, max_size=60),
)
@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_nothing_is_believed_for_more_than_a_second_and_nobody_is_refused(
    kind: str, workers: int, names_all: bool, small: bool, numbers: list[int]
) -> None:
    steps = COURSES[kind]
    run = Run(workers, names_all=names_all, entries=2 if small else 10, marks=2 if small else 9)
    try:
        for number in numbers:
            steps[number % len(steps)].take(run, number // len(steps))
            run.judge()
    except BaseException:
        run.close()
        raise
    run.end()


def test_the_runs_went_everywhere() -> None:
    assert taken["looks"] > 2_000
    assert taken["looks"] * 0.3 < taken["fed"] < taken["looks"] * 0.9
    assert taken["cookies"] > 300
    assert taken["reads"] > 2_000
