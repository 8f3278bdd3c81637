"""Header policy for requests: what of a client's head is understood, and what goes to the upstream.

Build, don't edit.  The upstream's request is put together from what is kept of the client's fields, then the framing,
the forwarding headers and the identity headers that we make, in that order.  Of the client's fields these are never
kept, on any rule:

* identity: every name that folds into a reserved namespace (`identity.is_reserved`), or to one that the settings
  reserve, however it is spelled;
* forwarding: `Forwarded`, `X-Forwarded-*`, `X-Real-IP`, `X-Original-*` and their kin, underscore spellings too;
* hop-by-hop: RFC 9110 §7.6.1, and what `Connection` names, unless it names an end-to-end field that a client may not
  have removed;
* framing: `Content-Length` and `Transfer-Encoding` are read, judged (RFC 9112 §6) and made anew; `Expect` is ours.

The parser in front guarantees that names are tokens and that values hold no control bytes.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

import msgspec
from msgspec.structs import replace

from gatekeeper.core.forwarding import ForwardingHeaders
from gatekeeper.core.identity import ReservedNames, fold_name, is_reserved
from gatekeeper.core.model import Reason
from gatekeeper.core.urls import is_valid_host
from gatekeeper.core.websocket import is_key

RawHeaders = Sequence[tuple[bytes, bytes]]
Framing = Literal["none", "chunked"] | int
"""How a body is delimited: not there, chunked, or of a known length in bytes."""

_MEMO_LIMIT = 2048
_MEMO_NAME_LENGTH = 64
_MAX_HOST = 261  # a DNS name, a colon and a port
_MAX_LENGTH_DIGITS = 18


class ClientHead(msgspec.Struct):
    """A client's header fields, judged: what is forwarded as it came, and the values that somebody looks at.

    `kept` holds neither Host nor Cookie.  Values are latin-1 text; of a repeated field the first counts, except
    `cookie`, which joins all lines with "; " (RFC 9113 §8.2.3).  `given` is None without forwarding headers,
    `websocket_key` where a WebSocket handshake has not exactly one well-formed key.
    """

    kept: list[tuple[bytes, bytes]] = []
    host: str = ""
    framing: Framing = "none"
    cookie: str | None = None
    accept: str | None = None
    accept_language: str | None = None
    authorization: str | None = None
    origin: str | None = None
    referer: str | None = None
    sec_fetch_mode: str | None = None
    sec_fetch_site: str | None = None
    access_control_request_method: str | None = None
    expects_continue: bool = False
    wants_websocket: bool = False
    websocket_key: bytes | None = None
    given: ForwardingHeaders | None = None
    size: int = 0
    """Bytes of all names and values, as far as whoever reads the head has counted them."""
    _lines: bytes | None = None
    _without_override: "ClientHead | None" = None

    def with_authorization(self, value: bytes | None) -> "ClientHead":
        """The head with this Authorization, and no other; with None for none at all."""
        kept = [field for field in self.kept if field[0].lower() != b"authorization"]
        if value is not None:
            kept.append((b"Authorization", value))
        return replace(self, kept=kept, _lines=None, _without_override=None)

    def first(self, name: bytes) -> str | None:
        """The first field of this lower-case name among those that are forwarded as they came, or None."""
        return next((value.decode("latin-1") for key, value in self.kept if key.lower() == name), None)

    def kept_lines(self) -> bytes:
        """The lines of `kept`, made once: the head of one request is often that of the next one, too."""
        lines = self._lines
        if lines is None:
            lines = self._lines = b"".join([b"%b: %b\r\n" % field for field in self.kept])
        return lines

    def without_method_override(self) -> "ClientHead":
        """The head without fields that ask the app for another method, for rules that list methods."""
        head = self._without_override
        if head is None:
            kept = [field for field in self.kept if fold_name(field[0]) not in _METHOD_OVERRIDES]
            head = self._without_override = replace(self, kept=kept, _lines=None)
        return head


class OwnNames:
    """Names that a client may not send because of the settings, with what is done with fields of each name."""

    def __init__(self, reserved: ReservedNames) -> None:
        self.reserved = reserved
        self.readers: dict[bytes, Callable[[_Reader, tuple[bytes, bytes]], None] | None] = {}

    def __repr__(self) -> str:
        return f"<OwnNames {self.reserved!r}>"


def read_head(headers: RawHeaders, *, http_1_0: bool = False, own: OwnNames | None = None) -> ClientHead | Reason:
    """The client's head, or why it is refused: BAD_HOST, BAD_FRAMING, BAD_HEADER.

    `own` are names that do not exist in it either, beside our namespace.
    """
    head = _Reader()
    known, kept = _known_readers if own is None else own.readers, head.kept
    for field in headers:
        name = field[0]
        read = known[name] if name in known else _reader_of(name, own)
        if read is None:
            kept.append(field)
        else:
            read(head, field)
    return head.finish(http_1_0=http_1_0)


def upstream_head(
    method: str,
    path_and_query: str,
    head: ClientHead,
    *,
    cookie: str | None,
    forwarding: bytes,
    identity: bytes,
    upgrade: bool = False,
) -> tuple[bytes, bytes]:
    """The request head for the upstream: what stands before the request's id, and what stands after it.

    `forwarding` and `identity` are finished header lines.  `cookie` is what is left of the Cookie header.  The
    connection is kept alive, or becomes a WebSocket's (`upgrade`).
    """
    lines = [f"{method} {path_and_query} HTTP/1.1\r\nHost: {head.host}\r\n".encode("latin-1"), head.kept_lines()]
    if cookie:
        lines.append(b"Cookie: %b\r\n" % cookie.encode("latin-1"))
    if head.framing == "chunked":
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif head.framing != "none":
        lines.append(b"Content-Length: %d\r\n" % head.framing)
    if upgrade:
        lines.append(b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
    lines += (forwarding, b"X-Request-Id: ")
    return b"".join(lines), b"\r\n%b\r\n" % identity


class _Reader(ClientHead):
    """A ClientHead in the making, with what only the judging needs."""

    lengths: list[bytes] = []
    codings: list[bytes] = []
    hosts: list[bytes] = []
    named: list[bytes] = []
    upgrades: list[bytes] = []
    websocket_keys: list[bytes] = []

    def finish(self, *, http_1_0: bool) -> ClientHead | Reason:
        if self.hosts:
            host = _read_host(self.hosts[0]) if len(self.hosts[0]) <= _MAX_HOST else None
            if host is None or len(self.hosts) > 1:
                return Reason.BAD_HOST
            self.host = host
        elif not http_1_0:
            return Reason.BAD_HOST
        if self.lengths or self.codings:
            framing = framing_of(self.lengths, self.codings)
            if framing is None or (http_1_0 and self.codings):
                return Reason.BAD_FRAMING
            self.framing = framing
        if self.named and self.named != _KEEP_ALIVE:
            self._read_connection(http_1_0=http_1_0)
        return self

    def _read_connection(self, *, http_1_0: bool) -> None:
        names = {token.strip().lower() for value in self.named for token in value.split(b",")}
        if b"upgrade" in names and not http_1_0 and len(self.upgrades) == 1:  # RFC 9110 §7.8: never in HTTP/1.0
            self.wants_websocket = self.upgrades[0].strip().lower() == b"websocket"
        if self.wants_websocket and len(self.websocket_keys) == 1 and is_key(self.websocket_keys[0]):
            self.websocket_key = self.websocket_keys[0]
        dropped = names - _END_TO_END - _USUAL_CONNECTION
        if dropped:
            self.kept = [field for field in self.kept if field[0].lower() not in dropped]


def framing_of(lengths: list[bytes], codings: list[bytes]) -> Framing | None:
    """How the body is delimited, or None for what two readers could read differently."""
    if codings:
        return "chunked" if not lengths and len(codings) == 1 and codings[0].lower() == b"chunked" else None
    if not lengths:
        return "none"
    text = lengths[0]
    if len(lengths) > 1 or not text.isdigit() or len(text) > _MAX_LENGTH_DIGITS:
        return None
    return int(text)


@lru_cache(maxsize=1024)
def _read_host(value: bytes) -> str | None:
    host = value.decode("latin-1")
    return host if is_valid_host(host) else None


def _drop(head: _Reader, field: tuple[bytes, bytes]) -> None:
    pass


def _read_cookie(head: _Reader, field: tuple[bytes, bytes]) -> None:
    value = field[1].decode("latin-1")
    head.cookie = value if head.cookie is None else f"{head.cookie}; {value}"


def _read_websocket_key(head: _Reader, field: tuple[bytes, bytes]) -> None:
    head.websocket_keys.append(field[1])
    head.kept.append(field)


def _read_expect(head: _Reader, field: tuple[bytes, bytes]) -> None:
    head.expects_continue = field[1].strip().lower() == b"100-continue"


def _reads(attribute: str) -> Callable[[_Reader, tuple[bytes, bytes]], None]:
    """A reader that keeps the field and notes its first value."""

    def read(head: _Reader, field: tuple[bytes, bytes]) -> None:
        if getattr(head, attribute) is None:
            setattr(head, attribute, field[1].decode("latin-1"))
        head.kept.append(field)

    return read


def _reads_forwarding(attribute: str) -> Callable[[_Reader, tuple[bytes, bytes]], None]:
    """A reader of a forwarding header: several lines count as one list; nothing is kept."""

    def read(head: _Reader, field: tuple[bytes, bytes]) -> None:
        head.given = given = head.given or ForwardingHeaders()
        value = field[1].decode("latin-1")
        before: str | None = getattr(given, attribute)
        setattr(given, attribute, value if before is None else f"{before}, {value}")

    return read


_READERS: dict[str, Callable[[_Reader, tuple[bytes, bytes]], None]] = {
    "host": lambda head, field: head.hosts.append(field[1]),
    "content-length": lambda head, field: head.lengths.append(field[1]),
    "transfer-encoding": lambda head, field: head.codings.append(field[1]),
    "connection": lambda head, field: head.named.append(field[1]),
    "cookie": _read_cookie,
    "upgrade": lambda head, field: head.upgrades.append(field[1]),
    "sec-websocket-key": _read_websocket_key,
    "expect": _read_expect,
    "x-forwarded-for": _reads_forwarding("forwarded_for"),
    "x-forwarded-proto": _reads_forwarding("proto"),
    "x-forwarded-host": _reads_forwarding("host"),
    "x-request-id": _reads_forwarding("request_id"),
    "accept": _reads("accept"),
    "accept-language": _reads("accept_language"),
    "authorization": _reads("authorization"),
    "origin": _reads("origin"),
    "referer": _reads("referer"),
    "sec-fetch-mode": _reads("sec_fetch_mode"),
    "sec-fetch-site": _reads("sec_fetch_site"),
    "access-control-request-method": _reads("access_control_request_method"),
}

_DROPPED = frozenset(
    {
        # hop-by-hop
        *("keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
        "http2-settings",
        # forwarding, and what some frameworks take for it
        *("forwarded", "x-forwarded", "forwarded-for", "x-real-ip", "x-client-ip", "x-cluster-client-ip"),
        *("true-client-ip", "cf-connecting-ip", "fastly-client-ip", "x-remote-ip", "x-remote-addr"),
        *("x-rewrite-url", "x-http-host", "x-host", "x-scheme", "x-url-scheme", "front-end-https"),
        "proxy",  # CGI programs read it as HTTP_PROXY
    }
)
_FORWARDING_PREFIXES = ("x-forwarded-", "x-original-")
_METHOD_OVERRIDES = frozenset({"x-http-method-override", "x-http-method", "x-method-override"})
_END_TO_END = frozenset(
    {
        *(b"host", b"content-length", b"content-type", b"content-encoding", b"cookie", b"authorization", b"origin"),
        *(b"referer", b"accept", b"user-agent", b"range", b"if-match", b"if-none-match", b"if-modified-since"),
        *(b"if-unmodified-since", b"if-range", b"sec-fetch-mode", b"sec-fetch-site", b"sec-fetch-dest"),
        *(b"access-control-request-method", b"access-control-request-headers", b"x-request-id"),
    }
)
_KEEP_ALIVE = [b"keep-alive"]
_USUAL_CONNECTION = frozenset({b"keep-alive", b"close", b"upgrade", b"te", b""})
_known_readers: dict[bytes, Callable[[_Reader, tuple[bytes, bytes]], None] | None] = {}


def _reader_of(name: bytes, own: OwnNames | None) -> Callable[[_Reader, tuple[bytes, bytes]], None] | None:
    """What is done with fields of this name, None for keeping them; remembered: names are few, and folding costs."""
    known = _known_readers if own is None else own.readers
    reader = _drop if own is not None and fold_name(name) in own.reserved else _choose_reader(name)
    if len(name) <= _MEMO_NAME_LENGTH:
        if len(known) >= _MEMO_LIMIT:
            known.clear()
        known[name] = reader
    return reader


def _choose_reader(name: bytes) -> Callable[[_Reader, tuple[bytes, bytes]], None] | None:
    folded = fold_name(name)
    if is_reserved(folded):
        return _drop
    reader = _READERS.get(name.decode("latin-1").lower())
    if reader is not None:
        return reader
    # another spelling of a name that we judge (`X_Forwarded_For`, `Content_Length`) does not exist either
    if folded in _READERS or folded in _DROPPED or folded.startswith(_FORWARDING_PREFIXES):
        return _drop
    return None


def may_carry_identity(name: str) -> bool:
    """Whether a header of this name can be ours to set: it is a token, and means nothing to HTTP or to forwarding."""
    folded = fold_name(name.encode("utf-8", "replace"))
    return (
        _TOKEN.fullmatch(name) is not None
        and not folded.startswith(_SPOKEN_FOR_PREFIXES)
        and folded not in _SPOKEN_FOR
        and folded not in _READERS
        and folded not in _DROPPED
        and folded not in _METHOD_OVERRIDES
        and folded.encode() not in _END_TO_END
    )


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_SPOKEN_FOR_PREFIXES = (
    "content-",
    "accept-",
    "access-control-",
    "sec-",
    "if-",
    "proxy-",
    "x-original-",
    "x-middleware-",
)
_SPOKEN_FOR = frozenset(
    {
        *("date", "via", "warning", "pragma", "cache-control", "age", "expires", "vary", "set-cookie", "location"),
        *("max-forwards", "from", "origin-agent-cluster", "upgrade-insecure-requests", "x-forwarded-port", "allow"),
        *("x-forwarded-server", "www-authenticate", "x-csrf-token", "x-requested-with", "traceparent", "tracestate"),
    }
)
