"""Settings whose feature has not landed are refused, each by its name; what is off is not."""

import pytest
import yaml

from gatekeeper.config.available import unavailable_paths
from tests.config.loading import BASE, GOOD_SECRET, load, problems_of

ASKING = {
    "forward_auth.envoy_grpc": "127.0.0.1:1",
    "admin.token": "x",
}


@pytest.mark.parametrize("path", list(ASKING))
def test_what_is_not_available_yet_is_refused(path: str) -> None:
    base = BASE.replace("store: sqlite:///auth.db", "store: {url: sqlite:///auth.db}")
    tree = yaml.safe_load(base.replace("${BETTER_AUTH_SECRET}", GOOD_SECRET))
    *parents, name = path.split(".")
    inner = tree
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[name] = yaml.safe_load(ASKING[path])
    found = problems_of(yaml.safe_dump(tree))
    assert [(problem.path, problem.message) for problem in found] == [(path, "this is not available yet")]


def test_every_row_of_what_is_not_available_is_tried() -> None:
    assert {path for path in unavailable_paths() if "[]" not in path} == set(ASKING)


@pytest.mark.parametrize(
    "off",
    ["tls: null", "tls: {}", "accounts:", "branding: {name: ''}", "keep_fragment: off", "admin: {token: null}"],
)
def test_what_is_off_is_accepted(off: str) -> None:
    assert load(BASE + off + "\n") == load(BASE)
