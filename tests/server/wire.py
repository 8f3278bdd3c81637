"""Raw conversations with a gate: bytes out, responses in."""

import asyncio
import json
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

from tests.attacks.judge import Response, parse_responses

PATIENCE_S = 20.0


class Wire:
    """One connection to a gate."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, tls: ssl.SSLContext | None = None) -> "Wire":
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=tls and "gate.test"))

    @classmethod
    async def open_unix(cls, path: Path) -> "Wire":
        return cls(*await asyncio.open_unix_connection(path))

    def send(self, text: str | bytes) -> None:
        self.writer.write(text.encode("latin-1") if isinstance(text, str) else text)

    async def until(self, mark: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readuntil(mark)

    async def some(self) -> bytes:
        """The next bytes, however many come together."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.read(65_536)

    async def rest(self) -> bytes:
        """Everything until the gate closes; then this end closes, too."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self.reader.read()
        except ConnectionError:
            return b""
        finally:
            self.writer.close()

    def reset(self) -> None:
        """Vanish: the other side gets a reset, not an end."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


def head(method: str, target: str, host: str, *lines: str, close: bool = True) -> str:
    fields = [f"Host: {host}", *lines, *(["Connection: close"] if close else [])]
    return f"{method} {target} HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in fields) + "\r\n"


async def ask(port: int, method: str, target: str, *lines: str, body: bytes = b"") -> Response:
    """One request on a connection of its own; its only response."""
    wire = await Wire.open(port)
    if body:
        lines = (*lines, f"Content-Length: {len(body)}")
    wire.send(head(method, target, f"127.0.0.1:{port}", *lines).encode("latin-1") + body)
    raw = await wire.rest()
    wire.close()
    responses, _ = parse_responses(raw, method)
    assert len(responses) == 1, raw[:500]
    return responses[0]


def mirrored(response: Response) -> dict[str, Any]:
    """What the recording upstream says that it got; headers by lower-case name."""
    seen = json.loads(response.body)
    seen["headers"] = {name.lower(): value for name, value in seen["headers"]}
    return seen
