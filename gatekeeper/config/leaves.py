"""Single values: how each kind is written, read, called and hinted at.

Knows kinds, no setting.  What a file holds is read here too.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from gatekeeper.config.schema import Duration, Rate, Size
from gatekeeper.config.tree import MappingNode, Node, Scalar, SequenceNode
from gatekeeper.config.units import parse_duration, parse_rate, parse_size

MISSING = object()
"""What decoding yields where nothing could be read; the problem is noted."""

MAX_FILE_BYTES = 64 * 1024
"""The longest content of `{file: path}`."""

_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})
_NAMES: Mapping[Any, str] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    Duration: "a duration",
    Size: "a size",
    Rate: "a rate",
}
_HINTS: Mapping[Any, str] = {
    Duration: "write it with its unit: 250ms, 5s, 5m, 1h, 2d",
    Size: "write it like 4096, 64KiB or 10MB",
    Rate: "write it like 5/1m",
}


def read_leaf(kind: Any, node: Node) -> Any:
    """The value of this kind at this node, or MISSING."""
    if not isinstance(node, Scalar) or node.kind == "null":
        return MISSING
    text = node.text
    if get_origin(kind) is Literal:
        return text if text in get_args(kind) else MISSING
    if kind is str:
        return text
    if kind is bool:
        word = text.lower()
        return MISSING if word not in _TRUE | _FALSE else word in _TRUE
    if kind is int:
        return int(text) if text.isdecimal() and text.isascii() and len(text) < 16 else MISSING
    return _read_unit(kind, text)


def expected(kind: Any) -> str:
    """What this kind is called in a message."""
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    return _NAMES.get(kind, "a value")


def hint_for(kind: Any, node: Node) -> str | None:
    """How to write this kind; of words the one that was probably meant."""
    if get_origin(kind) is not Literal:
        return _HINTS.get(kind)
    close = closest(node.text, get_args(kind)) if isinstance(node, Scalar) else None
    return f"did you mean {close}?" if close else None


def describe(node: Node, *, is_sensitive: bool) -> str:
    """What stands there; a sensitive text, and what a variable or file holds, without its content."""
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    if node.kind == "null":
        return "nothing"
    if node.kind == "filled":
        return "what the variable or file holds"
    return "a single value" if is_sensitive else repr(node.text) if len(node.text) <= 40 else "this text"


def closest(text: str, words: Iterable[str]) -> str | None:
    """The word that was probably meant."""
    close = difflib.get_close_matches(text, [str(word) for word in words], n=1, cutoff=0.6)
    return close[0] if close else None


def is_file_reference(node: Node) -> bool:
    """Whether this is `{file: path}`."""
    return isinstance(node, MappingNode) and list(node.entries) == ["file"]


def read_file(path: Path) -> str:
    """What the file holds, without the line end at its end.  Raises OSError and ValueError, with why in plain words."""
    if "\0" in str(path):
        raise ValueError("no path holds a NUL")
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"it is longer than {MAX_FILE_BYTES // 1024} KiB")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error
    return text.removesuffix("\n").removesuffix("\r")


def _read_unit(kind: Any, text: str) -> Any:
    value: Any = None
    if kind is Duration:
        value = parse_duration(text)
    elif kind is Size:
        value = parse_size(text)
    elif kind is Rate:
        parsed = parse_rate(text)
        value = None if parsed is None else Rate(parsed[0], Duration(parsed[1]))
    return MISSING if value is None else value
