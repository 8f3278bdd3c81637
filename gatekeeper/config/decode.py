"""A tree to settings: leaf by leaf, so that every fault is found in one go.

The shape comes from `schema`; this module knows kinds of types, no setting by name.  A leaf that cannot be read is a
problem and counts as not given; a structure that lacks something required cannot be made and is None.
"""

import re
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from gatekeeper.config.leaves import (
    MISSING,
    closest,
    describe,
    expected,
    hint_for,
    is_file_reference,
    read_file,
    read_leaf,
)
from gatekeeper.config.problems import Problem
from gatekeeper.config.schema import KEY_HINTS, SENSITIVE, SHORT_FORMS, WORD_HINTS, Rate
from gatekeeper.config.tree import Entry, MappingNode, Node, Place, Scalar, SequenceNode

_INDEX = re.compile(r"\[\d+\]")


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
        if _is_struct(kind):
            return self.decode_struct(kind, node, path)
        return self._decode_leaf(kind, node, path)

    def decode_struct(
        self, kind: type[msgspec.Struct], node: Node, path: str, fallbacks: Mapping[str, Any] = MappingProxyType({})
    ) -> Any:
        """The structure, or MISSING where something required is not there and has no fallback.

        A section without content is all defaults, as it is when each of its lines is commented out.
        """
        short = SHORT_FORMS.get(kind)
        if isinstance(node, Scalar) and node.kind == "null":
            node = MappingNode({}, node.place)
        elif short is not None and (isinstance(node, Scalar) or is_file_reference(node)):
            node = MappingNode({short: Entry(node.place, node)}, node.place)
        if not isinstance(node, MappingNode):
            self.complain(node.place, path, f"expected a mapping, not {_describe(node, path)}")
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
                close = closest(name, names)
                meant |= {close} if close else set()
                inner = f"{path}.{name}" if path else name
                hint = KEY_HINTS.get(_INDEX.sub("[]", inner)) or (f"did you mean {close}?" if close else None)
                self.complain(entry.place, inner, "unknown setting", hint)
        return meant

    def _decode_union(self, options: tuple[Any, ...], node: Node, path: str) -> Any:
        rest = [option for option in options if option is not type(None)]
        if len(rest) < len(options) and _is_empty(node, is_struct=_is_struct(rest[0])):
            return None
        if len(rest) == 1:
            return self.decode(rest[0], node, path)
        filled = self._follow_file(node, path)
        if filled is None:
            return MISSING
        words = [word for option in rest if get_origin(option) is Literal for word in get_args(option)]
        if isinstance(filled, Scalar) and filled.text in words:
            return filled.text
        other = next(option for option in rest if get_origin(option) is not Literal)
        value = read_leaf(other, filled)
        if value is MISSING:
            wanted = f"{expected(other)} or {' or '.join(words)}"
            self.complain(node.place, path, f"expected {wanted}, not {_describe(filled, path)}")
        return value

    def _decode_list(self, kind: Any, node: Node, path: str) -> Any:
        if isinstance(node, Scalar) and node.kind == "null":
            return ()
        if not isinstance(node, SequenceNode):
            hint = "write it in brackets: […]"
            self.complain(node.place, path, f"expected a list, not {_describe(node, path)}", hint)
            return MISSING
        values = [
            MISSING if item is None else self.decode(kind, item, f"{path}[{i}]") for i, item in enumerate(node.items)
        ]
        self.kept[path] = [i for i, value in enumerate(values) if value is not MISSING]
        return tuple(value for value in values if value is not MISSING)

    def _decode_dict(self, kind: Any, node: Node, path: str) -> Any:
        if isinstance(node, Scalar) and node.kind == "null":
            return {}
        if not isinstance(node, MappingNode):
            self.complain(node.place, path, f"expected a mapping, not {_describe(node, path)}")
            return MISSING
        values = {name: self.decode(kind, entry.node, f"{path}.{name}") for name, entry in node.entries.items()}
        return {name: value for name, value in values.items() if value is not MISSING}

    def _decode_leaf(self, kind: Any, node: Node, path: str) -> Any:
        filled = self._follow_file(node, path)
        if filled is None:
            return MISSING
        value = read_leaf(kind, filled)
        if value is MISSING:
            word = filled.text if isinstance(filled, Scalar) else ""
            hint = WORD_HINTS.get((_INDEX.sub("[]", path), word)) or hint_for(kind, filled)
            self.complain(node.place, path, f"expected {expected(kind)}, not {_describe(filled, path)}", hint)
        return value

    def _follow_file(self, node: Node, path: str) -> Node | None:
        """The node itself, or the content of the file where it is `{file: path}`; None where that cannot be read."""
        if not isinstance(node, MappingNode) or not is_file_reference(node):
            return node
        name = node.entries["file"].node
        if not isinstance(name, Scalar) or name.kind == "null" or not name.text:
            self.complain(name.place, path, "expected the path of a file")
            return None
        try:
            text = read_file(self._base_dir / name.text)
        except (OSError, ValueError) as error:
            reason = (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
            shown = name.text if name.text.isprintable() else repr(name.text)
            self.complain(name.place, path, f"cannot read {shown}: {reason}")
            return None
        return Scalar(text, "filled", node.place)


def _is_struct(kind: Any) -> bool:
    """Whether this is written as a mapping."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind is not Rate


def _is_empty(node: Node, *, is_struct: bool) -> bool:
    """Whether an optional setting is left empty: null, an empty text, or an empty mapping for a whole section."""
    if isinstance(node, Scalar):
        return node.kind == "null" or node.text == ""
    return is_struct and isinstance(node, MappingNode) and not node.entries


def _describe(node: Node, path: str) -> str:
    section = re.split(r"[.\[]", path, maxsplit=1)[0]
    return describe(node, is_sensitive=section in SENSITIVE)
