"""A body whose framing breaks later than its head ends at once, and never becomes a whole request."""

import asyncio

import pytest

from tests.attacks.site import Site
from tests.server.upstreams import Received, read_body

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("chunks", [b"zz\r\nhello\r\n", b"+5\r\nhello\r\n", b"5\r\nhelloXX", b"5\nhello\r\n"])
async def test_a_broken_chunk_ends_a_request_that_is_under_way(site: Site, chunks: bytes) -> None:
    arrived, whole = asyncio.Event(), asyncio.Event()

    async def note(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        arrived.set()
        await read_body(received, reader)
        whole.set()
        return False

    site.upstream.answering = note
    conversation = await site.open()
    conversation.send(b"POST /up HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await arrived.wait()
    conversation.send(chunks + b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
    assert [answer.status for answer in await conversation.end()] == [400]  # now: silence for 60 s
    assert not whole.is_set()
    assert site.reached == ["/up"]
