"""Sends an attack vector to a gate and says which of its expectations do not hold.

The vocabulary is that of the vectors' own header (`fields` and `expect` in `http-attacks.json`).
"""

import asyncio
import base64
import gzip
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, unquote_to_bytes, urlsplit

from tests.server.upstreams import Received, RecordingUpstream, fold

PROTECTED = ("/dashboard", "/settings")


@dataclass
class Response:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    complete: bool
    head: str

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


@dataclass
class Outcome:
    responses: list[Response]
    closed: bool
    raw: bytes
    upstream: list[Received] = field(default_factory=list)

    @property
    def first(self) -> Response | None:
        return self.responses[0] if self.responses else None


class Filler:
    """Replaces the vectors' placeholders."""

    def __init__(self, host: str, upstream: str, secret: str, token: str, user_id: str) -> None:
        self.secret = secret
        signature = self.sign(token, secret)
        self.simple = {
            "{{HOST}}": host,
            "{{UPSTREAM}}": upstream,
            "{{COOKIE}}": quote(f"{token}.{signature}", safe=""),
            "{{TOKEN}}": token,
            "{{SIG}}": signature,
            "{{USER_ID}}": user_id,
        }

    @staticmethod
    def sign(token: str, secret: str) -> str:
        return base64.b64encode(hmac.digest(secret.encode(), token.encode(), "sha256")).decode()

    def fill(self, text: str) -> str:
        for name, value in self.simple.items():
            text = text.replace(name, value)
        text = re.sub(r"\{\{PAD:(\d+)\}\}", lambda m: "a" * int(m[1]), text)
        text = re.sub(
            r"\{\{REPEAT:(\d+):(.*?)\}\}",
            lambda m: "".join(m[2].replace("#", str(i)).replace("\\r\\n", "\r\n") for i in range(int(m[1]))),
            text,
            flags=re.DOTALL,
        )
        text = re.sub(
            r"\{\{SIGNED_WITH:([^:}]*):([^}]*)\}\}",
            lambda m: quote(f"{m[2]}.{self.sign(m[2], m[1])}", safe=""),
            text,
        )
        return re.sub(
            r"\{\{SIGNED:([^}]*)\}\}", lambda m: quote(f"{m[1]}.{self.sign(m[1], self.secret)}", safe=""), text
        )


