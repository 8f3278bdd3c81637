"""An AccountStore on a SQL database that has Better Auth's tables, under Better Auth's own names."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from gatekeeper.core.accounts import UNUSABLE_HASH
from gatekeeper.core.errors import StoreError
from gatekeeper.core.model import Session, SessionRecord, SessionToken, User
from gatekeeper.stores.account_rows import AccountRows
from gatekeeper.stores.account_tables import AccountTables
from gatekeeper.stores.accounts import (
    Credential,
    Disabled,
    EmailTaken,
    NewSession,
    NewUser,
    NewVerification,
    PasswordChanged,
    PasswordReset,
    SignedUp,
    Verification,
)
from gatekeeper.stores.sql import SqlStore, is_text
from gatekeeper.stores.sql_writing import SqlWriter
from gatekeeper.stores.tables import Plan, Tables
from gatekeeper.stores.transactions import in_transaction

_T = TypeVar("_T")

_USER_CHANGES = ("name", "image", "emailVerified")
_DATA_EXCEPTION = "22"
"""The class of such errors in SQL (PostgreSQL, appendix A), which SQLAlchemy makes no DataError of for asyncpg."""

_NOT_FITTING = ((1366,), (1406,))  # MySQL: a character that the column's charset has not, a text that is too long


class SqlAccounts:
    """An AccountStore.  `reader` and `writer` may be one; SQLite has one writer at a time.

    `tables` have Better Auth's own names, and say which further fields are declared.  `zone` is what dates without a
    zone are in.
    """

    def __init__(self, reader: SqlStore, writer: SqlStore, tables: Tables, zone: tzinfo = UTC) -> None:
        self._reader = reader
        self._writer = writer
        self._tables = AccountTables(tables, zone)
        self._sessions = SqlWriter(reader, writer, tables, zone)
        self._zone = zone

    def __repr__(self) -> str:
        return f"<SqlAccounts {self._writer!r}>"

    async def read_session(self, token: SessionToken) -> SessionRecord | None:
        return await self._reader.read_session(token)

    async def find_by_email(self, email: str) -> Credential | None:
        return await self._read(lambda rows: rows.by_email(email)) if is_text(email) else None

    async def find_by_id(self, user_id: str) -> Credential | None:
        return await self._read(lambda rows: rows.by_id(user_id)) if is_text(user_id) else None

    async def list_users(self, *, limit: int) -> Sequence[Credential]:
        return await self._read(lambda rows: rows.newest_users(limit))

    async def create_user(self, user: NewUser, session: NewSession | None, *, now_ms: int) -> SignedUp | EmailTaken:
        _require_text(user.id, user.account_id, user.name, user.email, user.password, user.image or "")

        def create(rows: AccountRows) -> SignedUp | EmailTaken:
            if rows.is_taken(user.email):
                return EmailTaken()
            rows.insert_user(user, now_ms)
            made = rows.by_id(user.id)
            assert made is not None  # noqa: S101 - it was written in this transaction
            return SignedUp(made.user, None if session is None else _insert_session(rows, session, now_ms))

        def look_again(rows: AccountRows) -> tuple[EmailTaken] | None:
            return (EmailTaken(),) if rows.is_taken(user.email) else None

        return await self._write(create, if_refused=look_again)

    async def create_session(self, session: NewSession, *, now_ms: int) -> Session | None:
        def create(rows: AccountRows) -> Session | None:
            if rows.by_id(session.user_id) is None:
                return None
            return _insert_session(rows, session, now_ms)

        def look_again(rows: AccountRows) -> tuple[None] | None:
            return (None,) if rows.by_id(session.user_id) is None else None

        return await self._write(create, if_refused=look_again) if is_text(session.user_id) else None

    async def list_live(self, user_id: str, *, now_ms: int) -> Sequence[Session]:
        return await self._read(lambda rows: rows.live_sessions_of(user_id, now_ms)) if is_text(user_id) else []

    async def extend(self, session: Session, *, expires_at_ms: int, now_ms: int) -> bool:
        return await self._sessions.extend(session, expires_at_ms=expires_at_ms, now_ms=now_ms)

    async def delete_session(self, token: str) -> bool:
        def delete(rows: AccountRows) -> bool:
            session = rows.session(token)
            return session is not None and rows.delete_session(session)

        return await self._write(delete) if is_text(token) else False

    async def revoke_session(self, user_id: str, token_or_id: str) -> Session | None:
        def revoke(rows: AccountRows) -> Session | None:
            session = rows.session_of(user_id, token_or_id)
            return session if session is not None and rows.delete_session(session) else None

        return await self._write(revoke) if is_text(user_id) and is_text(token_or_id) else None

    async def revoke_sessions(self, user_id: str, *, but_token: str | None = None) -> Sequence[str]:
        return await self._write(lambda rows: _revoke(rows, user_id, but_token)) if is_text(user_id) else []

    async def update_user(self, user_id: str, changes: Mapping[str, object], *, now_ms: int) -> User | None:
        _require_known(changes, (*_USER_CHANGES, *self._tables.user_extra))

        def change(rows: AccountRows) -> User | None:
            rows.update_user(user_id, changes, now_ms)
            found = rows.by_id(user_id)
            return None if found is None else found.user

        return await self._write(change) if is_text(user_id) else None

    async def update_session(self, token: str, changes: Mapping[str, object], *, now_ms: int) -> Session | None:
        _require_known(changes, self._tables.session_extra)

        def change(rows: AccountRows) -> Session | None:
            session = rows.session(token)
            if session is None:
                return None
            rows.update_session(session, changes, now_ms)
            return rows.session(token)

        return await self._write(change) if is_text(token) else None

    async def change_password(
        self,
        user_id: str,
        password: str,
        *,
        account_id: str,
        now_ms: int,
        old: str | None = None,
        revoke: bool = False,
        session: NewSession | None = None,
    ) -> PasswordChanged | None:
        _require_text(password, account_id)

        def change(rows: AccountRows) -> PasswordChanged | None:
            if rows.by_id(user_id) is None or not _set_password(rows, user_id, account_id, password, now_ms, old):
                return None
            revoked = _revoke(rows, user_id) if revoke else []
            return PasswordChanged(revoked, None if session is None else _insert_session(rows, session, now_ms))

        return await self._write(change) if is_text(user_id) and is_text(old or "") else None

    async def create_verification(self, verification: NewVerification, *, now_ms: int) -> None:
        _require_text(verification.id, verification.identifier, verification.value)

        def create(rows: AccountRows) -> None:
            rows.delete_expired_verifications(now_ms)
            rows.insert_verification(verification, now_ms)

        await self._write(create)

    async def find_verification(self, identifier: str, *, now_ms: int) -> Verification | None:
        if not is_text(identifier):
            return None
        found = await self._read(lambda rows: rows.verifications(identifier))
        return found[0] if found and found[0].expires_at_ms >= now_ms else None

    async def reset_password(
        self, identifier: str, password: str, *, account_id: str, now_ms: int, revoke: bool = False
    ) -> PasswordReset | None:
        _require_text(password, account_id)

        def reset(rows: AccountRows) -> PasswordReset | None:
            found = _consume(rows, identifier, now_ms)
            credential = None if found is None else rows.by_id(found.value)
            if credential is None or credential.password == UNUSABLE_HASH:
                return None
            user = credential.user
            _set_password(rows, user.id, account_id, password, now_ms, None)
            return PasswordReset(user, _revoke(rows, user.id) if revoke else [])

        return await self._write(reset) if is_text(identifier) else None

    async def disable_user(self, user_id: str, *, now_ms: int) -> Disabled | None:
        def disable(rows: AccountRows) -> Disabled | None:
            if rows.by_id(user_id) is None:
                return None
            if rows.has_bans:
                rows.update_user(user_id, {"banned": True, **rows.without_end}, now_ms)
            else:
                rows.update_password(user_id, UNUSABLE_HASH, now_ms, None)
            after = rows.by_id(user_id)
            assert after is not None  # noqa: S101 - it was there, in this transaction
            return Disabled(after.user, _revoke(rows, user_id), rows.has_bans)

        return await self._write(disable) if is_text(user_id) else None

    async def enable_user(self, user_id: str, *, now_ms: int) -> Credential | None:
        def enable(rows: AccountRows) -> Credential | None:
            if rows.has_bans:
                rows.update_user(user_id, {"banned": False, **rows.without_end}, now_ms)
            return rows.by_id(user_id)

        return await self._write(enable) if is_text(user_id) else None

    async def check(self) -> None:
        await self._reader.check()

    async def close(self) -> None:
        await self._sessions.close()

    async def _read(self, work: Callable[[AccountRows], _T]) -> _T:
        """What this finds on a connection of the reader."""
        return await self._ask(self._reader, lambda plan, connection: work(self._rows(connection, plan)))

    async def _write(
        self, work: Callable[[AccountRows], _T], *, if_refused: Callable[[AccountRows], tuple[_T] | None] | None = None
    ) -> _T:
        """What this gives in one transaction.

        Where the database refuses a row for a key, all is undone, and `if_refused` is asked what to give instead; None
        where it knows nothing.
        """

        def write(plan: Plan, connection: Connection) -> _T:
            try:
                return in_transaction(connection, lambda within: work(self._rows(within, plan)))
            except IntegrityError:
                instead = None if if_refused is None else if_refused(self._rows(connection, plan))
                if instead is None:
                    raise
                return instead[0]

        return await self._ask(self._writer, write)

    async def _ask(self, store: SqlStore, work: Callable[[Plan, Connection], _T]) -> _T:
        """What this gives.  Connections that have died are replaced when reading; a write is not repeated.

        Raises StoreError where a text in a row is not UTF-8, and where a value does not fit its column.
        """

        def ask(plan: Plan, connection: Connection) -> tuple[_T] | None:
            try:
                return (work(plan, connection),)
            except DBAPIError as exc:
                if not _is_misfit(exc):
                    raise
                return None

        await self._reader.check()
        found = await store.work_as_planned(ask)
        if found is None:
            raise StoreError("a value does not fit its column, or a text in a row is not UTF-8")
        return found[0]

    def _rows(self, connection: Connection, plan: Plan) -> AccountRows:
        return AccountRows(connection, plan, self._tables, self._zone)


def _insert_session(rows: AccountRows, session: NewSession, now_ms: int) -> Session:
    _require_text(session.id, session.token, session.user_id, session.ip_address, session.user_agent)
    made = rows.insert_session(session, now_ms)
    assert made is not None  # noqa: S101 - it was written in this transaction
    return made


def _set_password(
    rows: AccountRows, user_id: str, account_id: str, password: str, now_ms: int, old: str | None
) -> bool:
    """Whether it was set: with `old`, only where the hash is still that one.  Links for a new password end with it."""
    if not rows.update_password(user_id, password, now_ms, old):
        if old is not None:
            return False
        rows.insert_password(user_id, account_id, password, now_ms)
    for identifier in rows.reset_links_of(user_id):  # one by one: two who do this never wait for one another
        rows.delete_verifications(identifier)
    return True


def _revoke(rows: AccountRows, user_id: str, but_token: str | None = None) -> list[str]:
    """The tokens of the sessions that were removed."""
    tokens = [token for token in rows.tokens_of(user_id) if token != but_token]
    rows.delete_sessions(user_id, tokens)
    return tokens


def _consume(rows: AccountRows, identifier: str, now_ms: int) -> Verification | None:
    """The newest value, which nobody else gets: whose statement removes it."""
    found = rows.verifications(identifier)
    if not found or not rows.delete_verifications(identifier):
        return None
    return found[0] if found[0].expires_at_ms >= now_ms else None


def _require_text(*texts: str) -> None:
    if not all(map(is_text, texts)):
        raise StoreError("a text that no database can hold was to be written")


def _require_known(changes: Mapping[str, object], known: Sequence[str]) -> None:
    unknown = sorted(changes.keys() - set(known))
    if unknown:
        raise ValueError(f"these fields are not changed: {', '.join(unknown)}")
    _require_text(*(value for value in changes.values() if isinstance(value, str)))


def _is_misfit(exc: DBAPIError) -> bool:
    """Whether a value does not fit, and the connection is none the worse."""
    arguments: tuple[object, ...] = getattr(exc.orig, "args", ())
    state = getattr(exc.orig, "sqlstate", None) or ""
    return arguments[:1] in _NOT_FITTING or isinstance(exc, DataError) or state.startswith(_DATA_EXCEPTION)
