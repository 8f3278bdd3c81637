"""What `gatekeeper migrate --feed` does: a store is made to tell of changes, or to tell no more.

Each engine has statements of its own; what only one of them needs is imported where that one is set up.
"""

from collections.abc import AsyncGenerator, Iterator

from gatekeeper.config.redis_url import parse_redis_url
from gatekeeper.config.schema import Settings
from gatekeeper.config.server_url import KINDS, parse_server_url
from gatekeeper.config.store_checks import APP, REDIS, SQLITE, SQLITE_FILE, kind_of, sqlite_path
from gatekeeper.core.errors import GatekeeperError, MissingTable
from gatekeeper.stores import tables_of
from gatekeeper.stores.feeds import sqlite_setup
from gatekeeper.stores.installed import require


async def set_up(settings: Settings, *, undo: bool) -> AsyncGenerator[str]:
    """Do it, or undo it: gives a line for each thing, once it is done.

    Raises GatekeeperError, with what was to be done next undone.
    """
    _refuse_without_feed(settings)
    store = settings.store
    redis = _redis_of(settings)
    if redis is not None:
        for line in await _apply_to_redis(redis, undo=undo):
            yield line
        if redis == store.url:
            return
    try:
        yield await _apply_to_database(settings, undo=undo)
    except MissingTable as error:
        if redis is None:
            raise
        yield f"{error}: sessions are in Redis alone, and nothing is to be done there"


def as_text(settings: Settings, *, undo: bool) -> Iterator[str]:
    """The same as lines for whoever runs the database: SQL in a transaction, and Redis' commands.

    Raises GatekeeperError.
    """
    _refuse_without_feed(settings)
    url, redis = settings.store.url, _redis_of(settings)
    if redis is not None:
        from gatekeeper.stores.feeds.redis_setup import commands

        if redis != url:
            yield f"-- {parse_redis_url(redis).label}"
        yield from commands(undo=undo)
        if redis == url:
            return
        yield f"-- {_label_of(url)}"
    yield "BEGIN IMMEDIATE;" if kind_of(url) == SQLITE else "BEGIN;"
    for statement in _statements(settings, undo=undo):
        yield statement.rstrip("; \n") + ";"
    yield "COMMIT;"


def _refuse_without_feed(settings: Settings) -> None:
    kind = kind_of(settings.store.url)
    if kind in APP:
        raise GatekeeperError("an app that is asked has no feed; a session is believed for one second")
    if KINDS.get(kind) == "mysql":
        raise GatekeeperError("MySQL has no feed; a session is believed for one second")


def _redis_of(settings: Settings) -> str | None:
    """The URL of the Redis that has sessions, alone or in front of a database."""
    store = settings.store
    return store.url if kind_of(store.url) in REDIS else store.secondary


async def _apply_to_redis(url: str, *, undo: bool) -> list[str]:
    require("redis", "redis")
    from gatekeeper.stores.feeds.redis_setup import apply

    return await apply(parse_redis_url(url), undo=undo)


async def _apply_to_database(settings: Settings, *, undo: bool) -> str:
    url, statements = settings.store.url, _statements(settings, undo=undo)
    if kind_of(url) == SQLITE:
        sqlite_setup.apply(sqlite_path(url), statements)
    else:
        require("asyncpg", "postgres")
        from gatekeeper.stores.feeds.postgres_setup import apply

        await apply(parse_server_url(url), statements)
    done = "the triggers were removed" if undo else "triggers tell running gates of changes"
    return f"{_label_of(url)}: {done}"


def _statements(settings: Settings, *, undo: bool) -> list[str]:
    tables = tables_of(settings)
    if kind_of(settings.store.url) == SQLITE:
        return sqlite_setup.statements(tables, undo=undo)
    from gatekeeper.stores.feeds.postgres_setup import statements

    return statements(tables, undo=undo)


def _label_of(url: str) -> str:
    """What messages call this database."""
    return url.removeprefix(SQLITE_FILE) if kind_of(url) == SQLITE else parse_server_url(url).label
