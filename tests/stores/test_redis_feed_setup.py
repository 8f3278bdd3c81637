"""`stores.feeds.redis_setup` on real servers: letters are added, others' stay, and what was set outlives a restart."""

import asyncio
import shlex
from collections.abc import Iterator

import pytest

from gatekeeper.config.redis_url import parse_redis_url
from gatekeeper.core.errors import GatekeeperError, StoreUnavailable
from gatekeeper.stores.feeds import redis_setup
from tests.better_auth_redis import Storage
from tests.servers.processes import Missing
from tests.servers.redis import RedisServer
from tests.stores.contract import messages_of
from tests.stores.fake_redis import fake_redis, read_command, text

SETTING = "notify-keyspace-events"


class ConfiguredServer(RedisServer):
    """One that has a configuration file."""

    def prepare(self) -> None:
        (self.folder / "redis.conf").write_text(f"bind 127.0.0.1\nport {self.port}\ndir {self.folder}\n")
        (self.folder / "redis.conf").chmod(0o666)
        self.folder.chmod(0o777)

    def command(self) -> list[str]:
        return [self.path, str(self.folder / "redis.conf")]


@pytest.fixture
def server() -> Iterator[ConfiguredServer]:
    try:
        made = ConfiguredServer()
    except Missing as error:
        pytest.skip(str(error))
    with made:
        yield made


@pytest.fixture
def redis(redis: RedisServer) -> Iterator[RedisServer]:
    """Nothing is set before the test and after it."""
    Storage(redis.url).run("CONFIG", "SET", SETTING, "")
    yield redis
    Storage(redis.url).run("CONFIG", "SET", SETTING, "")
    Storage(redis.url).run("ACL", "DELUSER", "setup")


def flags(server: RedisServer) -> str:
    answer: bytes = Storage(server.url).run("CONFIG", "GET", SETTING)[1]
    return answer.decode()


async def apply(server: RedisServer, *, undo: bool = False) -> list[str]:
    lines = await redis_setup.apply(parse_redis_url(server.url), undo=undo)
    return [line.removeprefix(f"redis://127.0.0.1:{server.port}/0: ") for line in lines]


async def test_it_outlives_a_restart_and_is_taken_back(server: ConfiguredServer) -> None:
    for undo, before, after in [(False, "empty", "g$xeK"), (True, "g$xeK", "empty")]:
        assert await apply(server, undo=undo) == [
            f"{SETTING} was {before}, is now {after}",
            "its configuration file has it, too",
        ]
        server.stop()
        server.start()
        assert flags(server) == after.replace("empty", "")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", set("K$gxe"), id="nothing"),
        pytest.param("Ex", set("EK$gxe"), id="expiry-for-another"),
        pytest.param("AE", set("AEK"), id="all-kinds-without-keys"),
        pytest.param("Kl", set("Kl$gxe"), id="lists-for-another"),
        pytest.param("KA", set("AK"), id="enough"),
        pytest.param("K$gxe", set("K$gxe"), id="ours"),
    ],
)
async def test_letters_are_added_and_others_stay(redis: RedisServer, before: str, after: set[str]) -> None:
    Storage(redis.url).run("CONFIG", "SET", SETTING, before)
    lines = await apply(redis)
    assert set(flags(redis)) == after
    if set(before) == after:
        assert lines == [f"{SETTING} is {flags(redis)} already"]
    else:
        assert lines[0].endswith(f", is now {flags(redis)}")
    assert await apply(redis) == [f"{SETTING} is {flags(redis)} already"]


@pytest.mark.parametrize("before", ["AKE", "K$gxeE", "Kgxe", "Ex"])
async def test_what_others_may_need_stays(redis: RedisServer, before: str) -> None:
    Storage(redis.url).run("CONFIG", "SET", SETTING, before)
    stands = flags(redis)
    assert await apply(redis, undo=True) == [
        f"{SETTING} is {stands} and stays so: not all of it was set for the gate",
    ]
    assert flags(redis) == stands


async def test_taking_back_what_is_not_there(redis: RedisServer) -> None:
    assert await apply(redis, undo=True) == [f"{SETTING} is empty already"]


async def test_without_a_file_it_is_said_what_to_write(redis: RedisServer) -> None:
    for undo, stands in [(False, "g$xeK"), (True, "")]:
        [_, line] = await apply(redis, undo=undo)
        assert line == (
            "its configuration file could not be written (The server is running without a config file): "
            f'for the setting to outlive a restart, put `{SETTING} "{stands}"` into redis.conf'
        )


@pytest.mark.parametrize(
    ("rights", "refused"),
    [
        pytest.param([], "CONFIG GET", id="none"),
        pytest.param(["+config|get"], "CONFIG SET", id="only-to-look"),
    ],
)
async def test_the_rights_it_lacks_are_named(redis: RedisServer, rights: list[str], refused: str) -> None:
    Storage(redis.url).run("ACL", "SETUSER", "setup", "reset", "on", ">hunter2", *rights)
    with pytest.raises(GatekeeperError, match=rf"{refused} was refused .*\+config\|get \+config\|set") as caught:
        await redis_setup.apply(parse_redis_url(redis.url.replace("//", "//setup:hunter2@")), undo=False)
    assert "hunter2" not in messages_of(caught.value)
    assert flags(redis) == ""


async def test_these_rights_are_enough(redis: RedisServer) -> None:
    rights = ("+config|get", "+config|set", "+config|rewrite")
    Storage(redis.url).run("ACL", "SETUSER", "setup", "reset", "on", ">hunter2", *rights)
    await redis_setup.apply(parse_redis_url(redis.url.replace("//", "//setup:hunter2@")), undo=False)
    assert flags(redis) == "g$xeK"


async def test_a_server_that_is_gone_is_an_outage(redis: RedisServer) -> None:
    redis.stop()
    try:
        with pytest.raises(StoreUnavailable, match="Connection refused"):
            await apply(redis)
    finally:
        redis.start()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(b"*2\r\n" + text(SETTING) + text(""), "was set, and is empty all the same", id="accepts-in-vain"),
        pytest.param(b"*0\r\n", "has no setting", id="unknown-setting"),
    ],
)
async def test_a_service_that_does_not_do_it_is_an_error(answer: bytes, message: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while command := await read_command(reader):
            writer.write(answer if command[1] == b"GET" else b"+OK\r\n")

    async with fake_redis(serve) as fake:
        with pytest.raises(GatekeeperError, match=message):
            await redis_setup.apply(parse_redis_url(fake.url), undo=False)


@pytest.mark.parametrize("undo", [False, True])
async def test_what_is_printed_does_the_same(server: ConfiguredServer, undo: bool) -> None:
    await apply(server)
    if undo:
        await apply(server, undo=True)
    done = flags(server)
    Storage(server.url).run("CONFIG", "SET", SETTING, "Ex")
    for line in redis_setup.commands(undo=undo):
        Storage(server.url).run(*shlex.split(line))
    assert flags(server) == done
    server.stop()
    server.start()
    assert flags(server) == done
