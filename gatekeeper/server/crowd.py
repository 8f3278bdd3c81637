"""How many clients there are: in all, and of each address.  Plain counting, no I/O.

Where the gate runs as several workers, `limit` is that of all together, and the others' counts come from a board that
all can see; `per_address` is that of one worker.
"""

from typing import Protocol

from gatekeeper.core.forwarding import UNIX_PEER, TrustedProxies

_OVERRUN = 1.1
"""How far beyond the limit connections are still told why they are refused."""


class Board(Protocol):
    """Where workers show one another how many clients they have."""

    def publish(self, count: int) -> int:
        """Show this worker's count; returns the sum of all."""
        ...


class Crowd:
    """Counts connections.  `limit` and `per_address` are None for no limit.  `count` is this process's own.

    Peers that are trusted proxies, and Unix peers, stand for many people: `per_address` does not hold for them.
    """

    def __init__(
        self, limit: int | None, per_address: int | None, trusted: TrustedProxies, board: Board | None = None
    ) -> None:
        self.count = 0
        self._board = board
        self._limit = limit
        self._per_address = per_address
        self._trusted = trusted
        self._of_address: dict[str, int] = {}

    @property
    def is_overrun(self) -> bool:
        """Whether there are so many that refusing them politely would cost too much."""
        return self._limit is not None and self._total() > self._limit * _OVERRUN

    def enter(self, address: str) -> bool:
        """Count a connection; returns whether it is within the limits.  Counted or not, `leave` must follow."""
        self.count += 1
        mine = self._of_address.get(address, 0) + 1
        self._of_address[address] = mine
        total = self._total()
        if self._limit is not None and total > self._limit:
            return False
        return self._per_address is None or mine <= self._per_address or self._is_exempt(address)

    def leave(self, address: str) -> None:
        """A counted connection is gone."""
        self.count -= 1
        self._total()
        mine = self._of_address[address] - 1
        if mine:
            self._of_address[address] = mine
        else:
            del self._of_address[address]

    def _total(self) -> int:
        return self.count if self._board is None else self._board.publish(self.count)

    def _is_exempt(self, address: str) -> bool:
        return address == UNIX_PEER or self._trusted.trusts(address.partition("%")[0])
