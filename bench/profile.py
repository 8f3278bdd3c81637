"""Where the time of one request goes, under real load.  `python -m bench.profile`.

Three windows of load follow each other: one undisturbed; one in which `perf` looks in which library or system call the
gate is; one in which the gate looks itself in which Python function it is (`bench.sampler`).  Shares become
microseconds by the CPU per request of the same window.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench import machine
from bench.install import ROOT, Tools, install
from bench.measure import measure_load
from bench.places import Places
from bench.processes import StartError, allow_many_files, pinned, stay_on
from bench.procfs import processes_of
from bench.proxies import PEERS, Launch
from bench.publish import DISTURBED, write_between
from bench.results import Sample
from bench.sampler import TOGGLE, Sampled
from bench.stand import Proxy, Stand, open_stand
from bench.tables import Row, as_markdown, as_text
from bench.workloads import WORKLOADS, Workload
from bench.wrk import LoadError

PAGE = ROOT / "docs" / "performance.md"
MARK = "profile"
SAMPLES = "samples.json"
FUNCTIONS = 30
CALLS = 10
HERTZ = 997
WARM_UP_S = 2
PATIENCE_S = 10.0

KERNEL, OTHERS, LOOP = "kernel", "others", "event loop"

LIBRARIES = (
    (re.compile(r"/(lib)?python3[^/]*$"), "the interpreter"),
    (re.compile(r"/uvloop/"), "uvloop"),
    (re.compile(r"/_http_parser[^/]*$"), "aiohttp's parser"),
    (re.compile(r"/(aiohttp|multidict|yarl|frozenlist|propcache)/"), "aiohttp's other C code"),
    (re.compile(r"/_asyncio[^/]*$"), "asyncio's C code"),
    (re.compile(r"/msgspec/"), "msgspec"),
    (re.compile(r"/lib(c|pthread|m)[.-]"), "the C library"),
    (re.compile(r"/(libcrypto|_hashlib|_blake2|_sha)[^/]*$"), "hashes"),
    (re.compile(r"^\[(vdso|vsyscall)\]$"), "the clock"),
)
"""What a part of the process is called, by the path of its file."""

_ENTRIES = frozenset({"do_syscall_64", "invoke_syscall", "el0_svc_common.constprop.0"})
_CALL_PREFIX = re.compile(r"^(__x64_sys_|__arm64_sys_|__do_sys_|__se_sys_|__sys_|ksys_|do_)")
_ELSEWHERE = {"asm_exc_page_fault": "page faults", "asm_sysvec_": "interrupts", "asm_common_interrupt": "interrupts"}
_FRAME = re.compile(r"^\s+([0-9a-f]+) (.*) \((.*)\)$")


class ProfileError(Exception):
    """A profile could not be taken; the message says why."""


class Profile(msgspec.Struct, frozen=True):
    """Samples by what they were found in, and the CPU per request in microseconds of their window."""

    cpu_us: float
    samples: dict[str, int]

    def rows(self, most: int | None = None) -> list[Row]:
        """Name, microseconds per request and share, the largest first; what is beyond `most` is put together."""
        total = sum(self.samples.values())
        ordered = sorted(self.samples.items(), key=lambda item: (-item[1], item[0]))
        shown, rest = ordered[:most], ordered[most:] if most else []
        if rest:
            shown.append((f"{len(rest)} more", sum(count for _, count in rest)))
        shown.append(("all", total))
        return [[name, f"{self.cpu_us * count / total:.1f}", f"{count / total:.1%}"] for name, count in shown]


class Native(msgspec.Struct, frozen=True):
    """What perf saw: libraries and the kernel, and within the kernel, what it was asked for."""

    places: Profile
    calls: Profile


def place_of(file: str) -> str:
    """What a library is called."""
    if file.startswith("[kernel"):
        return KERNEL
    return next((name for pattern, name in LIBRARIES if pattern.search(file)), OTHERS)


def call_of(symbols: Sequence[str]) -> str:
    """What the kernel was asked for, from the symbols of one sample, the innermost first."""
    for inner, symbol in zip(("", *symbols), symbols, strict=False):
        if symbol in _ENTRIES:
            return _CALL_PREFIX.sub("", inner) or OTHERS
        for start, name in _ELSEWHERE.items():
            if symbol.startswith(start):
                return name
    return OTHERS


def parse_perf(text: str) -> tuple[Counter[str], Counter[str]]:
    """Samples by place, and those of the kernel by system call, from what `perf script -F ip,sym,dso` prints."""
    places: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for block in text.split("\n\n"):
        frames = [found for line in block.splitlines() if (found := _FRAME.match(line))]
        if frames:
            place = place_of(frames[0][3])
            places[place] += 1
            if place == KERNEL:
                calls[call_of([frame[2] for frame in frames])] += 1
    return places, calls


def module_of(file: str) -> str:
    """The module of a Python file: one of the gate's by its name, any other by that of its package."""
    parts = Path(file).with_suffix("").parts
    if "gatekeeper" in parts:
        start = len(parts) - 1 - parts[::-1].index("gatekeeper")
        return ".".join(parts[start + 1 :]) or "gatekeeper"
    if is_loop(file):
        return LOOP
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1]
    return "standard library"


