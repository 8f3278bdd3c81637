"""Drill: a thousand wrong passwords from many addresses, and the owner of the account who signs in meanwhile.

A gate with two workers, and a second one with one, keep accounts in one store.  First the owner signs in again and
again with a device that has signed in before, while nothing else goes on but some pages: the calm time.  Then so many
wrong passwords come, each from an address of its own, a crowd at once: half of them for the owner's account, the
others for accounts that there are and that there are not.  The owner goes on signing in all the while, at both workers
by turns, and so do the pages of somebody who is signed in.  A stranger who knows the owner's right password tries it.
At last an account is tried through all three processes at the same moment.

Passes when the owner was let in each time, in the middle within three times the calm time; no page was refused; of
wrong passwords no more were looked at than the limit allows, whichever process they came to; all others were told when
to come again; the stranger was held up with them; and nothing was answered but 401, 429 and 503.

    python drills/sign_in_flood.py [--tries 1000] [--at-once 200] [--store sqlite|postgres]
"""

import argparse
import asyncio
import itertools
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import uvloop
from rig.app import running_app
from rig.client import Answer, Client, Lost, Refused, ask_once, request
from rig.figures import percentile
from rig.gate import NO_ADMIN, RunningGate, running_gate
from rig.processes import Process, open_processes
from rig.sign_ins import PASSWORD, cookies_of, migrate, new_address, sign_in, sign_up
from rig.stores import empty_postgres, empty_sqlite

WORKERS = 2
ACCOUNTS, STRANGER_TRIES, SHARED_TRIES = 20, 3, 8
MOST, WINDOW_S = 5, 60
CALM_SIGN_INS = 20
SIGN_IN_PAUSE_S, PAGE_PAUSE_S = 0.1, 0.02
PATIENCE_S, LIMIT_S = 150.0, 240.0
"""What hangs must end, too."""

AT_MOST = 3.0
"""How many times the calm time a sign-in may take, in the middle."""

OWNER, SHARED = "owner@example.test", "shared@example.test"
MORE = f"""\
workers: {{workers}}
trusted_proxies: [127.0.0.1]
accounts: {{{{enabled: true, sign_up: true}}}}
limits: {{{{sign_in_attempts: {MOST}/{WINDOW_S}s}}}}
{NO_ADMIN.replace("{", "{{").replace("}", "}}")}"""
RETRY_AFTER = re.compile(rb"\r\nretry-after: *[1-9]\d*\r\n", re.IGNORECASE)


@dataclass
class Phase:
    """How long sign-ins of the owner and pages of somebody else took, in seconds."""

    sign_ins_s: list[float] = field(default_factory=list)
    pages_s: list[float] = field(default_factory=list)
    is_over: bool = False


@dataclass
class Scene:
    """What runs; `device` is the owner's device cookie, `session` that of somebody who is signed in."""

    gates: Sequence[RunningGate]
    workers: Sequence[Process]
    device: str = ""
    session: str = ""
    calm: Phase = field(default_factory=Phase)
    flooded: Phase = field(default_factory=Phase)
    at_owner: Counter[int] = field(default_factory=Counter)
    at_others: Counter[int] = field(default_factory=Counter)
    strangers: Counter[int] = field(default_factory=Counter)
    shared: Counter[int] = field(default_factory=Counter)
    took_s: float = 0.0
    failures: list[str] = field(default_factory=list)

    def refused(self, answer: Answer, statuses: Counter[int]) -> None:
        """Note a refusal, and whether it was one that should be."""
        statuses[answer.status] += 1
        if answer.status not in (401, 429, 503):
            self.failures.append(f"a try was answered {answer.status} {answer.body[:80]!r}")
        elif answer.status != 401 and RETRY_AFTER.search(answer.head) is None:
            self.failures.append(f"{answer.status} without the time to come again")


STORES = {"sqlite": empty_sqlite, "postgres": empty_postgres}


