"""What a proxy must know of WebSockets (RFC 6455): whether a handshake holds, and where frames begin and end.

A tunnel passes bytes and understands none of them, but for the frame boundaries: a tunnel that is cut says so with a
Close frame, and that may only stand between two frames.
"""

import base64
import hashlib
import re
from collections.abc import Sequence

GOING_AWAY = 1001
"""Close code of a gate that stops (RFC 6455 §7.4.1)."""

POLICY_VIOLATION = 1008
"""Close code of a session that ended."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
_LONGEST_HEAD = 14
_MOST_FRAMES = 1000
_NOT_IN_101 = (b"content-length", b"transfer-encoding")


def is_key(value: bytes) -> bool:
    """Whether this is a Sec-WebSocket-Key: 16 bytes in canonical base64 (RFC 6455 §4.1)."""
    return _KEY.fullmatch(value) is not None


def accept_for(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that answers a key (RFC 6455 §4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def opens_tunnel(headers: Sequence[tuple[bytes, bytes]], accept: bytes) -> bool:
    """Whether the fields of a 101 are the answer to our handshake: the right Upgrade, Connection and accept value,
    each once, and no framing (RFC 6455 §4.1, RFC 9110 §15.2.2).
    """
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(value)
    if any(name in found for name in _NOT_IN_101):
        return False
    options = {option.strip().lower() for value in found.get(b"connection", ()) for option in value.split(b",")}
    return (
        b"upgrade" in options
        and [value.lower() for value in found.get(b"upgrade", ())] == [b"websocket"]
        and found.get(b"sec-websocket-accept") == [accept]
    )


def close_frame(code: int, *, masked: bool) -> bytes:
    """A Close frame; a client's is masked, with a key of zeros, since what it hides is no secret (§5.3, §5.5.1)."""
    payload = code.to_bytes(2, "big")
    return b"\x88\x82\0\0\0\0" + payload if masked else b"\x88\x02" + payload


class FrameTracker:
    """Follows a stream of frames, fed in any pieces; `is_between` tells whether it stands between two of them.

    A piece of very many small frames is not followed through: then it says so no more.  The end of a tunnel is not
    worth the time that such a stream would cost everybody else.
    """

    __slots__ = ("_head", "_left", "_lost")

    def __init__(self) -> None:
        self._left = 0
        self._head = b""
        self._lost = False

    @property
    def is_between(self) -> bool:
        return self._left == 0 and not self._head and not self._lost

    def feed(self, data: bytes) -> None:
        """Take note of the next piece of the stream."""
        at, size, frames = 0, len(data), 0
        while at < size and not self._lost:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                at += step
                continue
            head = self._head + data[at : at + _LONGEST_HEAD]
            head_size = _head_size(head)
            if len(head) < head_size:
                self._head = head
                return
            at += head_size - len(self._head)
            frames += 1
            self._lost = frames > _MOST_FRAMES
            self._head = b""
            self._left = _payload_size(head)


def _head_size(head: bytes) -> int:
    """How long this frame head is, as far as its beginning tells (§5.2)."""
    if len(head) < 2:
        return 2
    return 2 + {126: 2, 127: 8}.get(head[1] & 0x7F, 0) + (4 if head[1] & 0x80 else 0)


def _payload_size(head: bytes) -> int:
    short = head[1] & 0x7F
    if short < 126:
        return short
    return int.from_bytes(head[2:4] if short == 126 else head[2:10], "big")
