"""Strict readers of both ends of a gate, written from RFC 9112 and apart from the gate's own code.

`read_responses` takes what a client got, `request_trouble` what an app got; `plausible_paths` is every way in which
some backend may read a target's path.  They say what is wrong instead of raising.
"""

import itertools
import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

TCHAR = rb"!#$%&'*+.^_`|~0-9A-Za-z-"
_FIELDS = rb"((?:[%b]+: [\t -~\x80-\xff]*\r\n)*)\r\n" % TCHAR
_RESPONSE = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) ([\t -~\x80-\xff]*)\r\n" + _FIELDS)
_REQUEST = re.compile(rb"([%b]+) ([!-~]+) HTTP/1\.1\r\n" % TCHAR + _FIELDS)
_CHUNK = re.compile(rb"([0-9a-f]{1,8})\r\n")

_CLEAR_REQUEST = re.compile(rb"[A-Z]+ /[!-~]* HTTP/1\.1\r\n((?:[%b]+: [ -~]*\r\n)*)\r\n" % TCHAR)
_CLEAR_CHUNKS = re.compile(rb"5\r\n.{5}\r\n0\r\n\r\n|0\r\n\r\n", re.DOTALL)

HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te", b"trailer", b"upgrade"),
        *(b"http2-settings", b"expect"),
    }
)


@dataclass
class Answer:
    """One final response; `complete` is false where its end has not come."""

    status: int
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    complete: bool = True

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name]

    @property
    def closes(self) -> bool:
        return b"close" in [value.lower() for value in self.values(b"connection")]


@dataclass
class Stream:
    """The responses of one connection; `trouble` is the first thing that no strict client would take."""

    answers: list[Answer] = field(default_factory=list)
    trouble: str | None = None

    @property
    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers]


def read_responses(data: bytes, *, may_be_head: bool = False) -> Stream:
    """Every response in `data`.  `may_be_head`: some may answer HEAD, and say a length without having a body."""
    stream = Stream()
    while data and stream.trouble is None:
        match = _RESPONSE.match(data)
        if match is None:
            has_bare_lf = data.count(b"\n") != data.count(b"\r\n")
            if has_bare_lf or b"\r\n\r\n" in data or not b"HTTP/1.1 ".startswith(data[:9]):
                stream.trouble = f"no response: {data[:80]!r}"
            return stream
        if stream.answers and stream.answers[-1].closes:
            stream.trouble = "a response after one that closes"
            return stream
        data = _take(stream, match, data[match.end() :], may_be_head)
    return stream


def _take(stream: Stream, match: re.Match[bytes], rest: bytes, may_be_head: bool) -> bytes:
    status = int(match[1])
    fields = [(name, value) for name, _, value in (line.partition(b": ") for line in match[3].split(b"\r\n")[:-1])]
    answer = Answer(status, fields)
    lengths, codings = answer.values(b"content-length"), answer.values(b"transfer-encoding")
    if status == 101:
        stream.trouble = "a change of protocols that nobody agreed to"
    elif status < 200:
        if lengths or codings:
            stream.trouble = "an interim response with a body"
        return rest
    elif len(lengths) + len(codings) > 1:
        stream.trouble = "two framings"
    elif status in (204, 304):
        stream.trouble = "a coding without a body" if codings or (status == 204 and lengths) else None
    elif codings:
        rest = _take_chunks(stream, answer, rest)
    elif lengths and lengths[0].isdigit():
        length = int(lengths[0])
        if not (may_be_head and (not rest or rest.startswith(b"HTTP/1.1 "))):
            answer.body, rest = rest[:length], rest[length:]
            answer.complete = len(answer.body) == length
    elif lengths:
        stream.trouble = "an odd length"
    elif not answer.closes:
        stream.trouble = "a body without an end" if not may_be_head else None
    else:
        answer.body, rest = rest, b""
    stream.answers.append(answer)
    return rest


def _take_chunks(stream: Stream, answer: Answer, data: bytes) -> bytes:
    if answer.values(b"transfer-encoding") != [b"chunked"]:
        stream.trouble = "an odd coding"
        return data
    while True:
        match = _CHUNK.match(data)
        if match is None:
            if len(data) > 10 or b"\n" in data:
                stream.trouble = "a broken chunk size"
            answer.complete = False
            return b""
        size = int(match[1], 16)
        data = data[match.end() :]
        if len(data) < size + 2:
            answer.body += data[:size]
            answer.complete = False
            return b""
        if data[size : size + 2] != b"\r\n":
            stream.trouble = "a broken chunk end"
            return data
        answer.body += data[:size]
        data = data[size + 2 :]
        if size == 0:
            return data


