"""`stores.redis` when things go wrong: servers that come and go, that are slow, that do not let the gate in."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gatekeeper.config.redis_url import parse_redis_url
from gatekeeper.core.errors import GatekeeperError, StoreUnavailable
from gatekeeper.stores.protocol import TIMEOUT_S
from gatekeeper.stores.redis import RedisStore
from gatekeeper.stores.redis_connections import RedisConnection, new_connection
from gatekeeper.stores.redis_link import RedisLink
from tests.better_auth_redis import Storage, session_fields, sign_in, stored, user_fields
from tests.certificates import Authority
from tests.servers.processes import Missing
from tests.servers.redis import RedisServer
from tests.stores.conftest import OpenRedis
from tests.stores.contract import OTHER, TOKEN, messages_of, user_of
from tests.stores.fake_redis import FakeRedis, always, fake_redis, read_command, text

USER = "user_1"


@pytest.fixture
def store(redis: RedisServer, open_redis: OpenRedis) -> RedisStore:
    return open_redis(redis.url)


SESSION, PERSON = session_fields(token=TOKEN, userId=USER), user_fields(id=USER)


# Servers that come and go


async def test_a_restart_between_two_reads_is_not_noticed(redis: RedisServer, open_redis: OpenRedis) -> None:
    sign_in(Storage(redis.url), TOKEN)
    store = open_redis(redis.url, pool=5)
    for _ in range(2):
        assert await asyncio.gather(*(user_of(store, TOKEN) for _ in range(10))) == [USER] * 10
        redis.stop()
        redis.start()
    assert await asyncio.gather(*(user_of(store, TOKEN) for _ in range(10))) == [USER] * 10


async def test_connections_that_the_server_killed_are_not_noticed(
    storage: Storage, redis: RedisServer, open_redis: OpenRedis
) -> None:
    sign_in(storage, TOKEN)
    store = open_redis(redis.url, pool=5)
    assert await asyncio.gather(*(user_of(store, TOKEN) for _ in range(10))) == [USER] * 10
    assert storage.run("CLIENT", "KILL", "TYPE", "normal") > 0
    assert await user_of(store, TOKEN) == USER


async def test_a_server_that_is_gone_is_named_with_the_cause(redis: RedisServer, store: RedisStore) -> None:
    redis.stop()
    with pytest.raises(StoreUnavailable) as caught:
        await store.read_session(TOKEN)
    assert str(caught.value) == f"redis://127.0.0.1:{redis.port}/0: Connection refused"


async def test_a_host_that_does_not_exist_is_named_with_the_cause(
    open_redis: OpenRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    with pytest.raises(StoreUnavailable) as caught:
        await open_redis("redis://:hunter2@nobody.invalid:7/1").check()
    assert str(caught.value) == "redis://nobody.invalid:7/1: Name or service not known"


async def test_a_url_that_is_not_understood_is_an_error_at_once() -> None:
    with pytest.raises(GatekeeperError, match="names no host"):
        RedisStore("redis:///0")


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        pytest.param(b"-LOADING Redis is loading the dataset in memory\r\n", "Redis is loading", id="loading"),
        pytest.param(b"-READONLY You can't write against a read only replica.\r\n", "read only replica", id="readonly"),
        pytest.param(b"-MOVED 3999 127.0.0.1:6381\r\n", "3999 127.0.0.1:6381", id="moved"),
        pytest.param(b"-MASTERDOWN Link with MASTER is down\r\n", "Link with MASTER is down", id="master-down"),
        pytest.param(b"-ERR max number of clients reached\r\n", "max number of clients reached", id="full"),
        pytest.param(b"-NOAUTH Authentication required.\r\n", "Authentication required", id="no-password"),
        pytest.param(b"-NOPERM this user has no permissions\r\n", "no permissions", id="no-permission"),
        pytest.param(b"-ERR \xff\xfe\r\n", "", id="error-that-is-no-utf-8"),
        pytest.param(b"-\r\n", "", id="empty-error"),
        pytest.param(
            b"-ERR unknown command 'GETRANGE', with args beginning with: 'better-auth:Hi6S9r\r\n",
            "unknown command 'GETRANGE'",
            id="quotes-a-part-of-the-command",
        ),
        pytest.param(
            b"-ERR bad key better-auth:" + TOKEN.encode() + b"\r\n", "bad key better-auth:…", id="quotes-the-key"
        ),
        pytest.param(b":1\r\n", "the answer is no text", id="number"),
        pytest.param(b"*1\r\n$1\r\na\r\n", "the answer is no text", id="list"),
        pytest.param(b"$-1\r\n", "the answer is no text", id="nil"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", "", id="not-redis"),
        pytest.param(b"$-7\r\n", "", id="negative-length"),
    ],
)
async def test_answers_that_are_none_are_an_outage(open_redis: OpenRedis, answer: bytes, cause: str) -> None:
    async with fake_redis(always(answer)) as fake:
        store = open_redis(fake.url)
        for _ in range(2):
            with pytest.raises(StoreUnavailable) as caught:
                await store.read_session(TOKEN)
            assert str(caught.value).startswith(f"{fake.url}: ")
            assert cause in str(caught.value)
            assert TOKEN[:6] not in messages_of(caught.value)


async def test_an_outage_between_the_two_answers_is_an_outage(open_redis: OpenRedis) -> None:
    """A session whose revocation cannot be looked up is not let through."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while words := await read_command(reader):
            about_revocation = b"revoked-sessions-before-" in words[1]
            writer.write(b"-LOADING\r\n" if about_revocation else text(stored(SESSION, PERSON)))

    async with fake_redis(serve) as fake:
        with pytest.raises(StoreUnavailable):
            await open_redis(fake.url).read_session(TOKEN)


