"""Where sessions are kept.  `open_store` is the one list of kinds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gatekeeper.core.errors import GatekeeperError
from gatekeeper.stores.protocol import SessionStore
from gatekeeper.stores.sql import SqlStore, sqlite_database
from gatekeeper.stores.tables import Mapped

SQLITE = "sqlite:///"


def open_store(
    *,
    url: str,
    tables: Mapping[str, str],
    columns: Mapping[str, Mapping[str, str]],
    fields: Mapping[str, Sequence[str]],
    pool: int,
) -> SessionStore:
    """The store at this URL, as the configuration's `store` describes it.  Nothing is connected yet.

    `tables`, `columns` and `fields` are keyed by Better Auth's table names, `session` and `user`; `columns` maps
    Better Auth's field names to the real ones, `{"session": {"expiresAt": "expires_at"}}`.
    """
    if not url.startswith(SQLITE):
        raise GatekeeperError(f"no session store knows the URL scheme {url.partition(':')[0]!r}")

    def mapped(name: str) -> Mapped:
        return Mapped(tables.get(name, name), columns.get(name, {}), fields.get(name, ()))

    database = sqlite_database(Path(url.removeprefix(SQLITE)))
    return SqlStore(database, session=mapped("session"), user=mapped("user"), pool=pool)
