"""Keys in a running gate: where they come from, what is warned of, and how new ones are noticed."""

import asyncio
import json
import logging
import os
from pathlib import Path

import pytest

from gatekeeper.config.key_folder import NAME, KeyFolder
from gatekeeper.config.schema import Settings
from gatekeeper.core.assertion_keys import MIN_ROTATION_MS, KeyRing
from gatekeeper.core.errors import KeysUnusable
from gatekeeper.server.assertion_keys import AssertionKeys, follow_keys, open_keys, to_inherit
from tests.config.loading import BASE, load
from tests.core.records import NOW_MS

LATER_MS = NOW_MS + MIN_ROTATION_MS
PATIENCE_S = 20.0


def settings_of(folder: Path, more: str = "public_url: https://app.example.com\n") -> Settings:
    return load(BASE + more, folder)


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]


def test_keys_are_beside_the_configuration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = open_keys(settings_of(tmp_path), NOW_MS)
    assert keys is not None
    again = open_keys(settings_of(tmp_path), NOW_MS + 1, b"")
    assert again is not None
    assert keys.published == again.published
    assert sorted(path.name for path in (tmp_path / "gatekeeper-keys").iterdir()) == [NAME, "lock"]
    assert warnings_in(caplog) == []
    assert to_inherit(keys) == b""
    assert repr(keys) == f"<AssertionKeys of <KeyFolder {tmp_path}/gatekeeper-keys>>"


def test_without_public_url_there_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_of(tmp_path, "")
    assert open_keys(settings, NOW_MS) is None
    assert open_keys(settings, NOW_MS, b"") is None  # a worker: its supervisor has said so
    (warning,) = warnings_in(caplog)
    assert "public_url" in warning
    assert list(tmp_path.iterdir()) == []
    assert to_inherit(None) == b""


