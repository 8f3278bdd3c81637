"""The measuring client: requests on connections that are kept or fresh, WebSockets, event streams.

Its own small reading of HTTP, so that a gate's answers are judged independently.
"""

import asyncio
import base64
import os
import re
from dataclasses import dataclass
from typing import cast

PATIENCE_S = 20.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
NAVIGATION = "Sec-Fetch-Mode: navigate"


class Lost(Exception):
    """A request that was sent on an open connection was not answered whole."""


class Refused(Exception):
    """Nobody listens."""


@dataclass(slots=True)
class Answer:
    """`head` ends before the empty line; `closes` is whether it says that the connection ends."""

    status: int
    head: bytes
    body: bytes
    closes: bool


def request(method: str, target: str, *lines: str, body: bytes = b"") -> bytes:
    """A request as it goes out."""
    if body:
        lines = (*lines, f"Content-Length: {len(body)}")
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: drill", *lines, "\r\n")).encode() + body


class Client(asyncio.Protocol):
    """One connection, for one request at a time."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._waiting: asyncio.Future[Answer] | None = None
        self.is_open = False

    @classmethod
    async def connect(cls, port: int) -> "Client":
        """A connection to this port of 127.0.0.1.  Raises Refused."""
        try:
            _, client = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        except ConnectionRefusedError as exc:
            raise Refused from exc
        return client

    async def ask(self, raw: bytes, patience_s: float = PATIENCE_S) -> Answer:
        """Send a request; its whole answer.  Raises Lost."""
        self._waiting = self._loop.create_future()
        if not self.is_open:
            raise Lost("the connection had ended before the request")
        self.transport.write(raw)
        try:
            async with asyncio.timeout(patience_s):
                answer = await self._waiting
        except TimeoutError as exc:
            raise Lost(f"no whole answer within {patience_s:g} s") from exc
        if answer.closes:
            self.close()
        return answer

    def close(self) -> None:
        self.is_open = False
        self.transport.close()

    def abort(self) -> None:
        self.is_open = False
        self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._waiting is not None and not self._waiting.done():
            how = "closed" if exc is None else type(exc).__name__
            self._waiting.set_exception(Lost(f"{how} after {len(self._buffer)} bytes of an answer"))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        end = buffer.find(b"\r\n\r\n")
        if end < 0 or self._waiting is None or self._waiting.done():
            return
        head = bytes(buffer[: end + 2])
        length = _LENGTH.search(head)
        whole = end + 4 + (int(length[1]) if length else 0)
        if len(buffer) >= whole:
            body = bytes(buffer[end + 4 : whole])
            del buffer[:whole]
            self._waiting.set_result(Answer(int(head[9:12]), head, body, _CLOSE.search(head) is not None))


async def ask_once(port: int, raw: bytes) -> Answer:
    """One request on a connection of its own.  Raises Refused or Lost."""
    client = await Client.connect(port)
    try:
        return await client.ask(raw)
    finally:
        client.close()


class Stream:
    """A connection for what goes on after its head: a WebSocket or an event stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, raw: bytes, status: int) -> "Stream":
        """Send a request and read the answer's head.  Raises Lost if it has another status."""
        stream = cls(*await asyncio.open_connection("127.0.0.1", port))
        stream.writer.write(raw)
        try:
            async with asyncio.timeout(PATIENCE_S):
                head = await stream.reader.readuntil(b"\r\n\r\n")
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError) as exc:
            raise Lost(f"no head of a stream: {type(exc).__name__}") from exc
        if int(head[9:12]) != status:
            raise Lost(f"a stream began with {head[:80]!r}")
        return stream

    def close(self) -> None:
        self.writer.close()

    # event streams

    async def event(self) -> bytes:
        """The next chunk.  Raises EOFError at the end, however it comes."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                size = int(await self.reader.readuntil(b"\r\n"), 16)
                return (await self.reader.readexactly(size + 2))[:-2]
        except (ConnectionError, asyncio.IncompleteReadError) as exc:
            raise EOFError from exc

    # WebSockets

    def send_frame(self, opcode: int, payload: bytes) -> None:
        """Send a short frame, masked as clients must."""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i & 3] for i, byte in enumerate(payload))
        self.writer.write(bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked)

    async def frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the next short frame.  Raises EOFError at the end, however it comes."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                first, size = await self.reader.readexactly(2)
                return first & 0xF, await self.reader.readexactly(size)
        except (ConnectionError, asyncio.IncompleteReadError) as exc:
            raise EOFError from exc


def handshake(target: str, cookie: str) -> bytes:
    """The request that opens a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}")
    return request("GET", target, cookie, *upgrade)
