"""What `gatekeeper migrate` does in accounts mode: the tables of accounts, and the feed, which is part of it there."""

import os
import sqlite3
import tempfile
from collections.abc import AsyncGenerator
from contextlib import closing, suppress
from pathlib import Path

from gatekeeper.config.schema import Settings
from gatekeeper.config.server_url import KINDS
from gatekeeper.config.store_checks import SQLITE, kind_of, sqlite_path
from gatekeeper.core.errors import GatekeeperError, StoreUnavailable
from gatekeeper.migrations import upgrade
from gatekeeper.stores import open_database
from gatekeeper.stores.opening_accounts import own_names, refuse_without_database
from gatekeeper.stores.sql import work_alone
from gatekeeper.stores.transactions import in_transaction

MIGRATE_S = 60.0
"""How long making the tables may take, waiting for others included."""


async def migrate_accounts(settings: Settings) -> AsyncGenerator[str]:
    """Make what is missing, and give a line for each thing that is done.  May be done again at any time.

    A SQLite file is made, for its owner alone to read, with a write-ahead log.  Raises GatekeeperError where a table
    does not fit, and where the database cannot be changed: what was to be done next is undone then, but for MySQL's
    tables.
    """
    refuse_without_database(settings)
    url = settings.store.url
    if kind_of(url) == SQLITE:
        _make_file(sqlite_path(url))
    database = open_database(url, writable=True)
    try:
        made = await work_alone(database, lambda found: in_transaction(found, upgrade), timeout_s=MIGRATE_S)
    except StoreUnavailable:
        raise
    except GatekeeperError as error:
        raise GatekeeperError(f"{database.label}: {error}") from error
    done = f"made the tables {', '.join(made)}" if made else "the tables of accounts are in order"
    yield f"{database.label}: {done}"
    if KINDS.get(kind_of(url)) != "mysql":
        from gatekeeper.stores.feeds.setup import set_up

        async for line in set_up(own_names(settings), undo=False):
            yield line


def _make_file(path: Path) -> None:
    """Make an empty database where there is no file, with a write-ahead log: readers then never wait for a writer, and
    a commit takes a quarter of the time.

    It comes to its name whole, so that whoever else is there at the same moment never finds half of it.  Hashes of
    passwords will be in it.
    """
    if path.exists():
        return
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as exc:
        raise GatekeeperError(f"{path}: {exc.strerror}") from exc
    os.close(handle)
    draft = Path(name)
    try:
        with closing(sqlite3.connect(draft)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        with suppress(FileExistsError):  # somebody else was there first
            os.link(draft, path)
    except (OSError, sqlite3.Error) as exc:
        raise GatekeeperError(f"{path}: {getattr(exc, 'strerror', None) or exc}") from exc
    finally:
        draft.unlink()
