"""`stores.feeds.redis` on a real Redis: what is told, and when it is known that nothing is.

Nothing waits for time: when a turn has returned, everything before it was told.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.config.redis_url import parse_redis_url
from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.stores.feeds.feed import Changes, FeedNotSetUp, digest_of
from gatekeeper.stores.feeds.keyspace import NEEDED, missing_from, pattern_of
from gatekeeper.stores.feeds.redis import RedisChannel
from tests.better_auth_redis import CREATED_MS, Storage, session_fields, sign_in, stored, user_fields
from tests.servers.redis import RedisServer
from tests.stores.conftest import OpenRedis
from tests.stores.contract import OTHER, TOKEN, messages_of, user_of
from tests.stores.fake_redis import always, fake_redis, read_command, text
from tests.stores.told import Told, session

USER = "user_1"
SETTING = "notify-keyspace-events"
NAMES = {digest_of(name): name for name in (TOKEN, OTHER, USER, "user_2", "a", "b")}


class Heard:
    """A Changes that writes down what it is told: tokens, `user <id>`, `all`."""

    def __init__(self) -> None:
        self._said: list[str] = []

    def session_changed(self, digest: bytes) -> None:
        self._said.append(NAMES.get(digest, "something else"))

    def user_changed(self, digest: bytes) -> None:
        self._said.append(f"user {NAMES[digest]}")

    def all_changed(self) -> None:
        self._said.append("all")

    def since(self) -> list[str]:
        """What was told since the last call, each thing once, in order of the first time."""
        said, self._said = self._said, []
        return list(dict.fromkeys(said))


def nothing() -> None:
    return None


OpenChannel = Callable[..., Awaitable[RedisChannel]]


@pytest.fixture
def redis(redis: RedisServer) -> Iterator[RedisServer]:
    """With the feed set up for the test."""
    Storage(redis.url).run("CONFIG", "SET", SETTING, NEEDED)
    yield redis
    if redis.is_running:
        Storage(redis.url).run("CONFIG", "SET", SETTING, "")
        Storage(redis.url).run("ACL", "DELUSER", "gate")


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def open_channel(redis: RedisServer, heard: Heard) -> AsyncIterator[OpenChannel]:
    """Opens channels, and closes them after the test.  What the opening told is forgotten."""
    channels: list[RedisChannel] = []

    async def open_one(
        url: str = redis.url, probe: Callable[[], str | None] = nothing, changes: Changes = heard, **more: Any
    ) -> RedisChannel:
        channels.append(RedisChannel(parse_redis_url(url), probe, **more))
        await channels[-1].open(changes)
        heard.since()
        return channels[-1]

    yield open_one
    for channel in channels:
        await channel.close()


# What the app does


async def test_signing_in_is_told(storage: Storage, open_channel: OpenChannel, heard: Heard) -> None:
    channel = await open_channel()
    sign_in(storage, TOKEN)
    await channel.turn()
    assert heard.since() == [TOKEN]
    await channel.turn()
    assert heard.since() == []


def refresh(storage: Storage) -> None:
    storage.set(TOKEN, stored(session_fields(token=TOKEN, userId=USER), user_fields(id=USER)))


def revoke_others(storage: Storage) -> None:
    storage.revoke(OTHER)


def revoke_all(storage: Storage) -> None:
    storage.revoke_before(USER, CREATED_MS + 1)
    for token in (TOKEN, OTHER):
        storage.delete(token)
    storage.delete(f"active-sessions-{USER}")


def update_user(storage: Storage) -> None:
    for entry in storage.listed(USER):
        token = entry["token"]
        storage.set(token, stored(session_fields(token=token, userId=USER), user_fields(id=USER, name="Grace")))


def run_out(storage: Storage) -> None:
    """Redis removes a key whose time has run out when it is looked at, if not before."""
    storage.run("PEXPIRE", f"better-auth:{TOKEN}", 1)
    while storage.run("EXISTS", f"better-auth:{TOKEN}"):
        pass


def one(*command: str) -> Callable[[Storage], object]:
    """This command, where T and O stand for two sessions' keys."""
    keys = {"T": f"better-auth:{TOKEN}", "O": f"better-auth:{OTHER}"}
    return lambda storage: storage.run(*(keys.get(word, word) for word in command))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(refresh, [TOKEN], id="refresh"),
        pytest.param(lambda storage: storage.revoke(TOKEN), [TOKEN], id="revoke-one"),
        pytest.param(revoke_others, [OTHER], id="revoke-others"),
        pytest.param(revoke_all, [f"user {USER}", TOKEN, OTHER], id="revoke-all"),
        pytest.param(update_user, [TOKEN, OTHER], id="update-user"),
        pytest.param(run_out, [TOKEN], id="time-runs-out"),
        pytest.param(one("UNLINK", "T"), [TOKEN], id="unlink"),
        pytest.param(one("GETDEL", "T"), [TOKEN], id="getdel"),
        pytest.param(one("RENAME", "T", "O"), [TOKEN, OTHER], id="rename"),
        pytest.param(one("RENAME", "T", "elsewhere"), [TOKEN], id="rename-away"),
        pytest.param(one("COPY", "T", "O", "REPLACE"), [OTHER], id="copy"),
        pytest.param(one("MOVE", "T", "5"), [TOKEN], id="move-to-another-database"),
        pytest.param(one("SETRANGE", "T", "3", "x"), [TOKEN], id="setrange"),
        pytest.param(one("APPEND", "T", "x"), [TOKEN], id="append"),
        pytest.param(one("EXPIREAT", "T", "1"), [TOKEN], id="expire-in-the-past"),
        pytest.param(one("EVAL", "redis.call('DEL', KEYS[1])", "1", "T"), [TOKEN], id="script"),
        pytest.param(one("SET", "better-auth:203.0.113.9|/sign-in", "1"), ["something else"], id="rate-limit"),
        pytest.param(one("SET", b"better-auth:\xff\xfe", "1"), [], id="no-utf-8"),  # type: ignore[arg-type]
        pytest.param(one("SET", "better-auth", "1"), [], id="shorter-than-the-prefix"),
        pytest.param(one("SET", TOKEN, "1"), [], id="no-prefix"),
        pytest.param(one("SET", f"Better-auth:{TOKEN}", "1"), [], id="another-prefix"),
        pytest.param(one("GET", "T"), [], id="read"),
        pytest.param(one("DEL", "better-auth:absent"), [], id="del-nothing"),
    ],
)
async def test_changes_are_told(
    storage: Storage, open_channel: OpenChannel, heard: Heard, change: Callable[[Storage], object], told: list[str]
) -> None:
    sign_in(storage, TOKEN)
    sign_in(storage, OTHER)
    channel = await open_channel()
    change(storage)
    await channel.turn()
    assert heard.since() == told


