"""One connection to a Redis that its owner holds: what is refused is a value here, and messages are taken as they come.

For what is asked now and then by one who must know when the connection is lost; sessions are read over
`redis_connections`.  Errors become StoreUnavailable, with a message that names the server and the cause, and neither a
password nor what was asked.  Knows nothing of sessions.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeAlias, cast

import msgspec
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gatekeeper.config.redis_url import RedisAddress
from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.stores.redis_connections import Command, cause_of, new_connection, send


class Refusal(msgspec.Struct, frozen=True):
    """That a command was not carried out, and why, in Redis's words."""

    text: str


Answer: TypeAlias = "bytes | int | Refusal | list[Answer] | None"
"""What Redis says."""


class RedisLink:
    """A connection that is made by the first `ask`, and not made again once it was lost.

    Every call raises StoreUnavailable when it is; then, and when a call is cancelled, it is closed.
    """

    def __init__(self, address: RedisAddress, timeout_s: float) -> None:
        self._label = address.label
        self._timeout_s = timeout_s
        self._connection = new_connection(address, timeout_s, reads_may_last=True)
        self._closed = False

    def __repr__(self) -> str:
        return f"<RedisLink {self._label}>"

    async def ask(self, commands: Sequence[Command], *, secrets: Sequence[str] = ()) -> list[Answer]:
        """The answers to these commands, in one round trip.  None of `secrets` stands in a Refusal, nor in the error's
        message.
        """
        cause = ""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._ask(commands, secrets)
        except (TimeoutError, RedisTimeoutError):
            cause = f"no answer within {self._timeout_s:g} s"
        except (RedisError, OSError) as exc:
            cause = _without(secrets, cause_of(exc))
        except BaseException:
            await self.close()  # the answers that are still to come would be taken for the next ones
            raise
        # Outside the handlers, so that the error is not chained: it may quote the command.
        await self.close()
        raise StoreUnavailable(f"{self._label}: {cause}")

    async def listen(self, take: Callable[[Answer], None]) -> NoReturn:
        """Give `take` whatever comes until the connection is lost.  To be called after an `ask` that subscribed."""
        try:
            while True:
                take(cast(Answer, await self._connection.read_response()))
        except (RedisError, OSError) as exc:
            cause = cause_of(exc)
        await self.close()
        raise StoreUnavailable(f"{self._label}: {cause}")

    async def close(self) -> None:
        """Close it.  Safe to call twice."""
        self._closed = True
        await self._connection.disconnect(nowait=True)

    async def _ask(self, commands: Sequence[Command], secrets: Sequence[str]) -> list[Answer]:
        connection = self._connection
        if self._closed:
            raise ConnectionError("the connection was closed")
        await send(connection, commands)
        answers: list[Answer] = []
        for _ in commands:
            try:
                answers.append(cast(Answer, await connection.read_response()))
            except ResponseError as exc:
                answers.append(Refusal(_without(secrets, cause_of(exc))))
        return answers


def _without(secrets: Sequence[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, "…")
    return text
