"""Captured calls of the real server, replayed against ours in their order: nothing differs but what is listed here.

Each kind of difference has its reason in docs/better-auth-compatibility.md, under the name that it has here.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import msgspec
import pytest

from gatekeeper.core.session_data_writing import SessionDataFormat
from gatekeeper.server.answers import Answer
from gatekeeper.stores.opening_accounts import open_accounts
from tests.server.auth.fakes import FakeAccounts
from tests.server.auth.replays import DEVICE, Replay, Transcript, differences, load, ms_of, settings_for
from tests.server.auth.rows import MemoryRows, Rows, SqliteRows
from tests.stores.account_places import SqliteAccounts
from tests.stores.opening import settings_on

DOCUMENT = Path(__file__).parents[3] / "docs" / "better-auth-compatibility.md"
COMPACT = SessionDataFormat("compact", "1", 300)
JWT = SessionDataFormat("jwt", "1", 300)


class Difference(msgspec.Struct, frozen=True):
    """What we answer otherwise, and of what kind that is: status, and code where there is one.

    `is_undone`: the store is put back after the call, so that what follows can be compared.
    """

    kind: str
    status: int
    code: str | None = None
    is_undone: bool = False


SLASHES, BY_ID, ORIGINS = "one-path", "revoke-by-id", "exact-origins"
STALE, TEXTS, UNREADABLE, UNSERVED = "no-stale-session-data", "text-fields", "no-empty-500", "calls-not-served"
OLDER = "older-links"

ENDPOINTS: dict[str, Difference] = {
    "double slash": Difference(SLASHES, 200),
    "revoke-session by id": Difference(BY_ID, 200, is_undone=True),
}
CHECKS: dict[str, Difference] = {
    "origin 'https://a.good.test'": Difference(ORIGINS, 403, "INVALID_ORIGIN"),
    "origin 'https://a.b.good.test'": Difference(ORIGINS, 403, "INVALID_ORIGIN"),
    "origin 'https://x.host.test:8443'": Difference(ORIGINS, 403, "INVALID_ORIGIN"),
    "origin 'http://x.host.test:8443'": Difference(ORIGINS, 403, "INVALID_ORIGIN"),
    "origin 'myapp://anything'": Difference(ORIGINS, 403, "INVALID_ORIGIN"),
    "callbackURL 'https://a.good.test/x'": Difference(ORIGINS, 403, "INVALID_CALLBACK_URL"),
}
MORE: dict[str, Difference] = {
    "update-user emailVerified": Difference(STALE, 400),
    "get-session with the session_data of before": Difference(STALE, 200),
    "update-user name a number": Difference(TEXTS, 400, "VALIDATION_ERROR"),
    "get-session after name a number": Difference(TEXTS, 200),
    "update-user name null": Difference(TEXTS, 400, "VALIDATION_ERROR"),
    "update-user name an object": Difference(TEXTS, 400, "VALIDATION_ERROR"),
    "verify-email no e-mail in the token": Difference(UNREADABLE, 401, "INVALID_TOKEN"),
    "verify-email bad e-mail in the token": Difference(UNREADABLE, 401, "INVALID_TOKEN"),
    "reset-password token in the query": Difference(OLDER, 400, "INVALID_TOKEN"),
    "change-email": Difference(UNSERVED, 404),
    "delete-user": Difference(UNSERVED, 404),
    "sign-in/social": Difference(UNSERVED, 404),
    "list-accounts": Difference(UNSERVED, 404),
    "account-info": Difference(UNSERVED, 404),
}

ADA, BOB = "Hi6S9rraIHeIRnN1vBUEIReA83O8vrVz", "zp1TpYfS9AYV0yqHuinEi6tKlS6x1m33"


def session(token: str, **dates: str | int) -> Callable[[Replay], None]:
    """Dates of the session were set to these, as the capture's own rows before the call say, or so long from now."""

    def edit(replay: Replay) -> None:
        at = {name: replay.now_ms + date if isinstance(date, int) else ms_of(date) for name, date in dates.items()}
        replay.rows.set_dates("session", token, at)

    return edit


EDITS: Mapping[str, Callable[[Replay], None]] = {
    "refresh not due (remaining = 86410s)": session(ADA, expiresAt="2026-11-25T03:11:05.791Z"),
    "refresh due (remaining = 86390s) disableRefresh": session(ADA, expiresAt="2026-11-25T03:10:45.796Z"),
    "refresh due (remaining = 86390s)": session(ADA, expiresAt="2026-11-25T03:10:45.799Z"),
    "list-sessions not fresh": session(ADA, createdAt=-86_400_000),
    "get-session expired in DB": session(ADA, expiresAt=-1),
    "get-session dont_remember and refresh due": session(BOB, expiresAt="2026-11-24T03:27:36.065Z"),
    "reset-password expired": lambda replay: replay.rows.end_links(),
}
"""What was done to rows of the database between two calls of the capture."""


async def _replay(replay: Replay, transcripts: list[Transcript], expected: Mapping[str, Difference]) -> set[str]:
    """Play them all, and compare; the names of those that differed as they were expected to."""
    differed: set[str] = set()
    for transcript in transcripts:
        name = transcript["name"]
        if name in EDITS:
            EDITS[name](replay)
        before = replay.rows.keep()
        ours = await replay.play(transcript)
        found = differences(transcript, ours, replay.settings.keys) + _store_differences(transcript, replay)
        difference = expected.get(name)
        if difference is None:
            assert not found, f"{name}: {found}"
            replay.settle(transcript)
        elif found:
            assert (ours.status, _code(ours)) == (difference.status, difference.code), name
            differed.add(name)
            if difference.is_undone:
                replay.rows.put_back(before)
    return differed


