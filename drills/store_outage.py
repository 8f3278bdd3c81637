"""Drill: the session store goes away in the middle of load and comes back; then only what tells of changes is cut.

Redis, PostgreSQL and SQLite at the same time, a gate with two workers before each.  Visitors keep asking each process:
signed in, with badly signed cookies, and with tokens that nobody knows.  Some sessions are revoked, and at that moment
the store is stopped, or its file taken away; after a while it is there again, with its data.  Then the connections by
which the gate is told of changes are ended again and again, and sessions are revoked meanwhile: of SQLite, which has
none, the triggers are removed.

Passes when nobody was ever let in who should not be, those who were revoked no later than a second after; nobody who is
signed in got a redirect, a Set-Cookie or anything but 200, or without the store 503 with Retry-After; everybody is let
in soon after the store is back; and no process ended.

    python drills/store_outage.py [--seconds 10] [--stores redis,postgresql,sqlite]
"""

import argparse
import asyncio
import itertools
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

import uvloop
from rig.app import running_app
from rig.client import NAVIGATION, Answer, Lost, request
from rig.gate import RunningGate, cookie_of, free_port, running_gate
from rig.processes import Process, open_processes, until_fed, workers_of
from rig.stores import PostgresStore, RedisStore, Session, SqliteStore, Store

WORKERS, CONNECTIONS = 2, 12
PAUSE_S, WATCH_S, PATIENCE_S = 0.05, 0.02, 5.0
SESSIONS, AT_ONCE, DOOMED = 60, 3, 6
BELIEVED_S = 1.0
"""How long a gate may go on believing what it has read."""

SLACK_S = 0.3
"""What the drill needs to see it: the time until the next request is answered, by two busy cores."""

RECOVERY_S = 3.0
KILL_S = 0.05
MORE = "workers: {workers}\nadmin: {{listen: '127.0.0.1:{admin}'}}\n"

PHASES = ("store", "no store", "no feed", None)
WELCOMES: dict[str | None, set[int]] = {"store": {200}, "no store": {503}, "no feed": {200}, None: {200, 503}}
"""What who is signed in may see, by phase; None is between two of them."""

REFUSALS: dict[str | None, set[int]] = {phase: {307, 401} for phase in ("store", "no feed")} | {
    phase: {307, 401, 503} for phase in ("no store", None)
}
"""What others with a well-signed cookie may see."""

STORES: dict[str, Callable[[], "AsyncIterator[Store]"]] = {
    "redis": RedisStore.opened,
    "postgresql": PostgresStore.opened,
    "sqlite": SqliteStore.opened,
}


class Guest:
    """Who keeps asking.  `kind` is `signed in`, `badly signed` or `unknown`, or from `revoked` on `revoked`."""

    def __init__(self, kind: str, cookie: str, session: Session | None = None) -> None:
        self.kind = kind
        self.session = session
        self.revoked: float | None = None
        self.last_seen = 0.0
        self.requests = (
            request("GET", "/dashboard/data", cookie, "Accept: application/json"),
            request("GET", "/dashboard", cookie, NAVIGATION),
        )


