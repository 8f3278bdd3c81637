"""`server.mail_thread`: an executor of one thread, which does things in order and ends when told."""

import threading
from concurrent.futures import CancelledError

import pytest

from gatekeeper.server.mail_thread import MailThread


def test_one_thread_does_all_in_order() -> None:
    executor = MailThread("a name")
    done: list[tuple[int, int]] = []

    def work(number: int, *, factor: int) -> int:
        done.append((number, threading.get_ident()))
        return number * factor

    futures = [executor.submit(work, number, factor=2) for number in range(5)]
    assert [future.result() for future in futures] == [0, 2, 4, 6, 8]
    assert [number for number, _ in done] == [0, 1, 2, 3, 4]
    assert len({thread for _, thread in done}) == 1
    assert done[0][1] != threading.get_ident()
    executor.shutdown()


def test_whoever_waits_is_told_of_a_fault_and_the_next_is_served() -> None:
    executor = MailThread("a name")
    fault, fine = executor.submit(lambda: 1 / 0), executor.submit(lambda: 1)
    with pytest.raises(ZeroDivisionError):
        fault.result()
    assert fine.result() == 1
    executor.shutdown()


def test_what_was_cancelled_is_not_done() -> None:
    executor = MailThread("a name")
    begun, go = threading.Event(), threading.Event()
    done: list[str] = []

    def wait() -> None:
        begun.set()
        go.wait()

    executor.submit(wait)
    begun.wait()
    cancelled = executor.submit(done.append, "cancelled")
    last = executor.submit(done.append, "last")
    assert cancelled.cancel()
    go.set()
    last.result()
    assert done == ["last"]
    with pytest.raises(CancelledError):
        cancelled.result()
    executor.shutdown()


def test_shutting_down_waits_only_if_it_is_to() -> None:
    executor = MailThread("a name")
    go = threading.Event()
    future = executor.submit(go.wait)
    executor.shutdown(wait=False)
    assert not future.done()
    go.set()
    executor.shutdown()
    assert future.done()


def test_a_thread_that_was_never_needed() -> None:
    executor = MailThread("never seen")
    executor.shutdown()
    assert "never seen" not in {thread.name for thread in threading.enumerate()}


def test_it_does_not_keep_the_process() -> None:
    executor = MailThread("of a test")
    executor.submit(int).result()
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "of a test")
    assert thread.daemon
    executor.shutdown()
    assert not thread.is_alive()
