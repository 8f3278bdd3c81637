"""Counts of attempts to sign in, shared by all who use the database.

`name` says what is counted: tries of an address, or at an account.  `ends` is when the count begins anew, in
milliseconds since the epoch.
"""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, String, inspect

revision = "0002"
down_revision = "0001"

TABLE = "gatekeeper_attempt"


def upgrade() -> None:
    """Made where it is missing: without transactions, a step may have been done in part."""
    inspector = inspect(op.get_bind())
    if TABLE in inspector.get_table_names():
        return
    op.create_table(
        TABLE,
        Column("name", String(255), primary_key=True),
        Column("count", Integer, nullable=False),
        Column("ends", BigInteger, nullable=False, index=True),
    )


def downgrade() -> None:
    """Counts are of no lasting worth."""
    op.drop_table(TABLE)
