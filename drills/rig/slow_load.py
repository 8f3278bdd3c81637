"""Slow clients, in a process of their own: heads, bodies and reads of a byte or a kilobyte a second.

As many of each; every client has an address of its own in 127.0.0.0/8, and comes again a second after it was cut off.
Plain sockets and one loop: nothing is read that a slow client would not read yet.  Each half second a line of JSON
on standard output says how they fare; it ends when standard input does.

Of those with slow heads, a quarter sends a beginning together with its connect, and then nothing; ten are stubborn:
told that it is over, they go on sending.
"""

import argparse
import heapq
import itertools
import json
import resource
import selectors
import socket
import sys
import time
from collections import Counter
from typing import Any

PACE_S = 1.0
RAMP_PER_S = 400
REPORT_S = 0.5
STUBBORN = 10
READ_BYTES = 1024
RECEIVE_BUFFER = 4096

_HEAD = b"GET /slow-head HTTP/1.1\r\nHost: drill\r\nX-Slow: " + b"s" * 10_000
_GET = b"GET /large HTTP/1.1\r\nHost: drill\r\n\r\n"
_POST = b"POST /upload HTTP/1.1\r\nHost: drill\r\nContent-Length: %d\r\n\r\n"
_BODY_BYTES = (10 * 1024, 2**20)


class SlowClient:
    """One of them.  `sock` is None between two connections; `began` is when its first byte went out."""

    def __init__(self, load: "Load", number: int) -> None:
        self.load = load
        self.kind = load.kinds[number % len(load.kinds)]
        self.address = f"127.{1 + number // 200}.{number % 200}.7"
        self.is_stubborn = self.kind == "head" and number < len(load.kinds) * STUBBORN
        self.is_silent = self.kind == "head" and not self.is_stubborn and number // len(load.kinds) % 4 == 0
        self.sock: socket.socket | None = None
        self.began: float | None = None
        self.was_told = False
        self._sent = 0
        beginning = _HEAD[:40] if self.is_silent else _HEAD[:1]
        self._first = {"head": beginning, "read": _GET, "body": _POST % _BODY_BYTES[number // len(load.kinds) % 2]}[
            self.kind
        ]

    def tick(self, now: float) -> float:
        """Do what is due; returns when the next is."""
        try:
            if self.sock is None:
                self._connect()
            if self.began is None:
                return self._begin(now)
            self._go_on()
        except BlockingIOError:
            pass
        except OSError:
            self.over(now)
        return now + PACE_S

    def look(self, now: float) -> None:
        """Something came in: the answer, or the end."""
        assert self.sock is not None
        try:
            data = self.sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.load.answers[f"{self.kind} {data[9:12].decode('latin-1')}"] += 1
        elif self.is_stubborn and not self.was_told:
            self.was_told = True
            self.load.selector.unregister(self.sock)
        elif not self.was_told:
            self.over(now)

    def over(self, now: float) -> None:
        """The connection has ended; the next one follows at the next tick."""
        if self.sock is None:
            return
        if not self.was_told and self.sock in self.load.selector.get_map():
            self.load.selector.unregister(self.sock)
        self.sock.close()
        self.sock = None
        self.load.cuts[self.kind] += 1
        if self.kind == "head" and self.began is not None:
            (self.load.stubborn_s if self.is_stubborn else self.load.heads_s).append(now - self.began)
        self.began, self.was_told, self._sent = None, False, 0

    def _connect(self) -> None:
        self.sock = sock = socket.socket()
        sock.setblocking(False)
        if self.kind == "read":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        else:
            self.load.selector.register(sock, selectors.EVENT_READ, self)
        sock.bind((self.address, 0))
        sock.connect_ex(("127.0.0.1", self.load.port))

    def _begin(self, now: float) -> float:
        """Send what comes at once, as soon as the connection stands."""
        assert self.sock is not None
        try:
            self.sock.send(self._first)
        except BlockingIOError:
            return now + 0.1
        self.began, self._sent = now, 1
        self.load.connected.add(self.address)
        return now + PACE_S

    def _go_on(self) -> None:
        assert self.sock is not None
        if self.kind == "read":
            if not self.sock.recv(READ_BYTES):
                raise ConnectionError
        elif not self.is_silent:
            piece = _HEAD[self._sent : self._sent + 1] if self.kind == "head" else b"b"
            self._sent += self.sock.send(piece)


class Load:
    """All of them, and what became of their connections."""

    def __init__(self, port: int, clients: int, kinds: list[str]) -> None:
        self.port = port
        self.kinds = kinds
        self.selector = selectors.DefaultSelector()
        self.connected: set[str] = set()
        self.cuts: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.heads_s: list[float] = []
        self.stubborn_s: list[float] = []
        self._lag_s = 0.0
        self._clients = [SlowClient(self, number) for number in range(clients)]
        self._numbers = itertools.count()
        now = time.monotonic()
        self._due = [(now + i / RAMP_PER_S, next(self._numbers), client) for i, client in enumerate(self._clients)]
        heapq.heapify(self._due)

    def run(self) -> None:
        self.selector.register(sys.stdin, selectors.EVENT_READ, None)
        report_at = time.monotonic() + REPORT_S
        while True:
            wait_s = min(self._due[0][0], report_at) - time.monotonic()
            for key, _ in self.selector.select(max(0.0, wait_s)):
                if key.data is None:
                    return
                key.data.look(time.monotonic())
            now = time.monotonic()
            self._lag_s = max(self._lag_s, now - self._due[0][0])
            while self._due[0][0] <= now:
                _, _, client = heapq.heappop(self._due)
                heapq.heappush(self._due, (client.tick(now), next(self._numbers), client))
            if now >= report_at:
                print(json.dumps(self.report(now)), flush=True)
                report_at = now + REPORT_S

    def report(self, now: float) -> dict[str, Any]:
        """How they fare; durations in seconds, `lag_s` is how late this process itself was since the last report."""
        open_ones = [client for client in self._clients if client.began is not None]
        ages = [now - c.began for c in open_ones if c.kind == "head" and not c.is_stubborn and c.began is not None]
        lag_s, self._lag_s = self._lag_s, 0.0
        return {
            "connected": len(self.connected),
            "open": Counter(client.kind for client in open_ones),
            "cuts": self.cuts,
            "answers": self.answers,
            "heads_closed": len(self.heads_s),
            "longest_head_s": max([*self.heads_s, *ages], default=0.0),
            "longest_stubborn_s": max(self.stubborn_s, default=0.0),
            "stubborn_closed": len(self.stubborn_s),
            "lag_s": lag_s,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--kinds", default="head,body,read")
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    Load(arguments.port, arguments.clients, arguments.kinds.split(",")).run()


if __name__ == "__main__":
    main()
