"""Drill: sessions are revoked under load, in every way there is; everywhere everything of theirs ends.

Two replicas with two workers each stand before one app and one store: Redis, PostgreSQL and SQLite, set up to tell of
changes.  All sessions have been let in by each process, and go on asking; people sign in all the time; some sessions
have a WebSocket or an event stream open.  Then sessions are revoked, by turns: through the API of the app, a real
Better Auth; by signing out at one replica; by `gatekeeper sessions revoke`; and by deleting the row or key.  From the
moment the revocation has returned each of them asks each process until it is refused.

Passes when the last page came, and the stream ended, within a second; nobody else was ever refused, and no other stream
ended; and the store was read once for each session and process, and besides for what changed: counted by the store
itself, SQLite aside.

The same, small, with a SQLite file that has no change table, so that what is remembered is read again after each
commit; and with MariaDB, which tells of nothing, so that what is believed is a second old at most.

    python drills/revocation.py [--sessions 400] [--stores redis,postgresql,sqlite,file,mariadb]
                                [--ways app,gate,command,store]
"""

import argparse
import asyncio
import itertools
import math
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass

import uvloop
from rig.app import running_app
from rig.better_auth import BetterAuth, running_better_auth
from rig.client import ask_once, request
from rig.figures import percentile
from rig.gate import RunningGate, free_port, running_gate
from rig.processes import Process, counted, open_processes, until_fed
from rig.stores import MariadbStore, PostgresStore, RedisStore, Session, SqliteStore, Store
from rig.verdict import verdict
from rig.visitors import Visitor, Visitors

REPLICAS, WORKERS = 2, 2
PROCESSES = REPLICAS * WORKERS
PER_USER = 4
"""Sessions of one user: the first one stays, and revokes the second."""

AT_ONCE, CONNECTIONS, PAUSE_S = 6, 16, 0.05
SIGN_IN_S, SETTLE_S = 0.1, 0.02
STEADY_S, TAIL_S = 1.0, 1.2
BETWEEN_S = 0.1
SPARE = 0.05
LIMIT_S = 180.0
"""What hangs must end, too."""

BATCH = 10
"""How many sessions one run of the command revokes."""

MORE = "workers: {workers}\nadmin: {{listen: '127.0.0.1:{admin}'}}\n"


@dataclass(frozen=True)
class Plan:
    """What is done with one store.  Of those revoked one in `per_stream` has a stream; limits are seconds."""

    title: str
    opened: Callable[[], "AsyncIterator[Store]"]
    sessions: int
    ways: Sequence[str] = ("store",)
    per_stream: int = 1
    sets_up: bool = False
    refused_s: float = 1.0
    ended_s: float = 1.0

    @property
    def revoked(self) -> int:
        return self.sessions // 5


@dataclass(frozen=True)
class Scene:
    """What runs."""

    plan: Plan
    store: Store
    gates: Sequence[RunningGate]
    admins: Sequence[int]
    processes: Sequence[Process]
    app: BetterAuth | None

    async def reads(self) -> float:
        """How many sessions the gates have read one by one, or, where the store does not count, with all else."""
        own = await self.store.reads()
        if own is not None:
            return own
        return sum([await counted(admin, "gatekeeper_store_reads_total") for admin in self.admins])


@asynccontextmanager
async def opened(plan: Plan) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        store: Store = await stack.enter_async_context(plan.opened())
        if plan.sets_up:
            await store.set_up_feed()
        upstream = await stack.enter_async_context(running_app())
        admins = [free_port() for _ in range(REPLICAS)]
        starting = [running_gate(upstream.port, MORE.format(workers=WORKERS, admin=one), store.url) for one in admins]
        app, *gates = await asyncio.gather(
            stack.enter_async_context(running_better_auth(store.app) if "app" in plan.ways else nullcontext()),
            *(stack.enter_async_context(gate) for gate in starting),
        )
        found = await asyncio.gather(*(open_processes(gate, WORKERS, CONNECTIONS) for gate in gates))
        if store.has_feed:
            await asyncio.gather(*(until_fed(admin, WORKERS) for admin in admins))
        yield Scene(plan, store, gates, admins, list(itertools.chain(*found)), app)
        for process in itertools.chain(*found):
            process.close()


