"""Better Auth's tables: those that are missing are made, those that are there must fit."""

from alembic import op
from sqlalchemy import inspect

from gatekeeper.core.errors import GatekeeperError
from gatekeeper.migrations.better_auth import TABLES, create_index, create_table
from gatekeeper.migrations.fit import dialect_of, has_index, refuse

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Raises GatekeeperError, before anything is made, where a table does not fit."""
    connection = op.get_bind()
    inspector = inspect(connection)
    dialect = dialect_of(inspector)
    present = set(inspector.get_table_names())
    refuse(inspector, tuple(table for table in TABLES if table.name in present))
    for table in TABLES:
        if table.name not in present:
            connection.exec_driver_sql(create_table(table, dialect))
    inspector = inspect(connection)
    for table in TABLES:
        if table.indexed is not None and not has_index(inspector, table):
            connection.exec_driver_sql(create_index(table, dialect))


def downgrade() -> None:
    """Accounts are not thrown away by a command."""
    raise GatekeeperError("the tables of accounts are not taken away: drop them by hand")
