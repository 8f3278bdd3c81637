"""Drill: random and mutated attack requests, byte for byte, many at once, against a running gate.

Requests come from the captured attacks, from a grammar of odd spellings, and from mutation of both; some bear a live
session's cookie, some clients hang up half-way.  `tests/attacks/arena.py` says what must hold whatever was sent.

    python drills/fuzz.py [--cases 20000] [--seed 1] [--processes 1]

Where a promise is broken, the batch is repeated case by case to find the culprit.  A seed repeats a run.
"""

import argparse
import logging
import multiprocessing
import random
import sys
import tempfile
import time
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.attacks.arena import Arena, open_arena
from tests.attacks.verdict import Case, Trouble

BATCH = 64
HANG_UP_BATCHES = 0.1
"""The share of batches in which clients hang up: there, what was admitted need not arrive."""


async def drill(cases: int, seed: int) -> int:
    """Run so many cases; returns the number of batches with a failure."""
    chance = random.Random(seed)  # noqa: S311 - to be repeatable, not secret
    began, done, failures = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        async with open_arena(Path(folder)) as arena:
            while done < cases:
                leaves = chance.random() < HANG_UP_BATCHES
                size = min(BATCH, cases - done)
                batch = [arena.make_case(chance, hangs_up=leaves and chance.random() < 0.5) for _ in range(size)]
                failures += await one_batch(arena, batch, seed, done)
                done += len(batch)
                show_progress(done, cases, began)
    took = time.monotonic() - began
    print(f"\r{cases} cases, seed {seed}: {failures} failures, {took:.1f} s, {cases / took:.0f} cases/s", flush=True)
    return failures


async def one_batch(arena: Arena, batch: list[Case], seed: int, number: int) -> bool:
    """Whether the batch broke a promise; then it is printed."""
    found = await arena.run(batch)
    if found:
        print(f"\nseed {seed}, cases {number} to {number + len(batch) - 1}:")
        alone = [(case, troubles) for case in batch if (troubles := await arena.run([case]))]
        for case, troubles in alone:
            show(troubles, case)
        if not alone:
            print("only together:")
            show(found, None)
    return bool(found)


def show(troubles: list[Trouble], case: Case | None) -> None:
    for trouble in troubles:
        print(f"  {trouble.text}")
        culprit = case or trouble.case
        if culprit is not None:
            print(f"    sent{' and hung up' if culprit.hangs_up else ''}: {culprit.pieces!r}", flush=True)


def show_progress(done: int, cases: int, began: float) -> None:
    if sys.stdout.isatty():
        print(f"\r{done} of {cases}, {done / (time.monotonic() - began):.0f} cases/s", end="", flush=True)


def run(job: tuple[int, int]) -> int:
    """One process' share: so many cases from this seed."""
    logging.getLogger("gatekeeper").setLevel("ERROR")  # each refusal would be a line
    logging.lastResort = None  # errors are the judge's business
    return uvloop.run(drill(*job))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=20_000, help="how many requests (default 20000)")
    parser.add_argument("--seed", type=int, default=1, help="for repeating a run (default 1)")
    parser.add_argument("--processes", type=int, default=1, help="each with a seed of its own (default 1)")
    arguments = parser.parse_args()
    jobs = [(arguments.cases // arguments.processes, arguments.seed + i) for i in range(arguments.processes)]
    if len(jobs) == 1:
        failures = run(jobs[0])
    else:
        with multiprocessing.get_context("spawn").Pool(len(jobs)) as pool:
            failures = sum(pool.map(run, jobs))
    print("passed" if failures == 0 else "FAILED")
    sys.exit(0 if failures == 0 else 1)


if __name__ == "__main__":
    main()
