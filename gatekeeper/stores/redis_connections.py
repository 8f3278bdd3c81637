"""Connections to one Redis: asking within a time, replacing dead ones, saying why it does not answer.

With `redis_link` the only module that knows redis-py.  Its errors become StoreUnavailable here, with a message that
names the server and the cause, and neither a password nor what was asked.  Knows nothing of sessions.

Not redis-py's pool: it asks again after a restart of the server, but on a connection that may be as dead.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar, cast

from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gatekeeper.config.redis_url import RedisAddress
from gatekeeper.core.errors import StoreUnavailable

Command = Sequence[str | bytes | int]

NO_TEXT = b"\0"
"""What is read from a key that holds no text: neither JSON nor a number."""

_T = TypeVar("_T")


class RedisConnection(Protocol):
    """What is used of redis-py's connections."""

    async def connect(self) -> None: ...

    def pack_commands(self, commands: Sequence[Command]) -> list[bytes]: ...

    async def send_packed_command(self, command: list[bytes]) -> None: ...

    async def read_response(self) -> object: ...

    async def disconnect(self, nowait: bool = False) -> None: ...


class RedisConnections:
    """At most `count` connections, opened when they are needed and kept.

    One that turns out to be dead is replaced without an error, unless the new one is, too.
    """

    def __init__(self, address: RedisAddress, *, count: int, timeout_s: float) -> None:
        self._address = address
        self._count = count
        self._timeout_s = timeout_s
        self._places = asyncio.Semaphore(count)
        self._idle: list[RedisConnection] = []
        self._closing = asyncio.Lock()
        self._closed = False

    async def within_time(self, read: Callable[..., Awaitable[_T]], *args: object, secrets: Sequence[str] = ()) -> _T:
        """What `read(*args)` gives, which may `ask` one thing after the other.

        Waiting for a connection counts.  Raises StoreUnavailable, with a message in which none of `secrets` stands.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._place():
                return await read(*args)
        except (TimeoutError, RedisTimeoutError):
            await self._drop_idle()  # where something between has forgotten one connection, the others are as old
            cause = f"no answer within {self._timeout_s:g} s"
        except (RedisError, OSError) as exc:
            cause = cause_of(exc)
        # Outside the handler, so that the error is not chained: it may quote the command, and the token with it.
        for secret in secrets:
            cause = cause.replace(secret, "…")
        raise StoreUnavailable(f"{self._address.label}: {cause}")

    async def ask(self, commands: Sequence[Command]) -> list[bytes]:
        """The texts that these commands give, in one round trip; NO_TEXT for a key that holds something else.

        To be called by a `read` of `within_time`, which maps the errors.
        """
        return await self._ask(commands, _text_from)

    async def ask_any(self, commands: Sequence[Command]) -> list[Any]:
        """As `ask`, whatever the answers are: bytes, numbers, lists of both.  An error is one for any of them."""
        return await self._ask(commands, _answer_from)

    async def _ask(self, commands: Sequence[Command], read: Callable[[RedisConnection], Awaitable[_T]]) -> list[_T]:
        if self._idle:
            try:
                return await self._ask_on(self._idle.pop(), commands, read)
            except (RedisConnectionError, OSError):
                await self._drop_idle()  # the server was restarted, or something between has cut them all
        return await self._ask_on(new_connection(self._address, self._timeout_s), commands, read)

    async def close(self) -> None:
        """Close every connection, once the reads under way have ended.  What is asked later is unavailable."""
        self._closed = True
        async with self._closing:
            held = 0
            try:
                while held < self._count:
                    await self._places.acquire()
                    held += 1
                while self._idle:
                    await self._idle.pop().disconnect()
            finally:
                for _ in range(held):
                    self._places.release()

    @asynccontextmanager
    async def _place(self) -> AsyncGenerator[None, None]:
        async with self._places:
            if self._closed:
                raise StoreUnavailable(f"{self._address.label}: the store was closed")
            yield

    async def _ask_on(
        self, connection: RedisConnection, commands: Sequence[Command], read: Callable[[RedisConnection], Awaitable[_T]]
    ) -> list[_T]:
        try:
            await send(connection, commands)
            answers = [await read(connection) for _ in commands]
        except BaseException:
            # Also of a reader who was cancelled: the next one would be given the answer that is still to come.
            await connection.disconnect(nowait=True)
            raise
        self._idle.append(connection)
        return answers

    async def _drop_idle(self) -> None:
        dead, self._idle = self._idle, []
        for connection in dead:
            await connection.disconnect(nowait=True)


async def send(connection: RedisConnection, commands: Sequence[Command]) -> None:
    """Send these, over a connection that is made first where it is not.  Raises redis-py's errors and OSError."""
    packed = connection.pack_commands(commands)
    try:
        await connection.connect()
        await connection.send_packed_command(packed)
    except RuntimeError as exc:  # uvloop's word for writing to a connection that was reset while it rested
        raise RedisConnectionError("the connection was reset") from exc


def new_connection(address: RedisAddress, timeout_s: float, *, reads_may_last: bool = False) -> RedisConnection:
    """A connection that is still to be made, by `connect`.  Connecting takes this long at most, a read does too unless
    it is said that it may last.
    """
    settings: dict[str, Any] = {
        "db": address.database,
        "username": address.username,
        "password": address.password,
        "socket_timeout": None if reads_may_last else timeout_s,
        "socket_connect_timeout": timeout_s,
        # What it would say to a new connection besides, HELLO and CLIENT SETINFO, needs more rights.
        "protocol": 2,
        "driver_info": None,
    }
    if address.socket:
        return cast(RedisConnection, UnixDomainSocketConnection(path=address.socket, **settings))
    settings |= {"host": address.host, "port": address.port, "socket_keepalive": True}
    if not address.tls:
        return cast(RedisConnection, Connection(**settings))
    settings |= {"ssl_ca_certs": address.ca_file, "ssl_cert_reqs": "required", "ssl_check_hostname": True}
    return cast(RedisConnection, SSLConnection(**settings, ssl_min_version=ssl.TLSVersion.TLSv1_2))


async def _answer_from(connection: RedisConnection) -> object:
    return await connection.read_response()


async def _text_from(connection: RedisConnection) -> bytes:
    try:
        answer = await connection.read_response()
    except ResponseError as exc:
        if str(exc).startswith("WRONGTYPE"):
            return NO_TEXT
        raise
    if not isinstance(answer, bytes):
        raise InvalidResponse("the answer is no text")
    return answer


def cause_of(exc: BaseException) -> str:
    """What went wrong, in a few words: the system's where there are any, else Redis's."""
    found: BaseException | None = exc
    while found is not None and not isinstance(found, OSError):
        found = found.__cause__ or found.__context__
    if isinstance(found, (ssl.SSLError, socket.gaierror)):
        return found.strerror or type(found).__name__
    if isinstance(found, OSError) and found.errno:
        return os.strerror(found.errno)
    # An unknown command is quoted with what came after it.
    return str(exc).partition(", with args")[0] or type(exc).__name__