async def test_eviction_is_told(storage: Storage, open_channel: OpenChannel, heard: Heard) -> None:
    sign_in(storage, TOKEN)
    channel = await open_channel()
    storage.run("CONFIG", "SET", "maxmemory-policy", "allkeys-random", "maxmemory", "1")
    try:
        with pytest.raises(Exception, match="maxmemory"):
            storage.run("SET", "another", "1")
    finally:
        storage.run("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction")
    assert storage.get(TOKEN) is None
    await channel.turn()
    assert TOKEN in heard.since()


async def test_many_changes_are_all_told_before_the_turn_returns(
    redis: RedisServer, open_channel: OpenChannel, heard: Heard
) -> None:
    channel = await open_channel()
    script = "for i = 1, 20000 do redis.call('SET', ARGV[1] .. i, '') end redis.call('SET', ARGV[2], '')"
    Storage(redis.url).run("EVAL", script, 0, "better-auth:many", f"better-auth:{TOKEN}")
    await channel.turn()
    assert heard.since() == ["something else", TOKEN]


@pytest.mark.parametrize("prefix", ["", "a*", "a?b", "[ab]:", "{a}:", "back\\slash", "a-z^]", "é:", "a b", "100%:"])
async def test_the_prefix_is_no_pattern(
    redis: RedisServer, open_channel: OpenChannel, heard: Heard, prefix: str
) -> None:
    quoted = "".join(f"%{code:02X}" for code in prefix.encode())
    channel = await open_channel(f"{redis.url}?prefix={quoted}")
    storage = Storage(redis.url, prefix)
    sign_in(storage, TOKEN)
    storage.revoke_before(USER, 1)
    await channel.turn()
    assert heard.since() == [TOKEN, f"user {USER}"]
    Storage(redis.url, "axb").set(OTHER, "")
    Storage(redis.url, "a:").set(OTHER, "")
    await channel.turn()
    assert heard.since() == ([] if prefix else ["something else"])


