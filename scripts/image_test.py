"""Tries an image that build_image.sh made, run as strictly as can be: read-only root, nowhere to write, no rights.

    python -m scripts.image_test gatekeeper:test

Needs the standard library only.  Starts a small app and the image in front of it, both on free loopback ports, and
ends both.  Exit status 0 when all holds, else 1 with the one thing that does not and the gate's log.
"""

import base64
import hmac
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

from tests.better_auth_db import add_session, add_user, create_database

ROOT = Path(__file__).parent.parent
SECRET = base64.b64encode(os.urandom(32)).decode()
TOKEN = "AdaAdaAdaAdaAdaAdaAdaAdaAdaAda01"  # noqa: S105 - of the database that is made here
USER = "65532"
START_LIMIT_S = 30.0
IN_FLIGHT_S = 7.0
"""How long the last request goes on after SIGTERM: longer than `drain_delay`, so that the gate is draining by then."""

END_LIMIT_S = 20.0
"""How long the gate may take to end after its last request is answered."""

STRICT = ("--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
PIECE = b"x" * 100_000

CONFIG = """\
upstream: http://127.0.0.1:{app}
secret: ${{BETTER_AUTH_SECRET}}
store: sqlite:////var/lib/gatekeeper/auth.db
protect: [/dashboard, /settings]
listen: 127.0.0.1:{gate}
admin: {{listen: "127.0.0.1:{admin}"}}
"""

LOOK_AROUND = """
import importlib.util, json, os, shutil, subprocess, sys
tools = ["pip", "pip3", "easy_install", "gcc", "cc", "g++", "clang", "make", "ld", "curl", "wget"]
pythons = [sys.executable, "/usr/local/bin/python"]
modules = ["pip", "ensurepip", "setuptools"]
def has(python, module):
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", code]).returncode == 0
writable = []
for folder, folders, _ in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in ("/proc", "/sys", "/dev")]
    if os.access(folder, os.W_OK):
        writable.append(folder)
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(), "writable": writable,
    "tools": [tool for tool in tools if shutil.which(tool)],
    "modules": [f"{python} {module}" for python in pythons for module in modules if has(python, module)],
}))
"""


class Failure(Exception):
    """Something does not hold."""


class App(BaseHTTPRequestHandler):
    """The app: answers with the user it was told of; `/slow` stops halfway until it is let go."""

    protocol_version = "HTTP/1.1"
    halfway = threading.Event()
    let_go = threading.Event()

    def do_GET(self) -> None:
        if self.path != "/slow":
            return self._answer(self.headers.get("X-Auth-User-Id", "nobody").encode())
        self.send_response(200)
        self.send_header("Content-Length", str(2 * len(PIECE)))
        self.end_headers()
        self.wfile.write(PIECE)
        self.halfway.set()
        self.let_go.wait(60)
        self.wfile.write(PIECE)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Image:
    """The image under test, with the mounts that it needs."""

    def __init__(self, tag: str, folder: Path) -> None:
        self.tag = tag
        self.folder = folder
        mounts = (f"{folder}/config.yaml:/etc/gatekeeper/config.yaml:ro", f"{folder}/data:/var/lib/gatekeeper:ro")
        self._options = (*STRICT, *(f"--volume={mount}" for mount in mounts), "--env", "BETTER_AUTH_SECRET")
        self._environ = {**os.environ, "BETTER_AUTH_SECRET": SECRET}

    def command(self, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
        return ["bash", str(ROOT / "scripts/run_image.sh"), *self._options, *options, self.tag, *arguments]

    def call(self, *arguments: str, entrypoint: str | None = None) -> str:
        """What a command in the image prints.  Raises Failure when it fails."""
        options = () if entrypoint is None else ("--entrypoint", entrypoint)
        command = self.command(*arguments, options=options)
        done = subprocess.run(command, capture_output=True, text=True, env=self._environ, timeout=60, check=False)  # noqa: S603
        if done.returncode != 0:
            raise Failure(f"{' '.join(arguments)[:60]} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    @contextmanager
    def running(self) -> Generator[subprocess.Popen[bytes], None, None]:
        """The image, running its own command; ended with the block.  `container.pid` is its process 1."""
        with (self.folder / "gate.log").open("wb") as log:
            command = self.command(options=("--pidfile", str(self.folder / "container.pid")))
            process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environ)  # noqa: S603
        try:
            yield process
        finally:
            if process.poll() is None:
                os.kill(self.process_1(), signal.SIGKILL)
                process.wait(30)

    def process_1(self) -> int:
        """The number, outside of the container, of its process 1."""
        return int((self.folder / "container.pid").read_text())


def main() -> int:
    """Try everything and print it; the exit status."""
    with tempfile.TemporaryDirectory(prefix="gatekeeper-image-") as name:
        folder = Path(name)
        try:
            with serving_app() as app:
                try_image(Image(sys.argv[1], folder), app)
        except Failure as failure:
            print(f"FAILED  {failure}")
            log = folder / "gate.log"
            if log.exists():
                print(log.read_text(errors="replace"))
            return 1
    return 0


def try_image(image: Image, app: int) -> None:
    """Everything that must hold.  Raises Failure."""
    gate, admin = free_port(), free_port()
    prepare(image.folder, CONFIG.format(app=app, gate=gate, admin=admin))
    try_commands(image)
    try_contents(image)
    began = time.monotonic()
    with image.running() as process:
        wait_until(lambda: get(gate, "/")[0] == 200, START_LIMIT_S, process)
        say(f"first answer {time.monotonic() - began:.2f} s after the call that runs the image")
        try_process(image.process_1())
        try_requests(gate)
        try_health(image)
        try_end(gate, process)


def try_commands(image: Image) -> None:
    """--version and check."""
    version = re.search(r'__version__ = "(.+)"', (ROOT / "gatekeeper/__init__.py").read_text())
    expect("gatekeeper --version", image.call("--version"), f"gatekeeper, version {version and version[1]}")
    fine = "/etc/gatekeeper/config.yaml is fine"
    expect("gatekeeper check", image.call("check", "-c", "/etc/gatekeeper/config.yaml")[: len(fine)], fine)


def try_contents(image: Image) -> None:
    """No compiler, nothing that installs, nothing to write."""
    seen = json.loads(image.call("-c", LOOK_AROUND, entrypoint="python"))
    expect("user and group", (seen["uid"], seen["gid"]), (int(USER), int(USER)))
    expect("compilers and installers", (seen["tools"], seen["modules"]), ([], []))
    expect("folders that can be written", seen["writable"], [])


def try_process(number: int) -> None:
    """Process 1 is the gate itself, without rights."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{number}/status").read_text().splitlines())
    words = Path(f"/proc/{number}/cmdline").read_bytes().decode().split("\0")
    expect("number inside", status["NSpid"].split()[-1], "1")
    expect("process 1", words[1:4], ["/opt/gatekeeper/bin/gatekeeper", "run", "-c"])
    expect("its user", status["Uid"].split(), [USER] * 4)
    expect("its rights", (int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"]), (0, 0, "1"))


def try_requests(gate: int) -> None:
    """Signed out and signed in."""
    status, headers, _ = get(gate, "/dashboard", {"Accept": "text/html"})
    expect("signed out", (status, headers.get("Location")), (307, "/sign-in?callbackUrl=%2Fdashboard"))
    status, _, body = get(gate, "/dashboard", {"Cookie": f"better-auth.session_token={signed(TOKEN)}"})
    expect("signed in", (status, body), (200, b"ada"))


def try_health(image: Image) -> None:
    """The command of HEALTHCHECK, and readiness."""
    written = re.search(r"^HEALTHCHECK .*?CMD (\[.*?\])$", (ROOT / "Dockerfile").read_text(), re.DOTALL | re.MULTILINE)
    if written is None:
        raise Failure("the Dockerfile has no HEALTHCHECK")
    command: list[str] = json.loads(written[1])
    expect("HEALTHCHECK", image.call(*command[1:], entrypoint=command[0])[:8], "healthy:")
    expect("readiness", image.call(*command[1:], "--ready", entrypoint=command[0])[:6], "ready:")


def try_end(gate: int, process: subprocess.Popen[bytes]) -> None:
    """SIGTERM while a request is under way: it is answered whole, then the gate ends."""
    bodies: list[bytes] = []
    reader = threading.Thread(target=lambda: bodies.append(get(gate, "/slow")[2]))
    reader.start()
    if not App.halfway.wait(10):
        raise Failure("the app did not get the last request")
    process.terminate()
    began = time.monotonic()
    time.sleep(IN_FLIGHT_S)
    if process.poll() is not None:
        raise Failure(f"the gate ended with {process.returncode}, with a request under way")
    App.let_go.set()
    reader.join(10)
    expect("bytes of the request under way", [len(body) for body in bodies], [2 * len(PIECE)])
    try:
        expect("exit status after SIGTERM", process.wait(END_LIMIT_S), 0)
    except subprocess.TimeoutExpired as error:
        raise Failure(f"still there {END_LIMIT_S:g} s after its last request") from error
    say(f"ended {time.monotonic() - began:.1f} s after SIGTERM, with a request of {IN_FLIGHT_S:g} s under way")


@contextmanager
def serving_app() -> Generator[int, None, None]:
    """The app on a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), App)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def prepare(folder: Path, config: str) -> None:
    """The configuration, and a database with one session, readable by every user."""
    (folder / "config.yaml").write_text(config)
    data = folder / "data"
    data.mkdir()
    create_database(data / "auth.db")
    now = time.time_ns() // 1_000_000
    add_user(data / "auth.db", id="ada")
    add_session(data / "auth.db", user_id="ada", token=TOKEN, expires_at_ms=now + 3_600_000, created_at_ms=now)
    for path in (folder, data):
        path.chmod(0o755)
    for path in (folder / "config.yaml", data / "auth.db"):
        path.chmod(0o644)


def signed(token: str) -> str:
    """A session cookie's value as Better Auth writes it."""
    mac = hmac.digest(SECRET.encode(), token.encode(), "sha256")
    return quote(f"{token}.{base64.b64encode(mac).decode()}", safe="")


def get(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def wait_until(holds: Callable[[], bool], limit_s: float, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if process.poll() is not None:
            raise Failure(f"the image ended with {process.returncode} before it answered")
        try:
            if holds():
                return
        except OSError:
            time.sleep(0.01)
    raise Failure(f"no answer within {limit_s:g} s")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Failure(f"{what}: expected {wanted!r}, found {found!r}")
    say(f"{what}: {found!r}")


def say(what: str) -> None:
    print(f"ok      {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
