"""A store's trouble in the log: when it begins, shows in another way, and ends, not for each request."""

import logging

logger = logging.getLogger("gatekeeper")

_MOST = 8


class Troubles:
    """Trouble of one kind, and the lines that say that it began and that it is over.

    Each way in which it shows is logged once: what is under way when a server ends fails in several, by turns.
    """

    def __init__(self, beginning: str, end: str) -> None:
        self._beginning = beginning
        self._end = end
        self._known: set[str] = set()

    def began(self, reason: str) -> None:
        """The store could not be asked, for this reason."""
        if reason not in self._known and len(self._known) < _MOST:
            logger.error("%s: %s", self._beginning, reason)
            self._known.add(reason)

    def ended(self) -> None:
        """The store has answered."""
        if self._known:
            logger.warning("%s", self._end)
            self._known.clear()
