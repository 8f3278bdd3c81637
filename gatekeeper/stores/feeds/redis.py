"""How a Redis tells of revocations: keyspace notifications, and a marker that goes round behind them.

One connection listens, another asks.  Redis carries out one command after the other and queues what a command tells
before it carries out the next one.  So, when a marker that was published comes to the connection that listens, all that
was told of earlier commands has come before it.

Emptying or swapping a whole database tells nothing.  That is found out by a session that was there and is not, without
anything having been told of it.

What is not noticed: settings that were taken away and put back between two turns.  A key whose time to live has run out
is told of when Redis removes it, not before; a session ends by its `expiresAt` all the same.
"""

import secrets
from collections.abc import Callable
from typing import Literal

from gatekeeper.config.redis_url import RedisAddress
from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.stores.feeds.feed import Changes, FeedNotSetUp, digest_of
from gatekeeper.stores.feeds.keyspace import SETTING, KeyspaceListener, missing_from
from gatekeeper.stores.lease import MARKER_S
from gatekeeper.stores.protocol import TIMEOUT_S, can_be_sent
from gatekeeper.stores.redis_link import Answer, RedisLink, Refusal


class RedisChannel:
    """A Channel of one Redis.

    `probe` gives the token of some session that is in memory now, or None.  `database_behind` says that a session may
    be in memory that this Redis does not have: a database is asked for what is not here.
    """

    def __init__(
        self,
        address: RedisAddress,
        probe: Callable[[], str | None],
        *,
        timeout_s: float = TIMEOUT_S,
        database_behind: bool = False,
    ) -> None:
        self.label = address.label
        self._address = address
        self._probe = probe
        self._timeout_s = timeout_s
        self._database_behind = database_behind
        self._open: _Open | None = None

    interval_s = MARKER_S

    def __repr__(self) -> str:
        return f"<RedisChannel {self.label}, {'closed' if self._open is None else 'open'}>"

    @property
    def names_all(self) -> bool:
        return True

    async def open(self, changes: Changes) -> None:
        await self.close()
        self._open = _Open(self._address, self._probe, changes, self._timeout_s, self._database_behind)
        try:
            await self._open.start()
            await self._open.turn()
        except BaseException:
            await self.close()
            raise

    async def turn(self) -> None:
        if self._open is None:
            raise StoreUnavailable(f"{self.label}: the feed was closed")
        try:
            await self._open.turn()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        last, self._open = self._open, None
        if last is not None:
            await last.close()


class _Open:
    """The two connections, and what is known as long as they last."""

    def __init__(
        self,
        address: RedisAddress,
        probe: Callable[[], str | None],
        changes: Changes,
        timeout_s: float,
        database_behind: bool,
    ) -> None:
        self._label = address.label
        self._prefix = address.prefix
        self._changes = changes
        self._channel = f"gatekeeper:{secrets.token_hex(8)}"
        self._listener = KeyspaceListener(address, timeout_s, self._channel, changes)
        self._asker = RedisLink(address, timeout_s)
        self._sentinel = _Sentinel(probe, database_behind)
        self._turns = 0

    async def start(self) -> None:
        for command, answer in zip(("SUBSCRIBE", "PSUBSCRIBE"), await self._listener.start(), strict=True):
            self._accept(command, answer)

    async def turn(self) -> None:
        token = self._sentinel.choose()
        marker = b"%d" % self._turns
        self._turns += 1
        self._listener.watch(None if token is None else digest_of(token))
        came = self._listener.expect(marker)
        found = await self._ask(token, marker)
        await self._listener.until(came)
        self._judge(token, found)

    async def close(self) -> None:
        await self._asker.close()
        await self._listener.close()

    async def _ask(self, token: str | None, marker: bytes) -> bool:
        """Whether this session is there.  Raises FeedNotSetUp unless Redis tells of changes, and first-hand."""
        key = (self._prefix + (token or "")).encode()
        setting, role, found, listeners = await self._asker.ask(
            [("CONFIG", "GET", SETTING), ("ROLE",), ("EXISTS", key), ("PUBLISH", self._channel, marker)],
            secrets=[token] if token else [],
        )
        self._check_flags(setting)
        self._check_role(role)
        self._accept("EXISTS", found)
        self._accept("PUBLISH", listeners)
        if listeners == 0:
            raise StoreUnavailable(f"{self._label}: the connection that listened was lost")
        return found == 1

    def _judge(self, token: str | None, found: bool) -> None:
        """Tell of a database that was emptied or swapped.  Everything before the question has been told by now."""
        if token is None:
            return
        match self._sentinel.judge(token, found=found, told=self._listener.was_removed):
            case "all":
                self._changes.all_changed()
            case "one":
                self._changes.session_changed(digest_of(token))
            case "none":
                pass

    def _check_flags(self, answer: Answer) -> None:
        match answer:
            case [_, bytes(flags)]:
                missing = missing_from(flags.decode("ascii", "replace"))
            case Refusal(text):
                raise FeedNotSetUp(
                    f"{self._label}: whether it tells of revoked sessions cannot be known: CONFIG GET was refused "
                    f"({text}); the Redis user needs the right +config|get"
                )
            case _:
                raise FeedNotSetUp(
                    f"{self._label}: whether it tells of revoked sessions cannot be known: it has no setting {SETTING}"
                )
        if missing:
            raise FeedNotSetUp(
                f"{self._label} does not tell of revoked sessions: {SETTING} lacks {missing}; "
                "`gatekeeper migrate --feed` adds it"
            )

    def _check_role(self, answer: Answer) -> None:
        self._accept("ROLE", answer)
        match answer:
            case [b"master", *_]:
                pass
            case _:
                raise FeedNotSetUp(f"{self._label} is a replica and tells of revoked sessions late: name the primary")

    def _accept(self, command: str, answer: Answer) -> None:
        if isinstance(answer, Refusal):
            raise FeedNotSetUp(
                f"{self._label} cannot tell of revoked sessions: {command} was refused ({answer.text}); "
                "the Redis user needs the rights of a feed"
            )


class _Sentinel:
    """Chooses the session by which an emptied database is noticed: one that was seen there, while there is one."""

    def __init__(self, probe: Callable[[], str | None], database_behind: bool) -> None:
        self._probe = probe
        self._database_behind = database_behind
        self._seen: str | None = None
        self._was_just_removed = False

    def choose(self) -> str | None:
        token = self._seen or self._probe()
        return token if token and can_be_sent(token) else None

    def judge(self, token: str, *, found: bool, told: bool) -> Literal["all", "one", "none"]:
        """What may have changed.  `told` is whether the session's removal was."""
        was_seen, self._seen = self._seen == token, token if found else None
        was_just_removed, self._was_just_removed = self._was_just_removed, not found and told
        if found or told:
            return "none"
        # One that was never seen here may be in the database alone.  Then it is only read again, unless the database
        # may have been emptied after its predecessor had gone as sessions do.
        is_unclear = self._database_behind and not was_seen and not was_just_removed
        return "one" if is_unclear else "all"
