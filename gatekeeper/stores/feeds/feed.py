"""A revocation feed: by what a worker learns that a session was revoked or a user changed, and knows that it would.

Each engine has a channel (`sqlite`, `postgres`, `redis`).  This keeps one open, sends the marker round, and renews the
lease.  Sessions and users are named by the SHA-256 of their token and id, so that no channel, and nothing that
remembers what a channel said, holds a token.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Protocol

from gatekeeper.core.errors import StoreError
from gatekeeper.stores.lease import MARKER_S, Lease

logger = logging.getLogger("gatekeeper")

TURN_LIMIT_S = 5.0
"""A channel that takes longer is opened anew."""

RETRY_S = 0.5
"""How long a channel that failed is left alone."""

SETUP_RETRY_S = 5.0
"""How often is looked whether a feed was set up meanwhile."""


class FeedNotSetUp(StoreError):
    """The store tells nobody of changes.  The message says what is missing and how it is set up."""


def digest_of(text: str) -> bytes:
    """What a session token or a user's id is called by in feeds: SHA-256 of its UTF-8 bytes."""
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


class Changes(Protocol):
    """Who is told.  A call for something that is not remembered, or that did not change, costs little and harms not."""

    def session_changed(self, digest: bytes) -> None:
        """The session with this token was changed or removed, or is new."""
        ...

    def user_changed(self, digest: bytes) -> None:
        """The user with this id was changed or removed, or what belongs to all of the user's sessions."""
        ...

    def all_changed(self) -> None:
        """Anything may have changed."""
        ...


class Memory(Protocol):
    """What a worker remembers, for channels that cannot say what has changed, or whether anything is left."""

    def any_token(self) -> str | None:
        """The token of a session that is in memory, if there is one."""
        ...

    async def reconcile(self) -> None:
        """Something has changed: read all that is remembered again.  Raises StoreError."""
        ...


class Channel(Protocol):
    """One engine's way of telling.  `label` is what messages call it, `interval_s` how often it takes its turn.

    `names_all` is to be asked when it is open: whether `changes` is told of every session and user, and not only of
    those that are in memory.
    """

    label: str
    interval_s: float = MARKER_S

    @property
    def names_all(self) -> bool: ...

    async def open(self, changes: Changes) -> None:
        """Connect.  Of everything that is committed after this has returned, `changes` is told, if not at once then
        within the next `turn`.

        Raises StoreUnavailable, and FeedNotSetUp where the store does not tell.
        """
        ...

    async def turn(self) -> None:
        """Send a marker and wait until it has come back: `changes` was told of everything that was committed before
        this was called.  It notices when the feed is not set up any more.

        Raises StoreUnavailable and FeedNotSetUp; after that, and when it is cancelled, the channel is closed.
        """
        ...

    async def close(self) -> None:
        """Let go of every connection.  Safe at any time, also twice; it may be opened again."""
        ...


class Feed:
    """Keeps a channel open.  `clock` gives monotonic seconds; `sleep` is asyncio's, or a test's."""

    def __init__(
        self,
        channel: Channel,
        lease: Lease,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._channel = channel
        self._lease = lease
        self._clock = clock
        self._sleep = sleep
        self._trouble: str | None = None

    def __repr__(self) -> str:
        return f"<Feed {self._channel.label}, {self._trouble or 'in order'}>"

    async def run(self, changes: Changes) -> None:
        """Go on until cancelled."""
        while True:
            pause_s = RETRY_S
            try:
                await self._follow(changes)
            except FeedNotSetUp as error:
                self._note(f"{error}; until then a revoked session may live for another second")
                pause_s = SETUP_RETRY_S
            except StoreError as error:
                self._note(f"the revocation feed has failed: {error}")
            except TimeoutError:
                label = self._channel.label
                self._note(f"the revocation feed has failed: {label}: no answer within {TURN_LIMIT_S:g} s")
            except Exception as error:  # the next one may go well, and without one nothing is believed for long
                self._note(f"the revocation feed has failed: {error!r}", defect=error)
            finally:
                self._lease.lose(self._clock())
            await self._sleep(pause_s)

    async def _follow(self, changes: Changes) -> None:
        """Until something fails."""
        try:
            async with asyncio.timeout(TURN_LIMIT_S):
                await self._channel.open(changes)
            changes.all_changed()
            self._lease.begin(self._clock() if self._channel.names_all else None)
            while True:
                sent_at = self._clock()
                async with asyncio.timeout(TURN_LIMIT_S):
                    await self._channel.turn()
                self._lease.renew(sent_at)
                self._note(None)
                await self._sleep(max(0.0, sent_at + self._channel.interval_s - self._clock()))
        finally:
            self._lease.lose(self._clock())
            await self._channel.close()

    def _note(self, trouble: str | None, defect: Exception | None = None) -> None:
        """Log trouble when it begins, changes and ends."""
        if trouble == self._trouble:
            return
        if defect is not None:
            logger.error("%s", trouble, exc_info=defect)
        elif trouble is not None:
            logger.warning("%s", trouble)
        elif self._trouble is not None:
            logger.warning("the revocation feed works")
        self._trouble = trouble
