"""YAML text to a tree that knows where everything stands.

PyYAML parses to nodes with marks; nothing is constructed, so nothing is lost: `decode` sees the text as it was
written, and every problem has its line and column.  `${NAME}` and `${NAME:-default}` are filled in here, from the
environment that is passed in.
"""

import re
from collections.abc import Mapping
from typing import ClassVar, Protocol

import msgspec
import yaml

from gatekeeper.config.problems import Problem

MAX_NODES = 100_000
"""Nodes of a configuration, aliases counted each time: a file that unfolds beyond that is refused."""

MAX_DEPTH = 32

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_VARIABLE_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_TAG = "tag:yaml.org,2002:"
_TOO_LARGE = "the configuration is too large or too deep"
_QUOTED_NAME = re.compile(r"(alias|anchor|handle|tag)\b.*", re.DOTALL)
_LOADER: type[yaml.CSafeLoader] | type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Mark(Protocol):
    """A place as both loaders of PyYAML tell it, from 0."""

    line: int
    column: int


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
    """A list.  Items that could not be read are None, so that the others keep their numbers."""

    items: tuple["Node | None", ...]
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
        odd = _UNPRINTABLE.search(text)
        if odd is not None:
            place = _place_in(text, odd.start())
            self._complain(place, "", f"this is no YAML: there is an unprintable character, U+{ord(odd[0]):04X}")
            return None
        try:
            if not self._is_bounded(text):
                return None
            nodes = list(yaml.compose_all(text, Loader=_LOADER))
        except yaml.MarkedYAMLError as error:
            place = _place_of_mark(error.problem_mark or error.context_mark)
            self._complain(place, "", f"this is no YAML: {_yaml_message(error)}", _yaml_hint(error, text))
            return None
        except (yaml.YAMLError, ValueError):
            # What they say may quote the text, and that may be a secret.
            self._complain(Place(1, 1), "", "this is no YAML")
            return None
        if len(nodes) > 1:
            self._complain(_place(nodes[1]), "", "there is a second YAML document", "a configuration is one document")
            return None
        if not nodes:
            self._complain(Place(1, 1), "", "the file is empty", "it needs upstream, secret and store at least")
            return None
        tree = self._convert(nodes[0], "", 0)
        return None if self._count > MAX_NODES else tree

    def _is_bounded(self, text: str) -> bool:
        """Whether the text may be composed: PyYAML's composer recurses in C and kills the process on deep nesting."""
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                self._complain(_place_of_mark(event.start_mark), "", _TOO_LARGE)
                return False
        return True

    def _convert(self, node: yaml.Node, path: str, depth: int) -> Node | None:
        self._count += 1
        if self._count > MAX_NODES or depth > MAX_DEPTH:
            if self._count <= MAX_NODES + 1:
                self._complain(_place(node), path, _TOO_LARGE)
            self._count = MAX_NODES + 2
            return None
        if isinstance(node, yaml.MappingNode):
            return self._convert_mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            items = [self._convert(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(node.value)]
            return SequenceNode(tuple(items), _place(node))
        if not str(node.tag).startswith(_TAG):
            self._complain(_place(node), path, "YAML reads the ! at the beginning as a tag", "put the value in quotes")
            return None
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
                    _place(node), path, "YAML reads {…} here as a mapping", 'write a variable in quotes: "${NAME}"'
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
                self._complain(scalar.place, path, "what is in ${…} names no environment variable")
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
    return _place_of_mark(node.start_mark)


def _place_of_mark(mark: _Mark | None) -> Place:
    return Place(1, 1) if mark is None else Place(mark.line + 1, mark.column + 1)


def _place_in(text: str, at: int) -> Place:
    line_start = text.rfind("\n", 0, at) + 1
    return Place(text.count("\n", 0, at) + 1, at - line_start + 1)


def _looks_like_variable(node: yaml.MappingNode, key: yaml.ScalarNode, value: yaml.Node) -> bool:
    """Whether this is `{NAME}`, a mapping of one key without colon: somebody meant `"${NAME}"`."""
    has_no_colon = value.start_mark.index == key.end_mark.index and getattr(value, "value", None) == ""
    return bool(node.flow_style) and len(node.value) == 1 and has_no_colon


def _flow_hint(key: yaml.Node) -> str | None:
    return 'quote values that begin with {, as in "${NAME}"' if isinstance(key, yaml.MappingNode) else None


def _yaml_message(error: yaml.MarkedYAMLError) -> str:
    """What the parser says, but for the names that it quotes: `*…` and `!…` may be a secret."""
    return _QUOTED_NAME.sub(r"\1", error.problem or error.context or "it cannot be parsed")


def _yaml_hint(error: yaml.MarkedYAMLError, text: str) -> str | None:
    problem = (error.problem or "") + (error.context or "")
    mark = error.problem_mark
    lines = text.split("\n")
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "indent with blanks, not tabs"
    if "alias" in problem or "anchor" in problem or "tag" in problem:
        return "put values that begin with *, & or ! in quotes"
    if "flow" in problem:
        return 'inside {…} or […], quote variables: "${NAME}"'
    return None
