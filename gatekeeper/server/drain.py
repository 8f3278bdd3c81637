"""Stopping without losing a request.

In this order: for the delay everything goes on, while answers already ask clients to connect anew and load balancers
notice that the gate is not ready; then nobody new is let in; requests in flight end; streams are told that the gate
goes away; idle connections close.  What has not ended within the limit is ended.
"""

import asyncio
import logging

from gatekeeper.server.connection import ClientConnection, GateServer
from gatekeeper.server.listeners import SETTLE_S, Listener
from gatekeeper.server.streams import Streams

logger = logging.getLogger("gatekeeper")

IDLE_S = 1.0
"""How long an idle connection is kept for a request that may be on its way."""

_STREAMS_S = 3.0
"""How long streams have to end, out of the limit, once they are told."""

_POLL_S = 0.05


async def drain(listener: Listener, server: GateServer, streams: Streams, *, delay_s: float, limit_s: float) -> None:
    """Stop serving.  `delay_s` is how long to go on before, `limit_s` how long what is in flight may take."""
    loop = asyncio.get_running_loop()
    server.draining = True
    if delay_s:
        await asyncio.sleep(delay_s)
    await listener.close(min(SETTLE_S, limit_s))
    deadline = loop.time() + limit_s
    idle_until = min(deadline, loop.time() + IDLE_S)
    streams_at = deadline - min(_STREAMS_S, limit_s / 2)
    while (clients := server.clients()) and loop.time() < deadline:
        now = loop.time()
        if now >= idle_until:
            _close_idle(clients)
        if now >= streams_at or not any(map(_has_request, clients)):
            streams.cut_all()
        await asyncio.sleep(_POLL_S)
    left = server.clients()
    if left:
        logger.warning("%d connections had not ended after %g s and were cut", len(left), limit_s)
    await _abort(left)


def _close_idle(clients: list[ClientConnection]) -> None:
    for client in clients:
        if client.is_idle:
            client.force_close()


def _has_request(client: ClientConnection) -> bool:
    """Whether it is served an ordinary request; a stream goes on until it is told."""
    return not client.is_idle and not client.is_streaming


async def _abort(clients: list[ClientConnection]) -> None:
    tasks = [client.task for client in clients if client.task is not None]
    for client in clients:
        client.break_off()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