# Slow ones


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    await reader.read()


async def test_a_server_that_never_answers_is_given_up(open_redis: OpenRedis) -> None:
    async with fake_redis(silent) as fake:
        with pytest.raises(StoreUnavailable) as caught:
            await open_redis(fake.url, timeout_s=0.05).read_session(TOKEN)
        assert str(caught.value) == f"{fake.url}: no answer within 0.05 s"
        assert fake.connections == 1


async def test_who_waits_for_a_connection_is_given_up_too(open_redis: OpenRedis) -> None:
    async with fake_redis(silent) as fake:
        store = open_redis(fake.url, timeout_s=0.05, pool=1)
        outcomes = await asyncio.gather(*(store.read_session(TOKEN) for _ in range(5)), return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == [f"{fake.url}: no answer within 0.05 s"] * 5


async def test_after_one_silent_connection_the_other_old_ones_are_not_tried(open_redis: OpenRedis) -> None:
    """As behind a firewall that has forgotten them: nothing is refused, nothing comes back."""
    forgotten = False

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while await read_command(reader):
            if number > 3 or not forgotten:
                writer.write(text(""))

    async with fake_redis(serve) as fake:
        store = open_redis(fake.url, timeout_s=0.2)
        await asyncio.gather(*(store.check() for _ in range(3)))
        assert fake.connections == 3
        forgotten = True
        with pytest.raises(StoreUnavailable, match="no answer within"):
            await store.check()
        await store.check()
        assert fake.connections == 4


async def test_a_second_answer_that_does_not_come_is_an_outage(open_redis: OpenRedis) -> None:
    """The first answer comes, the second does not: the connection is not used again."""
    value = text(stored(SESSION, PERSON))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_command(reader)
        writer.write(value)
        await read_command(reader)
        if number > 1:
            writer.write(text(""))
        await reader.read()

    async with fake_redis(serve) as fake:
        store = open_redis(fake.url, timeout_s=0.2, pool=1)
        with pytest.raises(StoreUnavailable, match="no answer within"):
            await store.read_session(TOKEN)
        assert await user_of(store, TOKEN) == USER
        assert fake.connections == 2


async def test_the_rest_of_a_slow_answer_is_never_read_for_another(open_redis: OpenRedis) -> None:
    """Half an answer, and the read is given up; the rest comes when the next one waits."""
    given_up = asyncio.Event()
    value = text(stored(SESSION, PERSON))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        if number == 1:
            await read_command(reader)
            writer.write(value[:50])
            await given_up.wait()
            writer.write(value[50:])
            await writer.drain()
        while words := await read_command(reader):
            writer.write(value if words[1].endswith(TOKEN.encode()) else text(""))

    async with fake_redis(serve) as fake:
        store = open_redis(fake.url, timeout_s=0.2, pool=1)
        with pytest.raises(StoreUnavailable, match="no answer within"):
            await store.read_session(TOKEN)
        given_up.set()
        assert await store.lookup(OTHER) is None
        assert await user_of(store, TOKEN) == USER


@pytest.mark.parametrize("cut", [0, 1, 4, 50, -1])
async def test_a_server_that_hangs_up_in_the_middle_is_an_outage(open_redis: OpenRedis, cut: int) -> None:
    value = text(stored(SESSION, PERSON))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_command(reader)
        writer.write(value[:cut])
        await writer.drain()

    async with fake_redis(serve) as fake:
        store = open_redis(fake.url)
        with pytest.raises(StoreUnavailable, match=r"closed|reset"):
            await store.read_session(TOKEN)
        assert fake.connections == 1


async def test_a_kept_connection_that_dies_is_tried_anew_once(open_redis: OpenRedis) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_command(reader)
        if number == 1:
            writer.write(text(""))
            await writer.drain()
            await read_command(reader)

    async with fake_redis(serve) as fake:
        store = open_redis(fake.url)
        assert await store.lookup(TOKEN) is None
        with pytest.raises(StoreUnavailable, match=r"closed|reset"):
            await store.lookup(TOKEN)
        assert fake.connections == 2


@asynccontextmanager
async def resetting_redis(asked: Callable[[str], Awaitable[RedisConnection]]) -> AsyncIterator[FakeRedis]:
    """A server whose first connection was reset after `asked` has had an answer over it, and while it rested."""
    is_due = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while await read_command(reader):
            writer.write(text(""))
            await writer.drain()
            if number == 1:
                await is_due.wait()
                at_once = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                return writer.transport.abort()

    async with fake_redis(serve) as fake:
        resting: Any = await asked(fake.url)
        is_due.set()
        while "closed=True" not in repr(resting._writer.transport):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        yield fake


def test_a_connection_that_was_reset_while_it_rested_is_made_anew() -> None:
    """uvloop has an error of its own for writing to it."""

    async def scenario() -> None:
        async def read(url: str) -> RedisConnection:
            stores.append(RedisStore(url))
            assert await stores[0].lookup(TOKEN) is None
            return stores[0]._connections._idle[0]

        stores: list[RedisStore] = []
        async with resetting_redis(read) as fake:
            assert await stores[0].lookup(TOKEN) is None
            assert fake.connections == 2
            await stores[0].close()

    uvloop.run(scenario())


def test_a_connection_of_ones_own_that_was_reset_while_it_rested_is_an_outage() -> None:
    """As above."""

    async def scenario() -> None:
        async def ask(url: str) -> RedisConnection:
            links.append(RedisLink(parse_redis_url(url), TIMEOUT_S))
            assert await links[0].ask([("GET", "a")]) == [b""]
            return links[0]._connection

        links: list[RedisLink] = []
        async with resetting_redis(ask):
            with pytest.raises(StoreUnavailable, match="was reset"):
                await links[0].ask([("GET", "a")])

    uvloop.run(scenario())


# Passwords


@pytest.fixture
def gate_user(storage: Storage) -> Iterator[str]:
    """A Redis user with a password who may do no more than the store must."""
    storage.run("ACL", "SETUSER", "gate", "reset", "on", ">p@ss/word", "~better-auth:*", "+getrange", "+select")
    yield "gate:p%40ss%2Fword"
    storage.run("ACL", "DELUSER", "gate")


async def test_a_user_with_the_least_rights_reads(
    storage: Storage, redis: RedisServer, open_redis: OpenRedis, gate_user: str
) -> None:
    sign_in(storage, TOKEN)
    store = open_redis(f"redis://{gate_user}@127.0.0.1:{redis.port}/0")
    await store.check()
    assert await user_of(store, TOKEN) == USER
    await open_redis(f"redis://{gate_user}@127.0.0.1:{redis.port}/1").check()


async def test_what_a_user_may_not_read_is_an_outage(redis: RedisServer, open_redis: OpenRedis, gate_user: str) -> None:
    store = open_redis(f"redis://{gate_user}@127.0.0.1:{redis.port}/0?prefix=app:")
    for ask in (store.check(), store.read_session(TOKEN)):
        with pytest.raises(StoreUnavailable, match=r"(?i)no permissions") as caught:
            await ask
        assert "p@ss" not in messages_of(caught.value)


@pytest.mark.parametrize("credentials", ["gate:hunter2", "nobody:hunter2", ":hunter2"])
async def test_a_wrong_password_is_said_without_it(
    storage: Storage, redis: RedisServer, open_redis: OpenRedis, gate_user: str, credentials: str
) -> None:
    storage.run("CONFIG", "SET", "requirepass", "right")
    try:
        store = open_redis(f"redis://{credentials}@127.0.0.1:{redis.port}/0")
        with pytest.raises(StoreUnavailable, match="invalid username-password pair") as caught:
            await store.read_session(TOKEN)
        assert str(caught.value).startswith(f"redis://127.0.0.1:{redis.port}/0: ")
        assert "hunter2" not in messages_of(caught.value)
        with pytest.raises(StoreUnavailable, match="Authentication required"):
            await open_redis(redis.url).check()
        await open_redis(f"redis://:right@127.0.0.1:{redis.port}/0").check()
    finally:
        Storage(f"redis://:right@127.0.0.1:{redis.port}/0").run("CONFIG", "SET", "requirepass", "")


async def test_a_database_that_does_not_exist_is_an_outage(redis: RedisServer, open_redis: OpenRedis) -> None:
    with pytest.raises(StoreUnavailable, match="DB index is out of range"):
        await open_redis(redis.url[:-1] + "4000").check()


# TLS and sockets


class GuardedServer(RedisServer):
    """One that listens with TLS, for `localhost`, and on a socket."""

    def __init__(self) -> None:
        super().__init__()
        self.ca = Authority().write_certificate(self.folder / "other-ca.pem")
        authority = Authority()
        authority.write_certificate(self.folder / "ca.pem")
        authority.issue("localhost").write(self.folder / "cert.pem", self.folder / "key.pem")

    @property
    def socket(self) -> Path:
        return self.folder / "redis.sock"

    def tls_url(self, ca: str = "ca.pem", host: str = "localhost") -> str:
        return f"rediss://{host}:{self.port}/0?ssl_ca_certs={self.folder / ca}"

    def command(self) -> list[str]:
        files = ["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem", "--tls-ca-cert-file", "ca.pem"]
        where = ["--bind", "127.0.0.1", "--port", "0", "--tls-port", str(self.port), "--unixsocket", str(self.socket)]
        return [self.path, *where, *files, "--tls-auth-clients", "no", "--dir", str(self.folder), "--save", ""]


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedServer]:
    try:
        server = GuardedServer()
    except Missing as error:
        pytest.skip(str(error))
    try:
        server.start()
        sign_in(Storage(f"unix://{server.socket}"), TOKEN)
        yield server
    finally:
        server.remove()


