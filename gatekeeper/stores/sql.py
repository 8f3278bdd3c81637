"""Sessions in a SQL database, in Better Auth's tables.  Read only.

One statement reads a session with its user.  Which optional columns there are is looked up once, when the store is
first asked, and again after a statement failed for want of a column.  Nothing is opened before that, so a gate may
start before its database.

SQLite: the file is opened read-only and never made.  A file that was replaced is noticed before the next read: a
connection to a deleted file would answer for ever from what it once held.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from sqlalchemy import ColumnClause, Connection, Executable, Inspector, bindparam, column, inspect, select, table
from sqlalchemy.exc import DBAPIError, NoSuchTableError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import SessionRecord, SessionToken
from gatekeeper.stores.records import (
    OPTIONAL_SESSION_FIELDS,
    OPTIONAL_USER_FIELDS,
    SESSION_FIELDS,
    USER_FIELDS,
    record_of,
)

TIMEOUT_S = 2.0
"""How long a read may take before the store counts as unavailable."""

Identity = tuple[int, int]


class Mapped(msgspec.Struct, frozen=True):
    """How one of Better Auth's tables is called here.

    `name` may have a schema before a dot; `columns` maps Better Auth's field names to the real ones, where they
    differ; `extra` are declared further fields, by their real names.
    """

    name: str
    columns: Mapping[str, str] = {}
    extra: Sequence[str] = ()


class _Opened(msgspec.Struct, frozen=True):
    engine: AsyncEngine
    statement: Executable
    session_fields: tuple[str, ...]
    user_fields: tuple[str, ...]
    identity: Identity | None


class SqlStore:
    """A SessionStore on a SQL database.

    `path` is the SQLite file, which is watched for being replaced.  Raises StoreUnavailable from every call when the
    database cannot answer, and works again when it can.
    """

    def __init__(
        self, path: Path, *, session: Mapped, user: Mapped, pool: int = 10, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._path = path
        self._session = session
        self._user = user
        self._pool = pool
        self._timeout_s = timeout_s
        self._opened: _Opened | None = None
        self._opening = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<SqlStore {self._path}>"

    async def check(self) -> None:
        """Raise StoreUnavailable as a read would."""
        await self._read("")

    async def read_session(self, token: SessionToken) -> SessionRecord | None:
        rows = await self._read(token)
        if rows is None or rows[0].get("token") != token:  # a collation may find what is not asked for
            return None
        return record_of(*rows, self._session.extra, self._user.extra)

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.engine.dispose()

    async def _read(self, token: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                opened = await self._open()
                async with opened.engine.connect() as connection:
                    row = (await connection.execute(opened.statement, {"token": token})).first()
        except TimeoutError as exc:
            raise StoreUnavailable(f"{self._path} did not answer within {self._timeout_s:g} s") from exc
        except DBAPIError as exc:
            await self.close()
            raise StoreUnavailable(f"{self._path}: {exc.orig}") from exc
        except SQLAlchemyError as exc:
            await self.close()
            raise StoreUnavailable(f"{self._path}: {type(exc).__name__}") from exc
        if row is None:
            return None
        count = len(opened.session_fields)
        session = dict(zip(opened.session_fields, row[:count], strict=True))
        return session, dict(zip(opened.user_fields, row[count:], strict=True))

    async def _open(self) -> _Opened:
        identity = self._file_identity()
        opened = self._opened
        if opened is not None and opened.identity == identity:
            return opened
        async with self._opening:
            if self._opened is not None and self._opened.identity == identity:
                return self._opened
            await self.close()
            self._opened = await self._connect(identity)
            return self._opened

    def _file_identity(self) -> Identity:
        try:
            status = os.stat(self._path)
        except OSError as exc:
            raise StoreUnavailable(f"{self._path}: {exc.strerror}") from exc
        return status.st_dev, status.st_ino

    async def _connect(self, identity: Identity) -> _Opened:
        url = f"sqlite+aiosqlite:///file:{quote(str(self._path))}?mode=ro&uri=true"
        engine = create_async_engine(
            url, poolclass=AsyncAdaptedQueuePool, pool_size=self._pool, connect_args={"timeout": self._timeout_s / 2}
        )
        try:
            async with engine.connect() as connection:
                session_fields, user_fields = await connection.run_sync(self._find_fields)
        except BaseException:
            await engine.dispose()
            raise
        statement = self._statement(session_fields, user_fields)
        return _Opened(engine, statement, session_fields, user_fields, identity)

    def _find_fields(self, connection: Connection) -> tuple[tuple[str, ...], tuple[str, ...]]:
        inspector = inspect(connection)
        return (
            _fields_of(inspector, self._session, SESSION_FIELDS, OPTIONAL_SESSION_FIELDS, "session", self._path),
            _fields_of(inspector, self._user, USER_FIELDS, OPTIONAL_USER_FIELDS, "user", self._path),
        )

    def _statement(self, session_fields: tuple[str, ...], user_fields: tuple[str, ...]) -> Executable:
        session, user = _aliased(self._session, "s"), _aliased(self._user, "u")
        columns = [session.c[_real(self._session, name)].label(f"s.{name}") for name in session_fields]
        columns += [user.c[_real(self._user, name)].label(f"u.{name}") for name in user_fields]
        user_id = session.c[_real(self._session, "userId")]
        joined = session.join(user, user.c[_real(self._user, "id")] == user_id)
        token = session.c[_real(self._session, "token")]
        return select(*columns).select_from(joined).where(token == bindparam("token"))


def _fields_of(
    inspector: Inspector,
    mapped: Mapped,
    required: tuple[str, ...],
    optional: tuple[str, ...],
    key: str,
    path: Path,
) -> tuple[str, ...]:
    """The fields to read of a table.  Raises StoreUnavailable naming what is missing, and the setting."""
    schema, _, name = mapped.name.rpartition(".")
    try:
        present = {described["name"] for described in inspector.get_columns(name, schema=schema or None)}
    except NoSuchTableError as exc:
        raise StoreUnavailable(f"{path} has no table {mapped.name!r} (setting store.tables.{key})") from exc
    for field in required:
        if _real(mapped, field) not in present:
            where = f"setting store.columns.{key}.{field}"
            raise StoreUnavailable(f"{path}: table {mapped.name!r} has no column {_real(mapped, field)!r} ({where})")
    for field in mapped.extra:
        if field not in present:
            where = f"setting store.fields.{key}"
            raise StoreUnavailable(f"{path}: table {mapped.name!r} has no column {field!r} ({where})")
    found = tuple(field for field in optional if _real(mapped, field) in present)
    return (*required, *found, *(field for field in mapped.extra if field not in found))


def _aliased(mapped: Mapped, alias: str) -> Any:
    schema, _, name = mapped.name.rpartition(".")
    fields = (*SESSION_FIELDS, *USER_FIELDS, *OPTIONAL_SESSION_FIELDS, *OPTIONAL_USER_FIELDS, *mapped.extra)
    columns: list[ColumnClause[Any]] = [column(real) for real in dict.fromkeys(_real(mapped, f) for f in fields)]
    return table(name, *columns, schema=schema or None).alias(alias)


def _real(mapped: Mapped, field: str) -> str:
    return mapped.columns.get(field, field)
