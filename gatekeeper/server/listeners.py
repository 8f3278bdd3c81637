"""Where the gate listens: TCP or a Unix socket, with TLS or without.

A worker among several listens on sockets that it was given, and that its supervisor keeps open: before it closes them
it has the supervisor let go of its copies, so that the end of a listener is the same as in a gate of one process.
"""

import asyncio
import ctypes
import os
import socket
import stat
import struct
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from ssl import SSLContext
from typing import Any

from gatekeeper.core.errors import ListenError

BACKLOG = 1024
UNIX = "unix:"
_SOCKET_MODE = 0o660
SETTLE_S = 0.25
"""How long those whose connection is being made are waited for: a handshake is one round trip."""

_SO_ATTACH_FILTER = 26
_SYN, _ACK = 0x02, 0x10
_DROP_SYN = (  # code, jump if true, jump if false, operand: of the TCP header's flags
    (0x30, 0, 0, 13),  # load the byte of the flags
    (0x54, 0, 0, _SYN | _ACK),  # keep these two
    (0x15, 0, 1, _SYN),  # is it SYN alone?
    (0x06, 0, 0, 0),  # then nothing is kept of it
    (0x06, 0, 0, 0xFFFF_FFFF),  # else everything
)

Factory = Callable[[], asyncio.Protocol]
LetGo = Callable[[], Awaitable[None]]


class Listener:
    """An open listener; `addresses` are its URLs.

    `let_go` is called before sockets are closed that others hold, too.
    """

    def __init__(
        self, factory: Factory, tls: SSLContext | None, handshake_s: float | None, let_go: LetGo | None = None
    ) -> None:
        self.addresses: list[str] = []
        self._factory = factory
        self._tls = tls
        self._handshake_s = handshake_s if tls is not None else None
        self._let_go = let_go
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []

    async def add(self, sock: socket.socket, url: str) -> None:
        """Listen on this bound socket, too."""
        loop = asyncio.get_running_loop()
        create = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
        server = await create(
            self._factory, sock=sock, ssl=self._tls, backlog=BACKLOG, ssl_handshake_timeout=self._handshake_s
        )
        self._servers.append(server)
        self._sockets.append(sock)
        self.addresses.append(url)

    async def close(self, settle_s: float = 0.0) -> None:
        """Stop listening.  Clients that the kernel has connected already are served: closing would reset them.

        For `settle_s` clients are let in whose connection is being made.
        """
        if self._sockets and self._let_go is not None:
            await self._let_go()
        dropping = [_drop_newcomers(sock) for sock in self._sockets]
        if settle_s and any(dropping):
            await asyncio.sleep(settle_s)
        waiting = [client for sock in self._sockets for client in _accepted(sock)]
        for server in self._servers:
            server.close()
        for url in self.addresses:
            if url.startswith(UNIX) and self._let_go is None:
                with suppress(OSError):
                    os.unlink(url.removeprefix(UNIX))
        self._servers.clear()
        self._sockets.clear()
        await asyncio.gather(*(self._take_in(client) for client in waiting))

    async def _take_in(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                self._factory, client, ssl=self._tls, ssl_handshake_timeout=self._handshake_s
            )
        except OSError:
            client.close()


async def open_listener(
    listen: str,
    factory: Factory,
    tls: SSLContext | None = None,
    *,
    handshake_s: float | None = None,
    setting: str = "listen",
    hint: str = "",
) -> Listener:
    """Listen at `host:port` or `unix:/path`.  Raises ListenError, which names the setting and ends with the hint.

    `handshake_s` is how long a TLS handshake may take.
    """
    listener = Listener(factory, tls, handshake_s)
    scheme = "http" if tls is None else "https"
    try:
        if listen.startswith(UNIX):
            await listener.add(unix_socket(listen.removeprefix(UNIX)), listen)
            return listener
        for sock in await tcp_sockets(listen):
            await listener.add(sock, url_of(sock, scheme))
    except OSError as exc:
        await listener.close()
        raise ListenError(f"cannot listen on {listen} (setting {setting}): {exc.strerror or exc}{hint}") from exc
    return listener


async def share_listener(
    sockets: Iterable[socket.socket],
    factory: Factory,
    tls: SSLContext | None,
    *,
    handshake_s: float,
    let_go: LetGo,
) -> Listener:
    """Listen on bound sockets that others hold, too.  Before it closes them, the listener awaits `let_go`."""
    listener = Listener(factory, tls, handshake_s, let_go)
    scheme = "http" if tls is None else "https"
    for sock in sockets:
        await listener.add(sock, url_of(sock, scheme))
    return listener


async def tcp_sockets(listen: str, *, shared: bool = False) -> list[socket.socket]:
    """Bound sockets for every address of `host:port`; `shared` ones let others be bound there.  Raises OSError."""
    host, _, port = listen.rpartition(":")
    found = await asyncio.get_running_loop().getaddrinfo(
        host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    bound: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((family, address) for family, *_, address in found):
            bound.append(tcp_socket(family, address, shared=shared))
    except OSError:
        for sock in bound:
            sock.close()
        raise
    return bound


def tcp_socket(family: int, address: Any, *, shared: bool = False) -> socket.socket:
    """A socket that is bound to this address.  Raises OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def unix_socket(path: str) -> socket.socket:
    """A bound Unix socket for owner and group; one that nobody listens on any more is replaced.  Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_abandoned(path):
            os.unlink(path)
        sock.bind(path)
        os.chmod(path, _SOCKET_MODE)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _is_abandoned(path: str) -> bool:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
    return False


def _drop_newcomers(listening: socket.socket) -> bool:
    """Begin no more connections, so that nobody is between the last that is accepted and the end of the socket.

    A filter that drops SYN segments (Linux, socket(7)): whoever asks now asks again in a second, and is refused then.
    It must let everything else pass: connections that are made meanwhile inherit it.  Returns whether it is in place.
    """
    if sys.platform != "linux" or listening.family == socket.AF_UNIX:
        return False
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in _DROP_SYN))
    program = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(code))
    try:
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:
        return False
    return True


def _accepted(listening: socket.socket) -> Iterator[socket.socket]:
    """Clients that are connected, and that nobody has accepted yet."""
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        client.setblocking(False)
        yield client


def url_of(sock: socket.socket, scheme: str) -> str:
    """Where a bound socket listens, as `http://host:port` or `unix:/path`."""
    if sock.family == socket.AF_UNIX:
        return f"{UNIX}{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
