"""What Alembic runs to find its connection: the one that `upgrade` was given."""

from alembic import context

from gatekeeper.migrations import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
