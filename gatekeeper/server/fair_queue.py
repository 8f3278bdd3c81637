"""A bounded queue in which nobody's thousandth comes before another's first.

What waits belongs to flows, such as an address and an account.  Each gets a *turn*: the one after the present, or after
the latest of its flows' that still waits; turns are served in order, and within one first come, first served.  So
before a newcomer come two of any other flow at most; and since turns go on, a stream of newcomers does not keep
anybody's second waiting for ever.  When full, whatever has the latest turn goes: a crowd of one flow cannot keep
others out either.

No I/O, no clock.
"""

from bisect import bisect_left, insort
from collections.abc import Hashable
from typing import Generic, TypeVar

_ItemT = TypeVar("_ItemT", bound=Hashable)


class FairQueue(Generic[_ItemT]):
    """At most `most` items, each once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._turn = 0
        self._serial = 0
        self._order: list[tuple[int, int, _ItemT]] = []  # serials differ, so items are never compared
        self._places: dict[_ItemT, tuple[int, int, tuple[str, ...]]] = {}
        self._flows: dict[str, tuple[int, int]] = {}  # how many wait, and the latest turn given

    def __len__(self) -> int:
        return len(self._order)

    def push(self, item: _ItemT, flows: tuple[str, ...]) -> _ItemT | None:
        """Let it wait; returns what had to go for it, perhaps the item itself, or None."""
        turn = 1 + max([self._turn, *(self._flows[flow][1] for flow in flows if flow in self._flows)])
        self._serial += 1
        self._places[item] = (turn, self._serial, flows)
        insort(self._order, (turn, self._serial, item))
        for flow in flows:
            self._flows[flow] = (self._flows.get(flow, (0, 0))[0] + 1, turn)
        if len(self._order) <= self._most:
            return None
        last = self._order[-1][2]
        self.remove(last)
        return last

    def pop(self) -> _ItemT | None:
        """What is next, removed; None if nothing waits."""
        if not self._order:
            return None
        self._turn, _, item = self._order[0]
        self.remove(item)
        return item

    def remove(self, item: _ItemT) -> bool:
        """It waits no more; returns whether it did."""
        place = self._places.pop(item, None)
        if place is None:
            return False
        turn, serial, flows = place
        del self._order[bisect_left(self._order, (turn, serial), key=lambda entry: entry[:2])]
        for flow in flows:
            count, latest = self._flows.pop(flow)
            if count > 1:
                self._flows[flow] = (count - 1, latest)
        return True
