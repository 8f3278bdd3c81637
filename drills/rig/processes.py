"""The processes of gates, one by one: connections of which it is known who serves them, and what gates have counted."""

import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path

from rig.client import Answer, Client, Lost, ask_once, request
from rig.gate import RunningGate

_TRIES = 20
_SAMPLE = re.compile(r"^(\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


class Process:
    """A worker of a gate, asked over so many kept connections at once, no more."""

    def __init__(self, gate: RunningGate, pid: int, clients: Sequence[Client]) -> None:
        self.gate = gate
        self.pid = pid
        self._free: asyncio.Queue[Client] = asyncio.Queue()
        for client in clients:
            self._free.put_nowait(client)

    async def ask(self, raw: bytes) -> Answer:
        """This worker's answer.  Raises Lost; after that the connection is not used again."""
        client = await self._free.get()
        answer = await client.ask(raw)
        if not client.is_open:
            raise Lost("the gate closed a kept connection")
        self._free.put_nowait(client)
        return answer

    def close(self) -> None:
        while not self._free.empty():
            self._free.get_nowait().close()


async def open_processes(gate: RunningGate, workers: int, connections: int) -> list[Process]:
    """The workers of this gate, each with so many connections of its own."""
    while len(workers_of(gate.pid)) < workers:  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(0.05)
    pids = list(workers_of(gate.pid).values())
    found: dict[int, list[Client]] = {pid: [] for pid in pids}
    for _ in range(_TRIES):
        some = [await Client.connect(gate.port) for _ in range(workers * connections)]
        await asyncio.gather(*(client.ask(request("GET", "/")) for client in some))
        ports = {pid: clients_of(pid, gate.port) for pid in pids}
        for client in some:
            port = client.transport.get_extra_info("sockname")[1]
            mine = next(found[pid] for pid in pids if port in ports[pid])
            if len(mine) < connections:
                mine.append(client)
            else:
                client.close()
        if all(len(clients) == connections for clients in found.values()):
            return [Process(gate, pid, clients) for pid, clients in found.items()]
    raise RuntimeError("some workers of the gate take no connections")


def workers_of(supervisor: int) -> dict[int, int]:
    """The pids of the workers, by their numbers, as their command lines tell."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    lines = ((int(pid), Path(f"/proc/{pid}/cmdline").read_bytes()) for pid in children)
    return {int(line.rpartition(b"worker=")[2].rstrip(b"\0")): pid for pid, line in lines if b"worker=" in line}


def clients_of(pid: int, port: int) -> set[int]:
    """The clients' ports of the connections to `port` that this process has accepted."""
    inodes: set[str] = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            inodes.add(os.readlink(entry.path).removeprefix("socket:[").removesuffix("]"))
        except FileNotFoundError:
            continue
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return {int(row[2][9:], 16) for row in rows if int(row[1][9:], 16) == port and row[9] in inodes}


async def counted(admin: int, name: str) -> float:
    """The sum of this metric over its labels, from the admin listener on this port."""
    text = (await ask_once(admin, request("GET", "/metrics"))).body.decode()
    return sum(float(value) for sample, value in _SAMPLE.findall(text) if sample == name)


async def until_fed(admin: int, workers: int, patience_s: float = 20.0) -> None:
    """Wait until every worker follows the store's feed.  Raises TimeoutError."""
    async with asyncio.timeout(patience_s):
        while await counted(admin, "gatekeeper_feeds_held") < workers:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.1)
