"""One exchange between a client's connection and an upstream's, pushed from one to the other without a buffer.

The response is written to the client as it arrives.  When the client's connection cannot take more, reading from the
upstream stops until it can, so that memory does not depend on how much is sent or how slowly it is read.
"""

import asyncio

from gatekeeper.core.errors import ClientStalled, UpstreamError
from gatekeeper.core.model import Reason, SessionRecord
from gatekeeper.core.response_headers import client_head
from gatekeeper.core.responses import ResponseHead
from gatekeeper.server.connection import ClientConnection
from gatekeeper.server.exchange import UpstreamConnection
from gatekeeper.server.streams import Streams


class Relay:
    """Receives an upstream's response and writes it to the client: what came together goes out together, in one write.

    `done` ends with whether the client got a whole answer, or with the UpstreamError that came before any of it was
    written; with a 101 it ends at once, and what follows is a tunnel's.  `keep_alive` turns false where only the end
    of the connection can end the answer.  An event stream is registered with `streams` under the session of `record`.
    """

    __slots__ = (
        "answered_at",
        "broken",
        "client",
        "cut_for",
        "done",
        "early",
        "http_1_0",
        "is_chunked",
        "is_stream",
        "keep_alive",
        "pending",
        "protected",
        "record",
        "sent_bytes",
        "status",
        "streams",
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
        streams: Streams,
        record: SessionRecord | None,
    ) -> None:
        self.client = client
        self.upstream = upstream
        self.http_1_0 = http_1_0
        self.keep_alive = keep_alive
        self.protected = protected
        self.varies = varies
        self.streams = streams
        self.record = record
        self.done: asyncio.Future[bool] = upstream.pool.loop.create_future()
        self.status = 0
        self.answered_at = 0.0
        self.sent_bytes = 0
        self.is_chunked = False
        self.is_stream = False
        self.broken: UpstreamError | None = None
        self.cut_for: Reason | None = None
        self.pending: list[bytes] = []
        self.early = b""
        client.pushing = self

    @property
    def has_begun(self) -> bool:
        """Whether some of the answer was written."""
        return self.status != 0

    @property
    def is_over(self) -> bool:
        """Whether the response has ended, one way or the other.  A client that left has cancelled `done` instead."""
        return self.done.done() and not self.done.cancelled()

    @property
    def progress(self) -> float:
        return self.upstream.deadline

    def on_head(self, head: ResponseHead) -> None:
        fields = head.fields
        has_open_end = fields.has_body and not isinstance(fields.framing, int)
        self.is_chunked = has_open_end and not self.http_1_0
        client = self.client
        ends_with_connection = (has_open_end and self.http_1_0) or head.status == 101 or client.server.draining
        # An answer that comes before the body has ended is the last one: the rest of the body would stand in the way.
        self.keep_alive = self.keep_alive and client.has_whole_body and not ends_with_connection
        self.status = head.status
        self.answered_at = self.upstream.pool.now()
        self.is_stream = fields.is_event_stream and has_open_end
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
        if self.is_stream:
            self.upstream.becomes_stream()
            self.streams.add(self, self.record)

    def on_body(self, data: bytes) -> None:
        if self.status == 101:
            self.early += data
        else:
            self.pending.append(b"%x\r\n%b\r\n" % (len(data), data) if self.is_chunked else data)

    def flush(self) -> None:
        data = self.pending[0] if len(self.pending) == 1 else b"".join(self.pending)
        self.pending.clear()
        self.sent_bytes += len(data)
        client = self.client
        transport = client.transport
        if transport is not None:
            transport.write(data)
        if client.writing_paused:
            self.upstream.pause_reading()
        if self.status == 101:
            self._finish(whole=True)

    def on_end(self) -> None:
        if self.is_chunked:
            self.pending.append(b"0\r\n\r\n")
        self.flush()
        self._finish(whole=True)

    def on_error(self, error: UpstreamError) -> None:
        if isinstance(error, ClientStalled):
            self.cut_for = Reason.CLIENT_STALLED
        if self.status:
            self.broken = error
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

    def cut(self, reason: Reason) -> None:
        """End an event stream: SESSION_ENDED or GATE_STOPS."""
        self.cut_for = reason
        self.upstream.abandon(self)
        self._finish(whole=False)

    def detach(self) -> None:
        """The client has left, or the exchange is over."""
        if self.client.pushing is self:
            self.client.pushing = None
        if self.is_stream:
            self.streams.discard(self)

    def _finish(self, *, whole: bool) -> None:
        self.detach()
        if not self.done.done():
            self.done.set_result(whole)
