"""What is wrong with accounts mode: where accounts are kept, and settings that mean nothing with it or without it."""

from collections.abc import Iterator

from gatekeeper.config.schema import Accounts, Columns, Limits, Settings, Tables
from gatekeeper.config.server_url import KINDS
from gatekeeper.config.smtp_url import check_smtp
from gatekeeper.config.store_checks import SQLITE, kind_of
from gatekeeper.core.model import Target
from gatekeeper.core.urls import parse_target

Finding = tuple[str, str]

LONGEST_PASSWORD = 128
"""What Better Auth takes at most."""

SIGN_IN = "/sign-in"

_OFF = "this is for accounts mode, which is off: set accounts.enabled"
_OWN = (".gatekeeper", ".well-known", "sign-in", "sign-up")
_WRITABLE = "people may change their own fields that stand here, and this one is read anyway: leave it out"
_ROW = ("id", "createdAt", "updatedAt")
_KNOWN = {
    "user": {
        *_ROW,
        *("name", "email", "emailVerified", "image"),
        *("role", "banned", "banReason", "banExpires", "twoFactorEnabled"),
    },
    "session": {
        *_ROW,
        *("expiresAt", "token", "ipAddress", "userAgent", "userId"),
        *("impersonatedBy", "activeOrganizationId"),
    },
}
"""Fields that mean something to the gate, and are read wherever the tables have them."""


def check_accounts(settings: Settings) -> Iterator[Finding]:
    """Everything that is wrong with accounts, and with settings of theirs where there are none."""
    accounts = settings.accounts
    if not accounts.enabled:
        for name in ("sign_up", "smtp"):
            if getattr(accounts, name):
                yield f"accounts.{name}", _OFF
        if settings.limits.sign_in_attempts != Limits().sign_in_attempts:
            yield "limits.sign_in_attempts", _OFF
        return
    yield from _check_place(settings)
    yield from _check_own_settings(settings)
    yield from check_smtp(settings)
    rate = settings.limits.sign_in_attempts
    if rate.count < 1 or rate.per < 1:
        yield "limits.sign_in_attempts", "expected at least one attempt in a second or more, like 5/1m"


def _check_place(settings: Settings) -> Iterator[Finding]:
    """Accounts are in one database, in tables that `gatekeeper migrate` makes."""
    store, kind = settings.store, kind_of(settings.store.url)
    if kind != SQLITE and kind not in KINDS:
        yield "store.url", "accounts are kept in a database: sqlite:///auth.db, postgresql://… or mysql://…"
    if store.secondary is not None:
        yield "store.secondary", "in accounts mode sessions are kept in the database alone: leave this out"
    if (store.tables, store.columns) != (Tables(), Columns()):
        yield "store", "in accounts mode tables and columns have Better Auth's own names: leave these out"
    for kind, known in _KNOWN.items():
        for index, name in enumerate(getattr(store.fields, kind)):
            if name in known:
                yield f"store.fields.{kind}[{index}]", _WRITABLE
    for index, rule in enumerate(settings.protect):
        if rule.require.organizations:
            yield f"protect[{index}].require.organizations", "accounts mode has no organizations"


def _check_own_settings(settings: Settings) -> Iterator[Finding]:
    if settings.sign_in != SIGN_IN:
        yield "sign_in", f"accounts mode has a sign-in page of its own, {SIGN_IN}: leave this out"
    if settings.session.serve_get_session:
        yield "session.serve_get_session", "accounts mode answers get-session anyway: leave this out"
    base = parse_target("GET", settings.accounts.base_path)
    if isinstance(base, Target) and (not base.folded or base.folded[0] in _OWN):
        yield "accounts.base_path", "expected a path of its own, like /api/auth"
    shortest = Accounts().min_password_length
    if not 1 <= settings.accounts.min_password_length <= LONGEST_PASSWORD:
        yield (
            "accounts.min_password_length",
            f"expected 1 to {LONGEST_PASSWORD} characters; Better Auth asks for {shortest}",
        )
