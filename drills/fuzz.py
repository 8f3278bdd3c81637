"""Drill: mutated attack requests, byte for byte, against a running gate.

Takes the captured attack requests without their session cookies, mutates them (pieces inserted, removed, repeated),
and sends each on a connection of its own; some clients hang up half-way.  Whatever was sent:

* no request that some backend would read as a protected path reaches the app,
* no identity header of the client's reaches the app,
* the app never gets a malformed head,
* the gate never answers 500, and still answers at the end.

    python drills/fuzz.py [--cases 20000] [--seed 1]

The seed is printed, so that a failure can be repeated.
"""

import argparse
import asyncio
import json
import logging
import random
import re
import sys
import tempfile
import time
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.attacks.judge import Filler, reads_as
from tests.better_auth_db import create_database
from tests.server.gates import SECRET, running_gate
from tests.server.upstreams import Received, RecordingUpstream, fold, recording_upstream
from tests.server.wire import ask

VECTORS = Path(__file__).parent.parent / "tests" / "vectors" / "http-attacks.json"
PIECES = [
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"/", b"//", b"..", b"%2e", b"%2f", b"%5c", b";", b"?", b"#"),
    *(b"\xff", b"%", b"dashboard", b"HTTP/1.0", b"HTTP/2.0", b"0\r\n\r\n", b"5\r\nhello\r\n", b"Host: x\r\n"),
    *(b"X-Auth-User-Id: forged\r\n", b"x_auth.user_id: forged\r\n", b"Connection: close, X-Auth-Status\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Expect: 100-continue\r\n"),
    *(b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"GET /dashboard HTTP/1.1\r\nHost: h\r\n\r\n"),
]
PATIENCE_S = 0.05
LONGEST_SEED = 3_000


def seeds(host: str, upstream: str) -> list[bytes]:
    """The attack requests, filled in, without the cookies of a live session."""
    fill = Filler(host, upstream, SECRET, "no-such-token", "nobody")
    found: list[bytes] = []
    for case in json.loads(VECTORS.read_text())["cases"]:
        for step in case.get("steps") or [case]:
            parts = step["raw"] if isinstance(step["raw"], list) else [step["raw"]]
            texts = [part for part in parts if isinstance(part, str) and "{{PAD" not in part]
            found += [fill.fill(re.sub(r"Cookie: [^\r]*\r\n", "", text)).encode("latin-1") for text in texts]
    return [seed for seed in found if len(seed) < LONGEST_SEED]


def mutate(seed: bytes, chance: random.Random) -> bytes:
    """The seed with up to six pieces inserted, removed or repeated."""
    text = bytearray(seed)
    for _ in range(chance.choice([0, 1, 1, 2, 3, 6])):
        at, kind = chance.randrange(len(text) + 1), chance.random()
        if kind < 0.5:
            text[at:at] = chance.choice(PIECES)
        elif kind < 0.75:
            del text[at : at + chance.randrange(1, 8)]
        else:
            start = chance.randrange(len(text) + 1)
            text[at:at] = text[start : start + chance.randrange(40)]
    return bytes(text)


async def send(port: int, request: bytes, *, hangs_up: bool) -> bytes:
    """Send the bytes; what came back until the gate closed or was silent for a moment."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        writer.write(request)
        while not hangs_up:
            data = await asyncio.wait_for(reader.read(65_536), PATIENCE_S)
            if not data:
                break
            received += data
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    return received


def troubles(received: bytes, requests: list[Received]) -> list[str]:
    """Which promises were broken."""
    found = ["the gate answered 500"] if b"HTTP/1.1 500 " in received else []
    for request in requests:
        if request.trouble and request.trouble != "unfinished head":
            found.append(f"malformed upstream request: {request.trouble}")
        if reads_as(request.target, ["matrix", "trim", "backslash", "nul"]):
            found.append(f"reached {request.target!r}")
        if any("forged" in value for name, value in request.headers if fold(name).startswith("x-auth-")):
            found.append("a forged identity header arrived")
    return found


async def drill(cases: int, seed: int) -> bool:
    chance = random.Random(seed)  # noqa: S311 - to be repeatable, not secret
    failures = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "auth.db"
        create_database(database)
        async with recording_upstream() as upstream, running_gate(upstream.url, database) as gate:
            requests = seeds(gate.host, f"127.0.0.1:{upstream.port}")
            for number in range(cases):
                failures += await one_case(gate.port, upstream, mutate(chance.choice(requests), chance), chance)
                if sys.stdout.isatty() and number % 500 == 0:
                    print(f"\r{number} of {cases}", end="", flush=True)
            alive = (await ask(gate.port, "GET", "/alive")).status == 200
    took = time.monotonic() - began
    print(f"\r{cases} cases, seed {seed}: {failures} failures, gate {'alive' if alive else 'DEAD'}, {took:.0f} s")
    return alive and failures == 0


async def one_case(port: int, upstream: RecordingUpstream, request: bytes, chance: random.Random) -> int:
    upstream.requests.clear()
    received = await send(port, request, hangs_up=chance.random() < 0.1)
    found = troubles(received, list(upstream.requests))
    for problem in found:
        print(f"\n{problem}\n  {request!r}", flush=True)
    return bool(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=20_000, help="how many requests (default 20000)")
    parser.add_argument("--seed", type=int, default=1, help="for repeating a run (default 1)")
    arguments = parser.parse_args()
    logging.getLogger("gatekeeper").setLevel("CRITICAL")  # each refusal would be a line
    fine = uvloop.run(drill(arguments.cases, arguments.seed))
    print("passed" if fine else "FAILED")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