class Watch:
    """What all guests of one gate see.  `phase` decides what may be seen, None while either may."""

    def __init__(self, processes: Sequence[Process], guests: Sequence[Guest]) -> None:
        self.phase: str | None = "store"
        self.guests = guests
        self.seen: Counter[tuple[str | None, str, int]] = Counter()
        self.failures: list[str] = []
        self.is_over = False
        self.processes = processes

    def load(self) -> list[asyncio.Task[None]]:
        """All of them ask in turn, until it `is_over`; those who were revoked more often."""
        turns = [itertools.cycle(self.guests) for _ in self.processes]
        at = [(process, turn) for process, turn in zip(self.processes, turns, strict=True) for _ in range(AT_ONCE)]
        return [asyncio.create_task(self._go_round(*one)) for one in at]

    def was_revoked(self, guest: Guest) -> list[asyncio.Task[None]]:
        """It has been, this moment.  Tasks that ask each process until it stops letting in."""
        guest.kind, guest.revoked = "revoked", time.monotonic()
        return [asyncio.create_task(self._until_out(process, guest)) for process in self.processes]

    async def ask(self, process: Process, guest: Guest, raw: bytes) -> int:
        phase, kind = self.phase, guest.kind
        try:
            answer = await process.ask(raw)
        except Lost as error:
            self.failures.append(f"{phase}: a request was lost: {error}")
            return 0
        phase = phase if phase == self.phase else None
        if kind == guest.kind != "being revoked":
            self.seen[phase, kind, answer.status] += 1
            self._judge(guest, answer, phase)
        return answer.status

    def _judge(self, guest: Guest, answer: Answer, phase: str | None) -> None:
        wrong = None
        if guest.kind == "signed in":
            wrong = self._fault_of(guest, answer, phase)
        elif guest.kind == "revoked" and answer.status == 200:
            guest.last_seen = time.monotonic()
        elif answer.status not in ({307, 401} if guest.kind == "badly signed" else REFUSALS[phase]):
            wrong = f"status {answer.status}"
        elif b"\r\nset-cookie: better-auth." in answer.head.lower():
            wrong = "a cookie of a session was set"
        if wrong is not None:
            self.failures.append(f"{phase}: {guest.kind}: {wrong}")

    def _fault_of(self, guest: Guest, answer: Answer, phase: str | None) -> str | None:
        """What is wrong with this answer to who is signed in."""
        status, head = answer.status, answer.head.lower()
        if status not in WELCOMES[phase]:
            return f"status {status}"
        if b"\r\nset-cookie:" in head or b"\r\nlocation:" in head:
            return f"status {status} with Set-Cookie or Location"
        if status == 503 and b"\r\nretry-after:" not in head:
            return "503 without Retry-After"
        assert guest.session is not None
        is_theirs = answer.body.startswith(guest.session.user_id.encode() + b".")
        return "200 for another user" if status == 200 and not is_theirs else None

    async def _go_round(self, process: Process, turns: "itertools.cycle[Guest]") -> None:
        for number in itertools.count():
            if self.is_over:
                return
            guest = next(turns)
            await self.ask(process, guest, guest.requests[number % 2])
            await asyncio.sleep(PAUSE_S)

    async def _until_out(self, process: Process, guest: Guest) -> None:
        assert guest.revoked is not None
        give_up_at = guest.revoked + PATIENCE_S
        while await self.ask(process, guest, guest.requests[0]) == 200 and time.monotonic() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(WATCH_S)


