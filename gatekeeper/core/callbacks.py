"""Callback URLs: where sign-in may lead back to.

Knows paths as text alone and needs nothing beside the standard library: the app's half (`gatekeeper.integrations`)
reads and writes callback URLs by the same rules.
"""

import re
from urllib.parse import quote, unquote_to_bytes

MAX_CALLBACK = 2048
"""Characters of path and query that a callback URL may have; a longer one is cut to its path."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


def safe_callback(text: str | None, own_origin: str | None = None) -> str:
    """The path (and query) that a callback URL may lead to; "/" for everything that could leave this origin.

    `text` is the parameter after form decoding.  Accepted: a path with exactly one leading slash, or an absolute
    URL of `own_origin`, which is cut to its path.  Refused: a second slash or a blank after the first slash, also once
    dot segments are resolved (`/.//host` has the path `//host`), control bytes, a backslash anywhere, all of these
    also after one more decoding; and raw blanks.
    """
    if not text or len(text) > 2 * MAX_CALLBACK or not text.isascii():
        return "/"
    if own_origin is not None and text[: len(own_origin)].lower() == own_origin.lower():
        text = text[len(own_origin) :] or "/"
        if text[0] in "?#":
            text = "/" + text
    return text if is_local(text) else "/"


def is_on_origin(url: str, own_origin: str) -> bool:
    """Whether this absolute URL is the origin itself or has a path on it."""
    return (url + "/").lower().startswith(own_origin.lower() + "/")


def encode_uri_component(text: str) -> str:
    """JavaScript's encodeURIComponent."""
    return quote(text, safe="!'()*-._~")


def is_local(text: str) -> bool:
    """Whether a browser that follows this path stays on its origin, also once it is decoded or resolved."""
    with_dots = text.replace("%2e", ".").replace("%2E", ".")  # as browsers read a path
    for reading in (with_dots, decode_escapes(text)):
        if not reading.startswith("/") or "\\" in reading or _CONTROLS.search(reading):
            return False
        if any(path.startswith(("//", "/ ")) for path in (reading, _without_dots(reading))):
            return False
    return " " not in text


def decode_escapes(text: str) -> str:
    """The text with its percent-escapes decoded once, as latin-1, so that no byte is lost."""
    return unquote_to_bytes(text).decode("latin-1")


def _without_dots(text: str) -> str:
    """The path before a query or fragment with its dot segments resolved; empty segments stay, as in browsers."""
    kept: list[str] = []
    for segment in re.split("[?#]", text, maxsplit=1)[0].split("/")[1:]:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept)
