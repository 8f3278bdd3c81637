"""Better Auth's tables under the names that they have here, and the statement that reads a session with its user.

The same for every dialect: names are always quoted, the token is always a bound parameter.  Knows nothing of
connections.  Fields are Better Auth's names, columns the real ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnClause, Inspector, SelectBase, String, bindparam, column, select, table
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.sql.expression import quoted_name

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.stores.records import (
    OPTIONAL_SESSION_FIELDS,
    OPTIONAL_USER_FIELDS,
    SESSION_FIELDS,
    USER_FIELDS,
)


class Mapped(msgspec.Struct, frozen=True):
    """How one of Better Auth's tables is called here.

    `name` may have a schema before a dot, `auth.session`.  `columns` maps fields to columns where the two differ,
    `{"expiresAt": "expires_at"}`.  `extra` are declared further fields, mapped like the others.
    """

    name: str
    columns: Mapping[str, str] = {}
    extra: Sequence[str] = ()

    def column_of(self, field: str) -> str:
        return self.columns.get(field, field)

    @property
    def schema_and_name(self) -> tuple[str | None, str]:
        schema, _, name = self.name.rpartition(".")
        return schema or None, name


class Plan(msgspec.Struct, frozen=True):
    """A statement with the parameter `token`, and the fields that its columns hold, in order."""

    statement: SelectBase
    session_fields: tuple[str, ...]
    user_fields: tuple[str, ...]

    def split(self, row: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """A row of the result as a session's and a user's fields."""
        count = len(self.session_fields)
        session = dict(zip(self.session_fields, row[:count], strict=True))
        return session, dict(zip(self.user_fields, row[count:], strict=True))


def plan_read(inspector: Inspector, session: Mapped, user: Mapped) -> Plan:
    """The plan that fits the tables as they are now.

    Optional columns are read where the table has them.  Raises StoreUnavailable naming the missing table or column,
    and the setting that could be wrong.
    """
    session_fields = _fields_of(inspector, session, "session", SESSION_FIELDS, OPTIONAL_SESSION_FIELDS)
    user_fields = _fields_of(inspector, user, "user", USER_FIELDS, OPTIONAL_USER_FIELDS)
    return Plan(_statement(session, session_fields, user, user_fields), session_fields, user_fields)


def _fields_of(
    inspector: Inspector, mapped: Mapped, key: str, required: Sequence[str], optional: Sequence[str]
) -> tuple[str, ...]:
    schema, name = mapped.schema_and_name
    try:
        present = {described["name"] for described in inspector.get_columns(name, schema=schema)}
    except NoSuchTableError as exc:
        raise StoreUnavailable(f"no table {mapped.name!r} (setting store.tables.{key})") from exc
    for field, setting in _wanted(mapped, key, required):
        if mapped.column_of(field) not in present:
            raise StoreUnavailable(f"table {mapped.name!r} has no column {mapped.column_of(field)!r} ({setting})")
    found = [field for field in optional if mapped.column_of(field) in present]
    return tuple(dict.fromkeys((*required, *found, *mapped.extra)))


def _wanted(mapped: Mapped, key: str, required: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each field that must be there, with the setting to look at when it is not.

    A field that was given a column by name must be there too, optional or not: a `banned` that is mapped to a
    misspelt column would let every banned user in.
    """
    for field in mapped.extra:
        yield field, f"setting store.fields.{key}"
    for field in dict.fromkeys((*required, *mapped.columns)):
        yield field, f"setting store.columns.{key}.{field}"


def _statement(session: Mapped, session_fields: Sequence[str], user: Mapped, user_fields: Sequence[str]) -> SelectBase:
    s, u = _aliased(session, session_fields, "s"), _aliased(user, user_fields, "u")
    columns = [s.c[session.column_of(field)] for field in session_fields]
    columns += [u.c[user.column_of(field)] for field in user_fields]
    joined = s.join(u, u.c[user.column_of("id")] == s.c[session.column_of("userId")])
    token = s.c[session.column_of("token")]
    return select(*columns).select_from(joined).where(token == bindparam("token", type_=String()))


def _aliased(mapped: Mapped, fields: Sequence[str], alias: str) -> Any:
    schema, name = mapped.schema_and_name
    names = dict.fromkeys(mapped.column_of(field) for field in fields)
    columns: list[ColumnClause[Any]] = [column(_quoted(real)) for real in names]
    return table(_quoted(name), *columns, schema=_quoted(schema) if schema else None).alias(alias)


def _quoted(name: str) -> quoted_name:
    return quoted_name(name, quote=True)
