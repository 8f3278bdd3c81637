"""The lines of the log: access, audit and application lines, as JSON or for people.

Every text goes through the redactor and is escaped before it becomes part of a line.  A line ends with the only line
feed in it; for people, a traceback follows its line, each line of it marked and indented.
Times are RFC 3339 in UTC with milliseconds.
"""

import hashlib
import logging
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import msgspec

from gatekeeper.core.model import Reason, RequestFacts, SessionRecord
from gatekeeper.telemetry.escaping import ELLIPSIS, cut, escape
from gatekeeper.telemetry.redaction import REDACTED, Redactor

MAX_PATH = 1024
MAX_QUERY = 1024
MAX_PARAMETERS = 30
"""A client's path and query are cut before anything is looked for in them: to look costs time for each character."""

MAX_MESSAGE = 16_384
MAX_TRACE = 65_536

Finished = tuple[float, RequestFacts | None, str, Reason, SessionRecord | None, int, str, float, float | None, int, str]
"""A finished request: seconds since the epoch at its end, then the arguments of `Telemetry.record` in their order."""

_MEMO_LIMIT = 4096
_MEMO_LENGTH = 256
_NAMES_OF_SECRETS = frozenset({"token", "secret", "password", "cookie", "authorization", "signature", "key"})
_MICRO = 1_000_000
_TRACE_MARK = "  | "

_GREEN, _CYAN, _YELLOW, _RED, _DIM, _RESET = "\x1b[32m", "\x1b[36m", "\x1b[33m", "\x1b[31m", "\x1b[2m", "\x1b[0m"
_STATUS_COLORS = {1: _CYAN, 2: _GREEN, 3: _CYAN, 4: _YELLOW, 5: _RED}
_LEVEL_COLORS = {"WARNING": _YELLOW, "ERROR": _RED, "CRITICAL": _RED}


class AccessLine(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="access"):
    """One finished request.  `session` is the beginning of the token's SHA-256, `user` the user's id."""

    time: str
    request_id: str
    client: str
    method: str | None
    path: str | None
    query: str | None
    status: int
    reason: str
    rule: str
    session: str | None
    user: str | None
    seconds: float
    upstream_seconds: float | None
    bytes: int


class LogLine(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="log"):
    """One message of the application; `trace` is the traceback of the exception that it tells of."""

    time: str
    level: str
    logger: str
    message: str
    trace: str | None = None


