"""The JSON Schema of the configuration, made from the settings' own types and texts."""

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from gatekeeper.config.schema import SHORT_FORMS, Duration, Rate, Settings, Size

_VARIABLE = {"type": "string", "pattern": r"\$\{[^}]+\}", "description": "an environment variable"}
_FILE = {
    "type": "object",
    "properties": {"file": {"type": "string"}},
    "required": ["file"],
    "additionalProperties": False,
    "description": "the content of a file",
}
_LEAVES: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    Duration: {"type": ["string", "integer"], "examples": ["250ms", "5s", "5m", "2d", 0]},
    Size: {"type": ["string", "integer"], "examples": ["64KiB", "10MB", 4096]},
    Rate: {"type": "string", "examples": ["5/1m"]},
}


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the YAML, short forms, variables and file references included."""
    schema = _struct_schema(Settings)
    secret = {"anyOf": [{"type": "string"}, _FILE], "description": "The app's BETTER_AUTH_SECRET."}
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
        elif not isinstance(field.default, msgspec.Struct) and field.default is not msgspec.NODEFAULT:
            properties[field.name]["default"] = _plain(field.default)
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": required} if required else {})


def _schema_of(kind: Any) -> dict[str, Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return {"description": arguments[1]} | _schema_of(arguments[0])
    if origin in (Union, types.UnionType):
        return {"anyOf": [{"type": "null"} if option is type(None) else _schema_of(option) for option in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _schema_of(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema_of(arguments[1])}
    if kind in _LEAVES:
        return {"anyOf": [dict(_LEAVES[kind]), _VARIABLE, _FILE]}
    schema = _struct_schema(kind)
    return {"anyOf": [{"type": "string"}, schema]} if kind in SHORT_FORMS else schema


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)
