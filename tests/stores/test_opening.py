"""`stores.open_store`: what is opened for which URL, and what is said where a library is missing."""

import importlib.util
from typing import Any

import pytest

from gatekeeper.core.errors import GatekeeperError
from tests.stores.opening import open_on


@pytest.mark.parametrize(
    ("url", "secondary", "kind"),
    [
        ("sqlite:///a.db", None, "SqlStore"),
        ("postgres://h/d", None, "SqlStore"),
        ("mariadb://h/d", None, "SqlStore"),
        ("redis://h", None, "RedisStore"),
        ("unix:///run/redis.sock", None, "RedisStore"),
        ("sqlite:///a.db", "redis://h", "SecondaryStore"),
        ("mysql://h/d", "rediss://h", "SecondaryStore"),
        ("https://h/api/auth", None, "HttpStore"),
    ],
)
async def test_each_kind(url: str, secondary: str | None, kind: str) -> None:
    store = open_on(url, secondary=secondary)
    assert type(store).__name__ == kind
    await store.close()


@pytest.mark.parametrize(
    ("url", "library", "extra"),
    [
        ("postgresql://u:secret@h/d", "asyncpg", "postgres"),
        ("mysql://u:secret@h/d", "asyncmy", "mysql"),
        ("redis://u:secret@h", "redis", "redis"),
    ],
)
def test_a_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, url: str, library: str, extra: str) -> None:
    find = importlib.util.find_spec

    def find_others(name: str, *more: Any) -> Any:
        return None if name == library else find(name, *more)

    monkeypatch.setattr("gatekeeper.stores.installed.find_spec", find_others)
    with pytest.raises(GatekeeperError) as caught:
        open_on(url)
    assert str(caught.value) == f"store: {library} is not installed: pip install 'gatekeeper[{extra}]'"