def make_visitors(plan: Plan) -> list[Visitor]:
    """Four for each user; the second one of so many users is to be revoked.  Some that stay have a stream, too."""
    left, visitors = iter(range(plan.revoked)), list[Visitor]()
    for number in range(plan.sessions):
        session = Session(f"drill{number:027d}", f"user{number // PER_USER}")
        turn = next(left, None) if number % PER_USER == 1 else None
        if turn is None:
            visitors.append(Visitor(session, has_stream=number % (20 * PER_USER) == 0))
        else:
            way, round_ = plan.ways[turn % len(plan.ways)], turn // len(plan.ways)
            visitors.append(Visitor(session, way, has_stream=round_ % plan.per_stream == 0))
    return visitors


async def sign_in_others(scene: Scene, visitors: Visitors) -> None:
    """Somebody new each tenth of a second, until it is over."""
    for number in itertools.count():
        if visitors.is_over:
            return
        next_at = time.monotonic() + SIGN_IN_S
        session = Session(f"later{number:027d}", f"newcomer{number}")
        await scene.store.sign_in([session])
        await asyncio.sleep(SETTLE_S)
        await visitors.meet(Visitor(session))
        await asyncio.sleep(max(0.0, next_at - time.monotonic()))


async def revoke_all(scene: Scene, visitors: Visitors) -> None:
    """In each way one after the other, all ways at the same time; by the command in batches."""
    doomed = [visitor for visitor in visitors.all if visitor.way is not None]
    random.Random(7).shuffle(doomed)  # noqa: S311 - or they would be revoked in the order in which they were read
    size = {"command": BATCH}

    async def revoke(way: str) -> None:
        mine = [visitor for visitor in doomed if visitor.way == way]
        for start in range(0, len(mine), size.get(way, 1)):
            batch = mine[start : start + size.get(way, 1)]
            for visitor in batch:
                visitor.is_revoking = True
            await _BY[way](scene, batch)
            for visitor in batch:
                visitors.was_revoked(visitor)
            await asyncio.sleep(BETWEEN_S)

    await asyncio.gather(*(revoke(way) for way in scene.plan.ways))
    await visitors.until_refused()


async def _by_app(scene: Scene, batch: Sequence[Visitor]) -> None:
    """Through its API: by signing out, or by another session of the same user."""
    assert scene.app is not None
    for visitor in batch:
        number = int(visitor.session.token.removeprefix("drill"))
        if number // PER_USER // len(scene.plan.ways) % 2:
            await scene.app.sign_out(visitor.session.token)
        else:
            await scene.app.revoke_session(visitor.session.token, by=f"drill{number - 1:027d}")


async def _by_gate(scene: Scene, batch: Sequence[Visitor]) -> None:
    """By signing out at the first replica."""
    for visitor in batch:
        asking = request("POST", "/.gatekeeper/sign-out", visitor.cookie, "Origin: http://drill", "Content-Length: 0")
        answer = await ask_once(scene.gates[0].port, asking)
        if answer.status != 200:
            raise RuntimeError(f"sign-out was answered {answer.status} {answer.body[:200]!r}")


async def _by_command(scene: Scene, batch: Sequence[Visitor]) -> None:
    """By their tokens, with the configuration of the first replica."""
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "gatekeeper", "sessions", "revoke", "-", "--yes", "-c", str(scene.gates[0].config)]
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    tokens = "".join(f"{visitor.session.token}\n" for visitor in batch)
    output, _ = await process.communicate(tokens.encode())
    if process.returncode != 0:
        raise RuntimeError(f"`gatekeeper sessions revoke` ended with {process.returncode}: {output.decode()}")


async def _by_store(scene: Scene, batch: Sequence[Visitor]) -> None:
    """By deleting the row or key."""
    for visitor in batch:
        await scene.store.delete(visitor.session.token)


_BY = {"app": _by_app, "gate": _by_gate, "command": _by_command, "store": _by_store}


async def run(plan: Plan) -> list[str]:
    """What went wrong with this store.  Prints figures."""
    began = time.monotonic()
    async with asyncio.timeout(LIMIT_S), opened(plan) as scene:
        visitors = Visitors(scene.processes, make_visitors(plan))
        await scene.store.sign_in([visitor.session for visitor in visitors.all])
        reads = [await scene.reads()]
        await visitors.meet_all(AT_ONCE)
        reads.append(await scene.reads())
        await visitors.open_streams()
        tasks = [*visitors.load(AT_ONCE, PAUSE_S), asyncio.create_task(sign_in_others(scene, visitors))]
        await asyncio.sleep(STEADY_S)
        await revoke_all(scene, visitors)
        await asyncio.sleep(TAIL_S)
        visitors.is_over = True
        await asyncio.gather(*tasks)
        reads.append(await scene.reads())
        visitors.close()
        visitors.failures += [line for gate in scene.gates for line in gate.troubles()]
        tells_sign_ins = scene.store.tells_sign_ins
    failures = [*visitors.failures, *report(plan, visitors)]
    if plan.sets_up:
        failures += report_reads(plan, visitors, reads, tells_sign_ins=tells_sign_ins)
    print(f"{plan.title}: {visitors.requests} requests, took {time.monotonic() - began:.0f} s", flush=True)
    return [f"{plan.title}: {failure}" for failure in failures]