@asynccontextmanager
async def opened(kind: str) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(STORES[kind]())
        await migrate(store, MORE.format(workers=WORKERS))
        app = await stack.enter_async_context(running_app())
        gates = [
            await stack.enter_async_context(running_gate(app.port, MORE.format(workers=workers), store))
            for workers in (WORKERS, 1)
        ]
        scene = Scene(gates, await open_processes(gates[0], WORKERS, connections=2))
        scene.device = _cookie(await sign_up(gates[0].port, OWNER), "gatekeeper.device")
        for email in (*(f"other{number}@example.test" for number in range(ACCOUNTS)), SHARED):
            cookies = await sign_up(gates[0].port, email)
            scene.session = _cookie(cookies, "better-auth.session_token")
        yield scene
        for worker in scene.workers:
            worker.close()


def _cookie(cookies: dict[str, str], name: str) -> str:
    return f"{name}={cookies[name]}"


async def owner(scene: Scene, phase: Phase, most: int | None = None) -> None:
    """Sign in at each worker by turns, so often or until the phase is over."""
    address = new_address()
    for number in itertools.count():
        if phase.is_over or number == most:
            return
        began = time.monotonic()
        asking = sign_in(OWNER, PASSWORD, address, scene.device)
        try:
            answer = await scene.workers[number % WORKERS].ask(asking)
        except Lost as error:
            scene.failures.append(f"the owner's sign-in: {error}")
            return
        phase.sign_ins_s.append(time.monotonic() - began)
        if answer.status != 200:
            scene.failures.append(f"the owner was answered {answer.status} {answer.body[:80]!r}")
        else:
            scene.device = _cookie(cookies_of(answer), "gatekeeper.device")
        await asyncio.sleep(SIGN_IN_PAUSE_S)


async def pages(scene: Scene, phase: Phase, worker: Process) -> None:
    """Ask for pages at this worker until the phase is over."""
    asking = request("GET", "/dashboard", f"Cookie: {scene.session}")
    while not phase.is_over:
        began = time.monotonic()
        try:
            answer = await worker.ask(asking)
        except Lost as error:
            scene.failures.append(f"a page: {error}")
            return
        phase.pages_s.append(time.monotonic() - began)
        if answer.status != 200 or answer.body.startswith(b"nobody"):
            scene.failures.append(f"a page was answered {answer.status} {answer.body[:80]!r}")
        await asyncio.sleep(PAGE_PAUSE_S)


async def during(scene: Scene, phase: Phase, what: Callable[[], Awaitable[None]]) -> None:
    """Do this while pages are asked for."""
    asking = [asyncio.create_task(pages(scene, phase, worker)) for worker in scene.workers]
    await what()
    phase.is_over = True
    await asyncio.gather(*asking)


async def stranger(scene: Scene) -> None:
    """Try the right password, from new addresses, once the account's tries are used up."""
    for _ in range(STRANGER_TRIES):
        while not scene.at_owner[429] and not scene.flooded.is_over:  # noqa: ASYNC110 - others count
            await asyncio.sleep(0.02)
        await _try(scene, OWNER, PASSWORD, scene.strangers)


