"""The gate's own objects on transports that are no sockets: requests without kernel and clock.

What runs is what serves: `serve()`, its connections, its pools of connections to the app, the access log.  Only the
ends are replaced.  Clients are protocols made by the server, fed through `data_received`; the app is what a loop's
`create_connection` gives.  Timers wait until the end, and the monotonic clock stands, so that the same number of
requests costs the same.  `python -m bench.rig FOLDER` runs every case between marks that callgrind sees: see
`bench.instructions`.
"""

import asyncio
import gc
import itertools
import json
import os
import platform
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from bench.session import SECRET, VARIED_SESSIONS, cookie_of, write_sessions
from bench.wires import RigLoop, Wire, standing_clock
from bench.workloads import BROWSER_HEADERS, GUARDED, PAGE, POST_BYTES, SCRIPT_HEADERS, UPLOAD
from gatekeeper.config.load import load_text
from gatekeeper.server.app import Served, serve

CLIENTS = 8
FEW, MANY = 200, 600
"""Requests of a case in its two sections; a hundred fill a batch of the access log."""

_WARM_UP = 200
_LOG_S = 0.3

CONFIG = """\
listen: 127.0.0.1:0
public_url: http://127.0.0.1
upstream: http://127.0.0.1:9
secret: {secret}
store: sqlite:///{folder}/auth.db
protect: [/dashboard, /settings]
admin: {{listen: null}}
log: {{file: {folder}/access.log}}
"""


class Case(msgspec.Struct, frozen=True):
    """Requests of one kind: their bytes, sent in this order and then anew, and the status that answers them."""

    name: str
    requests: tuple[bytes, ...]
    status: int


class RigError(Exception):
    """The gate did not answer as it should; the message says how."""


class ClientTransport(Wire):
    """A client's end: counts the bytes of its answer, and sends the next request once it is whole."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clients: "Clients", protocol: Any) -> None:
        super().__init__(loop, protocol)
        self._clients = clients
        self.received = 0

    def write(self, data: Any) -> None:
        self.received += len(data)
        clients = self._clients
        if clients.keeps is not None:
            clients.keeps += data
        elif self.received == clients.answer_bytes:
            self.received = 0
            clients.answered(self)
        elif self.received > clients.answer_bytes:
            clients.fail(f"an answer has {self.received} bytes instead of {clients.answer_bytes}")

    def send(self, request: bytes) -> None:
        self._loop.call_soon(self._protocol.data_received, request)

    def close(self) -> None:
        super().close()
        self._clients.fail("a connection was closed")


class Clients:
    """Clients that send the requests of a case, one at a time on each connection."""

    def __init__(self, served: Served, count: int = CLIENTS) -> None:
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._requests: Iterator[bytes] = iter(())
        self._to_send = self._to_come = 0
        self._cases: dict[str, tuple[Iterator[bytes], int]] = {}
        self.answer_bytes = 0
        self.keeps: bytearray | None = None
        self._all: list[ClientTransport] = []
        for _ in range(count):
            protocol: Any = served.server()
            client = ClientTransport(self._loop, self, protocol)
            protocol.connection_made(client)
            self._all.append(client)

    async def learn(self, case: Case) -> None:
        """Ask once, and keep how long the answer is.  Raises RigError for a wrong status."""
        self.keeps, client = bytearray(), self._all[0]
        requests = itertools.cycle(case.requests)
        client.send(next(requests))
        for _ in range(1000):
            await asyncio.sleep(0.001)
            if len(self.keeps) == _whole_length(self.keeps):
                break
        answer, self.keeps, client.received = bytes(self.keeps), None, 0
        if not answer.startswith(b"HTTP/1.1 %d " % case.status):
            raise RigError(f"{case.name}: answered {answer[:40]!r}")
        self._cases[case.name] = requests, len(answer)

    async def ask(self, case: Case, count: int) -> None:
        """Have so many requests answered, as long as the first answer was.  Raises RigError."""
        self._requests, self.answer_bytes = self._cases[case.name]
        self._to_send = self._to_come = count
        self._done = self._loop.create_future()
        for client in self._all[:count]:
            self._send(client)
        await self._done

    def answered(self, client: ClientTransport) -> None:
        self._to_come -= 1
        if self._to_send:
            self._send(client)
        elif not self._to_come:
            self._done.set_result(None)

    def fail(self, what: str) -> None:
        if not self._done.done():
            self._done.set_exception(RigError(what))

    def close(self) -> None:
        for client in self._all:
            client.close()

    def _send(self, client: ClientTransport) -> None:
        self._to_send -= 1
        client.send(next(self._requests))


def cases() -> list[Case]:
    """What is asked: the same as by the benchmark's workloads of these names."""
    cookie = {"Cookie": cookie_of(0)}
    return [
        Case("verified", (_raw("GET", PAGE, BROWSER_HEADERS | cookie),), 200),
        Case("varied", tuple(map(_varied, range(1 + _WARM_UP + FEW + MANY))), 200),
        Case("redirect", (_raw("GET", GUARDED, BROWSER_HEADERS),), 307),
        Case("denied", (_raw("GET", GUARDED, SCRIPT_HEADERS),), 401),
        Case("post", (_raw("POST", UPLOAD, BROWSER_HEADERS | cookie, b"x" * POST_BYTES),), 200),
    ]