async def send(
    port: int, parts: list[str | int], *, answers: int, wait_s: float, fill: Filler, method: str
) -> tuple[list[Response], bool, bytes]:
    """Send the parts on one connection and read until `answers` final responses, the end, or the time is over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    closed = False
    try:
        for part in parts:
            if isinstance(part, int):
                await asyncio.sleep(part / 1000)
                continue
            try:
                writer.write(fill.fill(part).encode("latin-1"))
                await writer.drain()
            except ConnectionError:
                closed = True
        deadline = asyncio.get_running_loop().time() + wait_s
        while len(parse_responses(received, method)[0]) < answers or not closed:
            left = deadline - asyncio.get_running_loop().time()
            enough = len([r for r in parse_responses(received, method)[0] if r.complete]) >= answers
            try:
                data = await asyncio.wait_for(reader.read(65536), min(left, 0.25) if enough else left)
            except TimeoutError:
                break
            except ConnectionError:
                data = b""
            if not data:
                closed = True
                break
            received += data
    finally:
        writer.close()
    return parse_responses(received, method)[0], closed, received


def parse_responses(data: bytes, method: str) -> tuple[list[Response], bytes]:
    responses: list[Response] = []
    while b"\r\n\r\n" in data:
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = [(n.strip(), v.strip()) for n, _, v in (line.partition(":") for line in lines[1:])]
        if 100 <= status < 200:
            data = rest
            continue
        fields = {name.lower(): value for name, value in headers}
        body, complete = b"", True
        if method == "HEAD" or status in (204, 304):
            pass
        elif "chunked" in fields.get("transfer-encoding", ""):
            body, rest, complete = unchunk(rest)
        elif "content-length" in fields:
            length = int(fields["content-length"])
            body, rest = rest[:length], rest[length:]
            complete = len(body) == length
        else:
            body, rest = rest, b""
        responses.append(Response(status, headers, body, complete, head.decode("latin-1")))
        data = rest
        if not complete:
            break
    return responses, data


def unchunk(data: bytes) -> tuple[bytes, bytes, bool]:
    body = b""
    while True:
        line, mark, rest = data.partition(b"\r\n")
        if not mark:
            return body, b"", False
        size = int(line.split(b";")[0], 16)
        if size == 0:
            _, mark, rest = rest.partition(b"\r\n")
            return body, rest, bool(mark)
        if len(rest) < size + 2:
            return body + rest[:size], b"", False
        body += rest[:size]
        data = rest[size + 2 :]


def failures(expect: dict[str, object], outcome: Outcome, fill: Filler, readings: list[str]) -> list[str]:
    """What of `expect` does not hold; empty when all does."""
    bad: list[str] = []
    for key, wanted in expect.items():
        if key == "or":
            tries = [failures(option, outcome, fill, readings) for option in wanted]
            if all(tries):
                bad.append(f"none of the alternatives: {tries}")
        elif not CHECKS[key](wanted, outcome, fill, readings):
            bad.append(f"{key}={wanted!r}")
    return bad


def reads_as(target: str, readings: list[str], prefixes: tuple[str, ...] = PROTECTED) -> bool:
    """Whether some plausible backend reads this target as one of the protected paths."""
    raw = target.encode("latin-1").split(b"?")[0]
    if b"://" in raw[:10]:
        raw = b"/" + raw.split(b"://", 1)[1].partition(b"/")[2]
    forms = {raw, unquote_to_bytes(raw)}
    for reading in readings:
        for form in tuple(forms):
            if reading == "backslash":
                forms.add(form.replace(b"\\", b"/"))
            if reading == "nul":
                forms.add(form.split(b"\x00")[0])
            if reading == "trim":
                forms.add(form.strip(b" \t\r\n\x00."))
            if reading == "matrix":
                forms.add(re.sub(rb";[^/]*", b"", form))
    resolved = set()
    for form in forms:
        resolved.add(form)
        kept: list[bytes] = []
        for segment in form.split(b"/"):
            if segment == b"..":
                kept = kept[:-1]
            elif segment not in (b"", b"."):
                kept.append(segment)
        resolved.add(b"/" + b"/".join(kept))
    wanted = [prefix.encode() for prefix in prefixes]
    return any(form == p or form.startswith(p + b"/") for form in resolved for p in wanted)


def _status_is(status: int | None, allowed: list[object]) -> bool:
    if status is None:
        return "none" in allowed
    return status in allowed or f"{status // 100}xx" in allowed


def _is_local(url: str, fill: Filler) -> bool:
    own = "http://" + fill.simple["{{HOST}}"]
    if url == own or url.startswith(own + "/"):
        return True
    return bool(re.match(r"/(?![/\\])", url)) and "\\" not in url and not re.search(r"[\x00-\x20]", url)


def _location(outcome: Outcome) -> str | None:
    values = outcome.first.values("location") if outcome.first else []
    return values[0] if values else None


def _callback(outcome: Outcome) -> str | None:
    location = _location(outcome)
    values = parse_qs(urlsplit(location).query).get("callbackUrl") if location else None
    return values[0] if values else None


def _not_reached(wanted: object, outcome: Outcome, fill: Filler, readings: list[str]) -> bool:
    return not any(reads_as(r.target, readings) for r in outcome.upstream)


def _denied(wanted: object, outcome: Outcome, fill: Filler, readings: list[str]) -> bool:
    if not _not_reached(wanted, outcome, fill, readings):
        return False
    if outcome.first is None:
        return True
    if 300 <= outcome.first.status < 400:
        return _is_local(_location(outcome) or "//", fill)
    return 400 <= outcome.first.status < 500 or outcome.first.status in (501, 505)


def _count(wanted: object, number: int) -> bool:
    if isinstance(wanted, dict):
        return wanted.get("min", 0) <= number <= wanted.get("max", 10**9)
    return number in wanted if isinstance(wanted, list) else number == wanted


def _upstream_text(outcome: Outcome) -> str:
    return "".join((r.head + r.trailers).decode("latin-1") for r in outcome.upstream)


def _all_in(values: list[str], wanted: list[str]) -> bool:
    lowered = [re.sub(r"%[0-9a-fA-F]{2}", lambda m: m[0].lower(), w) for w in wanted]
    return all(re.sub(r"%[0-9a-fA-F]{2}", lambda m: m[0].lower(), v) in lowered for v in values)


CHECKS = {
    "denied": _denied,
    "protected_not_reached": _not_reached,
    "status": lambda w, o, f, r: _status_is(o.first.status if o.first else None, w),
    "status_not": lambda w, o, f, r: o.first is None or not _status_is(o.first.status, w),
    "must_not_reach_upstream": lambda w, o, f, r: not o.upstream,
    "upstream_request_count": lambda w, o, f, r: _count(w, len(o.upstream)),
    "upstream_must_not_see_path": lambda w, o, f, r: not any(reads_as(u.target, r, tuple(w)) for u in o.upstream),
    "upstream_must_not_see_header": lambda w, o, f, r: (
        not any(fold(name) in [fold(x) for x in w] for u in o.upstream for name, _ in u.headers)
    ),
    "upstream_must_not_see_text": lambda w, o, f, r: not any(text in _upstream_text(o) for text in w),
    "upstream_header_equals": lambda w, o, f, r: (
        bool(o.upstream)
        and all(u.values(name) == [f.fill(value)] for u in o.upstream[-1:] for name, value in w.items())
    ),
    "upstream_target_in": lambda w, o, f, r: _all_in([u.target for u in o.upstream], [f.fill(x) for x in w]),
    "upstream_method_in": lambda w, o, f, r: _all_in([u.method for u in o.upstream], w),
    "upstream_body_in": lambda w, o, f, r: _all_in([u.body.decode("latin-1") for u in o.upstream], w),
    "upstream_host_in": lambda w, o, f, r: _all_in(
        [v for u in o.upstream for v in u.values("host")], [f.fill(x) for x in w]
    ),
    "upstream_jwt_sane": lambda w, o, f, r: (
        not any(re.fullmatch(r"[\w-]+\.[\w-]+\.", value) for u in o.upstream for _, value in u.headers)
    ),
    "redirect_to_prefix": lambda w, o, f, r: (
        o.first is not None
        and o.first.status in (302, 303, 307)
        and (_location(o) or "").removeprefix("http://" + f.simple["{{HOST}}"]).startswith(w)
    ),
    "callback_local": lambda w, o, f, r: _callback(o) is None or _is_local(_callback(o) or "", f),
    "callback_in": lambda w, o, f, r: _callback(o) in w,
    "location_local": lambda w, o, f, r: _location(o) is None or _is_local(_location(o) or "", f),
    "connection_closed": lambda w, o, f, r: o.closed is w,
    "response_count": lambda w, o, f, r: _count(w, len(o.responses)),
    "statuses_in": lambda w, o, f, r: all(_status_is(x.status, w) for x in o.responses),
    "last_status": lambda w, o, f, r: bool(o.responses) and _status_is(o.responses[-1].status, w),
    "response_must_not_contain": lambda w, o, f, r: not any(text.encode() in o.raw for text in w),
    "response_head_must_not_contain": lambda w, o, f, r: not any(text in x.head for x in o.responses for text in w),
    "response_header_absent": lambda w, o, f, r: o.first is None or not any(o.first.values(name) for name in w),
    "response_header_matches": lambda w, o, f, r: (
        o.first is not None
        and all(re.search(pattern, ", ".join(o.first.values(n)), re.IGNORECASE) for n, pattern in w.items())
    ),
    "response_header_count": lambda w, o, f, r: (
        o.first is not None and all(len(o.first.values(name)) == number for name, number in w.items())
    ),
    "response_incomplete": lambda w, o, f, r: o.first is None or not o.first.complete or o.first.status >= 500,
    "response_gzip_text": lambda w, o, f, r: (
        o.first is not None
        and w.encode()
        == (gzip.decompress(o.first.body) if o.first.values("content-encoding") == ["gzip"] else o.first.body)
    ),
}


async def run_case(case: dict[str, object], port: int, upstream: RecordingUpstream, fill: Filler) -> list[str]:
    """Send a case, ask for a harmless page afterwards, and return what did not hold."""
    upstream.requests.clear()
    steps = case.get("steps") or [{"raw": case["raw"]}]
    outcome = None
    for step in steps:
        parts = step["raw"] if isinstance(step["raw"], list) else [step["raw"]]
        method = "HEAD" if str(parts[0]).startswith("HEAD ") else "GET"
        answers, wait_s = case.get("answers", 1), case.get("wait_ms", 1500) / 1000
        responses, closed, raw = await send(port, parts, answers=answers, wait_s=wait_s, fill=fill, method=method)
        outcome = Outcome(responses, closed, raw)
    assert outcome is not None
    outcome.upstream = list(upstream.requests)
    bad = failures(case["expect"], outcome, fill, case.get("readings", []))
    bad += [f"malformed upstream request: {r.trouble}" for r in outcome.upstream if r.trouble]
    bad += [f"own error {r.status}" for r in outcome.responses if r.status == 500]
    stranger = "GET /api/stranger HTTP/1.1\r\nHost: {{HOST}}\r\nConnection: close\r\n\r\n"
    responses, _, _ = await send(port, [stranger], answers=1, wait_s=3.0, fill=fill, method="GET")
    if not responses or responses[0].status != 200 or b"/api/stranger" not in responses[0].body:
        bad.append("a stranger's request afterwards was not answered")
    digest = hashlib.sha256(fill.simple["{{COOKIE}}"].encode()).hexdigest()  # says which outcome, never the cookie
    return [f"{problem} (got {[r.status for r in outcome.responses]}, cookie {digest[:6]})" for problem in bad]
