"""What stands in the database of a replayed site, for what captures do to its rows by hand."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, Protocol

from msgspec.structs import replace

from gatekeeper.stores.accounts import AccountStore
from gatekeeper.stores.records import date_ms, iso_text
from tests.server.auth.fakes import FakeAccounts

Table = Literal["session", "user"]
Dates = Mapping[str, int]
"""By Better Auth's names, in milliseconds since the epoch."""

KEYS: Mapping[Table, str] = {"session": "token", "user": "id"}
_FIELDS = {"createdAt": "created_at_ms", "updatedAt": "updated_at_ms", "expiresAt": "expires_at_ms"}


class Rows(Protocol):
    """The rows of a store of accounts: sessions by their token, users by their id."""

    accounts: AccountStore

    def tokens(self) -> set[str]: ...

    def dates(self, table: Table, key: str) -> Dates | None: ...

    def set_dates(self, table: Table, key: str, dates: Dates) -> None: ...

    def end_links(self) -> None:
        """Every value of the table `verification` expires."""
        ...

    def keep(self) -> Any:
        """What `put_back` makes of the sessions what they are now."""
        ...

    def put_back(self, kept: Any) -> None: ...


class MemoryRows:
    def __init__(self, accounts: FakeAccounts) -> None:
        self.accounts = accounts

    def tokens(self) -> set[str]:
        return set(self.accounts.sessions)

    def dates(self, table: Table, key: str) -> Dates | None:
        row = self._table(table).get(key)
        return None if row is None else {name: getattr(row, at) for name, at in _FIELDS.items() if hasattr(row, at)}

    def set_dates(self, table: Table, key: str, dates: Dates) -> None:
        rows = self._table(table)
        rows[key] = replace(rows[key], **{_FIELDS[name]: ms for name, ms in dates.items()})

    def end_links(self) -> None:
        self.accounts.verifications = [replace(one, expires_at_ms=0) for one in self.accounts.verifications]

    def keep(self) -> Any:
        return dict(self.accounts.sessions)

    def put_back(self, kept: Any) -> None:
        self.accounts.sessions = kept

    def _table(self, table: Table) -> dict[str, Any]:
        return self.accounts.sessions if table == "session" else self.accounts.users


class SqliteRows:
    """The rows of a SQLite file, that `accounts` works on."""

    def __init__(self, accounts: AccountStore, path: Path) -> None:
        self.accounts = accounts
        self._path = path

    def tokens(self) -> set[str]:
        return {str(row[0]) for row in self._run("SELECT token FROM session")}

    def dates(self, table: Table, key: str) -> Dates | None:
        names = [name for name in _FIELDS if table == "session" or name != "expiresAt"]
        columns = ", ".join(f'"{name}"' for name in names)
        found = self._run(f'SELECT {columns} FROM "{table}" WHERE "{KEYS[table]}" = ?', key)  # noqa: S608 - our names
        return {name: date_ms(text) or 0 for name, text in zip(names, found[0], strict=True)} if found else None

    def set_dates(self, table: Table, key: str, dates: Dates) -> None:
        for name, ms in dates.items():
            statement = f'UPDATE "{table}" SET "{name}" = ? WHERE "{KEYS[table]}" = ?'  # noqa: S608 - our names
            self._run(statement, iso_text(ms), key)

    def end_links(self) -> None:
        self._run('UPDATE verification SET "expiresAt" = ?', iso_text(0))

    def keep(self) -> Any:
        return self._run("SELECT * FROM session ORDER BY rowid")

    def put_back(self, kept: Any) -> None:
        self._run("DELETE FROM session")
        for row in kept:
            self._run(f"INSERT INTO session VALUES ({', '.join('?' * len(row))})", *row)  # noqa: S608 - no values

    def _run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            return connection.execute(statement, values).fetchall()
