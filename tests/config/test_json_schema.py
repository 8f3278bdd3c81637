"""The JSON Schema speaks of every setting, in both forms."""

from typing import Any

from gatekeeper.config.json_schema import json_schema
from gatekeeper.config.schema import Settings
from scripts.settings_table import leaves


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