class Lines:
    """Makes lines, as JSON or, with `human`, for people; `colors` only where a terminal shows them."""

    def __init__(self, redactor: Redactor, *, human: bool = False, colors: bool = False) -> None:
        self.redactor = redactor
        self._human = human
        self._colors = colors
        self._encoder = msgspec.json.Encoder()
        self._paths: dict[str, str] = {}
        self._queries: dict[str, str] = {}
        self._moment = (-1, "")

    def access(self, finished: list[Finished]) -> bytes:
        """The lines of these requests, in their order."""
        if self._human:
            return "".join([self._human_access(self._access_line(one)) for one in finished]).encode()
        return self._encoder.encode_lines([self._access_line(one) for one in finished])

    def audit(self, at: float, event: str, fields: Mapping[str, Any]) -> bytes:
        """The line of a security event.  Fields whose name is that of a secret are left out of it."""
        safe = {escape(name): self._safe_field(name, value) for name, value in fields.items()}
        if not self._human:
            line = {"kind": "audit", "time": self._time(at), "event": self.safe(event), **safe}
            return self._encoder.encode(line) + b"\n"
        told = " ".join(f"{name}={value}" for name, value in safe.items())
        return self._human_line(at, "AUDIT", f"{self.safe(event)} {told}".rstrip(), _CYAN)

    def message(self, record: logging.LogRecord) -> bytes:
        """The line of a log record, with the traceback that belongs to it."""
        message, trace = self.safe(_message_of(record)), self._trace_of(record)
        if not self._human:
            line = LogLine(self._time(record.created), record.levelname.lower(), escape(record.name), message, trace)
            return self._encoder.encode(line) + b"\n"
        marked = "".join(f"{_TRACE_MARK}{line}\n" for line in (trace or "").split("\n") if line)
        color = _LEVEL_COLORS.get(record.levelname, "")
        return self._human_line(record.created, record.levelname, message, color) + marked.encode()

    def safe(self, text: str, limit: int = MAX_MESSAGE) -> str:
        """A text as it may stand in a line."""
        return cut(escape(self.redactor.redact(text)), limit)

    def _access_line(self, finished: Finished) -> AccessLine:
        at, facts, rule, reason, record, status, request_id, seconds, upstream_seconds, sent_bytes, peer = finished
        session = user = method = path = query = None
        client = peer
        if record is not None:
            session, user = session_mark(record.session.token), escape(record.user.id)
        if facts is not None:
            client, method = facts.client_address, cut(escape(facts.method), 32)
            target = facts.target
            path = self._paths.get(target.path) or self._safe_path(target.path)
            if target.query is not None:
                query = self._queries.get(target.query) or self._safe_query(target.query)
        return AccessLine(
            self._time(at),
            escape(request_id),
            escape(client),
            method,
            path,
            query,
            status,
            reason,
            escape(rule),
            session,
            user,
            int(seconds * _MICRO) / _MICRO,  # a third of the time that `round` takes
            None if upstream_seconds is None else int(upstream_seconds * _MICRO) / _MICRO,
            sent_bytes,
        )

    def _human_access(self, line: AccessLine) -> str:
        asked = "-" if line.path is None else f"{line.path}?{line.query}" if line.query is not None else line.path
        took = f"{line.seconds * 1000:8.1f} ms"
        upstream = "" if line.upstream_seconds is None else f" app={line.upstream_seconds * 1000:.1f}ms"
        who = "" if line.user is None else f" user={line.user} session={line.session}"
        rule = f" rule={line.rule!r}" if line.rule else ""
        status = self._paint(str(line.status), _STATUS_COLORS.get(line.status // 100, ""))
        tail = f"client={line.client}{who}{rule}{upstream} bytes={line.bytes} id={line.request_id}"
        method = (line.method or "-").ljust(7)
        return f"{line.time[11:]} {status} {method} {took}  {line.reason:17} {asked}  {self._paint(tail, _DIM)}\n"

    def _human_line(self, at: float, label: str, text: str, color: str) -> bytes:
        return f"{self._time(at)[11:]} {self._paint(label.ljust(8), color)} {text}\n".encode()

    def _paint(self, text: str, color: str) -> str:
        return f"{color}{text}{_RESET}" if self._colors and color else text

    def _safe_path(self, path: str) -> str:
        return _remember(self._paths, path, self.safe(_cut_at("/", path, MAX_PATH)))

    def _safe_query(self, query: str) -> str:
        """The query, cut between parameters first: a part of a credential cannot be told from other text."""
        short = _cut_at("&", query, MAX_QUERY, MAX_PARAMETERS)
        return _remember(self._queries, query, escape(self.redactor.redact_query(short)))

    def _safe_field(self, name: str, value: Any) -> Any:
        if name.lower() in _NAMES_OF_SECRETS:
            return REDACTED
        if isinstance(value, list | tuple):
            return [self._safe_field(name, item) for item in cast("Sequence[Any]", value)]
        return value if value is None or isinstance(value, bool | int | float) else self.safe(str(value))

    def _trace_of(self, record: logging.LogRecord) -> str | None:
        """The traceback, its lines kept apart by line feeds (which JSON escapes)."""
        parts = traceback.format_exception(*record.exc_info) if record.exc_info and record.exc_info[1] else []
        text = "".join(parts) or record.exc_text or record.stack_info
        if not text:
            return None
        redacted = self.redactor.redact(text)
        return cut("\n".join(escape(line) for line in redacted.rstrip("\n").split("\n")), MAX_TRACE)

    def _time(self, at: float) -> str:
        milliseconds = int(at * 1000)
        known, text = self._moment  # one object, since several threads may log at the same time
        if milliseconds != known:
            second, rest = divmod(milliseconds, 1000)
            text = f"{_second_text(second)}.{rest:03d}Z"
            self._moment = (milliseconds, text)
        return text


@lru_cache(maxsize=8)
def _second_text(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def session_mark(token: str) -> str:
    """How logs call a session: the first 8 hex digits of its token's SHA-256."""
    mark = _marks.get(token)
    if mark is None:
        if len(_marks) >= _MEMO_LIMIT:
            _marks.clear()
        mark = _marks[token] = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return mark


_marks: dict[str, str] = {}


def _message_of(record: logging.LogRecord) -> str:
    """The message with its arguments; a call whose arguments do not fit must not fail what it tells of."""
    try:
        return record.getMessage()
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError):
        return f"{record.msg if isinstance(record.msg, str) else type(record.msg)} (its arguments do not fit)"


def _cut_at(mark: str, text: str, limit: int, parts: int | None = None) -> str:
    """The text up to the last `mark` among the first `limit` characters, and up to that many parts, if it is longer."""
    if len(text) <= limit and (parts is None or text.count(mark) < parts):
        return text
    kept = text[:limit].split(mark) if len(text) <= limit else text[:limit].split(mark)[:-1]
    return mark.join([*kept[:parts], ELLIPSIS])


def _remember(memo: dict[str, str], text: str, safe: str) -> str:
    if len(text) <= _MEMO_LENGTH:
        if len(memo) >= _MEMO_LIMIT:
            memo.clear()
        memo[text] = safe
    return safe
