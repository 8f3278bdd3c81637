"""Request targets and the callback URLs made of them: the one place that normalises a path.

A target is parsed once, strictly, and everything that follows – routing, decision, logs, redirects, forwarding –
uses the parsed value.  What two backends might read differently is refused, not repaired:

* only printable ASCII; no backslash, `%5C`, raw `#`, broken `%` or escaped control byte in the path;
* a segment that is `.` or `..` only once `;…`, or blanks and dots after it, are taken off;
* more than a few segments of which nothing is left then: each doubles the readings of what follows;
* unreserved escapes are decoded once (so encoded dots are dots), every other escape stays as it came;
* slashes are merged, then dot segments resolved (RFC 3986 §5.2.4).

An encoded slash is not refused here, since a rule may let it pass: the target then carries a second reading.  Beside
a dot segment it is refused: of the backends that decode it, some resolve the dots and some do not.
The query is data: it is never decoded, resolved or matched.
"""

import re
from urllib.parse import urlsplit

from gatekeeper.core.callbacks import MAX_CALLBACK as MAX_CALLBACK
from gatekeeper.core.callbacks import decode_escapes, is_local
from gatekeeper.core.callbacks import encode_uri_component as encode_uri_component
from gatekeeper.core.callbacks import is_on_origin as is_on_origin
from gatekeeper.core.callbacks import safe_callback as safe_callback
from gatekeeper.core.model import Reason, Target

MAX_DROPPABLE = 8
"""Segments of a path that some backends drop, like `;x` and `...`; a path with more of them is refused."""

_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_TARGET = re.compile(r"[!-~]+")
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?")
_ESCAPE = re.compile(r"%(..)?", re.DOTALL)
_ABSOLUTE_FORM = re.compile(r"https?://([^/?#]*)([^#]*)", re.IGNORECASE | re.ASCII)
_DOT_SEGMENT = re.compile(r"/\.{1,2}(?:/|$)")
_HOST = re.compile(r"[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\]")
_PORT = re.compile(r"[0-9]{0,5}")


def parse_target(method: str, raw: str) -> Target | Reason:
    """The target of a request line in origin-form or absolute-form (RFC 9112 §3.2), or why it is refused.

    The authority of an absolute-form target is dropped.  `OPTIONS *` gives a target whose path is `*`: only a rule
    for the whole site covers it.
    """
    if raw == "*":
        return Target("*", None, (), ()) if method == "OPTIONS" else Reason.BAD_TARGET
    if not raw.startswith("/"):
        absolute = _ABSOLUTE_FORM.fullmatch(raw)
        if absolute is None or not is_valid_host(absolute[1]):
            return Reason.BAD_TARGET
        raw = absolute[2] if absolute[2].startswith("/") else "/" + absolute[2]
    path, mark, query = raw.partition("?")
    if _TARGET.fullmatch(raw) is None or "#" in raw:
        return Reason.BAD_TARGET
    return parse_path(path, query if mark else None)


def parse_path(path: str, query: str | None = None) -> Target | Reason:
    """The target with this raw path, or BAD_TARGET.  `path` must be printable ASCII that begins with a slash."""
    if _PLAIN_PATH.fullmatch(path) is not None:  # nothing to decode, merge, resolve or doubt: the common case
        names = path.strip("/").split("/")
        folded = tuple([name.rstrip(".").lower() for name in names])
        return Target(path, query, tuple(names), folded)
    canonical = _canonical(path)
    if canonical is None:
        return Reason.BAD_TARGET
    reading = None
    if "%2f" in canonical.lower():
        slashed = re.sub("%2f", "/", canonical, flags=re.IGNORECASE)
        as_slash = None if _DOT_SEGMENT.search(slashed) else _canonical(slashed)
        if as_slash is None:
            return Reason.BAD_TARGET
        reading = _target(as_slash, query, None)
    target = _target(canonical, query, reading)
    both = (target,) if reading is None else (target, reading)
    if any(len(one.segments) - len(one.folded) > MAX_DROPPABLE for one in both):
        return Reason.BAD_TARGET
    return target


def fold_segment(segment: str) -> str:
    """How the most lenient backends read a decoded segment: no `;…`, no trailing dots or blanks, ASCII lower-case."""
    return ascii_lower(segment.partition(";")[0].rstrip(". \t"))


