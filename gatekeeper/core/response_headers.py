"""Header policy for responses: what of an upstream's head is believed, and what the client gets.

Framing is judged as strictly as in requests (`headers.framing_of`) and made anew; hop-by-hop fields, and what
`Connection` names, stay behind (RFC 9110 §7.6.1).  Caching is made private where a session stands behind the answer.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal

import msgspec

from gatekeeper.core.headers import Framing, framing_of

_MEMO_LIMIT = 2048
_MEMO_NAME_LENGTH = 64

ResponseField = tuple[bytes, bytes, bytes]
"""A header field: its name in lower case where the name matters, else b""; its value; the line that passes it on."""


class UpstreamHead(msgspec.Struct):
    """An upstream's response header fields, judged.  `kept` are the lines that pass on: neither hop-by-hop nor framing.

    `framing` says how the body is delimited, "close" for by the end of the connection.  Without a body it may still
    hold the length that a GET would have had.  `closes` and `keep_alive` are what the upstream says of its connection.
    `for_shared_caches` are fields that overrule Cache-Control in caches in front: they pass on public rules alone.
    """

    kept: list[bytes]
    has_body: bool = True
    framing: Framing | Literal["close"] = "close"
    cache_control: bytes | None = None
    has_set_cookie: bool = False
    is_event_stream: bool = False
    closes: bool = False
    keep_alive: bytes | None = None
    for_shared_caches: list[bytes] = []
    made: dict[tuple[bool, bool, bool, bytes], bytes] = {}
    """The heads for clients that `client_head` has made of this one."""


def response_field(name: bytes, value: bytes) -> ResponseField:
    """The field with this name, a token, and this value, without control bytes and without blanks around it."""
    known = _known_names.get(name)
    return (_name_of(name) if known is None else known, value, b"%b: %b\r\n" % (name, value))


def read_response(fields: Iterable[ResponseField], *, status: int, method: str) -> UpstreamHead | None:
    """The upstream's response head, or None where its framing cannot be trusted (RFC 9112 §6.3)."""
    kept: list[bytes] = []
    lengths: list[bytes] = []
    codings: list[bytes] = []
    named: list[bytes] = []
    result = UpstreamHead(kept)
    for name, value, line in fields:
        if not name:
            kept.append(line)
        elif name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
        elif name == b"connection":
            named += [token.strip().lower() for token in value.split(b",")]
        elif name == b"cache-control":
            previous = result.cache_control
            result.cache_control = value if previous is None else previous + b", " + value
        elif name == b"set-cookie":
            result.has_set_cookie = True
            kept.append(line)
        elif name == b"content-type":
            result.is_event_stream = value[:17].lower() == b"text/event-stream"
            kept.append(line)
        elif name == b"keep-alive":
            result.keep_alive = value
        elif name in _FOR_SHARED_CACHES:
            result.for_shared_caches.append(line)
    framing = framing_of(lengths, codings)
    if framing is None:
        return None
    result.has_body = method != "HEAD" and status not in (204, 304) and status >= 200
    if result.has_body:
        result.framing = "close" if framing == "none" else framing
    else:
        result.framing = framing if isinstance(framing, int) and status >= 200 and status != 204 else "none"
    if named and named != _KEEP_ALIVE:
        result.closes = b"close" in named
        dropped = {name for name in named if name not in _END_TO_END}
        if dropped:
            result.kept = [line for line in kept if line.partition(b":")[0].lower() not in dropped]
    return result


def sets_cookie(fields: UpstreamHead, name: str) -> bool:
    """Whether the upstream itself sets or clears the cookie of this name."""
    if not fields.has_set_cookie:
        return False
    cookies = (line[len(_SET_COOKIE) :] for line in fields.kept if line[: len(_SET_COOKIE)].lower() == _SET_COOKIE)
    return any(cookie.partition(b"=")[0].strip() == name.encode() for cookie in cookies)


def client_head(
    status: int,
    reason: bytes,
    fields: UpstreamHead,
    *,
    http_1_0: bool,
    keep_alive: bool,
    protected: bool,
    varies: bool,
    vary: bytes = b"Cookie",
    cookies: Sequence[bytes] = (),
) -> bytes:
    """The response head for the client.

    `protected`: a session stands behind the answer; `varies`: it may differ by session although everybody may see it,
    and `vary` names the fields that may carry one.
    `cookies` are Set-Cookie values that the gate adds, but for those of a name that the upstream sets itself: who signs
    in or out there must not have that undone.  A body of unknown length is chunked, or for HTTP/1.0 ends with the
    connection, which `keep_alive` must then not promise to keep.  101 opens a WebSocket.
    """
    key = (http_1_0, keep_alive, protected, vary if varies else b"")
    if cookies and fields.has_set_cookie:
        theirs = {_cookie_name(line.partition(b":")[2]) for line in fields.kept if line[:11].lower() == b"set-cookie:"}
        cookies = [cookie for cookie in cookies if _cookie_name(cookie) not in theirs]
    made = fields.made.get(key)
    if made is None or cookies:
        made = _make_head(status, reason, fields, key, cookies)
        if not cookies:
            fields.made[key] = made
    return made


