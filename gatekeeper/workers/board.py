"""A board on which workers show one another how many clients they have: a number for each, in memory that all share.

Each worker writes its own number and reads the sum, so that a limit holds over all of them: of two that let a client in
at the same moment each sees the other's, and the limit is never exceeded.  Nothing is waited for.
"""

import mmap
import os

_BYTES = 8


class WorkerBoard:
    """The board in the memory behind a file descriptor, as worker `place` (from 0 on) of so many sees it."""

    def __init__(self, descriptor: int, places: int, place: int) -> None:
        self._numbers = memoryview(mmap.mmap(descriptor, places * _BYTES)).cast("q")
        self._place = place

    def publish(self, count: int) -> int:
        """Show this worker's number of clients; returns the sum of all."""
        self._numbers[self._place] = count
        return sum(self._numbers)

    def clear(self, place: int) -> None:
        """The worker at this place has ended, and its clients' connections with it."""
        self._numbers[place] = 0


def make_board(places: int) -> int:
    """A file descriptor of memory for so many workers, all of them with no clients.  Raises OSError."""
    descriptor = os.memfd_create("gatekeeper-workers")
    os.ftruncate(descriptor, places * _BYTES)
    return descriptor
