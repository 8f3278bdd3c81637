"""Request bodies as they come in: in pieces, within their limit and their time.

The beginning is read before the app is bothered: a short body is sent on whole, in one piece with its head.  One that
does not come at once is passed on as it comes, but not while connections to the app are scarce: a client that sends a
byte a second must not keep one busy.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from aiohttp import EMPTY_PAYLOAD, web
from aiohttp.http_exceptions import HttpProcessingError

from gatekeeper.core.headers import Framing
from gatekeeper.server.sized import BodySource, Piece, SizedBody

EARLY_BYTES = 16 * 1024
"""How much of a body is read at most before the app's connection is taken."""

EARLY_S = 0.5
"""How long a beginning is waited for."""

MIN_BYTES_PER_S = 128
"""The slowest that a body may come, on average, once it has taken longer than a pause may take."""


class BadBody(Exception):
    """The request body breaks its framing, or ends too early."""


class BodyTooLarge(Exception):
    """The request body is longer than `limits.body_bytes`."""


class BodyTimeout(Exception):
    """The request body paused for too long, or comes too slowly."""


class RequestBody:
    """Reads one request's body.  `limit` is in bytes, or None; `idle_s` is how long it may pause, in seconds."""

    __slots__ = ("_content", "_limit", "_since", "_total", "before_reading", "idle_s", "is_chunked", "is_whole")

    def __init__(self, content: BodySource, framing: Framing, *, limit: int | None, idle_s: float) -> None:
        self.is_chunked = framing == "chunked"
        self.is_whole = framing in ("none", 0)
        self._content = content
        self._limit = limit
        self.idle_s = idle_s
        self.before_reading: Callable[[], None] | None = None
        """Called once before `piece` first reads: a client may wait to be asked for its body."""
        self._total = 0
        self._since = monotonic()

    async def begin(self, is_scarce: Callable[[], bool]) -> Piece:
        """The first pieces: the whole body, or at least EARLY_BYTES of it; less where the client pauses, unless
        connections are scarce.  Raises as `piece` does.
        """
        pieces: list[Piece] = []
        paused_s = 0.0
        while not self.is_whole and self._total < EARLY_BYTES:
            piece = await self._take(EARLY_S)
            if piece is not None:
                pieces.append(piece)
                paused_s = 0.0
                continue
            paused_s += EARLY_S
            if paused_s >= self.idle_s:
                raise BodyTimeout
            if not is_scarce():
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def piece(self) -> bytes:
        """The next piece, empty at the end.  Raises BadBody, BodyTooLarge and BodyTimeout."""
        if self.before_reading is not None:
            self.before_reading()
            self.before_reading = None
        data = await self._take(self.idle_s)
        if data is None:
            raise BodyTimeout
        return bytes(data)

    def encode(self, data: Piece) -> Piece:
        """A piece as it goes to the upstream, in our own framing; with the last one, the end."""
        if not self.is_chunked:
            return data
        chunk = b"%x\r\n%b\r\n" % (len(data), bytes(data)) if data else b""
        return chunk + b"0\r\n\r\n" if self.is_whole else chunk

    async def _take(self, seconds: float) -> Piece | None:
        """What is there, or comes within so many seconds; None when nothing does."""
        content = self._content
        try:
            data = content.read_nowait()
            if not data and not content.at_eof():
                async with asyncio.timeout(seconds):
                    data = await content.readany()
        except TimeoutError:
            return None
        except (web.RequestPayloadError, HttpProcessingError) as exc:
            raise BadBody from exc
        self.took(data)
        return data

    @property
    def sized(self) -> SizedBody | None:
        """Where the rest of it comes from, if its length is known and it may be pushed on."""
        return self._content if isinstance(self._content, SizedBody) else None

    def took(self, data: Piece) -> None:
        """Count a piece.  Raises BodyTooLarge, and BodyTimeout for a body that comes too slowly."""
        self.is_whole = self._content.at_eof()
        self._total += len(data)
        if self._limit is not None and self._total > self._limit:
            raise BodyTooLarge
        elapsed = monotonic() - self._since
        if not self.is_whole and elapsed > self.idle_s and self._total < elapsed * MIN_BYTES_PER_S:
            raise BodyTimeout


NO_BODY = RequestBody(EMPTY_PAYLOAD, "none", limit=None, idle_s=0)
"""The body of every request that has none."""
