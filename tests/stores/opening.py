"""Stores opened from a configuration, as the gate opens them."""

from collections.abc import Mapping, Sequence
from typing import Any

from gatekeeper.config.schema import (
    Columns,
    Fields,
    ProtectRule,
    RequireSettings,
    Secret,
    Settings,
    Store,
    Tables,
    Upstream,
)
from gatekeeper.core.cookies import Keys
from gatekeeper.stores import open_store
from gatekeeper.stores.protocol import SessionStore
from tests.server.gates import COOKIE, SECRET


def open_on(url: str, **settings: Any) -> SessionStore:
    """The store of a gate with these settings of `store`."""
    return open_store(settings_on(url, **settings), Keys([SECRET]), COOKIE)


def settings_on(
    url: str,
    *,
    tables: Mapping[str, str] = {},
    columns: Mapping[str, dict[str, str]] = {},
    fields: Mapping[str, Sequence[str]] = {},
    pool: int = 2,
    secondary: str | None = None,
    with_organizations: bool = False,
) -> Settings:
    """A gate's settings with these of `store`; a rule requires organizations or none does."""
    require = RequireSettings(organizations=("acme",) if with_organizations else ())
    return Settings(
        upstream=Upstream("http://127.0.0.1:9"),
        secrets=(Secret(1, SECRET),),
        store=Store(
            url,
            tables=Tables(**tables),
            columns=Columns(**columns),
            fields=Fields(**{name: tuple(names) for name, names in fields.items()}),
            secondary=secondary,
            pool=pool,
        ),
        protect=(ProtectRule("/dashboard", require=require),),
    )
