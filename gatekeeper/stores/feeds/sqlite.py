"""A SQLite file's way of telling: a connection that never writes looks five times a second whether anybody else did.

`PRAGMA data_version` moves with each commit of another connection, in this process or another one.  What changed then
is read from the change table of `sqlite_setup`, where that is set up for these tables.  Otherwise what is in memory is
read again: that finds changed sessions and users, but no changed memberships.
"""

import asyncio
import logging
from pathlib import Path

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.stores.feeds.feed import Changes, Memory
from gatekeeper.stores.feeds.sqlite_watch import BUSY_S, News, Watch
from gatekeeper.stores.lease import LOST_S
from gatekeeper.stores.tables import Tables

logger = logging.getLogger("gatekeeper")

POLL_S = 0.2
"""How often is looked."""

_HINT = "`gatekeeper migrate --feed` makes that cheaper"


class SqliteChannel:
    """A Channel on the file at this path.

    After a commit, where there is no change table, `memory` is reconciled.
    """

    def __init__(
        self,
        path: Path,
        tables: Tables,
        memory: Memory,
        *,
        interval_s: float = POLL_S,
        busy_s: float = BUSY_S,
    ) -> None:
        self.label = str(path)
        self.interval_s = interval_s
        self._path = path
        self._tables = tables
        self._memory = memory
        self._busy_s = busy_s
        self._opened: tuple[Watch, Changes] | None = None
        self._has_hinted = False
        self._has_warned = False

    def __repr__(self) -> str:
        return f"<SqliteChannel {self.label}, {'open' if self._opened else 'not open'}>"

    @property
    def names_all(self) -> bool:
        return self._opened is not None and self._opened[0].has_table

    async def open(self, changes: Changes) -> None:
        """Begin to look.  Raises StoreUnavailable, MissingTable, and FeedNotSetUp where only triggers could tell."""
        await self.close()
        watch = Watch(self._path, self._tables, self._busy_s)
        self._opened = watch, changes
        try:
            await watch.ask(watch.begin)
        except BaseException:
            await self.close()
            raise
        if not watch.has_table and not self._has_hinted:
            self._has_hinted = True
            logger.info("%s: sessions in memory are read again after commits; %s", self.label, _HINT)

    async def turn(self) -> None:
        """Tell of everything that was committed before this was called, whether or not there is a change table."""
        if self._opened is None:
            raise StoreUnavailable(f"{self.label}: the feed is not open")
        watch, changes = self._opened
        try:
            news = await watch.ask(watch.look)
            if news is not None:
                await self._tell(news, changes)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of the file."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened[0].close()

    async def _tell(self, news: News, changes: Changes) -> None:
        if news.is_everything:
            changes.all_changed()
        for digest in news.sessions:
            changes.session_changed(digest)
        for digest in news.users:
            changes.user_changed(digest)
        if not self.names_all:
            await self._reconcile()

    async def _reconcile(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self._memory.reconcile()
        took_s = loop.time() - began
        if took_s > LOST_S and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "%s: reading what is in memory again after a commit took %.1f s, so memory is not believed for longer "
                "than a second; `gatekeeper migrate --feed` saves that",
                self.label,
                took_s,
            )
