"""YAML text to a tree that knows where everything stands.

PyYAML parses to nodes with marks; nothing is constructed, so nothing is lost: `decode` sees the text as it was
written, and every problem has its line and column.  `${NAME}` and `${NAME:-default}` are filled in here, from the
environment that is passed in.
"""

import re
from collections.abc import Mapping
from typing import ClassVar

import msgspec
import yaml

from gatekeeper.config.problems import Problem

MAX_NODES = 100_000
"""Nodes of a configuration, aliases counted each time: a file that unfolds beyond that is refused."""

MAX_DEPTH = 32

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_VARIABLE_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_TAG = "tag:yaml.org,2002:"
_LOADER: type[yaml.CSafeLoader] | type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Place(msgspec.Struct, frozen=True):
    """Line and column, both from 1."""

    line: int
    column: int


class Scalar(msgspec.Struct, frozen=True):
    """A single value.  `kind` is YAML's: str, int, float, bool, null.  A filled-in text counts as plain."""

    text: str
    kind: str
    place: Place


class Entry(msgspec.Struct, frozen=True):
    """A key of a mapping with its value."""

    place: Place
    node: "Node"


class MappingNode(msgspec.Struct, frozen=True):
    entries: dict[str, Entry]
    place: Place


class SequenceNode(msgspec.Struct, frozen=True):
    items: tuple["Node", ...]
    place: Place


Node = Scalar | MappingNode | SequenceNode


class TreeReader:
    """Reads one text.  `problems` collects what is wrong on the way."""

    KINDS: ClassVar[dict[str, str]] = {_TAG + kind: kind for kind in ("str", "int", "float", "bool", "null")}

    def __init__(self, source: str, environ: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self._source = source
        self._environ = environ
        self._count = 0

    def read(self, text: str) -> Node | None:
        """The tree, or None where the text is no YAML; then `problems` says why."""
        try:
            nodes = list(yaml.compose_all(text, Loader=_LOADER))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = Place(mark.line + 1, mark.column + 1) if mark is not None else Place(1, 1)
            self._complain(place, "", f"this is no YAML: {error.problem or error.context}", _yaml_hint(error))
            return None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            self._complain(Place(1, 1), "", f"this is no YAML: {str(error).partition(chr(10))[0]}")
            return None
        if len(nodes) > 1:
            self._complain(_place(nodes[1]), "", "there is a second YAML document", "a configuration is one document")
            return None
        if not nodes:
            self._complain(Place(1, 1), "", "the file is empty", "it needs upstream, secret and store at least")
            return None
        return self._convert(nodes[0], "", 0)

    def _convert(self, node: yaml.Node, path: str, depth: int) -> Node | None:
        self._count += 1
        if self._count > MAX_NODES or depth > MAX_DEPTH:
            if self._count <= MAX_NODES + 1 or depth == MAX_DEPTH + 1:
                self._complain(_place(node), path, "the configuration is too large or too deep")
            self._count = MAX_NODES + 2
            return None
        if isinstance(node, yaml.MappingNode):
            return self._convert_mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            items = [self._convert(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(node.value)]
            return SequenceNode(tuple(item for item in items if item is not None), _place(node))
        kind = self.KINDS.get(node.tag, "str")
        return self._fill(Scalar(str(node.value), kind, _place(node)), path)

    def _convert_mapping(self, node: yaml.MappingNode, path: str, depth: int) -> Node | None:
        entries: dict[str, Entry] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._complain(_place(key), path, "a key must be a plain name", _flow_hint(key))
                continue
            name = str(key.value)
            inner = f"{path}.{name}" if path else name
            if name in entries:
                first = entries[name].place.line
                self._complain(_place(key), inner, f"this key is there already, on line {first}")
                continue
            if _looks_like_variable(node, key, value):
                self._complain(
                    _place(node), path, f"YAML reads ${{{name}}} here as a mapping", f'quote it: "${{{name}}}"'
                )
                return None
            converted = self._convert(value, inner, depth + 1)
            if converted is not None:
                entries[name] = Entry(_place(key), converted)
        return MappingNode(entries, _place(node))

    def _fill(self, scalar: Scalar, path: str) -> Scalar | None:
        """The scalar with its `${…}` filled in; what a variable holds is taken as text, never read for more."""
        if "${" not in scalar.text:
            return scalar
        fine = True

        def value_of(match: re.Match[str]) -> str:
            nonlocal fine
            named = _VARIABLE_NAME.fullmatch(match[1])
            if named is None:
                fine = False
                self._complain(scalar.place, path, f"{match[0]} names no environment variable")
                return ""
            value = self._environ.get(named[1])
            if value is None or (value == "" and named[2] is not None):
                value = named[2]
            if value is None:
                fine = False
                hint = f"set it, or give a default: ${{{named[1]}:-…}}"
                self._complain(scalar.place, path, f"the environment variable {named[1]} is not set", hint)
            return value or ""

        text = _VARIABLE.sub(value_of, scalar.text)
        return Scalar(text, "filled", scalar.place) if fine else None

    def _complain(self, place: Place, path: str, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(self._source, path, place.line, place.column, message, hint))


def _place(node: yaml.Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


def _looks_like_variable(node: yaml.MappingNode, key: yaml.ScalarNode, value: yaml.Node) -> bool:
    """Whether this mapping is what YAML makes of an unquoted `${NAME}` in flow style: `$` before `{NAME: }`."""
    is_empty = isinstance(value, yaml.ScalarNode) and value.value == ""
    return bool(node.flow_style) and len(node.value) == 1 and is_empty and str(key.value).replace("_", "").isalnum()


def _flow_hint(key: yaml.Node) -> str | None:
    return 'quote values that begin with {, as in "${NAME}"' if isinstance(key, yaml.MappingNode) else None


def _yaml_hint(error: yaml.MarkedYAMLError) -> str | None:
    problem = (error.problem or "") + (error.context or "")
    if "\\t" in problem or "'\\t'" in problem:
        return "indent with blanks, not tabs"
    if "flow" in problem:
        return 'inside {…} or […], quote variables: "${NAME}"'
    return None
