"""A fake of who is told of changes."""

from gatekeeper.stores.feeds.feed import digest_of


class Told:
    """Everything that was told and not taken yet, in order, as `session`, `user` and `ALL` say it."""

    def __init__(self) -> None:
        self._all: list[tuple[str, bytes]] = []

    def session_changed(self, digest: bytes) -> None:
        self._all.append(("session", digest))

    def user_changed(self, digest: bytes) -> None:
        self._all.append(("user", digest))

    def all_changed(self) -> None:
        self._all.append(ALL)

    def take(self) -> list[tuple[str, bytes]]:
        taken, self._all = self._all, []
        return taken


ALL = ("all", b"")


def session(token: str) -> tuple[str, bytes]:
    return "session", digest_of(token)


def user(user_id: str) -> tuple[str, bytes]:
    return "user", digest_of(user_id)