def is_loop(file: str) -> bool:
    """Whether this file only starts the event loop, so that its time is the loop's own."""
    return file.endswith(("/asyncio/runners.py", "/uvloop/__init__.py"))


def by_module(sampled: Sequence[Sampled]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for each in sampled:
        counts[module_of(each.file)] += each.samples
    return dict(counts)


def by_function(sampled: Sequence[Sampled]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for each in sampled:
        module = module_of(each.file)
        counts[LOOP if module == LOOP else f"`{module}: {each.function}`"] += each.samples
    return dict(counts)


class Findings(msgspec.Struct, frozen=True):
    """Everything that one run found; `native` is the reason why it is missing, where it is."""

    what: str
    conditions: str
    undisturbed: Sample
    native: Native | str
    modules: Profile
    functions: Profile

    def tables(self) -> list[list[Row]]:
        units = ["µs per request", "share"]
        tables: list[list[Row]] = []
        if isinstance(self.native, Native):
            tables.append([["native code", *units], *self.native.places.rows()])
            tables.append([["the kernel, by what it was asked for", *units], *self.native.calls.rows(CALLS)])
        tables.append([["Python, by module", *units], *self.modules.rows(FUNCTIONS)])
        tables.append([["Python, by function", *units], *self.functions.rows(FUNCTIONS)])
        return tables

    def remarks(self) -> list[str]:
        lines = [f"{self.what}: {self.undisturbed.cpu_us:.1f} µs of CPU per request while nobody looked"]
        lines += [self.conditions, f"others used {self.undisturbed.foreign:.1%} of the gate's core"]
        return lines if isinstance(self.native, Native) else [*lines, f"native code: not measured, {self.native}"]

    def page(self) -> str:
        """All of it, in Markdown."""
        return "\n".join([*(f"- {line}" for line in self.remarks()), "", *map(as_markdown, self.tables())])


def main(arguments: Sequence[str] | None = None) -> int:
    """Take the profiles as the command line says; the exit status."""
    options = _parser().parse_args(arguments)
    allow_many_files()
    try:
        found = _find(options.workload, options.seconds)
    except (StartError, LoadError, ProfileError, OSError) as error:
        _say(f"no profile: {error}")
        return 1
    for table in found.tables():
        _say(f"{as_text(table)}\n")
    _say("\n".join(f"- {line}" for line in found.remarks()))
    return _publish(found) if options.publish else 0


def _publish(found: Findings) -> int:
    if found.undisturbed.foreign > DISTURBED:
        _say(f"not published: others used {found.undisturbed.foreign:.0%} of the gate's core, and the figures are off")
        return 1
    write_between(PAGE, MARK, found.page())
    _say(f"written: {PAGE.relative_to(ROOT)}")
    return 0


def _find(workload: str, seconds: int) -> Findings:
    """Start what is needed, and take every profile.  Raises StartError, LoadError and ProfileError."""
    tools = install(["nginx", "wrk", "perf"], _say)
    for name in ("nginx", "wrk"):
        if name in tools.missing:
            raise StartError(f"{name} is needed: {tools.missing[name]}")
    gate = msgspec.structs.replace(PEERS["gate"], launch=_launch)
    with open_stand(["gate"], tools, _say, {"gate": gate}) as stand:
        if "gate" not in stand.proxies:
            raise StartError(stand.failed["gate"])
        stay_on(stand.load_core)
        return _take(stand, stand.proxies["gate"], WORKLOADS[workload], seconds)


def _take(stand: Stand, proxy: Proxy, workload: Workload, seconds: int) -> Findings:
    def load(window_s: int = seconds) -> Sample:
        sample = measure_load(stand, proxy, workload, window_s, 0)
        _say(f"{workload.title}: {sample.cpu_us:.1f} µs, {sample.per_s:.0f} per s")
        return sample

    load(WARM_UP_S)
    undisturbed = load()
    native = _native(stand, proxy, load)
    sampled, cpu_us = _sampled(proxy, load)
    about = ", ".join(f"{name} {value}" for name, value in machine.describe().items())
    conditions = f"{datetime.now(UTC):%Y-%m-%d}, windows of {seconds} s; {about}"
    modules, functions = Profile(cpu_us, by_module(sampled)), Profile(cpu_us, by_function(sampled))
    return Findings(workload.title, conditions, undisturbed, native, modules, functions)


def _launch(tools: Tools, places: Places) -> Launch:
    """The gate as the benchmark starts it, with the sampler in it."""
    launch = PEERS["gate"].launch(tools, places)
    at = launch.command.index("gatekeeper")
    launch.command[at : at + 1] = ["bench.sampler", str(places.folder / SAMPLES)]
    return launch


def _native(stand: Stand, proxy: Proxy, load: Callable[[], Sample]) -> Native | str:
    """What perf sees while `load` runs, or why it sees nothing."""
    if "perf" not in stand.tools.paths:
        return stand.tools.missing["perf"]
    perf, data = stand.tools.paths["perf"], proxy.folder / "perf.data"
    try:
        with _recording(stand, proxy, perf, data):
            cpu_us = load().cpu_us
    except ProfileError as error:
        return str(error)
    script = [perf, "script", "-i", str(data), "-F", "ip,sym,dso"]
    done = subprocess.run(script, capture_output=True, text=True, errors="replace", timeout=120, check=False)
    places, calls = parse_perf(done.stdout)
    if not places:
        return "perf recorded nothing"
    kernel_us = cpu_us * places[KERNEL] / places.total()
    return Native(Profile(cpu_us, dict(places)), Profile(kernel_us, dict(calls)))


@contextmanager
def _recording(stand: Stand, proxy: Proxy, perf: str, data: Path) -> Iterator[None]:
    """perf, while the block runs.  Raises ProfileError where it may not look."""
    pids = ",".join(map(str, processes_of(proxy.pid)))
    command = [perf, "record", "-q", "-e", "cpu-clock", "-F", str(HERTZ), "-g", "-p", pids, "-o", str(data)]
    process = subprocess.Popen(
        pinned(stand.load_core, command), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        time.sleep(1)
        if process.poll() is not None:
            said = process.communicate()[1].decode(errors="replace").split("\n")[0]
            raise ProfileError(f"perf may not look here: {said}")
        yield
    finally:
        if process.poll() is None:
            process.terminate()  # it writes what it has, and ends
            process.communicate(timeout=60)


def _sampled(proxy: Proxy, load: Callable[[], Sample]) -> tuple[list[Sampled], float]:
    """What the gate itself sees while `load` runs, and the CPU per request.  Raises ProfileError."""
    output = proxy.folder / SAMPLES
    os.kill(proxy.pid, TOGGLE)
    try:
        cpu_us = load().cpu_us
    finally:
        os.kill(proxy.pid, TOGGLE)
    deadline = time.monotonic() + PATIENCE_S
    while not output.exists():
        if time.monotonic() > deadline:
            raise ProfileError("the gate wrote no samples")
        time.sleep(0.05)
    return msgspec.json.decode(output.read_bytes(), type=list[Sampled]), cpu_us


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description="Where the time of a request goes.")
    known = [name for name, workload in WORKLOADS.items() if name != "websocket"]
    parser.add_argument("--workload", choices=known, default="verified", help="what is asked (default verified)")
    parser.add_argument("--seconds", type=int, default=10, help="length of each window of load (default 10)")
    parser.add_argument("--publish", action="store_true", help="write the tables into the documentation")
    return parser


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
