"""Who a feed tells, for tests."""

from gatekeeper.stores.feeds.feed import digest_of


class Listener:
    """Keeps what it is told, under the names that it knows; digests of others as hex.

    `took` gives what was told since it was last asked: `s:token`, `u:id` and `all`, sorted.
    """

    def __init__(self, *known: str) -> None:
        self._names = {digest_of(name): name for name in known}
        self._told: list[str] = []

    def know(self, name: str, text: str) -> None:
        """Call this token or id so from now on."""
        self._names[digest_of(text)] = name

    def session_changed(self, digest: bytes) -> None:
        self._told.append(f"s:{self._name_of(digest)}")

    def user_changed(self, digest: bytes) -> None:
        self._told.append(f"u:{self._name_of(digest)}")

    def all_changed(self) -> None:
        self._told.append("all")

    def took(self) -> list[str]:
        told, self._told = sorted(self._told), []
        return told

    def _name_of(self, digest: bytes) -> str:
        return self._names.get(digest, digest.hex())
