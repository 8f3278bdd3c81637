"""Better Auth's tables under the names that they have here, and the statement that reads a session with its user.

The same for every dialect: names are always quoted, the token is always a bound parameter.  Knows nothing of
connections.  Fields are Better Auth's names, columns the real ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnClause,
    Inspector,
    Integer,
    SelectBase,
    String,
    TableClause,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    or_,
    select,
    table,
)
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.sql.expression import quoted_name

from gatekeeper.core.errors import MissingTable, SchemaFault
from gatekeeper.stores.records import (
    MEMBER_FIELDS,
    OPTIONAL_SESSION_FIELDS,
    OPTIONAL_USER_FIELDS,
    ORGANIZATION_FIELDS,
    SESSION_FIELDS,
    USER_FIELDS,
)

BATCH = 50
"""How many sessions are read at once."""


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
    """A statement with the parameter `token`, and the fields that its columns hold, in order.

    `batch` is the same statement with the parameters `token0` and on, `BATCH` of them, for any of these tokens.
    `memberships` has the parameter `user`, an id as the database gave it, and a row of id and slug for each
    organization; None where nobody asks.  `listing` lists sessions.
    """

    statement: SelectBase
    batch: SelectBase
    listing: "Listing"
    session_fields: tuple[str, ...]
    user_fields: tuple[str, ...]
    memberships: SelectBase | None = None

    def split(self, row: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """A row of the result as a session's and a user's fields."""
        count = len(self.session_fields)
        session = dict(zip(self.session_fields, row[:count], strict=True))
        return session, dict(zip(self.user_fields, row[count:], strict=True))


class Listing(msgspec.Struct, frozen=True):
    """What reads sessions, in rows as the plan's statement has them, newest first; each with the parameter `limit`.

    `of_user` has the parameters `user`, an id as text, and `email` in lower case; `by_id` has `id`, a session's as
    text.
    """

    every: SelectBase
    of_user: SelectBase
    by_id: SelectBase


class Tables(msgspec.Struct, frozen=True):
    """What is read: sessions and users; memberships and organizations only where a rule requires these."""

    session: Mapped = Mapped("session")
    user: Mapped = Mapped("user")
    member: Mapped = Mapped("member")
    organization: Mapped = Mapped("organization")
    with_organizations: bool = False


BETTER_AUTH = Tables()
"""The tables as they are called without further ado."""


def plan_read(inspector: Inspector, tables: Tables) -> Plan:
    """The plan that fits the tables as they are now.

    Optional columns are read where the table has them.  Raises SchemaFault naming the missing table or column,
    and the setting that could be wrong; MissingTable where it is the table `session` under its usual name.
    """
    session, user = tables.session, tables.user
    session_fields = _fields_of(inspector, session, "session", SESSION_FIELDS, OPTIONAL_SESSION_FIELDS)
    user_fields = _fields_of(inspector, user, "user", USER_FIELDS, OPTIONAL_USER_FIELDS)
    memberships = None
    if tables.with_organizations:
        _fields_of(inspector, tables.member, "member", MEMBER_FIELDS, ())
        _fields_of(inspector, tables.organization, "organization", ORGANIZATION_FIELDS, ())
        memberships = _memberships(tables.member, tables.organization)
    statements = _statements(session, session_fields, user, user_fields)
    return Plan(*statements, session_fields, user_fields, memberships)


def table_of(mapped: Mapped, fields: Sequence[str]) -> TableClause:
    """The table with the columns of these fields, under their real names."""
    schema, name = mapped.schema_and_name
    names = dict.fromkeys(mapped.column_of(field) for field in fields)
    columns: list[ColumnClause[Any]] = [column(quoted(real)) for real in names]
    return table(quoted(name), *columns, schema=quoted(schema) if schema else None)


def quoted(name: str) -> quoted_name:
    return quoted_name(name, quote=True)


def _fields_of(
    inspector: Inspector, mapped: Mapped, key: str, required: Sequence[str], optional: Sequence[str]
) -> tuple[str, ...]:
    schema, name = mapped.schema_and_name
    try:
        present = {described["name"] for described in inspector.get_columns(name, schema=schema)}
    except NoSuchTableError as exc:
        # A name that was given is the name of a table that should be there.
        kind = MissingTable if mapped.name == key == "session" else SchemaFault
        raise kind(f"no table {mapped.name!r} (setting store.tables.{key})") from exc
    for field, setting in _wanted(mapped, key, required):
        if mapped.column_of(field) not in present:
            raise SchemaFault(f"table {mapped.name!r} has no column {mapped.column_of(field)!r} ({setting})")
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


def _statements(
    session: Mapped, session_fields: Sequence[str], user: Mapped, user_fields: Sequence[str]
) -> tuple[SelectBase, SelectBase, Listing]:
    """What reads one session, what reads several, and what lists them."""
    s: Any = table_of(session, session_fields).alias("s")
    u: Any = table_of(user, user_fields).alias("u")
    columns = [s.c[session.column_of(field)] for field in session_fields]
    columns += [u.c[user.column_of(field)] for field in user_fields]
    joined = s.join(u, u.c[user.column_of("id")] == s.c[session.column_of("userId")])
    token = s.c[session.column_of("token")]
    tokens = [bindparam(f"token{number}", type_=String()) for number in range(BATCH)]
    every = select(*columns).select_from(joined)
    newest_first = every.order_by(s.c[session.column_of("createdAt")].desc())
    # Of itself SQLite's dialect would add the offset as a parameter.
    listed = newest_first.limit(bindparam("limit", type_=Integer())).offset(literal_column("0"))
    listing = _listing(listed, s.c[session.column_of("id")], u.c[user.column_of("id")], u.c[user.column_of("email")])
    return every.where(token == bindparam("token", type_=String())), every.where(token.in_(tokens)), listing


def _listing(listed: Any, session_id: Any, user_id: Any, email: Any) -> Listing:
    """Ids may be of any type there: as texts they can be compared with what a person gives."""
    is_user = cast(user_id, String()) == bindparam("user", type_=String())
    has_email = func.lower(email) == bindparam("email", type_=String())
    by_id = cast(session_id, String()) == bindparam("id", type_=String())
    return Listing(listed, listed.where(or_(is_user, has_email)), listed.where(by_id))


def _memberships(member: Mapped, organization: Mapped) -> SelectBase:
    m: Any = table_of(member, MEMBER_FIELDS).alias("m")
    o: Any = table_of(organization, ORGANIZATION_FIELDS).alias("o")
    organization_id = o.c[organization.column_of("id")]
    joined = m.join(o, organization_id == m.c[member.column_of("organizationId")])
    columns = (organization_id, o.c[organization.column_of("slug")])
    return select(*columns).select_from(joined).where(m.c[member.column_of("userId")] == bindparam("user"))
