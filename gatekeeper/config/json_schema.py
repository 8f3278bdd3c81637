"""The JSON Schema of the configuration, made from the settings' own types and texts."""

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from gatekeeper.config.schema import SHORT_FORMS, Duration, Rate, Settings, Size
from gatekeeper.config.units import DURATION_PATTERN, SIZE_PATTERN

_VARIABLE = {"type": "string", "pattern": r"\$\{[^}]+\}", "description": "an environment variable"}
_FILE = {
    "type": "object",
    "properties": {"file": {"type": "string"}},
    "required": ["file"],
    "additionalProperties": False,
    "description": "the content of a file",
}
_LEAVES: dict[Any, dict[str, Any]] = {
    str: {"type": ["string", "number", "boolean"]},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    Duration: {
        "anyOf": [{"type": "string", "pattern": rf"^({DURATION_PATTERN}|0)$"}, {"const": 0}],
        "examples": ["250ms", "5s", "5m", "2d", 0],
    },
    Size: {
        "anyOf": [{"type": "string", "pattern": rf"^{SIZE_PATTERN}$"}, {"type": "integer", "minimum": 0}],
        "examples": ["64KiB", "10MB", 4096],
    },
    Rate: {"type": "string", "pattern": rf"^[0-9]+\s*/\s*{DURATION_PATTERN}$", "examples": ["5/1m"]},
}


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the YAML, short forms, variables and file references included."""
    schema = _struct_schema(Settings)
    secret = {"anyOf": [{"type": ["string", "integer"]}, _FILE], "description": "The app's BETTER_AUTH_SECRET."}
    schema["properties"] = {"secret": secret} | schema["properties"]
    schema["required"] = [name for name in schema["required"] if name != "secrets"]
    schema["oneOf"] = [{"required": ["secret"]}, {"required": ["secrets"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "gatekeeper", **schema}


def _struct_schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for field in msgspec.structs.fields(kind):
        properties[field.name] = _schema_of(hints[field.name])
        if field.required:
            required.append(field.name)
        else:
            properties[field.name] |= _default_of(hints[field.name], field)
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": required} if required else {})


def _schema_of(kind: Any) -> dict[str, Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return {"description": arguments[1]} | _schema_of(arguments[0])
    if origin in (Union, types.UnionType):
        return {"anyOf": [{"type": "null"} if option is type(None) else _schema_of(option) for option in arguments]}
    if origin is Literal:
        return {"anyOf": [{"enum": list(arguments)}, _VARIABLE, _FILE]}
    if origin is tuple:
        return {"type": ["array", "null"], "items": _schema_of(arguments[0])}
    if origin is dict:
        return {"type": ["object", "null"], "additionalProperties": _schema_of(arguments[1])}
    if kind in _LEAVES:
        return {"anyOf": [dict(_LEAVES[kind]), _VARIABLE, _FILE]}
    schema = _struct_schema(kind)
    if kind in SHORT_FORMS:
        return {"anyOf": [{"type": "string"}, _FILE, schema]}
    # A section whose lines are all commented out is null.
    return schema if "required" in schema else schema | {"type": ["object", "null"]}


def _default_of(kind: Any, field: msgspec.structs.FieldInfo) -> dict[str, Any]:
    """The default as it is written; none for sections, whose settings have theirs."""
    value: Any = {} if field.default is msgspec.NODEFAULT else field.default
    if isinstance(value, Rate):
        return {"default": f"{value.count}/{value.per:g}s"}
    if isinstance(value, msgspec.Struct):
        return {}
    if value and get_args(kind)[0] is Duration:
        return {"default": f"{value:g}s"}
    return {"default": msgspec.to_builtins(value)}
