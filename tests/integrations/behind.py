"""An app behind a running gate, asked through it and around it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gatekeeper.core.assertion_keys import SigningKey
from gatekeeper.integrations import Verifier
from gatekeeper.integrations import aiohttp as for_aiohttp
from gatekeeper.server.app import sign_anew
from gatekeeper.server.assertions import Assertions
from tests.attacks.judge import Response
from tests.integrations.examples import free_port, running
from tests.integrations.gate import ISSUER, Key
from tests.server.conftest import TOKEN
from tests.server.gates import COOKIE, FOUR_LINES, RunningGate, cookie_value, running_gate
from tests.server.wire import ask

SECRET = "kJ8vQ2mX5tR9wZ3bN6yC1pL4fH7gD0sA"
"""With an https `public_url`, a gate takes no secret that looks like an example."""

PUBLIC_URL = f"public_url: {ISSUER}\n"
OPEN = "public: [{path: /, identity: optional}, {path: /api/me, identity: optional}]\n"
"""What is left to the app's own guard."""

JWKS = "/.well-known/gatekeeper/jwks.json"
SIGNED_IN = f"Cookie: __Secure-{COOKIE}={cookie_value(TOKEN, SECRET)}"
PAGE, DATA = "Accept: text/html", "Accept: application/json"


class Behind:
    """A gate, and the port of the app behind it."""

    def __init__(self, gate: RunningGate, port: int) -> None:
        self.gate = gate
        self.port = port

    async def ask(self, path: str, *lines: str) -> Response:
        """The answer to a GET through the gate."""
        return await ask(self.gate.port, "GET", path, *lines)

    async def ask_around(self, path: str, *lines: str) -> Response:
        """The answer to a GET at the app's own port."""
        return await ask(self.port, "GET", path, *lines)

    @property
    def assertions(self) -> Assertions:
        found = self.gate.gate.runtime.assertions
        assert found is not None
        return found

    def key(self) -> Key:
        """The key that signs now, as forgers would like to have it."""
        signing: SigningKey = self.assertions.keys.ring.current
        private = load_pem_private_key(signing.to_pem().encode(), None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        return Key(signing.kid, private)

    def notice_keys(self) -> None:
        """Use the keys that the folder has now: what a gate does within a second."""
        assert self.assertions.keys.look()
        sign_anew(self.gate.gate, self.gate.served.server)


@asynccontextmanager
async def example_behind_a_gate(
    example: str, database: Path, more: str = OPEN, *, text: str = FOUR_LINES
) -> AsyncIterator[Behind]:
    """An example of deploy/examples behind a gate with the four-line configuration, `public_url` and `more`."""
    port = free_port()
    async with (
        running_gate(
            f"http://127.0.0.1:{port}",
            database,
            PUBLIC_URL + more,
            text=text.replace("{secret}", SECRET),
            patience_s=None,
        ) as gate,
        running(example, gate.url + JWKS, port=port),
    ):
        yield Behind(gate, port)


@asynccontextmanager
async def own_app_behind_a_gate(
    database: Path, more: str = "", *, text: str = FOUR_LINES, keys_path: str = JWKS, **options: Any
) -> AsyncIterator[tuple[Behind, Verifier]]:
    """An app of this process behind a gate; `options` are its verifier's."""
    port = free_port()
    text = text.replace("{secret}", SECRET)
    async with running_gate(f"http://127.0.0.1:{port}", database, PUBLIC_URL + more, text=text) as gate:
        verifier = Verifier(ISSUER, jwks_url=gate.url + keys_path, **options)
        async with own_app(verifier, port):
            yield Behind(gate, port), verifier


@asynccontextmanager
async def own_app(verifier: Verifier, port: int) -> AsyncIterator[None]:
    """An app that greets on each path, on this port."""

    async def hello(request: web.Request) -> web.Response:
        found = for_aiohttp.user(request)
        return web.Response(text=f"Hello {found.id if found else 'nobody'}")

    own = web.Application(middlewares=[for_aiohttp.gatekeeper(verifier)])
    own.router.add_get("/{rest:.*}", hello)
    runner = web.AppRunner(own, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()
