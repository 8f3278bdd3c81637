"""Drill: the app goes away and comes back, then the session store, in the middle of load; nobody is signed out.

Visitors with a session keep asking, on kept and on new connections.  The app's process is ended and started again on
the same port; then the store's file is taken away and put back.  The gate is not restarted.

Passes when meanwhile every answer is whole, and 200, 502 (no app) or 503 (no store, with Retry-After); no signed-in
visitor is redirected or gets a Set-Cookie; in each outage the error is seen, a public page is served without the
store; and soon after each outage every answer is 200 again.

    python drills/outage.py [--seconds 2]
"""

import argparse
import asyncio
import sys
from collections import Counter

import uvloop
from rig.app import RunningApp, start_app
from rig.client import NAVIGATION, Answer, Client, Lost, Refused, ask_once, request
from rig.gate import USER_ID, RunningGate, running_gate

KEPT, FRESH = 12, 4
PAUSE_S = 0.02
EXPECTED = {"before": {200}, "without the app": {502}, "without the store": {503}, "after": {200}}
RECOVERY_S = 2.0
"""How long an outage may echo: a session is believed for a second without a store, and so is its absence."""


class Visitors:
    """Signed-in visitors.  `statuses` counts what each phase saw; `phase` is None while either may be seen."""

    def __init__(self, gate: RunningGate) -> None:
        self.phase: str | None = None
        self.statuses: dict[str | None, Counter[int]] = {}
        self.failures: list[str] = []
        self._port = gate.port
        self._page = request("GET", "/dashboard", gate.cookie, NAVIGATION)
        self._call = request("GET", "/dashboard/data", gate.cookie, "Accept: application/json")

    def clients(self) -> list[asyncio.Task[None]]:
        kept = [self._visit(number, is_kept=True) for number in range(KEPT)]
        return [asyncio.create_task(visit) for visit in (*kept, *(self._visit(n, is_kept=False) for n in range(FRESH)))]

    async def _visit(self, number: int, *, is_kept: bool) -> None:
        client = await Client.connect(self._port)
        while True:
            number += 1
            phase = self.phase
            try:
                if not client.is_open:
                    client = await Client.connect(self._port)
                answer = await client.ask(self._page if number % 2 else self._call)
            except (Lost, Refused) as error:
                self.failures.append(f"{phase}: {type(error).__name__} {error}")
                client.abort()
            else:
                self._judge(answer, phase if phase == self.phase else None)
            if not is_kept:
                client.close()
            await asyncio.sleep(PAUSE_S)

    def _judge(self, answer: Answer, phase: str | None) -> None:
        self.statuses.setdefault(phase, Counter())[answer.status] += 1
        head = answer.head.lower()
        allowed = {200, 502, 503} if phase is None else EXPECTED[phase]
        if answer.status not in allowed:
            self.failures.append(f"{phase}: status {answer.status}")
        if b"\r\nset-cookie:" in head or b"\r\nlocation:" in head:
            self.failures.append(f"{phase}: status {answer.status} with Set-Cookie or Location")
        if answer.status == 503 and b"\r\nretry-after:" not in head:
            self.failures.append(f"{phase}: 503 without Retry-After")
        if answer.status == 200 and not answer.body.startswith(USER_ID.encode()):
            self.failures.append(f"{phase}: 200 without the user's name")

    async def during(self, phase: str, seconds: float) -> None:
        """Let an outage or a recovery take hold, then count."""
        self.phase = None
        await asyncio.sleep(RECOVERY_S)
        self.phase = phase
        await asyncio.sleep(seconds)
        self.phase = None


async def outages(app: RunningApp, gate: RunningGate, visitors: Visitors, seconds: float) -> RunningApp:
    """Both outages, one after the other; returns the app that runs at the end."""
    await visitors.during("before", seconds)
    await app.stop()
    await visitors.during("without the app", seconds)
    app = await start_app(app.port)
    await visitors.during("after", seconds)
    away = gate.database.with_suffix(".away")
    gate.database.rename(away)
    await visitors.during("without the store", seconds)
    public = await ask_once(gate.port, request("GET", "/", gate.cookie))
    if public.status != 200:
        visitors.failures.append(f"without the store: a public page got {public.status}")
    away.rename(gate.database)
    await visitors.during("after", seconds)
    return app


async def drill(seconds: float) -> bool:
    app = await start_app()
    async with running_gate(app.port) as gate:
        visitors = Visitors(gate)
        clients = visitors.clients()
        app = await outages(app, gate, visitors, seconds)
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        failures = visitors.failures + gate.troubles()
        fine = not failures and gate.process.returncode is None
    await app.stop()
    for phase, expected in EXPECTED.items():
        seen = visitors.statuses.get(phase, Counter())
        held = set(seen) == expected
        fine = fine and held
        print(f"{'ok  ' if held else 'FAIL'} {phase}: {dict(seen)}")
    for failure in failures[:10]:
        print(f"failed: {failure}")
    print(f"in between: {dict(visitors.statuses.get(None, Counter()))}; {len(failures)} failures")
    return fine


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each phase is watched (default 2)")
    fine = uvloop.run(drill(parser.parse_args().seconds))
    print("passed" if fine else "FAILED")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
