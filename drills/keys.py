"""Drill: the keys of assertions are rotated twice in the middle of load, and no app refuses a request.

Two workers stand in front of an app that verifies each request's assertion by `gatekeeper.integrations`, which
remembers the keys that it has fetched.  Visitors keep asking; `gatekeeper keys rotate` runs meanwhile.  Assertions are
valid for 10 s, so that many are signed anew, too.  The app's timer runs 60 times as fast: it fetches the keys anew
after 5 s instead of five minutes, and what lies between the two rotations is longer to it than what has to.  The gate
does not know that, so its second rotation has to be forced.

Passes when every answer is 200, the app refused nothing and fetched the keys a few times only, each key signs from
2.5 s after its rotation on and the one before no more, and a rotation right after another is refused.

    python drills/keys.py [--seconds 6] [--workers 2]
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import jwt
import uvloop
from aiohttp import web
from aiohttp.typedefs import Handler
from rig.client import Client, Lost, Refused, ask_once, request
from rig.gate import NO_ADMIN, USER_ID, RunningGate, free_port, running_gate

from gatekeeper.config.key_folder import KeyFolder
from gatekeeper.core.assertion_keys import MIN_ROTATION_MS, KeyRing
from gatekeeper.integrations import Verifier
from gatekeeper.integrations.aiohttp import gatekeeper, require_user, user
from gatekeeper.integrations.jwks import MAX_AGE_S, Fetched, fetch_keys

ORIGIN = "http://127.0.0.1"
MORE = "public_url: {origin}\nworkers: {workers}\nidentity: {{assertion: {{keys: '{keys}', ttl: 10s}}}}\n"
KEPT, FRESH = 16, 4
PAUSE_S = 0.01
NOTICED_S = 2.5
HASTE = 60
JWKS = "/.well-known/gatekeeper/jwks.json"


class VerifyingApp:
    """An app that believes assertions alone.  `kids` counts by which keys they were signed, `late` how many were
    signed by another one than `expected`, if that is set.  `fetches` counts how often it has asked for the keys.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.kids: Counter[str] = Counter()
        self.tokens: set[str] = set()
        self.expected: str | None = None
        self.late = 0
        self.fetches = 0

    @asynccontextmanager
    async def serve(self, gate: RunningGate) -> AsyncIterator[Verifier]:
        """Runs behind this gate until the block ends."""
        keys_url = f"http://127.0.0.1:{gate.port}{JWKS}"
        verifier = Verifier(ORIGIN, jwks_url=keys_url, timer=lambda: time.monotonic() * HASTE, fetch=self._fetch)
        app = web.Application(middlewares=[self._count, gatekeeper(verifier)])
        app.router.add_get("/dashboard", require_user(self._hello))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        try:
            yield verifier
        finally:
            await runner.cleanup()

    async def _hello(self, request: web.Request) -> web.Response:
        found = user(request)
        return web.Response(text=USER_ID if found is not None and found.id == USER_ID else "somebody else")

    @web.middleware
    async def _count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        token = request.headers.get("X-Auth-Assertion", "")
        kid = jwt.get_unverified_header(token)["kid"] if token else "none"
        self.kids[kid] += 1
        self.tokens.add(token)
        self.late += self.expected not in (None, kid)
        return await handler(request)

    def _fetch(self, url: str) -> Fetched:
        self.fetches += 1
        return fetch_keys(url)


async def visit(gate: RunningGate, statuses: Counter[int | str], *, is_kept: bool) -> None:
    """Ask again and again, until cancelled."""
    page, client = request("GET", "/dashboard", gate.cookie), await Client.connect(gate.port)
    while True:
        try:
            if not client.is_open:
                client = await Client.connect(gate.port)
            statuses[(await client.ask(page)).status] += 1
        except (Lost, Refused) as error:
            statuses[type(error).__name__] += 1
            client.abort()
        if not is_kept:
            client.close()
        await asyncio.sleep(PAUSE_S)


async def rotate(gate: RunningGate, *options: str) -> int:
    command = [sys.executable, "-m", "gatekeeper", "keys", "rotate", "-c", str(gate.config), *options]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    return await process.wait()


async def rotations(gate: RunningGate, app: VerifyingApp, folder: KeyFolder, seconds: float) -> list[int]:
    """Two rotations with time before, between and after, and one too soon; how the commands ended, in their order."""
    ended: list[int] = []
    await asyncio.sleep(seconds)
    for options in ((), ("--force",)):
        app.expected = None
        ended.append(await rotate(gate, *options))
        if not options:
            ended.append(await rotate(gate))
        await asyncio.sleep(NOTICED_S)
        ring = folder.read()
        app.expected = None if ring is None else ring.current.kid
        await asyncio.sleep(seconds)
    return ended


async def drill(seconds: float, workers: int) -> bool:
    app, statuses, began = VerifyingApp(), Counter[int | str](), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = KeyFolder(Path(name) / "keys")
        first = folder.open("ES256", time.time_ns() // 1_000_000 - MIN_ROTATION_MS)  # as if made some time ago
        more = NO_ADMIN + MORE.format(origin=ORIGIN, workers=workers, keys=folder.path)
        async with running_gate(app.port, more) as gate, app.serve(gate) as verifier:
            visits = [asyncio.create_task(visit(gate, statuses, is_kept=n < KEPT)) for n in range(KEPT + FRESH)]
            ended = await rotations(gate, app, folder, seconds)
            for task in visits:
                task.cancel()
            await asyncio.gather(*visits, return_exceptions=True)
            published = json.loads((await ask_once(gate.port, request("GET", JWKS))).body)["keys"]
            troubles = gate.troubles()
        last = folder.read()
    assert last is not None
    took_s = time.monotonic() - began
    most = 2 + int(took_s * HASTE / MAX_AGE_S)
    checks = {
        f"every answer is 200: {dict(statuses)}": set(statuses) == {200},
        f"the app refused nothing: {dict(verifier.reasons)}": not verifier.reasons,
        f"it remembers the keys: {app.fetches} fetches for {sum(app.kids.values())} requests": app.fetches <= most,
        f"three keys have signed: {list(app.kids.values())} requests, {len(app.tokens)} assertions": set(app.kids)
        == {first.current.kid, first.next.kid, last.current.kid},
        f"the old key signs no more {NOTICED_S:g} s later: {app.late} requests": app.late == 0,
        "three keys are published": [key["kid"] for key in published] == _kids(last),
        f"the rotation, one right after and a forced one ended with {ended}": ended == [0, 1, 0],
        f"the log is quiet: {troubles[:3]}": not troubles,
    }
    for text, held in checks.items():
        print(f"{'ok  ' if held else 'FAIL'} {text}")
    print(f"{took_s:.1f} s, {sum(statuses.values()) / took_s:.0f} requests per second")
    return all(checks.values())


def _kids(ring: KeyRing) -> list[str]:
    """As they are published: current, next, previous."""
    return [key.kid for key in (ring.current, ring.next, ring.previous) if key is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=6.0, help="how long before, between and after (default 6)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default 2)")
    options = parser.parse_args()
    fine = uvloop.run(drill(options.seconds, options.workers))
    print("passed" if fine else "FAILED")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