def report(plan: Plan, visitors: Visitors) -> list[str]:
    """What took too long.  Prints how long it took, by the ways of revoking."""
    failures = []
    for way in plan.ways:
        mine = [visitor for visitor in visitors.all if visitor.way == way]
        refused = [visitor.lived_on_s for visitor in mine]
        ended = [visitor.streamed_on_s for visitor in mine if visitor.has_stream]
        print(f"{plan.title:20} {way:8} last page {_figures(refused)}; stream {_figures(ended)}", flush=True)
        for what, values, limit in (("let in", refused, plan.refused_s), ("streamed", ended, plan.ended_s)):
            if not values or not max(values) <= limit:
                worst = max(values, default=math.nan)
                failures.append(f"{way}: still {what} {worst:.2f} s after the revocation, the limit is {limit:g} s")
    return failures


def report_reads(plan: Plan, visitors: Visitors, reads: Sequence[float], *, tells_sign_ins: bool) -> list[str]:
    """Whether the store was read too often, or not as often as it must have been: then it was not counted.

    After all have been let in once, it may be read for who is new, once more where gates are told of a sign-in after
    they have read; for who is refused; and for a revocation twice, by who revokes and for the streams.  `SPARE` is for
    moments in which a process was held up for so long that it could not know what had happened.
    """
    first, later = reads[1] - reads[0], reads[2] - reads[1]
    all_once, new = PROCESSES * plan.sessions, PROCESSES * (len(visitors.all) - plan.sessions)
    spare = round(SPARE * all_once)
    most = (2 if tells_sign_ins else 1) * new + visitors.refusals + 2 * plan.revoked + spare
    print(
        f"{plan.title:20} store reads: {first:.0f} for {plan.sessions} sessions at {PROCESSES} processes; then"
        f" {later:.0f} for {new} first requests and {visitors.refusals} refusals,"
        f" among {visitors.requests - all_once} requests",
        flush=True,
    )
    failures = []
    for when, count, least, limit in (("at first", first, all_once, all_once + spare), ("later", later, new, most)):
        if not least <= count <= limit:
            failures.append(f"{count:.0f} store reads {when}, not {least} to {limit}")
    return failures


def _figures(values: Sequence[float]) -> str:
    p50, p99, worst = percentile(values, 50), percentile(values, 99), max(values, default=math.nan)
    return f"{len(values):3d}: p50 {p50:.2f} s, p99 {p99:.2f} s, at most {worst:.2f} s"


def plans(sessions: int, ways: Sequence[str]) -> dict[str, Plan]:
    small = 60
    fed = {"sessions": sessions, "ways": ways, "per_stream": 4, "sets_up": True}
    return {
        "redis": Plan("Redis", RedisStore.opened, **fed),
        "postgresql": Plan("PostgreSQL", PostgresStore.opened, **fed),
        "sqlite": Plan("SQLite", SqliteStore.opened, **fed),
        "file": Plan("SQLite, not set up", SqliteStore.opened, small),
        "mariadb": Plan("MariaDB, no feed", MariadbStore.opened, small, refused_s=1.2, ended_s=1.5),
    }


async def drill(chosen: Sequence[Plan]) -> list[str]:
    """What went wrong.  Those with many sessions run one after the other, then the small ones together."""
    failures: list[str] = []
    for plan in chosen:
        if plan.sets_up:
            failures += await run(plan)
    small = await asyncio.gather(*(run(plan) for plan in chosen if not plan.sets_up))
    return [*failures, *itertools.chain(*small)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=400, help="at each store with a feed (default 400)")
    parser.add_argument("--stores", default="redis,postgresql,sqlite,file,mariadb")
    parser.add_argument("--ways", default=",".join(_BY), help="in which ways sessions are revoked")
    arguments = parser.parse_args()
    known = plans(arguments.sessions, arguments.ways.split(","))
    failures = uvloop.run(drill([known[name] for name in arguments.stores.split(",")]))
    return verdict(failures)


if __name__ == "__main__":
    sys.exit(main())
