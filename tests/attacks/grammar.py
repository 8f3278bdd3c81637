"""Random requests as an attacker may write them: by a grammar of spellings, and by mutation.

A `Random` decides everything, so a seed repeats a run; hypothesis may hand in one of its own.  `{live}`, `{dead}` and
`{case}` in pieces stand for a valid session cookie's value, one with a good signature for no session, and the case's
own mark.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.attacks.judge import Filler

VECTORS = Path(__file__).parent.parent / "vectors" / "http-attacks.json"
LONGEST_SEED = 3_000

METHODS = ["GET"] * 6 + ["POST"] * 4 + ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND"]
ODD_METHODS = [
    "get",
    "G ET",
    "GET\t",
    "FETCH",
    "PRI",
    "QUERY",
    "M-SEARCH",
    "",
    "GET\0",
    "POST\x0b",
    "SOURCE",
    "CONNECT",
]
SEGMENTS = [
    *(
        "dashboard",
        "dashboard",
        "settings",
        "x",
        "api",
        "Dashboard",
        "d%61shboard",
        "dashboar%64",
        "%64ashboard",
        "y.z",
    ),
    *("..", ".", "%2e%2e", ".%2E", "%2e", "...", "dashboard.", "dashboard%20", "dashboard;a=b", "dashboard%3Bx", ";x"),
    *(
        "%3b",
        "dashboard%2e",
        "",
        "*",
        "%2564ashboard",
        "%c0%ae%c0%ae",
        "%EF%BD%84ashboard",
        "@",
        "x:y",
        "~",
        "!$&'()+,=",
    ),
    *(".gatekeeper", "whoami", "clear-cookies", ".well-known", "gatekeeper", "static"),
]
ODD_SEGMENTS = [
    *("..;", "..;a=b", ".;", "..%3b", "..%20", "api%2f..%2fdashboard", "%2f", "%5c", "\\", "dashboard%00", "%", "%zz"),
    *("dashb\xf6ard", "a b", "a\tb", "%0d%0a", "%7f", "dashboard%09", "#", "[", '"', "<x>", "{}", "|", "^", "`"),
]
STARTS = [*["/"] * 14, "//", "/./", "http://h/", "HTTP://evil.test/", "https://h:443/", "http://h", "//h/"]
ODD_STARTS = ["", "\\", "/\\", "http://u@h/", "ftp://h/", "http:/h/", "http:///", "h:80", "@h/", " /", "/ ", "*"]
QUERIES = [*[""] * 6, "?", "?a=/dashboard", "?/../dashboard", "?x=%00&y=%0d%0a", "?callbackUrl=//evil", "??"]
ODD_QUERIES = ["#/x", "?\xff", "?a b", "?#"]
ODD_VERSIONS = [
    "HTTP/2.0",
    "HTTP/1.2",
    "http/1.1",
    "HTTP/1.1 ",
    "HTTP/01.1",
    "",
    "HTTP/1",
    "HTTP/0.9",
    "HTTPS/1.1",
    "HTTP/1.1\0",
]
LINE_ENDS = ["\n", "\r", "\r\r\n", "\n\r\n", " \r\n", "\r\n\t"]
HOSTS = ["Host: h"] * 8 + ["host:h", "Host: [::1]", "HOST: h:80", "Host:\th"]
ODD_HOSTS = [
    "Host: h\r\nHost: i",
    "Host: u@h",
    "Host: a,b",
    "Host:",
    "Host: h/x",
    "Host : h",
    "Host: h:x",
    "Host: %68",
    "",
]
SPOOFS = [
    *(
        "X-Auth-User-Id: forged",
        "x_auth_user_id: forged",
        "X-AUTH.STATUS: forged",
        "X-Auth~Email: forged",
        "X-Auth-: forged",
    ),
    *(
        "X-Auth-Status:\tforged",
        "X!Auth!Roles: forged",
        "x-middleware-subrequest: forged",
        "X_Middleware_Rewrite: forged",
    ),
    *("X-Forwarded-For: 6.6.6.6", "X_Forwarded_For: 6.6.6.6", "X-Real-IP: 6.6.6.6", "Forwarded: for=6.6.6.6"),
    *("X-Original-URL: /dashboard", "X-Forwarded-Host: evil.test", "X-Rewrite-URL: /dashboard", "Proxy: evil.test"),
    *("X-HTTP-Method-Override: PUT", "X: a\x80\xff", "X:", "X_Y.Z~: a", "X-Request-Id: forged"),
]
ODD_SPOOFS = [
    *(
        "X-Auth-User-Id : forged",
        " X-Auth-User-Id: forged",
        "X-Auth-User-Id",
        "X: a\r\n X-Auth-User-Id: forged",
        ": forged",
    ),
    *(
        "X: a\rX-Auth-User-Id: forged",
        "X: a\nX-Auth-User-Id: forged",
        "X\0-Auth-Email: forged",
        "X-Auth-\xfcser: forged",
    ),
    *(
        "X-Auth-User-Id:forged\x0b",
        "X-Auth(User)Id: forged",
        "X-Auth-User-Id\0: forged",
        "X: \x1b",
        "\x0bX-Auth-Email: forged",
    ),
]
CONNECTIONS = [
    *("Connection: close", "Connection: close", "Connection: keep-alive", "Connection: close, X-Auth-Status"),
    *(
        "Connection: x-forwarded-for, cookie, host",
        "Connection: content-length, transfer-encoding",
        "Connection: ,,x-case",
    ),
    *("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",),
    *(
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA",
        "Connection: upgrade\r\nUpgrade: websocket, h2c",
    ),
    *(
        "Upgrade: websocket",
        "TE: trailers",
        "Trailer: X-Auth-User-Id",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: close",
    ),
    *("Expect: 100-continue", "Expect: 200-ok", "HTTP2-Settings: AAA", "Connection: close, \xff"),
]
COOKIES = [
    *["better-auth.session_token={live}"] * 5,
    *("better-auth.session_token={dead}", "better-auth.session_token={dead}; better-auth.session_token={live}"),
    *(
        "better-auth.session_token={live}; better-auth.session_token={dead}",
        "$Version=1; better-auth.session_token={live}",
    ),
    *(
        'better-auth.session_token="{live}"',
        'a="; better-auth.session_token={live}',
        "better-auth.session_token={live}x",
    ),
    *(
        "better-auth.session_token=",
        "=; ;; better-auth.session_token = {live}",
        "better-auth.session_token={live}.{live}",
    ),
    *(
        "Better-Auth.session_token={live}",
        "__Secure-better-auth.session_token={live}",
        "x=\xff\xfe; y",
        "better-auth.session_token",
    ),
]
FETCHES = [
    *("Accept: text/html", "Accept: application/json", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: same-origin"),
    *("Origin: http://h", "Origin: null", "Origin: https://evil.test", "Access-Control-Request-Method: PUT"),
    *(
        "Referer: http://h/dashboard",
        "Authorization: Bearer {live}",
        "Accept: text/html;q=0.1, */*",
        "Range: bytes=0-1",
    ),
]
UPSTREAM_MODES = [
    *(
        "redirect-inside",
        "set-cookie",
        "truncated",
        "truncated-chunked",
        "extra-response",
        "cl-te",
        "early-103",
        "gzip",
    ),
    *("unasked-101", "until-close", "not-http", "bare-lf", "header-injection"),
]
BODIES = [
    *(("Content-Length: 5", b"hello"), ("Content-Length: 0", b""), ("Content-Length: 011", b"hello world")),
    *(("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"), ("Transfer-Encoding: Chunked", b"0\r\n\r\n")),
    ("Transfer-Encoding: chunked", b"5;x=y\r\nhello\r\n0\r\nX-Auth-User-Id: forged\r\n\r\n"),
    ("Transfer-Encoding: chunked", b"00000005\r\nhello\r\n000\r\n\r\n"),
    ("Content-Length: 36", b"GET /dashboard HTTP/1.1\r\nHost: h\r\n\r\n"),
]
ODD_FRAMINGS = [
    *("Content-Length: 5\r\nContent-Length: 5", "Content-Length: 5, 5", "Content-Length: +5", "Content-Length: 5 ", ""),
    *(
        "Content-Length: 0x5",
        "Content-Length: -1",
        "Content-Length:",
        "Content_Length: 5",
        "Content-Length: 5;",
        "Content-Length: 5",
    ),
    *("Content-Length: 00000000000000000005", "Content-Length: 18446744073709551621", "Transfer-Encoding: chunked"),
    *(
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding: \x0bchunked",
    ),
    *("Transfer-Encoding: chunked, chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: identity"),
    *("Transfer-Encoding: chunked;q=1", "Transfer_Encoding: chunked", "Transfer-Encoding: \xffchunked"),
    *(
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding:",
    ),
]
ODD_BODIES = [
    *(
        b"hello",
        b"hello world",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"",
    ),
    *(
        b"5_\r\nhello\r\n0\r\n\r\n",
        b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"5\r\nhelloXX0\r\n\r\n",
    ),
    *(
        b"5;\nx\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"-1\r\n\r\n",
        b"5\r\nhel",
        b"\r\n\r\n",
        b"\r\n5\r\nhello",
    ),
    *(b"0\r\n\r\nGET /dashboard HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /dashboard HTTP/1.1\r\nHost: h\r\n\r\n"),
]
PIECES = [
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"/", b"//", b"..", b"%2e", b"%2f", b"%5c", b";", b"?", b"#"),
    *(
        b"\xff",
        b"%",
        b"dashboard",
        b"HTTP/1.0",
        b"HTTP/2.0",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n",
        b"Host: x\r\n",
        b"\\",
        b",",
    ),
    *(
        b"X-Auth-User-Id: forged\r\n",
        b"x_auth.user_id: forged\r\n",
        b"Connection: close, X-Auth-Status\r\n",
        b"\r\n\r\n",
    ),
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\n",
        b"Expect: 100-continue\r\n",
        b"\x0b",
        b"\x7f",
        b"\x1b",
        b"_",
    ),
    *(
        b"Connection: upgrade\r\nUpgrade: websocket\r\n",
        b"GET /dashboard HTTP/1.1\r\nHost: h\r\n\r\n",
        b"..;/",
        b"%2e%2e%2f",
    ),
]


def seeds(host: str, upstream: str) -> list[bytes]:
    """The captured attack requests, filled in, their cookies as pieces."""
    fill = Filler(host, upstream, "-", "-", "nobody")
    found: list[bytes] = []
    for case in json.loads(VECTORS.read_text())["cases"]:
        for step in case.get("steps") or [case]:
            parts = step["raw"] if isinstance(step["raw"], list) else [step["raw"]]
            for part in parts:
                if isinstance(part, str) and "{{PAD" not in part:
                    text = re.sub(r"\{\{COOKIE\}\}|\{\{TOKEN\}\}\.\{\{SIG\}\}", "{live}", part)
                    found.append(fill.fill(re.sub(r"\{\{SIGNED[^}]*\}\}", "{dead}", text)).encode("latin-1"))
    return [_marked(seed) for seed in found if len(seed) < LONGEST_SEED]


def make_request(chance: Random, base: list[bytes], values: dict[bytes, bytes]) -> bytes:
    """One to three requests: from the grammar, or one of `base`; more often than not mutated.

    `values` are put in place of the placeholders, before mutation.
    """
    kind = chance.random()
    count = 1 if kind < 0.25 else chance.choice([1, 1, 1, 1, 2, 3])
    raw = chance.choice(base) if kind < 0.25 else b"".join(compose(chance) for _ in range(count))
    for name, value in values.items():
        raw = raw.replace(name, value)
    return mutate(raw, chance) if kind < 0.5 else raw


def compose(chance: Random) -> bytes:
    """A request of the grammar.  Six in ten are well-formed, so that they get past the parser to the rules."""
    odd = 0.0 if chance.random() < 0.6 else 0.3

    def pick(usual: Sequence[str], strange: Sequence[str]) -> str:
        return chance.choice(strange if chance.random() < odd else usual)

    method = pick(METHODS, ODD_METHODS)
    version = pick(("HTTP/1.1",) * 9 + ("HTTP/1.0",), ODD_VERSIONS)
    lines = ["X-Case: {case}"]
    body = b""
    if method in ("POST", "PUT", "PATCH") or chance.random() < 0.05:
        framing, body = chance.choice(BODIES)
        if chance.random() < odd:
            framing, body = chance.choice(ODD_FRAMINGS), chance.choice((body, *ODD_BODIES))
        lines.append(framing)
    lines += [pick(SPOOFS, ODD_SPOOFS) for _ in range(chance.choice((0, 0, 1, 1, 2)))]
    for pieces, often, before in ((COOKIES, 0.5, "Cookie: "), (CONNECTIONS, 0.4, ""), (FETCHES, 0.4, "")):
        lines += [before + chance.choice(pieces)] if chance.random() < often else []
    if chance.random() < 0.06:
        lines.append("X-Drill-Upstream: " + chance.choice(UPSTREAM_MODES))
    chance.shuffle(lines)
    lines[:0] = [f"{method} {make_target(chance, odd)} {version}", pick(HOSTS, ODD_HOSTS)]
    ends = [pick(("\r\n",), LINE_ENDS) if chance.random() < odd / 4 else "\r\n" for _ in lines]
    return "".join(line + end for line, end in zip(lines, ends, strict=True) if line).encode("latin-1") + b"\r\n" + body


def make_target(chance: Random, odd: float = 0.0) -> str:
    """A request target; each of its pieces is a strange one with the chance `odd`."""

    def pick(usual: Sequence[str], strange: Sequence[str]) -> str:
        return chance.choice(strange if chance.random() < odd else usual)

    segments = [pick(SEGMENTS, ODD_SEGMENTS) for _ in range(chance.choice((0, 1, 1, 2, 2, 3, 4)))]
    return pick(STARTS, ODD_STARTS) + "/".join(segments) + pick(QUERIES, ODD_QUERIES)


def mutate(raw: bytes, chance: Random) -> bytes:
    """The bytes with one to six pieces inserted, removed, repeated, or flipped."""
    text = bytearray(raw)
    for _ in range(chance.choice([1, 1, 1, 1, 2, 2, 3, 6])):
        at, kind = chance.randrange(len(text) + 1), chance.random()
        if kind < 0.45:
            text[at:at] = chance.choice(PIECES)
        elif kind < 0.65:
            del text[at : at + chance.randrange(1, 8)]
        elif kind < 0.85:
            start = chance.randrange(len(text) + 1)
            text[at:at] = text[start : start + chance.randrange(40)]
        elif at < len(text):
            text[at] ^= 1 << chance.randrange(8)
    return bytes(text)


def _marked(raw: bytes) -> bytes:
    line, end, rest = raw.partition(b"\r\n")
    return line + end + b"X-Case: {case}\r\n" + rest if end else raw
