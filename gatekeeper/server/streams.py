"""WebSockets and event streams: they belong to their session, and end with it.

What learns that a session has ended – its expiry here, a revocation feed – cuts its streams by its token or its user.
At the time when a session expires the store is asked once more: the app may have extended it.  A store that cannot
say yes then counts as a no.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from gatekeeper.core.errors import StoreError
from gatekeeper.core.model import Reason, SessionRecord, SessionToken

logger = logging.getLogger("gatekeeper")

TICK_S = 0.25


class Stream(Protocol):
    """A connection that outlives its request."""

    def cut(self, reason: Reason) -> None:
        """End it: SESSION_ENDED or GATE_STOPS."""
        ...


class Streams:
    """The open streams.  `look_up` asks the session store; `clock` gives milliseconds since the epoch."""

    def __init__(
        self,
        look_up: Callable[[SessionToken], Awaitable[SessionRecord | None]],
        clock: Callable[[], int],
        on_cut: Callable[[SessionRecord], None],
    ) -> None:
        self._look_up = look_up
        self._clock = clock
        self._on_cut = on_cut
        self._anonymous: set[Stream] = set()
        self._records: dict[Stream, SessionRecord] = {}
        self._of_token: dict[str, set[Stream]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self.ticker: asyncio.TimerHandle | None = None

    @property
    def count(self) -> int:
        return len(self._anonymous) + len(self._records)

    def tokens(self) -> list[SessionToken]:
        """Of the sessions that have streams."""
        return [SessionToken(token) for token in self._of_token]

    def renew(self, record: SessionRecord) -> None:
        """This is what is known now of a session that goes on."""
        self._records.update(dict.fromkeys(self._of_token.get(record.session.token, ()), record))

    def add(self, stream: Stream, record: SessionRecord | None) -> None:
        """A stream has begun, under this session or under none."""
        if record is None:
            self._anonymous.add(stream)
            return
        self._records[stream] = record
        self._of_token.setdefault(record.session.token, set()).add(stream)
        self._wake()

    def discard(self, stream: Stream) -> None:
        """A stream has ended by itself, or was never one."""
        self._anonymous.discard(stream)
        record = self._records.pop(stream, None)
        if record is not None:
            same = self._of_token[record.session.token]
            same.discard(stream)
            if not same:
                del self._of_token[record.session.token]

    def cut_session(self, token: str) -> None:
        """This session has ended: end its streams."""
        for stream in tuple(self._of_token.get(token, ())):
            self._on_cut(self._records[stream])
            self.discard(stream)
            stream.cut(Reason.SESSION_ENDED)

    def cut_user(self, user_id: str) -> None:
        """This user's sessions have ended: end their streams."""
        for token in {record.session.token for record in self._records.values() if record.user.id == user_id}:
            self.cut_session(token)

    def cut_all(self) -> None:
        """The gate stops: end every stream."""
        for stream in (*self._anonymous, *self._records):
            self.discard(stream)
            stream.cut(Reason.GATE_STOPS)

    def close(self) -> None:
        if self.ticker is not None:
            self.ticker.cancel()
            self.ticker = None
        for task in self._asking.values():
            task.cancel()

    def tick(self) -> None:
        """Look after sessions that have expired; called again by itself while there are streams with sessions."""
        self.ticker = None
        if self._records:
            self._wake()
        now_ms = self._clock()
        expired = {r.session.token for r in self._records.values() if r.session.expires_at_ms < now_ms}
        for token in expired - self._asking.keys():
            task = self._asking[token] = asyncio.get_running_loop().create_task(self._ask(token))
            task.add_done_callback(partial(self._was_asked, token))

    async def _ask(self, token: str) -> None:
        record = None
        with suppress(StoreError):
            record = await self._look_up(SessionToken(token))
        if record is None or record.session.expires_at_ms < self._clock():
            self.cut_session(token)
        else:
            self.renew(record)

    def _was_asked(self, token: str, task: asyncio.Task[None]) -> None:
        """The store was asked.  An error that nobody thought of is no yes either."""
        del self._asking[token]
        if not task.cancelled() and task.exception() is not None:
            logger.error("a session could not be looked up, its streams are cut", exc_info=task.exception())
            self.cut_session(token)

    def _wake(self) -> None:
        if self.ticker is None:
            self.ticker = asyncio.get_running_loop().call_later(TICK_S, self.tick)
