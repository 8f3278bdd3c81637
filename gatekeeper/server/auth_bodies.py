"""The bodies and queries of account calls: how they are read, and what they must be like.

Better Auth's reader takes JSON and, for sign-in and sign-up, forms; the type of content decides, and a body without
one is no body.  Its checks name every field that is not what it should be, in the order in which the fields are
declared, in the words of its schema library.  Nothing here looks at a session or a store.
"""

import json
import re
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Literal, cast
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, UnsetType

from gatekeeper.core.accounts import is_email
from gatekeeper.server.auth_refusals import INVALID_JSON, Refusal, invalid

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Body = Json | UnsetType
"""What JSON can say, or UNSET where there is no body."""

Query = Mapping[str, str | list[str]]
"""The parameters of a query; one that comes several times has all its values."""

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

_LEAST_TOO_BIG = 2**63
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Field(msgspec.Struct, frozen=True):
    """A field of a body or a query.  `kind` says what it must be, where it is there."""

    name: str
    kind: Literal["text", "filled text", "e-mail", "flag"]
    is_required: bool = True


class Shape(msgspec.Struct, frozen=True):
    """What a body must be like.  `names` is what the schema calls it: each says its own when it is something else.

    Without `is_required` there may be no body at all.
    """

    fields: tuple[Field, ...] = ()
    names: tuple[str, ...] = ("object",)
    is_required: bool = True


def read_body(content_type: str | None, data: bytes, media_types: tuple[str, ...]) -> Body | Refusal:
    """The body of a call that takes these types of content."""
    if not data or not content_type:
        return UNSET
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in media_types:
        allowed = ", ".join(media_types)
        message = f'Content-Type "{content_type}" is not allowed. Allowed types: {allowed}'
        return Refusal(415, message, "UNSUPPORTED_MEDIA_TYPE")
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    return _read_json(text) if media_type == JSON else cast(Json, dict(parse_qsl(text, keep_blank_values=True)))


def read_query(query: str | None) -> Query:
    """The parameters of a query, decoded."""
    found: dict[str, str | list[str]] = {}
    for name, value in parse_qsl(query or "", keep_blank_values=True):
        before = found.get(name)
        if before is None:
            found[name] = value
        else:
            found[name] = [*before, value] if isinstance(before, list) else [before, value]
    return found


def body_fault(shape: Shape, body: Body) -> Refusal | None:
    """What is wrong with this body, in full, or None."""
    if body is UNSET and not shape.is_required:
        return None
    if isinstance(body, dict):
        faults = list(_faults(shape.fields, body, "body"))
    else:
        faults = [f"[body] {_unexpected(name, body)}" for name in shape.names]
    return invalid("; ".join(faults)) if faults else None


def query_fault(fields: tuple[Field, ...], query: Query) -> Refusal | None:
    """What is wrong with this query, in full, or None."""
    faults = list(_faults(fields, query, "query"))
    return invalid("; ".join(faults)) if faults else None


def is_storable(value: object) -> bool:
    """Whether a column of a database can hold it: a text, a flag, nothing, a finite number of at most 64 bits."""
    if isinstance(value, float):
        return isfinite(value)
    if isinstance(value, int):
        return -_LEAST_TOO_BIG <= value < _LEAST_TOO_BIG
    return value is None or isinstance(value, str)


def is_truthy(value: Body) -> bool:
    """Whether JavaScript takes it for true: of what JSON can say, all but null, false, 0 and the empty text."""
    return isinstance(value, (list, dict)) or (value is not UNSET and bool(value))


def _read_json(text: str) -> Json | Refusal:
    """What JSON.parse reads.  Half of a surrogate pair becomes U+FFFD, as it would wherever JavaScript writes it."""
    try:
        value = json.loads(text, parse_constant=_refuse)
        return cast(Json, _well_formed(value) if "\\u" in text else value)  # which goes as deep as what was read
    except (ValueError, RecursionError):
        return INVALID_JSON


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _well_formed(value: Json) -> Json:
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_well_formed(item) for item in value]
    if isinstance(value, dict):
        return {_LONE_SURROGATE.sub("\ufffd", key): _well_formed(item) for key, item in value.items()}
    return value


def _faults(fields: tuple[Field, ...], values: Mapping[str, object], where: str) -> Iterator[str]:
    for field in fields:
        value = values.get(field.name, UNSET)
        if value is UNSET and not field.is_required:
            continue
        fault = _fault(field, value)
        if fault is not None:
            yield f"[{where}.{field.name}] {fault}"


def _fault(field: Field, value: object) -> str | None:
    if field.kind == "flag":
        return None if isinstance(value, bool) else _unexpected("boolean", value)
    if not isinstance(value, str):
        return _unexpected("string", value)
    if field.kind == "filled text" and not value:
        return "Too small: expected string to have >=1 characters"
    return "Invalid email address" if field.kind == "e-mail" and not is_email(value) else None


def _unexpected(expected: str, value: object) -> str:
    return f"Invalid input: expected {expected}, received {_kind_of(value)}"


def _kind_of(value: object) -> str:
    """What the schema library calls a value of this kind."""
    if value is UNSET:
        return "undefined"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    kinds = {str: "string", list: "array", dict: "object"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), "number")
