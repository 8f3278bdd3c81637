"""Small builders of request facts for the tests of `core`."""

from typing import Any

from gatekeeper.core.model import RequestFacts, Target
from gatekeeper.core.urls import parse_target


def target_of(path: str, method: str = "GET") -> Target:
    target = parse_target(method, path)
    assert isinstance(target, Target), (path, target)
    return target


def facts(path: str = "/dashboard", method: str = "GET", **changes: Any) -> RequestFacts:
    """A page navigation to this path, unless `changes` say otherwise."""
    fields: dict[str, Any] = {"accept": "text/html", "scheme": "https", "host": "app.test"}
    fields |= {"client_address": "203.0.113.7"} | changes
    return RequestFacts(method=method, target=target_of(path, method), **fields)
