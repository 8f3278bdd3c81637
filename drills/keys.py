"""Drill: the keys of assertions are rotated in the middle of load, and no app refuses a request.

Two workers stand in front of an app that verifies each request's assertion by a set of keys that it fetched once, at
the beginning, and remembers as it may.  Visitors keep asking; `gatekeeper keys rotate` runs meanwhile.  Assertions are
valid for 10 s, so that many are signed anew, too.

Passes when every answer is 200, the app refused nothing, the key that was next signs from 2.5 s after the rotation on
and the old one no more, and a second rotation right after the first is refused.

    python drills/keys.py [--seconds 8] [--workers 2]
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import jwt
import uvloop
from rig.client import Client, Lost, Refused, ask_once, request
from rig.gate import NO_ADMIN, USER_ID, RunningGate, running_gate

from gatekeeper.config.key_folder import KeyFolder
from gatekeeper.core.assertion_keys import MIN_ROTATION_MS

ORIGIN = "http://127.0.0.1"
MORE = "public_url: {origin}\nworkers: {workers}\nidentity: {{assertion: {{keys: '{keys}', ttl: 10s}}}}\n"
KEPT, FRESH = 16, 4
PAUSE_S = 0.01
NOTICED_S = 2.5
JWKS = "/.well-known/gatekeeper/jwks.json"


class VerifyingApp:
    """An app that believes assertions alone.  `kids` counts by which keys they were signed, `late` how many were
    signed by another one than `expected`, if that is set.
    """

    def __init__(self) -> None:
        self.port = 0
        self.kids: Counter[str] = Counter()
        self.tokens: set[str] = set()
        self.refused: list[str] = []
        self.expected: str | None = None
        self.late = 0
        self._keys: jwt.PyJWKSet | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def remember(self, document: bytes) -> None:
        self._keys = jwt.PyJWKSet.from_json(document.decode())

    async def stop(self) -> None:
        """Let the last connections end, which the gate has closed."""
        if self._server is not None:
            self._server.close()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                status = "200 OK" if self._believes(head.decode("latin-1")) else "401 Unauthorized"
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(USER_ID)}\r\n\r\n{USER_ID}".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _believes(self, head: str) -> bool:
        lines = dict(line.partition(": ")[::2] for line in head.split("\r\n"))
        token = lines.get("X-Auth-Assertion", "")
        try:
            kid = jwt.get_unverified_header(token)["kid"]
            assert self._keys is not None
            jwt.decode(token, self._keys[kid], algorithms=["ES256"], audience=ORIGIN, issuer=ORIGIN)
        except (jwt.PyJWTError, KeyError) as error:
            self.refused.append(f"{type(error).__name__}: {error}")
            return False
        self.kids[kid] += 1
        self.tokens.add(token)
        self.late += self.expected not in (None, kid)
        return True


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


async def rotate(gate: RunningGate) -> int:
    command = [sys.executable, "-m", "gatekeeper", "keys", "rotate", "-c", str(gate.config)]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    return await process.wait()


async def drill(seconds: float, workers: int) -> bool:
    app, statuses = VerifyingApp(), Counter[int | str]()
    with tempfile.TemporaryDirectory() as name:
        folder = KeyFolder(Path(name) / "keys")
        first = folder.open("ES256", time.time_ns() // 1_000_000 - MIN_ROTATION_MS)  # as if made some time ago
        await app.start()
        more = NO_ADMIN + MORE.format(origin=ORIGIN, workers=workers, keys=folder.path)
        async with running_gate(app.port, more) as gate:
            published = await ask_once(gate.port, request("GET", JWKS))
            app.remember(published.body)
            visits = [asyncio.create_task(visit(gate, statuses, is_kept=n < KEPT)) for n in range(KEPT + FRESH)]
            await asyncio.sleep(seconds)
            status = await rotate(gate)
            await asyncio.sleep(NOTICED_S)
            app.expected = first.next.kid
            await asyncio.sleep(seconds)
            again = await rotate(gate)
            for task in visits:
                task.cancel()
            await asyncio.gather(*visits, return_exceptions=True)
            set_now = json.loads((await ask_once(gate.port, request("GET", JWKS))).body)["keys"]
            troubles = gate.troubles()
    await app.stop()
    checks = {
        f"every answer is 200: {dict(statuses)}": set(statuses) == {200},
        f"the app refused nothing: {app.refused[:3]}": not app.refused,
        f"two keys have signed: {list(app.kids.values())} requests, {len(app.tokens)} assertions": set(app.kids)
        == {first.current.kid, first.next.kid},
        f"the old key signs no more {NOTICED_S:g} s later: {app.late} requests": app.late == 0,
        "three keys are published": [key["kid"] for key in set_now][::2] == [first.next.kid, first.current.kid],
        f"rotate ended with {status}, and right after with {again}": (status, again) == (0, 1),
        f"the log is quiet: {troubles[:3]}": not troubles,
    }
    for text, held in checks.items():
        print(f"{'ok  ' if held else 'FAIL'} {text}")
    return all(checks.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="how long before and after (default 8)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default 2)")
    options = parser.parse_args()
    fine = uvloop.run(drill(options.seconds, options.workers))
    print("passed" if fine else "FAILED")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
