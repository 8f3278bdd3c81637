"""The forms that our own answers take: JSON, HTML pages, assets.

Knows nothing of decisions: `pages` says what to answer, this module how it looks on the wire.  Every answer but an
asset is `no-store`.  Templates are compiled and assets read once, at import.  No page has an inline script or style, so
the content security policy can refuse both; only pages with forms have a script at all.
"""

import hashlib
from functools import lru_cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import jinja2
import msgspec

from gatekeeper.core.model import Reason

Headers = tuple[tuple[bytes, bytes], ...]

STATIC_PREFIX = "/.gatekeeper/static/"
STYLESHEET = f"{STATIC_PREFIX}gatekeeper.css"
SCRIPT = f"{STATIC_PREFIX}gatekeeper.js"

NO_STORE = (b"Cache-Control", b"no-store")
NO_SNIFF = (b"X-Content-Type-Options", b"nosniff")
_REFERRER = (b"Referrer-Policy", b"same-origin")
_ORIGIN_ONLY = (b"Referrer-Policy", b"strict-origin")  # with no-referrer, browsers send `Origin: null` with forms
_JSON_TYPE = (b"Content-Type", b"application/json")
_HTML_TYPE = (b"Content-Type", b"text/html; charset=utf-8")
_PRINTABLE = "!#$%&'()*+,/:;=?@[]~"  # beside letters, digits and "_.-": what stands in a URL as it is

# What HTTPStatus calls otherwise, depending on Python's version (RFC 9110 §15.5.14, §15.5.21).
_PHRASES = {413: "Content Too Large", 422: "Unprocessable Content"}


class Answer(msgspec.Struct, frozen=True):
    """A finished answer, and why it is an error where it is one.  `render_answer` adds what depends on the request."""

    status: int
    headers: Headers
    body: bytes
    reason: Reason | None = None


def json_answer(status: int, document: object, headers: Headers = ()) -> Answer:
    """A JSON document; values that JSON does not know are written as text."""
    body = msgspec.json.encode(document, enc_hook=str)
    return Answer(status, (_JSON_TYPE, NO_STORE, NO_SNIFF, *headers), body)


def page_answer(
    status: int,
    template: str,
    values: dict[str, Any],
    headers: Headers = (),
    *,
    form_action: str = "",
    has_script: bool = False,
) -> Answer:
    """The HTML page that `template` makes of `values`.

    `form_action` is a further origin, beside the own one, that forms of the page may lead to: browsers hold the
    redirect after a form against the policy as well.  A page that `has_script` may run ours, and tells nobody more of
    its address than the origin: links of mails end there.
    """
    if has_script:
        values = values | {"script": _versioned[SCRIPT]}
    body = _templates.get_template(template).render(values).encode("utf-8", "replace")
    return Answer(status, (*page_headers(form_action, has_script=has_script), *headers), body)


def page_headers(form_action: str = "", *, has_script: bool = False) -> Headers:
    """What every HTML answer carries."""
    policy = content_security_policy(form_action, has_script=has_script)
    return (_HTML_TYPE, NO_STORE, policy, NO_SNIFF, _ORIGIN_ONLY if has_script else _REFERRER)


@lru_cache(maxsize=16)
def content_security_policy(form_action: str = "", *, has_script: bool = False) -> tuple[bytes, bytes]:
    """The policy of our pages: own stylesheets, no frames, forms to this origin and `form_action`; scripts, and what
    these ask for, only where there are any.
    """
    targets = f"'self' {form_action}".rstrip()
    scripts = "script-src 'self'; connect-src 'self'; " if has_script else ""
    policy = (
        f"default-src 'none'; style-src 'self'; img-src 'self' data:; {scripts}"
        f"form-action {targets}; base-uri 'none'; frame-ancestors 'none'"
    )
    return b"Content-Security-Policy", to_ascii(policy)


def render_answer(answer: Answer, *, keep_alive: bool, http_1_0: bool = False, is_head: bool = False) -> bytes:
    """The answer as it stands on the wire; to HEAD without its body."""
    lines = [b"HTTP/1.1 %d %b\r\n" % (answer.status, phrase(answer.status).encode())]
    lines += [b"%b: %b\r\n" % field for field in answer.headers]
    if answer.status not in (204, 304):
        lines.append(b"Content-Length: %d\r\n" % len(answer.body))
    if not keep_alive:
        lines.append(b"Connection: close\r\n")
    elif http_1_0:
        lines.append(b"Connection: keep-alive\r\n")
    lines.append(b"\r\n")
    if not is_head:
        lines.append(answer.body)
    return b"".join(lines)


def static(path: str, if_none_match: str | None = None) -> Answer | None:
    """The asset at this path of the own paths, 304 where the client has it already, or None for no asset."""
    asset = _assets.get(path)
    if asset is None:
        return None
    return Answer(304, asset.headers, b"") if is_known(dict(asset.headers)[b"ETag"], if_none_match) else asset


def is_known(etag: bytes, if_none_match: str | None) -> bool:
    """Whether the client has what this ETag names already, by its If-None-Match (RFC 9110 §13.1.2)."""
    tags = [] if if_none_match is None else [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag.decode() in tags or "*" in tags


def phrase(status: int) -> str:
    """The name of a status; "Error" for one that has none."""
    if status in _PHRASES:
        return _PHRASES[status]
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def to_ascii(value: str) -> bytes:
    """A header value; what is no printable ASCII is escaped as in a URL, so that it cannot end the line."""
    if value.isascii() and value.isprintable():
        return value.encode()
    return quote(value, safe=_PRINTABLE + ' "', errors="replace").encode()


def compile_templates(*folders: str) -> jinja2.Environment:
    """Templates of these folders, then of the gate's own pages, which lend their layout; autoescaped, compiled now.

    Raises jinja2.TemplateSyntaxError for a bad one.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, str(files("gatekeeper.server") / "templates")]),
        autoescape=True,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals["stylesheet"] = _versioned[STYLESHEET]  # pyright: ignore[reportArgumentType]  (typed as built-ins only)
    for name in environment.list_templates():
        environment.get_template(name)
    return environment


def asset(body: bytes, media_type: bytes, headers: Headers = ()) -> Answer:
    """What is served as it is, and may be kept for an hour."""
    etag = b'"' + hashlib.sha256(body).hexdigest()[:16].encode() + b'"'
    caching = (b"Cache-Control", b"public, max-age=3600")
    return Answer(200, ((b"Content-Type", media_type), caching, (b"ETag", etag), NO_SNIFF, *headers), body)


def _read_assets() -> dict[str, Answer]:
    folder = files("gatekeeper.server") / "static"
    return {
        STYLESHEET: asset((folder / "gatekeeper.css").read_bytes(), b"text/css; charset=utf-8"),
        SCRIPT: asset((folder / "gatekeeper.js").read_bytes(), b"text/javascript; charset=utf-8"),
    }


_assets = _read_assets()
# A page of another version must not be shown in the dress of this one.
_versioned = {path: f"{path}?v={hashlib.sha256(one.body).hexdigest()[:12]}" for path, one in _assets.items()}
_templates = compile_templates()