async def test_only_the_own_database_is_told(redis: RedisServer, open_channel: OpenChannel, heard: Heard) -> None:
    channel = await open_channel(f"{redis.url[:-1]}3")
    for database in (0, 1, 13, 3):
        storage = Storage(f"{redis.url[:-1]}{database}")
        sign_in(storage, TOKEN if database == 3 else OTHER)
    await channel.turn()
    assert heard.since() == [TOKEN]


async def test_two_channels_do_not_take_one_anothers_markers(
    storage: Storage, redis: RedisServer, open_channel: OpenChannel, heard: Heard
) -> None:
    channels = [await open_channel() for _ in range(2)]
    for token in (TOKEN, OTHER, TOKEN):
        sign_in(storage, token)
        await asyncio.gather(*(channel.turn() for channel in channels))
        assert heard.since() == [token]


# Databases that are emptied at once: nothing is sent for that


async def test_an_emptied_database_is_told(storage: Storage, open_channel: OpenChannel, heard: Heard) -> None:
    for command in (("FLUSHDB",), ("FLUSHALL", "ASYNC"), ("SWAPDB", 0, 7), ("EVAL", "redis.call('FLUSHDB')", 0)):
        sign_in(storage, TOKEN)
        channel = await open_channel(probe=lambda: TOKEN)
        await channel.turn()
        assert heard.since() == []
        storage.run(*command)
        await channel.turn()
        assert heard.since() == ["all"], command
        await channel.close()


async def test_without_a_session_in_memory_there_is_nothing_to_tell(
    storage: Storage, open_channel: OpenChannel, heard: Heard
) -> None:
    sign_in(storage, TOKEN)
    channel = await open_channel(probe=lambda: None)
    storage.run("FLUSHDB")
    await channel.turn()
    assert heard.since() == []


async def test_an_emptied_database_is_told_by_the_session_that_was_seen_last(
    storage: Storage, open_channel: OpenChannel, heard: Heard
) -> None:
    """Whatever the memory has by then."""
    sign_in(storage, TOKEN)
    memory = [TOKEN]
    channel = await open_channel(probe=lambda: memory[0] if memory else None)
    memory.clear()
    storage.run("FLUSHDB")
    await channel.turn()
    assert heard.since() == ["all"]
    await channel.turn()
    assert heard.since() == []


async def test_a_session_that_went_as_sessions_do_is_told_alone(
    storage: Storage, open_channel: OpenChannel, heard: Heard
) -> None:
    for remove in (storage.revoke, storage.delete, lambda _: run_out(storage)):
        sign_in(storage, TOKEN)
        memory = [TOKEN]
        channel = await open_channel(probe=lambda memory=memory: memory[0])
        remove(TOKEN)
        await channel.turn()
        assert heard.since() == [TOKEN]
        sign_in(storage, OTHER)
        memory[:] = [OTHER]
        await channel.turn()
        assert heard.since() == [OTHER]
        await channel.close()


async def test_a_session_that_went_between_two_turns_is_told_alone(storage: Storage, open_channel: OpenChannel) -> None:
    """Its removal was told before the turn that finds it missing began."""
    told = Told()
    sign_in(storage, TOKEN)
    channel = await open_channel(probe=lambda: TOKEN, changes=told)
    told.take()
    storage.delete(TOKEN)
    await told.something.wait()
    await channel.turn()
    assert told.take() == [session(TOKEN)]


async def test_a_session_that_was_written_before_the_database_was_emptied(
    storage: Storage, open_channel: OpenChannel, heard: Heard
) -> None:
    """That something was told of it is not enough."""
    sign_in(storage, TOKEN)
    channel = await open_channel(probe=lambda: TOKEN)
    refresh(storage)
    storage.run("FLUSHDB")
    await channel.turn()
    assert heard.since() == [TOKEN, "all"]


async def test_a_session_that_went_before_the_database_was_emptied(
    storage: Storage, open_channel: OpenChannel, heard: Heard
) -> None:
    """The next one that is asked for shows it, with a database behind or without."""
    for behind in (False, True):
        sign_in(storage, TOKEN)
        memory = [TOKEN]
        channel = await open_channel(probe=lambda memory=memory: memory[0], database_behind=behind)
        storage.revoke(TOKEN)
        storage.run("FLUSHDB")
        memory[:] = [OTHER]
        await channel.turn()
        assert heard.since() == [TOKEN]
        await channel.turn()
        assert heard.since() == ["all"]


