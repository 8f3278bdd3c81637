"""The echo server's framing, and that it answers a real handshake."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bench import websocket
from bench.echo import EchoServer, accept_value, echo_frames, unmask
from bench.probe import WrongAnswer, headers_of, probe
from bench.workloads import WORKLOADS

MASKED_HELLO = bytes.fromhex("818537fa213d7f9f4d5158")  # RFC 6455 §5.7
HELLO = bytes.fromhex("810548656c6c6f")


def test_accept_value_of_the_standard() -> None:
    assert accept_value(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 §1.3


def test_unmasking_as_in_the_standard() -> None:
    assert unmask(MASKED_HELLO[6:], MASKED_HELLO[2:6]) == b"Hello"
    assert unmask(b"", b"1234") == b""


@pytest.mark.parametrize("cut", range(len(MASKED_HELLO) + 1))
def test_frames_come_back_whole_however_they_are_cut(cut: int) -> None:
    first, rest = echo_frames(MASKED_HELLO[:cut])
    second, left = echo_frames(rest + MASKED_HELLO[cut:])
    assert first + second == HELLO
    assert left == b""


def test_several_frames_at_once() -> None:
    assert echo_frames(MASKED_HELLO * 3 + MASKED_HELLO[:4]) == (HELLO * 3, MASKED_HELLO[:4])


@pytest.mark.parametrize("frame", [HELLO, bytes((0x82, 0xFE, 0, 200, 0, 0))], ids=["not-masked", "too-long"])
def test_other_frames_are_refused(frame: bytes) -> None:
    with pytest.raises(ValueError, match="masked"):
        echo_frames(frame + b"\0" * 6)


class Refusing(EchoServer):
    """Answers a handshake 501."""

    def data_received(self, data: bytes) -> None:
        self._transport.write(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n")


@asynccontextmanager
async def serving(kind: type[EchoServer]) -> AsyncIterator[int]:
    """The port of such a server, whose connections have ended when the block has."""
    loop = asyncio.get_running_loop()
    ends: list[asyncio.Future[None]] = []

    class Tracked(kind):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.end = loop.create_future()
            ends.append(self.end)

        def connection_lost(self, exc: Exception | None) -> None:
            self.end.set_result(None)

    server = await loop.create_server(Tracked, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*ends)


async def test_the_probe_takes_a_websocket_server() -> None:
    workload = WORKLOADS["websocket"]
    async with serving(EchoServer) as port:
        assert await asyncio.to_thread(probe, port, workload, headers_of(workload, "a=b")) > 100


async def test_the_probe_refuses_another_server() -> None:
    workload = WORKLOADS["websocket"]
    async with serving(Refusing) as port:
        with pytest.raises(WrongAnswer, match="501"):
            await asyncio.to_thread(probe, port, workload, headers_of(workload, "a=b"))


async def test_the_load_counts_echoes() -> None:
    async with serving(EchoServer) as port:
        counted = await websocket.main({"port": port, "headers": {}, "connections": 3, "seconds": 0.01})
    assert counted["messages"] > 0
