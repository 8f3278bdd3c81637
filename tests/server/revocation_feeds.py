"""Feeds in the test's hands: what a worker hears of a store, and when.  The gate's own `Feed` keeps them open."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.stores.feeds.feed import Changes, Memory, digest_of
from gatekeeper.stores.lease import MARKER_S

Tell = Callable[[Changes], None]
"""A message of the store's: what it has a worker's `Changes` do."""


def session_message(token: str) -> Tell:
    digest = digest_of(token)
    return lambda changes: changes.session_changed(digest)


def user_message(user: str) -> Tell:
    digest = digest_of(user)
    return lambda changes: changes.user_changed(digest)


def any_message(changes: Changes) -> None:
    changes.all_changed()


class Connection:
    """What a worker hears over one connection: messages and markers, in one queue.  While `is_held`, they wait."""

    def __init__(self, changes: Changes) -> None:
        self.is_held = False
        self.is_cut = False
        self.is_silent = False
        self.queue: deque[Tell | asyncio.Future[None]] = deque()
        self._changes = changes

    def put(self, item: "Tell | asyncio.Future[None]") -> None:
        if not self.is_silent:
            self.queue.append(item)
            if not self.is_held:
                self.deliver(1)

    def deliver(self, number: int) -> None:
        for _ in range(min(number, len(self.queue))):
            item = self.queue.popleft()
            if isinstance(item, asyncio.Future):
                if not item.done():
                    item.set_result(None)
            else:
                item(self._changes)

    def cut(self) -> None:
        """Lost, with all that is on its way; whoever waits for a marker is told."""
        self.is_cut = self.is_silent = True
        for item in self.queue:
            if isinstance(item, asyncio.Future) and not item.done():
                item.set_exception(StoreUnavailable("the connection was cut"))
        self.queue.clear()

    def fall_silent(self) -> None:
        """Lost, but nobody says so."""
        self.is_silent = True
        self.queue.clear()


class Listened(Protocol):
    """What a channel needs of a store."""

    commits: int
    connections: list[Connection]
    is_eager: bool

    def time(self) -> float: ...


class WorldChannel:
    """A worker's Channel.  One that does not name all looks whether there was a commit, and has memory read again."""

    label = "a fake"
    interval_s = MARKER_S

    def __init__(self, store: Listened, memory: Memory, *, names_all: bool) -> None:
        self.names_all = names_all
        self.refuses = False
        self.opens: asyncio.Event = asyncio.Event()
        self.opens.set()
        self.connection: Connection | None = None
        self.opened_at = 0.0
        self._store = store
        self._memory = memory
        self._seen = 0

    async def open(self, changes: Changes) -> None:
        await self.opens.wait()
        if self.refuses:
            raise StoreUnavailable("nobody may listen")
        self.connection = Connection(changes)
        self.opened_at = self._store.time()
        self._seen = self._store.commits
        if self.names_all:
            self._store.connections.append(self.connection)

    async def turn(self) -> None:
        connection = self.connection
        if connection is None or connection.is_cut:
            raise StoreUnavailable("the connection was cut")
        commits = self._store.commits
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connection.put(arrived)
        await arrived
        if self.names_all:
            return
        seen, self._seen = self._seen, commits if self._store.is_eager else self._store.commits
        if self._seen != seen:
            await self._memory.reconcile()

    async def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None and connection in self._store.connections:
            self._store.connections.remove(connection)
