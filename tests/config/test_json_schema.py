"""The JSON Schema speaks of every setting, in both forms."""

import re
from typing import Any

import pytest
import yaml

from gatekeeper.config.json_schema import json_schema
from gatekeeper.config.schema import Settings
from scripts.settings_table import leaves
from tests.config.loading import BASE, EXAMPLE, load, problems_of


def _at(schema: dict[str, Any], path: str) -> dict[str, Any]:
    for name in path.replace("[]", ".[]").split("."):
        options = schema.get("anyOf", [schema])
        if name == "[]":
            schema = next(option["items"] for option in options if "items" in option)
        elif name == "*":
            schema = next(option["additionalProperties"] for option in options if "additionalProperties" in option)
        else:
            schema = next(option["properties"][name] for option in options if name in option.get("properties", {}))
    return schema


def test_every_setting_is_described() -> None:
    schema = json_schema()
    for path, _, _, text in leaves(Settings):
        assert _at(schema, path)["description"] == text


def test_short_forms_and_secrets() -> None:
    schema = json_schema()
    assert {"type": "string"} in schema["properties"]["upstream"]["anyOf"]
    assert {"type": "string"} in schema["properties"]["protect"]["items"]["anyOf"]
    assert schema["required"] == ["upstream", "store"]
    assert schema["oneOf"] == [{"required": ["secret"]}, {"required": ["secrets"]}]
    assert schema["properties"]["listen"]["default"] == "0.0.0.0:8080"
    assert schema["additionalProperties"] is False


def test_the_example_is_valid() -> None:
    assert _faults(json_schema(), yaml.safe_load(EXAMPLE)) == []


@pytest.mark.parametrize(
    "more",
    [
        "upstreams: {api: http://h, web: {url: http://h, max_connections: 5}}",
        "protect: [/a, {path: /b, methods: [GET]}]",
        "log: {level: '${LEVEL:-debug}'}",
        "limits: {body_bytes: 10, header_bytes: 64KiB}",
        "session: {fresh_age: 0, cookie: {secure: true}, cookie_cache: {version: 7}}",
        "session:",
        "protect:",
        "public_url: null",
    ],
)
def test_what_loads_is_valid(more: str) -> None:
    load(BASE + more + "\n")
    assert _faults(json_schema(), yaml.safe_load(BASE + more)) == []


@pytest.mark.parametrize("more", ["listen: {file: listen}", "workers: {file: workers}", "log: {level: {file: level}}"])
def test_file_references_are_valid(more: str) -> None:
    assert _faults(json_schema(), yaml.safe_load(BASE + more)) == []


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ("listn: a", ""),
        ("workers: some", "workers"),
        ("log: {level: loud}", "log.level"),
        ("session: {fresh_age: 5}", "session.fresh_age"),
        ("session: {fresh_age: 1 day}", "session.fresh_age"),
        ("limits: {body_bytes: 5 bananas}", "limits.body_bytes"),
        ("limits: {sign_in_attempts: 5}", "limits.sign_in_attempts"),
        ("protect: [{access: fresh}]", "protect.0"),
        ("protect: [{path: /a, access: public}]", "protect.0"),
        ("protect: /a", "protect"),
        ("secrets: []", ""),
    ],
)
def test_what_does_not_load_is_not_valid(more: str, path: str) -> None:
    problems_of(BASE + more + "\n")
    assert _faults(json_schema(), yaml.safe_load(BASE + more)) == [path]


def test_defaults_are_written_as_settings_are() -> None:
    """The schema's defaults, put into a file, are the defaults."""
    text = BASE.replace("sqlite:///auth.db", "{url: sqlite:///auth.db}")
    text = text.replace("upstream: http://127.0.0.1:3000", "upstream: {url: http://127.0.0.1:3000}")
    document = yaml.safe_load(text)
    for path, *_ in leaves(Settings):
        found = _at(json_schema(), path)
        if "default" not in found or "[]" in path or "*" in path or path.startswith("tls."):
            continue
        *sections, name = path.split(".")
        inner = document
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = found["default"]
    assert document["session"]["cookie_cache"]["max_age"] == "300s"
    del document["upstream"]["tls"]
    assert load(yaml.safe_dump(document)) == load(BASE)


def _faults(schema: dict[str, Any], value: object, path: str = "") -> list[str]:
    """Where a value does not fit the schema: the part of JSON Schema that ours uses."""
    known = {"type", "enum", "const", "pattern", "minimum", "anyOf", "oneOf", "required", "properties", "items"}
    known |= {"additionalProperties", "description", "default", "examples", "title", "$schema"}
    assert set(schema) <= known
    if "anyOf" in schema and all(_faults(option, value, path) for option in schema["anyOf"]):
        return [path]
    if "oneOf" in schema and sum(not _faults(option, value, path) for option in schema["oneOf"]) != 1:
        return [path]
    types = schema.get("type", [])
    fits = not types or bool(_types_of(value) & ({types} if isinstance(types, str) else {*types}))
    fits = fits and ("enum" not in schema or value in schema["enum"])
    fits = fits and ("const" not in schema or (value == schema["const"] and not isinstance(value, bool)))
    if isinstance(value, str):
        fits = fits and ("pattern" not in schema or re.search(schema["pattern"], value) is not None)
    if isinstance(value, int):
        fits = fits and ("minimum" not in schema or value >= schema["minimum"])
    if not fits:
        return [path]
    found: list[str] = []
    if isinstance(value, dict):
        properties, further = schema.get("properties", {}), schema.get("additionalProperties", True)
        is_complete = set(schema.get("required", ())) <= set(value)
        if not is_complete or (further is False and not set(value) <= set(properties)):
            found.append(path)
        for name, inner in value.items():
            where = f"{path}.{name}" if path else str(name)
            part = properties.get(name, further)
            found += _faults(part, inner, where) if isinstance(part, dict) else []
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            found += _faults(schema["items"], item, f"{path}.{index}")
    return found


def _types_of(value: object) -> set[str]:
    if value is None:
        return {"null"}
    names = {bool: {"boolean"}, int: {"integer", "number"}, float: {"number"}, str: {"string"}}
    return names.get(type(value)) or {"array" if isinstance(value, list) else "object"}
