"""Loggers to the log: which are heard from which level, in which format, and that all is put back at the end."""

import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.telemetry.log import Format, Log, loggers_to, open_log


def open_file_log(path: Path, format: Format = "json", secrets: tuple[str, ...] = ()) -> Log:
    return open_log(format=format, file=str(path), access=True, secrets=secrets, cookie_names=())


def heard(path: Path, level: str) -> list[dict[str, Any]]:
    """What each logger says at each level, as far as it is heard when the log's level is this."""
    log = open_file_log(path)
    with loggers_to(log, level):
        for name in ("gatekeeper", "gatekeeper.x", "aiohttp.server", "asyncio", "redis", "other"):
            for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
                logging.getLogger(name).log(number, "hello")
    log.close()
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("level", "ours", "others"), [("debug", 4, 2), ("info", 3, 2), ("warning", 2, 2), ("error", 1, 1)]
)
def test_levels(tmp_path: Path, level: str, ours: int, others: int) -> None:
    lines = heard(tmp_path / "log", level)
    counts = {name: [line["logger"] for line in lines].count(name) for name in {line["logger"] for line in lines}}
    assert counts == {
        **dict.fromkeys(("gatekeeper", "gatekeeper.x", "aiohttp.server", "asyncio"), ours),
        **dict.fromkeys(("redis", "other"), others),
    }


def test_warnings_and_exceptions_are_heard_without_secrets(tmp_path: Path) -> None:
    log = open_file_log(tmp_path / "log", secrets=("a-secret-value",))
    with loggers_to(log, "info"), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("look: a-secret-value", stacklevel=1)
        try:
            raise ValueError("a-secret-value")
        except ValueError:
            logging.getLogger("gatekeeper").exception("with %s", "a-secret-value")
    log.close()
    text = (tmp_path / "log").read_text()
    first, second = map(json.loads, text.splitlines())
    assert "look: [redacted]" in first["message"]
    assert (second["message"], second["trace"].splitlines()[-1]) == ("with [redacted]", "ValueError: [redacted]")
    assert "a-secret-value" not in text


def test_loggers_are_put_back(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("gatekeeper").level
    log = open_file_log(tmp_path / "log")
    with loggers_to(log, "debug"):
        assert logging.getLogger("gatekeeper").level == logging.DEBUG
    log.close()
    assert (root.handlers[:], root.level, logging.getLogger("gatekeeper").level) == before


@pytest.mark.parametrize(("format", "is_json"), [("json", True), ("auto", True), ("human", False)])
def test_a_file_gets_json_unless_told_otherwise(tmp_path: Path, format: Format, is_json: bool) -> None:
    log = open_file_log(tmp_path / "log", format)
    log.write_audit("started", {})
    log.close()
    text = (tmp_path / "log").read_text()
    assert text.startswith('{"kind":"audit"') == is_json
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("environment", "is_colored"), [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"NO_COLOR": "1"}, False)]
)
def test_a_terminal_gets_lines_for_people(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], is_colored: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    master, slave = os.openpty()
    monkeypatch.setattr("gatekeeper.telemetry.sink.STANDARD_ERROR", slave)
    log = open_log(format="auto", file=None, access=True, secrets=(), cookie_names=())
    log.write_audit("started", {"pid": 1})
    log.close()
    text = os.read(master, 1000).decode()
    os.close(slave)
    os.close(master)
    assert "started pid=1" in text
    assert ("\x1b[36mAUDIT" in text) == is_colored