async def test_a_session_of_the_database_behind_empties_no_memory(
    storage: Storage, open_channel: OpenChannel, heard: Heard
) -> None:
    memory = [TOKEN]
    channel = await open_channel(probe=lambda: memory[0], database_behind=True)
    for _ in range(3):
        await channel.turn()
        assert heard.since() == [TOKEN]
    sign_in(storage, OTHER)
    memory[:] = [OTHER]
    await channel.turn()
    assert heard.since() == [OTHER]
    storage.run("FLUSHDB")
    await channel.turn()
    assert heard.since() == ["all"]


async def test_a_token_that_redis_cannot_be_asked_for_is_not_asked_for(open_channel: OpenChannel, heard: Heard) -> None:
    for token in ("\ud800", ""):
        channel = await open_channel(probe=lambda token=token: token)
        await channel.turn()
        assert heard.since() == []


# Whether Redis tells at all


@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        ("", "K$gxe"),
        ("K", "$gxe"),
        ("KA", ""),
        ("AKE", ""),
        ("A", "K"),
        ("AE", "K"),
        ("Eg$xe", "K"),
        ("g$xeK", ""),
        ("Kg$lshzxetd", ""),
        ("Kgxe", "$"),
        ("K$xe", "g"),
        ("K$ge", "x"),
        ("K$gx", "e"),
        ("klshz", "K$gxe"),
    ],
)
def test_which_letters_are_missing(flags: str, missing: str) -> None:
    assert missing_from(flags) == missing


@pytest.mark.parametrize("flags", ["", "A", "Eg$xe", "Kgxe", "K$xe", "K$ge", "K$gx"])
async def test_a_redis_that_does_not_tell_is_not_set_up(
    storage: Storage, open_channel: OpenChannel, flags: str
) -> None:
    channel = await open_channel()
    storage.run("CONFIG", "SET", SETTING, flags)
    with pytest.raises(FeedNotSetUp, match=r"lacks .*`gatekeeper migrate --feed`"):
        await channel.turn()
    with pytest.raises(StoreUnavailable, match="closed"):
        await channel.turn()
    with pytest.raises(FeedNotSetUp):
        await open_channel()
    storage.run("CONFIG", "SET", SETTING, NEEDED)
    await channel.open(Heard())
    await channel.turn()


async def test_a_replica_is_not_believed(storage: Storage, redis: RedisServer, open_channel: OpenChannel) -> None:
    channel = await open_channel()
    storage.run("REPLICAOF", "127.0.0.1", 1)
    try:
        with pytest.raises(FeedNotSetUp, match="is a replica"):
            await channel.turn()
        with pytest.raises(FeedNotSetUp, match="is a replica"):
            await open_channel()
    finally:
        storage.run("REPLICAOF", "NO", "ONE")


# Rights

RIGHTS = (
    *("~better-auth:*", "&__keyspace@0__:better-auth:*", "&gatekeeper:*"),
    *("+subscribe", "+psubscribe", "+publish", "+exists", "+role", "+config|get"),
)


def make_user(storage: Storage, *rights: str) -> None:
    storage.run("ACL", "SETUSER", "gate", "reset", "on", ">hunter2", *rights)


async def test_a_user_with_these_rights_is_enough(
    storage: Storage, redis: RedisServer, open_channel: OpenChannel, heard: Heard
) -> None:
    make_user(storage, *RIGHTS)
    sign_in(storage, TOKEN)
    channel = await open_channel(redis.url.replace("//", "//gate:hunter2@"), probe=lambda: TOKEN)
    storage.revoke(TOKEN)
    await channel.turn()
    assert heard.since() == [TOKEN]


async def test_the_documented_user_may_read_and_listen(
    storage: Storage, redis: RedisServer, open_channel: OpenChannel, open_redis: OpenRedis, heard: Heard
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "stores.md").read_text()
    lines = [
        line for line in re.findall(r"^ *(ACL SETUSER gate .*)$", page, re.MULTILINE) if "+set" not in line.split()
    ]
    assert len(lines) == 2  # the third one is for writing
    for line in lines:
        storage.run(*line.split())
    sign_in(storage, TOKEN)
    url = redis.url.replace("//", "//gate:password@")
    assert await user_of(open_redis(url), TOKEN) == USER
    channel = await open_channel(url, probe=lambda: TOKEN)
    storage.revoke(TOKEN)
    await channel.turn()
    assert heard.since() == [TOKEN]


