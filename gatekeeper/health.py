"""`gatekeeper health`: asks a running gate, through its admin listener, whether it is well.

Containers run this every few seconds, so it needs little: the standard library for the request, and of the
configuration nothing but `admin.listen`.  A gate that runs stays well whatever has happened since to the rest of the
file.
"""

import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from gatekeeper.config.addresses import parse_listen
from gatekeeper.config.decode import Decoder
from gatekeeper.config.leaves import MISSING
from gatekeeper.config.problems import ConfigError, Problem
from gatekeeper.config.schema import Admin
from gatekeeper.config.tree import MappingNode, TreeReader

TIMEOUT_S = 2.0
_LONGEST_ANSWER_BYTES = 65_536
_UNIX = "unix:"
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to reach who listens there


class Health(msgspec.Struct, frozen=True):
    """What was found.  `asked` is the URL, or the socket and path; `status` is that of the answer, if there was one."""

    ok: bool
    asked: str | None = None
    status: int | None = None
    problems: tuple[str, ...] = ()

    def as_line(self, word: str) -> str:
        """One line for people; `word` is what the gate is or is not."""
        line = word if self.ok else f"not {word}"
        if self.asked is not None:
            line += f": {self.asked}" + (f" answered {self.status}" if self.status is not None else "")
        return line + (f": {'; '.join(self.problems)}" if self.problems else "")


def ask_gate(config: Path, environ: Mapping[str, str], *, ready: bool, timeout_s: float = TIMEOUT_S) -> Health:
    """What the gate of this configuration answers: at `/readyz` if `ready`, else at `/healthz`.  Raises nothing."""
    try:
        listen = admin_address(config, environ)
    except ConfigError as error:
        return Health(False, problems=tuple(map(str, error.problems)))
    if listen is None:
        return Health(False, problems=("admin.listen is off: there is nobody to ask",))
    return _ask(listen, "/readyz" if ready else "/healthz", timeout_s)


def admin_address(config: Path, environ: Mapping[str, str]) -> str | None:
    """`admin.listen` of this file, or its default; None where it is off.

    Raises ConfigError where that one setting cannot be read; other faults of the file do not matter.
    """
    try:
        text = config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError([Problem(str(config), "", 1, 1, f"cannot read it: {reason}")]) from error
    reader = TreeReader(str(config), environ)
    tree = reader.read(text)
    decoder = Decoder(str(config), config.parent)
    entry = tree.entries.get("admin") if isinstance(tree, MappingNode) else None
    admin = Admin() if entry is None else decoder.decode_struct(Admin, entry.node, "admin")
    problems = [p for p in (*reader.problems, *decoder.problems) if p.path in ("", "admin", "admin.listen")]
    if problems or admin is MISSING:
        raise ConfigError(problems)
    address: str | None = admin.listen
    return address


class _UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _ask(listen: str, path: str, timeout_s: float) -> Health:
    opened = _connection_to(listen, timeout_s)
    if opened is None:
        return Health(False, problems=(f"admin.listen is no address that can be asked: {listen}",))
    base, connection = opened
    asked = base + path
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(_LONGEST_ANSWER_BYTES)
    except TimeoutError:
        return Health(False, asked, problems=(f"no answer within {timeout_s:g} s",))
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or "the answer is no HTTP"
        return Health(False, asked, problems=(reason,))
    finally:
        connection.close()
    is_well = response.status == 200
    return Health(is_well, asked, response.status, () if is_well else _problems_in(body))


def _connection_to(listen: str, timeout_s: float) -> tuple[str, http.client.HTTPConnection] | None:
    """What the listener is called, and an unopened connection to it; None for no address, or port 0."""
    if listen.startswith(_UNIX):
        return f"{listen} ", _UnixConnection(listen.removeprefix(_UNIX), timeout_s)
    address = parse_listen(listen)
    if address is None or address[1] == 0:
        return None
    host, port = address[0].strip("[]"), address[1]
    host = _EVERYWHERE.get(host, host)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}", http.client.HTTPConnection(host, port, timeout=timeout_s)


def _problems_in(body: bytes) -> tuple[str, ...]:
    """What a `{"problems": […]}` lists; nothing for any other answer."""
    try:
        document: Any = json.loads(body)
        return tuple(str(problem) for problem in document["problems"])
    except (ValueError, TypeError, KeyError):
        return ()
