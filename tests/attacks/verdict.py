"""What must hold of one batch of attacks: of each request that reached the app, and of each client's responses.

Nothing here knows a gate or a socket: bytes and counts in, troubles out.
"""

import base64
import hmac
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from tests.attacks.strict import Stream, count_requests, is_under, plausible_paths, read_responses, request_trouble
from tests.server.gates import COOKIE, SECRET
from tests.server.upstreams import Received

PROTECTED = (b"/dashboard", b"/settings")
TOKEN, USER_ID = "ArenaArenaArenaArenaArenaArena01", "arena-user"
_MARK = re.compile(rb"case-[0-9a-f]{16}")
_NAMESPACES = ("x-auth-", "x-middleware-")
_FORWARDING = re.compile(r"forwarded|x-forwarded-.*|x-real-ip|x-original-.*|x-rewrite-url|proxy")
_OWN_FORWARDING = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "forwarded"}


@dataclass
class Case:
    """What one client sends on its connection, in these pieces; `mark` is a header value that no other case sends."""

    pieces: list[bytes]
    mark: bytes
    hangs_up: bool = False

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)


@dataclass
class Trouble:
    """A broken promise, and the case that it is known to belong to; `may_pass`: something is only missing so far."""

    text: str
    case: Case | None = None
    may_pass: bool = False


def judge_upstream(
    requests: Sequence[Received], admitted: Counter[tuple[str, str]], *, exact: bool, broken: int = 0
) -> list[Trouble]:
    """What is wrong with the requests that reached the app, given the admitted ones; without `exact` some of these
    need not have arrived, since their clients have left.  Nor need `broken` of them, whose bodies broke their framing.
    """
    found = [Trouble(f"{text}: {one.head!r}") for one in requests for text in troubles_of(one)]
    arrived = Counter((one.method, one.target) for one in requests)
    if arrived - admitted:
        found.append(Trouble(f"arrived without admission: {dict(arrived - admitted)}"))
    if exact and (admitted - arrived).total() > broken:
        found.append(Trouble(f"admitted, but never arrived: {dict(admitted - arrived)}", may_pass=True))
    return found


def troubles_of(request: Received) -> list[str]:
    """Which promises this one request to the app breaks."""
    if request.trouble == "unfinished head":
        return ["an unfinished head"]
    checks: list[Callable[[Received], str | None]] = [
        lambda one: one.trouble,
        lambda one: request_trouble(one.head),
        lambda one: f"trailers {one.trailers!r}" if one.trailers else None,
        _identity_trouble,
        _forwarding_trouble,
    ]
    return [text for text in (check(request) for check in checks) if text is not None]


def judge_client(case: Case, received: bytes, *, closed: bool, others: Sequence[Case]) -> list[Trouble]:
    """What is wrong with what one client got."""
    stream = read_responses(received, may_be_head=b"HEAD" in case.raw)
    texts = [f"{stream.trouble} in {received!r}"] if stream.trouble is not None else []
    texts += [f"answered {status}" for status in stream.statuses if status == 500]
    possible = case.raw.count(b"\r\n\r\n") + 1  # each head ends so; the last response may refuse what is no request
    if len(stream.answers) > possible:
        texts.append(f"{len(stream.answers)} responses, {possible} possible")
    foreign = {other.mark for other in others if other is not case}.intersection(_MARK.findall(received))
    texts += [f"another client's answer: {received!r}" for _ in foreign]
    missing = [] if closed else _missing(stream, case)
    return [Trouble(text, case) for text in texts] + [Trouble(text, case, may_pass=True) for text in missing]


def _missing(stream: Stream, case: Case) -> list[str]:
    """What a client still waits for on its open connection."""
    found: list[str] = []
    if any(not answer.complete for answer in stream.answers):
        found.append("an unfinished response on an open connection")
    complete = count_requests(case.raw)
    if len(stream.answers) < complete and not any(answer.closes for answer in stream.answers):
        found.append(f"{complete} requests, {len(stream.answers)} answers, and silence")
    return found


def proves_session(header: str) -> bool:
    """Whether the first session cookie of this header is the live token with its true signature, however spelled."""
    pairs = [(name.strip(), value.strip()) for name, _, value in (part.partition("=") for part in header.split(";"))]
    first = next((value for name, value in pairs if name == COOKIE), "")
    token, _, signature = unquote(first[1:-1] if first.startswith('"') else first).rpartition(".")
    try:
        mac = base64.b64decode(signature, validate=True)
    except ValueError:
        return False
    return token == TOKEN and mac == hmac.digest(SECRET.encode(), TOKEN.encode(), "sha256")


def _identity_trouble(request: Received) -> str | None:
    ours = [(name, value) for name, value in request.headers if _fold(name).startswith(_NAMESPACES)]
    proved = any(proves_session(value) for name, value in request.headers if name.lower() == "cookie")
    is_protected = is_under(plausible_paths(request.target), PROTECTED)
    if ours == [("X-Auth-Status", "anonymous")]:
        return "reached a protected path without a session" if is_protected else None
    fields = dict(ours)
    if not proved or len(fields) != len(ours) or any(not name.startswith("X-Auth-") for name in fields):
        return "identity headers that its cookie does not prove"
    is_known = fields.get("X-Auth-Status") == "authenticated" and fields.get("X-Auth-User-Id") == USER_ID
    return None if is_known else "identity headers of nobody"


def _forwarding_trouble(request: Received) -> str | None:
    names = [_fold(name) for name, _ in request.headers if _FORWARDING.fullmatch(_fold(name))]
    if sorted(names) != sorted(_OWN_FORWARDING):
        return f"forwarding headers {names}"
    return None if request.values("x-forwarded-for") == ["127.0.0.1"] else "another client's address"


def _fold(name: str) -> str:
    return re.sub("[^a-z0-9]", "-", name.lower())
