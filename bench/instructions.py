"""How many machine instructions a request takes, which no busy neighbour changes.  `python -m bench.instructions`.

Callgrind counts what the interpreter and its libraries execute, not what the kernel does for them, while the gate's own
objects answer requests without sockets (`bench.rig`).  A case runs in two sections, and the figure is the difference
of both by the difference of their requests, so that what every section has once drops out.

Figures hold for one build of the interpreter and one version of each library: `bench/instructions.json` has a record
for each that was measured.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from bench.install import ROOT, SLOW_S, Tools, install
from bench.publish import write_between
from bench.rig import FEW, MANY
from bench.tables import NOTHING, Row, as_markdown, as_text
from bench.workloads import WORKLOADS

STORE = ROOT / "bench" / "instructions.json"
PAGE = ROOT / "docs" / "performance.md"
MARK = "instructions"
TOLERANCE = 0.05
"""How many more instructions than stored are still taken for the same."""

CASES = {name: WORKLOADS[name].title for name in ("verified", "varied", "redirect", "denied", "post")}
"""The cases of the rig in its order, as tables call them."""

_TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)


class CountError(Exception):
    """The instructions could not be counted; the message says why."""


class Record(msgspec.Struct, frozen=True):
    """Instructions per request by case, and what they hold for: the interpreter and the libraries."""

    environment: dict[str, str]
    instructions: dict[str, int]


def per_request(sections: Sequence[int], few: int = FEW, many: int = MANY) -> dict[str, int]:
    """Instructions per request of each case, from those of all sections in order.  Raises CountError."""
    if len(sections) != 2 * len(CASES):
        raise CountError(f"{len(sections)} sections were counted instead of {2 * len(CASES)}")
    pairs = zip(sections[::2], sections[1::2], strict=True)
    return {name: round((long - short) / (many - few)) for name, (short, long) in zip(CASES, pairs, strict=True)}


def stored_for(records: Sequence[Record], environment: Mapping[str, str]) -> Record | None:
    """The record of this very environment, or None."""
    return next((record for record in records if record.environment == environment), None)


def with_record(records: Sequence[Record], new: Record) -> list[Record]:
    """These records and the new one, which takes the place of an older one of its environment; in a fixed order."""
    others = [record for record in records if record.environment != new.environment]
    return sorted([*others, new], key=lambda record: sorted(record.environment.items()))


def regressions(before: Record, after: Record) -> list[str]:
    """A line for each case that takes more than it may."""
    lines: list[str] = []
    for name, count in after.instructions.items():
        old = before.instructions.get(name)
        if old is not None and count > old * (1 + TOLERANCE):
            lines.append(f"{CASES[name]}: {count:,} instructions, {count / old - 1:.1%} more than the stored {old:,}")
    return lines


def comparison(after: Record, before: Record | None) -> list[Row]:
    """Each case, what it takes, what is stored, and by how much they differ."""
    rows = [["instructions per request", "now", "stored", "change"]]
    for name, count in after.instructions.items():
        old = before.instructions.get(name) if before else None
        change = NOTHING if old is None else f"{count / old - 1:+.1%}"
        rows.append([CASES[name], f"{count:,}", NOTHING if old is None else f"{old:,}", change])
    return rows


def page_of(records: Sequence[Record]) -> str:
    """What the documentation shows: a column for each interpreter."""
    rows = [["instructions per request", *(_short(record.environment) for record in records)]]
    for name, title in CASES.items():
        counts = [record.instructions.get(name) for record in records]
        rows.append([title, *(NOTHING if count is None else f"{count:,}" for count in counts)])
    return as_markdown(rows)


def read_records(path: Path = STORE) -> list[Record]:
    return msgspec.json.decode(path.read_bytes(), type=list[Record]) if path.exists() else []


def write_records(records: Sequence[Record], path: Path = STORE) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(records), indent=2) + b"\n")


def count(python: str, tools: Tools) -> Record:
    """Count with this interpreter, which has what the gate needs.  Takes a minute or two.  Raises CountError."""
    if "valgrind" not in tools.paths:
        raise CountError(f"valgrind is needed: {tools.missing['valgrind']}")
    with tempfile.TemporaryDirectory(prefix="gatekeeper-count-") as name:
        output, rig = Path(name) / "output", Path(name) / "rig"
        output.mkdir()
        rig.mkdir()
        # Without fair scheduling, the thread that reads sessions waits for longer than the store has time.
        command = [tools.paths["valgrind"], "-q", "--tool=callgrind", "--fair-sched=yes", "--dump-before=getppid"]
        command += [f"--callgrind-out-file={output}/out", python, "-m", "bench.rig", str(rig)]
        environ = {**os.environ, "PYTHONHASHSEED": "0"}
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=SLOW_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CountError(f"valgrind failed: {type(error).__name__}") from error
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise CountError(f"the gate failed under valgrind: {last[0]}")
        environment = msgspec.json.decode(done.stdout, type=dict[str, str])
        return Record(environment, per_request(_sections(output)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Count as the command line says; the exit status."""
    options = _parser().parse_args(arguments)
    tools = install(["valgrind"], _say)
    status = 0
    for python in options.python or [sys.executable]:
        records = read_records()
        try:
            after = count(python, tools)
        except CountError as error:
            _say(f"not counted: {error}")
            return 1
        before = stored_for(records, after.environment)
        _say(f"Python {after.environment['python']}\n\n{as_text(comparison(after, before))}\n")
        if options.record:
            write_records(with_record(records, after))
            write_between(PAGE, MARK, page_of(read_records()))
            _say(f"written: {STORE.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}")
        elif before is None:
            _say("no figure is stored for this interpreter and these libraries: there is nothing to compare with")
        elif lines := regressions(before, after) if options.check else []:
            _say("\n".join(lines))
            status = 1
    return status


def _sections(folder: Path) -> list[int]:
    """The instructions between two marks, in order.  Before the first is the start, behind the last the end."""
    dumps = sorted(folder.glob("out.*"), key=lambda path: int(path.suffix[1:]))
    totals = [_TOTALS.search(path.read_text()) for path in dumps[1:]]
    return [int(found[1]) for found in totals if found]


def _short(environment: Mapping[str, str]) -> str:
    """The interpreter's version and build, as a heading."""
    parts = re.match(r"(\S+) \([^,]*, (\w+ +\d+ \d+)", environment["python"])
    return f"Python {parts[1]}, built {parts[2]}" if parts else environment["python"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description="Count instructions per request.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="fail where it is 5%% more than is stored")
    what.add_argument("--record", action="store_true", help="store the figures, and write them into the documentation")
    parser.add_argument("--python", action="append", metavar="PATH", help="an interpreter to count with (repeatable)")
    return parser


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
