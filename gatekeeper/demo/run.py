"""`gatekeeper demo`: sample app, accounts and gate in one process, and a few words on what to try.

Everything lives in a temporary folder that is removed at the end.
"""

import asyncio
import errno
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from gatekeeper.config.load import load_file
from gatekeeper.config.schema import Log, Settings
from gatekeeper.core.cookies import Keys, cookie_names, sign_value
from gatekeeper.core.errors import ListenError
from gatekeeper.demo.app import make_app
from gatekeeper.demo.guide import Demo, Paint, guide, wants_color
from gatekeeper.demo.people import PEOPLE, add_people
from gatekeeper.integrations import Verifier
from gatekeeper.migrate_command import migrate_accounts
from gatekeeper.server.app import serve

DEFAULT_PORT = 8080
SESSION_COOKIE = cookie_names("better-auth", secure=False).session_token

_PORTS_TRIED = 100
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


async def run_demo(
    listen_host: str = "127.0.0.1",
    listen_port: int = DEFAULT_PORT,
    *,
    output: TextIO | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Run the demo until SIGINT, SIGTERM or `stop`; print where it is and what to try.

    If `listen_port` is taken, the next free one is used.  Raises ListenError if there is none.
    """
    out: TextIO = sys.stdout if output is None else output
    stop = stop or asyncio.Event()
    with tempfile.TemporaryDirectory(prefix="gatekeeper-demo-") as name, _stopped_by_signals(stop):
        async with running_demo(Path(name), listen_host, find_free_port(listen_host, listen_port)) as demo:
            out.write(guide(demo, Paint(wants_color(out, os.environ))))
            out.flush()
            await stop.wait()
    out.write("\nStopped. The demo's files are removed.\n")


@asynccontextmanager
async def running_demo(folder: Path, host: str, port: int, smtp: str | None = None) -> AsyncGenerator[Demo, None]:
    """The demo while it serves, with all of its files in this folder, which has none of them yet.

    `smtp` is the URL of a mail server; without one, nobody can have a forgotten password replaced.  Raises ListenError
    where the port is taken.
    """
    secret, now_ms = secrets.token_hex(32), time.time_ns() // 1_000_000
    public_url = None if host in _EVERYWHERE else _url(host, port)
    verifier = None if public_url is None else Verifier(public_url)
    async with _serve_sample(make_app(verifier, PEOPLE)) as upstream:
        config = folder / "gatekeeper.yaml"
        config.touch(0o600)
        text = config_text(_place(host, port), upstream, secret, folder / "auth.db", public_url, smtp)
        config.write_text(text, "utf-8")
        settings = msgspec.structs.replace(load_file(config, {}), log=Log(access=False, file=os.devnull))
        token = await _set_up(settings, now_ms)
        async with serve(settings) as gate:
            demo = Demo(gate.addresses[0], folder / "ada.cookies", config, is_signed=verifier is not None)
            expires_at_s = now_ms // 1000 + int(settings.session.expires_in)
            _write_cookie_jar(demo, sign_value(token, Keys([secret])), expires_at_s)
            yield demo


def config_text(
    listen: str, upstream: str, secret: str, database: Path, public_url: str | None, smtp: str | None = None
) -> str:
    """The demo's configuration: accounts mode, and a rule of each kind.

    Who listens on all addresses has no `public_url`, as visitors come by any of them; the app gets no assertion then.
    """
    return f"""\
listen: {json.dumps(listen)}
public_url: {json.dumps(public_url)}
upstream: {upstream}
secret: {json.dumps(secret)}
store: {json.dumps(f"sqlite:///{database}")}
accounts: {{enabled: true, sign_up: true, smtp: {json.dumps(smtp)}}}
branding: {{name: gatekeeper demo}}
protect:
  - /dashboard
  - /settings
  - {{path: /preview, access: presence}}
public:
  - /dashboard/help
  - {{path: /, identity: optional}}
log: {{access: false}}
admin: {{listen: null}}
"""


def find_free_port(host: str, first: int) -> int:
    """`first`, or the next port after it that nobody listens on; any free one for 0.

    Raises ListenError when there is none, or the host is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(first, min(first + _PORTS_TRIED, 65536)):
        try:
            with socket.create_server((host, port), family=family) as probe:
                return int(probe.getsockname()[1])
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ListenError(f"cannot listen on {host}: {error.strerror or error}") from error
    raise ListenError(f"no free port on {host} from {first} on")


async def _set_up(settings: Settings, now_ms: int) -> str:
    """Make tables and accounts; the token of Ada's session for curl."""
    async for _ in migrate_accounts(settings):
        pass
    return await add_people(settings, now_ms)


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _url(host: str, port: int) -> str:
    return f"http://{_place(host, port)}"


@asynccontextmanager
async def _serve_sample(app: web.Application) -> AsyncGenerator[str, None]:
    """The sample app on a free loopback port; gives its URL."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextmanager
def _stopped_by_signals(stop: asyncio.Event) -> Generator[None, None, None]:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _write_cookie_jar(demo: Demo, value: str, expires_at_s: int) -> None:
    """Ada's session as curl reads it (Netscape's cookie file), so that no cookie stands on the screen."""
    host = urlsplit(demo.address).hostname or ""
    fields = (f"#HttpOnly_{host}", "FALSE", "/", "FALSE", str(expires_at_s), SESSION_COOKIE, value)
    demo.jar.touch(0o600)
    demo.jar.write_text("# Netscape HTTP Cookie File\n" + "\t".join(fields) + "\n", "ascii")
