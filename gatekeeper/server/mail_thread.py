"""One thread for work that waits for a network without the event loop: an executor that holds up nobody's end.

The pools of `concurrent.futures` are waited for when the process ends; a mail server that hangs must not do that.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import ParamSpec, TypeVar

_ResultT = TypeVar("_ResultT")
_Parameters = ParamSpec("_Parameters")

_Work = Callable[[], None]


class MailThread(Executor):
    """Does one piece of work after the other, in the order in which they came.  The thread begins with the first."""

    def __init__(self, name: str) -> None:
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._is_started = False

    def submit(
        self, fn: Callable[_Parameters, _ResultT], /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> Future[_ResultT]:
        future: Future[_ResultT] = Future()
        self._queue.put(partial(_work, future, partial(fn, *args, **kwargs)))
        if not self._is_started:
            self._is_started = True
            self._thread.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the thread after what was submitted.  `cancel_futures` is not looked at: who submitted cancels."""
        self._queue.put(None)
        if wait and self._is_started:
            self._thread.join()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()


def _work(future: Future[_ResultT], call: Callable[[], _ResultT]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except Exception as error:  # whoever waits for the result is told
        future.set_exception(error)
    else:
        future.set_result(result)
