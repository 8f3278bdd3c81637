"""`config.example.yaml`: it loads, has every setting at its place, and says the defaults."""

import re
from pathlib import Path
from typing import Any

import yaml

from gatekeeper.config.schema import Settings
from scripts.settings_table import leaves
from tests.certificates import Authority
from tests.config.loading import BASE, EXAMPLE, load

_COMMENTED = re.compile(r"^(\s*)# (?=\w+: [^ ]+)(?!.*\b(?:is|are|the)\b)", re.MULTILINE)
"""A setting that is commented out, not a sentence."""


def test_it_loads_and_says_the_defaults() -> None:
    loaded, plain = load(EXAMPLE), load(BASE)
    same = ("listen", "session", "sign_in", "identity", "limits", "timeouts", "log", "admin", "websocket", "default")
    for name in (*same, "accounts", "branding", "forward_auth", "keep_fragment", "workers", "tls", "store"):
        assert getattr(loaded, name) == getattr(plain, name), name
    assert loaded.upstream == plain.upstream


def test_every_setting_stands_there_at_its_path() -> None:
    written = set(_paths(yaml.compose(_COMMENTED.sub(r"\1", EXAMPLE), Loader=yaml.CSafeLoader)))
    expected = {path for path, *_ in leaves(Settings) if not path.startswith("upstreams.*")}
    assert expected - written == set()
    # and nothing else stands there, but for short forms and names of one's own
    assert {path for path in written - expected if not any(path.startswith(name) for name in expected)} <= {
        *("secret", "upstreams", "upstreams.api", "protect[]", "public[]"),
        *_sections(expected),
    }


def test_what_is_commented_out_is_right(tmp_path: Path) -> None:
    text = _COMMENTED.sub(r"\1", EXAMPLE).replace('${NEW_SECRET}"}, {version: 1, value: "${OLD_SECRET}', "x")
    assert text != EXAMPLE
    text = re.sub(r"^secrets: .*$", "", text, flags=re.MULTILINE).replace("url: http://", "url: https://")
    load(text.replace("/etc/gatekeeper/", f"{certificates(tmp_path)}/"))


def certificates(folder: Path) -> Path:
    """A folder with the files that the example names."""
    (folder / "logo.svg").write_text("<svg/>")
    authority = Authority()
    authority.write_certificate(folder / "ca.crt")
    authority.issue("gate.test").write(folder / "tls.crt", folder / "tls.key")
    authority.issue("gate").write(folder / "client.crt", folder / "client.key")
    return folder


def _sections(paths: set[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        names = path.split(".")
        found |= {".".join(names[:count]) for count in range(1, len(names))}
        found |= {section.removesuffix("[]") for section in found}
    return found


def _paths(node: Any, path: str = "") -> list[str]:
    found = [path] if path else []
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            found += _paths(value, f"{path}.{key.value}" if path else key.value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            found += _paths(item, f"{path}[]")
    return found
