"""One exchange between a client's connection and an upstream's, pushed from one to the other without a buffer.

The response is written to the client as it arrives.  When the client's connection cannot take more, reading from the
upstream stops until it can, so that memory does not depend on how much is sent or how slowly it is read.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence

from gatekeeper.core.errors import ClientStalled, UpstreamError
from gatekeeper.core.model import Reason, SessionRecord
from gatekeeper.core.response_headers import client_head
from gatekeeper.core.responses import ResponseHead
from gatekeeper.server.connection import ClientConnection
from gatekeeper.server.exchange import UpstreamConnection
from gatekeeper.server.outbound import Outbound
from gatekeeper.server.streams import Streams


class Relay(ABC):
    """Receives an upstream's response and writes it to the client: what came together goes out together, in one write.

    `on_over` is called once, when there is nothing more to come: then `is_whole` says whether the client got a whole
    answer, and `error` is the UpstreamError that came before any of it was written.  With a 101 it is over at once,
    and what follows is a tunnel's.  `keep_alive` turns false where only the end of the connection can end the answer.
    An event stream is registered with `streams` under the session of `record`.
    """

    # Most of these stay as they are for most answers: as attributes of the class they cost nothing until they change.
    status = 0
    answered_at = 0.0
    sent_bytes = 0
    is_chunked = False
    is_stream = False
    is_over = False
    is_whole = False
    error: UpstreamError | None = None
    broken: UpstreamError | None = None
    cut_for: Reason | None = None
    early = b""
    cookies: Sequence[bytes] = ()
    """Values of Set-Cookie that the gate adds."""

    def __init__(
        self,
        client: ClientConnection,
        upstream: UpstreamConnection,
        outbound: Outbound,
        streams: Streams,
        record: SessionRecord | None,
        *,
        http_1_0: bool = False,
        keep_alive: bool = True,
    ) -> None:
        self.client = client
        self.upstream = upstream
        self.outbound = outbound
        self.streams = streams
        self.record = record
        self.http_1_0 = http_1_0
        self.keep_alive = keep_alive
        self._pending: list[bytes] = []
        client.pushing = self

    @abstractmethod
    def on_over(self) -> None:
        """Nothing more is to come."""

    @property
    def has_begun(self) -> bool:
        """Whether some of the answer was written."""
        return self.status != 0

    @property
    def progress(self) -> float:
        return self.upstream.deadline

    # from the upstream (an `Exchange`)

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        data = self._begin(head)
        if self.is_chunked:
            data += self._coded(body) + b"0\r\n\r\n" if body else b"0\r\n\r\n"
        elif body:
            data += body
        self._write(data)
        self._finish(whole=True)

    def on_head(self, head: ResponseHead) -> None:
        self._pending.append(self._begin(head))
        if self.is_stream:
            self.upstream.becomes_stream()
            self.streams.add(self, self.record, self.outbound.require)

    def on_body(self, data: bytes) -> None:
        if self.status == 101:
            self.early += data
        else:
            self._pending.append(self._coded(data))

    def flush(self) -> None:
        data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        self._pending.clear()
        self._write(data)
        if self.status == 101:
            self._finish(whole=True)

    def on_end(self) -> None:
        if self.is_chunked:
            self._pending.append(b"0\r\n\r\n")
        self.flush()
        self._finish(whole=True)

    def on_error(self, error: UpstreamError) -> None:
        if isinstance(error, ClientStalled):
            self.cut_for = Reason.CLIENT_STALLED
        if self.status:
            self.broken = error
        elif not self.is_over:
            self.error = error
        self._finish(whole=False)

    # from the client

    def client_is_full(self) -> None:
        self.upstream.pause_reading()

    def client_has_drained(self) -> None:
        self.upstream.resume_reading()

    # the end

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

    def _begin(self, head: ResponseHead) -> bytes:
        """The answer begins: its head as the client gets it."""
        fields, client, outbound = head.fields, self.client, self.outbound
        if fields.has_body and not isinstance(fields.framing, int):
            self.is_chunked = not self.http_1_0
            self.is_stream = fields.is_event_stream
            if self.http_1_0:
                self.keep_alive = False
        # An answer that comes before the body has ended is the last one: the rest of the body would stand in the way.
        if client.server.draining or head.status == 101 or not client.has_whole_body:
            self.keep_alive = False
        if outbound.on_answer is not None:
            outbound.on_answer()
        self.status = head.status
        self.answered_at = self.upstream.pool.now()
        return client_head(
            head.status,
            head.reason,
            fields,
            http_1_0=self.http_1_0,
            keep_alive=self.keep_alive,
            protected=outbound.protected,
            varies=outbound.varies,
            vary=outbound.vary,
            cookies=self.cookies or outbound.set_cookies,
        )

    def _coded(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self.is_chunked else data

    def _write(self, data: bytes) -> None:
        self.sent_bytes += len(data)
        client = self.client
        transport = client.transport
        if transport is not None:
            transport.write(data)
        if client.writing_paused:
            self.client_is_full()

    def _finish(self, *, whole: bool) -> None:
        if self.client.pushing is self:
            self.client.pushing = None
        if self.is_stream:
            self.streams.discard(self)
        if not self.is_over:
            self.is_over = True
            self.is_whole = whole
            self.on_over()


class AwaitedRelay(Relay):
    """A relay whose end can be waited for."""

    def __init__(
        self,
        client: ClientConnection,
        upstream: UpstreamConnection,
        outbound: Outbound,
        streams: Streams,
        record: SessionRecord | None,
        *,
        http_1_0: bool,
        keep_alive: bool,
    ) -> None:
        super().__init__(client, upstream, outbound, streams, record, http_1_0=http_1_0, keep_alive=keep_alive)
        self.done: asyncio.Future[None] = upstream.pool.loop.create_future()

    def on_over(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
