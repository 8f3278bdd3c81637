"""Text made safe for a log line: no character of it can end the line, move a cursor or turn the reading direction.

Controls (C0, DEL, C1), Unicode's line and paragraph ends, bidi marks and other invisible format characters, lone
surrogates and noncharacters become `\\x1b` or `\\u202e`, as Python writes them.  The backslash itself is left alone:
paths of requests hold none, and messages stay readable.
"""

import re

_ELLIPSIS = "…"

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff0-\uffff"
    "\U000e0000-\U000e0fff]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(text: str) -> str:
    """The text with every unsafe character written as an escape; the same object where there is none."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_escaped, text)


def cut(text: str, limit: int) -> str:
    """The text, at most `limit` characters of it, with an ellipsis where something is missing."""
    return text if len(text) <= limit else text[: limit - 1] + _ELLIPSIS


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    short = _SHORT.get(character)
    if short is not None:
        return short
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x1_0000 else f"\\U{code:08x}"
