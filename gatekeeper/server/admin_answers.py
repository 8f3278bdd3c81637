"""What an admin listener answers, whoever serves it: alive, ready, what was counted, and the keys of assertions.

There are these four addresses, for GET and HEAD; everything else is 404 or 405.  Imports neither aiohttp nor the rest
of the server: the supervisor of several workers answers the same.
"""

from http import HTTPStatus
from typing import Any, Protocol

import msgspec

from gatekeeper.core.assertion_keys import JWKS_MAX_AGE_S, JWKS_PATH

CHECK_TIMEOUT_S = 3.0
"""How long the store may take to answer; the stores' own limit is shorter and tells more."""

HINT = "; set admin.listen to another address, or to null to do without /healthz, /readyz and /metrics"
"""How the error ends when the address of the admin listener cannot be had."""

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "gatekeeper"}
_METHODS = ("GET", "HEAD")
_CACHING = f"public, max-age={JWKS_MAX_AGE_S}"


class Reporter(Protocol):
    """Whom an admin listener speaks for."""

    async def problems(self) -> list[str]:
        """Why it is not ready, or nothing."""
        ...

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """The metrics and their Content-Type, for a request with this Accept header ("" for none)."""
        ...

    async def jwks(self) -> bytes | None:
        """The public keys of assertions as a JWKS; None where there are none."""
        ...

    def safe(self, text: str) -> str:
        """The text as operators may see it."""
        ...


class AdminAnswer(msgspec.Struct, frozen=True):
    """Status, header fields and body; an answer to HEAD goes out without the body."""

    status: int
    headers: dict[str, str]
    body: bytes


async def admin_answer(reporter: Reporter, method: str, target: str, accept: str) -> AdminAnswer:
    """The answer to a request; `target` is as it came."""
    path = target.partition("?")[0]
    keys = await reporter.jwks() if path == JWKS_PATH else None
    if path not in ("/healthz", "/readyz", "/metrics") and keys is None:
        return admin_error(404)
    if method not in _METHODS:
        refused = admin_error(405)
        return msgspec.structs.replace(refused, headers=refused.headers | {"Allow": ", ".join(_METHODS)})
    if path == "/healthz":
        return _answer(200, "text/plain; charset=utf-8", b"ok")
    if keys is not None:
        answer = _answer(200, "application/json", keys)
        return msgspec.structs.replace(answer, headers=answer.headers | {"Cache-Control": _CACHING})
    if path == "/metrics":
        body, content_type = await reporter.metrics(accept)
        return _answer(200, content_type, body)
    problems = await reporter.problems()
    if not problems:
        return _json(200, {"ready": True})
    return _json(503, {"ready": False, "problems": [reporter.safe(problem) for problem in problems]})


def admin_error(status: int) -> AdminAnswer:
    """The answer to what cannot be answered otherwise."""
    return _json(status, {"error": HTTPStatus(status).phrase})


def _json(status: int, document: dict[str, Any]) -> AdminAnswer:
    return _answer(status, "application/json", msgspec.json.encode(document))


def _answer(status: int, content_type: str, body: bytes) -> AdminAnswer:
    return AdminAnswer(status, _HEADERS | {"Content-Type": content_type}, body)
