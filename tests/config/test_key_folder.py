"""The folder of keys: made once by whoever comes first, for its owner alone, and replaced as a whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gatekeeper.config.key_folder import NAME, FolderUnwritable, KeyFolder, TooSoon
from gatekeeper.core.assertion_keys import MIN_ROTATION_MS, KeyRing
from gatekeeper.core.errors import KeysUnusable
from tests.core.records import NOW_MS

LATER_MS = NOW_MS + MIN_ROTATION_MS


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    return KeyFolder(tmp_path / "deep" / "keys")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def kids(ring: KeyRing | None) -> list[str]:
    return [] if ring is None else [key.kid for _, key in ring.states()]


def test_nothing_is_there_before_it_is_asked_for(folder: KeyFolder) -> None:
    assert folder.read() is None
    assert folder.mark() is None
    assert not folder.path.exists()


def test_keys_are_made_once(folder: KeyFolder) -> None:
    ring = folder.open("ES256", NOW_MS)
    assert (ring.current.algorithm, ring.current.created_ms) == ("ES256", NOW_MS)
    assert kids(folder.open("EdDSA", LATER_MS)) == kids(ring) == kids(folder.read())


def test_folder_and_files_are_their_owners_alone(folder: KeyFolder) -> None:
    before = os.umask(0)
    try:
        folder.open("ES256", NOW_MS)
        folder.rotate("ES256", LATER_MS)
    finally:
        os.umask(before)
    assert mode(folder.path) == 0o700
    assert {path.name: mode(path) for path in folder.path.iterdir()} == {NAME: 0o600, "lock": 0o600}


def test_processes_that_start_at_once_make_one_set(folder: KeyFolder) -> None:
    code = (
        "import sys; from gatekeeper.config.key_folder import KeyFolder; sys.stdin.read();"
        "print(KeyFolder(sys.argv[1]).open('ES256', 1).current.kid)"
    )
    command = [sys.executable, "-c", code, str(folder.path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    for process in started:
        process.stdin.close()
    said = {process.stdout.read() for process in started}
    for process in started:
        process.stdout.close()
        assert process.wait() == 0
    ring = folder.read()
    assert ring is not None
    assert said == {ring.current.kid + "\n"}


def test_rotation(folder: KeyFolder) -> None:
    first = folder.open("ES256", NOW_MS)
    before = folder.mark()
    second = folder.rotate("ES256", LATER_MS)
    assert second.current.kid == first.next.kid
    assert kids(folder.read()) == kids(second)
    assert folder.mark() != before


def test_a_rotation_without_keys_makes_the_first(folder: KeyFolder) -> None:
    assert kids(folder.rotate("ES256", NOW_MS)) == kids(folder.read()) != []


@pytest.mark.parametrize(
    ("early_ms", "wait_s"), [(1, 1), (1000, 1), (1001, 2), (MIN_ROTATION_MS, MIN_ROTATION_MS // 1000)]
)
def test_a_rotation_too_soon_changes_nothing(folder: KeyFolder, early_ms: int, wait_s: int) -> None:
    ring = folder.open("ES256", NOW_MS)
    with pytest.raises(TooSoon, match=f"wait {wait_s} s") as raised:
        folder.rotate("ES256", LATER_MS - early_ms)
    assert raised.value.wait_s == wait_s
    assert kids(folder.read()) == kids(ring)


def test_it_can_be_forced(folder: KeyFolder) -> None:
    ring = folder.open("ES256", NOW_MS)
    assert folder.rotate("ES256", NOW_MS, force=True).current.kid == ring.next.kid


def test_what_somebody_left_half_written_is_no_hindrance(folder: KeyFolder) -> None:
    folder.open("ES256", NOW_MS)
    (folder.path / f".{NAME}.new").write_text("half")
    folder.rotate("ES256", LATER_MS)
    assert sorted(path.name for path in folder.path.iterdir()) == [NAME, "lock"]


@pytest.mark.parametrize("bits", [0o040, 0o004, 0o020, 0o002, 0o010, 0o001])
@pytest.mark.parametrize("which", ["folder", "file"])
def test_what_others_can_get_at_is_refused(folder: KeyFolder, which: str, bits: int) -> None:
    folder.open("ES256", NOW_MS)
    path = folder.path if which == "folder" else folder.path / NAME
    path.chmod(mode(path) | bits)
    with pytest.raises(KeysUnusable, match="others can get at it"):
        folder.read()
    with pytest.raises(KeysUnusable, match="others can get at it"):
        folder.rotate("ES256", LATER_MS)


def test_a_folder_that_is_mounted_read_only_may_be_anybody_s_to_enter(
    folder: KeyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the Secrets of Kubernetes are, for a gate that is root; the file is as it must be everywhere."""
    ring = folder.open("ES256", NOW_MS)
    folder.path.chmod(0o1777)
    found = os.statvfs(folder.path)
    fields = [*found[:8], found.f_flag | os.ST_RDONLY, *found[9:]]
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(fields))
    kept = folder.read()
    assert kept is not None
    assert kept.encode() == ring.encode()
    (folder.path / NAME).chmod(0o644)
    with pytest.raises(KeysUnusable, match="others can get at it"):
        folder.read()


