"""Writing to Better Auth's tables: sessions are deleted and extended, one statement each.

Nothing is written that a condition in the statement itself does not hold for: token and id both, so that a collation
or a token that was given anew finds no other session, and to extend one, the date as it was stored.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from sqlalchemy import (
    Connection,
    CursorResult,
    DateTime,
    Executable,
    String,
    bindparam,
    cast,
    delete,
    select,
    update,
)
from sqlalchemy.types import TypeEngine

from gatekeeper.core.errors import StoreError
from gatekeeper.core.model import Session, SessionRecord, SessionToken
from gatekeeper.stores.records import date_ms, iso_text, record_of
from gatekeeper.stores.sql import Execute, SqlStore, is_text
from gatekeeper.stores.tables import Mapped, Plan, Tables, table_of

_WRITTEN_FIELDS = ("id", "token", "userId", "expiresAt", "updatedAt")


class SqlWriter:
    """A SessionWriter on a SQL database.  `reader` and `writer` may be one; `writer` is asked for the first write.

    `zone` is what dates without a zone are in.
    """

    def __init__(self, reader: SqlStore, writer: SqlStore, tables: Tables, zone: tzinfo = UTC) -> None:
        self._reader = reader
        self._writer = writer
        self._tables = tables
        self._zone = zone
        self._sessions: Any = table_of(tables.session, _WRITTEN_FIELDS)

    def __repr__(self) -> str:
        return f"<SqlWriter {self._writer!r}>"

    async def list_sessions(self, user: str | None, *, limit: int) -> list[SessionRecord]:
        if user is None:
            return await self._list("every", {"limit": limit})
        if not is_text(user):
            return []
        email = user.lower() if "@" in user else None
        found = await self._list("of_user", {"limit": limit, "user": user, "email": email})
        # A collation may find what was not asked for.
        return [record for record in found if record.user.id == user or record.user.email.lower() == email]

    async def find(self, token_or_id: str) -> Session | None:
        record = await self._reader.read_session(SessionToken(token_or_id))
        if record is not None:
            return record.session
        if not is_text(token_or_id):
            return None
        for found in await self._list("by_id", {"limit": 2, "id": token_or_id}):
            if found.session.id == token_or_id:
                return found.session
        return None

    async def revoke(self, sessions: Sequence[Session]) -> int:
        wanted = [session for session in sessions if is_text(session.token) and is_text(session.id)]
        if not wanted:
            return 0
        statement = delete(self._sessions).where(*self._is_session())
        await self._reader.check()  # connections that have died are replaced when reading, a write is not repeated
        counts = await self._writer.work(
            lambda connection: [_changed(connection, statement, _named(session)) for session in wanted]
        )
        return sum(counts or ())

    async def revoke_all(self, user_id: str, *, now_ms: int, expires_in_s: int) -> int:
        if not is_text(user_id):
            return 0
        mapped = self._tables.user
        users = table_of(mapped, ("id",))
        raw_id = users.c[mapped.column_of("id")]
        wanted = select(raw_id).where(cast(raw_id, String()) == bindparam("user", type_=String()))
        user_column = self._sessions.c[self._tables.session.column_of("userId")]
        await self._reader.check()

        def remove(connection: Connection) -> int:
            ids = [found for found in connection.scalars(wanted, {"user": user_id}) if str(found) == user_id]
            # With the id as the database has it, the index serves.
            return sum(_changed(connection, delete(self._sessions).where(user_column == found)) for found in ids)

        return await self._writer.work(remove) or 0

    async def extend(self, session: Session, *, expires_at_ms: int, now_ms: int) -> bool:
        if not is_text(session.token) or not is_text(session.id):
            return False
        table, mapped = self._sessions, self._tables.session
        expires = table.c[mapped.column_of("expiresAt")]
        updated = table.c[mapped.column_of("updatedAt")]
        await self._reader.check()

        def change(connection: Connection) -> bool:
            stored = connection.scalar(select(expires).where(*self._is_session()), _named(session))
            if date_ms(self._with_zone(stored)) != session.expires_at_ms:
                return False
            kind = _type_of(stored)
            values: dict[Any, Any] = {
                expires: bindparam("new_expires", type_=kind),
                updated: bindparam("new_updated", type_=kind),
            }
            is_unchanged = expires == bindparam("old_expires", type_=kind)
            statement = update(table).values(values).where(*self._is_session(), is_unchanged)
            dates = {"new_expires": self._like(stored, expires_at_ms), "new_updated": self._like(stored, now_ms)}
            return _changed(connection, statement, {**_named(session), **dates, "old_expires": stored}) == 1

        return await self._writer.work(change) or False

    async def close(self) -> None:
        try:
            await self._writer.close()
        finally:
            await self._reader.close()

    async def _list(self, name: str, parameters: dict[str, Any]) -> list[SessionRecord]:
        def rows(plan: Plan, execute: Execute) -> list[tuple[dict[str, Any], dict[str, Any]]]:
            return [plan.split(row) for row in execute(getattr(plan.listing, name), parameters)]

        found = await self._reader.ask(rows)
        if found is None:
            raise StoreError("the sessions cannot be listed: a text in a row is not UTF-8")
        extra = self._tables.session.extra, self._tables.user.extra
        records = (record_of(session, user, *extra) for session, user in found)
        return [record for record in records if record is not None]

    def _is_session(self) -> tuple[Any, Any]:
        """The conditions with the parameters of `_named`.  The id may be of any type there."""
        table, mapped = self._sessions, self._tables.session
        return _condition(table, mapped, "token", "its_token"), _condition(table, mapped, "id", "its_id")

    def _with_zone(self, stored: Any) -> Any:
        is_naive = isinstance(stored, datetime) and stored.tzinfo is None
        return stored.replace(tzinfo=self._zone) if is_naive else stored

    def _like(self, stored: Any, ms: int) -> str | datetime:
        """A date as this column keeps it."""
        if isinstance(stored, str):
            return iso_text(ms)
        moment = datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)
        return moment if stored.tzinfo is not None else moment.astimezone(self._zone).replace(tzinfo=None)


def _condition(table: Any, mapped: Mapped, field: str, parameter: str) -> Any:
    column = table.c[mapped.column_of(field)]
    compared = cast(column, String()) if field == "id" else column
    return compared == bindparam(parameter, type_=String())


def _named(session: Session) -> dict[str, str]:
    return {"its_token": session.token, "its_id": session.id}


def _changed(connection: Connection, statement: Executable, parameters: dict[str, Any] | None = None) -> int:
    """How many rows the statement found."""
    result: CursorResult[Any] = connection.execute(statement, parameters or {})
    return result.rowcount


def _type_of(stored: Any) -> TypeEngine[Any]:
    if isinstance(stored, str):
        return String()
    return DateTime(timezone=stored.tzinfo is not None)
