"""The triggers by which a SQLite file says what was changed in it, and how they get there.

They write into `gatekeeper_change`, in the transaction that they tell of: `s` and a session's token, `u` and a user's
id, or `a` where all sessions may be concerned.  A sign-in writes nothing there.  The newest 10,000 rows or so are kept.

What REPLACE removes fires no trigger of its own.  So before a row is written, the rows that have one of its keys are
told of: those keys that Better Auth's tables have.  A trigger that names a missing column breaks what the app writes,
and SQLite takes it all the same: so columns are looked at first.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import msgspec

from gatekeeper.core.errors import GatekeeperError, MissingTable
from gatekeeper.stores.sqlite import SqliteFile
from gatekeeper.stores.tables import Mapped, Tables

TABLE = "gatekeeper_change"
KEPT = 10_000
"""How many rows are kept at least, once there were as many."""

PATIENCE_S = 5.0
"""How long another writer is waited for."""

_CREATE_TABLE = f"CREATE TABLE {TABLE} (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, key TEXT)"
_FIRST_ROW = f"INSERT INTO {TABLE} (kind) VALUES ('a')"  # noqa: S608 - so that there is one to go on from
_PRUNE = (
    f"CREATE TRIGGER gatekeeper_change_prune AFTER INSERT ON {TABLE} WHEN NEW.seq % 100 = 0 "  # noqa: S608
    f"BEGIN DELETE FROM {TABLE} WHERE seq <= NEW.seq - {KEPT}; END"
)


class _Watched(msgspec.Struct, frozen=True):
    """A table, by its key in `Tables`, and what is told of its rows.

    `kind` is what the change table has, `told` the field that names whom it concerns.  `unique` are the fields by which
    REPLACE finds rows to remove.  Of an update is told where one of `fields` changed; where there are none, of each.
    """

    key: str
    kind: str
    told: str | None
    unique: tuple[str, ...]
    fields: tuple[str, ...] = ()
    tells_inserts: bool = False


_ALWAYS = (_Watched("session", "s", "token", ("id", "token")), _Watched("user", "u", "id", ("id", "email")))
_ORGANIZATIONS = (
    _Watched("member", "u", "userId", ("id",), ("organizationId", "userId"), tells_inserts=True),
    _Watched("organization", "a", None, ("id", "slug"), ("id", "slug")),
)


def statements(tables: Tables, *, undo: bool) -> list[str]:
    """What sets the feed up for these tables, in order and to be run in one transaction; or what takes it away.

    Each may be run again, also for other tables than before.  Raises GatekeeperError for tables outside of the file.
    """
    made = [sql.split()[1:3] for sql in definitions(Tables(with_organizations=True))]
    away = [f"DROP {kind} IF EXISTS {name}" for kind, name in reversed(made)]  # the table last: triggers write to it
    if undo:
        return away
    return [*_checks(tables), *away, *definitions(tables), _FIRST_ROW]


def definitions(tables: Tables) -> list[str]:
    """The statements that make the change table and the triggers, each as SQLite keeps it in its schema."""
    triggers = [trigger for watched in _watched(tables) for trigger in _triggers(watched, _mapped(tables, watched))]
    return [_CREATE_TABLE, _PRUNE, *triggers]


def apply(path: Path, statements: Sequence[str]) -> None:
    """Run these in one transaction: all or none.

    Raises GatekeeperError that says why it could not be, MissingTable where sessions have no table.
    """
    SqliteFile(path).state()  # says what is wrong with a path better than SQLite does
    try:
        with closing(_connect(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                connection.execute(statement)
            connection.execute("COMMIT")
    except sqlite3.Error as exc:
        raise _explained(path, str(exc)) from exc


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None, timeout=PATIENCE_S)


def _explained(path: Path, cause: str) -> GatekeeperError:
    if cause == "no such table: session":
        return MissingTable(f"{path}: no table 'session' (setting store.tables.session)")
    if cause.startswith("no such "):
        cause += " (settings store.tables and store.columns)"
    elif "readonly" in cause:
        cause += ": run this as a user who may write to the file and its folder"
    elif "locked" in cause:
        cause += f": another program has been writing for {PATIENCE_S:g} s; try again"
    return GatekeeperError(f"{path}: {cause}; nothing was changed")


def _watched(tables: Tables) -> tuple[_Watched, ...]:
    return (*_ALWAYS, *_ORGANIZATIONS) if tables.with_organizations else _ALWAYS


def _mapped(tables: Tables, watched: _Watched) -> Mapped:
    mapped: Mapped = getattr(tables, watched.key)
    return mapped


def _checks(tables: Tables) -> Iterator[str]:
    """Statements that fail where a table or a column is missing.

    Columns have their table before them: SQLite takes a quoted name that it does not know for a text.
    """
    for watched in _watched(tables):
        mapped = _mapped(tables, watched)
        table = _table(mapped)
        fields = {*watched.unique, *watched.fields, watched.told or watched.unique[0]}
        columns = ", ".join(f"{table}.{_column(mapped, field)}" for field in sorted(fields))
        yield f"SELECT {columns} FROM {table} LIMIT 0"  # noqa: S608


def _triggers(watched: _Watched, mapped: Mapped) -> Iterator[str]:
    table = _table(mapped)
    told = None if watched.told is None else _column(mapped, watched.told)
    unique = [_column(mapped, field) for field in watched.unique]
    same_keys = " OR ".join(f"{table}.{column} = NEW.{column}" for column in unique)
    replaced = _tell(watched, f"{table}.{told}" if told else None, f"FROM {table} WHERE {same_keys}")
    another = f"FROM {table} WHERE ({same_keys}) AND {table}.{unique[0]} IS NOT OLD.{unique[0]}"
    others = _tell(watched, f"{table}.{told}" if told else None, another)
    old = _tell(watched, f"OLD.{told}" if told else None)
    new = _tell(watched, f"NEW.{told}", f"WHERE NEW.{told} IS NOT OLD.{told}") if told else ""
    changed = _differs([_column(mapped, field) for field in watched.fields])
    name = f"CREATE TRIGGER gatekeeper_{watched.key}"
    if watched.tells_inserts:
        yield f"{name}_insert AFTER INSERT ON {table} BEGIN {_tell(watched, f'NEW.{told}')} END"
    yield f"{name}_replace BEFORE INSERT ON {table} BEGIN {replaced} END"
    yield f"{name}_rekey BEFORE UPDATE ON {table}{_differs(unique)} BEGIN {others} END"
    yield f"{name}_update AFTER UPDATE ON {table}{changed} BEGIN {f'{old} {new}'.strip()} END"
    yield f"{name}_delete AFTER DELETE ON {table} BEGIN {old} END"


def _tell(watched: _Watched, whom: str | None, rows: str = "") -> str:
    """A statement that writes a row for each of these; ids of any type as text, as everywhere in the gate."""
    key = "NULL" if whom is None else f"CAST({whom} AS TEXT)"
    return f"INSERT INTO {TABLE} (kind, key) SELECT '{watched.kind}', {key} {rows}".rstrip() + ";"


def _differs(columns: Sequence[str]) -> str:
    """The condition that one of these columns was changed; none for no columns."""
    return " WHEN " + " OR ".join(f"OLD.{column} IS NOT NEW.{column}" for column in columns) if columns else ""


def _table(mapped: Mapped) -> str:
    schema, name = mapped.schema_and_name
    if schema not in (None, "main"):
        raise GatekeeperError(f"{mapped.name}: a SQLite file has no schemas (setting store.tables)")
    return _quoted(name)


def _column(mapped: Mapped, field: str) -> str:
    return _quoted(mapped.column_of(field))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
