"""A tree to settings: leaf by leaf, so that every fault is found in one go.

The shape comes from `schema`; this module knows kinds of types, no setting by name.  A leaf that cannot be read is a
problem and counts as not given; a structure that lacks something required cannot be made and is None.
"""

import difflib
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from gatekeeper.config.problems import Problem
from gatekeeper.config.schema import SHORT_FORMS, Duration, Rate, Size
from gatekeeper.config.tree import Entry, MappingNode, Node, Place, Scalar, SequenceNode
from gatekeeper.config.units import parse_duration, parse_rate, parse_size

MISSING = object()
"""What decoding yields where nothing could be read; the problem is noted."""

_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})


class Decoder:
    """Decodes one tree.

    `problems` collects the faults; `places` says where each decoded path stands, and `kept` which items of a list
    could be read, by their numbers in the file.
    """

    def __init__(self, source: str, base_dir: Path) -> None:
        self.problems: list[Problem] = []
        self.places: dict[str, Place] = {}
        self.kept: dict[str, list[int]] = {}
        self._source = source
        self._base_dir = base_dir

    def complain(self, place: Place, path: str, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(self._source, path, place.line, place.column, message, hint))

    def decode(self, kind: Any, node: Node, path: str) -> Any:
        """The value of this type at this node, or MISSING."""
        self.places[path] = node.place
        origin = get_origin(kind)
        if origin is Annotated:
            return self.decode(get_args(kind)[0], node, path)
        if origin in (Union, types.UnionType):
            return self._decode_union(get_args(kind), node, path)
        if origin is tuple:
            return self._decode_list(get_args(kind)[0], node, path)
        if origin is dict:
            return self._decode_dict(get_args(kind)[1], node, path)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind is not Rate:
            return self.decode_struct(kind, node, path)
        return self._decode_leaf(kind, node, path)

    def decode_struct(
        self, kind: type[msgspec.Struct], node: Node, path: str, fallbacks: Mapping[str, Any] = MappingProxyType({})
    ) -> Any:
        """The structure, or MISSING where something required is not there and has no fallback."""
        short = SHORT_FORMS.get(kind)
        if isinstance(node, Scalar) and short is not None:
            node = MappingNode({}, node.place) if node.kind == "null" else _as_mapping(short, node)
        elif short is not None and _is_file_reference(node):
            node = _as_mapping(short, node)
        if not isinstance(node, MappingNode):
            self.complain(node.place, path, f"expected a mapping, not {_describe(node)}")
            return MISSING
        hints = get_type_hints(kind, include_extras=True)
        misspelled = self._note_unknown(node, hints, path)
        values = dict(fallbacks)
        complete = True
        for field in msgspec.structs.fields(kind):
            inner = f"{path}.{field.name}" if path else field.name
            entry = node.entries.get(field.name)
            value = MISSING if entry is None else self.decode(hints[field.name], entry.node, inner)
            if value is not MISSING:
                values[field.name] = value
            elif field.required:
                complete = complete and field.name in fallbacks
                if entry is None and field.name not in misspelled:
                    self.complain(node.place, path, f"{field.name} is missing")
        return kind(**values) if complete else MISSING

    def _note_unknown(self, node: MappingNode, known: Iterable[str], path: str) -> set[str]:
        """Complain of unknown keys; returns the names that were probably meant."""
        names = list(known)
        meant: set[str] = set()
        for name, entry in node.entries.items():
            if name not in names:
                close = _closest(name, names)
                meant |= {close} if close else set()
                inner = f"{path}.{name}" if path else name
                self.complain(entry.place, inner, "unknown setting", f"did you mean {close}?" if close else None)
        return meant

    def _decode_union(self, options: tuple[Any, ...], node: Node, path: str) -> Any:
        if type(None) in options and isinstance(node, Scalar) and (node.kind == "null" or node.text == ""):
            return None
        rest = [option for option in options if option is not type(None)]
        if len(rest) == 1:
            return self.decode(rest[0], node, path)
        words = [word for option in rest if get_origin(option) is Literal for word in get_args(option)]
        if isinstance(node, Scalar) and node.text in words:
            return node.text
        other = next(option for option in rest if get_origin(option) is not Literal)
        value = self._read_leaf(other, node)
        if value is MISSING:
            self.complain(
                node.place, path, f"expected {_name_of(other)} or {' or '.join(words)}, not {_describe(node)}"
            )
        return value

    def _decode_list(self, kind: Any, node: Node, path: str) -> Any:
        if isinstance(node, Scalar) and node.kind == "null":
            return ()
        if not isinstance(node, SequenceNode):
            self.complain(node.place, path, f"expected a list, not {_describe(node)}", "write it in brackets: […]")
            return MISSING
        values = [self.decode(kind, item, f"{path}[{i}]") for i, item in enumerate(node.items)]
        self.kept[path] = [i for i, value in enumerate(values) if value is not MISSING]
        return tuple(value for value in values if value is not MISSING)

    def _decode_dict(self, kind: Any, node: Node, path: str) -> Any:
        if isinstance(node, Scalar) and node.kind == "null":
            return {}
        if not isinstance(node, MappingNode):
            self.complain(node.place, path, f"expected a mapping, not {_describe(node)}")
            return MISSING
        values = {name: self.decode(kind, entry.node, f"{path}.{name}") for name, entry in node.entries.items()}
        return {name: value for name, value in values.items() if value is not MISSING}

    def _decode_leaf(self, kind: Any, node: Node, path: str) -> Any:
        if isinstance(node, MappingNode) and _is_file_reference(node):
            read = self._read_file(node, path)
            if read is None:
                return MISSING
            node = read
        value = self._read_leaf(kind, node)
        if value is MISSING:
            words = list(get_args(kind)) if get_origin(kind) is Literal else []
            close = _closest(node.text, words) if isinstance(node, Scalar) else None
            hint = f"did you mean {close}?" if close else None
            what = "one of " + ", ".join(words) if words else _name_of(kind)
            self.complain(node.place, path, f"expected {what}, not {_describe(node)}", hint or _HINTS.get(kind))
        return value

    def _read_leaf(self, kind: Any, node: Node) -> Any:
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

    def _read_file(self, node: MappingNode, path: str) -> Scalar | None:
        """What the file of `{file: path}` holds, without the line end at its end."""
        name = node.entries["file"].node
        if not isinstance(name, Scalar):
            self.complain(name.place, path, "expected the path of a file")
            return None
        try:
            text = (self._base_dir / name.text).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            self.complain(name.place, path, f"cannot read {name.text}: {reason}")
            return None
        return Scalar(text.removesuffix("\n").removesuffix("\r"), "filled", node.place)


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


def _as_mapping(name: str, node: Node) -> MappingNode:
    return MappingNode({name: Entry(node.place, node)}, node.place)


def _is_file_reference(node: Node) -> bool:
    return isinstance(node, MappingNode) and list(node.entries) == ["file"]


def _describe(node: Node) -> str:
    """What stands there, without its content: it might be a secret."""
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    if node.kind == "null":
        return "nothing"
    if node.kind == "filled":
        return "what the variable or file holds"
    return repr(node.text) if len(node.text) <= 40 else "this text"


def _closest(text: str, words: Iterable[str]) -> str | None:
    close = difflib.get_close_matches(text, [str(word) for word in words], n=1, cutoff=0.6)
    return close[0] if close else None


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


def _name_of(kind: Any) -> str:
    return _NAMES.get(kind, "a value")