def _store_differences(transcript: Transcript, replay: Replay) -> list[str]:
    """In what the mail that was sent differs, and the sessions that there are afterwards."""
    if "sessions" not in transcript:
        return []
    sent = [(mail.url, mail.user.email) for mail in replay.mail.sent] if replay.mail is not None else []
    found = [] if sent == [(mail["url"], mail["to"]) for mail in transcript["mails"]] else [f"sent {sent}"]
    tokens = {row["token"] for row in transcript["sessions"]} ^ replay.rows.tokens()
    return found + [f"sessions {sorted(tokens)}"] * bool(tokens)


def _code(answer: Answer) -> str | None:
    document = msgspec.json.decode(answer.body) if answer.body else None
    return document.get("code") if isinstance(document, dict) else None


@pytest.fixture(params=["memory", "sqlite"])
async def rows(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rows]:
    """Rows of a store in memory, which other tests of the calls use, and of the real one."""
    if request.param == "memory":
        yield MemoryRows(FakeAccounts())
        return
    place = SqliteAccounts(tmp_path / "auth.db")
    await place.create("core")
    accounts, _ = open_accounts(settings_on(place.url))
    yield SqliteRows(accounts, tmp_path / "auth.db")
    await accounts.close()


async def test_all_calls_and_failures_of_the_capture(rows: Rows) -> None:
    vectors = load("auth-api.json")["endpoints"]
    config, transcripts = vectors["config"], vectors["transcripts"]
    replay = Replay(config["baseURL"], settings_for(config["secret"], None), transcripts, rows=rows)
    assert len(transcripts) == 116
    assert await _replay(replay, transcripts, ENDPOINTS) == set(ENDPOINTS)


async def test_order_of_checks_and_origins(rows: Rows) -> None:
    vectors = load("auth-api.json")
    transcripts = vectors["checksOrderAndOrigins"]
    trusted = frozenset({"https://app.example.test"})
    settings = settings_for(vectors["endpoints"]["config"]["secret"], COMPACT, trusted_origins=trusted)
    assert len(transcripts) == 57
    replay = Replay("http://127.0.0.1:3961", settings, transcripts, rows=rows)
    assert await _replay(replay, transcripts, CHECKS) == set(CHECKS)


@pytest.mark.parametrize(
    ("server", "form", "count", "expected"),
    [
        pytest.param("mail", COMPACT, 163, MORE, id="accounts-passwords-and-mail"),
        pytest.param("quiet", COMPACT, 10, {}, id="no-mail-and-no-sign-up"),
        pytest.param("mailjwt", JWT, 4, {}, id="session-data-as-jwt"),
    ],
)
async def test_what_the_wire_page_does_not_have(
    rows: Rows, server: str, form: SessionDataFormat, count: int, expected: Mapping[str, Difference]
) -> None:
    vectors = load("auth-api-more.json")
    config = vectors["config"]
    transcripts = [transcript for transcript in vectors["transcripts"] if transcript["server"] == server]
    assert len(transcripts) == count
    settings = settings_for(config["secret"], form, sign_up=server != "quiet")
    origin = f"http://127.0.0.1:{config['ports'][server]}"
    replay = Replay(origin, settings, transcripts, with_mail=server != "quiet", rows=rows)
    assert await _replay(replay, transcripts, expected) == set(expected)


def test_comparison_sees_what_differs() -> None:
    """A comparison that finds nothing anywhere would let everything pass."""
    transcript = load("auth-api.json")["endpoints"]["transcripts"][12]
    keys = settings_for("another-secret-of-the-tests", None).keys
    ours = Answer(201, ((b"Content-Type", b"application/json"), (b"Set-Cookie", b"a=b")), b'{"token":"x"}')
    found = " ".join(differences(transcript, ours, keys))
    for part in ("status 200 -> 201", "cookies [", "body has"):
        assert part in found


async def test_every_answer_is_kept_by_nobody_and_read_as_what_it_says() -> None:
    """Better Auth says so of get-session alone."""
    vectors = load("auth-api.json")["endpoints"]
    config, transcripts = vectors["config"], vectors["transcripts"]
    replay = Replay(config["baseURL"], settings_for(config["secret"], None), transcripts)
    for transcript in transcripts[:40]:
        ours = await replay.play(transcript)
        assert (b"Cache-Control", b"no-store") in ours.headers
        assert not ours.body or (b"X-Content-Type-Options", b"nosniff") in ours.headers
        is_sign_in = b'"token"' in ours.body and ours.status == 200
        device = [value for name, value in ours.headers if name == b"Set-Cookie" and value.startswith(DEVICE.encode())]
        assert len(device) == is_sign_in


def test_each_kind_of_difference_is_explained() -> None:
    text = DOCUMENT.read_text()
    kinds = {difference.kind for table in (ENDPOINTS, CHECKS, MORE) for difference in table.values()}
    assert not [kind for kind in kinds if f"\n### {kind}\n" not in text]
