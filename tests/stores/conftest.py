"""The real servers, one of each for all tests of a run."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import pytest

from gatekeeper.stores.redis import RedisStore
from tests.better_auth_redis import Storage
from tests.servers.mariadb import MariadbServer
from tests.servers.postgres import PostgresServer
from tests.servers.processes import Missing, Server
from tests.servers.redis import RedisServer

OpenRedis = Callable[..., RedisStore]
_S = TypeVar("_S", bound=Server)


def _started(make: Callable[[], _S]) -> Iterator[_S]:
    try:
        server = make()
    except Missing as error:
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    yield from _started(RedisServer)


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[RedisServer]:
    """The Redis server, with nothing in it.  It runs after the test, too."""
    Storage(redis_server.url).run("FLUSHALL")
    yield redis_server
    if not redis_server.is_running:
        redis_server.start()


@pytest.fixture
async def open_redis() -> AsyncIterator[OpenRedis]:
    """Opens Redis stores, and closes them after the test."""
    stores: list[RedisStore] = []

    def open_at(url: str, **settings: Any) -> RedisStore:
        stores.append(RedisStore(url, **settings))
        return stores[-1]

    yield open_at
    for store in stores:
        await store.close()


@pytest.fixture
def storage(redis: RedisServer) -> Storage:
    """The app's side of it."""
    return Storage(redis.url)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    yield from _started(PostgresServer)


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariadbServer]:
    yield from _started(MariadbServer)
