"""HTTP/1 responses of the upstream: bytes in, head and body out, and nothing taken on trust.

A state machine without I/O, one for each upstream connection.  It is stricter than RFC 9112 asks a client to be: a bare
LF, a folded line, a control byte, two lengths, a length beside a coding, an odd chunk size are all errors, since what
a lenient reader repairs is where two readers can disagree.  Trailers are dropped.  Bytes after a complete response are
never a second response: they make the connection unfit for another request.

    head ──► length ──► done          (Content-Length)
         ├─► chunk-size ⇄ chunk-data ──► trailers ──► done
         ├─► close ──► done           (by the end of the connection; also what follows a 101 that was asked for)
         └─► done                     (no body)
"""

import re
from typing import TypeVar

import msgspec

from gatekeeper.core.errors import UpstreamProtocolError
from gatekeeper.core.response_headers import ResponseField, UpstreamHead, read_response, response_field
from gatekeeper.core.websocket import opens_tunnel

HEAD_LIMIT = 64 * 1024
"""Bytes of a response head, and of all trailers together; a line among the chunks has at most _LINE_LIMIT."""

_HEAD_END = b"\r\n\r\n"
_LINE_LIMIT = 4096
_MAX_INTERIM = 8

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t -~\x80-\xff]*))?")
_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t -~\x80-\xff]*)")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[ \t]*[!-~\x80-\xff][\t -~\x80-\xff]*)?")
_KEEP_ALIVE_TIMEOUT = re.compile(rb"timeout=([0-9]{1,6})", re.IGNORECASE)


class ResponseHead(msgspec.Struct):
    """Status line and judged fields.  `keep_alive_s` is how long the upstream says that it keeps an idle connection."""

    status: int
    reason: bytes
    fields: UpstreamHead
    is_persistent: bool
    keep_alive_s: int | None = None


class _State:
    """Where the parser is.  Plain numbers: an Enum's members are several times slower to get at."""

    HEAD = 0
    LENGTH = 1
    CHUNK_SIZE = 2
    CHUNK_DATA = 3
    CHUNK_END = 4
    TRAILERS = 5
    CLOSE = 6
    DONE = 7


