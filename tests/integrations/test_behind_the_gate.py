"""Both halves together: a real gate in front of every app of deploy/examples, and apps of all settings."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jwt
import pytest
from click.testing import CliRunner

from gatekeeper.cli import main
from gatekeeper.config.key_folder import KeyFolder
from gatekeeper.core.assertion_keys import MIN_ROTATION_MS
from gatekeeper.core.model import SessionToken
from gatekeeper.integrations import Reason, Verifier
from tests.attacks.judge import Response
from tests.better_auth_db import execute
from tests.integrations.behind import (
    DATA,
    JWKS,
    OPEN,
    PAGE,
    PUBLIC_URL,
    SECRET,
    SIGNED_IN,
    Behind,
    example_behind_a_gate,
    own_app,
    own_app_behind_a_gate,
)
from tests.integrations.examples import free_port, in_each_example
from tests.integrations.forgeries import Forger
from tests.integrations.gate import ISSUER, Clock, Key
from tests.server.accounts_gates import ACCOUNTS, Browser, migrate_at
from tests.server.conftest import TOKEN, USER_ID, database, now_ms
from tests.server.gates import FOUR_LINES

__all__ = ["database"]  # a fixture

HELLO = (200, f"Hello {USER_ID}".encode())
NOBODY = (200, b"Hello nobody")
UNCACHED = "session: {memory_cache: {max_age: 0}}\n"


def told(answer: Response) -> tuple[int, bytes]:
    return answer.status, answer.body


# --- through the gate ----------------------------------------------------------------------------------------------


@in_each_example
async def test_each_example_shows_who_is_signed_in(example: str, database: Path) -> None:
    async with example_behind_a_gate(example, database, OPEN + UNCACHED) as behind:
        assert told(await behind.ask("/dashboard", SIGNED_IN)) == HELLO
        assert told(await behind.ask("/", SIGNED_IN)) == HELLO
        mine = await behind.ask("/api/me", SIGNED_IN)
        whoami = await behind.ask("/.gatekeeper/whoami", SIGNED_IN)
        assert (mine.status, json.loads(mine.body)) == (200, json.loads(whoami.body))

        await is_nobody(behind)
        forged = ("X-Auth-User-Id: " + USER_ID, "X_Auth_Assertion: forged", "X-Auth-Status: authenticated")
        await is_nobody(behind, *forged)

        execute(database, "delete from session where token = ?", (TOKEN,))
        await is_nobody(behind, SIGNED_IN)


async def is_nobody(behind: Behind, *lines: str) -> None:
    """The app greets nobody, and its own guard answers as the gate does where that guards."""
    assert told(await behind.ask("/", *lines)) == NOBODY
    for path, name in (("/dashboard", "%2Fdashboard"), ("/api/me", "%2Fapi%2Fme")):
        page, data = await behind.ask(path, PAGE, *lines), await behind.ask(path, DATA, *lines)
        assert (page.status, page.values("location")) == (307, [f"/sign-in?callbackUrl={name}"])
        assert (data.status, data.values("content-type")) == (401, ["application/json"])
        document = json.loads(data.body)
        assert (document["error"], document["signInUrl"]) == ("Unauthorized", f"/sign-in?callbackUrl={name}")
        for answer in (page, data):
            assert answer.values("cache-control") == ["no-store"]


@in_each_example
async def test_a_public_path_has_nobody_and_is_no_error(example: str, database: Path) -> None:
    """Without `identity: optional` the gate tells nothing, whoever asks."""
    async with example_behind_a_gate(example, database, "") as behind:
        assert told(await behind.ask("/", SIGNED_IN)) == NOBODY
        assert told(await behind.ask("/")) == NOBODY
        assert (await behind.ask("/api/me", SIGNED_IN, DATA)).status == 401
        assert told(await behind.ask("/dashboard", SIGNED_IN)) == HELLO


@pytest.mark.parametrize("example", ["aiohttp_app.py", "node_app.mjs"])
async def test_accounts_mode(example: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'auth.db'}"
    await migrate_at(url)
    async with example_behind_a_gate(example, tmp_path / "auth.db", text=ACCOUNTS % url) as behind:
        browser = Browser(behind.gate.url, origin=ISSUER)
        user = await browser.sign_up()
        for path in ("/dashboard", "/"):
            assert told(await browser.ask("GET", path)) == (200, f"Hello {user['id']}".encode())
        document = json.loads((await browser.ask("GET", "/api/me")).body)
        assert (document["user"]["email"], document["user"]["emailVerified"]) == ("ada@example.test", False)
        kept = dict(browser.cookies)
        await browser.post("sign-out")
        for browser.cookies in ({}, kept):
            assert told(await browser.ask("GET", "/")) == NOBODY
            assert (await browser.ask("GET", "/api/me")).status == 401


# --- around the gate -----------------------------------------------------------------------------------------------


def is_refused_by_the_server(answer: Response) -> bool:
    """Some servers take no header as long or as odd as that of some forgeries."""
    return answer.status in (400, 431) and USER_ID.encode() not in answer.body


def forger_of(behind: Behind, right: str) -> Forger:
    """Whoever has an assertion that the gate made and what it publishes, and even its key."""
    key = behind.key()
    claims: dict[str, Any] = jwt.decode(right, options={"verify_signature": False})
    return Forger(key, Key(key.kid), claims, int(time.time()))


async def assertion_of(behind: Behind, upstream: str = "") -> str:
    """An assertion as the gate sends it to this upstream just now."""
    record = await behind.gate.gate.runtime.sessions.get(SessionToken(TOKEN), "")
    assert record is not None
    return behind.assertions.mint(record, upstream, now_ms()).line.decode().partition(": ")[2].strip()


@in_each_example
async def test_around_the_gate_there_is_nobody(example: str, database: Path) -> None:
    async with example_behind_a_gate(example, database) as behind:
        right = await assertion_of(behind)
        assert told(await behind.ask_around("/dashboard", f"X-Auth-Assertion: {right}")) == HELLO
        plain = ("X-Auth-User-Id: " + USER_ID, "X-Auth-Status: authenticated", "X-Auth-Email-Verified: true")
        served = Counter[bool]()
        accepted: list[str] = []
        for name, lines in [("nothing", ()), ("plain", plain), *forged_lines(behind, right)]:
            greeting, guarded = await behind.ask_around("/", *lines), await behind.ask_around("/api/me", *lines, PAGE)
            is_nobody = told(greeting) == NOBODY and guarded.status in (307, 401)
            served[is_nobody] += 1
            if not is_nobody and not (is_refused_by_the_server(greeting) and is_refused_by_the_server(guarded)):
                accepted.append(name)
        assert accepted == []
        assert served[True] >= 70


def forged_lines(behind: Behind, right: str) -> list[tuple[str, tuple[str, ...]]]:
    forgeries = forger_of(behind, right).forgeries()
    return [(one.name, tuple(f"X-Auth-Assertion: {value}" for value in one.lines)) for one in forgeries]


# --- keys ----------------------------------------------------------------------------------------------------------


def rotate(database: Path) -> None:
    """`gatekeeper keys rotate` with the configuration that the gate of this database has."""
    config = database.parent / "config.yaml"
    config.write_text(FOUR_LINES.format(upstream="http://127.0.0.1:9", secret=SECRET, database=database) + PUBLIC_URL)
    done = CliRunner().invoke(main, ["keys", "rotate", "-c", str(config)])
    assert done.exit_code == 0, done.output


@in_each_example
async def test_a_rotation_is_nothing_to_an_app_that_remembers_the_keys(example: str, database: Path) -> None:
    """It has fetched them a moment ago, and would not do so again for a minute."""
    KeyFolder(database.parent / "gatekeeper-keys").open("ES256", now_ms() - MIN_ROTATION_MS)
    async with example_behind_a_gate(example, database) as behind:
        before = behind.key().kid
        assert told(await behind.ask("/dashboard", SIGNED_IN)) == HELLO
        rotate(database)
        behind.notice_keys()
        assert behind.key().kid != before
        assert told(await behind.ask("/dashboard", SIGNED_IN)) == HELLO


async def test_two_rotations_refuse_nobody(database: Path) -> None:
    """Each as soon as the gate lets it: five minutes and ten seconds after the one before."""
    folder = KeyFolder(database.parent / "gatekeeper-keys")
    folder.open("ES256", now_ms() - 2 * MIN_ROTATION_MS)
    timer, kids = Clock(0.0), set[str]()
    async with own_app_behind_a_gate(database, timer=timer) as (behind, verifier):
        assert told(await behind.ask("/dashboard", SIGNED_IN)) == HELLO
        kids.add(behind.key().kid)
        folder.rotate("ES256", now_ms() - MIN_ROTATION_MS)
        behind.notice_keys()
        for timer.now in (1.0, MIN_ROTATION_MS / 1000 - 1.0):
            assert told(await behind.ask("/dashboard", SIGNED_IN)) == HELLO
            kids.add(behind.key().kid)
        timer.now += 1.0
        rotate(database)
        behind.notice_keys()
        kids.add(behind.key().kid)
        for _ in range(3):
            assert told(await behind.ask("/dashboard", SIGNED_IN)) == HELLO
    assert len(kids) == 3
    assert verifier.reasons == Counter()


# --- other settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256"])
async def test_each_algorithm(database: Path, algorithm: str) -> None:
    more = f"identity: {{assertion: {{algorithm: {algorithm}}}}}\n"
    async with own_app_behind_a_gate(database, more, algorithm=algorithm) as (behind, verifier):
        assert told(await behind.ask("/dashboard", SIGNED_IN)) == HELLO
        right = await assertion_of(behind)
        assert jwt.get_unverified_header(right)["alg"] == algorithm
        signed, _, signature = right.rpartition(".")
        flipped = f"{signed}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
        for path, wrong in (("/", flipped), ("/", f"{signed}."), ("/dashboard", flipped)):
            assert told(await behind.ask_around(path, f"X-Auth-Assertion: {wrong}")) == NOBODY
        assert verifier.reasons == Counter({Reason.BAD_SIGNATURE: 3})


@pytest.mark.parametrize(("signs", "expected"), [("EdDSA", "ES256"), ("ES256", "RS256"), ("RS256", "EdDSA")])
async def test_another_algorithm_than_the_apps_is_refused(database: Path, signs: str, expected: str) -> None:
    more = f"identity: {{assertion: {{algorithm: {signs}}}}}\n"
    async with own_app_behind_a_gate(database, more, algorithm=expected) as (behind, verifier):
        assert told(await behind.ask("/dashboard", SIGNED_IN)) == NOBODY
    assert verifier.reasons == Counter({Reason.BAD_ALGORITHM: 1})


async def test_what_one_app_got_is_nothing_to_another(database: Path) -> None:
    port = free_port()
    text = FOUR_LINES.replace("/settings]", "{{path: /settings, upstream: api}}]")
    more = f"upstreams: {{api: 'http://127.0.0.1:{port}'}}\n"
    async with own_app_behind_a_gate(database, more, text=text) as (behind, verifier):
        other = Verifier(ISSUER, audience="gatekeeper:api", jwks_url=behind.gate.url + JWKS)
        async with own_app(other, port):
            for path in ("/dashboard", "/settings"):
                assert told(await behind.ask(path, SIGNED_IN)) == HELLO
            api = Behind(behind.gate, port)
            for app, for_upstream, seen in ((behind, "", HELLO), (behind, "api", NOBODY), (api, "", NOBODY)):
                line = f"X-Auth-Assertion: {await assertion_of(behind, for_upstream)}"
                assert told(await app.ask_around("/", line)) == seen
            line = f"X-Auth-Assertion: {await assertion_of(behind, 'api')}"
            assert told(await api.ask_around("/", line)) == HELLO
    assert verifier.reasons == other.reasons == Counter({Reason.WRONG_AUDIENCE: 1})


@pytest.mark.parametrize("keys_path", [JWKS, "/.well-known/pomerium/jwks.json"])
async def test_names_of_another_proxy(database: Path, keys_path: str) -> None:
    name = "X-Pomerium-Jwt-Assertion"
    more = "identity: {headers: pomerium}\n"
    async with own_app_behind_a_gate(database, more, keys_path=keys_path, header=name) as (behind, verifier):
        assert told(await behind.ask("/dashboard", SIGNED_IN)) == HELLO
        right = await assertion_of(behind)
        assert told(await behind.ask_around("/", f"{name}: {right}")) == HELLO
        assert told(await behind.ask_around("/", f"X-Auth-Assertion: {right}")) == NOBODY
        assert told(await behind.ask("/", f"{name}: {right}")) == NOBODY  # the gate drops what a client sends
    assert verifier.reasons == Counter({Reason.MISSING: 2})


async def test_a_header_of_an_own_name(database: Path) -> None:
    more = "identity: {rename: {X-Auth-Assertion: X-Who}}\n"
    async with own_app_behind_a_gate(database, more, header="X-Who") as (behind, verifier):
        assert told(await behind.ask("/dashboard", SIGNED_IN, "X-Who: forged")) == HELLO
    assert verifier.reasons == Counter()


async def test_a_gate_whose_store_is_away_is_not_taken_for_a_signed_out_visitor(database: Path) -> None:
    async with example_behind_a_gate("aiohttp_app.py", database) as behind:
        database.write_bytes(b"no database")
        assert told(await behind.ask("/", SIGNED_IN)) == NOBODY
        for line in (PAGE, DATA):
            answer = await behind.ask("/api/me", SIGNED_IN, line)
            assert (answer.status, answer.values("retry-after")) == (503, ["5"])