def request_trouble(head: bytes) -> str | None:
    """What is wrong with a request head that reached the app: grammar, framing, Host, hop-by-hop fields."""
    match = _REQUEST.fullmatch(head)
    if match is None:
        return "no HTTP/1.1 request head"
    names = [line.partition(b":")[0].lower() for line in match[3].split(b"\r\n")[:-1]]
    framings = [name for name in names if name in (b"content-length", b"transfer-encoding")]
    if len(framings) > 1:
        return f"framings: {framings}"
    if names.count(b"host") != 1:
        return "Host not exactly once"
    left = HOP_BY_HOP.intersection(names)
    if left == {b"connection", b"upgrade"} and _is_handshake(match[3]):
        return None
    return f"hop-by-hop fields: {sorted(left)}" if left else None


def _is_handshake(fields: bytes) -> bool:
    """Whether the two hop-by-hop fields, each once, ask for a WebSocket with one key (RFC 6455 §4.1)."""
    lines = fields.lower().split(b"\r\n")
    wanted = (b"connection: upgrade", b"upgrade: websocket")
    keys = [line for line in lines if line.startswith(b"sec-websocket-key:")]
    others = [line for line in lines if line.startswith((b"connection:", b"upgrade:")) and line not in wanted]
    return all(lines.count(line) == 1 for line in wanted) and len(keys) == 1 and not others


def count_requests(data: bytes) -> int:
    """How many requests at the beginning of `data` are complete and beyond doubt."""
    count = 0
    while match := _CLEAR_REQUEST.match(data):
        names = {
            name.lower(): value for name, _, value in (line.partition(b": ") for line in match[1].split(b"\r\n")[:-1])
        }
        end: int | None = match.end()
        if b"transfer-encoding" in names:
            chunks = _CLEAR_CHUNKS.match(data, match.end())
            end = chunks.end() if chunks and b"content-length" not in names else None
        elif b"content-length" in names:
            length = names[b"content-length"]
            end = match.end() + int(length) if re.fullmatch(rb"[0-9]{1,6}", length) else None
        if end is None or end > len(data):
            break
        count += 1
        data = data[end:]
    return count


def plausible_paths(target: str) -> set[bytes]:
    """Every path that some backend may take a request target for, lower-case, slashes merged.

    Backends differ in: decoding once or not at all, `\\` as `/`, cutting at NUL, cutting `;…` off segments before or
    after decoding, taking trailing dots and blanks off segments, resolving dot segments, and dropping authorities.
    """
    raw = target.encode("latin-1").partition(b"?")[0].partition(b"#")[0].lower()
    starts = {raw}
    if b"://" in raw[:10]:
        starts.add(b"/" + raw.split(b"://", 1)[1].partition(b"/")[2])
    paths: set[bytes] = set()
    for start, early_cut in itertools.product(starts, (False, True)):
        undecoded = _cut_parameters(start) if early_cut else start
        for form in {undecoded, unquote_to_bytes(undecoded)}:
            for bare, slashed, late_cut in itertools.product((False, True), repeat=3):
                text = form.partition(b"\0")[0].strip(b" \t\r\n") if bare else form
                text = text.replace(b"\\", b"/") if slashed else text
                paths |= _resolved(_cut_parameters(text) if late_cut else text)
    return paths


def is_under(paths: set[bytes], prefixes: tuple[bytes, ...]) -> bool:
    """Whether any of the paths is one of the prefixes, or lies below it."""
    return any(path == prefix or path.startswith(prefix + b"/") for path in paths for prefix in prefixes)


def _cut_parameters(path: bytes) -> bytes:
    return re.sub(rb";[^/]*", b"", path) if b";" in path else path


def _resolved(path: bytes) -> set[bytes]:
    """The path as it is, with trailing dots and blanks of segments taken off, and both with dot segments resolved."""
    segments = [segment for segment in path.split(b"/") if segment]
    trimmed = [segment if segment in (b".", b"..") else segment.rstrip(b". \t") for segment in segments]
    found: set[bytes] = set()
    for kept in (segments, [segment for segment in trimmed if segment]):
        found.add(b"/" + b"/".join(kept))
        if b"." in kept or b".." in kept:
            found.add(_without_dots(kept))
    return found


def _without_dots(segments: list[bytes]) -> bytes:
    resolved: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            del resolved[-1:]
        elif segment != b".":
            resolved.append(segment)
    return b"/" + b"/".join(resolved)
