"""Rows of Better Auth's tables on one connection: what `SqlAccounts` puts together to calls.

Texts that were asked for are compared once more, since a collation may find what was not asked for.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Any

from sqlalchemy import Connection, CursorResult, Executable, TableClause, delete, insert, literal, select, update

from gatekeeper.core.model import Session
from gatekeeper.stores.account_tables import BAN_FIELDS, AccountTables, Milliseconds, with_zone
from gatekeeper.stores.accounts import (
    CREDENTIAL,
    RESET_LINK,
    Credential,
    NewSession,
    NewUser,
    NewVerification,
    Verification,
)
from gatekeeper.stores.records import session_of, user_of
from gatekeeper.stores.tables import Mapped, Plan, table_of

_USER, _SESSION = Mapped("user"), Mapped("session")


class AccountRows:
    """The rows, asked over `connection`.  `plan` has the fields that the tables have; `zone` is that of dates."""

    def __init__(self, connection: Connection, plan: Plan, tables: AccountTables, zone: tzinfo) -> None:
        self._connection = connection
        self._plan = plan
        self._tables = tables
        self._zone = zone
        self._users: Any = table_of(_USER, plan.user_fields)
        self._sessions: Any = table_of(_SESSION, plan.session_fields)

    @property
    def has_bans(self) -> bool:
        """Whether users can be banned as Better Auth's admin plugin does."""
        return "banned" in self._plan.user_fields

    @property
    def without_end(self) -> dict[str, object]:
        """What else a ban sets: no end, where the table has one."""
        return {name: None for name in BAN_FIELDS[1:] if name in self._plan.user_fields}

    def by_email(self, email: str) -> Credential | None:
        wanted = _comparable(email)
        found = self._credentials(self._users.c.email == email.lower())
        return next((one for one in found if _comparable(one.user.email) == wanted), None)

    def is_taken(self, email: str) -> bool:
        """Whether the database has the address, by whatever collation it has."""
        users = self._users.c
        return self._connection.execute(select(users.id).where(users.email == email)).first() is not None

    def by_id(self, user_id: str) -> Credential | None:
        found = self._credentials(self._users.c.id == user_id)
        return next((one for one in found if one.user.id == user_id), None)

    def newest_users(self, limit: int) -> list[Credential]:
        return self._credentials(limit=limit)

    def live_sessions_of(self, user_id: str, now_ms: int) -> list[Session]:
        """Those that can be read, in the order of the database."""
        is_live = self._sessions.c.expiresAt > literal(now_ms, Milliseconds(self._zone))
        found = self._read_sessions(self._sessions.c.userId == user_id, is_live)
        return [one for one in found if one.user_id == user_id and one.expires_at_ms > now_ms]

    def session(self, token: str) -> Session | None:
        found = self._read_sessions(self._sessions.c.token == token)
        return next((session for session in found if session.token == token), None)

    def session_of(self, user_id: str, token_or_id: str) -> Session | None:
        """The user's session with this token, else the one with this id."""
        sessions = self._sessions.c
        either = (sessions.token == token_or_id) | (sessions.id == token_or_id)
        found = [one for one in self._read_sessions(sessions.userId == user_id, either) if one.user_id == user_id]
        named = [one for one in found if token_or_id in (one.token, one.id)]
        return next((one for one in named if one.token == token_or_id), named[0] if named else None)

    def tokens_of(self, user_id: str) -> list[str]:
        """Of sessions that cannot be read, too."""
        sessions = self._sessions.c
        return list(self._connection.scalars(select(sessions.token).where(sessions.userId == user_id)))

    def verifications(self, identifier: str) -> list[Verification]:
        """The values with this identifier, newest first."""
        table = self._tables.verification
        rows = self._connection.execute(
            select(table.c.identifier, table.c.value, table.c.expiresAt)
            .where(table.c.identifier == identifier)
            .order_by(table.c.createdAt.desc())
        )
        return [Verification(*row) for row in rows if row[0] == identifier and row[2] is not None]

    def reset_links_of(self, user_id: str) -> list[str]:
        """The identifiers of the user's links for a new password."""
        columns = self._tables.verification.c
        is_theirs = (columns.value == user_id) & columns.identifier.startswith(RESET_LINK)
        return list(self._connection.scalars(select(columns.identifier).where(is_theirs)))

    def insert_user(self, user: NewUser, now_ms: int) -> None:
        self._insert(
            self._tables.user,
            id=user.id,
            name=user.name,
            email=user.email,
            emailVerified=user.email_verified,
            image=user.image,
            createdAt=now_ms,
            updatedAt=now_ms,
        )
        self.insert_password(user.id, user.account_id, user.password, now_ms)

    def insert_password(self, user_id: str, account_id: str, password: str, now_ms: int) -> None:
        self._insert(
            self._tables.account,
            id=account_id,
            accountId=user_id,
            providerId=CREDENTIAL,
            userId=user_id,
            password=password,
            createdAt=now_ms,
            updatedAt=now_ms,
        )

    def insert_session(self, session: NewSession, now_ms: int) -> Session | None:
        """The session as it then is."""
        self._insert(
            self._tables.session,
            id=session.id,
            token=session.token,
            userId=session.user_id,
            expiresAt=session.expires_at_ms,
            createdAt=now_ms,
            updatedAt=now_ms,
            ipAddress=session.ip_address,
            userAgent=session.user_agent,
        )
        return self.session(session.token)

    def insert_verification(self, verification: NewVerification, now_ms: int) -> None:
        self._insert(
            self._tables.verification,
            id=verification.id,
            identifier=verification.identifier,
            value=verification.value,
            expiresAt=verification.expires_at_ms,
            createdAt=now_ms,
            updatedAt=now_ms,
        )

    def update_user(self, user_id: str, changes: Mapping[str, object], now_ms: int) -> None:
        table = self._tables.user
        values = {table.c[name]: value for name, value in {**changes, "updatedAt": now_ms}.items()}
        self._run(update(table).where(table.c.id == user_id).values(values))

    def update_session(self, session: Session, changes: Mapping[str, object], now_ms: int) -> None:
        table = self._tables.session
        values = {table.c[name]: value for name, value in {**changes, "updatedAt": now_ms}.items()}
        self._run(update(table).where(table.c.id == session.id, table.c.token == session.token).values(values))

    def update_password(self, user_id: str, password: str, now_ms: int, old: str | None) -> bool:
        """Whether the user had a password to change and, unless `old` is None, had that one."""
        table = self._tables.account
        conditions = [*self._is_credential(user_id), *([] if old is None else [table.c.password == old])]
        return self._run(update(table).where(*conditions).values(password=password, updatedAt=now_ms)) > 0

    def delete_session(self, session: Session) -> bool:
        table = self._tables.session
        return self._run(delete(table).where(table.c.id == session.id, table.c.token == session.token)) > 0

    def delete_sessions(self, user_id: str, tokens: Sequence[str]) -> None:
        """Those of the user's sessions that have one of these tokens; by all in one order, so that nobody's wait is a
        circle.
        """
        table = self._tables.session
        for token in sorted(tokens):
            self._run(delete(table).where(table.c.userId == user_id, table.c.token == token))

    def delete_verifications(self, identifier: str) -> int:
        table = self._tables.verification
        return self._run(delete(table).where(table.c.identifier == identifier))

    def delete_expired_verifications(self, now_ms: int) -> None:
        table = self._tables.verification
        self._run(delete(table).where(table.c.expiresAt < now_ms))

    def _credentials(self, *conditions: Any, limit: int | None = None) -> list[Credential]:
        users, account = self._users, self._tables.account
        is_theirs = (account.c.userId == users.c.id) & (account.c.accountId == users.c.id)
        joined = users.outerjoin(account, is_theirs & (account.c.providerId == CREDENTIAL))
        statement = select(account.c.password, *users.c).select_from(joined).where(*conditions)
        if limit is not None:
            statement = statement.order_by(users.c.createdAt.desc()).limit(limit)
        found: list[Credential] = []
        for password, *row in self._connection.execute(statement):
            user = user_of(self._fields(self._plan.user_fields, row), self._tables.user_extra)
            if user is not None:
                found.append(Credential(user, password))
        return found

    def _is_credential(self, user_id: str) -> tuple[Any, Any, Any]:
        account = self._tables.account.c
        return account.userId == user_id, account.accountId == user_id, account.providerId == CREDENTIAL

    def _read_sessions(self, *conditions: Any) -> list[Session]:
        fields = self._plan.session_fields
        rows = self._connection.execute(select(*self._sessions.c).where(*conditions))
        found = (session_of(self._fields(fields, row), self._tables.session_extra) for row in rows)
        return [session for session in found if session is not None]

    def _fields(self, names: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
        return {name: with_zone(value, self._zone) for name, value in zip(names, row, strict=True)}

    def _insert(self, table: TableClause, **values: object) -> None:
        self._run(insert(table).values(values))

    def _run(self, statement: Executable) -> int:
        """How many rows the statement found."""
        result: CursorResult[Any] = self._connection.execute(statement)
        return result.rowcount


def _comparable(email: str) -> str:
    """As Better Auth compares addresses."""
    return unicodedata.normalize("NFC", email).lower()
