"""Settings whose feature has not landed yet: one table, which shrinks.

Every setting of the contract is parsed and validated.  One that asks for something that is not there yet is refused,
so that nobody believes to have it; off, empty and the default are accepted.
"""

from collections.abc import Iterator
from typing import Any

from gatekeeper.config.schema import Settings

_DEFAULTS: dict[str, Any] = {
    "forward_auth.envoy_grpc": None,
    "admin.token": None,
}


def unavailable(settings: Settings) -> Iterator[tuple[str, str]]:
    """Path and message of each setting that asks for what is not there yet."""
    for path, default in _DEFAULTS.items():
        value = _value_at(settings, path)
        is_off = value is None or value is False or value in ("", (), {})
        if value != default and not is_off:
            yield path, "this is not available yet"


def unavailable_paths() -> Iterator[str]:
    """The settings that only their default or off is accepted for, as they stand in the documentation."""
    yield from _DEFAULTS


def _value_at(settings: Settings, path: str) -> Any:
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value