async def test_tls_with_an_authority_of_ones_own(guarded: GuardedServer, open_redis: OpenRedis) -> None:
    store = open_redis(guarded.tls_url())
    await store.check()
    assert await user_of(store, TOKEN) == USER


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        pytest.param({"ca": "other-ca.pem"}, "certificate verify failed", id="another-authority"),
        pytest.param({"host": "127.0.0.1"}, "certificate verify failed", id="another-name"),
        pytest.param({"ca": "missing.pem"}, "No such file", id="no-such-file"),
        pytest.param({"ca": "key.pem"}, "PEM lib|no certificate", id="no-certificate-in-the-file"),
    ],
)
async def test_tls_that_cannot_be_trusted_is_an_outage(
    guarded: GuardedServer, open_redis: OpenRedis, url: dict[str, str], cause: str
) -> None:
    with pytest.raises(StoreUnavailable, match=cause) as caught:
        await open_redis(guarded.tls_url(**url)).read_session(TOKEN)
    assert str(caught.value).startswith(f"rediss://{url.get('host', 'localhost')}:{guarded.port}/0: ")


async def test_a_tls_server_is_not_trusted_without_its_authority(guarded: GuardedServer, open_redis: OpenRedis) -> None:
    with pytest.raises(StoreUnavailable, match="certificate verify failed"):
        await open_redis(f"rediss://localhost:{guarded.port}/0").check()


