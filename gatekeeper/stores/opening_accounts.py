"""Where accounts mode keeps its accounts.  `open_accounts` is the one list of kinds."""

from zoneinfo import ZoneInfo

from msgspec.structs import replace

from gatekeeper.config.schema import Columns, Settings, Tables
from gatekeeper.config.server_url import parse_server_url
from gatekeeper.config.store_checks import APP, REDIS, SQLITE, kind_of
from gatekeeper.core.errors import GatekeeperError
from gatekeeper.stores import open_database, tables_of
from gatekeeper.stores.sql import SqlStore
from gatekeeper.stores.sql_accounts import SqlAccounts
from gatekeeper.stores.sql_attempts import SqlAttempts


def open_accounts(settings: Settings) -> tuple[SqlAccounts, SqlAttempts]:
    """The accounts of these settings, and where tries of passwords are counted; closing the former closes both.

    Nothing is connected yet.  `store.tables` and `store.columns` are passed over: accounts mode uses Better Auth's own
    names.  Raises GatekeeperError where the store is no database, and where what it needs is not installed.
    """
    refuse_without_database(settings)
    store, tables = settings.store, replace(tables_of(own_names(settings)), with_organizations=False)
    reader = SqlStore(open_database(store.url), tables, pool=store.pool)
    if kind_of(store.url) != SQLITE:
        zone = ZoneInfo(parse_server_url(store.url).timezone)
        return SqlAccounts(reader, reader, tables, zone), SqlAttempts(reader, reader)
    writer = SqlStore(open_database(store.url, writable=True), tables, pool=1)  # SQLite has one writer at a time
    return SqlAccounts(reader, writer, tables), SqlAttempts(reader, writer)


def own_names(settings: Settings) -> Settings:
    """The same with Better Auth's own names of tables and columns, which are all that accounts mode knows."""
    return replace(settings, store=replace(settings.store, tables=Tables(), columns=Columns()))


def refuse_without_database(settings: Settings) -> None:
    """Raise GatekeeperError where the store is no database of accounts."""
    if kind_of(settings.store.url) in (*APP, *REDIS):
        raise GatekeeperError(
            "store.url: accounts are kept in a database: sqlite:///auth.db, postgresql:// or mysql://"
        )
    if settings.store.secondary is not None:
        raise GatekeeperError("store.secondary: the gate keeps its own sessions in the database alone")
