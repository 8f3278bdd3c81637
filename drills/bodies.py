"""Drill: bodies of 1 MB and 1 GB pass both ways intact, to a slow reader too, and the gate's memory stays bounded.

Starts a gate (`gatekeeper run`) in front of a small app on loopback, sends and fetches bodies whose bytes are known,
compares their SHA-256, and watches the gate's resident memory.  Exit status 0 when every body arrived intact and
memory grew by less than 32 MB.

    python drills/bodies.py [--size 1073741824] [--slow-seconds 20]
"""

import argparse
import asyncio
import hashlib
import sys
import time

from rig.figures import Memory
from rig.gate import running_gate

LIMIT_MB = 32.0
PIECE = bytes(range(256)) * 256  # 64 KiB


def digest_of(size: int) -> str:
    """The SHA-256 of a body of this size."""
    whole, rest = divmod(size, len(PIECE))
    digest = hashlib.sha256()
    for _ in range(whole):
        digest.update(PIECE)
    digest.update(PIECE[:rest])
    return digest.hexdigest()


async def pour(writer: asyncio.StreamWriter, size: int) -> None:
    """Write a body of this size, as fast as it is taken."""
    while size > 0:
        writer.write(PIECE[:size])
        size -= min(size, len(PIECE))
        await writer.drain()


async def swallow(reader: asyncio.StreamReader, size: int, pause_s: float = 0.0) -> str:
    """Read a body of this size, pausing after each piece, and return its SHA-256."""
    digest = hashlib.sha256()
    while size > 0:
        data = await reader.read(min(size, len(PIECE)))
        if not data:
            raise ConnectionError(f"{size} bytes are missing")
        digest.update(data)
        size -= len(data)
        if pause_s:
            await asyncio.sleep(pause_s)
    return digest.hexdigest()


async def serve_app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The app: GET /down/SIZE gives a body, POST /up takes one and answers with its SHA-256."""
    try:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
            method, target, _ = head.split(" ", 2)
            if method == "GET":
                size = int(target.rpartition("/")[2])
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
                await pour(writer, size)
                continue
            lengths = [line for line in head.lower().split("\r\n") if line.startswith("content-length:")]
            answer = await swallow(reader, int(lengths[0].partition(":")[2]))
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n{answer}".encode())
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def fetch(port: int, size: int, pause_s: float = 0.0) -> str:
    """Download a body through the gate; its SHA-256."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=len(PIECE))
    writer.write(f"GET /down/{size} HTTP/1.1\r\nHost: drill\r\nConnection: close\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    try:
        return await swallow(reader, size, pause_s)
    finally:
        writer.close()


async def send(port: int, size: int) -> str:
    """Upload a body through the gate; the SHA-256 that the app saw."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /up HTTP/1.1\r\nHost: drill\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    await pour(writer, size)
    answer = await reader.read()
    writer.close()
    return answer.rpartition(b"\r\n\r\n")[2].decode()


async def drill(size: int, slow_s: float) -> bool:
    app = await asyncio.start_server(serve_app, "127.0.0.1", 0)
    fine = True
    async with app, running_gate(app.sockets[0].getsockname()[1]) as gate:
        port = gate.port
        for step in ("1 MB down", "1 MB up"):
            await (fetch(port, 2**20) if "down" in step else send(port, 2**20))  # warm up: imports, pools, buffers
        memory = Memory(gate.pid)
        watcher = asyncio.create_task(memory.watch())
        slow_size = 16 * 2**20
        pause_s = slow_s / (slow_size / len(PIECE))
        steps = [
            ("1 MB down", 2**20, lambda: fetch(port, 2**20)),
            ("1 MB up", 2**20, lambda: send(port, 2**20)),
            (f"{size / 2**20:.0f} MB down", size, lambda: fetch(port, size)),
            (f"{size / 2**20:.0f} MB up", size, lambda: send(port, size)),
            (f"16 MB to a reader that takes {slow_s:.0f} s", slow_size, lambda: fetch(port, slow_size, pause_s)),
        ]
        for name, length, step in steps:
            began = time.monotonic()
            intact = await step() == digest_of(length)
            fine = fine and intact
            took = time.monotonic() - began
            print(
                f"{name:40} {'intact' if intact else 'DAMAGED'} {took:6.1f} s   memory +{memory.growth_mb:.1f} MB",
                flush=True,
            )
        watcher.cancel()
        print(f"gate's memory: {memory}")
        return fine and memory.growth_mb < LIMIT_MB


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=2**30, help="bytes of the large body (default 1 GiB)")
    parser.add_argument("--slow-seconds", type=float, default=20.0, help="how long the slow reader takes")
    arguments = parser.parse_args()
    fine = asyncio.run(drill(arguments.size, arguments.slow_seconds))
    print("passed" if fine else "FAILED")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
