"""What supervisor and workers say to each other, over a pair of sockets that nobody else has.

A message is a record, its length in four bytes before it.  The settings travel here, secrets included: they stand in no
argument and no environment variable.  When one side ends, however it comes, the other one sees the end of the channel.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import msgspec

from gatekeeper.telemetry.families import Family

_LENGTH = struct.Struct("!I")


class Begin(msgspec.Struct, frozen=True, tag=True):
    """The first message: be worker number `worker` of `workers`.

    `listeners` and `board` are file descriptors; `settings` those of one worker, encoded; `version` the supervisor's.
    `keys` are what workers inherit of the assertions' keys.
    """

    version: str
    worker: int
    workers: int
    listeners: tuple[int, ...]
    board: int
    settings: bytes
    keys: bytes = b""


class Drain(msgspec.Struct, frozen=True, tag=True):
    """Finish what is in flight and end.  Durations are seconds, as those of `Served.stop`."""

    delay_s: float
    limit_s: float


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End at once."""


class Count(msgspec.Struct, frozen=True, tag=True):
    """Tell what was counted."""


class Check(msgspec.Struct, frozen=True, tag=True):
    """Tell why requests should not be sent to you."""


class LetGone(msgspec.Struct, frozen=True, tag=True):
    """The supervisor's copies of the listener are closed."""


Order = Begin | Drain | Stop | Count | Check | LetGone
"""What the supervisor says."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Serving has begun."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """It could not begin; the message is for the operator."""

    message: str


class Counted(msgspec.Struct, frozen=True, tag=True):
    """What was counted so far."""

    families: tuple[Family, ...]


class Checked(msgspec.Struct, frozen=True, tag=True):
    """Why requests should not be sent here, or nothing."""

    problems: tuple[str, ...]


class LetGo(msgspec.Struct, frozen=True, tag=True):
    """Close your copies of the listener: this worker is about to close it."""


Report = Ready | Failed | Counted | Checked | LetGo
"""What a worker says."""

_T = TypeVar("_T")


class Channel(asyncio.Protocol, Generic[_T]):
    """One end of the channel; `kind` is what the other end says.  `on_end` is called once, at its end."""

    def __init__(self, kind: Any, on_message: Callable[[_T], None], on_end: Callable[[], None]) -> None:
        self._decoder: msgspec.msgpack.Decoder[_T] = msgspec.msgpack.Decoder(kind)
        self._on_message = on_message
        self._on_end = on_end
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def send(self, message: Order | Report) -> None:
        """Say something; nothing happens where the other end is gone."""
        if self._transport is not None:
            self._transport.write(encode(message))

    def close(self) -> None:
        """Say nothing more.  What was said is still sent."""
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
            if len(buffer) < end:
                return
            message = self._decoder.decode(buffer[_LENGTH.size : end])
            del buffer[:end]
            self._on_message(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_end()


def encode(message: Order | Report) -> bytes:
    """A message as it travels."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


def receive_begin(sock: socket.socket) -> Begin:
    """The first order, from a socket that blocks.  Raises EOFError."""
    (length,) = _LENGTH.unpack(_exactly(sock, _LENGTH.size))
    return msgspec.msgpack.decode(_exactly(sock, length), type=Begin)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
