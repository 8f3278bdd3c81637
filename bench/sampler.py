"""The gate with a sampling profiler of Python inside.  `python -m bench.sampler OUTPUT run -c CONFIG`.

It serves as always.  On `TOGGLE` it begins to take note of what runs whenever another few milliseconds of CPU were
used; on the next it stops and writes OUTPUT, JSON.  Python handles signals between its own instructions, so what C code
does counts for the Python function that called it.
"""

import dis
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

import msgspec

from gatekeeper.cli import main as gatekeeper

TOGGLE = signal.SIGRTMIN
INTERVAL_S = 0.002
"""The kernel rounds this up to its own tick, often 4 ms."""

_RESUME = dis.opmap["RESUME"]


class Sampled(msgspec.Struct, frozen=True):
    """One function, and how many samples found it running itself."""

    file: str
    function: str
    samples: int


class Sampler:
    """Counts which function is running."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._counts: Counter[CodeType] = Counter()
        self._starts: dict[CodeType, frozenset[int]] = {}
        self._is_on = False

    def toggle(self, _number: int, _frame: FrameType | None) -> None:
        self._is_on = not self._is_on
        interval = INTERVAL_S if self._is_on else 0
        signal.setitimer(signal.ITIMER_PROF, interval, interval)
        if not self._is_on:
            unfinished = self._output.with_suffix(".part")
            unfinished.write_bytes(msgspec.json.encode(self.results()))
            os.replace(unfinished, self._output)
            self._counts.clear()

    def sample(self, _number: int, frame: FrameType | None) -> None:
        if frame is not None:
            self._counts[self.running_in(frame)] += 1

    def running_in(self, frame: FrameType) -> CodeType:
        """The function that the time until now belongs to.

        Python looks for signals when a function begins: what was used until then was its caller's, who may be the
        event loop.
        """
        code = frame.f_code
        starts = self._starts.get(code)
        if starts is None:
            starts = frozenset(at for at, op in enumerate(code.co_code[::2]) if op == _RESUME)
            self._starts[code] = starts
        if frame.f_back is not None and frame.f_lasti // 2 in starts:
            return frame.f_back.f_code
        return code

    def results(self) -> list[Sampled]:
        """What was counted, the most frequent first."""
        return [Sampled(code.co_filename, code.co_qualname, count) for code, count in self._counts.most_common()]


def main() -> None:
    sampler = Sampler(Path(sys.argv[1]))
    signal.signal(signal.SIGPROF, sampler.sample)
    signal.signal(TOGGLE, sampler.toggle)
    gatekeeper(sys.argv[2:], prog_name="gatekeeper")


if __name__ == "__main__":
    main()