def owned_by(monkeypatch: pytest.MonkeyPatch, uid: int, me: int) -> None:
    """Let files look as if this user had them, and we were another one."""
    stat, fstat = os.stat, os.fstat

    def disguised(found: os.stat_result) -> os.stat_result:
        fields = list(found)
        fields[4] = uid
        return os.stat_result(fields)

    monkeypatch.setattr(os, "geteuid", lambda: me)
    monkeypatch.setattr(os, "stat", lambda path, **more: disguised(stat(path, **more)))
    monkeypatch.setattr(os, "fstat", lambda number: disguised(fstat(number)))


@pytest.mark.parametrize(
    ("owner", "bits", "says"),
    [
        pytest.param(0, 0o440, None, id="mounted-for-a-group"),
        pytest.param(0, 0o444, "everybody can read it", id="mounted-for-everybody"),
        pytest.param(1234, 0o400, "belongs to another user", id="of-somebody-else"),
    ],
)
def test_what_root_has_mounted(
    folder: KeyFolder, monkeypatch: pytest.MonkeyPatch, owner: int, bits: int, says: str | None
) -> None:
    ring = folder.open("ES256", NOW_MS)
    (folder.path / NAME).chmod(bits)
    folder.path.chmod(0o755)
    owned_by(monkeypatch, owner, 65532)
    if says is None:
        assert kids(folder.read()) == kids(ring)
    else:
        with pytest.raises(KeysUnusable, match=says):
            folder.read()


def test_what_is_no_set_of_keys_is_named(folder: KeyFolder) -> None:
    folder.open("ES256", NOW_MS)
    (folder.path / NAME).write_text("{}")
    with pytest.raises(KeysUnusable, match=f"{NAME}: it is not what"):
        folder.open("ES256", NOW_MS)
    assert (folder.path / NAME).read_text() == "{}"


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    place = tmp_path / "keys"
    place.touch(mode=0o600)
    with pytest.raises(KeysUnusable, match="Not a directory"):
        KeyFolder(place).read()
    with pytest.raises(KeysUnusable, match="Not a directory"):
        KeyFolder(place).mark()
    with pytest.raises(FolderUnwritable, match="File exists"):
        KeyFolder(place).rotate("ES256", NOW_MS)


def test_where_nothing_can_be_written() -> None:
    folder = KeyFolder("/proc/gatekeeper-keys")  # nobody may make anything there
    with pytest.raises(FolderUnwritable, match="/proc/gatekeeper-keys: "):
        folder.open("ES256", NOW_MS)


def test_whether_keys_can_be_made(folder: KeyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder.can_be_made()
    folder.open("ES256", NOW_MS)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert folder.can_be_made()  # they are there
    assert not KeyFolder(tmp_path / "other").can_be_made()
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert not folder.can_be_made()


def test_a_disk_that_is_full_leaves_what_was_there(folder: KeyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = folder.open("ES256", NOW_MS)

    def fails(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(FolderUnwritable, match="No space left"):
        folder.rotate("ES256", LATER_MS)
    assert kids(folder.read()) == kids(ring)


def test_it_says_where_it_is(folder: KeyFolder) -> None:
    assert repr(folder) == f"<KeyFolder {folder.path}>"
