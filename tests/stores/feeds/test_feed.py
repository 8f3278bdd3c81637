"""`stores.feeds.feed`: what keeps a channel open, and when the lease is held.  The channel and the time are fakes."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.stores.feeds.feed import RETRY_S, SETUP_RETRY_S, Changes, Feed, FeedNotSetUp, digest_of
from gatekeeper.stores.lease import LOST_S, MARKER_S, Lease


class Told(Changes):
    def __init__(self) -> None:
        self.what: list[str] = []

    def session_changed(self, digest: bytes) -> None:
        self.what.append(f"session {digest.hex()[:4]}")

    def user_changed(self, digest: bytes) -> None:
        self.what.append(f"user {digest.hex()[:4]}")

    def all_changed(self) -> None:
        self.what.append("all")


class FakeChannel:
    """Does what `script` says, step by step: None goes well, an exception is raised; then it hangs."""

    label = "a fake"
    names_all = True
    interval_s = MARKER_S

    def __init__(self, setting: "Setting") -> None:
        self.setting = setting
        self.script: list[Exception | None] = []
        self.log: list[str] = []
        self.takes_s = 0.01

    async def _step(self, what: str) -> None:
        self.log.append(what)
        if not self.script:
            self.setting.idle.set()
            await asyncio.Event().wait()
        fault = self.script.pop(0)
        self.setting.now += self.takes_s
        if fault is not None:
            raise fault

    async def open(self, changes: Changes) -> None:
        await self._step("open")

    async def turn(self) -> None:
        await self._step("turn")

    async def close(self) -> None:
        self.log.append("close")


class Setting:
    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []
        self.idle = asyncio.Event()
        self.lease = Lease()
        self.told = Told()
        self.channel = FakeChannel(self)
        self.feed = Feed(self.channel, self.lease, lambda: self.now, self.sleep)
        self.running: asyncio.Task[None] | None = None

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.now += seconds
        await asyncio.sleep(0)

    async def run(self, *script: Exception | None) -> None:
        """Until the script is over."""
        self.channel.script = list(script)
        self.running = asyncio.create_task(self.feed.run(self.told))
        await self.idle.wait()


@pytest.fixture
async def s() -> AsyncIterator[Setting]:
    setting = Setting()
    yield setting
    if setting.running is not None:
        setting.running.cancel()
        await asyncio.wait((setting.running,))


def test_sessions_and_users_are_called_by_the_hash_of_their_token_and_id() -> None:
    assert digest_of("abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert len(digest_of("\ud800")) == 32


async def test_what_was_remembered_before_is_forgotten_and_then_the_lease_is_renewed(s: Setting) -> None:
    await s.run(None, None, None)
    assert s.channel.log == ["open", "turn", "turn", "turn"]
    assert s.told.what == ["all"]
    assert s.lease.covered_since == 1_000.01
    assert s.lease.proven_at == pytest.approx(1_000.01 + MARKER_S)  # when the second marker was sent
    assert s.lease.held_until == pytest.approx(s.lease.proven_at + LOST_S)
    assert s.slept == [pytest.approx(MARKER_S - 0.01)] * 2


async def test_between_markers_is_no_pause_where_one_took_long(s: Setting) -> None:
    s.channel.takes_s = 0.4
    await s.run(None, None)
    assert s.slept == [0.0]
    assert not s.lease.is_held(s.lease.proven_at + LOST_S)


async def test_until_a_marker_came_back_the_lease_is_not_held(s: Setting) -> None:
    await s.run(None)
    assert not s.lease.is_held(s.now)


async def test_a_feed_that_does_not_name_all_covers_nothing_that_is_not_in_memory(s: Setting) -> None:
    s.channel.names_all = False
    await s.run(None, None)
    assert s.lease.covered_since is None
    assert s.lease.is_held(s.now)


async def test_a_channel_that_failed_is_opened_anew(s: Setting, caplog: pytest.LogCaptureFixture) -> None:
    await s.run(None, None, StoreUnavailable("gone"), StoreUnavailable("gone"), None, None)
    assert s.channel.log == ["open", "turn", "turn", "close", "open", "close", "open", "turn", "turn"]
    assert s.told.what == ["all", "all"]
    assert s.slept.count(RETRY_S) == 2
    assert [line.message for line in caplog.records] == [
        "the revocation feed has failed: gone",
        "the revocation feed works",
    ]


async def test_while_a_channel_is_gone_the_lease_is_not_held(s: Setting) -> None:
    await s.run(None, None, StoreUnavailable("gone"))
    assert s.channel.log[-1] == "open"
    assert (s.lease.is_held(s.now - RETRY_S), s.lease.covered_since) == (False, None)


async def test_one_that_is_not_set_up_is_said_once(s: Setting, caplog: pytest.LogCaptureFixture) -> None:
    fault = FeedNotSetUp("db: no triggers; run `gatekeeper migrate --feed`")
    await s.run(fault, fault, fault)
    assert s.slept == [SETUP_RETRY_S] * 3
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert "gatekeeper migrate --feed" in line.message
    assert s.told.what == []


async def test_a_defect_does_not_end_it(s: Setting, caplog: pytest.LogCaptureFixture) -> None:
    await s.run(None, None, ValueError("a defect"), None)
    assert s.channel.log[-3:] == ["close", "open", "turn"]
    assert "has failed" in caplog.text


async def test_a_defect_that_stays_is_said_once_and_that_it_is_over_is_said_too(
    s: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    await s.run(*[ValueError("a defect")] * 3, None, None, None)
    failed, works = caplog.records
    assert "a defect" in caplog.text
    assert (failed.levelno, failed.exc_info is not None) == (logging.ERROR, True)
    assert works.message == "the revocation feed works"


async def test_a_channel_that_hangs_is_opened_anew(s: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekeeper.stores.feeds.feed.TURN_LIMIT_S", 0.0)
    s.channel.script = []
    s.running = asyncio.create_task(s.feed.run(s.told))
    for _ in range(2):
        s.idle.clear()
        await s.idle.wait()
    assert s.channel.log[:3] == ["open", "close", "open"]
    assert "no answer" in repr(s.feed)


@pytest.mark.parametrize("steps", [[], [None], [None, None]])
async def test_when_it_is_cancelled_the_channel_is_closed_and_the_lease_gone(
    s: Setting, steps: list[Exception | None]
) -> None:
    await s.run(*steps)
    assert s.running is not None
    s.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await s.running
    assert s.channel.log[-1] == "close"
    assert not s.lease.is_held(s.now)
