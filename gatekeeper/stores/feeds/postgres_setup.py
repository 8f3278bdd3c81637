"""What makes a PostgreSQL database tell of changes: a trigger function, and triggers on the tables that are read.

A message on the channel `gatekeeper` is `s` and the SHA-256, in hex, of a session's token; `u` and that of a user's id
as text; or `a`, anything.  The function takes its column from the trigger's arguments and looks it up by name in the
row, so a column that is renamed, or a value that has no UTF-8, becomes `a`: the app's own statement never fails.
A session that is new tells nothing, since nobody can have remembered it.

The triggers are ENABLE ALWAYS: they fire for rows that arrive by logical replication, too, and where
`session_replication_role` is `replica`.
"""

from collections.abc import Iterator, Sequence

import msgspec

from gatekeeper.config.server_url import ServerUrl
from gatekeeper.core.errors import GatekeeperError, MissingTable
from gatekeeper.stores.feeds.postgres_connection import PostgresConnection, PostgresError
from gatekeeper.stores.tables import Mapped, Tables

CHANNEL = "gatekeeper"

FUNCTION = "gatekeeper_tell"

CONNECT_S = 10.0
"""How long connecting may take."""

LOCK_S = 5
"""How long is waited for the tables: all who want to write wait behind."""

LOCK_KEY = 0x6761_7465_6B65_6570
"""The advisory lock that keeps two from setting up at once."""

_ADVICE = {
    "42501": ": it takes a role that owns the tables and may create functions in the schema of the session table",
    "42703": " (settings store.tables and store.columns)",
    "42P01": " (settings store.tables and store.columns)",
    "42809": ": the feed needs the tables themselves",
    "55P03": f": the tables were in use for {LOCK_S} s, try again",
}
"""What to add to the server's message, by SQLSTATE."""

_OF_SESSIONS = ' FROM "session" AS t LIMIT 0'
"""How the statement ends that looks whether sessions have a table, under its usual name."""

# Binary comparison: `IS DISTINCT FROM` fails for a column of type json, and would fail the app's update with it.
_IF_CHANGED = "WHEN (OLD.* OPERATOR(pg_catalog.*<>) NEW.*) "

_BODY = f"""
DECLARE
  was text;
  became text;
BEGIN
  IF TG_LEVEL = 'STATEMENT' OR TG_NARGS = 0 THEN
    PERFORM pg_notify('{CHANNEL}', 'a');
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    was := to_jsonb(OLD) ->> TG_ARGV[1];
    PERFORM pg_notify('{CHANNEL}', coalesce(TG_ARGV[0] || encode(sha256(convert_to(was, 'UTF8')), 'hex'), 'a'));
  END IF;
  IF TG_OP <> 'DELETE' THEN
    became := to_jsonb(NEW) ->> TG_ARGV[1];
    IF TG_OP = 'INSERT' OR became IS DISTINCT FROM was THEN
      PERFORM pg_notify('{CHANNEL}', coalesce(TG_ARGV[0] || encode(sha256(convert_to(became, 'UTF8')), 'hex'), 'a'));
    END IF;
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  PERFORM pg_notify('{CHANNEL}', 'a');
  RETURN NULL;
END
"""


class Trigger(msgspec.Struct, frozen=True):
    """One trigger.  `table` is quoted as in SQL; `arguments` are the kind of message and the column that it names."""

    name: str
    table: str
    event: str
    arguments: tuple[str, ...] = ()

    def create(self, function: str) -> str:
        level = "STATEMENT" if self.event == "TRUNCATE" else "ROW"
        condition = _IF_CHANGED if self.event == "UPDATE" else ""
        arguments = ", ".join(map(_literal, self.arguments))
        return (
            f"CREATE TRIGGER {self.name} AFTER {self.event} ON {self.table} "
            f"FOR EACH {level} {condition}EXECUTE FUNCTION {function}({arguments})"
        )


def triggers(tables: Tables) -> list[Trigger]:
    """All that must be there for nothing to be missed."""
    session, user = tables.session, tables.user
    found = [
        *_on(session, "session", ("UPDATE", "DELETE"), ("s", session.column_of("token"))),
        *_on(user, "user", ("UPDATE", "DELETE"), ("u", user.column_of("id"))),
    ]
    if tables.with_organizations:
        member = tables.member
        found += _on(member, "member", ("INSERT", "UPDATE", "DELETE"), ("u", member.column_of("userId")))
        found += _on(tables.organization, "organization", ("UPDATE", "DELETE"), ())
    return found