@pytest.mark.parametrize("right", RIGHTS)
async def test_each_right_is_needed_and_its_lack_is_said(
    storage: Storage, redis: RedisServer, open_channel: OpenChannel, right: str
) -> None:
    make_user(storage, *(one for one in RIGHTS if one != right))
    with pytest.raises(FeedNotSetUp) as caught:
        await open_channel(redis.url.replace("//", "//gate:hunter2@"), probe=lambda: TOKEN)
    expected = {
        "~better-auth:*": "EXISTS was refused",
        "&__keyspace@0__:better-auth:*": "PSUBSCRIBE was refused",
        "&gatekeeper:*": "SUBSCRIBE was refused",
        "+config|get": "+config|get",
    }
    assert expected.get(right, f"{right[1:].upper()} was refused") in str(caught.value)
    assert TOKEN not in messages_of(caught.value)
    assert "hunter2" not in messages_of(caught.value)


async def test_a_right_that_is_taken_away_is_noticed(
    storage: Storage, redis: RedisServer, open_channel: OpenChannel
) -> None:
    """Who may no longer listen is cut off by Redis; who may not look is told so."""
    url = redis.url.replace("//", "//gate:hunter2@")
    for change in ("-config|get", "resetchannels"):
        make_user(storage, *RIGHTS)
        channel = await open_channel(url)
        storage.run("ACL", "SETUSER", "gate", change)
        with pytest.raises((FeedNotSetUp, StoreUnavailable)):
            await channel.turn()


async def test_a_wrong_password_is_an_outage(redis: RedisServer, open_channel: OpenChannel) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await open_channel(redis.url.replace("//", "//:hunter2@"))
    assert str(caught.value).startswith(f"{redis.url}: ")
    assert "hunter2" not in messages_of(caught.value)


