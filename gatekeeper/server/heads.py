"""Request heads that are read without aiohttp's parser: the plain ones, and those that came before.

Plain is what every parser reads alike: fields of the usual form, each name once, nothing that asks for another framing
or another protocol.  Whatever else a head may hold is for the parser to judge.  What comes once is not remembered:
that would cost more than it saves, and push out what comes often.
"""

import re
from typing import TypeVar

from gatekeeper.core.headers import ClientHead, OwnNames, read_head
from gatekeeper.core.model import Reason

MAX_KNOWN = 1024
MAX_KNOWN_BYTES = 4096
"""How many blocks of header lines, lines, and whole heads are remembered, and how long they may be."""

HEAD_END = b"\r\n\r\n"

_MAX_SEEN = 8192
_MAX_PLAIN_FIELDS = 64
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([\t -~\x80-\xff]*)")
_LENGTH = re.compile(rb"[0-9]{1,15}")
_FOR_THE_PARSER = frozenset(
    {
        *(b"transfer-encoding", b"upgrade", b"expect", b"te", b"trailer", b"keep-alive", b"proxy-connection"),
        *(b"http2-settings", b"content-encoding", b"sec-websocket-key1"),
    }
)
"""Fields that mean something to a parser; Connection and Content-Length do, too, and are plain in their usual forms."""

_PlainLine = tuple[tuple[bytes, bytes], bytes, int]
"""A header line that every parser reads alike: name and value, the name in lower case, the bytes of both."""

_Meaning = TypeVar("_Meaning")


class Memo(dict[bytes, _Meaning]):
    """What some bytes mean, remembered the second time that they come; emptied when it is full."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[int] = set()

    def note(self, raw: bytes, meaning: _Meaning) -> None:
        """These bytes have come, and mean this."""
        mark = hash(raw)
        if mark not in self._seen:
            if len(self._seen) >= _MAX_SEEN:
                self._seen.clear()
            self._seen.add(mark)
        elif len(raw) <= MAX_KNOWN_BYTES:
            if len(self) >= MAX_KNOWN and raw not in self:
                self.clear()
            self[raw] = meaning


class PlainHeads:
    """Reads blocks of header lines, each with the empty line that ends it."""

    def __init__(self) -> None:
        self.blocks: Memo[ClientHead] = Memo()
        self.lines: Memo[_PlainLine] = Memo()
        self._own: OwnNames | None = None

    def read(self, block: bytes, own: OwnNames | None = None) -> ClientHead | None:
        """The head that these lines make; None where it is for the parser to say.  For `own` see `read_head`."""
        if own is not self._own:
            self.blocks.clear()
            self._own = own
        head = self.blocks.get(block)
        if head is not None or len(block) > MAX_KNOWN_BYTES:
            return head
        known, fields, names, size = self.lines, list[tuple[bytes, bytes]](), set[bytes](), 0
        for line in block[: -len(HEAD_END)].split(b"\r\n"):
            plain = known.get(line)
            if plain is None:
                plain = _plain_line(line)
                if plain is None:
                    return None
                known.note(line, plain)
            fields.append(plain[0])
            names.add(plain[1])
            size += plain[2]
        if len(names) < len(fields) or len(fields) > _MAX_PLAIN_FIELDS:
            return None
        read = read_head(fields, own=own)
        if isinstance(read, Reason):
            return None
        read.size = size
        self.blocks.note(block, read)
        return read


def _plain_line(line: bytes) -> _PlainLine | None:
    match = _FIELD.fullmatch(line)
    if match is None:
        return None
    name, value = match[1], match[2].rstrip(b" \t")
    lowered = name.lower()
    if lowered in _FOR_THE_PARSER:
        return None
    if lowered == b"connection" and value.lower() != b"keep-alive":
        return None
    if lowered == b"content-length" and _LENGTH.fullmatch(value) is None:
        return None
    return (name, value), lowered, len(name) + len(value)
