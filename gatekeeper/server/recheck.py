"""Sessions of open streams, read again: how a stream ends with its session.

Where a feed tells of changes, those that it names are read at once.  Where none does, or while its lease is not held,
all are, one question in a while.  A store that cannot answer changes nothing: a stream goes on until its session
expires, or the store can say that it has ended.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from itertools import islice

from gatekeeper.core.errors import StoreError
from gatekeeper.core.model import SessionRecord, SessionToken
from gatekeeper.core.policy import fault_of
from gatekeeper.server.streams import Streams
from gatekeeper.stores.protocol import StoreIncomplete
from gatekeeper.stores.tables import BATCH

logger = logging.getLogger("gatekeeper")


class Recheck:
    """Looks after these streams every so many seconds, and when it is told to.

    `clock` gives milliseconds since the epoch; `is_fed` says whether a feed would tell of each change.
    """

    def __init__(
        self,
        streams: Streams,
        read_all: Callable[[Sequence[SessionToken]], Awaitable[Mapping[SessionToken, SessionRecord]]],
        clock: Callable[[], int],
        every_s: float,
        is_fed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._streams = streams
        self._read_all = read_all
        self._clock = clock
        self._every_s = every_s
        self._is_fed = is_fed
        self._due: dict[SessionToken, None] = {}
        self._being_read: dict[SessionToken, None] = {}
        self._unsaid: dict[SessionToken, None] = {}
        """Those that were due and could not be read, while a look goes on."""
        self._is_due = asyncio.Event()

    def look_soon(self, tokens: Sequence[SessionToken]) -> None:
        """These may have changed.  Who is told of last is looked at first: the others may be all there are."""
        for token in tokens:
            self._due.pop(token, None)
            self._due[token] = None
        if tokens:
            self._is_due.set()

    @property
    def doubted(self) -> frozenset[SessionToken]:
        """Those that may have changed, until they were read."""
        return frozenset((*self._due, *self._being_read, *self._unsaid))

    async def run(self) -> None:
        """Go on until cancelled."""
        loop = asyncio.get_running_loop()
        next_at = loop.time() + self._every_s
        while True:
            timer = loop.call_at(next_at, self._is_due.set)
            await self._is_due.wait()
            timer.cancel()
            self._is_due.clear()
            wants_all = loop.time() >= next_at
            if wants_all:
                next_at = loop.time() + self._every_s
            try:
                await self.look(everything=wants_all and not self._is_fed())
            except StoreError as error:
                logger.debug("the sessions of open streams could not be read: %s", error)
            except Exception:  # the others must still be looked after
                logger.exception("the sessions of open streams could not be read")

    async def look(self, *, everything: bool) -> None:
        """Cut the streams of every session that is not live any more: of all sessions, or of those that are due.

        Some are read at a time, so that many of them take no longer than a store may; those that become due meanwhile
        come next.  Raises StoreError; what could not be read stays due.
        """
        rest = self._streams.tokens() if everything else []
        try:
            while self._due or rest:
                newest = list(islice(reversed(self._due), BATCH))
                await self._look_at(newest or rest[-BATCH:])
                if not newest:
                    del rest[-BATCH:]
        finally:
            self._due, self._unsaid = self._unsaid | self._due, {}

    async def _look_at(self, tokens: Sequence[SessionToken]) -> None:
        due = self._being_read = {token: None for token in tokens if token in self._due}
        for token in due:
            del self._due[token]
        try:
            found, unknown = await self._read(tokens)
            self._unsaid |= {token: None for token in due if token in unknown}
            self.judge([token for token in tokens if token not in unknown], found)
        except BaseException:
            self._unsaid |= due
            raise
        finally:
            self._being_read = {}

    async def _read(
        self, tokens: Sequence[SessionToken]
    ) -> tuple[Mapping[SessionToken, SessionRecord], Set[SessionToken]]:
        """What the store has of these, and of which it could not say."""
        try:
            return await self._read_all(tokens), frozenset()
        except StoreIncomplete as error:
            logger.debug("the sessions of some open streams could not be read: %s", error)
            return error.found, error.unknown

    def judge(self, tokens: Sequence[SessionToken], found: Mapping[SessionToken, SessionRecord]) -> None:
        """What the store has now of these sessions: cut or renew their streams, where they have any."""
        for token in tokens:
            record = found.get(token)
            if record is None or fault_of(record, self._clock()) is not None:
                self._streams.cut_session(token)
            else:
                self._streams.renew(record)
