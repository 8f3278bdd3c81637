"""Text made safe for a log line: no character of it can end the line, move a cursor or turn the reading direction.

Whatever Unicode does not count as printable becomes an escape as Python writes it, `\\x1b` or `\\u202e`: controls,
line ends, bidi marks and other invisible format characters, odd blanks, lone surrogates, and what is not assigned.
The backslash itself is left alone: paths of requests hold none, and messages stay readable.
"""

ELLIPSIS = "…"
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(text: str) -> str:
    """The text with every unprintable character written as an escape; the same object where there is none."""
    if text.isprintable():
        return text
    return "".join([character if character.isprintable() else _escaped(character) for character in text])


def cut(text: str, limit: int) -> str:
    """The text, at most `limit` characters of it, with an ellipsis where something is missing."""
    return text if len(text) <= limit else text[: limit - 1] + ELLIPSIS


def _escaped(character: str) -> str:
    short = _SHORT.get(character)
    if short is not None:
        return short
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x1_0000 else f"\\U{code:08x}"
