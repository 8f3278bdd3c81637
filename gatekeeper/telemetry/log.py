"""The log: one sink for access lines, audit lines and what the application's loggers say."""

import logging
import os
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from gatekeeper.telemetry.lines import Finished, Lines
from gatekeeper.telemetry.redaction import Redactor
from gatekeeper.telemetry.sink import Sink

Format = Literal["auto", "human", "json"]

LOGGERS = ("gatekeeper", "aiohttp", "asyncio")
"""The loggers that follow the configured level.  Others are heard from WARNING on: drivers log values at DEBUG."""


class Log:
    """Makes lines and hands them to a sink.  With `access` false, access lines are left out."""

    def __init__(self, sink: Sink, lines: Lines, *, access: bool = True) -> None:
        self.sink = sink
        self.access = access
        self._lines = lines

    def write_access(self, finished: list[Finished], *, more: bool = False) -> None:
        """Access lines for these requests.  With `more`, others follow soon, or `push`."""
        self.sink.put(self._lines.access(finished), len(finished), more=more)

    def push(self) -> None:
        """Have written what waits for more."""
        self.sink.push()

    def write_audit(self, event: str, fields: Mapping[str, Any]) -> None:
        """A line for a security event."""
        self.sink.put(self._lines.audit(time.time(), event, fields), urgent=True)

    def write_message(self, record: logging.LogRecord) -> None:
        """A line for what a logger says."""
        self.sink.put(self._lines.message(record), urgent=True)

    def safe(self, text: str) -> str:
        """The text redacted and escaped, as it may be shown to operators elsewhere."""
        return self._lines.safe(text)

    def close(self) -> None:
        """Write what is left, within a moment."""
        self.sink.close()


class LogHandler(logging.Handler):
    """Passes on what loggers say."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.write_message(record)


def open_log(
    *,
    format: Format,
    file: str | None,
    access: bool,
    secrets: Iterable[str],
    cookie_names: Iterable[str],
    turns: int | None = None,
) -> Log:
    """The log as configured.  `auto` is for people on a terminal, else JSON.  Raises LogFileError."""
    sink = Sink(None if file is None else Path(file), turns=turns)
    human = format == "human" or (format == "auto" and sink.is_terminal)
    colors = sink.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Log(sink, Lines(Redactor(secrets, cookie_names), human=human, colors=colors), access=access)


@contextmanager
def loggers_to(log: Log, level: str) -> Generator[None]:
    """Have everything that loggers say written to this log within the block, `LOGGERS` from `level` on."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, [logging.getLogger(name).level for name in LOGGERS]
    root.handlers[:] = [LogHandler(log)]
    wanted = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(wanted, logging.WARNING))
    for name in LOGGERS:
        logging.getLogger(name).setLevel(wanted)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        for name, number in zip(LOGGERS, before[2], strict=True):
            logging.getLogger(name).setLevel(number)
