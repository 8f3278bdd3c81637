"""The database and the app of the server's tests."""

from tests.server.conftest import database, upstream

__all__ = ["database", "upstream"]
