"""Each kind of database, migrated and empty; hashes that cost nothing; a clock in hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gatekeeper.server import accounts_mode, app
from gatekeeper.stores.sql import SqlStore
from tests.server.accounts.sites import TABLES, QuickPasswords, migrate
from tests.server.clock import Clock
from tests.server.conftest import now_ms
from tests.servers.labs import MariadbLab, PostgresLab
from tests.stores.account_places import AccountPlace, MariadbAccounts, PostgresAccounts, SqliteAccounts
from tests.stores.conftest import mariadb_server, postgres_server

__all__ = ["mariadb_server", "postgres_server"]

PLACES: dict[str, Callable[[pytest.FixtureRequest, Path], AccountPlace]] = {
    "sqlite": lambda _request, path: SqliteAccounts(path),
    "postgres": lambda request, _: PostgresAccounts(PostgresLab(request.getfixturevalue("postgres_server"))),
    "mariadb": lambda request, _: MariadbAccounts(MariadbLab(request.getfixturevalue("mariadb_server"))),
}
SCHEMAS: dict[str, object] = {}
"""By URL, the tables of each server's database as they were made."""


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AccountPlace:
    """A database as `gatekeeper migrate` leaves it: made once, and emptied for a test where none has spoilt it."""
    found = PLACES[request.param](request, tmp_path / "auth.db")
    if not await _is_emptied(found):
        await found.empty()
        await migrate(found)
        SCHEMAS[found.url] = await found.schema()
    return found


@pytest.fixture
async def sqlite(tmp_path: Path) -> SqliteAccounts:
    """A SQLite file as `gatekeeper migrate` leaves it."""
    found = SqliteAccounts(tmp_path / "auth.db")
    await migrate(found)
    return found


async def _is_emptied(place: AccountPlace) -> bool:
    """Whether this has the tables that it should have, which are empty now."""
    if isinstance(place, SqliteAccounts) or SCHEMAS.get(place.url) != await place.schema():
        return False
    for table in (*TABLES[::-1], "gatekeeper_attempt"):
        await place.execute(f"delete from {place.quoted(table)}")  # noqa: S608
    return True


class Hashing:
    """The passwords of the gate that was opened last."""

    passwords: QuickPasswords

    def open(self, threads: int) -> QuickPasswords:
        self.passwords = QuickPasswords(threads)
        return self.passwords


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Hashing:
    """Gates of this test hash passwords at no cost."""
    hashing = Hashing()
    monkeypatch.setattr(accounts_mode, "Passwords", hashing.open)
    return hashing


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Databases may take as long as they like: a machine that is busy with other things is no outage."""
    monkeypatch.setitem(SqlStore.__init__.__kwdefaults__, "timeout_s", 60.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What gates of this test take for the time, in milliseconds since the epoch."""
    clock = Clock(now_ms())
    monkeypatch.setattr(app, "now_ms", clock)
    return clock
