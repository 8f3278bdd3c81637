"""One transaction on a connection that otherwise commits each statement by itself."""

import re
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

_T = TypeVar("_T")

_TRIES = 4
_POSTGRES_DEADLOCK = "40P01"
_MYSQL_DEADLOCK = re.compile(r"\(1213\b")


def in_transaction(connection: Connection, work: Callable[[Connection], _T]) -> _T:
    """What this gives; all that it writes is there at once when it returns, and nothing of it when it raises.

    SQLite's lock is taken before anything is read, so that what was read is still true when it is written; there,
    foreign keys are looked at, as Better Auth has it.  Where a server ends it for a deadlock it is done anew, so `work`
    keeps nothing of a try.  Servers read what is committed at each statement: what must
    still be true stands in the statement that writes.
    """
    if connection.dialect.name == "sqlite":
        with connection.begin():  # of itself the driver begins nothing here
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return work(connection)
    connection = connection.execution_options(isolation_level="READ COMMITTED")
    for tries_left in reversed(range(_TRIES)):
        try:
            with connection.begin():
                return work(connection)
        except DBAPIError as error:
            if not tries_left or not _was_chosen_in_deadlock(error):
                raise
    raise AssertionError("the last try returns or raises")


def _was_chosen_in_deadlock(error: DBAPIError) -> bool:
    """Whether the server ended this one of several transactions that waited for one another: it may try again."""
    if getattr(error.orig, "sqlstate", None) == _POSTGRES_DEADLOCK:
        return True
    return _MYSQL_DEADLOCK.match(str(error.orig)) is not None
