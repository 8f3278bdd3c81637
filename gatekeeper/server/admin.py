"""The admin listener of a gate that is one process: is it alive, is it ready, what has it counted, and the
keys of assertions.

What it answers is in `admin_answers`.  It goes on until the very end, so that a load balancer sees a gate that is
draining.  It knows no secrets and shows no sessions, but what its
metrics say is nobody else's business: it listens on loopback unless told otherwise.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gatekeeper.core.errors import StoreError
from gatekeeper.server.admin_answers import CHECK_TIMEOUT_S, HINT, AdminAnswer, admin_answer, admin_error
from gatekeeper.server.gate import Gate
from gatekeeper.server.listeners import open_listener
from gatekeeper.telemetry.exposition import Exposition

CHECK_AGE_S = 1.0
"""How long the outcome of a check is given again."""

_SHUTDOWN_S = 1.0


class Health:
    """Whether requests should be sent here.  `draining` is set when the gate begins to end, `started` once it serves.

    `clock` gives monotonic seconds; the store has `timeout_s` to answer.
    """

    def __init__(
        self, gate: Gate, *, clock: Callable[[], float] = time.monotonic, timeout_s: float = CHECK_TIMEOUT_S
    ) -> None:
        self.started = False
        self.draining = False
        self._gate = gate
        self._clock = clock
        self._timeout_s = timeout_s
        self._checking = asyncio.Lock()
        self._found: list[str] = []
        self._found_until = float("-inf")

    async def problems(self) -> list[str]:
        """Why the gate is not ready, or nothing.  The store is asked once a second at most, however many ask here."""
        if self.draining:
            return ["draining"]
        if not self.started:
            return ["starting"]
        async with self._checking:  # held for `timeout_s` at most; who waits gets the same answer
            if self._clock() >= self._found_until:
                self._found = await self._check_store()
                self._found_until = self._clock() + CHECK_AGE_S
        return self._found

    async def _check_store(self) -> list[str]:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._gate.runtime.sessions.check()
        except StoreError as error:
            return [f"session store: {error}"]
        except TimeoutError:
            return [f"session store: no answer within {self._timeout_s:g} s"]
        return []


class Admin:
    """The handler of the admin listener; `address` is its URL, or None where it is off."""

    def __init__(self, gate: Gate, health: Health) -> None:
        self.health = health
        self.address: str | None = None
        self._gate = gate
        self._log = gate.telemetry.log
        self._exposition = Exposition(gate.telemetry)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        accept = request.headers.get("Accept", "")
        return _response(await admin_answer(self, request.method, request.raw_path, accept))

    async def problems(self) -> list[str]:
        return await self.health.problems()

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        return self._exposition.render(accept)

    async def jwks(self) -> bytes | None:
        assertions = self._gate.runtime.assertions
        return None if assertions is None else assertions.keys.published[0]

    def safe(self, text: str) -> str:
        return text if self._log is None else self._log.safe(text)


class AdminServer(web.Server):
    """aiohttp's low-level server with connections that say little to malformed requests."""

    def __call__(self) -> web.RequestHandler:
        return _AdminConnection(self, loop=self._loop, **self._kwargs)


class _AdminConnection(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that the parser refuses, or that failed here."""
        if not isinstance(exc, HttpProcessingError):
            self.logger.error("unforeseen error on the admin listener", exc_info=exc)
        response = _response(admin_error(status))
        response.force_close()
        return response


@asynccontextmanager
async def serve_admin(listen: str | None, gate: Gate, health: Health) -> AsyncGenerator[Admin]:
    """The admin listener on `host:port` or `unix:/path`, until the block ends; None is off.  Raises ListenError."""
    admin = Admin(gate, health)
    if listen is None:
        yield admin
        return
    server = AdminServer(admin, access_log=None)
    listener = await open_listener(listen, server, setting="admin.listen", hint=HINT)
    admin.address = listener.addresses[0]
    try:
        yield admin
    finally:
        await listener.close()
        server.pre_shutdown()
        await server.shutdown(_SHUTDOWN_S)


def _response(answer: AdminAnswer) -> web.Response:
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
