"""WebSocket load: each connection sends a message and waits for its echo.  `python -m bench.websocket ORDER`, JSON.

Every echo is compared with what was sent.
"""

import asyncio
import base64
import json
import os
import sys
import time
from typing import Any, cast

import uvloop

from bench.echo import unmask
from bench.probe import handshake
from bench.workloads import MESSAGE_BYTES, WORKLOADS


class Client(asyncio.Protocol):
    """One connection: the handshake, then messages, one at a time, until `is_over`."""

    def __init__(self, opening: bytes) -> None:
        self._opening = opening
        self._received = b""
        payload, mask = os.urandom(MESSAGE_BYTES), os.urandom(4)
        self._message = bytes((0x82, 0x80 | MESSAGE_BYTES)) + mask + unmask(payload, mask)
        self._echo = bytes((0x82, MESSAGE_BYTES)) + payload
        self._is_open = False
        self.is_over = False
        self.messages = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        transport.write(self._opening)

    def begin(self) -> None:
        self._transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._is_open:
            self._shake_hands()
        elif len(self._received) >= len(self._echo):
            if self._received != self._echo:
                self.fail("an echo differs from its message")
                return
            self._received = b""
            self.messages += 1
            if not self.is_over:
                self._transport.write(self._message)

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail("a connection was closed")

    def fail(self, what: str) -> None:
        if not self.is_over:
            for future in (self.ready, self.failed):
                if not future.done():
                    future.set_exception(ConnectionError(what))

    def close(self) -> None:
        self.is_over = True
        self._transport.abort()
        self.failed.cancel()

    def _shake_hands(self) -> None:
        head, mark, rest = self._received.partition(b"\r\n\r\n")
        if mark:
            if not head.startswith(b"HTTP/1.1 101 "):
                self.fail(f"the handshake was answered {head[:15]!r}")
                return
            self._received, self._is_open = rest, True
            self.ready.set_result(None)


async def main(order: dict[str, Any]) -> dict[str, float]:
    """Echo for so many seconds; how many messages came back, and in which time."""
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    for _ in range(order["connections"]):
        key = base64.b64encode(os.urandom(16))
        opening = handshake(WORKLOADS["websocket"], order["port"], order["headers"], key)
        _, client = await loop.create_connection(lambda opening=opening: Client(opening), "127.0.0.1", order["port"])
        clients.append(client)
    try:
        await asyncio.wait_for(asyncio.gather(*(client.ready for client in clients)), 10)
        began = time.monotonic()
        for client in clients:
            client.begin()
        await asyncio.wait({client.failed for client in clients}, timeout=order["seconds"])
        seconds = time.monotonic() - began
        for client in clients:
            if client.failed.done():
                client.failed.result()
        return {"messages": sum(client.messages for client in clients), "seconds": seconds}
    finally:
        for client in clients:
            client.close()


if __name__ == "__main__":
    print(json.dumps(uvloop.run(main(json.loads(sys.argv[1])))))
