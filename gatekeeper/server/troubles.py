"""A store's trouble in the log: when it begins, shows in another way, and ends, not for each request."""

import logging
import time
from collections.abc import Callable

from gatekeeper.core.errors import StoreError, StoreLimited

logger = logging.getLogger("gatekeeper")

REPEAT_S = 60.0
"""After so long the same trouble is told again: it may have ended meanwhile, and nobody seen it."""

_MOST = 8


class Troubles:
    """Trouble of one kind, and the lines that say that it began and that it is over.  `clock` gives monotonic seconds.

    Each way in which it shows is logged by itself: what is under way when a server ends fails in several, by turns.
    """

    def __init__(self, beginning: str, end: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._beginning = beginning
        self._end = end
        self._clock = clock
        self._told: dict[str, float] = {}

    def began(self, error: StoreError, hint: str = "") -> None:
        """The store could not be asked, for this reason; of one visitor alone, that is not the store's trouble."""
        if isinstance(error, StoreLimited):
            logger.info("%s for one visitor: %s", self._beginning, error)
            return
        reason, now_s = f"{error}{hint}", self._clock()
        self._told = {known: told_s for known, told_s in self._told.items() if now_s - told_s < REPEAT_S}
        if reason not in self._told and len(self._told) < _MOST:
            logger.error("%s: %s", self._beginning, reason)
            self._told[reason] = now_s

    def ended(self) -> None:
        """The store has answered."""
        if self._told:
            logger.warning("%s", self._end)
            self._told.clear()
