"""Sessions that are extended while they are used: the store is told beside the request, the cookies follow.

One attempt for each session in a process; among processes the store decides, whose update finds the session as it was
or does nothing.  Who loses there, or wins, forgets what it knew of the session and reads it again.  Cookies go with the
first answer that can carry them: one that is under way then, else the session's next one.  What the store cannot do
changes nothing for the request, and is tried again after a while.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar
from uuid import uuid4

from gatekeeper.config.snapshot import Snapshot
from gatekeeper.core.cookies import sign_value
from gatekeeper.core.errors import StoreError
from gatekeeper.core.lifecycle import due_at_ms, extended, is_due, is_remembered
from gatekeeper.core.model import Session, SessionRecord, SessionToken
from gatekeeper.core.session_cookies import data_lines, token_line
from gatekeeper.core.session_data_writing import encode

logger = logging.getLogger("gatekeeper")

REST_MS = 5_000
"""How long a session is left alone after an attempt, whatever came of it."""

_ValueT = TypeVar("_ValueT")

_MOST = 10_000  # sessions that are remembered here, of each kind
_FAR_MS = 3_600_000


class Extends(Protocol):
    """What can extend a session in its store (see `stores.writing`)."""

    async def extend(self, session: Session, *, expires_at_ms: int, now_ms: int) -> bool: ...


class _Extension:
    """A session as it shall be, and since when; `task` is the attempt, `is_over` once its outcome was noted.

    `has_ended`: the session was ended since, so that nobody is to get cookies of it.
    """

    __slots__ = ("began_ms", "has_ended", "is_made", "is_over", "session", "task")

    task: asyncio.Task[bool]

    def __init__(self, session: Session, began_ms: int) -> None:
        self.session = session
        self.began_ms = began_ms
        self.has_ended = False
        self.is_made = False
        self.is_over = False


class Extender:
    """Extends sessions by `writer`.  `forget` makes the cache read one anew; `clock` is in ms since the epoch."""

    def __init__(
        self, writer: Extends, snapshot: Snapshot, forget: Callable[[SessionToken], None], clock: Callable[[], int]
    ) -> None:
        self.outcomes = {"extended": 0, "lost": 0, "failed": 0}
        """How often the store did it, had the session otherwise by then, or could not."""
        self._writer = writer
        self._snapshot = snapshot
        self._forget = forget
        self._clock = clock
        self._extensions: dict[str, _Extension] = {}
        self._resting: dict[str, int] = {}
        self._trouble: str | None = None

    def __repr__(self) -> str:
        return f"<Extender {len(self._extensions)} under way or to be told, {self.outcomes['extended']} made>"

    def concerns(self, record: SessionRecord, cookie: str | None, now_ms: int) -> bool:
        """Whether a request of this session, with this Cookie header, extends it, or may carry its cookies."""
        token = record.session.token
        if token in self._extensions:
            return True
        snapshot = self._snapshot
        if not is_due(record.session, snapshot.lifetimes, now_ms) or self._resting.get(token, 0) > now_ms:
            return False
        return is_remembered(cookie, snapshot.cookies, snapshot.keys)

    def next_change_ms(self, record: SessionRecord, now_ms: int) -> int:
        """Until when `concerns` stays false for a session, where it is, as far as time alone changes it."""
        due_ms = max(
            due_at_ms(record.session, self._snapshot.lifetimes), self._resting.get(record.session.token, now_ms)
        )
        return due_ms if due_ms > now_ms else now_ms + _FAR_MS

    def claim(self, record: SessionRecord, cookie: str | None) -> "Claim | None":
        """What the answer to a verified request may have to carry; begins to extend its session if that is due."""
        now_ms = self._clock()
        if not self.concerns(record, cookie, now_ms):
            return None
        extension = self._extensions.get(record.session.token) or self._start(record.session, now_ms)
        return Claim(self, extension, record, cookie, now_ms)

    def cookies_of(
        self, extension: _Extension, record: SessionRecord, cookie: str | None, known_ms: int
    ) -> list[bytes]:
        """The values of Set-Cookie for an extension that was made; whoever asks sends them.

        The record was known at `known_ms`.  It may have changed since, so session_data must not say a later time.
        """
        self._extensions.pop(extension.session.token, None)
        snapshot, at_ms = self._snapshot, known_ms
        if record.session.expires_at_ms != extension.session.expires_at_ms:  # not read since then
            at_ms = extension.began_ms
            record = SessionRecord(extension.session, record.user)
        names, scope, form = snapshot.cookies, snapshot.cookie_scope, snapshot.data_format
        signed = sign_value(record.session.token, snapshot.keys)
        lines = [token_line(names, signed, scope, snapshot.lifetimes.expires_in_ms // 1000)]
        if form is not None:
            data = encode(record, snapshot.keys, form, now_ms=at_ms, cookie_id=str(uuid4()))
            lines += data_lines(names, data, cookie, scope, form.max_age_s)
        return [line.encode() for line in lines]

    def session_ended(self, token: SessionToken) -> None:
        """Answers under way carry no cookies of this session any more."""
        extension = self._extensions.pop(token, None)
        if extension is not None:
            extension.has_ended = True

    async def close(self) -> None:
        """End the attempts under way."""
        tasks = [extension.task for extension in self._extensions.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, session: Session, now_ms: int) -> _Extension:
        extension = _Extension(extended(session, self._snapshot.lifetimes, now_ms), now_ms)
        after = extension.session
        attempt = self._writer.extend(session, expires_at_ms=after.expires_at_ms, now_ms=now_ms)
        extension.task = asyncio.ensure_future(attempt)
        extension.task.add_done_callback(partial(self._was_tried, extension))
        _put(self._extensions, session.token, extension)
        return extension

    def _was_tried(self, extension: _Extension, task: asyncio.Task[bool]) -> None:
        token = extension.session.token
        error = None if task.cancelled() else task.exception()
        extension.is_over = True
        extension.is_made = not task.cancelled() and error is None and task.result()
        if not extension.is_made:
            self._extensions.pop(token, None)
        if task.cancelled():
            return
        _put(self._resting, token, self._clock() + REST_MS)
        self.outcomes["extended" if extension.is_made else "lost" if error is None else "failed"] += 1
        if error is None:
            self._forget(SessionToken(token))
        elif not isinstance(error, StoreError):
            logger.error("a session could not be extended", exc_info=error)
        self._note(str(error) if isinstance(error, StoreError) else None)

    def _note(self, trouble: str | None) -> None:
        """Log the store's trouble when it begins, changes and ends."""
        if trouble is not None and trouble != self._trouble:
            logger.error("sessions cannot be extended, and end when they would have: %s", trouble)
        elif trouble is None and self._trouble is not None:
            logger.warning("sessions can be extended again")
        self._trouble = trouble


class Claim:
    """An answer's right to carry the cookies of its session's extension, once that is made."""

    __slots__ = ("_cookie", "_extender", "_extension", "_known_ms", "_record")

    def __init__(
        self, extender: Extender, extension: _Extension, record: SessionRecord, cookie: str | None, known_ms: int
    ) -> None:
        self._extender = extender
        self._extension = extension
        self._record = record
        self._cookie = cookie
        self._known_ms = known_ms

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to wait for."""
        return self._extension.is_over

    def when_settled(self, call: Callable[[], None]) -> None:
        self._extension.task.add_done_callback(lambda task: call())

    def cookies(self) -> list[bytes]:
        """The values of Set-Cookie to send; none where the extension is not made, not yet, or in vain."""
        if not self._extension.is_made or self._extension.has_ended:
            return []
        return self._extender.cookies_of(self._extension, self._record, self._cookie, self._known_ms)


def _put(memory: dict[str, _ValueT], token: str, value: _ValueT) -> None:
    """Remember it; what was remembered longest ago gives way."""
    memory.pop(token, None)
    memory[token] = value
    if len(memory) > _MOST:
        del memory[next(iter(memory))]
