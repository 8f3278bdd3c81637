"""A running gate for tests: real listener, real SQLite file, real upstream."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gatekeeper.config.load import load_text
from gatekeeper.core.cookies import Keys, sign_value
from gatekeeper.server.app import Served, serve
from gatekeeper.server.gate import Gate

SECRET = "a-test-secret-of-more-than-32-bytes-0f3b"
COOKIE = "better-auth.session_token"
PATIENCE_S = 60.0

FOUR_LINES = """\
listen: 127.0.0.1:0
upstream: {upstream}
secret: {secret}
store: sqlite:///{database}
protect: [/dashboard, /settings]
"""

QUIET = {"admin": "{listen: null}", "log": "{access: false, file: /dev/null}"}
"""What a gate of a test does without, unless the test says otherwise: many run at the same time."""


FAST_LANE = os.environ.get("GATEKEEPER_FASTLANE") != "0"
"""As for the command: every test holds with the fast lane and without it."""


class RunningGate:
    """Where a gate listens, and the gate itself."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.url = served.addresses[0]
        self.port = int(self.url.rpartition(":")[2]) if "://" in self.url else 0
        self.gate: Gate = served.gate
        self.served = served

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"


@asynccontextmanager
async def running_gate(
    upstream: str,
    database: Path,
    more: str = "",
    *,
    text: str | None = None,
    patience_s: float | None = PATIENCE_S,
) -> AsyncIterator[RunningGate]:
    """A gate with the four-line configuration, or `text`, and further settings `more`.

    A test that waits for something that never comes gets a TimeoutError after `patience_s`.
    """
    base = text if text is not None else FOUR_LINES
    config = base.format(upstream=upstream, secret=SECRET, database=database) + more
    for name, quiet in QUIET.items():
        config += "" if f"\n{name}:" in config else f"{name}: {quiet}\n"
    settings = load_text(config, source="test.yaml", base_dir=database.parent, environ={})
    async with asyncio.timeout(patience_s), serve(settings, fast_lane=FAST_LANE) as served:
        yield RunningGate(served)


def cookie_value(token: str, secret: str = SECRET) -> str:
    """The signed cookie's value, as it stands in a Cookie header."""
    return sign_value(token, Keys([secret]))


def cookie_header(token: str, secret: str = SECRET) -> dict[str, str]:
    return {"Cookie": f"{COOKIE}={cookie_value(token, secret)}"}
