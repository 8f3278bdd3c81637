"""One transaction on a connection that otherwise commits each statement by itself."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

_T = TypeVar("_T")


def in_transaction(connection: Connection, work: Callable[[Connection], _T]) -> _T:
    """What this gives; all that it writes is there at once when it returns, and nothing of it when it raises.

    SQLite's lock is taken before anything is read, so that what was read is still true when it is written; there,
    foreign keys are looked at, as Better Auth has it.  Servers read what is committed at each statement: what must
    still be true stands in the statement that writes.
    """
    if connection.dialect.name == "sqlite":
        with connection.begin():  # of itself the driver begins nothing here
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return work(connection)
    connection = connection.execution_options(isolation_level="READ COMMITTED")
    with connection.begin():
        return work(connection)
