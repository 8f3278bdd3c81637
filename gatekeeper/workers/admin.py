"""The admin listener of several workers, in the supervisor's process.

What it answers is in `server.admin_answers`.  This is as much HTTP as GET and HEAD without a body need: one request
for each connection, its head read within a limit and a time, everything that is not well-formed refused.
"""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

from gatekeeper.server.admin_answers import HINT, AdminAnswer, Reporter, admin_answer, admin_error
from gatekeeper.server.listeners import open_listener

logger = logging.getLogger("gatekeeper")

HEAD_S = 10.0
"""How long a request's head may take, and its answer to be taken."""

_HEAD_BYTES = 16_384
_REQUEST_LINE = re.compile(rb"([A-Z]{1,32}) (/[!-~]*|\*) HTTP/1\.[01]")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")


@asynccontextmanager
async def serve_supervisor_admin(listen: str | None, reporter: Reporter) -> AsyncGenerator[str | None]:
    """The admin listener at `host:port` or `unix:/path`, until the block ends; its URL.  None is off.

    Raises ListenError.
    """
    if listen is None:
        yield None
        return
    connections = _Connections(reporter)
    listener = await open_listener(listen, connections.new, setting="admin.listen", hint=HINT)
    try:
        yield listener.addresses[0]
    finally:
        await listener.close()
        await connections.close()


class _Connections:
    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._tasks: set[asyncio.Task[None]] = set()

    def new(self) -> asyncio.Protocol:
        """What serves one more connection."""
        reader = asyncio.StreamReader(limit=_HEAD_BYTES)
        return asyncio.StreamReaderProtocol(reader, self._serve)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs is a task's
        self._tasks.add(task)
        try:
            with suppress(OSError, TimeoutError):
                await self._answer(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return  # it has left
        except asyncio.LimitOverrunError:
            head = b""
        method, answer = await answer_to(head, self._reporter)
        writer.write(_render(answer, has_body=method != "HEAD"))
        async with asyncio.timeout(HEAD_S):
            await writer.drain()


async def answer_to(head: bytes, reporter: Reporter) -> tuple[str, AdminAnswer]:
    """Method of the request with this head, "" where it is malformed, and the answer to it."""
    line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    request, fields = _REQUEST_LINE.fullmatch(line), [_FIELD.fullmatch(field) for field in lines]
    if request is None or not all(fields):
        return "", admin_error(400)
    method, target = request[1].decode(), request[2].decode()
    accepted = [field[2].decode("latin-1") for field in fields if field is not None and field[1].lower() == b"accept"]
    try:
        return method, await admin_answer(reporter, method, target, ", ".join(accepted))
    except Exception:
        logger.exception("unforeseen error on the admin listener")
        return method, admin_error(500)


def _render(answer: AdminAnswer, *, has_body: bool) -> bytes:
    fields = answer.headers | {"Content-Length": str(len(answer.body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}", *(f"{n}: {v}" for n, v in fields.items())]
    return "\r\n".join((*lines, "\r\n")).encode("latin-1") + (answer.body if has_body else b"")