@pytest.mark.parametrize(
    ("words", "answer", "error", "message"),
    [
        pytest.param(
            [b"CONFIG"],
            b"-ERR unknown command 'CONFIG', with args beginning with: 'GET'\r\n",
            FeedNotSetUp,
            r"cannot be known: CONFIG GET was refused \(unknown command 'CONFIG'\); .* right \+config\|get",
            id="managed",
        ),
        pytest.param([b"CONFIG"], b"*0\r\n", FeedNotSetUp, "cannot be known: it has no setting", id="no-setting"),
        pytest.param([b"CONFIG"], text("K$gxe"), FeedNotSetUp, "cannot be known", id="odd-answer"),
        pytest.param([b"CONFIG"], b"$-1\r\n", FeedNotSetUp, "cannot be known", id="nil"),
        pytest.param([b"ROLE"], b"*1\r\n$8\r\nsentinel\r\n", FeedNotSetUp, "is a replica", id="sentinel"),
        pytest.param(
            [b"EXISTS"], b"-ERR no better-auth:tok here\r\n", FeedNotSetUp, "no better-auth:… here", id="quoted"
        ),
        pytest.param([b"EXISTS"], b"-LOADING Redis is loading\r\n", StoreUnavailable, "is loading", id="loading"),
        pytest.param([b"PUBLISH"], b":0\r\n", StoreUnavailable, "the connection that listened was lost", id="nobody"),
    ],
)
async def test_odd_answers(words: list[bytes], answer: bytes, error: type[Exception], message: str) -> None:
    usual = {
        b"SUBSCRIBE": b"*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n",
        b"PSUBSCRIBE": b"*3\r\n$10\r\npsubscribe\r\n$1\r\nx\r\n:2\r\n",
        b"CONFIG": b"*2\r\n" + text(SETTING) + text(NEEDED),
        b"ROLE": b"*3\r\n" + text("master") + b":0\r\n*0\r\n",
        b"EXISTS": b":1\r\n",
        b"PUBLISH": b":1\r\n",
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while command := await read_command(reader):
            writer.write(answer if command[:1] == words else usual[command[0]])

    async with fake_redis(serve) as fake:
        channel = RedisChannel(parse_redis_url(fake.url), lambda: "tok")
        with pytest.raises(error, match=message) as caught:
            await channel.open(Heard())
        assert "better-auth:tok" not in messages_of(caught.value)
        await channel.close()


# Lost connections


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_a_killed_connection_is_an_outage(storage: Storage, open_channel: OpenChannel, kind: str) -> None:
    channel = await open_channel()
    assert storage.run("CLIENT", "KILL", "TYPE", kind) > 0
    with pytest.raises(StoreUnavailable, match=r"[Cc]losed|lost"):
        await channel.turn()
    await channel.open(Heard())
    await channel.turn()


async def test_a_listener_that_is_too_slow_is_cut_off_and_that_is_an_outage(
    storage: Storage, open_channel: OpenChannel
) -> None:
    """Redis closes a connection with too much to read: what was sent last has not come."""
    limit = storage.run("CONFIG", "GET", "client-output-buffer-limit")[1]
    channel = await open_channel()
    storage.run("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 0 0")
    try:
        script = "for i = 1, 200000 do redis.call('SET', ARGV[1] .. i % 10, '') end"
        storage.run("EVAL", script, 0, "better-auth:" + "x" * 100)
        with pytest.raises(StoreUnavailable):
            await channel.turn()
    finally:
        storage.run("CONFIG", "SET", "client-output-buffer-limit", limit)


async def test_a_server_that_stops_is_an_outage_and_can_be_opened_again(
    redis: RedisServer, open_channel: OpenChannel, heard: Heard
) -> None:
    channel = await open_channel()
    redis.stop()
    with pytest.raises(StoreUnavailable) as caught:
        await channel.turn()
    assert str(caught.value).startswith(f"{redis.url}: ")
    with pytest.raises(StoreUnavailable, match="Connection refused"):
        await channel.open(heard)
    redis.start()
    with pytest.raises(FeedNotSetUp):
        await channel.open(heard)
    Storage(redis.url).run("CONFIG", "SET", SETTING, NEEDED)
    await channel.open(heard)
    heard.since()
    sign_in(Storage(redis.url), TOKEN)
    await channel.turn()
    assert heard.since() == [TOKEN]


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    await reader.read()


async def test_a_server_that_never_answers_is_given_up() -> None:
    async with fake_redis(silent) as fake:
        channel = RedisChannel(parse_redis_url(fake.url), nothing, timeout_s=0.01)
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.01 s"):
            await channel.open(Heard())


async def test_something_else_than_redis_is_an_outage() -> None:
    async with fake_redis(always(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as fake:
        channel = RedisChannel(parse_redis_url(fake.url), nothing)
        with pytest.raises(StoreUnavailable):
            await channel.open(Heard())


async def test_a_turn_that_is_cancelled_closes(storage: Storage, redis: RedisServer, open_channel: OpenChannel) -> None:
    """Cancelled after each possible number of steps of the loop."""
    cancelled = 0
    for steps in range(1, 12):
        channel = await open_channel()
        turn = asyncio.ensure_future(channel.turn())
        for _ in range(steps):
            await asyncio.sleep(0)
        turn.cancel()
        try:
            await turn
            await channel.turn()
        except asyncio.CancelledError:
            cancelled += 1
            with pytest.raises(StoreUnavailable, match="the feed was closed"):
                await channel.turn()
    assert cancelled


async def test_closing_leaves_no_connection(storage: Storage, open_channel: OpenChannel) -> None:
    channel = await open_channel()
    await channel.close()
    await channel.close()
    for _ in range(1000):  # until Redis has seen it
        await asyncio.sleep(0)
        left = storage.run("PUBSUB", "CHANNELS"), storage.run("PUBSUB", "NUMPAT")
        if left == ([], 0):
            break
    assert left == ([], 0)
    with pytest.raises(StoreUnavailable):
        await channel.turn()


def test_it_says_what_it_is() -> None:
    channel = RedisChannel(parse_redis_url("redis://:hunter2@h/2?prefix=a%2A"), nothing)
    assert repr(channel) == "<RedisChannel redis://h:6379/2, closed>"
    assert (channel.label, channel.names_all) == ("redis://h:6379/2", True)
    assert pattern_of(parse_redis_url("redis://h/2?prefix=a%2A")) == rb"__keyspace@2__:a\**"
