"""The test stand: the app, the echo server and all proxies, each running, and what is known of them."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import nginx_configs
from bench.install import ROOT, Say, Tools
from bench.places import Places
from bench.processes import StartError, cores, free_port, running
from bench.proxies import PEERS, Peer
from bench.session import VARIED_SESSIONS, write_sessions

SESSIONS = 20_000


class Proxy:
    """A proxy that runs.  `cookie` is the Cookie header of a session that it takes; `pid` the root of its processes."""

    def __init__(self, peer: Peer, pid: int, places: Places, remarks: list[str]) -> None:
        self.peer = peer
        self.pid = pid
        self.port = places.port
        self.folder = places.folder
        self.remarks = remarks
        self.cookie = peer.cookie(places.port)


class Stand:
    """What runs, where the load runs, and why something does not.  `folder` is temporary."""

    def __init__(self, folder: Path, tools: Tools) -> None:
        self.folder = folder
        self.tools = tools
        self.proxies: dict[str, Proxy] = {}
        self.failed: dict[str, str] = {}
        self.proxy_core, self.load_core = cores()

    def empty_logs(self) -> None:
        """Cut the access logs down to nothing, so that they do not fill the disk."""
        for log in self.folder.glob("*/*.log"):
            os.truncate(log, 0)


@contextmanager
def open_stand(names: Sequence[str], tools: Tools, say: Say, peers: Mapping[str, Peer] = PEERS) -> Iterator[Stand]:
    """Start everything; stop it with the block.  A proxy that does not start is named in `failed`.

    Raises StartError when the app does not start.
    """
    with tempfile.TemporaryDirectory(prefix="gatekeeper-bench-") as name, ExitStack() as stack:
        stand = Stand(Path(name), tools)
        database = stand.folder / "auth.db"
        write_sessions(database, SESSIONS + VARIED_SESSIONS)
        app, echo = _start_app(stand, stack)
        for peer in (peers[name] for name in names):
            if peer.needs is not None and peer.needs not in tools.paths:
                stand.failed[peer.name] = tools.missing.get(peer.needs, "its program is missing")
                continue
            say(f"starting {peer.title}")
            folder = stand.folder / peer.name
            folder.mkdir()
            places = Places(free_port(), app, echo, free_port(), folder, database)
            try:
                stand.proxies[peer.name] = start(peer, stand, places, stack)
            except (StartError, ValueError, OSError) as error:
                stand.failed[peer.name] = str(error).replace(f"{stand.folder}/", "").replace(f"{ROOT}/", "")
                say(f"{peer.title} does not start: {error}")
        yield stand


def start(peer: Peer, stand: Stand, places: Places, stack: ExitStack) -> Proxy:
    """Write the proxy's files and start it on the proxies' core.  Raises StartError."""
    launch = peer.launch(stand.tools, places)
    for name, text in launch.files.items():
        (places.folder / name).write_text(text)
    log = places.folder / "output.log"
    cwd = ROOT if peer.needs is None else places.folder
    pid = stack.enter_context(
        running(launch.command, core=stand.proxy_core, port=places.port, log=log, cwd=cwd, environ=launch.environ)
    )
    return Proxy(peer, pid, places, launch.remarks)


def version_of(peer: Peer, tools: Tools) -> str:
    """The version that the program tells, like 1.22.1, or nothing."""
    if isinstance(peer.version, str) or peer.needs is None:
        return str(peer.version)
    command = [tools.paths[peer.needs], *peer.version]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return find_version(done.stdout + done.stderr)


def find_version(text: str) -> str:
    """The first version in three parts in this text, or nothing."""
    match = re.search(r"\d+\.\d+\.\d+", text)
    return match[0] if match else ""


def _start_app(stand: Stand, stack: ExitStack) -> tuple[int, int]:
    """The ports of the app and of the echo server."""
    app, echo = free_port(), free_port()
    folder = stand.folder / "app"
    folder.mkdir()
    config = folder / "nginx.conf"
    config.write_text(nginx_configs.upstream(app, folder))
    commands = {
        app: [stand.tools.paths["nginx"], "-p", str(folder), "-c", str(config), "-e", "stderr"],
        echo: [sys.executable, "-m", "bench.echo", str(echo)],
    }
    for port, command in commands.items():
        log = folder / f"{port}.log"
        stack.enter_context(running(command, core=stand.load_core, port=port, log=log, cwd=ROOT))
    return app, echo
