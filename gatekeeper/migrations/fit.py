"""Whether a table that is there already is one that accounts mode can use: made by Better Auth, or by hand like it.

What is looked at is what would fail later: ids that are no texts, dates that lose their milliseconds or are numbers,
addresses that could be given twice, further columns that nobody fills.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Boolean, Date, DateTime, Inspector, Integer, Numeric, String
from sqlalchemy.dialects.mysql import DATETIME, TIMESTAMP

from gatekeeper.core.errors import GatekeeperError
from gatekeeper.migrations.better_auth import Column, Dialect, Table

_RESTORE = "restore it, or drop gatekeeper_version, and it is made anew"

ID_LENGTH = 32
"""How long an id is that the gate makes."""


def dialect_of(inspector: Inspector) -> Dialect:
    """Which dialect a connection speaks: MariaDB's is MySQL's."""
    name = inspector.dialect.name
    return cast(Dialect, "mysql" if name == "mariadb" else name)


def faults_of(inspector: Inspector, table: Table) -> Iterator[str]:
    """What is wrong with this table, which is there, in words; nothing where it fits."""
    dialect = dialect_of(inspector)
    found = {described["name"]: described for described in inspector.get_columns(table.name)}
    for column in table.columns:
        if column.name not in found:
            yield f"table {table.name!r} has no column {column.name!r}"
        elif fault := _fault_of_column(column, found[column.name], dialect):
            yield f"column {table.name}.{column.name} {fault}"
    ours = {column.name for column in table.columns}
    for name, described in found.items():
        if name not in ours and _must_be_given(described):
            yield f"column {table.name}.{name} must be given a value, and the gate has none: give it a default"
    keys = _keys(inspector, table)
    for column in table.columns:
        if column.kind in ("id", "unique") and column.name in found and column.name not in keys:
            yield f"column {table.name}.{column.name} is not unique"


def refuse(inspector: Inspector, tables: tuple[Table, ...]) -> None:
    """Raise GatekeeperError with every fault of these tables; return where all are there, and fit."""
    present = set(inspector.get_table_names())
    missing = [table.name for table in tables if table.name not in present]
    if missing:
        raise GatekeeperError(f"there is no table {missing[0]!r} any more, although it was made: {_RESTORE}")
    faults = [fault for table in tables for fault in faults_of(inspector, table)]
    if faults:
        raise GatekeeperError(f"the tables are not as Better Auth makes them: {'; '.join(faults)}")


def has_index(inspector: Inspector, table: Table) -> bool:
    """Whether an index begins with the column that should have one."""
    return any(index["column_names"][:1] == [table.indexed] for index in inspector.get_indexes(table.name))


def _fault_of_column(column: Column, described: Mapping[str, Any], dialect: Dialect) -> str | None:
    if not column.is_required and _must_be_given(described):
        return "must not be empty, and the gate leaves it so"
    kind, default = described["type"], str(described.get("default") or "")
    if column.kind == "date":
        if "on update" in default.lower():
            return "changes with every update of its row"
        return _fault_of_date(kind, dialect)
    if column.kind == "flag":
        return None if isinstance(kind, (Boolean, Integer)) else f"is {kind}, which is no boolean"
    if not isinstance(kind, String):
        return f"is {kind}, and the gate writes text"
    if column.kind in ("id", "reference") and kind.length is not None and kind.length < ID_LENGTH:
        return f"has room for {kind.length} characters, and an id has {ID_LENGTH}"
    return None


def _fault_of_date(kind: Any, dialect: Dialect) -> str | None:
    if dialect == "sqlite":
        if isinstance(kind, (Date, DateTime, String)):
            return None
        return f"is {kind}, and dates are text" if isinstance(kind, (Integer, Numeric)) else f"is {kind}"
    if not isinstance(kind, DateTime):
        return f"is {kind}, which is no point in time"
    if dialect == "postgresql" and not kind.timezone:
        return f"is {kind}, without a time zone"
    if isinstance(kind, (DATETIME, TIMESTAMP)) and (kind.fsp or 0) < 3:
        return f"is {kind}, which has no milliseconds"
    return None


def _must_be_given(described: Mapping[str, Any]) -> bool:
    has_default = described.get("default") is not None or "computed" in described or "identity" in described
    return not described["nullable"] and not has_default


def _keys(inspector: Inspector, table: Table) -> set[str]:
    """Columns that are unique by themselves."""
    found: list[Sequence[str | None]] = [[*inspector.get_pk_constraint(table.name)["constrained_columns"]]]
    found += [[*unique["column_names"]] for unique in inspector.get_unique_constraints(table.name)]
    # SQLite keeps what is unique in indexes of its own, which are shown on demand; other dialects pass the wish over.
    indexes = inspector.get_indexes(table.name, include_auto_indexes=True)
    found += [[*index["column_names"]] for index in indexes if index["unique"] and not _is_partial(index)]
    return {columns[0] for columns in found if len(columns) == 1 and columns[0] is not None}


def _is_partial(index: Mapping[str, Any]) -> bool:
    return any(name.endswith("_where") for name in index.get("dialect_options", {}))
