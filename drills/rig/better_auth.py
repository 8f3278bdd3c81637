"""The real better-auth on the store of a drill, and its own calls that end sessions."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from rig.gate import SECRET, cookie_of

FOLDER = Path(__file__).parents[2] / "tests" / "real"
START_S = 60.0


class BetterAuth:
    """Calls of the app's API on this origin.  Each raises RuntimeError where the app does not do it."""

    def __init__(self, origin: str, http: aiohttp.ClientSession) -> None:
        self._origin = origin
        self._http = http

    async def sign_out(self, token: str) -> None:
        """As the session itself."""
        await self._call("sign-out", token, {}, "success")

    async def revoke_session(self, token: str, by: str) -> None:
        """As another session of the same user, whose token is `by`."""
        await self._call("revoke-session", by, {"token": token}, "status")

    async def _call(self, name: str, caller: str, body: Mapping[str, str], flag: str) -> None:
        field, _, value = cookie_of(caller).partition(": ")
        headers = {field: value, "Origin": self._origin}
        async with self._http.post(f"{self._origin}/api/auth/{name}", json=body, headers=headers) as answer:
            text = await answer.text()
            if answer.status != 200 or json.loads(text).get(flag) is not True:
                raise RuntimeError(f"the app answered {name} with {answer.status} {text[:200]}")


@asynccontextmanager
async def running_better_auth(options: Mapping[str, str]) -> AsyncIterator[BetterAuth]:
    """A better-auth server with these options of `server.mjs`, ended with the block."""
    process = await asyncio.create_subprocess_exec(
        *("node", "server.mjs", json.dumps({"secret": SECRET, **options})), cwd=FOLDER, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_S)
        if not line.startswith(b"READY "):
            raise RuntimeError(f"better-auth did not start: {line!r}")
        async with aiohttp.ClientSession() as http:
            yield BetterAuth(f"http://127.0.0.1:{int(line.split()[1])}", http)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
