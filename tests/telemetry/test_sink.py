"""The sink: in order, bounded, through rotation and full disks, and never in the way."""

import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekeeper.telemetry.sink import LogFileError, Sink


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, int, int]]:
    """Both ends of a pipe that takes nothing more, and how many bytes are in it."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    size = 0
    try:
        while True:
            size += os.write(write_end, b"x" * 4096)
    except BlockingIOError:
        pass
    try:
        while True:
            size += os.write(write_end, b"x")
    except BlockingIOError:
        pass
    os.set_blocking(write_end, True)
    yield read_end, write_end, size
    os.close(read_end)
    os.close(write_end)


def test_lines_arrive_in_order(tmp_path: Path) -> None:
    sink = Sink(tmp_path / "log")
    for number in range(1000):
        sink.put(b"%d\n" % number)
    sink.close()
    assert (tmp_path / "log").read_bytes().split() == [b"%d" % number for number in range(1000)]
    assert (sink.dropped_lines, sink.failures) == (0, 0)


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    for text in (b"one\n", b"two\n"):
        sink = Sink(tmp_path / "log")
        sink.put(text)
        sink.close()
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


def test_a_file_that_was_moved_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    sink = Sink(path)
    path.rename(tmp_path / "log.1")
    sink.put(b"after\n")
    sink.close()
    assert (path.read_bytes(), (tmp_path / "log.1").read_bytes()) == (b"after\n", b"")


def test_a_file_that_was_replaced_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    sink = Sink(path)
    path.rename(tmp_path / "log.1")
    path.write_bytes(b"made by another\n")
    sink.put(b"after\n")
    sink.close()
    assert path.read_bytes() == b"made by another\nafter\n"


def test_where_no_new_file_can_be_made_the_old_one_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = Sink(folder / "log")
    folder.rename(tmp_path / "old")
    sink.put(b"after\n")
    sink.close()
    assert (tmp_path / "old" / "log").read_bytes() == b"after\n"
    assert (sink.dropped_lines, sink.failures) == (0, 1)


def test_a_full_disk_drops_lines_and_counts_them() -> None:
    sink = Sink(Path("/dev/full"))
    sink.put(b"a\nb\n", 2)
    sink.close()
    assert (sink.dropped_lines, sink.failures) == (2, 1)


def test_a_file_that_cannot_be_opened_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    message = f"cannot write the log to {tmp_path} (setting log.file): Is a directory"
    with pytest.raises(LogFileError, match=re.escape(message)):
        Sink(tmp_path)


def test_too_much_is_dropped_and_nobody_waits(full_pipe: tuple[int, int, int]) -> None:
    read_end, write_end, size = full_pipe
    sink = Sink(descriptor=write_end, limit_bytes=100, reserve_bytes=100)
    sink.put(b"a" * 59 + b"\n")
    sink.put(b"b" * 39 + b"\n")
    sink.put(b"c\n", 1)  # the writer stands before a full pipe: 100 bytes are waiting
    assert sink.dropped_lines == 1
    sink.put(b"d" * 99 + b"\n", urgent=True)  # the reserve takes it
    sink.put(b"e\n", urgent=True)
    assert sink.dropped_lines == 2
    received = b""
    while not received.endswith(b"d\n"):
        received += os.read(read_end, 65_536)
    sink.close()
    assert received[size:].split() == [b"a" * 59, b"b" * 39, b"d" * 99]
    sink.put(b"late\n")
    assert (sink.dropped_lines, sink.failures) == (3, 0)


def test_a_reader_that_is_away_does_not_keep_the_end_from_coming(full_pipe: tuple[int, int, int]) -> None:
    read_end, write_end, _ = full_pipe
    sink = Sink(descriptor=write_end)
    sink.put(b"a\n")
    assert not sink.flush(timeout_s=0)
    sink.close(timeout_s=0)
    os.read(read_end, 65_536)


def test_a_line_that_an_error_cut_off_is_ended_before_the_next(tmp_path: Path) -> None:
    sink = Sink(tmp_path / "log")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, before[1]))  # as where a disk is full after four bytes
    try:
        sink.put(b"cut off here\n")
        assert sink.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    sink.put(b"next\n")
    sink.close()
    assert (tmp_path / "log").read_bytes() == b"cut \nnext\n"
    assert (sink.dropped_lines, sink.failures) == (1, 1)


def test_without_a_file_standard_error_is_written_to(capfd: pytest.CaptureFixture[str]) -> None:
    sink = Sink()
    assert not sink.is_terminal
    sink.put(b"to standard error\n")
    sink.close()
    assert capfd.readouterr().err == "to standard error\n"


def test_a_terminal_is_known_for_one() -> None:
    master, slave = os.openpty()
    assert Sink(descriptor=slave).is_terminal
    os.close(slave)
    os.close(master)


WRITER = """
import sys
from gatekeeper.telemetry.sink import Sink
mark, descriptor, turns = sys.argv[1].encode(), int(sys.argv[2]), int(sys.argv[3])
sink = Sink(descriptor=descriptor, turns=turns if turns >= 0 else None)
print(flush=True)
sys.stdin.read()
for _ in range(200):
    sink.put(mark * 30_000 + b"\\n")
sink.close(60)
"""


def lines_of_two_writers(turns: int) -> list[bytes]:
    """What two processes write to one pipe that holds less than what they have, at the same time."""
    reading, writing = os.pipe()
    inherited, command = (writing, *([turns] if turns >= 0 else [])), [sys.executable, "-c", WRITER]
    writers = [
        subprocess.Popen(
            [*command, mark, str(writing), str(turns)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=inherited,
        )
        for mark in ("a", "b")
    ]
    os.close(writing)
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.read(1) == b"\n"  # it is there
        writer.stdout.close()
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()
    with open(reading, "rb") as pipe:
        lines = pipe.read().splitlines()
    assert [writer.wait(20) for writer in writers] == [0, 0]
    return lines


def test_processes_that_take_turns_write_whole_lines_to_a_pipe() -> None:
    turns = os.memfd_create("turns")
    lines = lines_of_two_writers(turns)
    os.close(turns)
    assert sorted(lines) == [b"a" * 30_000] * 200 + [b"b" * 30_000] * 200


def test_a_process_that_died_in_its_turn_holds_up_nobody() -> None:
    turns = os.memfd_create("turns")
    code = f"import fcntl, os\nfcntl.lockf({turns}, fcntl.LOCK_EX)\nos.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code], pass_fds=(turns,), check=False).returncode == -9
    lines = lines_of_two_writers(turns)
    os.close(turns)
    assert len(lines) == 400


def test_lines_that_more_will_follow_wait_for_a_push(tmp_path: Path) -> None:
    """The thread starts with the first line; after that, waking it for a few lines is not worth it."""
    path = tmp_path / "log"
    sink = Sink(path)
    sink.put(b"first\n")
    assert sink.flush(20)
    sink.put(b"second\n", more=True)
    sink.push()
    assert sink.flush(20)
    sink.put(b"third\n", more=True)
    sink.close(20)
    assert path.read_bytes() == b"first\nsecond\nthird\n"


def test_much_that_waits_is_written_without_a_push(tmp_path: Path) -> None:
    path = tmp_path / "log"
    sink = Sink(path)
    sink.put(b"first\n")
    assert sink.flush(20)
    line = b"x" * 1023 + b"\n"
    for _ in range(300):
        sink.put(line, more=True)
    with sink._changed:
        assert sink._changed.wait_for(lambda: sink._waiting_bytes <= 128 * 1024, 20)
    sink.close(20)
    assert path.stat().st_size == 6 + 300 * 1024
