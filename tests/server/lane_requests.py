"""Conversations by a grammar: requests that the fast lane takes, or must not take, and an app's answers."""

import re
from dataclasses import dataclass, field
from random import Random

from tests.server.by_hand import Reply
from tests.server.lane_gates import TOKENS, signed_in
from tests.server.talks import ACCEPT, KEY

PATHS = [
    *("/dashboard", "/dashboard", "/dashboard/x?tab=1", "/settings", "/", "/me", "/edge", "/fresh", "/admin", "/open"),
    *("/verified", "/form", "/api/x", "/slash/a%2fb", "/.gatekeeper/whoami", "/.gatekeeper/static/gatekeeper.css"),
]
ODD_PATHS = [
    *("//dashboard", "/./x/../dashboard", "/%64ashboard", "/dashboard;a=b", "/a%2fb", "/a\\b", "/%00", "/%zz", "/#x"),
    *("/dashboard?a#b", "http://h/dashboard", "http://u@h/", "*", "h:80", "", "/ x", "/\t", "/\xff", "/" + "a" * 3_000),
    *("/.well-known/gatekeeper", "/dashboard?" + "q" * 300, "?", "/dashboard/%2e%2e/open", "/" + "b" * 9_000),
]
METHODS = ["GET"] * 12 + ["HEAD", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
ODD_METHODS = ["TRACE", "CONNECT", "get", "FETCH", "PRI", "GET\t", "G ET", "", "PROPFIND", "QUERY"]
ODD_VERSIONS = ["HTTP/1.0", "HTTP/1.0", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", "", "HTTP/0.9"]
ODD_ENDS = ["\n", "\r", "\r\r\n", "\n\r\n", " \r\n", "\r\n\t", "\r\n "]
HOSTS = ["Host: h"] * 10 + ["host:h", "Host: h:80", "HOST: [::1]:80", "Host:\th"]
ODD_HOSTS = ["", "Host: h\r\nHost: i", "Host:", "Host: u@h", "Host: a,b", "Host : h", "Host: h/x"]
COOKIES = [
    *[signed_in("ada")] * 6,
    *(signed_in(name) for name in TOKENS),
    *(signed_in("ada") + "x", signed_in("ada") + "; a=b", "a=b", f"{signed_in('guest')}; {signed_in('ada')}"),
    *(
        f"a=b; {signed_in('ada')}; {signed_in('ada')}",
        "better-auth.session_token=",
        "x=\xff",
        "better-auth.session_token",
    ),
    *(f"{signed_in('ada')}\r\nCookie: {signed_in('guest')}", f"gatekeeper.redirects=0.1.2; {signed_in('expired')}"),
]
FIELDS = [
    *("Accept: text/html", "Accept: application/json", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Mode: cors"),
    *("Sec-Fetch-Site: same-origin", "Origin: http://h", "Origin: http://friend.test", "Referer: http://h/dashboard"),
    *("Access-Control-Request-Method: PUT", "Authorization: Bearer x", "If-None-Match: *", "Range: bytes=0-1"),
    *("X-Auth-User-Id: forged", "x_auth_status: forged", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https"),
    *("X-Forwarded-Host: other.test", "X-Request-Id: from-client", "Forwarded: for=6.6.6.6", "X-Real-IP: 6.6.6.6"),
    *("X-HTTP-Method-Override: DELETE", "X: \x80\xff", "X:", "X-Long: " + "v" * 300, "Proxy: x", "X_Y.Z~: a"),
    *("Content_Length: 5", "X-Longer: " + "v" * 5_000, "Accept-Encoding: gzip", "User-Agent: t"),
]
CONNECTIONS = [
    *("Connection: keep-alive", "Connection: close", "Connection: Close", "Connection: close, X-Auth-Status"),
    *("Connection: x-longer, cookie", "Connection: ,", "Connection: keep-alive, close", "Proxy-Connection: close"),
    *("Keep-Alive: timeout=5", "TE: trailers", "Trailer: X", "Upgrade: websocket", "Connection: upgrade"),
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY,
    "Connection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://evil.test",
    *(
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA",
        "Connection: upgrade\r\nUpgrade: tcp",
    ),
    *("Expect: 100-continue", "Expect: 200-ok", "Connection: transfer-encoding"),
]
BODIES = [
    *(("Content-Length: 0", b""), ("Content-Length: 5", b"hello"), ("content-length:5", b"hello")),
    *(("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"), ("Transfer-Encoding: Chunked", b"0\r\n\r\n")),
    ("Transfer-Encoding: chunked", b"5;x=y\r\nhello\r\n0\r\nX-Auth-User-Id: forged\r\n\r\n"),
    ("Content-Length: {guest}", b"{guest}"),
    ("Content-Length: 1000", b"b" * 1_000),
]
ODD_BODIES = [
    *(
        ("Content-Length: 3", b"hello"),
        ("Content-Length: 50", b"hello"),
        ("Content-Length: 0", b"hello"),
        ("", b"hello"),
    ),
    *(
        ("Content-Length: 5\r\nContent-Length: 5", b"hello"),
        ("Content-Length: 5, 5", b"hello"),
        ("Content-Length: +5", b""),
    ),
    *(("Content-Length: -1", b""), ("Content-Length: 00005", b"hello"), ("Content-Length: 5 ", b"hello")),
    *(
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
        ("Transfer-Encoding: gzip, chunked", b"0\r\n\r\n"),
    ),
    *(("Transfer-Encoding: chunked", b"zz\r\n"), ("Transfer-Encoding: chunked", b"5\r\nhelloX0\r\n\r\n")),
    *(("Transfer-Encoding: chunked", b"5\nhello\n0\n\n"), ("Transfer-Encoding: identity", b"hello")),
    *(("Content-Length: 1", b"{guest}"), ("Content-Length: 0", b"{guest}"), ("Content-Length: 20", b"{guest}")),
]
GUEST = f"GET /dashboard HTTP/1.1\r\nHost: h\r\nCookie: {signed_in('ada')}\r\n\r\n".encode("latin-1")
"""A request that the lane knows; inside a body it must stay a body."""

LEADS = ["\r\n", "\r\n\r\n", "\n", "\r", " ", "\r\n\r\n\r\n"]

_OK = b"HTTP/1.1 200 OK\r\n"
REPLIES = [
    *[Reply((_OK + b"Content-Length: 2\r\n\r\nok",))] * 6,
    Reply(
        (
            _OK + b"Content-Length: 6\r\nKeep-Alive: timeout=2\r\nCache-Control: public, max-age=60\r\n\r\nwh",
            b"ole",
            b"!",
        )
    ),
    Reply((_OK + b"Content-Len", b"gth: 2\r\n", b"\r\nok")),
    Reply((_OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",)),
    Reply((_OK + b"Transfer-Encoding: chunked\r\n\r\n5\r", b"\nhello\r\n", b"0\r\nX: t\r\n\r\n")),
    Reply((_OK + b"\r\nuntil", b" the end"), "close"),
    Reply((_OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nok",), "close"),
    Reply((_OK + b"Content-Length: 2\r\nSet-Cookie: a=b\r\n\r\nok",), "close"),
    Reply((b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",), "close"),
    Reply((b"HTTP/1.1 204 No Content\r\nSet-Cookie: a=b\r\n\r\n",)),
    Reply((b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n',)),
    Reply((b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",), is_early=True),
    Reply((b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", _OK + b"Content-Length: 2\r\n\r\nok")),
    Reply((b"HTTP/1.1 100 Continue\r\n\r\n" + _OK + b"Content-Length: 0\r\n\r\n",)),
    Reply((_OK + b"Content-Length: 2\r\n\r\nok" + _OK + b"Content-Length: 6\r\n\r\npoison",)),
    Reply((_OK + b"Content-Length: 2\r\n\r\nok", _OK + b"Content-Length: 6\r\n\r\npoison")),
    Reply((_OK + b"Content-Type: text/event-stream\r\n\r\ndata: 1\n\n", b"data: 2\n\n")),
    Reply(
        (
            _OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n",
            b"0\r\n\r\n",
        )
    ),
    Reply((_OK + b"Content-Length: 9\r\n\r\nhalf",), "close"),
    Reply((_OK + b"Content-Length: 9\r\n\r\nhalf",), "reset"),
    Reply((_OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",), "close"),
    Reply((), "close"),
    Reply((), "reset"),
    Reply(()),
    Reply((b"SSH-2.0-OpenSSH_9.2\r\n\r\n",)),
    Reply((b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",)),
    Reply((_OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",)),
    Reply((_OK + b"X: a\rb\r\nContent-Length: 2\r\n\r\nok",)),
    Reply((b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",)),
    Reply(
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + ACCEPT.encode() + b"\r\n\r\nframes",
        )
    ),
    Reply((_OK + b"Content-Length: 3000\r\n\r\n" + b"x" * 3_000,)),
    Reply((b"HTTP/1.1 302 Found\r\nLocation: /dashboard\r\nContent-Length: 0\r\n\r\n",)),
]
_WANTED = re.compile(rb"\r\nX-Reply: (\d+)")


def reply_to(head: bytes) -> Reply:
    """The answer that the request asks for."""
    wanted = _WANTED.search(head)
    return REPLIES[int(wanted[1]) % len(REPLIES)] if wanted else REPLIES[0]


@dataclass
class Step:
    """Pieces that a client sends, and how many turns of the loop are between them; None is its end."""

    pieces: list[bytes | None] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)


def make_request(chance: Random, *, calm: bool) -> bytes:
    """One request.  Half of them are such as the lane takes; of the rest, each part may be a strange one.

    A calm one is well-formed, and keeps the connection.
    """
    kind = chance.random()
    odd = 0.0 if kind < 0.75 or calm else 0.25
    method = chance.choice(ODD_METHODS if chance.random() < odd else METHODS)
    lines = [chance.choice(ODD_HOSTS if chance.random() < odd else HOSTS)]
    body = b""
    if chance.random() < 0.75:
        lines.append("Cookie: " + chance.choice(COOKIES))
    lines += [chance.choice(FIELDS) for _ in range(chance.choice((0, 0, 1, 1, 2, 4)))]
    if kind > 0.5:
        lines += [chance.choice(CONNECTIONS)] if chance.random() < 0.4 and not calm else []
        if method in ("POST", "PUT", "PATCH", "DELETE") or chance.random() < 0.1:
            framing, body = chance.choice(ODD_BODIES if chance.random() < odd else BODIES)
            body = body.replace(b"{guest}", GUEST)
            lines.append(framing.replace("{guest}", str(len(GUEST))))
    if chance.random() < 0.4:
        lines.append(f"X-Reply: {chance.randrange(len(REPLIES))}")
    chance.shuffle(lines)
    version = chance.choice(ODD_VERSIONS) if chance.random() < odd else "HTTP/1.1"
    lines[:0] = [f"{method} {make_target(chance, odd)} {version}"]
    ends = [chance.choice(ODD_ENDS) if chance.random() < odd / 5 else "\r\n" for _ in lines]
    lead = chance.choice(LEADS) if not calm and chance.random() < 0.03 + odd / 5 else ""
    head = lead + "".join(line + end for line, end in zip(lines, ends, strict=True) if line) + "\r\n"
    return head.encode("latin-1") + body


def make_target(chance: Random, odd: float) -> str:
    """A target: a path of the rules, a strange one, or any printable text."""
    if chance.random() < odd:
        return chance.choice(ODD_PATHS)
    if chance.random() < 0.15:
        return "/" + "".join(chr(chance.randrange(0x21, 0x7F)) for _ in range(chance.randrange(1, 12)))
    return chance.choice(PATHS)


def make_conversation(chance: Random) -> list[Step]:
    """One to four requests, some of them again and again, as they arrive: each alone, together, or cut anywhere.

    What a client sends before it may know what became of the last piece is calm: of a piece that holds something
    malformed, aiohttp's parser gives nothing, and how far such a piece reaches is a matter of chance.
    """
    calm = chance.random() < 0.4
    pieces = _requests(chance, calm=calm)
    for at in range(len(pieces) - 1, 0, -1):
        if chance.random() < 0.2:
            pieces[at - 1 : at + 1] = [pieces[at - 1] + pieces[at]]
    pieces = [part for piece in pieces for part in _cut(piece, chance)]
    if not calm and chance.random() < 0.2:
        pieces.insert(chance.randrange(len(pieces)), GUEST)  # behind whatever part of something stands before it
    steps: list[Step] = []
    for piece in pieces:
        if calm and steps and chance.random() < 0.6:
            steps[-1].pieces.append(piece)
            steps[-1].turns.append(chance.choice((0, 0, 1, 1, 2, 3, 4, 6)))
        else:
            steps.append(Step([piece]))
    if chance.random() < 0.15:
        steps.append(Step([None]))
    return steps


def _requests(chance: Random, *, calm: bool) -> list[bytes]:
    made: list[bytes] = []
    for _ in range(chance.choice((1, 1, 2, 2, 3, 4))):
        again = made and chance.random() < 0.3
        request = chance.choice(made) if again else make_request(chance, calm=calm)
        made += [request] * chance.choice((1, 2, 2, 3))
    return made


def _cut(piece: bytes, chance: Random) -> list[bytes]:
    if chance.random() < 0.7:
        return [piece]
    places = sorted({chance.randrange(1, len(piece)) for _ in range(chance.choice((1, 2)))})
    return [piece[start:end] for start, end in zip([0, *places], [*places, len(piece)], strict=True)]
