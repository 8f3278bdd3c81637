"""The listeners of several workers: bound by the supervisor, one for each worker, and kept open while it runs.

With SO_REUSEPORT the kernel deals new clients out to all sockets of an address, by a hash of both ends.  Since the
supervisor holds them, the socket of a worker that ended goes on: who connects to it waits for the successor, and the
port never refuses.  A Unix socket is one for all.
"""

import os
import select
import socket
from contextlib import suppress

from gatekeeper.core.errors import ListenError
from gatekeeper.server.listeners import UNIX, tcp_socket, tcp_sockets, unix_socket, url_of


class WorkerSockets:
    """The bound sockets of each worker, by its number from 1 on."""

    def __init__(self, of_worker: dict[int, tuple[socket.socket, ...]], unix_path: str | None = None) -> None:
        self._of_worker = of_worker
        self._unix_path = unix_path

    def of(self, worker: int) -> tuple[socket.socket, ...]:
        """This worker's sockets; none once they were let go."""
        return self._of_worker.get(worker, ())

    def addresses(self, scheme: str) -> list[str]:
        """The URLs where all workers listen."""
        return [url_of(sock, scheme) for sock in self._of_worker[1]]

    def has_waiting(self, worker: int) -> bool:
        """Whether clients wait at this worker's sockets to be let in."""
        poll = select.poll()
        for sock in self.of(worker):
            poll.register(sock, select.POLLIN)
        return any(event & select.POLLIN for _, event in poll.poll(0))

    def let_go(self, worker: int) -> None:
        """Close the supervisor's copies of this worker's sockets, so that the worker alone holds them.

        The path of a Unix socket goes with the first: from then on nobody new finds it.
        """
        for sock in self._of_worker.pop(worker, ()):
            if self._unix_path is not None:
                with suppress(OSError):
                    os.unlink(self._unix_path)
                self._unix_path = None
            if not any(sock in others for others in self._of_worker.values()):
                sock.close()

    def close(self) -> None:
        """Let go of all."""
        for worker in tuple(self._of_worker):
            self.let_go(worker)


async def bind_for(listen: str, workers: int) -> WorkerSockets:
    """Sockets for so many workers at `host:port` or `unix:/path`.

    Raises ListenError, also where another process listens there already: with SO_REUSEPORT alone, an older gate of the
    same user would go on taking its part of the clients.
    """
    try:
        if listen.startswith(UNIX):
            path = listen.removeprefix(UNIX)
            shared = (unix_socket(path),)
            return WorkerSockets(dict.fromkeys(range(1, workers + 1), shared), path)
        return WorkerSockets(await _tcp_for(listen, workers))
    except OSError as exc:
        raise ListenError(f"cannot listen on {listen} (setting listen): {exc.strerror or exc}") from exc


async def _tcp_for(listen: str, workers: int) -> dict[int, tuple[socket.socket, ...]]:
    if not listen.endswith(":0"):
        for probe in await tcp_sockets(listen):
            probe.close()
    first = await tcp_sockets(listen, shared=True)
    bound = {1: tuple(first)}
    try:
        for worker in range(2, workers + 1):
            mine: list[socket.socket] = []
            bound[worker] = ()
            for sock in first:
                mine.append(tcp_socket(sock.family, sock.getsockname(), shared=True))
                bound[worker] = tuple(mine)
    except OSError:
        WorkerSockets(bound).close()
        raise
    return bound
