"""An app whose side of each connection is in the test's hand, and WebSocket handshakes with it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.server.wire import PATIENCE_S, Wire

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HANDSHAKE = (
    "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + "\r\n{lines}\r\n"
)
SWITCHING = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: " + ACCEPT + "\r\n\r\n"
)


class Talks:
    """The app.  `accept` waits for the next connection, with a request's head on it."""

    def __init__(self) -> None:
        self.url = ""
        self.port = 0
        self._connections: asyncio.Queue[Wire] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        await self._connections.put(Wire(reader, writer))

    async def connection(self) -> Wire:
        """The app's side of the next connection."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._connections.get()

    async def accept(self) -> tuple[Wire, bytes]:
        """The app's side of the next connection, and the head of its first request."""
        wire = await self.connection()
        return wire, await wire.until(b"\r\n\r\n")

    def drop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def talking_app(*, unix: Path | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Talks]:
    """An app on a port of its own, or at this Unix socket."""
    app = Talks()
    if unix is None:
        server = await asyncio.start_server(app.connected, "127.0.0.1", 0, limit=2**24, ssl=tls)
        app.port = server.sockets[0].getsockname()[1]
        app.url = f"{'http' if tls is None else 'https'}://localhost:{app.port}"
    else:
        server = await asyncio.start_unix_server(app.connected, unix, limit=2**24)
        app.url = f"unix:{unix}"
    try:
        yield app
    finally:
        server.close()
        app.drop()
        await server.wait_closed()


def handshake(host: str, *lines: str, target: str = "/ws") -> str:
    return HANDSHAKE.format(target=target, host=host, lines="".join(f"{line}\r\n" for line in lines))


async def opened(port: int, app: Talks, *lines: str, target: str = "/ws") -> tuple[Wire, Wire]:
    """Both sides of a tunnel that has just been opened: the client's and the app's."""
    client = await Wire.open(port)
    client.send(handshake(f"127.0.0.1:{port}", *lines, target=target))
    side, _ = await app.accept()
    side.send(SWITCHING)
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return client, side


async def exactly(wire: Wire, size: int) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        return await wire.reader.readexactly(size)
