"""A server that answers as a test wants: what real ones do seldom, or never in order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]
"""Serves one connection; its number counts from 1."""


class FakeRedis:
    """`url` is where it listens, `connections` how many there were."""

    def __init__(self, port: int) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self.connections = 0


@asynccontextmanager
async def fake_redis(serve: Serve) -> AsyncIterator[FakeRedis]:
    """A listening server.  Its connections are closed when `serve` returns, and all of them at the end."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        fake.connections += 1
        try:
            await serve(reader, writer, fake.connections)
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    fake = FakeRedis(server.sockets[0].getsockname()[1])
    try:
        yield fake
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_command(reader: asyncio.StreamReader) -> list[bytes]:
    """The next command's words; none at the end of the connection."""
    head = await reader.readline()
    words = []
    for _ in range(int(head[1:] or 0)):
        length = int((await reader.readline())[1:])
        words.append((await reader.readexactly(length + 2))[:-2])
    return words


def text(value: bytes | str) -> bytes:
    """A text as Redis sends it."""
    value = value.encode() if isinstance(value, str) else value
    return b"$%d\r\n%b\r\n" % (len(value), value)


def always(answer: bytes) -> Serve:
    """Gives the same answer to every command."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while await read_command(reader):
            writer.write(answer)
            await writer.drain()

    return serve