class Drill:
    """One store and its gate."""

    def __init__(self, store: Store, gate: RunningGate, admin: int, watch: Watch) -> None:
        self.failures = watch.failures
        self.watch = watch
        self._name = store.name
        self._store = store
        self._gate = gate
        self._admin = admin
        self._left = [guest for guest in watch.guests if guest.kind == "signed in"]

    async def run(self, seconds: float) -> None:
        workers = workers_of(self._gate.pid)
        tasks = self.watch.load()
        await asyncio.sleep(2)
        recovery_s = await self._outage(seconds)
        cuts = await self._without_feed(seconds)
        await until_fed(self._admin, WORKERS)
        self.watch.phase = "store"
        await asyncio.sleep(1)
        self.watch.is_over = True
        await asyncio.gather(*tasks)
        self.failures += self._gate.troubles()
        if workers_of(self._gate.pid) != workers or self._gate.process.returncode is not None:
            self.failures.append("a process of the gate has ended")
        self._report(recovery_s, cuts)

    async def _outage(self, seconds: float) -> float:
        """Revoke, stop, start; how long it took after the start until everybody was let in, in seconds."""
        self.watch.phase = None
        watching = [task for _ in range(DOOMED) for task in await self._revoke()]
        await self._store.stop()
        began = time.monotonic()
        await asyncio.sleep(BELIEVED_S + SLACK_S)
        self.watch.phase = "no store"
        await asyncio.sleep(seconds - BELIEVED_S - SLACK_S)
        self.watch.phase = None
        print(f"{self._name}: the store was away for {time.monotonic() - began:.1f} s", flush=True)
        await self._store.start()
        began = time.monotonic()
        await asyncio.gather(*watching)
        await self._until_all_are_let_in(began + RECOVERY_S)
        self.watch.phase = "store"
        recovery_s = time.monotonic() - began
        await until_fed(self._admin, WORKERS)
        await asyncio.sleep(1)
        return recovery_s

    async def _without_feed(self, seconds: float) -> int:
        """Cut the feed for so long and revoke meanwhile; how many connections were ended."""
        ends_at, cuts = time.monotonic() + seconds, 0
        self.watch.phase = "no feed"
        if isinstance(self._store, SqliteStore):
            await self._store.take_feed_away()
        every_s = seconds / (DOOMED + 1)
        revoke_at, watching = time.monotonic() + every_s, list[asyncio.Task[None]]()
        while time.monotonic() < ends_at:
            cuts += await self._store.cut_feed()
            if time.monotonic() >= revoke_at:
                watching += await self._revoke()
                revoke_at += every_s
            await asyncio.sleep(KILL_S)
        await asyncio.gather(*watching)
        if isinstance(self._store, SqliteStore):
            await self._store.set_up_feed()
        elif cuts < seconds:
            self.failures.append(f"no feed: only {cuts} connections were ended")
        return cuts

    async def _revoke(self) -> list[asyncio.Task[None]]:
        guest = self._left.pop()
        assert guest.session is not None
        guest.kind = "being revoked"
        await self._store.delete(guest.session.token)
        return self.watch.was_revoked(guest)

    async def _until_all_are_let_in(self, limit: float) -> None:
        """Ask for each at each process.  What is too late is a failure."""
        for process in self.watch.processes:
            for guest in self._left:
                while await self.watch.ask(process, guest, guest.requests[0]) != 200:
                    if time.monotonic() > limit:
                        self.failures.append(f"not everybody is let in {RECOVERY_S:g} s after the store is back")
                        return
                    await asyncio.sleep(WATCH_S)

    def _report(self, recovery_s: float, cuts: int) -> None:
        revoked = [guest for guest in self.watch.guests if guest.revoked is not None]
        lived_on = [max(0.0, guest.last_seen - (guest.revoked or 0)) for guest in revoked]
        for phase in PHASES:
            found = {f"{kind} {status}": count for (at, kind, status), count in self.watch.seen.items() if at == phase}
            print(f"{self._name:10} {phase or 'in between':10} {dict(sorted(found.items()))}", flush=True)
        print(
            f"{self._name:10} all let in {recovery_s:.2f} s after the store was back; {cuts} connections of the feed"
            f" ended; the last page of a revoked session came {max(lived_on):.2f} s after, of {len(lived_on)}",
            flush=True,
        )
        if max(lived_on) > BELIEVED_S + SLACK_S:
            self.failures.append(f"a revoked session was let in {max(lived_on):.2f} s later")
        for phase, status in (("store", 200), ("no store", 503), ("no feed", 200)):
            if not self.watch.seen[phase, "signed in", status]:
                self.failures.append(f"{phase}: nobody who is signed in got {status}")


async def run(name: str, upstream: int, seconds: float) -> list[str]:
    """What went wrong with this store.  Prints what was seen."""
    async with STORES[name]() as store:
        sessions = [Session(f"drill{number:027d}", f"user{number}") for number in range(SESSIONS)]
        await store.sign_in(sessions)
        await store.set_up_feed()
        admin = free_port()
        async with running_gate(upstream, MORE.format(workers=WORKERS, admin=admin), store.url) as gate:
            processes = await open_processes(gate, WORKERS, CONNECTIONS)
            await until_fed(admin, WORKERS)
            drill = Drill(store, gate, admin, Watch(processes, make_guests(sessions)))
            await drill.run(seconds)
            for process in processes:
                process.close()
    return [f"{store.name}: {failure}" for failure in drill.failures]


def make_guests(sessions: Sequence[Session]) -> list[Guest]:
    """Of each three, one is badly signed and one of a token that nobody knows."""
    guests = []
    for session in sessions:
        cookie = cookie_of(session.token)
        guests += [
            Guest("signed in", cookie, session),
            Guest("badly signed", cookie.replace("drill", "Drill")),
            Guest("unknown", cookie_of(session.token.replace("drill", "other"))),
        ]
    return guests


async def drill(stores: Sequence[str], seconds: float) -> list[str]:
    async with asyncio.timeout(120 + 3 * seconds), running_app() as app:
        failures = await asyncio.gather(*(run(name, app.port, seconds) for name in stores))
    return list(itertools.chain(*failures))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--seconds", type=float, default=10, help="how long the store, then its feed, is away (default 10)"
    )
    parser.add_argument("--stores", default=",".join(STORES))
    arguments = parser.parse_args()
    failures = uvloop.run(drill(arguments.stores.split(","), arguments.seconds))
    for failure, times in Counter(failures).most_common(20):
        print(f"FAILED: {failure} ({times} times)")
    print("passed" if not failures else f"failed, {len(failures)} times")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
