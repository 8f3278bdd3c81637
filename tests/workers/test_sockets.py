"""Sockets for several workers: one port, kept open; and none where somebody else listens already."""

import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekeeper.core.errors import GatekeeperError, ListenError
from gatekeeper.workers.sockets import WorkerSockets, bind_for
from gatekeeper.workers.supervisor import run_workers
from tests.config.loading import BASE, load


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


@pytest.fixture
def older() -> Iterator[socket.socket]:
    """A gate of the same user that shares its port, and that somebody forgot."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock


async def test_every_worker_has_a_socket_of_its_own_at_the_same_port() -> None:
    sockets = await bind_for("127.0.0.1:0", 4)
    bound = [sock for worker in range(1, 5) for sock in sockets.of(worker)]
    assert len({sock.fileno() for sock in bound}) == 4
    assert len({port_of(sock) for sock in bound}) == 1
    assert sockets.addresses("https") == [f"https://127.0.0.1:{port_of(bound[0])}"]
    sockets.close()
    assert all(sock.fileno() == -1 for sock in bound)


async def test_the_kernel_takes_clients_for_a_worker_that_is_not_there() -> None:
    sockets = await bind_for("127.0.0.1:0", 2)
    (first,), (second,) = sockets.of(1), sockets.of(2)
    first.listen()
    assert not sockets.has_waiting(1)
    with socket.create_connection(("127.0.0.1", port_of(first)), 20):
        assert sockets.has_waiting(1)
        assert not sockets.has_waiting(2)
    sockets.let_go(1)
    assert (first.fileno(), sockets.of(1), sockets.has_waiting(1)) == (-1, (), False)
    second.listen()
    with socket.create_connection(("127.0.0.1", port_of(second)), 20):
        assert sockets.has_waiting(2)
    sockets.let_go(1)  # again: nothing happens
    sockets.close()


async def test_a_port_that_somebody_shares_is_taken_nevertheless(older: socket.socket) -> None:
    where = f"127.0.0.1:{port_of(older)}"
    with pytest.raises(ListenError) as raised:
        await bind_for(where, 2)
    assert str(raised.value) == f"cannot listen on {where} (setting listen): Address already in use"


async def test_a_port_in_time_wait_is_free() -> None:
    """After a gate has ended, connections that it closed first are remembered for a minute."""
    first = await bind_for("127.0.0.1:0", 2)
    (listening,) = first.of(1)
    listening.setblocking(True)
    listening.listen()
    port = port_of(listening)
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        served, _ = listening.accept()
        served.close()
        assert client.recv(1) == b""
    first.close()
    second = await bind_for(f"127.0.0.1:{port}", 2)
    assert port_of(second.of(1)[0]) == port
    second.close()


async def test_an_address_that_is_nowhere() -> None:
    with pytest.raises(ListenError, match=r"cannot listen on nowhere\.invalid:80 \(setting listen\): "):
        await bind_for("nowhere.invalid:80", 2)


async def test_a_unix_socket_is_one_for_all(tmp_path: Path) -> None:
    path = tmp_path / "gate.sock"
    sockets = await bind_for(f"unix:{path}", 3)
    (shared,) = sockets.of(1)
    assert sockets.of(2) == sockets.of(3) == (shared,)
    assert sockets.addresses("http") == [f"unix:{path}"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    sockets.let_go(2)
    assert not path.exists()  # nobody new comes
    assert shared.fileno() != -1  # but the others are still to take in who waits
    path.write_text("somebody else's")
    sockets.close()
    assert shared.fileno() == -1
    assert path.exists()


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match=r"\(setting listen\): No such file or directory"):
        await bind_for(f"unix:{tmp_path}/none/gate.sock", 2)


@pytest.mark.parametrize("platform", ["darwin", "freebsd14"])
def test_other_platforms_are_told_what_to_do(platform: str) -> None:
    assert sys.platform == "linux"
    with pytest.raises(GatekeeperError, match=r"several workers need Linux .*: set workers to 1"):
        run_workers(load(BASE + "workers: 2\n"), 2, platform)


def test_closing_twice_does_nothing() -> None:
    sockets = WorkerSockets({})
    sockets.close()
    sockets.close()
