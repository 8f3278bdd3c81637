"""Better Auth's four tables, as it makes them itself in each dialect, and what one must have to fit.

The statements are Better Auth's own, letter by letter, so that an app that comes to the database later finds what it
would have made.  Names are Better Auth's, too: accounts mode has no mapping.  Knows nothing of connections.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

Dialect = Literal["sqlite", "postgresql", "mysql"]

_Kind = Literal["id", "reference", "unique", "short", "text", "flag", "date"]

_TYPES: dict[Dialect, dict[_Kind, str]] = {
    "sqlite": {
        **dict.fromkeys(("id", "reference", "unique", "short", "text"), "text"),
        "flag": "integer",
        "date": "date",
    },
    "postgresql": {
        **dict.fromkeys(("id", "reference", "unique", "short", "text"), "text"),
        "flag": "boolean",
        "date": "timestamptz",
    },
    "mysql": {
        **dict.fromkeys(("id", "reference"), "varchar(36)"),
        **dict.fromkeys(("unique", "short"), "varchar(255)"),
        "text": "text",
        "flag": "boolean",
        "date": "timestamp(3)",
    },
}
_NOW: dict[Dialect, str] = {
    "sqlite": "",
    "postgresql": " default CURRENT_TIMESTAMP",
    "mysql": " default CURRENT_TIMESTAMP(3)",
}


class Column(msgspec.Struct, frozen=True):
    """One column.  `is_now` says that the time of writing is the default, where the dialect has one."""

    name: str
    kind: _Kind
    is_required: bool = True
    is_now: bool = False


class Table(msgspec.Struct, frozen=True):
    """One table.  `indexed` is the column that has an index of its own."""

    name: str
    columns: tuple[Column, ...]
    indexed: str | None = None

    @property
    def index(self) -> str:
        return f"{self.name}_{self.indexed}_idx"


def _optional(kind: _Kind, *names: str) -> Iterator[Column]:
    return (Column(name, kind, is_required=False) for name in names)


USER = Table(
    "user",
    (
        Column("id", "id"),
        Column("name", "short"),
        Column("email", "unique"),
        Column("emailVerified", "flag"),
        *_optional("text", "image"),
        Column("createdAt", "date", is_now=True),
        Column("updatedAt", "date", is_now=True),
    ),
)
SESSION = Table(
    "session",
    (
        Column("id", "id"),
        Column("expiresAt", "date"),
        Column("token", "unique"),
        Column("createdAt", "date", is_now=True),
        Column("updatedAt", "date"),
        *_optional("text", "ipAddress", "userAgent"),
        Column("userId", "reference"),
    ),
    indexed="userId",
)
ACCOUNT = Table(
    "account",
    (
        Column("id", "id"),
        Column("accountId", "text"),
        Column("providerId", "text"),
        Column("userId", "reference"),
        *_optional("text", "accessToken", "refreshToken", "idToken"),
        *_optional("date", "accessTokenExpiresAt", "refreshTokenExpiresAt"),
        *_optional("text", "scope", "password"),
        Column("createdAt", "date", is_now=True),
        Column("updatedAt", "date"),
    ),
    indexed="userId",
)
VERIFICATION = Table(
    "verification",
    (
        Column("id", "id"),
        Column("identifier", "short"),
        Column("value", "text"),
        Column("expiresAt", "date"),
        Column("createdAt", "date", is_now=True),
        Column("updatedAt", "date", is_now=True),
    ),
    indexed="identifier",
)
TABLES: Sequence[Table] = (USER, SESSION, ACCOUNT, VERIFICATION)


def create_table(table: Table, dialect: Dialect) -> str:
    """The statement that makes this table."""
    columns = ", ".join(_definition(column, dialect) for column in table.columns)
    return f"create table {_quoted(table.name, dialect)} ({columns})"


def create_index(table: Table, dialect: Dialect) -> str:
    """The statement that makes its index.  Only for a table that has one."""
    assert table.indexed is not None  # noqa: S101 - what the caller looks at
    names = (_quoted(name, dialect) for name in (table.index, table.name, table.indexed))
    return "create index {} on {} ({})".format(*names)


def _definition(column: Column, dialect: Dialect) -> str:
    text = f"{_quoted(column.name, dialect)} {_TYPES[dialect][column.kind]}"
    if column.is_now:
        text += _NOW[dialect]
    if column.is_required:
        text += " not null"
    if column.kind == "id":
        text += " primary key"
    elif column.kind == "unique":
        text += " unique"
    elif column.kind == "reference":
        text += f" references {_quoted('user', dialect)} ({_quoted('id', dialect)}) on delete cascade"
    return text


def _quoted(name: str, dialect: Dialect) -> str:
    return f"`{name}`" if dialect == "mysql" else f'"{name}"'
