"""The feed of a database with a secondary storage in front of it: both must tell, since a session may be in either.

Without `storeSessionInDatabase` the database has no table for sessions.  Then the storage tells all there is, as long
as no table turns up.
"""

import asyncio
from collections.abc import Awaitable

from gatekeeper.core.errors import MissingTable, StoreUnavailable
from gatekeeper.stores.feeds.feed import Changes, Channel

LOOK_AGAIN_TURNS = 20
"""After how many turns is looked whether there is a table by now."""


class BothChannels:
    """A Channel of two.  `front` is the storage's, `behind` the database's."""

    def __init__(self, front: Channel, behind: Channel) -> None:
        self.label = f"{front.label} and {behind.label}"
        self.interval_s = min(front.interval_s, behind.interval_s)
        self._front = front
        self._behind = behind
        self._has_table = True
        self._turns = 0

    def __repr__(self) -> str:
        return f"<BothChannels {self._front!r}, {self._behind!r}>"

    @property
    def names_all(self) -> bool:
        return self._front.names_all and (self._behind.names_all or not self._has_table)

    async def open(self, changes: Changes) -> None:
        self._changes = changes
        self._turns = 0
        await self._both(self._front.open(changes), self._open_behind(changes))

    async def turn(self) -> None:
        self._turns += 1
        await self._both(self._front.turn(), self._behind.turn() if self._has_table else self._look_again())

    async def close(self) -> None:
        # The second one also when the first one is cancelled while it closes.
        try:
            await self._front.close()
        finally:
            await self._behind.close()

    async def _both(self, front: Awaitable[None], behind: Awaitable[None]) -> None:
        """Wait for both.  When one fails, the other one is cancelled, and both channels are closed."""
        tasks = [asyncio.ensure_future(front), asyncio.ensure_future(behind)]
        try:
            await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.close()
            raise

    async def _open_behind(self, changes: Changes) -> None:
        try:
            await self._behind.open(changes)
        except MissingTable:
            self._has_table = False
            await self._behind.close()
        else:
            self._has_table = True

    async def _look_again(self) -> None:
        """Now and then open it once more; where there is a table, both are to be opened anew."""
        if self._turns % LOOK_AGAIN_TURNS != 0:
            return
        await self._open_behind(self._changes)
        if self._has_table:
            raise StoreUnavailable(f"{self._behind.label}: there is a table of sessions now")
