"""The WebSocket server behind the proxies: sends each message back.  `python -m bench.echo PORT`.

RFC 6455, as much as the load needs: masked frames of up to 125 bytes, not fragmented.
"""

import asyncio
import base64
import hashlib
import re
import sys
from typing import cast

import uvloop

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"\r\nsec-websocket-key:[ \t]*([^\r\n]+)", re.IGNORECASE)


def accept_value(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept for this key (RFC 6455 §4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())


def unmask(data: bytes, mask: bytes) -> bytes:
    """The payload of a masked frame (RFC 6455 §5.3); masking is the same."""
    length = len(data)
    pattern = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(data, "big") ^ int.from_bytes(pattern, "big")).to_bytes(length, "big")


def echo_frames(buffer: bytes) -> tuple[bytes, bytes]:
    """What to send back for the whole frames in this buffer, and what is left of it.

    Raises ValueError for a frame that is not masked, or longer than 125 bytes.
    """
    answers: list[bytes] = []
    start = 0
    while len(buffer) >= start + 6:
        length = buffer[start + 1] ^ 0x80
        if length > 125:
            raise ValueError("expected masked frames of up to 125 bytes")
        end = start + 6 + length
        if len(buffer) < end:
            break
        payload = unmask(buffer[start + 6 : end], buffer[start + 2 : start + 6])
        answers.append(bytes((buffer[start], length)) + payload)
        start = end
    return b"".join(answers), buffer[start:]


class EchoServer(asyncio.Protocol):
    """One connection: the handshake, then echoes.  Anything unexpected ends it."""

    def __init__(self) -> None:
        self._buffer = b""
        self._is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_open and not self._shake_hands():
            return
        try:
            answer, self._buffer = echo_frames(self._buffer)
        except ValueError:
            self._transport.abort()
            return
        if answer:
            self._transport.write(answer)

    def _shake_hands(self) -> bool:
        head, mark, rest = self._buffer.partition(b"\r\n\r\n")
        key = _KEY.search(head)
        if not mark or key is None:
            if mark:
                self._transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                self._transport.close()
            return False
        lines = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self._transport.write(lines + b"Sec-WebSocket-Accept: " + accept_value(key[1].strip()) + b"\r\n\r\n")
        self._buffer, self._is_open = rest, True
        return True


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(EchoServer, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
