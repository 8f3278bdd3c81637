"""Runs the benchmark: sets up, measures in interleaved rounds, prints and writes the results."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from bench import machine, plot, tables
from bench.install import ROOT, install
from bench.measure import measure_latency, measure_load, measure_memory
from bench.probe import WrongAnswer
from bench.processes import StartError, allow_many_files, stay_on
from bench.proxies import PEERS, QUICK
from bench.publish import NotPublished, publish
from bench.results import PeerResult, Run, read_run, write_run
from bench.stand import Stand, open_stand, version_of
from bench.workloads import WORKLOADS
from bench.wrk import LoadError

RESULTS = ROOT / "bench" / "results"
LATENCY_SHARE = 0.25
"""The part of the time that is kept for the latencies."""

QUICK_WORKLOADS = ("verified", "varied", "redirect", "denied", "post", "down", "websocket", "paired")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the command line says; the exit status."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, _stop)
    allow_many_files()
    began = time.monotonic()
    try:
        run = read_run(options.source) if options.source else _bench(options, began)
    except StartError as error:
        say(f"the app behind the proxies does not start: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped; everything that was started is ended")
        return 130
    show(run)
    return _publish(run) if options.publish else 0


def show(run: Run) -> None:
    """Print the tables and the remarks."""
    for table in tables.all_tables(run):
        print(f"\n{tables.as_text(table)}")
    print()
    for line in tables.remarks(run):
        print(f"- {line}")
    print(f"\n{run.rounds} rounds, windows of {run.window_s} s, {run.took_s / 60:.1f} minutes", flush=True)


def say(text: str) -> None:
    print(text, flush=True)


def _bench(options: argparse.Namespace, began: float) -> Run:
    names = list(options.peers)
    programs = ["nginx", "wrk", *(PEERS[name].needs for name in names if PEERS[name].needs)]
    tools = install(list(dict.fromkeys(programs)), say)
    for name in ("nginx", "wrk"):
        if name in tools.missing:
            raise StartError(f"{name} is needed: {tools.missing[name]}")
    run = Run(machine.describe(), datetime.now(UTC).isoformat(timespec="seconds"), options.rounds, options.seconds)
    with open_stand(names, tools, say) as stand:
        stay_on(stand.load_core)
        run.missing = {PEERS[name].title: reason for name, reason in stand.failed.items()}
        for name, proxy in stand.proxies.items():
            peer = proxy.peer
            run.peers[name] = PeerResult(
                peer.title, peer.what, version_of(peer, tools), reasons=dict(peer.skips), remarks=list(proxy.remarks)
            )
        Bench(stand, run, options, began).measure()
    run.took_s = round(time.monotonic() - began, 1)
    write_run(RESULTS / "latest.json", run)
    (RESULTS / "latest.svg").write_text(plot.svg(plot.panels_of(run)))
    return run


def _publish(run: Run) -> int:
    try:
        written = publish(run, ROOT)
    except NotPublished as reason:
        say(f"not published: {reason}")
        return 1
    say(f"written: {', '.join(str(path.relative_to(ROOT)) for path in written)}")
    return 0


class Bench:
    """The measurements of one run, in their order."""

    def __init__(self, stand: Stand, run: Run, options: argparse.Namespace, began: float) -> None:
        self.stand = stand
        self.run = run
        self.options = options
        self.began = began

    def measure(self) -> None:
        """Memory while the proxies are fresh, then load, then latency, which needs the rate that the load found."""
        self._each("memory", self._memory)
        for workload in self.options.workloads:
            # A number that no round has: its sessions are not those that a round counts on being new.
            number = self.options.rounds
            self._each(workload, lambda name, w=workload, n=number: self._load(name, w, 1, n, keep=False))
        self.run.rounds = self._rounds(self._load_round, 1 - LATENCY_SHARE)
        saturated = self.run.peers["go"].per_s("verified") if "go" in self.run.peers else None
        if saturated:
            self._rounds(lambda number: self._latency_round(number, round(saturated / 2)), 1.0)

    def _rounds(self, measure: Callable[[int], None], share: float) -> int:
        """Measure in rounds, as many as are wanted and fit into this share of the time; how many there were."""
        deadline = self.began + self.options.minutes * 60 * share
        for number in range(self.options.rounds):
            began = time.monotonic()
            measure(number)
            now = time.monotonic()
            if number + 1 < self.options.rounds and now + (now - began) > deadline:
                say(f"no time for more than {number + 1} rounds")
                return number + 1
        return int(self.options.rounds)

    def _load_round(self, number: int) -> None:
        for workload in self.options.workloads:
            seconds = WORKLOADS[workload].seconds or self.options.seconds
            for turn in range(WORKLOADS[workload].turns):
                self._each(
                    workload,
                    lambda name, workload=workload, seconds=seconds: self._load(
                        name, workload, seconds, number, keep=True
                    ),
                    f"round {number + 1} of {self.options.rounds}: ",
                    backwards=(number + turn) % 2 == 1,
                )
        self.stand.empty_logs()

    def _latency_round(self, number: int, rate: int) -> None:
        prefix = f"round {number + 1} of {self.options.rounds}, {rate} per s: "
        self._each("latency", lambda name: self._latency(name, rate), prefix, backwards=number % 2 == 1)

    def _each(self, what: str, measure: Callable[[str], str], prefix: str = "", *, backwards: bool = False) -> None:
        """Measure all proxies once, one after another; a failure is noted and ends nothing.

        Every second round goes `backwards`, so that none is always the first after another kind of load.  What a proxy
        does not do is not asked again; where only the load failed, the next round tries anew.
        """
        for name, peer in reversed(self.run.peers.items()) if backwards else self.run.peers.items():
            if what in peer.reasons or not PEERS[name].is_asked(what):
                continue
            try:
                found = measure(name)
            except WrongAnswer as error:
                found = peer.reasons[what] = str(error)
            except (LoadError, OSError) as error:
                found = f"{what} failed once: {error}"
                peer.remarks.append(f"{prefix}{found}")
            say(f"{time.monotonic() - self.began:6.0f} s  {prefix}{what}, {peer.title}: {found}")

    def _load(self, name: str, workload: str, seconds: int, number: int, *, keep: bool) -> str:
        sample = measure_load(self.stand, self.stand.proxies[name], WORKLOADS[workload], seconds, number)
        if keep:
            self.run.peers[name].samples.setdefault(workload, []).append(sample)
        text = f"{sample.cpu_us:.1f} µs, {sample.per_s:.0f} per s"
        return text if keep else f"{text} (to warm up)"

    def _latency(self, name: str, rate: float) -> str:
        latency = measure_latency(self.stand, self.stand.proxies[name], rate, self.options.seconds + 2)
        self.run.peers[name].latency.append(latency)
        return f"p50 {latency.p50:.2f} ms, p99 {latency.p99:.2f} ms"

    def _memory(self, name: str) -> str:
        memory = measure_memory(self.stand, self.stand.proxies[name])
        self.run.peers[name].memory.append(memory)
        return f"{memory.rest / 2**20:.1f} MB at rest, {memory.per_connection / 1024:.1f} KB per idle connection"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    options = _parser().parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.peers = options.peers or (list(QUICK) if options.quick else list(PEERS))
    options.workloads = options.workloads or (list(QUICK_WORKLOADS) if options.quick else list(WORKLOADS))
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the gate beside its peers.")
    parser.add_argument("--quick", action="store_true", help="two minutes: gatekeeper, nginx and Go, one round")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 5, quick 1)")
    parser.add_argument("--seconds", type=int, default=2, help="length of each window of load (default 2)")
    parser.add_argument("--peers", type=_list_of(PEERS), help=f"some of {','.join(PEERS)}")
    parser.add_argument("--workloads", type=_list_of(WORKLOADS), help=f"some of {','.join(WORKLOADS)}")
    parser.add_argument("--minutes", type=float, default=25, help="fewer rounds rather than longer (default 25)")
    parser.add_argument("--publish", action="store_true", help="write the results into the documentation")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="show an earlier run's JSON file")
    return parser


def _list_of(known: dict[str, object]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        unknown = [name for name in text.split(",") if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
        return text.split(",")

    return names


def _stop(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
