"""Opens connections that have one answer each and then say nothing.  `python -m bench.idle ORDER`, JSON.

Prints `ready` once all are open, and holds them until it is ended.  They come from several addresses of 127.0.0.0/8,
since proxies may limit the connections of one address.
"""

import json
import socket
import sys
import time

ADDRESSES = 8
HOLD_S = 60


def source_of(number: int) -> str:
    """The address from which connection `number` comes."""
    return f"127.0.0.{2 + number % ADDRESSES}"


def open_one(number: int, port: int, request: bytes) -> socket.socket:
    """A connection that has had its answer.  Raises OSError."""
    client = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source_of(number), 0))
    client.sendall(request)
    received = b""
    while not _is_whole(received):
        data = client.recv(65_536)
        if not data:
            raise ConnectionError("the answer ended too early")
        received += data
    return client


def request_of(port: int, path: str, headers: dict[str, str]) -> bytes:
    """A GET request as it stands on the wire."""
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *(f"{name}: {text}" for name, text in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def answer_length(received: bytes) -> int | None:
    """The whole length of the answer that begins here; None while its head is not there.

    Raises ConnectionError for another status than 200, or an answer without Content-Length.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    if not received.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(f"answered {received[:15]!r}")
    head = received[:end].lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise ConnectionError("the answer has no Content-Length")
    return end + 4 + int(head[at + 17 :].split(b"\r\n", 1)[0])


def _is_whole(received: bytes) -> bool:
    length = answer_length(received)
    return length is not None and len(received) >= length


def main() -> None:
    order = json.loads(sys.argv[1])
    request = request_of(order["port"], order["path"], order["headers"])
    clients = [open_one(number, order["port"], request) for number in range(order["connections"])]
    print("ready", flush=True)
    time.sleep(HOLD_S)
    for client in clients:
        client.close()


if __name__ == "__main__":
    main()
