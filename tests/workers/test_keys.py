"""Workers sign with the same keys, whether a folder has them or the supervisor alone."""

import time
from pathlib import Path

import jwt
import pytest

from gatekeeper.config.key_folder import KeyFolder
from tests.server.conftest import TOKEN
from tests.server.gates import cookie_header
from tests.server.upstreams import RecordingUpstream
from tests.server.wire import ask, mirrored
from tests.workers.running import workers, write_config
from tests.workers.test_workers import MANY

ORIGIN = "http://127.0.0.1"
JWKS = "/.well-known/gatekeeper/jwks.json"


@pytest.mark.parametrize("place", ["folder", "memory"])
async def test_all_workers_have_the_same_keys(database: Path, upstream: RecordingUpstream, place: str) -> None:
    folder = database.parent / "gatekeeper-keys"
    if place == "memory":
        folder.symlink_to("/nowhere/at/all")  # nobody, not even root, can make a folder of that name
    config = write_config(database, upstream.url, f"public_url: {ORIGIN}\n")
    signed_in = f"Cookie: {cookie_header(TOKEN)['Cookie']}"
    async with workers(config) as gate:
        sets = {(await ask(gate.port, "GET", JWKS)).body for _ in range(MANY)}
        seen = [mirrored(await ask(gate.port, "GET", "/dashboard", signed_in))["headers"] for _ in range(MANY)]
        warned = [message for message in gate.messages if "replicas must share a folder" in message]
        shown = (await gate.admin(JWKS)).body
        if place == "folder":
            KeyFolder(folder).rotate("ES256", time.time_ns() // 1_000_000, force=True)
        later = (await gate.admin(JWKS)).body
        assert await gate.stop() == 0
    (published,) = sets
    assert shown == published
    assert (later != published) is (place == "folder")
    keys = jwt.PyJWKSet.from_json(published.decode())
    assert len({headers["x-request-id"][:8] for headers in seen}) == 2  # both have answered
    for headers in seen:
        token = headers["x-auth-assertion"]
        key = keys[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(token, key, algorithms=["ES256"], audience=ORIGIN, issuer=ORIGIN, leeway=30)
        assert claims["sub"] == "user-ada"
    assert len({headers["x-auth-assertion"] for headers in seen}) == 2  # each worker signs its own
    assert len(warned) == (1 if place == "memory" else 0)
    assert folder.is_dir() is (place == "folder")
