"""`gatekeeper health` against small servers: what it asks, what it says, how it ends."""

import json
import os
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from gatekeeper.cli import main
from gatekeeper.config.load import ConfigError
from gatekeeper.health import admin_address, ask_gate

WELL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PROBLEMS = b'{"ready": false, "problems": ["the session store is unavailable", "no feed"]}'
NOT_READY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n%s" % (len(PROBLEMS), PROBLEMS)
TIMEOUT_S = 20.0
"""Of the test itself; nothing here waits for it."""


class Answering:
    """Answers one connection with fixed bytes; `heads` are the requests that came."""

    def __init__(self, listener: socket.socket, answer: bytes) -> None:
        self.heads: list[bytes] = []
        self._listener = listener
        self._answer = answer

    def serve_one(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            head = b""
            while b"\r\n\r\n" not in head and (data := connection.recv(4096)):
                head += data
            self.heads.append(head)
            connection.sendall(self._answer)


@contextmanager
def answering(listener: socket.socket, answer: bytes) -> Generator[Answering, None, None]:
    listener.settimeout(TIMEOUT_S)
    server = Answering(listener, answer)
    thread = threading.Thread(target=server.serve_one)
    with listener:
        thread.start()
        yield server
        thread.join(TIMEOUT_S)


def write_config(folder: Path, listen: str, more: str = "") -> Path:
    path = folder / "config.yaml"
    path.write_text(f"admin:\n  listen: {json.dumps(listen)}\n{more}")
    return path


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("options", "asked_path", "word"),
    [
        pytest.param([], "/healthz", "healthy", id="lives"),
        pytest.param(["--ready"], "/readyz", "ready", id="ready"),
    ],
)
def test_a_gate_that_is_well(tmp_path: Path, options: list[str], asked_path: str, word: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{port_of(listener)}"
    with answering(listener, WELL) as server:
        result = CliRunner().invoke(main, ["health", *options, "-c", str(write_config(tmp_path, address))])
    assert result.output == f"{word}: http://{address}{asked_path} answered 200\n"
    assert result.exit_code == 0
    assert server.heads[0].startswith(b"GET %s HTTP/1.1\r\n" % asked_path.encode())


def test_a_gate_that_is_not_ready_says_why(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{port_of(listener)}"
    with answering(listener, NOT_READY):
        result = CliRunner().invoke(main, ["health", "--ready", "-c", str(write_config(tmp_path, address))])
    assert result.exit_code == 1
    reasons = "the session store is unavailable; no feed"
    assert result.stderr == f"not ready: http://{address}/readyz answered 503: {reasons}\n"


def test_json(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{port_of(listener)}"
    with answering(listener, NOT_READY):
        result = CliRunner().invoke(main, ["health", "--json", "-c", str(write_config(tmp_path, address))])
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "ok": False,
        "asked": f"http://{address}/healthz",
        "status": 503,
        "problems": ["the session store is unavailable", "no feed"],
    }


def test_who_listens_everywhere_is_asked_on_loopback(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = port_of(listener)
    with answering(listener, WELL):
        found = ask_gate(write_config(tmp_path, f"0.0.0.0:{port}"), {}, ready=False)
    assert found.as_line("healthy") == f"healthy: http://127.0.0.1:{port}/healthz answered 200"


@pytest.mark.parametrize(
    ("listen", "asked"),
    [
        pytest.param("[::]:9", "http://[::1]:9/healthz", id="every-address"),
        pytest.param("[::1]:9", "http://[::1]:9/healthz", id="ipv6"),
        pytest.param("localhost:9", "http://localhost:9/healthz", id="a-name"),
    ],
)
def test_where_it_is_asked(tmp_path: Path, listen: str, asked: str) -> None:
    assert ask_gate(write_config(tmp_path, listen), {}, ready=False).asked == asked


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    with answering(listener, WELL) as server:
        found = ask_gate(write_config(tmp_path, f"unix:{path}"), {}, ready=True)
    assert (found.ok, found.asked) == (True, f"unix:{path} /readyz")
    assert b"\r\nHost: localhost\r\n" in server.heads[0]


@pytest.mark.parametrize(
    ("answer", "status", "problems"),
    [
        pytest.param(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", 302, (), id="redirect"),
        pytest.param(b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\noops", 500, (), id="no-json"),
        pytest.param(b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n[]", 503, (), id="other-json"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", None, ("the answer is no HTTP",), id="something-else"),
        pytest.param(b"", None, ("the answer is no HTTP",), id="closed"),
    ],
)
def test_other_answers_are_not_well(tmp_path: Path, answer: bytes, status: int | None, problems: tuple[str]) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    config = write_config(tmp_path, f"127.0.0.1:{port_of(listener)}")
    with answering(listener, answer):
        found = ask_gate(config, {}, ready=False)
    assert (found.ok, found.status, found.problems) == (False, status, problems)


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = port_of(listener)
    found = ask_gate(write_config(tmp_path, f"127.0.0.1:{port}"), {}, ready=False)
    assert (found.ok, found.status, found.problems) == (False, None, ("Connection refused",))


def test_a_gate_that_hangs_counts_as_gone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts in the kernel, and never answers
        config = write_config(tmp_path, f"127.0.0.1:{port_of(listener)}")
        found = ask_gate(config, {}, ready=False, timeout_s=0.001)
    assert (found.ok, found.problems) == (False, ("no answer within 0.001 s",))


def test_faults_elsewhere_in_the_file_do_not_matter(tmp_path: Path) -> None:
    more = "  tokn: x\nupstrem: 5\nsecret: ${NOT_SET}\nprotect: nothing\n"
    assert admin_address(write_config(tmp_path, "127.0.0.1:1", more), {}) == "127.0.0.1:1"


def test_the_address_may_come_from_the_environment(tmp_path: Path) -> None:
    config = write_config(tmp_path, "127.0.0.1:${PORT}")
    assert admin_address(config, {"PORT": "9"}) == "127.0.0.1:9"
    with pytest.raises(ConfigError, match="PORT is not set"):
        admin_address(config, {})


def test_the_default_is_that_of_the_schema(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("upstream: http://127.0.0.1:3000\n")
    assert admin_address(config, {}) == "127.0.0.1:9091"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("admin: {listen: null}", "admin.listen is off: there is nobody to ask", id="off"),
        pytest.param("admin: {listen: nowhere}", "no address that can be asked: nowhere", id="no-address"),
        pytest.param("admin: {listen: '127.0.0.1:0'}", "no address that can be asked: 127.0.0.1:0", id="any-port"),
        pytest.param("admin: {listen: [1]}", "expected a text", id="a-list"),
        pytest.param("admin: here", "expected a mapping", id="a-text"),
        pytest.param("admin: [", "this is no YAML", id="no-yaml"),
        pytest.param("", "the file is empty", id="empty"),
    ],
)
def test_what_cannot_be_asked(tmp_path: Path, text: str, problem: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    result = CliRunner().invoke(main, ["health", "-c", str(config)], env=dict(os.environ))
    assert result.exit_code == 1
    assert result.stderr.startswith("not healthy: ")
    assert problem in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["health", "-c", str(tmp_path / "none.yaml")])
    assert result.exit_code == 1
    assert "none.yaml:1:1: cannot read it: No such file or directory" in result.stderr
