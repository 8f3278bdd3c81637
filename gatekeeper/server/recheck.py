"""Sessions of open streams, read again and again: how a stream ends with its session where no feed tells of that.

One question in a while for all of them.  A store that cannot answer changes nothing: a stream goes on until its session
expires, or the store can say that it has ended.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from gatekeeper.core.errors import StoreError
from gatekeeper.core.model import SessionRecord, SessionToken
from gatekeeper.core.policy import fault_of
from gatekeeper.server.streams import Streams
from gatekeeper.stores.protocol import StoreIncomplete

logger = logging.getLogger("gatekeeper")


class Recheck:
    """Looks after these streams every so many seconds.  `clock` gives milliseconds since the epoch."""

    def __init__(
        self,
        streams: Streams,
        read_all: Callable[[Sequence[SessionToken]], Awaitable[Mapping[SessionToken, SessionRecord]]],
        clock: Callable[[], int],
        every_s: float,
    ) -> None:
        self._streams = streams
        self._read_all = read_all
        self._clock = clock
        self._every_s = every_s

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.look()
            except StoreError as error:
                logger.debug("the sessions of open streams could not be read: %s", error)
            except Exception:  # the others must still be looked after
                logger.exception("the sessions of open streams could not be read")

    async def look(self) -> None:
        """Cut the streams of every session that is not live any more.  Raises StoreError."""
        tokens = self._streams.tokens()
        if not tokens:
            return
        try:
            found = await self._read_all(tokens)
        except StoreIncomplete as error:
            logger.debug("the sessions of some open streams could not be read: %s", error)
            found = error.found
            tokens = [token for token in tokens if token not in error.unknown]
        for token in tokens:
            record = found.get(token)
            if record is None or fault_of(record, self._clock()) is not None:
                self._streams.cut_session(token)
            else:
                self._streams.renew(record)
