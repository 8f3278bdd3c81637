"""One request of a workload, before it is measured: is the answer the one that counts?"""

import base64
import http.client
import os
import socket

from bench.echo import accept_value
from bench.workloads import Workload


class WrongAnswer(Exception):
    """The proxy does not do what the workload asks; the message says what it did."""


def headers_of(workload: Workload, cookie: str, *, json_denials: bool = False) -> dict[str, str]:
    """The headers of a workload's requests, but for Host and Content-Length."""
    headers = dict(workload.headers)
    if workload.with_cookie:
        headers["Cookie"] = cookie
    if json_denials and workload.name == "denied":
        headers["Accept"] = "application/json"
    return headers


def probe(port: int, workload: Workload, headers: dict[str, str]) -> int:
    """Send the request once; the whole length of the answer in bytes.  Raises WrongAnswer."""
    if workload.name == "websocket":
        return _shake_hands(port, workload, headers)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        body = b"x" * workload.sends if workload.sends else None
        connection.request(workload.method, workload.path, body, headers)
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise WrongAnswer(f"no answer: {type(error).__name__}") from error
    finally:
        connection.close()
    if response.status not in workload.statuses:
        raise WrongAnswer(f"answered {response.status}")
    if workload.answers is not None and len(content) != workload.answers:
        raise WrongAnswer(f"answered {len(content)} bytes instead of {workload.answers}")
    head = sum(len(name) + len(value) + 4 for name, value in response.getheaders())
    return len(f"HTTP/1.1 {response.status} {response.reason}\r\n\r\n") + head + len(content)


def handshake(workload: Workload, port: int, headers: dict[str, str], key: bytes) -> bytes:
    """The request that opens a WebSocket, as a page of the own origin sends it."""
    lines = [f"GET {workload.path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Origin: http://127.0.0.1:{port}"]
    lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    lines += [f"Sec-WebSocket-Key: {key.decode()}"]
    own = headers | {"Sec-Fetch-Mode": "websocket", "Sec-Fetch-Dest": "empty", "Accept": "*/*"}
    lines += [f"{name}: {value}" for name, value in own.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def _shake_hands(port: int, workload: Workload, headers: dict[str, str]) -> int:
    key = base64.b64encode(os.urandom(16))
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(handshake(workload, port, headers, key))
            received = b""
            while b"\r\n\r\n" not in received and (data := client.recv(65_536)):
                received += data
    except OSError as error:
        raise WrongAnswer(f"no answer to the handshake: {type(error).__name__}") from error
    status = received.split(b" ", 2)[1].decode() if received.startswith(b"HTTP/1.1 ") else "nothing"
    if status != "101":
        raise WrongAnswer(f"answered {status} to the handshake")
    if accept_value(key) not in received:
        raise WrongAnswer("answered the handshake with a wrong key")
    return len(received)
