"""Better Auth's tables as accounts mode writes them: under Better Auth's own names, dates as each dialect has them.

Reading and writing are told in whole milliseconds since the epoch; what is stored is ISO 8601 text in SQLite, a point
in time in PostgreSQL, and the clock of a zone in MySQL.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from sqlalchemy import Boolean, Dialect, String, TableClause, TypeDecorator, column, table
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.types import DateTime, NullType, TypeEngine

from gatekeeper.stores.records import SESSION_FIELDS, USER_FIELDS, date_ms, iso_text
from gatekeeper.stores.tables import Tables, quoted

ACCOUNT_FIELDS = ("id", "accountId", "providerId", "userId", "password", "createdAt", "updatedAt")
VERIFICATION_FIELDS = ("id", "identifier", "value", "expiresAt", "createdAt", "updatedAt")
BAN_FIELDS = ("banned", "banReason", "banExpires")

_DATES = frozenset({"expiresAt", "createdAt", "updatedAt", "banExpires"})
_FLAGS = frozenset({"emailVerified", "banned"})


class Milliseconds(TypeDecorator[int]):
    """A date in whole milliseconds since the epoch.  `zone` is what dates without a zone are in."""

    impl = DateTime
    cache_ok = True

    def __init__(self, zone: tzinfo = UTC) -> None:
        super().__init__()
        self.zone = zone

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String())
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        return dialect.type_descriptor(DATETIME(fsp=3))

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | datetime | None:
        if value is None:
            return None
        if dialect.name == "sqlite":
            return iso_text(value)
        moment = datetime.fromtimestamp(value // 1000, UTC).replace(microsecond=value % 1000 * 1000)
        return moment if dialect.name == "postgresql" else moment.astimezone(self.zone).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        """None for what is no date, too."""
        return date_ms(with_zone(value, self.zone))


class AccountTables:
    """The four tables, with the types of what is written, and of users and sessions the declared further fields."""

    def __init__(self, tables: Tables, zone: tzinfo = UTC) -> None:
        self.user_extra, self.session_extra = tuple(tables.user.extra), tuple(tables.session.extra)
        self.user: Any = _table("user", (*USER_FIELDS, *BAN_FIELDS), zone, self.user_extra)
        self.session: Any = _table("session", SESSION_FIELDS, zone, self.session_extra)
        self.account: Any = _table("account", ACCOUNT_FIELDS, zone)
        self.verification: Any = _table("verification", VERIFICATION_FIELDS, zone)


def with_zone(value: Any, zone: tzinfo) -> Any:
    """A date without a zone in this one; anything else as it is."""
    return value.replace(tzinfo=zone) if isinstance(value, datetime) and value.tzinfo is None else value


def _table(name: str, fields: Sequence[str], zone: tzinfo, extra: Sequence[str] = ()) -> TableClause:
    kinds: dict[str, TypeEngine[Any]] = {field: _type_of(field, zone) for field in fields}
    kinds = {**dict.fromkeys(extra, NullType()), **kinds}
    return table(quoted(name), *(column(quoted(field), kind) for field, kind in kinds.items()))


def _type_of(field: str, zone: tzinfo) -> TypeEngine[Any]:
    if field in _DATES:
        return Milliseconds(zone)
    return Boolean() if field in _FLAGS else String()
