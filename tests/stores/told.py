"""A fake of who is told of changes."""

import asyncio

from gatekeeper.stores.feeds.feed import digest_of


class Told:
    """Everything that was told and not taken yet, in order, as `session`, `user` and `ALL` say it.

    `something` is set while there is any.
    """

    def __init__(self) -> None:
        self._all: list[tuple[str, bytes]] = []
        self.something = asyncio.Event()

    def session_changed(self, digest: bytes) -> None:
        self._add(("session", digest))

    def user_changed(self, digest: bytes) -> None:
        self._add(("user", digest))

    def all_changed(self) -> None:
        self._add(ALL)

    def take(self) -> list[tuple[str, bytes]]:
        taken, self._all = self._all, []
        self.something.clear()
        return taken

    def _add(self, change: tuple[str, bytes]) -> None:
        self._all.append(change)
        self.something.set()


ALL = ("all", b"")


def session(token: str) -> tuple[str, bytes]:
    return "session", digest_of(token)


def user(user_id: str) -> tuple[str, bytes]:
    return "user", digest_of(user_id)
