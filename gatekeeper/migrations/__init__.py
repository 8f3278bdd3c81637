"""Accounts mode's schema, by Alembic: Better Auth's tables, and the gate's own, whose names begin with `gatekeeper_`.

What a Better Auth app has made is adopted where it fits.  Opens nothing: a connection is given, in a transaction where
the database has transactions for this; MySQL has none, and what was done before a failure is found done the next time.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect

from gatekeeper.core.errors import GatekeeperError
from gatekeeper.migrations import better_auth
from gatekeeper.migrations.fit import refuse

VERSION_TABLE = "gatekeeper_version"

LOCK_KEY = 0x6761_7465_6B65_6571
"""The advisory lock that keeps two from migrating a PostgreSQL database at once."""

LOCK_S = 10
"""How long another one is waited for."""


def upgrade(connection: Connection) -> list[str]:
    """Bring the schema up to date and return the names of the tables that were made.

    May be done again at any time.  Raises GatekeeperError where tables are there that do not fit.
    """
    _wait_for_others(connection)
    before = set(inspect(connection).get_table_names())
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    command.upgrade(config, "head")
    inspector = inspect(connection)
    refuse(inspector, tuple(better_auth.TABLES))
    return sorted(set(inspector.get_table_names()) - before - {VERSION_TABLE})


def _wait_for_others(connection: Connection) -> None:
    """Until this transaction, or this connection, is the only one that migrates; SQLite's lock is taken already."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_S}s'")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK_KEY})")
    elif connection.dialect.name in ("mysql", "mariadb"):
        has_lock = connection.exec_driver_sql(f"SELECT GET_LOCK('{VERSION_TABLE}', {LOCK_S})").scalar()
        if not has_lock:
            raise GatekeeperError(f"another one has been migrating this database for {LOCK_S} s; try again")
