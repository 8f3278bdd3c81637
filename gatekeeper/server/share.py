"""What one worker has of a gate that runs as several processes, given by whoever supervises them."""

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gatekeeper.server.crowd import Board


@dataclass(frozen=True)
class Share:
    """A worker's number, from 1 on, and what it has in common with the others.

    `sockets` are bound, and others hold them, too: `let_go` has them closed there.  On the `board` workers show one
    another how many clients they have.  `keys` are those of assertions, as `assertion_keys.to_inherit` gives them.
    """

    worker: int
    sockets: tuple[socket.socket, ...]
    let_go: Callable[[], Awaitable[None]]
    board: Board
    keys: bytes = b""