class ResponseParser:
    """The reader of one connection's responses.  `begin` starts the next one; `head` is set once it is complete."""

    __slots__ = ("_accept", "_buffer", "_interim", "_left", "_method", "_state", "head")

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self._state = _State.DONE
        self._buffer: bytes = b""
        self._left = 0
        self._method = ""
        self._accept: bytes | None = None
        self._interim = 0

    def begin(self, method: str, accept: bytes | None = None) -> None:
        """Expect the response to a request of this method.  Raises UpstreamProtocolError where the connection still
        holds something of the one before.

        `accept` is the Sec-WebSocket-Accept that a WebSocket handshake waits for; a 101 without one was not asked for.
        """
        if self._state != _State.DONE or self._buffer:
            raise UpstreamProtocolError("the upstream's connection is not free")
        self.head = None
        self._method = method
        self._accept = accept
        self._state = _State.HEAD
        self._interim = 0

    @property
    def is_done(self) -> bool:
        """Whether the response is complete."""
        return self._state == _State.DONE

    @property
    def is_clean(self) -> bool:
        """Whether the connection may serve another request: complete, persistent, and nothing behind it."""
        return self._state == _State.DONE and not self._buffer and self.head is not None and self.head.is_persistent

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; returns the body bytes in it, decoded.  Raises UpstreamProtocolError."""
        if self._state == _State.DONE:
            self._buffer = self._buffer or data  # enough to know that there was something
            return b""
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        if self._state == _State.HEAD:
            end = data.find(_HEAD_END)
            head = _known_heads.get(data[:end]) if end > 0 and self._method != "HEAD" else None
            if head is not None:
                self.head = head
                data = data[end + 4 :]
                if head.fields.framing == len(data) and head.fields.has_body:  # the usual case: nothing is missing
                    self._state = _State.DONE
                    return data
                self._start_body(head)
            else:
                data = self._take_head(data)
        state = self._state
        if state == _State.LENGTH:
            return self._take_length(data)
        if state == _State.CLOSE:
            return data
        if state == _State.HEAD or state == _State.DONE:
            self._buffer = data
            return b""
        return self._take_chunks(data)

    def feed_eof(self) -> None:
        """The connection ended.  Raises UpstreamProtocolError where it ended inside a response."""
        if self._state == _State.CLOSE:
            self._state = _State.DONE
        elif self._state != _State.DONE:
            raise UpstreamProtocolError("the upstream closed the connection inside its answer")

    def _take_head(self, data: bytes) -> bytes:
        while True:
            end = data.find(_HEAD_END)
            if end < 0:
                has_bare_lf = data.count(b"\n") != data.count(b"\r\n")  # a head that ends in bare LFs has no other end
                if len(data) > HEAD_LIMIT or has_bare_lf:
                    raise UpstreamProtocolError("the upstream's response head is too long or no HTTP/1")
                return data
            raw = data[:end]
            head = self._parse_head(raw)
            data = data[end + 4 :]
            if head.status >= 200 or head.status == 101:
                self.head = head
                if self._method != "HEAD" and head.status != 101:
                    _remember(_known_heads, raw, head, _HEAD_MEMO_LENGTH)
                self._start_body(head)
                return data
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise UpstreamProtocolError("the upstream sent too many interim answers")

    def _parse_head(self, raw: bytes) -> ResponseHead:
        """The head, which comes without the empty line that ends it."""
        if len(raw) + 4 > HEAD_LIMIT:
            raise UpstreamProtocolError(_BROKEN_HEAD)
        lines = raw.split(b"\r\n")
        known = _known_fields
        is_http_1_0, status, reason = _known_status_lines.get(lines[0]) or _status_of(lines[0])
        headers = [known.get(line) or _field_of(line) for line in lines[1:]]
        if status == 101 and (is_http_1_0 or not self._is_tunnel(headers)):
            raise UpstreamProtocolError("the upstream switched protocols unasked, or not as a WebSocket must")
        fields = read_response(headers, status=status, method=self._method)
        if fields is None or (is_http_1_0 and any(name == b"transfer-encoding" for name, _, _ in headers)):
            raise UpstreamProtocolError("the upstream's answer has no clear length")
        persistent = not (is_http_1_0 or fields.closes or fields.framing == "close" or status == 101)
        hint = None if fields.keep_alive is None else _KEEP_ALIVE_TIMEOUT.search(fields.keep_alive)
        return ResponseHead(status, reason, fields, persistent, int(hint[1]) if hint else None)

    def _is_tunnel(self, headers: list[ResponseField]) -> bool:
        """Whether this is the 101 that was asked for."""
        fields = [(line.partition(b":")[0], value) for _, value, line in headers]
        return self._accept is not None and opens_tunnel(fields, self._accept)

    def _start_body(self, head: ResponseHead) -> None:
        fields = head.fields
        if head.status == 101:
            self._state = _State.CLOSE
        elif not fields.has_body:
            self._state = _State.DONE
        elif fields.framing == "chunked":
            self._state = _State.CHUNK_SIZE
        elif isinstance(fields.framing, int):
            self._state, self._left = _State.LENGTH, fields.framing
        else:
            self._state = _State.CLOSE

    def _take_length(self, data: bytes) -> bytes:
        left = self._left
        if len(data) < left:
            self._left = left - len(data)
            return data
        self._state = _State.DONE
        self._buffer = data[left:]
        return data[:left] if self._buffer else data

    def _take_chunks(self, data: bytes) -> bytes:
        """Decode as far as the data goes (RFC 9112 §7.1); what is left of an unfinished line waits in the buffer."""
        body: list[bytes] = []
        at, size = 0, len(data)
        while at < size and self._state != _State.DONE:
            if self._state == _State.CHUNK_DATA:
                piece = data[at : at + self._left]
                body.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left == 0:
                    self._state = _State.CHUNK_END
                continue
            end = data.find(b"\r\n", at)
            line = data[at:].removesuffix(b"\r") if end < 0 else data[at:end]
            if b"\n" in line or len(line) > _LINE_LIMIT:
                raise UpstreamProtocolError("the upstream's chunked coding is broken")
            if end < 0:
                break
            at = end + 2
            self._take_chunk_line(line)
        self._buffer = data[at:]
        return b"".join(body)

    def _take_chunk_line(self, line: bytes) -> None:
        if self._state == _State.CHUNK_SIZE:
            match = _CHUNK_LINE.fullmatch(line)
            if match is None:
                raise UpstreamProtocolError("the upstream's chunk size is broken")
            size = int(match[1], 16)
            self._state = _State.CHUNK_DATA if size else _State.TRAILERS
            self._left = size or HEAD_LIMIT
        elif self._state == _State.CHUNK_END:
            if line:
                raise UpstreamProtocolError("the upstream's chunk is longer than its size")
            self._state = _State.CHUNK_SIZE
        elif not line:
            self._state = _State.DONE
        else:
            self._left -= len(line) + 2
            if self._left < 0 or _FIELD_LINE.fullmatch(line) is None:
                raise UpstreamProtocolError("the upstream's trailers are broken or too long")


_BROKEN_HEAD = "the upstream's response head breaks HTTP/1"
_MEMO_LIMIT = 2048
_MEMO_LENGTH = 128
_HEAD_MEMO_LENGTH = 1024
_known_heads: dict[bytes, ResponseHead] = {}
"""Whole heads, but for answers to HEAD: a busy app sends the same one many times within a second."""
_known_fields: dict[bytes, ResponseField] = {}
_known_status_lines: dict[bytes, tuple[bool, int, bytes]] = {}


def _status_of(line: bytes) -> tuple[bool, int, bytes]:
    """Whether it is HTTP/1.0, status, and reason phrase.  Raises UpstreamProtocolError for what is no status line."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise UpstreamProtocolError(_BROKEN_HEAD)
    status_line = (match[1] == b"0", int(match[2]), match[3] or b"")
    _remember(_known_status_lines, line, status_line, _MEMO_LENGTH)
    return status_line


def _field_of(line: bytes) -> ResponseField:
    """The field of a line, remembered: an app sends the same few over and over.  Raises UpstreamProtocolError."""
    match = _FIELD_LINE.fullmatch(line)
    if match is None:
        raise UpstreamProtocolError(_BROKEN_HEAD)
    field = response_field(match[1], match[2].strip(b" \t"))
    _remember(_known_fields, line, field, _MEMO_LENGTH)
    return field


_Meaning = TypeVar("_Meaning")


def _remember(memo: dict[bytes, _Meaning], raw: bytes, meaning: _Meaning, longest: int) -> None:
    if len(raw) <= longest:
        if len(memo) >= _MEMO_LIMIT:
            memo.clear()
        memo[raw] = meaning