async def flood(scene: Scene, tries: int, at_once: int) -> None:
    """So many wrong passwords, never more than so many at once, while the owner signs in."""
    numbers = iter(range(tries))
    signing_in = asyncio.create_task(owner(scene, scene.flooded))
    strange = asyncio.create_task(stranger(scene))

    async def attacker() -> None:
        for number in numbers:
            statuses = scene.at_owner if number % 2 else scene.at_others
            await _try(scene, OWNER if number % 2 else _other(number // 2), f"wrong {number}", statuses)

    began = time.monotonic()
    await asyncio.gather(*(attacker() for _ in range(at_once)))
    scene.took_s = time.monotonic() - began
    scene.flooded.is_over = True
    await asyncio.gather(signing_in, strange)


def _other(number: int) -> str:
    """Accounts that there are and that there are not by turns, as many of these as of those."""
    kind = ("other", "nobody")[number % 2]
    return f"{kind}{number // 2 % ACCOUNTS}@example.test"


async def _try(scene: Scene, email: str, password: str, statuses: Counter[int], gate: int = 0) -> None:
    """A try from a new address, on a connection of its own."""
    try:
        client = await Client.connect(scene.gates[gate].port)
        try:
            scene.refused(await client.ask(sign_in(email, password, new_address()), PATIENCE_S), statuses)
        finally:
            client.close()
    except (Lost, Refused, OSError) as error:
        scene.failures.append(f"a try was not answered: {type(error).__name__} {error}")


async def try_everywhere(scene: Scene) -> None:
    """Try an account at both workers and at the second gate at the same moment, then rightly at the second gate."""

    async def at(worker: Process) -> None:
        for number in range(SHARED_TRIES):
            scene.refused(await worker.ask(sign_in(SHARED, f"wrong {number}", new_address())), scene.shared)

    asking = [at(worker) for worker in scene.workers for _ in range(2)]
    asking += [_try(scene, SHARED, f"wrong {number}", scene.shared, gate=1) for number in range(SHARED_TRIES)]
    await asyncio.gather(*asking)
    answer = await ask_once(scene.gates[1].port, sign_in(SHARED, PASSWORD, new_address()))
    if answer.status != 429:
        scene.failures.append(f"the second gate answered {answer.status} where tries were used up at the first one")


async def drill(tries: int, at_once: int, kind: str) -> bool:
    async with asyncio.timeout(LIMIT_S), opened(kind) as scene:
        await during(scene, scene.calm, lambda: owner(scene, scene.calm, CALM_SIGN_INS))
        await during(scene, scene.flooded, lambda: flood(scene, tries, at_once))
        await try_everywhere(scene)
        scene.failures += [line for gate in scene.gates for line in gate.troubles()]
    return report(scene)


def report(scene: Scene) -> bool:
    calm, flooded = scene.calm, scene.flooded
    calm_s, middle_s = percentile(calm.sign_ins_s, 50), percentile(flooded.sign_ins_s, 50)
    looked_at = MOST * (1 + int(scene.took_s // WINDOW_S))
    beyond = sum(one > AT_MOST * calm_s for one in flooded.sign_ins_s)
    print(f"wrong passwords in {scene.took_s:.1f} s: owner's account {_counts(scene.at_owner)};", end=" ")
    print(f"others' and nobody's {_counts(scene.at_others)}; the right one from strangers {_counts(scene.strangers)}")
    for what, phase in (("calm", calm), ("flooded", flooded)):
        print(f"{what:8} owner's sign-ins {_figures(phase.sign_ins_s)}; pages {_figures(phase.pages_s)}")
    print(
        f"the owner in the middle {middle_s / calm_s:.2f} times the calm time, {max(flooded.sign_ins_s) / calm_s:.2f}"
        f" at most, {beyond} of {len(flooded.sign_ins_s)} beyond {AT_MOST:g};"
        f" through three processes at once {_counts(scene.shared)}"
    )
    checks = {
        "nobody was answered as they should not be": not scene.failures,
        f"the owner's sign-in took no more than {AT_MOST:g} times the calm time": middle_s <= AT_MOST * calm_s,
        f"no more than {looked_at} passwords of the owner's were looked at": scene.at_owner[401] <= looked_at,
        "strangers with the right password were held up": scene.strangers == {429: STRANGER_TRIES},
        f"exactly {MOST} were looked at through three processes": scene.shared[401] == MOST,
    }
    for name, held in checks.items():
        print(f"{'ok  ' if held else 'FAIL'} {name}")
    for failure in scene.failures[:10]:
        print(f"       {failure}")
    return all(checks.values())


def _counts(statuses: Counter[int]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items())) or "none"


def _figures(values_s: Sequence[float]) -> str:
    p50, p99, worst = (1000 * percentile(values_s, percent) for percent in (50, 99, 100))
    return f"{len(values_s)}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, at most {worst:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tries", type=int, default=1000, help="how many wrong passwords (default 1000)")
    parser.add_argument("--at-once", type=int, default=200, help="how many of them wait at once (default 200)")
    parser.add_argument("--store", choices=sorted(STORES), default="sqlite")
    arguments = parser.parse_args()
    fine = uvloop.run(drill(arguments.tries, arguments.at_once, arguments.store))
    print("passed" if fine else "FAILED")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