@asynccontextmanager
async def open_rig(folder: Path) -> AsyncIterator[tuple[Served, Clients]]:
    """A gate with its defaults and an access log, and its clients.  To be run in a `RigLoop`."""
    write_sessions(folder / "auth.db", VARIED_SESSIONS)
    settings = load_text(CONFIG.format(secret=SECRET, folder=folder), source="rig", base_dir=folder, environ={})
    with standing_clock():
        async with serve(settings) as served:
            clients = Clients(served)
            yield served, clients
            await _settle()
            clients.close()
            await _settle()


async def measure(folder: Path, mark: Callable[[], object]) -> None:
    """Run each case twice, `FEW` and then `MANY` requests; `mark` is called before each section and after the last."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, RigLoop)
    async with open_rig(folder) as (_, clients):
        for case in cases():
            await clients.learn(case)
            await clients.ask(case, _WARM_UP)
        loop.is_still = True
        gc.collect()
        gc.freeze()
        gc.disable()
        for case in cases():
            for count in (FEW, MANY):
                _let_the_log_be_written()
                mark()
                await clients.ask(case, count)
        _let_the_log_be_written()
        mark()
        loop.is_still = False


def describe() -> dict[str, str]:
    """What the figures depend on: the interpreter's build, the machine's kind, the libraries on the way."""
    libraries = {name: version(name) for name in ("aiohttp", "uvloop", "msgspec", "multidict", "yarl")}
    return {"python": sys.version, "machine": platform.machine(), **libraries}


def _let_the_log_be_written() -> None:
    """Leave the processor to the log's thread, so that lines are counted where they belong."""
    time.sleep(_LOG_S)


async def _settle() -> None:
    """Let the loop do what is due, and what that leads to."""
    for _ in range(10):
        await asyncio.sleep(0)


def _varied(number: int) -> bytes:
    odd = number * 2_654_435_761 % 2**32
    trace = f"00-{odd:08x}{number:08x}{7:08x}{odd:08x}-{number:08x}{odd:08x}-01"
    headers = BROWSER_HEADERS | {"Cookie": cookie_of(number % VARIED_SESSIONS), "Traceparent": trace}
    return _raw("GET", f"{PAGE}/{number}?tab={odd:x}&page={number % 89}", headers)


def _raw(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: 127.0.0.1:8080",
        *(f"{name}: {text}" for name, text in headers.items()),
    ]
    lines += [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def _whole_length(received: bytearray) -> int | None:
    """The length of the answer that begins here, None while its head is not whole."""
    head, mark, _ = bytes(received).partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return len(head) + len(mark) + (int(length[1]) if length else 0) if mark else None


def main() -> None:
    with asyncio.Runner(loop_factory=RigLoop) as runner:
        # A call of the system's that nothing else makes, for callgrind to stop at.
        runner.run(measure(Path(sys.argv[1]), os.getppid))
    print(json.dumps(describe()))


if __name__ == "__main__":
    main()