def readings_of(segment: str) -> tuple[str, ...]:
    """How backends may read a segment of a canonical path, decoded: with `;…`, trailing dots and blanks, or without.

    Some cut off `;…` before decoding, where `%3B` is data, and some after it.  Letters stay as they are.  The most
    lenient reading comes last; it is empty where some backends drop the segment.
    """
    whole = decode_escapes(segment)
    cuts = (whole, decode_escapes(segment.partition(";")[0]), whole.partition(";")[0])
    return tuple(dict.fromkeys(reading for cut in cuts for reading in (cut, cut.rstrip(". \t"))))


def ascii_lower(text: str) -> str:
    return text.lower() if text.isascii() else "".join(c.lower() if c < "\x80" else c for c in text)


def callback_for(target: Target) -> str:
    """Where sign-in should lead back to: path and query, or the path alone where the query is too long or odd."""
    if target.query is not None and len(target.path) + len(target.query) < MAX_CALLBACK:
        both = target.path_and_query
        if is_local(both):
            return both
    return target.path if len(target.path) <= MAX_CALLBACK and is_local(target.path) else "/"


def callback_from_referer(referer: str | None, own_origin: str) -> str:
    """The path and query of a Referer on `own_origin`, canonical; "/" for any other (RFC 9110 §10.1.3)."""
    if referer is None or not is_on_origin(referer, own_origin):
        return "/"
    target = parse_target("GET", (referer[len(own_origin) :] or "/").partition("#")[0])
    return callback_for(target) if isinstance(target, Target) else "/"


def is_valid_host(host: str) -> bool:
    """Whether this is a host with an optional port: a name, an IPv4 address, or an IPv6 address in brackets.

    Narrower than RFC 3986 §3.2.2: no escapes and no sub-delimiters, which no real host has, and lists are made of.
    """
    name, bracket, rest = host.partition("]")
    if bracket:
        name, port = name + bracket, rest
    else:
        name, colon, number = host.partition(":")
        port = colon + number
    if port and not port.startswith(":"):
        return False
    return _HOST.fullmatch(name) is not None and _PORT.fullmatch(port[1:]) is not None


def origin_of(url: str) -> str | None:
    """`scheme://host[:port]` in lower-case without a default port, or None for what is no http(s) URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    scheme, host = parts.scheme.lower(), parts.hostname
    if scheme not in ("http", "https") or not host:
        return None
    literal = f"[{host}]" if ":" in host else host
    return f"{scheme}://{literal}" if port in (None, _DEFAULT_PORTS[scheme]) else f"{scheme}://{literal}:{port}"


_DEFAULT_PORTS = {"http": 80, "https": 443}


def _canonical(path: str) -> str | None:
    """Unreserved escapes decoded, slashes merged, dot segments resolved; None where readings could differ."""
    if "\\" in path:
        return None
    decoded = _decode_unreserved(path)
    if decoded is None:
        return None
    kept: list[str] = []
    segments = [segment for segment in decoded.split("/") if segment]
    for segment in segments:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment != ".":
            if _hides_dots(segment):
                return None
            kept.append(segment)
    ends_open = decoded.endswith("/") or (bool(segments) and segments[-1] in (".", ".."))
    return "/" + "/".join(kept) + ("/" if kept and ends_open else "")


def _decode_unreserved(path: str) -> str | None:
    """The path with escapes of unreserved characters decoded; None for a bad escape, `%5C` or a control byte."""
    if "%" not in path:
        return path
    pieces: list[str] = []
    end = 0
    for escape in _ESCAPE.finditer(path):
        digits = escape[1]
        if digits is None or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
            return None
        character = chr(int(digits, 16))
        if character < " " or character in "\x7f\\":
            return None
        pieces.append(path[end : escape.start()])
        pieces.append(character if character in _UNRESERVED else escape[0])
        end = escape.end()
    return "".join(pieces) + path[end:]


def _hides_dots(segment: str) -> bool:
    """Whether a lenient backend may read this segment as `.` or `..`: `..;x`, `..%3B`, `..%20`, `..%20.`."""
    read = decode_escapes(segment).partition(";")[0]
    return read in (".", "..") or (" " in read and "." in read and not read.strip(". "))


def _target(path: str, query: str | None, reading: Target | None) -> Target:
    segments = tuple(decode_escapes(segment) for segment in path.split("/") if segment)
    folded = tuple(name for name in map(fold_segment, segments) if name)
    return Target(path, query, segments, folded, reading)