@pytest.mark.parametrize(
    "more",
    [
        "identity: {assertion: {enabled: false}}\n",
        "public_url: https://app.example.com\nidentity: {assertion: {enabled: false}}\n",
        "public_url: https://app.example.com\nidentity: {rename: {X-Auth-Assertion: ''}}\n",
    ],
)
def test_where_it_is_off_nothing_is_made_or_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, more: str) -> None:
    assert open_keys(settings_of(tmp_path, more), NOW_MS) is None
    assert warnings_in(caplog) == []
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written_keys_are_in_memory(caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_of(Path("/proc"))  # nobody may make anything there
    keys = open_keys(settings, NOW_MS)
    assert keys is not None
    (warning,) = warnings_in(caplog)
    assert "replicas must share a folder" in warning
    assert repr(keys) == "<AssertionKeys of memory>"
    worker = open_keys(settings, NOW_MS + 1, to_inherit(keys))
    assert worker is not None
    assert worker.published == keys.published
    assert len(warnings_in(caplog)) == 1
    assert not keys.look()


def test_settings_that_were_not_read_from_a_file_have_keys_in_memory() -> None:
    import msgspec

    loaded = settings_of(Path("/proc"))
    assertion = msgspec.structs.replace(loaded.identity.assertion, keys=None)
    settings = msgspec.structs.replace(loaded, identity=msgspec.structs.replace(loaded.identity, assertion=assertion))
    keys = open_keys(settings, NOW_MS)
    assert keys is not None
    assert keys.folder is None


def test_unsafe_keys_are_refused(tmp_path: Path) -> None:
    open_keys(settings_of(tmp_path), NOW_MS)
    (tmp_path / "gatekeeper-keys" / NAME).chmod(0o644)
    with pytest.raises(KeysUnusable, match="others can get at it"):
        open_keys(settings_of(tmp_path), NOW_MS)


def test_another_algorithm_is_for_new_keys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_keys(settings_of(tmp_path), NOW_MS)
    more = "public_url: https://app.example.com\nidentity: {assertion: {algorithm: EdDSA}}\n"
    keys = open_keys(settings_of(tmp_path, more), NOW_MS)
    assert keys is not None
    assert keys.ring.current.algorithm == "ES256"
    (warning,) = warnings_in(caplog)
    assert "rotate twice" in warning
    for at_ms in (LATER_MS, LATER_MS + MIN_ROTATION_MS):
        KeyFolder(tmp_path / "gatekeeper-keys").rotate("EdDSA", at_ms)
    rotated = open_keys(settings_of(tmp_path, more), NOW_MS)
    assert rotated is not None
    assert rotated.ring.current.algorithm == "EdDSA"
    assert len(warnings_in(caplog)) == 1


# --- rotation ------------------------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path: Path) -> AssertionKeys:
    found = open_keys(settings_of(tmp_path), NOW_MS)
    assert found is not None
    return found


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    return KeyFolder(tmp_path / "gatekeeper-keys")


def test_a_rotation_is_seen_once(keys: AssertionKeys, folder: KeyFolder) -> None:
    before = keys.published
    assert not keys.look()
    ring = folder.rotate("ES256", LATER_MS)
    assert keys.look()
    assert not keys.look()
    assert keys.ring.current.kid == ring.current.kid
    assert keys.published[0] == ring.jwks()
    assert keys.published[1] != before[1]


def test_a_touched_file_is_no_rotation(keys: AssertionKeys, folder: KeyFolder) -> None:
    os.utime(folder.path / NAME, ns=(1, 1))
    assert not keys.look()


@pytest.mark.parametrize("harm", ["gone", "noise", "shared"])
def test_what_cannot_be_read_changes_nothing(keys: AssertionKeys, folder: KeyFolder, harm: str) -> None:
    before, file = keys.published, folder.path / NAME
    if harm == "gone":
        file.unlink()
    elif harm == "noise":
        file.write_text("noise")
    else:
        folder.rotate("ES256", LATER_MS)
        file.chmod(0o644)
    for _ in range(2):
        with pytest.raises(KeysUnusable):
            keys.look()
    assert keys.published == before


def test_what_could_not_be_read_is_seen_once_it_can_be(keys: AssertionKeys, folder: KeyFolder) -> None:
    """A mode is set right without any change of the file itself."""
    ring, file = folder.rotate("ES256", LATER_MS), folder.path / NAME
    file.chmod(0o644)
    with pytest.raises(KeysUnusable, match="others can get at it"):
        keys.look()
    file.chmod(0o600)
    assert keys.look()
    assert keys.ring.current.kid == ring.current.kid
    assert not keys.look()


async def test_the_same_trouble_is_told_anew_once_it_was_over(
    keys: AssertionKeys, folder: KeyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    news, file = asyncio.Event(), folder.path / NAME
    following = asyncio.create_task(follow_keys(keys, news.set, 0))
    try:
        async with asyncio.timeout(PATIENCE_S):
            for times in (1, 2):
                file.write_text("noise")
                while len(warnings_in(caplog)) < times:  # noqa: ASYNC110  (a log has no event)
                    await asyncio.sleep(0)
                news.clear()
                file.write_bytes(KeyRing.make("ES256", NOW_MS).encode())
                await news.wait()
    finally:
        following.cancel()
        await asyncio.wait((following,))
    assert len(set(warnings_in(caplog))) == 1


async def test_rotations_are_followed(keys: AssertionKeys, folder: KeyFolder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    news = asyncio.Event()
    following = asyncio.create_task(follow_keys(keys, news.set, 0))
    try:
        async with asyncio.timeout(PATIENCE_S):
            (folder.path / NAME).write_text("noise")
            while not warnings_in(caplog):  # noqa: ASYNC110  (a log has no event)
                await asyncio.sleep(0)
            (folder.path / NAME).write_text("noise again")
            ring = KeyRing.make("ES256", NOW_MS)
            (folder.path / NAME).write_bytes(ring.encode())
            await news.wait()
    finally:
        following.cancel()
        await asyncio.wait((following,))
    assert keys.ring.current.kid == ring.current.kid
    (error,) = warnings_in(caplog)
    assert "stay in use" in error
    assert f"{ring.current.kid} signs now" in caplog.text


async def test_keys_in_memory_are_not_followed() -> None:
    await follow_keys(AssertionKeys(KeyRing.make("ES256", NOW_MS)), lambda: None)


def test_what_is_published_is_a_set_of_public_keys(keys: AssertionKeys) -> None:
    document = json.loads(keys.published[0])
    assert [key["kid"] for key in document["keys"]] == [keys.ring.current.kid, keys.ring.next.kid]
    assert not any("d" in key for key in document["keys"])