async def test_plain_to_a_tls_port_and_tls_to_a_plain_one(
    guarded: GuardedServer, redis: RedisServer, open_redis: OpenRedis
) -> None:
    with pytest.raises(StoreUnavailable):
        await open_redis(f"redis://localhost:{guarded.port}/0").check()
    with pytest.raises(StoreUnavailable):
        await open_redis(f"rediss://localhost:{redis.port}/0").check()


async def test_a_socket(guarded: GuardedServer, open_redis: OpenRedis) -> None:
    store = open_redis(f"unix://{guarded.socket}")
    assert await user_of(store, TOKEN) == USER
    assert await user_of(open_redis(f"unix://{guarded.socket}?db=1"), TOKEN) is None


async def test_a_socket_that_is_not_there_is_named(tmp_path: Path, open_redis: OpenRedis) -> None:
    with pytest.raises(StoreUnavailable, match=rf"^unix://{tmp_path}/redis\.sock: No such file or directory$"):
        await open_redis(f"unix://{tmp_path}/redis.sock").check()


def test_the_oldest_tls_is_not_spoken() -> None:
    connection: Any = new_connection(parse_redis_url("rediss://localhost"), 2.0)
    context = connection.ssl_context.get()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)


# Closing


async def test_closing_waits_for_the_reads_under_way(storage: Storage, store: RedisStore) -> None:
    sign_in(storage, TOKEN)
    reads = [asyncio.ensure_future(user_of(store, TOKEN)) for _ in range(5)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*reads) == [USER] * 5


async def test_closing_twice_at_once_ends(store: RedisStore) -> None:
    await store.check()
    await asyncio.gather(store.close(), store.close(), store.close())
    with pytest.raises(StoreUnavailable, match="the store was closed"):
        await store.check()


async def test_a_closing_that_is_cancelled_can_be_done_again(open_redis: OpenRedis) -> None:
    connected = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        connected.set()
        await reader.read()

    async with fake_redis(serve) as fake:
        store = open_redis(fake.url, timeout_s=0.2, pool=2)
        read = asyncio.ensure_future(store.read_session(TOKEN))
        await connected.wait()
        closing = asyncio.ensure_future(store.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        assert closing.cancelled()
        await store.close()
        assert isinstance((await asyncio.gather(read, return_exceptions=True))[0], StoreUnavailable)


async def test_a_store_that_is_shown_shows_no_password() -> None:
    assert repr(RedisStore("redis://:hunter2@h/2")) == "<RedisStore redis://h:6379/2>"
