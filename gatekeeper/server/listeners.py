"""Where the gate listens: TCP or a Unix socket, with TLS or without."""

import asyncio
import ctypes
import os
import socket
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from ssl import SSLContext

from gatekeeper.core.errors import ListenError

BACKLOG = 1024
UNIX = "unix:"
_SOCKET_MODE = 0o660
_SO_ATTACH_FILTER = 26
_BPF_RET = 0x06

Factory = Callable[[], asyncio.Protocol]


class Listener:
    """An open listener; `addresses` are its URLs."""

    def __init__(self, factory: Factory, tls: SSLContext | None, handshake_s: float | None) -> None:
        self.addresses: list[str] = []
        self._factory = factory
        self._tls = tls
        self._handshake_s = handshake_s if tls is not None else None
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

    async def close(self) -> None:
        """Stop listening.  Clients that the kernel has connected already are served: closing would reset them."""
        for sock in self._sockets:
            _drop_newcomers(sock)
        waiting = [client for sock in self._sockets for client in _accepted(sock)]
        for server in self._servers:
            server.close()
        for url in self.addresses:
            if url.startswith(UNIX):
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
            await listener.add(_unix_socket(listen.removeprefix(UNIX)), listen)
            return listener
        host, _, port = listen.rpartition(":")
        for sock in await _tcp_sockets(host.strip("[]"), int(port)):
            await listener.add(sock, _url_of(sock, scheme))
    except OSError as exc:
        await listener.close()
        raise ListenError(f"cannot listen on {listen} (setting {setting}): {exc.strerror or exc}{hint}") from exc
    return listener


async def _tcp_sockets(host: str, port: int) -> list[socket.socket]:
    """Bound sockets for every address of the host."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((family, address) for family, *_, address in found):
            sock = socket.socket(family, socket.SOCK_STREAM)
            bound.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.setblocking(False)
    except OSError:
        for sock in bound:
            sock.close()
        raise
    return bound


def _unix_socket(path: str) -> socket.socket:
    """A bound Unix socket for owner and group; one that nobody listens on any more is replaced."""
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


def _drop_newcomers(listening: socket.socket) -> None:
    """Connect nobody any more, so that nobody is between the last that is accepted and the end of the socket.

    A filter that keeps no packet (Linux, socket(7)): whoever asks now asks again in a second, and is refused then.
    """
    if sys.platform != "linux" or listening.family == socket.AF_UNIX:
        return
    keep_nothing = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RET, 0, 0, 0))
    with suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(keep_nothing)))


def _accepted(listening: socket.socket) -> Iterator[socket.socket]:
    """Clients that are connected, and that nobody has accepted yet."""
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        client.setblocking(False)
        yield client


def _url_of(sock: socket.socket, scheme: str) -> str:
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
