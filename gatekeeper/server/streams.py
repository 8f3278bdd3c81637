"""WebSockets and event streams: they belong to their session, and end with it.

What learns that a session has ended – its expiry here, `recheck` elsewhere – cuts its streams.
At the time when a session expires the store is asked once more: the app may have extended it.  A store that cannot
say yes then counts as a no.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container
from contextlib import suppress
from functools import partial
from typing import Protocol

from msgspec.structs import replace

from gatekeeper.core.errors import StoreError
from gatekeeper.core.model import NO_CONDITION, Reason, Require, SessionRecord, SessionToken
from gatekeeper.core.policy import unmet_condition
from gatekeeper.stores.feeds.feed import digest_of

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
        self._requires: dict[Stream, Require] = {}
        self._of_token: dict[str, set[Stream]] = {}
        self._tokens: dict[bytes, SessionToken] = {}
        self._tokens_of_user: dict[bytes, set[SessionToken]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self.ticker: asyncio.TimerHandle | None = None
        self.when_opened: Callable[[SessionRecord], None] | None = None
        """Told of each stream's record: it was read when the request came, and an app may take long to answer."""

    @property
    def count(self) -> int:
        return len(self._anonymous) + len(self._records)

    def tokens(self) -> list[SessionToken]:
        """Of the sessions that have streams."""
        return [SessionToken(token) for token in self._of_token]

    def any_token(self, but: Container[str]) -> SessionToken | None:
        """Of a session that has streams and is none of these."""
        return next((SessionToken(token) for token in self._of_token if token not in but), None)

    def tokens_of_session(self, digest: bytes) -> list[SessionToken]:
        """Of the session that feeds call so, if it has streams."""
        token = self._tokens.get(digest)
        return [] if token is None else [token]

    def tokens_of_user(self, digest: bytes) -> list[SessionToken]:
        """Of those of this user's sessions that have streams."""
        return list(self._tokens_of_user.get(digest, ()))

    def renew(self, record: SessionRecord) -> None:
        """This is what is known now of a session that goes on.

        One that has become another user's does not, nor does a stream whose rule the user does not meet any more.
        Memberships are not looked at: they are not read again here.
        """
        token = record.session.token
        for stream in tuple(self._of_token.get(token, ())):
            require = replace(self._requires[stream], organizations=())
            if self._records[stream].user.id != record.user.id or unmet_condition(require, record.user) is not None:
                self._cut(stream)
            else:
                self._records[stream] = record

    def add(self, stream: Stream, record: SessionRecord | None, require: Require = NO_CONDITION) -> None:
        """A stream has begun, under this session or under none; `require` must go on to hold of its user."""
        if record is None:
            self._anonymous.add(stream)
            return
        token = SessionToken(record.session.token)
        another = next(iter(self._of_token.get(token, ())), None)
        if another is not None and self._records[another].user.id != record.user.id:
            self.cut_session(token)
        self._records[stream] = record
        self._requires[stream] = require
        if token not in self._of_token:
            self._of_token[token] = set()
            self._tokens[digest_of(token)] = token
            self._tokens_of_user.setdefault(digest_of(record.user.id), set()).add(token)
        self._of_token[token].add(stream)
        self._wake()
        if self.when_opened is not None:
            self.when_opened(record)

    def discard(self, stream: Stream) -> None:
        """A stream has ended by itself, or was never one."""
        self._anonymous.discard(stream)
        record = self._records.pop(stream, None)
        self._requires.pop(stream, None)
        if record is not None:
            same = self._of_token[record.session.token]
            same.discard(stream)
            if not same:
                self._forget(record)

    def cut_session(self, token: str) -> None:
        """This session has ended: end its streams."""
        for stream in tuple(self._of_token.get(token, ())):
            self._cut(stream)

    def _cut(self, stream: Stream) -> None:
        record = self._records[stream]
        self.discard(stream)
        stream.cut(Reason.SESSION_ENDED)
        self._on_cut(record)

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

    def _forget(self, record: SessionRecord) -> None:
        """The last stream of this session has ended."""
        token, user = SessionToken(record.session.token), digest_of(record.user.id)
        del self._of_token[token]
        del self._tokens[digest_of(token)]
        same = self._tokens_of_user[user]
        same.discard(token)
        if not same:
            del self._tokens_of_user[user]

    def _wake(self) -> None:
        if self.ticker is None:
            self.ticker = asyncio.get_running_loop().call_later(TICK_S, self.tick)
