"""What can happen to sessions and to a gate of several workers, step by step, and what must hold after each."""

from functools import partial
from typing import Any

from gatekeeper.core.model import SessionRecord
from gatekeeper.stores.claims import SKEW_MS
from tests.server.revocation_feeds import Connection, any_message, session_message, user_message
from tests.server.revocation_worker import Worker, snapshot
from tests.server.revocation_world import Row, World, WorldStore, data_cookie

COMPILED = snapshot()
APP_AGE_MS = 60_000
"""The app's cookieCache.maxAge: longer than the gate's."""

ALL = 3
"""In place of a worker's number: all of them."""

taken = {"looks": 0, "fed": 0, "cookies": 0, "reads": 0}
"""How much was seen, of all runs: looks at a worker, those of which a feed was in order; cookies that have decided."""


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

    def some(self, number: int) -> list[Worker]:
        """One of them, or all."""
        return self.workers if number == ALL else [self.worker(number)]

    def connections(self, number: int) -> list[Connection]:
        """Those of these workers that have one."""
        found = (worker.channel.connection for worker in self.some(number))
        return [connection for connection in found if connection is not None]

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

    def change_user(self, number: int, role: str, banned: bool) -> None:
        """That of a session, or somebody."""
        row = self.store.rows.get(self.token(number))
        user = "ada" if row is None else row.user
        person = self.store.people[user]

        def change() -> None:
            person.role, person.banned, person.version = role, banned, person.version + 1

        self.commit(self.store.tokens_of(user), change, user_message(user))

    def others_change(self, number: int) -> None:
        messages = [session_message(f"other {self.store.commits} {other}") for other in range(number)]
        self.commit([], lambda: None, *messages)

    def others_change_later(self, seconds: float) -> None:
        """When marks of before are not needed any more, or will soon not be."""
        self.wait(seconds)
        self.others_change(1)
        self.all_look()

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

    def sign_in_and_ask(self, user: str, store: str) -> None:
        """Somebody whom no worker has in memory, so the store is asked."""
        self.store_takes_its_time(store)
        self.sign_in(user, 120)
        for number in range(len(self.workers)):
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

    def feeds_lag(self, number: int, seconds: float) -> None:
        """A marker may be on its way when they begin to."""
        for connection in self.connections(number):
            connection.is_held = True
        self.wait(seconds)

    def feeds_tell(self, seconds: float, some: int) -> None:
        """After so long, some of what waits."""
        self.wait(seconds)
        for connection in self.connections(ALL):
            self.world.do(partial(connection.deliver, some))

    def feeds_catch_up(self, number: int) -> None:
        for connection in self.connections(number):
            connection.is_held = False
            self.world.do(partial(connection.deliver, len(connection.queue)))

    def feeds_are_lost(self, number: int, silently: bool, opens: str) -> None:
        self.feeds_open(number, opens)
        for connection in self.connections(number):
            self.world.do(connection.fall_silent if silently else connection.cut)

    def feeds_open(self, number: int, how: str, seconds: float = 0.0) -> None:
        """From now on.  And this is what becomes of it so much later."""
        for worker in self.some(number):
            worker.channel.refuses = how == "not"
            self.world.do(worker.channel.opens.clear if how == "slowly" else worker.channel.opens.set)
        if seconds > 0:
            self.wait_and_look(seconds)

    # the store

    def store_takes_its_time(self, how: str) -> None:
        self.store.is_slow, self.store.is_eager = how != "fast", how != "lazy"

    def store_looks(self, some: int) -> None:
        for read in self.store.waiting[:some]:
            read.look()

    def store_answers(self, some: int, seconds: float = 0.0) -> None:
        """And this is what becomes of it so much later."""
        self.world.do(*(read.answer for read in self.store.waiting[:some]))
        if seconds > 0:
            self.wait_and_look(seconds)

    def store_answers_all(self, seconds: float = 0.0) -> None:
        self.store.is_slow = False
        while self.store.waiting:
            self.store_answers(1)
        if seconds > 0:
            self.wait_and_look(seconds)

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
        self.feeds_open(ALL, "at once")
        self.feeds_catch_up(ALL)
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