def statements(tables: Tables, *, undo: bool) -> list[str]:
    """What sets it up, or takes it away, in this order and in one transaction.  Either may be done again.

    The function is in the schema that the session table was given, else in the current one.  Setting up takes the
    triggers of these names off tables that were mapped before.  Undoing takes away every trigger of the function.
    """
    schema, _ = tables.session.schema_and_name
    function = FUNCTION if schema is None else f"{quoted(schema)}.{FUNCTION}"
    wanted = triggers(tables)
    if undo:
        return [f"DROP FUNCTION IF EXISTS {function}() CASCADE", _refuse_leftovers(wanted)]
    return [
        *_checks(wanted),
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql "
        f"SET search_path = pg_catalog, pg_temp AS $gatekeeper${_BODY}$gatekeeper$",
        _drop_former(function, wanted),
        *(f"DROP TRIGGER IF EXISTS {trigger.name} ON {trigger.table}" for trigger in wanted),
        *(trigger.create(function) for trigger in wanted),
        *(f"ALTER TABLE {trigger.table} ENABLE ALWAYS TRIGGER {trigger.name}" for trigger in wanted),
    ]


async def apply(url: ServerUrl, statements: Sequence[str]) -> None:
    """Execute them in one transaction, while nobody else does.

    Raises GatekeeperError, which names the privilege that is missing, and MissingTable where sessions have no table;
    nothing has changed then.
    """
    connection = await PostgresConnection.open(url, CONNECT_S)
    try:
        await connection.execute(f"BEGIN; SET LOCAL lock_timeout = '{LOCK_S}s'")
        await connection.execute(f"SELECT pg_advisory_xact_lock({LOCK_KEY})")
        for statement in statements:
            await _execute(connection, statement, url.label)
        await connection.execute("COMMIT")
    except PostgresError as exc:
        raise GatekeeperError(f"{exc}{_ADVICE.get(exc.state, '')}") from exc
    finally:
        await connection.close()


async def _execute(connection: PostgresConnection, statement: str, label: str) -> None:
    try:
        await connection.execute(statement)
    except PostgresError as exc:
        if exc.state == "42P01" and statement.endswith(_OF_SESSIONS):
            raise MissingTable(f"{label}: no table 'session' (setting store.tables.session)") from exc
        raise


def _checks(wanted: Sequence[Trigger]) -> Iterator[str]:
    """Statements that fail where a table or a column is missing: a trigger would take any name, and tell too much."""
    columns: dict[str, list[str]] = {}
    for trigger in wanted:
        columns.setdefault(trigger.table, []).extend(f"t.{quoted(name)}" for name in trigger.arguments[1:])
    for table, named in columns.items():
        yield f"SELECT {', '.join(dict.fromkeys(named))} FROM {table} AS t LIMIT 0"  # noqa: S608 - quoted


def quoted(name: str) -> str:
    """A name as an identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def quoted_table(mapped: Mapped) -> str:
    """A table as SQL and `to_regclass` take it: without a schema, the session's search path finds it."""
    schema, name = mapped.schema_and_name
    return quoted(name) if schema is None else f"{quoted(schema)}.{quoted(name)}"


def _on(mapped: Mapped, key: str, events: Sequence[str], arguments: tuple[str, ...]) -> Iterator[Trigger]:
    """Triggers for these events on each row, and for TRUNCATE."""
    table = quoted_table(mapped)
    for event in events:
        yield Trigger(f"gatekeeper_{key}_{event.lower()}", table, event, arguments)
    yield Trigger(f"gatekeeper_{key}_truncate", table, "TRUNCATE")


def _drop_former(function: str, wanted: Sequence[Trigger]) -> str:
    """Drops triggers of these names wherever they call the function.  Those of partitions go with their parents'."""
    names = ", ".join(_literal(trigger.name) for trigger in wanted)
    return f"""DO $gatekeeper$
DECLARE
  former record;
BEGIN
  FOR former IN
    SELECT t.tgname, t.tgrelid::pg_catalog.regclass AS relation
    FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
    WHERE t.tgfoid = pg_catalog.to_regprocedure({_literal(f"{function}()")})
      AND t.tgname IN ({names}) AND NOT c.relispartition
  LOOP
    EXECUTE pg_catalog.format('DROP TRIGGER %I ON %s', former.tgname, former.relation);
  END LOOP;
END
$gatekeeper$"""  # noqa: S608 - names of ours and of the configuration, quoted


def _refuse_leftovers(wanted: Sequence[Trigger]) -> str:
    """Fails where these tables still have triggers of ours: their function is in another schema, or not to be seen."""
    tables = ", ".join(f"pg_catalog.to_regclass({_literal(table)})" for table in dict.fromkeys(t.table for t in wanted))
    return f"""DO $gatekeeper$
BEGIN
  IF EXISTS (
    SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
    WHERE p.proname = '{FUNCTION}' AND t.tgrelid IN ({tables})
  ) THEN
    RAISE EXCEPTION 'triggers are left: their function is in a schema that this role, or store.tables, does not name';
  END IF;
END
$gatekeeper$"""


def _literal(text: str) -> str:
    """A text in SQL, whatever `standard_conforming_strings` is."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'" if "\\" not in text else "E'" + escaped.replace("\\", "\\\\") + "'"
