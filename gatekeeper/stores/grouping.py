"""What many ask for at the same time, done together: a database commits a hundred changes as quickly as one.

What comes while others are done waits, and is done with all that has come meanwhile.  So nobody waits for more than the
group before and the own one, as long as no group is full.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

_ItemT = TypeVar("_ItemT")
_ResultT = TypeVar("_ResultT")

MOST_TOGETHER = 100
"""How many are done in one group."""


class Grouped(Generic[_ItemT, _ResultT]):
    """Does items in groups by `work`, which gives a result for each, in order; one group at a time."""

    def __init__(
        self, work: Callable[[Sequence[_ItemT]], Awaitable[Sequence[_ResultT]]], most: int = MOST_TOGETHER
    ) -> None:
        self._work = work
        self._most = most
        self._waiting: list[_ItemT] = []
        self._group: asyncio.Task[Sequence[_ResultT]] | None = None  # of those who wait
        self._last: asyncio.Task[Any] | None = None

    async def do(self, item: _ItemT) -> _ResultT:
        """The item's result, or what `work` raised for its group.

        Whoever gives up waiting leaves the item in its group: others may be done with it already.
        """
        if self._group is None or len(self._waiting) >= self._most:
            self._waiting = []
            self._group = self._last = asyncio.create_task(self._run(self._waiting, self._last))
            self._group.add_done_callback(_forgive)
        place, group = len(self._waiting), self._group
        self._waiting.append(item)
        return (await asyncio.shield(group))[place]

    async def _run(self, items: list[_ItemT], before: "asyncio.Task[Any] | None") -> Sequence[_ResultT]:
        if before is not None and not before.done():
            await asyncio.wait([before])
        if self._waiting is items:
            self._group = None  # who comes now makes another
        return await self._work(items)


def _forgive(group: "asyncio.Task[Any]") -> None:
    """Where all who waited for it have given up, nobody asks what it raised."""
    if not group.cancelled():
        group.exception()
