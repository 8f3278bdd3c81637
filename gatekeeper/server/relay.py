"""One exchange between a client's connection and an upstream's, pushed from one to the other without a buffer.

The response is written to the client as it arrives.  When the client's connection cannot take more, reading from the
upstream stops until it can, so that memory does not depend on how much is sent or how slowly it is read.
"""

import asyncio

from gatekeeper.core.errors import UpstreamError
from gatekeeper.core.response_headers import client_head
from gatekeeper.core.responses import ResponseHead
from gatekeeper.server.connection import ClientConnection
from gatekeeper.server.upstream import UpstreamConnection


class Relay:
    """Receives an upstream's response and writes it to the client: what came together goes out together, in one write.

    `done` ends with whether the client got a whole answer, or with the UpstreamError that came before any of it was
    written.  `keep_alive` turns false where only the end of the connection can end the answer.
    """

    __slots__ = (
        "client",
        "done",
        "has_begun",
        "http_1_0",
        "is_chunked",
        "keep_alive",
        "pending",
        "protected",
        "upstream",
        "varies",
    )

    def __init__(
        self,
        client: ClientConnection,
        upstream: UpstreamConnection,
        *,
        http_1_0: bool,
        keep_alive: bool,
        protected: bool,
        varies: bool,
    ) -> None:
        self.client = client
        self.upstream = upstream
        self.http_1_0 = http_1_0
        self.keep_alive = keep_alive
        self.protected = protected
        self.varies = varies
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.has_begun = False
        self.is_chunked = False
        self.pending: list[bytes] = []
        client.pushing = self

    @property
    def is_over(self) -> bool:
        """Whether the response has ended, one way or the other.  A client that left has cancelled `done` instead."""
        return self.done.done() and not self.done.cancelled()

    def on_head(self, head: ResponseHead) -> None:
        fields = head.fields
        has_open_end = fields.has_body and not isinstance(fields.framing, int)
        self.is_chunked = has_open_end and not self.http_1_0
        self.keep_alive = self.keep_alive and not (has_open_end and self.http_1_0)
        self.has_begun = True
        self.pending.append(
            client_head(
                head.status,
                head.reason,
                fields,
                http_1_0=self.http_1_0,
                keep_alive=self.keep_alive,
                protected=self.protected,
                varies=self.varies,
            )
        )

    def on_body(self, data: bytes) -> None:
        self.pending.append(b"%x\r\n%b\r\n" % (len(data), data) if self.is_chunked else data)

    def flush(self) -> None:
        transport = self.client.transport
        if transport is not None:
            transport.write(self.pending[0] if len(self.pending) == 1 else b"".join(self.pending))
        self.pending.clear()
        if self.client.writing_paused:
            self.upstream.pause_reading()

    def on_end(self) -> None:
        if self.is_chunked:
            self.pending.append(b"0\r\n\r\n")
        self.flush()
        self._finish(whole=True)

    def on_error(self, error: UpstreamError) -> None:
        if self.has_begun:
            self._finish(whole=False)
        else:
            self.detach()
            if not self.done.done():
                self.done.set_exception(error)
                self.done.exception()  # the client may have left: then nobody asks for it

    def client_is_full(self) -> None:
        self.upstream.pause_reading()

    def client_has_drained(self) -> None:
        self.upstream.resume_reading()

    def detach(self) -> None:
        """The client has left, or the exchange is over."""
        if self.client.pushing is self:
            self.client.pushing = None

    def _finish(self, *, whole: bool) -> None:
        self.detach()
        if not self.done.done():
            self.done.set_result(whole)
