"""A gate's half in miniature: keys, assertions made by another library than the one under test, and their JWKS.

Assertions are put together and signed by hand, so that each part of one can be wrong.
"""

import json
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from gatekeeper.integrations import Verifier
from gatekeeper.integrations.jwks import Fetched
from gatekeeper.server.documents import session_document, user_document
from tests.core.records import NOW_MS, record

ISSUER = "https://app.example.com"
NOW = NOW_MS // 1000
RECORD = record({"ip_address": "203.0.113.7", "user_agent": "Firefox"}, name="Ada Łoś", role="admin,editor")


def encoded(data: bytes | dict[str, Any]) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data, separators=(",", ":")).encode()
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


class Key:
    """A P-256 key under an id, a new one unless said."""

    def __init__(self, kid: str, private: ec.EllipticCurvePrivateKey | None = None) -> None:
        self.kid = kid
        self.private = private or ec.generate_private_key(ec.SECP256R1())

    def jwk(self) -> dict[str, Any]:
        point = self.private.public_key().public_numbers()
        x, y = (encoded(value.to_bytes(32, "big")) for value in (point.x, point.y))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y, "use": "sig", "alg": "ES256", "kid": self.kid}

    def sign(self, signed: str) -> bytes:
        r, s = decode_dss_signature(self.private.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


KEY = Key("key-1")
STRANGER = Key("key-1")
"""Another key under the same id."""


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a right assertion, made at NOW, but for these changes; None takes a claim away."""
    usual: dict[str, Any] = {
        "iss": ISSUER,
        "aud": ISSUER,
        "sub": RECORD.user.id,
        "sid": "0" * 32,
        "iat": NOW,
        "nbf": NOW - 30,
        "exp": NOW + 120,
        "jti": "AAAAAAAAAAAAAAAAAAAAAA",
        "email": RECORD.user.email,
        "email_verified": True,
        "name": RECORD.user.name,
        "roles": ["admin", "editor"],
        "user": user_document(RECORD.user),
        "session": session_document(RECORD.session),
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def header(**changes: Any) -> dict[str, Any]:
    usual = {"alg": "ES256", "kid": KEY.kid, "typ": "gk+jwt"}
    return {name: value for name, value in (usual | changes).items() if value is not None}


def mint(
    payload: dict[str, Any] | bytes | None = None, head: dict[str, Any] | bytes | None = None, *, key: Key = KEY
) -> str:
    """An assertion, by default a right one."""
    signed = f"{encoded(header() if head is None else head)}.{encoded(claims() if payload is None else payload)}"
    return f"{signed}.{encoded(key.sign(signed))}"


def jwks(*keys: Key) -> bytes:
    return json.dumps({"keys": [key.jwk() for key in keys]}).encode()


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class KeysInMemory:
    """Stands for fetching: answers with `body`, or fails where that is None; counts how often."""

    def __init__(self, body: bytes | None, cache_control: str | None = "public, max-age=300") -> None:
        self.body = body
        self.cache_control = cache_control
        self.fetches = 0

    def __call__(self, url: str) -> Fetched:
        self.fetches += 1
        if self.body is None:
            raise OSError("refused")
        return Fetched(self.body, self.cache_control)


def verifier(**changes: Any) -> Verifier:
    """A verifier that knows KEY, at the moment NOW."""
    usual: dict[str, Any] = {"clock": Clock(NOW), "timer": Clock(0.0), "fetch": KeysInMemory(jwks(KEY))}
    return Verifier(ISSUER, **(usual | changes))


class KeysServer:
    """What the server of `keys_server` answers, and how often it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 200
        self.headers = {"Cache-Control": "public, max-age=300"}
        self.body = jwks(KEY)
        self.asked = 0


@contextmanager
def keys_server() -> Iterator[KeysServer]:
    """A real HTTP server with the keys, on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked += 1
            self.send_response(served.status)
            for name, value in served.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(served.body)))
            self.end_headers()
            self.wfile.write(served.body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = KeysServer(f"http://127.0.0.1:{server.server_port}/.well-known/gatekeeper/jwks.json")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
