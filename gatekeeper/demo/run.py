"""`gatekeeper demo`: sample app, database and gate in one process, and a few words on what to try.

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
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from gatekeeper.config.load import load_file
from gatekeeper.config.schema import Log
from gatekeeper.core.cookies import Keys, sign_value
from gatekeeper.core.errors import ListenError
from gatekeeper.demo.app import SESSION_COOKIE, make_app
from gatekeeper.demo.database import SESSION_AGE_S, Database
from gatekeeper.server.app import serve

DEFAULT_PORT = 8080
_PORTS_TRIED = 100


class Paint(msgspec.Struct, frozen=True):
    """Terminal styles, or none of them."""

    enabled: bool

    def bold(self, text: str) -> str:
        return self._paint("1", text)

    def soft(self, text: str) -> str:
        return self._paint("2", text)

    def address(self, text: str) -> str:
        return self._paint("1;4;36", text)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.enabled else text


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
        folder = Path(name)
        secret = secrets.token_hex(32)
        now_ms = int(time.time() * 1000)
        database = await asyncio.to_thread(Database.create, folder / "auth.db", now_ms)
        keys = Keys([secret])
        async with _serve_sample(make_app(database, keys)) as upstream:
            port = find_free_port(listen_host, listen_port)
            config = folder / "gatekeeper.yaml"
            config.write_text(config_text(listen_host, port, upstream, secret, database.path), "utf-8")
            config.chmod(0o600)
            settings = load_file(config, {})
            quiet = msgspec.structs.replace(settings, log=Log(access=False, file=os.devnull))
            async with serve(quiet) as gate:
                address = gate.addresses[0]
                jar = folder / "ada.cookies"
                _write_cookie_jar(jar, address, database, keys, now_ms)
                out.write(guide(address, jar, config, Paint(wants_color(out, os.environ))))
                out.flush()
                await stop.wait()
    out.write("\nStopped. The demo's files are removed.\n")


def config_text(host: str, port: int, upstream: str, secret: str, database: Path) -> str:
    """The demo's configuration: the smallest one, and a rule of each other kind."""
    listen = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"""\
listen: {json.dumps(listen)}
upstream: {upstream}
secret: {json.dumps(secret)}
store: {json.dumps(f"sqlite:///{database}")}
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


def wants_color(output: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether to style what is printed: on a capable terminal, unless NO_COLOR is set."""
    return output.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def guide(address: str, jar: Path, config: Path, paint: Paint) -> str:
    """What the demo prints: where it is, what to try, how to stop."""
    page = f"{address}/dashboard"
    forged = "-H 'X-Auth-User-Id: root' -H 'x_auth.user_id: root'"
    tries = (
        ("Signed out, as a browser: a redirect to /sign-in", f"-i -H 'Accept: text/html' {page}"),
        ("Signed out, as a program: 401 as JSON", f"-i {page}"),
        ("Signed in as Ada: the user, and every header that reached the app", f"-b {jar} {page}"),
        ("Ada claims to be root: the forged headers never arrive", f"-b {jar} {forged} {page}"),
        ("Who am I? The gate itself answers", f"-b {jar} {address}/.gatekeeper/whoami"),
    )
    commands = "\n".join(f"  {paint.soft('# ' + what)}\n  curl {arguments}\n" for what, arguments in tries)
    return f"""
{paint.bold("gatekeeper demo")}

  {paint.address(address)}

{paint.bold("In the browser")}

  Open {page}
  You are sent to sign in. Pick Ada or Zoë, and you come back to the page you asked for.

{paint.bold("On the command line")}

{commands}
{paint.bold("Behind it")}

  configuration  {config}
  sessions       {config.with_name("auth.db")} (SQLite, Better Auth's schema)
  Both are temporary and go when you stop.

Press Ctrl-C to stop.
"""


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


def _write_cookie_jar(path: Path, address: str, database: Database, keys: Keys, now_ms: int) -> None:
    """Ada's session as curl reads it (Netscape's cookie file), so that no cookie stands on the screen."""
    ada = database.find_user("ada@example.com")
    token = None if ada is None else database.token_of(ada)
    value = "" if token is None else sign_value(token, keys)
    host = urlsplit(address).hostname or ""
    fields = (f"#HttpOnly_{host}", "FALSE", "/", "FALSE", str(now_ms // 1000 + SESSION_AGE_S), SESSION_COOKIE, value)
    path.touch(0o600)
    path.write_text("# Netscape HTTP Cookie File\n" + "\t".join(fields) + "\n", "ascii")