def _cookie_name(set_cookie: bytes) -> bytes:
    return set_cookie.partition(b"=")[0].strip()


def _make_head(
    status: int, reason: bytes, fields: UpstreamHead, key: tuple[bool, bool, bool, bytes], cookies: Sequence[bytes]
) -> bytes:
    http_1_0, keep_alive, protected, vary = key
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason), *fields.kept]
    caching = cache_control_for(fields.cache_control, protected=protected, sets_cookie=bool(cookies))
    if caching is not None:
        lines.append(b"Cache-Control: %b\r\n" % caching)
    if not protected and not cookies:
        lines += fields.for_shared_caches
    if vary:
        lines.append(b"Vary: %b\r\n" % vary)
    lines += [b"Set-Cookie: %b\r\n" % cookie for cookie in cookies]
    if isinstance(fields.framing, int):
        lines.append(b"Content-Length: %d\r\n" % fields.framing)
    elif fields.has_body and not http_1_0:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    if status == 101:
        lines.append(b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
    elif not keep_alive:
        lines.append(b"Connection: close\r\n")
    elif http_1_0:
        lines.append(b"Connection: keep-alive\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)


def cache_control_for(given: bytes | None, *, protected: bool, sets_cookie: bool) -> bytes | None:
    """The Cache-Control of a response: what the upstream gave, made private where a session stands behind it.

    On protected rules `public` becomes `private`, and a response without any, or with one that breaks RFC 9111,
    becomes `private, no-store`.  One to which the gate adds a cookie is always `private, no-store`.
    """
    if sets_cookie:
        return b"private, no-store"
    if not protected:
        return given
    return _made_private(given) if given else b"private, no-store"


@lru_cache(maxsize=256)
def _made_private(given: bytes) -> bytes:
    directives = [directive.strip() for directive in _DIRECTIVE.findall(given)]
    if not all(_WELL_FORMED.fullmatch(directive) for directive in directives):
        return b"private, no-store"
    bare = {directive.lower() for directive in directives}
    names = [directive.partition(b"=")[0].rstrip().lower() for directive in directives]
    if b"public" not in names and (b"private" in bare or b"no-store" in bare):  # `private="x"` hides the field x alone
        return given
    kept = [part for part, name in zip(directives, names, strict=True) if name not in _SHARED_CACHE_DIRECTIVES]
    return b", ".join([b"private", *kept])


_DIRECTIVE = re.compile(rb'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_WELL_FORMED = re.compile(rb'[^\s",=]*(?:\s*=\s*(?:[^\s",=]+|"(?:[^"\\]|\\.)*"))?')
_SHARED_CACHE_DIRECTIVES = (b"public", b"private", b"s-maxage", b"")


_SET_COOKIE = b"set-cookie:"
_FOR_SHARED_CACHES = frozenset(
    {b"cdn-cache-control", b"cloudflare-cdn-cache-control", b"surrogate-control", b"x-accel-expires"}
)
_JUDGED_OR_HOP_BY_HOP = frozenset(
    {
        *_FOR_SHARED_CACHES,
        *(b"content-length", b"transfer-encoding", b"connection", b"cache-control", b"set-cookie", b"content-type"),
        *(b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"te", b"trailer", b"upgrade", b"http2-settings"),
    }
)
"""Names in a response that are not simply kept."""
_KEEP_ALIVE = [b"keep-alive"]
_END_TO_END = frozenset(
    {
        *(b"content-type", b"content-encoding", b"cache-control", b"set-cookie", b"location", b"etag", b"vary"),
        *(b"last-modified", b"expires", b"date", b"content-security-policy", b"strict-transport-security"),
        *(b"www-authenticate", b"access-control-allow-origin", b"access-control-allow-credentials"),
        *(b"x-frame-options", b"x-content-type-options", b"keep-alive", b"close"),
    }
)

_known_names: dict[bytes, bytes] = {}


def _name_of(name: bytes) -> bytes:
    """A response field's name in lower case where it matters, b"" where the field is simply kept; remembered."""
    lowered = name.lower()
    if lowered not in _JUDGED_OR_HOP_BY_HOP:
        lowered = b""
    if len(name) <= _MEMO_NAME_LENGTH:
        if len(_known_names) >= _MEMO_LIMIT:
            _known_names.clear()
        _known_names[name] = lowered
    return lowered
