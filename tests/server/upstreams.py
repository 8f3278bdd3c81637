"""An app behind the gate for tests: a raw server that records what reached it, byte for byte, and answers as told.

It reads requests strictly by its own small parser, so that what a gate sends is judged independently.  The header
`X-Drill-Upstream` chooses an answer that misbehaves; without it the answer is JSON that mirrors the request.
"""

import asyncio
import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Received:
    """One request as it arrived.  `trouble` names what is malformed in its head."""

    head: bytes
    method: str = ""
    target: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    trailers: bytes = b""
    trouble: str | None = None

    def values(self, name: str) -> list[str]:
        """Values of the headers of this name, folded as lenient apps do."""
        return [value for key, value in self.headers if fold(key) == fold(name)]


def fold(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())


Answering = Callable[[Received, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]


class RecordingUpstream:
    """The server.  `requests` holds what arrived; `port` is where it listens."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.port = 0
        self.connections = 0
        self.answering: Answering | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def drop_connections(self) -> None:
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as exc:
            if exc.partial:
                self.requests.append(Received(exc.partial, trouble="unfinished head"))
            return False
        received = parse_head(head)
        self.requests.append(received)
        if self.answering is not None:
            return await self.answering(received, reader, writer)
        await read_body(received, reader)
        mode = (received.values("X-Drill-Upstream") or [""])[0]
        return await answer_as(mode, received, writer)


@asynccontextmanager
async def recording_upstream() -> AsyncIterator[RecordingUpstream]:
    upstream = RecordingUpstream()
    server = await asyncio.start_server(upstream.serve_connection, "127.0.0.1", 0, limit=2**20)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        upstream.drop_connections()
        await server.wait_closed()


def parse_head(head: bytes) -> Received:
    received = Received(head)
    text = head[:-4]
    if b"\x00" in text or text.replace(b"\r\n", b"").count(b"\n") or text.replace(b"\r\n", b"").count(b"\r"):
        received.trouble = "control bytes"
    first, *lines = text.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or parts[2] != "HTTP/1.1":
        received.trouble = f"request line {first!r}"
    received.method, received.target = parts[0], parts[1] if len(parts) > 1 else ""
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or line[0] in " \t":
            received.trouble = f"header line {line!r}"
        received.headers.append((name, value.strip()))
    exact = [name.lower() for name, _ in received.headers]
    if exact.count("host") != 1 or exact.count("content-length") > 1 or exact.count("transfer-encoding") > 1:
        received.trouble = "Host or framing not exactly once"
    if "content-length" in exact and "transfer-encoding" in exact:
        received.trouble = "two framings"
    return received


async def read_body(received: Received, reader: asyncio.StreamReader) -> None:
    fields = {name.lower(): value for name, value in received.headers}
    if "transfer-encoding" in fields:
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            received.body += await reader.readexactly(size)
            await reader.readexactly(2)
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            received.trailers += line
    elif "content-length" in fields:
        received.body = await reader.readexactly(int(fields["content-length"]))


def mirror(received: Received) -> bytes:
    return json.dumps(
        {
            "method": received.method,
            "target": received.target,
            "headers": received.headers,
            "length": len(received.body),
            "sha256": hashlib.sha256(received.body).hexdigest(),
        }
    ).encode()


async def answer_as(mode: str, received: Received, writer: asyncio.StreamWriter) -> bool:
    """Write the answer that `mode` names; returns whether the connection goes on."""
    body = b"" if received.method == "HEAD" else mirror(received)
    plain = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(mirror(received))
    plain += body
    packed = gzip.compress(b"gzip-plain-text")
    answers = {
        "": (plain, True),
        "redirect-inside": (b"HTTP/1.1 302 Found\r\nLocation: /dashboard\r\nContent-Length: 0\r\n\r\n", True),
        "set-cookie": (b"HTTP/1.1 200 OK\r\nSet-Cookie: jar=jarcanary; Path=/\r\nContent-Length: 2\r\n\r\nok", True),
        "truncated": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this", False),
        "truncated-chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", False),
        "extra-response": (
            plain + b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\npoison-canary",
            True,
        ),
        "cl-te": (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\npoison-canary",
            True,
        ),
        "early-103": (b"HTTP/1.1 103 Early Hints\r\nLink: </x.css>\r\n\r\n" + plain, True),
        "gzip": (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed,
            True,
        ),
        "unasked-101": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", True),
        "until-close": (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", False),
        "not-http": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", True),
        "bare-lf": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", True),
        "header-injection": (b"HTTP/1.1 200 OK\r\nX-A: b\rX-B: c\r\nContent-Length: 2\r\n\r\nok", True),
        "hang-up": (b"", False),
    }
    raw, goes_on = answers.get(mode, answers[""])
    writer.write(raw)
    await writer.drain()
    return goes_on
