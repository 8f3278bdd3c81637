"""A small quick app, in a process of its own, so that it does not disturb who measures.

    GET /…          1 KB that begins with the X-Auth-User-Id that came, or `nobody`
    GET /large      1 MB, as fast as it is taken
    GET …/slow      1 KB, after 2 s
    GET …/events    an event stream, an event each 0.1 s
    GET …/socket    a WebSocket that sends every message back
    POST /…         the SHA-256 of the body

It ends when its standard input does, and so with whoever started it.
"""

import argparse
import asyncio
import base64
import hashlib
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvloop

SLOW_S = 2.0
EVENT_S = 0.1
LARGE_BYTES = 2**20

_PIECE = bytes(range(256)) * 256
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_USER = re.compile(rb"\r\nX-Auth-User-Id: ([^\r]*)")
_KEY = re.compile(rb"\r\nsec-websocket-key: *([^\r]*)", re.IGNORECASE)
_WEBSOCKET_ID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class App(asyncio.Protocol):
    """One connection: a request at a time, in order."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._busy = False
        self._is_socket = False
        self._is_full = False
        self._left = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._is_socket:
            self._echo()
        else:
            self._go_on()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._pour()

    def _go_on(self) -> None:
        """Answer the requests that are there whole."""
        while not self._busy:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[: end + 2])
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            body = bytes(self._buffer[end + 4 : whole])
            del self._buffer[:whole]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        method, target, _ = head.split(b" ", 2)
        if method == b"POST":
            self._write(hashlib.sha256(body).hexdigest().encode())
        elif target.endswith(b"/large"):
            self._busy, self._left = True, LARGE_BYTES
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE_BYTES)
            self._pour()
        elif target.endswith(b"/slow"):
            self._busy = True
            self._timer = self._loop.call_later(SLOW_S, self._answer_late, head)
        elif target.endswith(b"/events"):
            self._busy = True
            kind = b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            self.transport.write(b"HTTP/1.1 200 OK\r\n" + kind)
            self._send_event()
        elif target.endswith(b"/socket"):
            self._open_socket(head)
        else:
            self._write(_kilobyte(head))

    def _answer_late(self, head: bytes) -> None:
        self._busy = False
        self._write(_kilobyte(head))
        self._go_on()

    def _write(self, body: bytes) -> None:
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )

    def _pour(self) -> None:
        while self._left and not self._is_full:
            piece = _PIECE[: self._left]
            self._left -= len(piece)
            self.transport.write(piece)
            if not self._left:
                self._busy = False
                self._loop.call_soon(self._go_on)

    def _send_event(self) -> None:
        self.transport.write(b"c\r\ndata: tick\n\n\r\n")
        self._timer = self._loop.call_later(EVENT_S, self._send_event)

    def _open_socket(self, head: bytes) -> None:
        key = _KEY.search(head)
        accept = base64.b64encode(hashlib.sha1((key[1] if key else b"") + _WEBSOCKET_ID).digest())  # noqa: S324
        self._busy = self._is_socket = True
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
        )

    def _echo(self) -> None:
        """Send back the masked frames that are there whole; after a Close, end."""
        while len(self._buffer) >= 6:
            size, at = self._buffer[1] & 0x7F, 2
            if size == 126:
                size, at = int.from_bytes(self._buffer[2:4], "big"), 4
            if len(self._buffer) < at + 4 + size:
                return
            mask = bytes(self._buffer[at : at + 4])
            payload = bytes(byte ^ mask[i & 3] for i, byte in enumerate(self._buffer[at + 4 : at + 4 + size]))
            first = self._buffer[0]
            del self._buffer[: at + 4 + size]
            length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
            self.transport.write(bytes([first]) + length + payload)
            if first & 0xF == 8:
                self.transport.close()
                return


def _kilobyte(head: bytes) -> bytes:
    user = _USER.search(head)
    return (user[1] if user else b"nobody").ljust(1024, b".")


@dataclass
class RunningApp:
    """Where the app listens, and its process."""

    port: int
    process: asyncio.subprocess.Process

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.terminate()
        await self.process.wait()


async def start_app(port: int = 0) -> RunningApp:
    """Start the app on this port of 127.0.0.1, or any, and wait until it listens."""
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, str(Path(__file__)), "--port", str(port)]
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 20)
    return RunningApp(int(line), process)


@asynccontextmanager
async def running_app() -> AsyncIterator[RunningApp]:
    app = await start_app()
    try:
        yield app
    finally:
        await app.stop()


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    await loop.create_server(App, sock=sock, backlog=1024)
    print(sock.getsockname()[1], flush=True)
    loop.add_reader(sys.stdin.fileno(), lambda: ended.done() or ended.set_result(None))
    await ended


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=0)
    uvloop.run(_serve(parser.parse_args().port))
