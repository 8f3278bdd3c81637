"""The rest of a request body of known length, pushed to the upstream as it arrives, without a task in between.

When the upstream's connection cannot take more, the client's socket is no longer read until it can.
"""

import asyncio

from gatekeeper.server.body import BodyTimeout, BodyTooLarge, RequestBody
from gatekeeper.server.exchange import UpstreamConnection
from gatekeeper.server.sized import Piece, SizedBody

PROGRESS_BYTES = 1024
"""A piece of a body that is shorter than this is not yet progress: see `UpstreamPool`."""


class Upload:
    """Passes a body on.  `done` ends when all of it was, or with BodyTimeout or BodyTooLarge; also when the upstream is
    gone, whose exchange tells why.  `stop` must follow, however it ended.
    """

    def __init__(self, body: RequestBody, sized: SizedBody, connection: UpstreamConnection) -> None:
        self._body = body
        self._sized = sized
        self._connection = connection
        self._loop = connection.pool.loop
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._is_full = False
        self._latest = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = self._loop.call_later(self._body.idle_s, self._look)
        self._connection.upload = self
        if self._connection.is_full:  # of the beginning: it has told nobody, and will not say so again
            self._is_full = True
        else:
            self._await_piece()
        self._sized.push_to(self._on_piece)
        if self._is_full:
            self._sized.pause()

    def stop(self) -> None:
        """Pass on nothing more."""
        self._sized.push_to(None)
        if self._connection.upload is self:
            self._connection.upload = None
        if self._timer is not None:
            self._timer.cancel()
        if not self.done.done():
            self.done.cancel()

    def upstream_is_full(self) -> None:
        self._is_full = True
        self._connection.waits_for_piece = False
        self._sized.pause()

    def upstream_has_drained(self) -> None:
        self._is_full = False
        self._latest = self._loop.time()
        if not self.done.done():
            self._await_piece()
            self._sized.resume()

    def _on_piece(self, data: Piece) -> None:
        connection, body = self._connection, self._body
        if self.done.done():
            return
        self._latest = self._loop.time()
        connection.waits_for_piece = False
        if len(data) >= PROGRESS_BYTES:
            connection.goes_on()
        try:
            body.took(data)
            connection.push_body(data)
        except (BodyTimeout, BodyTooLarge) as fault:
            self.done.set_exception(fault)
            return
        except ConnectionError:
            self.done.set_result(None)
            return
        if body.is_whole:
            connection.end_body()
            self.done.set_result(None)
        elif not self._is_full:
            self._await_piece()

    def _await_piece(self) -> None:
        """Nothing of what is missing has come: no fault of the upstream's."""
        self._connection.waits_for_client()
        self._connection.waits_for_piece = True

    def _look(self) -> None:
        """Whether the client has paused for too long, which one whose upstream is full cannot help."""
        left_s = self._latest + self._body.idle_s - self._loop.time()
        if self._is_full or left_s > 0:
            self._timer = self._loop.call_later(self._body.idle_s if self._is_full else left_s, self._look)
        elif not self.done.done():
            self.done.set_exception(BodyTimeout())
