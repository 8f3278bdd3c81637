"""Measurements of one proxy: load, latency, memory.  Each runs its load in a process of its own, on the load's core."""

import json
import subprocess
import sys
import time
from typing import Any

import msgspec

from bench import wrk
from bench.install import ROOT
from bench.probe import headers_of, probe
from bench.processes import pinned, stop
from bench.procfs import (
    connections_of_each,
    core_seconds,
    cpu_seconds,
    least_share,
    resident_bytes,
    resident_of_each,
)
from bench.results import Latency, Memory, Midway, Sample
from bench.session import VARIED_SESSIONS, cookie_of
from bench.stand import SESSIONS, Proxy, Stand
from bench.workloads import CONNECTIONS, WORKLOADS, Workload
from bench.wrk import LoadError

IDLE_CONNECTIONS = 1000
NEW_SESSIONS = 3000
"""Sessions that one window of mixed load may use up before it begins anew."""


class Window:
    """CPU that a process tree and its core use while the block runs."""

    def __init__(self, pid: int, core: int) -> None:
        self._pid, self._core = pid, core

    def __enter__(self) -> "Window":
        self._began = time.monotonic(), cpu_seconds(self._pid), core_seconds(self._core)
        return self

    def __exit__(self, *_: object) -> None:
        ended = time.monotonic(), cpu_seconds(self._pid), core_seconds(self._core)
        self.wall_s, self.cpu_s, self.core_s = (b - a for a, b in zip(self._began, ended, strict=True))

    def sample(self, answers: float, seconds: float) -> Sample:
        """The sample of so many answers, which came within so many seconds."""
        foreign = max(self.core_s - self.cpu_s, 0.0) / self.wall_s
        return Sample(self.cpu_s / answers * 1e6, answers / seconds, self.cpu_s / seconds, foreign)


def measure_load(stand: Stand, proxy: Proxy, workload: Workload, seconds: int, number: int) -> Sample:
    """Load the proxy for so many seconds; `number` counts the rounds.  Raises WrongAnswer and LoadError."""
    headers = headers_of(workload, proxy.cookie, json_denials=proxy.peer.json_denials)
    answer_bytes = probe(proxy.port, workload, headers)
    if workload.name == "websocket":
        return _measure_websocket(stand, proxy, workload, headers, seconds)
    sessions = _sessions_of(workload, number)
    if sessions:
        probe(proxy.port, workload, headers | {"Cookie": sessions[-1]})
    lua = proxy.folder / f"{workload.name}.lua"
    lua.write_text(wrk.script(workload, headers, sessions))
    seen: list[Midway] = []
    look = (lambda: seen.append(_look_at(proxy))) if workload.connections > CONNECTIONS else None
    with Window(proxy.pid, stand.proxy_core) as window:
        result = wrk.run(stand.tools.paths["wrk"], stand.load_core, proxy.port, workload, lua, seconds, look)
    sample = window.sample(wrk.answers_of(result, workload, answer_bytes), result.duration_us / 1e6)
    return msgspec.structs.replace(sample, midway=seen[0]) if seen else sample


def measure_latency(stand: Stand, proxy: Proxy, rate: float, seconds: int) -> Latency:
    """Latencies of verified GETs at this rate.  Raises WrongAnswer and LoadError."""
    workload = WORKLOADS["verified"]
    headers = headers_of(workload, proxy.cookie)
    probe(proxy.port, workload, headers)
    order = {"port": proxy.port, "path": workload.path, "headers": headers, "rate": rate, "seconds": seconds}
    return msgspec.convert(_ask(stand, "openloop", order, seconds + 60), Latency)


def measure_memory(stand: Stand, proxy: Proxy) -> Memory:
    """Memory at rest and with idle connections, each of which has had one answer.  Raises WrongAnswer and LoadError."""
    workload = WORKLOADS["verified"]
    headers = headers_of(workload, proxy.cookie)
    time.sleep(0.5)
    rest = resident_of_each(proxy.pid)
    for _ in range(50):
        probe(proxy.port, workload, headers)
    before = resident_bytes(proxy.pid)
    order = {"port": proxy.port, "path": workload.path, "headers": headers, "connections": IDLE_CONNECTIONS}
    process = _start(stand, "idle", order)
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise LoadError("not all idle connections could be opened")
        time.sleep(0.5)
        after = resident_bytes(proxy.pid)
    finally:
        stop(process)
    return Memory(sum(rest), (after - before) / IDLE_CONNECTIONS, IDLE_CONNECTIONS, max(rest))


def _sessions_of(workload: Workload, number: int) -> list[str]:
    """The Cookie headers that a load of this round takes beside the usual one."""
    if workload.varies:
        return [cookie_of(SESSIONS + n) for n in range(VARIED_SESSIONS)]
    first = 1 + number * NEW_SESSIONS % (SESSIONS - NEW_SESSIONS)
    return [cookie_of(first + n) for n in range(NEW_SESSIONS)] if workload.mixes else []


def _look_at(proxy: Proxy) -> Midway:
    counts = connections_of_each(proxy.pid, proxy.port)
    workers = proxy.peer.workers
    return Midway(resident_bytes(proxy.pid), least_share(counts, workers) if workers > 1 else None)


def _measure_websocket(stand: Stand, proxy: Proxy, workload: Workload, headers: dict[str, str], seconds: int) -> Sample:
    order = {"port": proxy.port, "headers": headers, "connections": CONNECTIONS, "seconds": seconds}
    with Window(proxy.pid, stand.proxy_core) as window:
        counted = _ask(stand, "websocket", order, seconds + 60)
    return window.sample(counted["messages"], counted["seconds"])


def _ask(stand: Stand, module: str, order: dict[str, Any], patience_s: float) -> Any:
    """The JSON answer of a load program.  Raises LoadError."""
    process = _start(stand, module, order)
    try:
        output, errors = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{module} did not end") from error
    finally:
        stop(process)
    if process.returncode != 0:
        last = errors.strip().splitlines()[-1:] or ["it said nothing"]
        raise LoadError(f"{module} failed: {last[0]}")
    return json.loads(output)


def _start(stand: Stand, module: str, order: dict[str, Any]) -> "subprocess.Popen[str]":
    command = pinned(stand.load_core, [sys.executable, "-m", f"bench.{module}", json.dumps(order)])
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)
