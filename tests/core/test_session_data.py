"""Session_data cookies: Better Auth's captured verdicts in three strategies, and what no key holder ever wrote."""

import base64
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import OctKey

from gatekeeper.core import cookies, session_data
from gatekeeper.core.cookies import Keys
from gatekeeper.core.model import Session, SessionRecord, User
from gatekeeper.core.session_data import SessionDataCookie, SessionDataFault, decode

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "session-data.json").read_text(encoding="utf-8"))
CURRENT: str = VECTORS["secrets"]["current"]
OLD: str = VECTORS["secrets"]["old"]
KEYS = Keys([CURRENT])
NAMES = cookies.cookie_names("better-auth", secure=False)
STRATEGIES: list[session_data.Strategy] = ["compact", "jwt", "jwe"]
NOW_MS = 1795490424000

TOO_LARGE = SessionDataFault.TOO_LARGE
UNDECODABLE = SessionDataFault.UNDECODABLE
BAD_SIGNATURE = SessionDataFault.BAD_SIGNATURE
UNKNOWN_KEY = SessionDataFault.UNKNOWN_KEY
SCHEMA = SessionDataFault.SCHEMA
VERSION = SessionDataFault.VERSION
NOT_YET_VALID = SessionDataFault.NOT_YET_VALID
EXPIRED = SessionDataFault.EXPIRED
SESSION_EXPIRED = SessionDataFault.SESSION_EXPIRED


# --- making cookies ------------------------------------------------------------------------------------------------


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def to_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime(f"%Y-%m-%dT%H:%M:%S.{ms % 1000:03}Z")


def payload(session: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    """A payload as Better Auth writes it, with changes; a key changed to ... is left out."""
    created = iso(NOW_MS - 5000)
    fields = {
        "session": {
            "expiresAt": iso(NOW_MS + 60_000),
            "token": "T" * 32,
            "createdAt": created,
            "updatedAt": iso(NOW_MS - 4000),
            "ipAddress": "",
            "userAgent": "curl",
            "userId": "user-1",
            "id": "session-1",
            **(session or {}),
        },
        "user": {
            "name": "Ada",
            "email": "ada@example.test",
            "emailVerified": False,
            "image": None,
            "createdAt": created,
            "updatedAt": iso(NOW_MS - 3000),
            "id": "user-1",
            **(user or {}),
        },
        "updatedAt": NOW_MS - 1000,
        "version": "1",
        **top,
    }
    return without_left_out(fields)


def without_left_out(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_left_out(inner) for key, inner in value.items() if inner is not ...}
    return value


def compact_of(text: str, expires_at: object = NOW_MS + 1000, secret: str = CURRENT) -> str:
    """A compact cookie around the text of a payload."""
    mac = hmac.digest(secret.encode(), f'{text[:-1]},"expiresAt":{expires_at}}}'.encode(), "sha256")
    return b64(f'{{"session":{text},"expiresAt":{expires_at},"signature":"{b64(mac)}"}}'.encode())


def jws_of(body: bytes, header: Any, secret: str = CURRENT, digest: str = "sha256") -> str:
    signed = f"{b64(header if isinstance(header, bytes) else to_json(header).encode())}.{b64(body)}"
    return f"{signed}.{b64(hmac.digest(secret.encode(), signed.encode(), digest))}"


def jwe_of(body: bytes, header: dict[str, Any] | None = None, secret: str = CURRENT) -> str:
    kid, key = Keys([secret]).data_keys[0]
    protected = {"alg": "dir", "enc": "A256CBC-HS512", "kid": kid, **(header or {})}
    registry = jwe.JWERegistry(algorithms=["dir", "A256CBC-HS512", "DEF"], strict_check_header=False)
    return jwe.encrypt_compact(without_left_out(protected), body, OctKey.import_key(key), registry=registry)


def make(strategy: str, fields: dict[str, Any], secret: str = CURRENT) -> str:
    if strategy == "compact":
        return compact_of(to_json(fields), secret=secret)
    body = to_json({"exp": NOW_MS // 1000 + 1, "iat": NOW_MS // 1000, **fields}).encode()
    return jws_of(body, {"alg": "HS256"}, secret) if strategy == "jwt" else jwe_of(body, secret=secret)


def judge(raw: str, strategy: session_data.Strategy, **changed: Any) -> SessionDataCookie | SessionDataFault:
    return decode(raw, **{"keys": KEYS, "strategy": strategy, "version": "1", "now_ms": NOW_MS, **changed})


def record_of(decoded: dict[str, Any]) -> SessionRecord:
    """The record that a captured payload stands for."""
    session, user = decoded["session"], decoded["user"]
    return SessionRecord(
        Session(
            id=session["id"],
            token=session["token"],
            user_id=session["userId"],
            expires_at_ms=ms(session["expiresAt"]),
            created_at_ms=ms(session["createdAt"]),
            updated_at_ms=ms(session["updatedAt"]),
            ip_address=session["ipAddress"],
            user_agent=session["userAgent"],
        ),
        User(
            id=user["id"],
            name=user["name"],
            email=user["email"],
            email_verified=user["emailVerified"],
            image=user["image"],
            created_at_ms=ms(user["createdAt"]),
            updated_at_ms=ms(user["updatedAt"]),
        ),
    )


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


# --- captured: cookies and the server's verdicts -------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_captured_cookie(strategy):
    captured = VECTORS["cookieCache"][strategy]
    inner = captured["decoded"]["session"] if strategy == "compact" else captured["decoded"]
    end_ms = captured["decoded"]["expiresAt"] if strategy == "compact" else captured["decoded"]["exp"] * 1000
    expected = SessionDataCookie(record_of(inner), inner["updatedAt"], "1", end_ms)
    raw = captured["sessionDataCookie"]
    assert judge(raw, strategy, now_ms=inner["updatedAt"]) == expected
    assert judge(raw, strategy, now_ms=end_ms - 1) == expected
    assert judge(raw, strategy, now_ms=end_ms) == (EXPIRED if strategy == "jwt" else expected)
    assert judge(raw, strategy, now_ms=end_ms + 1) is EXPIRED
    assert judge(raw, strategy, now_ms=inner["updatedAt"], version="2") is VERSION
    wrong = UNKNOWN_KEY if strategy == "jwe" else BAD_SIGNATURE
    assert judge(raw, strategy, now_ms=inner["updatedAt"], keys=Keys([OLD])) is wrong
    assert expected.record.session.token == cookies.verify_value(captured["sessionTokenCookie"], KEYS)


@pytest.mark.parametrize(
    ("strategy", "lifetime_ms"), [("compact", 60_000), ("jwt", 300_000), ("jwe", 300_000)], ids=STRATEGIES
)
def test_captured_cookie_of_a_browser_session(strategy, lifetime_ms):
    lines = dict(
        line.partition(";")[0].split("=", 1) for line in VECTORS["cookieCache"][strategy]["setCookieRememberMeFalse"]
    )
    now_ms = ms("2026-11-24T03:12:10.000Z")
    cookie = judge(lines[NAMES.session_data], strategy, now_ms=now_ms)
    assert isinstance(cookie, SessionDataCookie)
    assert cookie.expires_at_ms // 1000 == (cookie.updated_at_ms + lifetime_ms) // 1000
    assert cookies.verify_value(lines[NAMES.dont_remember], KEYS) == "true"


def served_from_cache(transcript: dict[str, Any]) -> bool:
    """Better Auth's answer from the cookie lists the session's id first, one from this store its expiresAt."""
    return transcript["body"].startswith('{"session":{"id":')


TRANSCRIPTS = [
    pytest.param(strategy, transcript, id=f"{strategy}: {transcript['name']}")
    for strategy in STRATEGIES
    for transcript in VECTORS["cookieCache"][strategy]["transcripts"]
]


@pytest.mark.parametrize(("strategy", "transcript"), TRANSCRIPTS)
def test_captured_get_session(strategy, transcript):
    """The server served the cookie exactly if it decodes, belongs to a verified token, and was not to be bypassed."""
    header = transcript["cookie"]
    raw = cookies.find_session_data(header, NAMES.session_data)
    cookie = judge(raw, strategy, now_ms=ms("2026-11-24T03:12:10.000Z"))
    token = cookies.verify_token(cookies.find_cookie(header, NAMES.session_token) or "", KEYS)
    usable = isinstance(cookie, SessionDataCookie) and token is not None and cookie.record.session.token == token.token
    bypassed = transcript["path"].partition("disableCookieCache=")[2] != ""
    assert (usable and not bypassed) == served_from_cache(transcript)


def test_captured_get_session_holds_every_verdict():
    verdicts = {transcript["name"]: served_from_cache(transcript) for _, transcript in (p.values for p in TRANSCRIPTS)}
    assert verdicts["get-session served from cache"]
    assert verdicts["get-session chunked out of order"]
    assert not verdicts["get-session tampered cache"]
    assert not verdicts["get-session A's cache with B's token"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_captured_expired_cookie(strategy):
    captured = VECTORS["cookieCache"][strategy]["expired"]
    assert captured["transcripts"]
    assert not any(served_from_cache(transcript) for transcript in captured["transcripts"])
    assert judge(captured["sessionData"], strategy, now_ms=ms("2026-11-24T03:12:40.000Z")) is EXPIRED
    assert isinstance(
        judge(captured["sessionData"], strategy, now_ms=ms("2026-11-24T03:12:10.000Z")), SessionDataCookie
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_captured_other_version(strategy):
    captured = VECTORS["cookieCache"][strategy]["version7"]
    assert not any(served_from_cache(transcript) for transcript in captured["transcripts"])
    now_ms = ms("2026-11-24T03:12:10.000Z")
    cookie = judge(captured["sessionData"], strategy, version="7", now_ms=now_ms)
    assert isinstance(cookie, SessionDataCookie)
    assert cookie.version == "7"
    assert judge(captured["sessionData"], strategy, version="8", now_ms=now_ms) is VERSION


@pytest.mark.parametrize("case", [pytest.param(case, id=case["case"]) for case in VECTORS["chunking"]])
def test_captured_chunks(case):
    strategy = case["case"].partition(" ")[2]
    lines = [line.partition(";")[0] for line in case["signUpSetCookie"]]
    now_ms = ms("2026-11-24T03:12:40.000Z")
    for header in ("; ".join(lines), "; ".join(reversed(lines)), case["getSession"]["cookie"]):
        cookie = judge(cookies.find_session_data(header, NAMES.session_data), strategy, now_ms=now_ms)
        assert isinstance(cookie, SessionDataCookie)
        token = cookies.verify_token(cookies.find_cookie(header, NAMES.session_token), KEYS)
        assert cookie.record.session.token == token.token
    incomplete = cookies.find_session_data("; ".join(lines[:-1]), NAMES.session_data)
    assert judge(incomplete, strategy, now_ms=now_ms) in (UNDECODABLE, BAD_SIGNATURE)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_captured_rotation(strategy):
    captured = VECTORS["secretRotation"][strategy]
    now_ms = ms("2026-11-24T03:13:05.000Z")
    both = Keys([CURRENT, OLD])
    old_raw = captured["oldSecretCookies"][NAMES.session_data]
    new_raw = captured["newSecretCookies"][NAMES.session_data]
    new, old = (judge(raw, strategy, keys=both, now_ms=now_ms) for raw in (new_raw, old_raw))
    assert isinstance(new, SessionDataCookie)
    assert new.key_index == 0
    resigned = captured["transcripts"][-1]
    assert resigned["name"].startswith("same token re-signed with new secret")
    assert served_from_cache(resigned) == isinstance(old, SessionDataCookie)
    if isinstance(old, SessionDataCookie):
        assert (strategy, old.key_index) == ("jwe", 1)
    else:
        assert old is BAD_SIGNATURE


HELPER = VECTORS["cookieCacheHelper"]
HELPER_CASES = [pytest.param(case, id=case["name"]) for case in HELPER["cases"]]


@pytest.mark.parametrize("case", HELPER_CASES)
def test_captured_helper_verdict(case):
    """getCookieCache agrees, but for its 15 s of tolerance with jwe.  It too looks at no session_token and no store."""
    config = case["config"]
    names = cookies.cookie_names(config.get("cookiePrefix", "better-auth"), secure=config["isSecure"])
    raw = cookies.find_session_data(case["cookie"], names.session_data)
    if "secret" not in config:
        assert "requires a secret" in case["result"]["error"]
        return
    if raw is None:
        assert case["result"] is None
        return
    strategy = config.get("strategy", "compact")
    version = config.get("version", "1")
    cookie = decode(raw, Keys([config["secret"]]), strategy=strategy, version=version, now_ms=HELPER["generatedAtMs"])
    if case["name"] == "jwe expired 5s (15s tolerance in this helper)":
        assert case["result"] is not None
        assert cookie is EXPIRED
    elif case["result"] is None:
        assert cookie is HELPER_FAULTS[case["name"].partition(" (")[0]]
    else:
        assert isinstance(cookie, SessionDataCookie)
        assert cookie.record == record_of(case["result"])
        assert cookie.updated_at_ms == case["result"]["updatedAt"]


HELPER_FAULTS = {
    "compact: valid": EXPIRED,
    "compact: wrong secret": BAD_SIGNATURE,
    "jwt: valid": EXPIRED,
    "jwt: wrong secret": BAD_SIGNATURE,
    "jwe: valid": EXPIRED,
    "jwe: wrong secret": UNKNOWN_KEY,
    "compact expired 1s": EXPIRED,
    "compact embedded session expired": SESSION_EXPIRED,
    "compact version mismatch": VERSION,
    "compact name that looks like an ISO date without ms": BAD_SIGNATURE,
    "compact name that looks like an ISO date with ms": SCHEMA,
    "compact createdAt without ms": BAD_SIGNATURE,
    "compact payload lacks updatedAt": SCHEMA,
    "jwt expired 2s": EXPIRED,
    "jwt alg none": UNDECODABLE,
    "jwe expired 20s": EXPIRED,
    "jwe other salt": UNKNOWN_KEY,
}


def test_captured_helper_cases_are_all_there():
    assert len(HELPER["cases"]) == 34
    assert {case["name"].partition(" (")[0] for case in HELPER["cases"]} > set(HELPER_FAULTS)


# --- all strategies ------------------------------------------------------------------------------------------------

EXPECTED = SessionRecord(
    Session(
        id="session-1",
        token="T" * 32,
        user_id="user-1",
        expires_at_ms=NOW_MS + 60_000,
        created_at_ms=NOW_MS - 5000,
        updated_at_ms=NOW_MS - 4000,
        ip_address="",
        user_agent="curl",
    ),
    User(
        id="user-1",
        name="Ada",
        email="ada@example.test",
        email_verified=False,
        image=None,
        created_at_ms=NOW_MS - 5000,
        updated_at_ms=NOW_MS - 3000,
    ),
)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_made_cookie(strategy):
    assert judge(make(strategy, payload()), strategy) == SessionDataCookie(
        record=EXPECTED, updated_at_ms=NOW_MS - 1000, version="1", expires_at_ms=NOW_MS + 1000, key_index=0
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_plugin_columns_and_others(strategy):
    fields = payload(
        {"impersonatedBy": "admin-1", "activeOrganizationId": "org-1", "device": {"a": [1, None]}, "userId": 42},
        {
            "email": "Ada@Example.TEST",
            "emailVerified": True,
            "image": "https://a.test/i",
            "twoFactorEnabled": True,
            "role": "admin,user",
            "banned": True,
            "banExpires": iso(NOW_MS + 7),
            "since": iso(NOW_MS),
            "lang": "ü🔑",
        },
        extra=1.5,
    )
    cookie = judge(make(strategy, fields), strategy)
    assert isinstance(cookie, SessionDataCookie)
    session, user = cookie.record.session, cookie.record.user
    assert (session.impersonated_by, session.active_organization_id, session.user_id) == ("admin-1", "org-1", "42")
    assert (user.email, user.email_verified, user.image) == ("ada@example.test", True, "https://a.test/i")
    assert (user.two_factor_enabled, user.role, user.banned) == (True, "admin,user", True)
    assert user.ban_expires_ms == NOW_MS + 7
    assert (session.extra, user.extra) == ({}, {})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_plugin_columns_that_are_null(strategy):
    nulls = {"impersonatedBy": None, "activeOrganizationId": None, "ipAddress": None, "userAgent": None}
    fields = payload(nulls, {"twoFactorEnabled": None, "role": None, "banned": None, "banExpires": None})
    cookie = judge(make(strategy, fields), strategy)
    assert isinstance(cookie, SessionDataCookie)
    session, user = cookie.record.session, cookie.record.user
    assert [session.impersonated_by, session.active_organization_id] == [None, None]
    assert [session.ip_address, session.user_agent] == [None, None]
    assert [user.two_factor_enabled, user.role, user.banned, user.ban_expires_ms] == [None, None, False, None]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_columns_that_may_be_absent(strategy):
    session = dict.fromkeys(("createdAt", "updatedAt", "ipAddress", "userAgent"), ...)
    user = dict.fromkeys(("createdAt", "updatedAt", "emailVerified", "image"), ...)
    cookie = judge(make(strategy, payload(session, user, version=...)), strategy)
    assert isinstance(cookie, SessionDataCookie)
    record = cookie.record
    assert [record.session.created_at_ms, record.session.updated_at_ms] == [NOW_MS, NOW_MS]
    assert [record.user.created_at_ms, record.user.updated_at_ms] == [NOW_MS, NOW_MS]
    assert (record.session.ip_address, record.session.user_agent) == (None, None)
    assert (record.user.email_verified, record.user.image) == (False, None)
    assert cookie.version == "1"


DATE = "2026-11-24T03:12:15.577Z"
BAD_FIELDS = [
    *[pytest.param(payload({key: ...}), id=f"session-without-{key}") for key in ("id", "token", "userId", "expiresAt")],
    *[pytest.param(payload(None, {key: ...}), id=f"user-without-{key}") for key in ("id", "name", "email")],
    *[
        pytest.param(payload({key: value}), id=f"session-{key}-{value}")
        for key, value in [
            ("id", 1),
            ("token", None),
            ("userId", None),
            ("userId", 2**53),
            ("userId", -1),
            ("userId", 1.5),
            ("expiresAt", None),
            ("expiresAt", NOW_MS),
            ("expiresAt", "tomorrow"),
            ("expiresAt", DATE + " "),
            ("expiresAt", "x" + DATE),
            ("createdAt", None),
            ("createdAt", "2026-11-24"),
            ("updatedAt", ""),
            ("ipAddress", 7),
            ("userAgent", False),
            ("impersonatedBy", 7),
            ("activeOrganizationId", []),
            *[(key, DATE) for key in ("id", "token", "userId", "ipAddress", "userAgent")],
            *[(key, DATE) for key in ("impersonatedBy", "activeOrganizationId")],
        ]
    ],
    *[
        pytest.param(payload(None, {key: value}), id=f"user-{key}-{value}")
        for key, value in [
            ("id", None),
            ("name", None),
            ("email", 5),
            ("emailVerified", None),
            ("emailVerified", 1),
            ("image", False),
            ("createdAt", 0),
            ("updatedAt", "never"),
            ("twoFactorEnabled", 1),
            ("role", ["admin"]),
            ("banned", 1),
            ("banned", "false"),
            ("banExpires", "later"),
            ("banExpires", 1),
            *[(key, DATE) for key in ("id", "name", "email", "image", "role")],
        ]
    ],
    *[
        pytest.param(without_left_out({**payload(), key: value}), id=f"{key}-{value}")
        for key, value in [
            ("updatedAt", ...),
            ("updatedAt", None),
            ("updatedAt", "1"),
            ("updatedAt", 1.5),
            ("updatedAt", -1),
            ("updatedAt", 2**53),
            ("version", None),
            ("version", 1),
            ("session", ...),
            ("session", None),
            ("session", []),
            ("user", ...),
            ("user", "x"),
        ]
    ],
]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("fields", BAD_FIELDS)
def test_schema(strategy, fields):
    assert judge(make(strategy, fields), strategy) is SCHEMA


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "date",
    [
        "2026-02-30T00:00:00.000Z",
        "2026-11-24T24:00:00.000Z",
        "2026-11-24T03:60:00.000Z",
        "2026-11-24T03:12:60.000Z",
        "2026-13-24T03:12:15.000Z",
        "0000-11-24T03:12:15.000Z",
        "2026-11-24T03:12:15.5Z",
        "2026-11-24T03:12:15.5770Z",
        "2026-11-24T03:12:15Z",
    ],
)
@pytest.mark.parametrize("changed", ["expiresAt", "createdAt", "updatedAt"])
def test_dates_that_better_auth_prints_otherwise(strategy, date, changed):
    fault = BAD_SIGNATURE if strategy == "compact" else SCHEMA
    assert judge(make(strategy, payload({changed: date})), strategy) is fault
    if changed != "expiresAt":
        assert judge(make(strategy, payload(None, {changed: date})), strategy) is fault


@pytest.mark.parametrize(
    ("date", "expected_ms"),
    [
        ("1970-01-01T00:00:00.001Z", 1),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2026-11-24T03:12:15.577Z", 1795489935577),
        ("9999-12-31T23:59:59.999Z", 253402300799999),
    ],
)
def test_dates_are_exact_to_the_millisecond(date, expected_ms):
    cookie = judge(make("compact", payload({"createdAt": date})), "compact")
    assert isinstance(cookie, SessionDataCookie)
    assert cookie.record.session.created_at_ms == expected_ms


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_embedded_session_must_not_have_ended(strategy):
    cookie = judge(make(strategy, payload({"expiresAt": iso(NOW_MS)})), strategy)
    assert isinstance(cookie, SessionDataCookie)
    assert judge(make(strategy, payload({"expiresAt": iso(NOW_MS - 1)})), strategy) is SESSION_EXPIRED


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_versions(strategy):
    raw = make(strategy, payload(version="2"))
    assert judge(raw, strategy) is VERSION
    assert isinstance(judge(raw, strategy, version="2"), SessionDataCookie)
    unversioned = make(strategy, payload(version=...))
    assert judge(unversioned, strategy, version="2") is VERSION


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_cookie_is_read_as_cookies_are(strategy):
    raw = make(strategy, payload())
    assert isinstance(judge(f'"{raw}"', strategy), SessionDataCookie)
    assert isinstance(judge(raw.replace("e", "%65", 1), strategy), SessionDataCookie)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_size_is_bounded(strategy):
    assert judge("x" * 65537, strategy) is TOO_LARGE
    assert judge("x" * 65536, strategy) is UNDECODABLE


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_deep_nesting_is_refused(strategy):
    body = to_json(payload())[:-1] + ',"x":' + "[" * 20000 + "]" * 20000 + "}"
    raw = {
        "compact": lambda: compact_of(body),
        "jwt": lambda: jws_of(body.encode(), {"alg": "HS256"}),
        "jwe": lambda: jwe_of(body.encode()),
    }[strategy]()
    assert judge(raw, strategy) is (BAD_SIGNATURE if strategy == "compact" else SCHEMA)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("raw", ["", ".", "..", "....", ".....", "x", "%", "é", "\ud800", "e30", "e30.e30.e30"])
def test_junk(strategy, raw):
    assert judge(raw, strategy) is UNDECODABLE


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(deadline=None)
@given(data=st.data())
def test_any_changed_character_is_refused(strategy, data):
    raw = make(strategy, payload())
    index = data.draw(st.integers(0, len(raw) - 1))
    character = data.draw(st.sampled_from("AZaz09-_.=x%\"' \xff"))
    changed = judge(raw[:index] + character + raw[index + 1 :], strategy)
    if isinstance(changed, SessionDataCookie):  # the unused bits of a last character, or another name for itself
        assert changed == judge(raw, strategy)
    else:
        assert changed in (UNDECODABLE, BAD_SIGNATURE, UNKNOWN_KEY)


ANY_TEXT = st.text(st.characters(exclude_categories=()))
JOSE_HEADERS = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from(["HS256", "none", "dir", "A256CBC-HS512"]),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["alg", "enc", "kid", "crit", "zip", "b64"]), inner)
    ),
)


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(deadline=None)
@given(raw=ANY_TEXT | st.binary().map(b64) | st.lists(st.binary().map(b64), min_size=2, max_size=6).map(".".join))
def test_nothing_raises_on_arbitrary_text(strategy, raw):
    assert isinstance(judge(raw, strategy), SessionDataFault)


@pytest.mark.parametrize("strategy", ["jwt", "jwe"])
@settings(deadline=None)
@given(header=JOSE_HEADERS, parts=st.lists(st.binary(max_size=40).map(b64), min_size=2, max_size=4))
@example({"alg": "dir", "enc": "A256CBC-HS512"}, ["", "AAAA", "AAAA", "AAAA"])
@example({"alg": "dir", "enc": "A256CBC-HS512"}, ["", b64(bytes(16)), b64(bytes(15)), b64(bytes(32))])
@example({"alg": "dir", "enc": "A256CBC-HS512"}, ["", b64(bytes(16)), "AB", "A"])
def test_nothing_raises_on_arbitrary_headers(strategy, header, parts):
    raw = ".".join([b64(json.dumps(header).encode(errors="surrogatepass")), *parts])
    assert isinstance(judge(raw, strategy), SessionDataFault)


@settings(deadline=None)
@given(
    fields=st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_nothing_raises_on_arbitrary_signed_payloads(fields):
    body = json.dumps(fields).encode()
    assert judge(jws_of(body, {"alg": "HS256"}), "jwt") is SCHEMA
    assert isinstance(judge(compact_of(body.decode()), "compact"), SessionDataFault)


# --- compact -------------------------------------------------------------------------------------------------------


def reopen(raw: str) -> str:
    return base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)).decode()


@pytest.mark.parametrize("pad", ["", "=", "=="])
def test_compact_may_be_padded(pad):
    assert isinstance(judge(make("compact", payload()) + pad, "compact"), SessionDataCookie)
    assert judge(make("compact", payload()) + "===", "compact") is UNDECODABLE


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text.replace('{"session":', '{"session": ', 1), id="blank"),
        pytest.param(lambda text: " " + text, id="blank-before"),
        pytest.param(lambda text: text + "\n", id="newline-after"),
        pytest.param(lambda text: text[:-1] + ',"x":1}', id="key-after"),
        pytest.param(lambda text: '{"x":1,' + text[1:], id="key-before"),
        pytest.param(lambda text: text.replace('"signature"', '"Signature"'), id="renamed"),
        pytest.param(lambda text: text.replace('"signature":"', '"signature":"A'), id="long-mac"),
        pytest.param(lambda text: text[:-3] + '"}', id="short-mac"),
        pytest.param(lambda text: text[:-2] + '="}', id="padded-mac"),
    ],
)
def test_compact_has_one_form(change):
    assert judge(b64(change(reopen(make("compact", payload()))).encode()), "compact") is UNDECODABLE


@pytest.mark.parametrize("expires_at", ["0", "-1", "01795490425000", "1.5", "1e13", '"1"', "null", "99999999999999999"])
def test_compact_end_is_a_plain_integer(expires_at):
    assert judge(compact_of(to_json(payload()), expires_at), "compact") is UNDECODABLE


def test_compact_end_beyond_javascripts_integers():
    assert judge(compact_of(to_json(payload()), 2**53), "compact") is SCHEMA
    assert isinstance(judge(compact_of(to_json(payload()), 2**53 - 1), "compact"), SessionDataCookie)


def test_compact_end():
    text = to_json(payload())
    assert isinstance(judge(compact_of(text, NOW_MS), "compact"), SessionDataCookie)
    assert judge(compact_of(text, NOW_MS - 1), "compact") is EXPIRED
    assert judge(compact_of(text, 1), "compact") is EXPIRED


def test_compact_end_cannot_be_moved():
    text = reopen(make("compact", payload()))
    later = text.replace(f'"expiresAt":{NOW_MS + 1000}', f'"expiresAt":{NOW_MS + 9000}')
    assert later != text
    assert judge(b64(later.encode()), "compact") is BAD_SIGNATURE


def test_compact_ignores_claims_of_tokens():
    raw = compact_of(to_json(payload(exp=1)))
    assert judge(raw, "compact").expires_at_ms == NOW_MS + 1000


def test_compact_signed_text_is_the_text_that_is_parsed():
    """With two payloads in one cookie, the one that counts is covered by the MAC, or the cookie is refused."""
    good = to_json(payload())
    evil = to_json(payload({"token": "E" * 32}, {"id": "evil"}))
    genuine = reopen(compact_of(good))
    tail = genuine[len('{"session":' + good) :]
    for text in (
        '{"session":' + evil + tail,
        '{"session":' + evil + ',"session":' + good + tail,
        '{"session":' + good + ',"session":' + evil + tail,
        '{"session":' + good + tail[:-1] + ',"session":' + evil + tail,
        '{"session":' + evil + tail[:-1] + ',"session":' + good + tail,
    ):
        assert judge(b64(text.encode()), "compact") is BAD_SIGNATURE


@pytest.mark.parametrize("text", ["{}", '{"a":1}', "{{}", "{]}"])
def test_compact_payload_that_is_none(text):
    assert judge(compact_of(text), "compact") is (SCHEMA if text == '{"a":1}' else BAD_SIGNATURE)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text[:-1] + ',"updatedAt":7}', id="repeated-key"),
        pytest.param(lambda text: text[:-1] + ',"expiresAt":7}', id="end-within"),
        pytest.param(lambda text: text.replace(",", ", "), id="blanks"),
        pytest.param(lambda text: text.replace(",", ",\n"), id="line-breaks"),
        pytest.param(lambda text: text.replace("Ada", "\\u0041da"), id="needless-escape"),
        pytest.param(lambda text: text.replace("Ada", "A\x01da"), id="missing-escape"),
        pytest.param(lambda text: text[:-1] + ',"x":NaN}', id="no-json"),
    ],
)
def test_compact_text_that_better_auth_prints_otherwise(change):
    text = change(to_json(payload()))
    assert text != to_json(payload())
    assert judge(compact_of(text), "compact") is BAD_SIGNATURE


def test_compact_texts_are_kept_as_better_auth_prints_them():
    name = "".join(map(chr, range(0x20))) + '"\\/\x7f\x80\u2028\u2029ü🔑<>&'
    cookie = judge(make("compact", payload(None, {"name": name}, x=[0.1, -1, 1e15, True, None, {}])), "compact")
    assert isinstance(cookie, SessionDataCookie)
    assert cookie.record.user.name == name


@pytest.mark.parametrize("looks", ["2026-11-24T03:12:15Z", "2026-11-24T03:12:15.5Z", "2026-99-99T99:99:99.999Z"])
def test_compact_dates_anywhere_must_print_the_same(looks):
    assert judge(make("compact", payload({"plugin": {"deep": [looks]}})), "compact") is BAD_SIGNATURE
    assert isinstance(judge(make("jwt", payload({"plugin": {"deep": [looks]}})), "jwt"), SessionDataCookie)


@pytest.mark.parametrize(
    "text", ["2026-11-24T03:12:15+00:00", "x2026-11-24T03:12:15Z", '"2026-11-24T03:12:15Z"', "٢026-11-24T03:12:15Z"]
)
def test_compact_texts_that_are_no_dates(text):
    cookie = judge(make("compact", payload(None, {"name": text})), "compact")
    assert isinstance(cookie, SessionDataCookie)
    assert cookie.record.user.name == text


def test_compact_broken_utf8_is_no_text():
    raw = b64(reopen(make("compact", payload())).encode().replace(b"Ada", b"A\xffa"))
    assert judge(raw, "compact") is BAD_SIGNATURE


def test_compact_under_an_older_secret():
    assert judge(make("compact", payload(), OLD), "compact", keys=Keys([CURRENT, OLD])) is BAD_SIGNATURE


# --- jwt -----------------------------------------------------------------------------------------------------------

BODY = to_json(payload()).encode()


@pytest.mark.parametrize(("algorithm", "digest"), [("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512")])
def test_jwt_algorithms(algorithm, digest):
    for keys, secret in ((KEYS, CURRENT), (Keys(["short"]), "short")):
        raw = jws_of(BODY, {"alg": algorithm}, secret, digest)
        cookie = judge(raw, "jwt", keys=keys)
        assert cookie == SessionDataCookie(EXPECTED, NOW_MS - 1000, "1", None)


def test_jwt_algorithm_must_be_the_one_named():
    assert judge(jws_of(BODY, {"alg": "HS512"}, digest="sha256"), "jwt") is BAD_SIGNATURE
    assert judge(jws_of(BODY, {"alg": "HS256"}, digest="sha512"), "jwt") is BAD_SIGNATURE


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"alg": "HS256", "typ": "JWT"}, id="typ"),
        pytest.param({"typ": "anything", "alg": "HS256", "cty": "json", "kid": "k"}, id="names"),
        pytest.param(b' { "alg" : "HS256" } ', id="blanks"),
    ],
)
def test_jwt_headers_accepted(header):
    assert isinstance(judge(jws_of(BODY, header), "jwt"), SessionDataCookie)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"alg": "none"}, id="none"),
        pytest.param({"alg": "None"}, id="None"),
        pytest.param({"alg": "hs256"}, id="lower-case"),
        pytest.param({"alg": "RS256"}, id="asymmetric"),
        pytest.param({"alg": "HS1"}, id="other-hash"),
        pytest.param({"alg": None}, id="null"),
        pytest.param({"alg": ["HS256"]}, id="list"),
        pytest.param({}, id="no-alg"),
        pytest.param([], id="no-object"),
        pytest.param({"alg": "HS256", "crit": ["b64"], "b64": False}, id="crit"),
        pytest.param({"alg": "HS256", "jku": "https://evil.test"}, id="jku"),
        pytest.param({"alg": "HS256", "kid": None}, id="kid-null"),
        pytest.param(b"\xff", id="no-json"),
        pytest.param(b"[" * 300, id="deep"),
    ],
)
def test_jwt_headers_refused(header):
    assert judge(jws_of(BODY, header), "jwt") is UNDECODABLE


def test_jwt_header_size_is_bounded():
    fits = b'{"alg":"HS256"}'.ljust(384)
    assert len(b64(fits)) == 512
    assert isinstance(judge(jws_of(BODY, fits), "jwt"), SessionDataCookie)
    assert judge(jws_of(BODY, fits + b" "), "jwt") is UNDECODABLE


def test_jwt_without_signature():
    signed = jws_of(BODY, {"alg": "HS256"}).rpartition(".")[0]
    assert judge(signed, "jwt") is BAD_SIGNATURE
    assert judge(signed + ".", "jwt") is BAD_SIGNATURE
    assert judge(jws_of(BODY, {"alg": "none"}).rpartition(".")[0] + ".", "jwt") is UNDECODABLE


def test_jwt_parts_are_unpadded_base64url():
    head, body, mac = jws_of(BODY, {"alg": "HS256"}).split(".")
    for parts in ((head + "=", body, mac), (head, body + "=", mac), (head, body, mac + "="), (head, body + "A", mac)):
        assert isinstance(judge(".".join(parts), "jwt"), SessionDataFault)
    assert judge(f"{head}.{body}.{mac}=", "jwt") is UNDECODABLE
    assert judge(f"{head}.{body}.{mac}.", "jwt") is UNDECODABLE
    assert judge(f"{head}.{body}.{mac}AA", "jwt") is UNDECODABLE
    assert judge(f"{head}.{body}.{mac[:-2]}", "jwt") is UNDECODABLE


@pytest.mark.parametrize("strategy", ["jwt", "jwe"])
def test_token_without_exp(strategy):
    body = to_json(payload()).encode()
    raw = jws_of(body, {"alg": "HS256"}) if strategy == "jwt" else jwe_of(body)
    assert judge(raw, strategy) == SessionDataCookie(EXPECTED, NOW_MS - 1000, "1", None)
    assert judge(raw, strategy, now_ms=NOW_MS + 60_001) is SESSION_EXPIRED


@pytest.mark.parametrize("strategy", ["jwt", "jwe"])
@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        pytest.param({"exp": NOW_MS // 1000 - 1}, EXPIRED, id="expired"),
        pytest.param({"exp": 0}, EXPIRED, id="exp-0"),
        pytest.param({"exp": None}, SCHEMA, id="exp-null"),
        pytest.param({"exp": str(NOW_MS)}, SCHEMA, id="exp-text"),
        pytest.param({"exp": True}, SCHEMA, id="exp-bool"),
        pytest.param({"exp": NOW_MS / 1000 + 0.5}, SCHEMA, id="exp-fraction"),
        pytest.param({"exp": -1}, SCHEMA, id="exp-negative"),
        pytest.param({"exp": (2**53 - 1) // 1000 + 1}, SCHEMA, id="exp-too-large"),
        pytest.param({"exp": (2**53 - 1) // 1000}, None, id="exp-largest"),
        pytest.param({"nbf": NOW_MS // 1000 + 1}, NOT_YET_VALID, id="nbf-later"),
        pytest.param({"nbf": NOW_MS // 1000}, None, id="nbf-now"),
        pytest.param({"nbf": None}, SCHEMA, id="nbf-null"),
        pytest.param({"nbf": "1"}, SCHEMA, id="nbf-text"),
        pytest.param({"iat": "1"}, SCHEMA, id="iat-text"),
        pytest.param({"iat": NOW_MS // 1000 + 60}, None, id="iat-later"),
    ],
)
def test_claims(strategy, claims, fault):
    result = judge(make(strategy, payload(**claims)), strategy)
    assert result is fault if fault else isinstance(result, SessionDataCookie)


def test_jwt_under_an_older_secret():
    assert judge(make("jwt", payload(), OLD), "jwt", keys=Keys([CURRENT, OLD])) is BAD_SIGNATURE


# --- jwe -----------------------------------------------------------------------------------------------------------


def test_jwe_by_key_id():
    raw = make("jwe", payload(), OLD)
    assert judge(raw, "jwe", keys=Keys([CURRENT, "third", OLD])).key_index == 2
    assert judge(raw, "jwe", keys=Keys([OLD, CURRENT])).key_index == 0
    assert judge(raw, "jwe", keys=Keys([CURRENT])) is UNKNOWN_KEY


def test_jwe_without_key_id_is_tried_with_all():
    raw = jwe_of(BODY, {"kid": ...}, OLD)
    assert judge(raw, "jwe", keys=Keys([CURRENT, OLD])).key_index == 1
    assert judge(raw, "jwe", keys=Keys([CURRENT, "third"])) is BAD_SIGNATURE


def test_jwe_with_key_id_is_tried_with_that_one_only():
    misnamed = jwe_of(BODY, {"kid": KEYS.data_keys[0][0]}, OLD)
    assert judge(misnamed, "jwe", keys=Keys([CURRENT, OLD])) is BAD_SIGNATURE


@pytest.mark.parametrize("header", [{"typ": "JWT"}, {"cty": "x"}, {"kid": ...}], ids=["typ", "cty", "no-kid"])
def test_jwe_headers_accepted(header):
    assert isinstance(judge(jwe_of(BODY, header), "jwe"), SessionDataCookie)


@pytest.mark.parametrize(
    "header",
    [{"zip": "DEF"}, {"x": 1}],
    ids=["zip", "unknown"],
)
def test_jwe_headers_refused(header):
    assert judge(jwe_of(BODY, header), "jwe") is UNDECODABLE


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "A256KW"},
        {"alg": "PBES2-HS256+A128KW", "p2c": 10**9, "p2s": "x"},
        {"enc": "A256GCM"},
        {"enc": "A128CBC-HS256"},
        {"crit": ["exp"], "exp": 1},
        {"kid": None},
        {"kid": 7},
        {"typ": 1},
        {"cty": None},
    ],
    ids=str,
)
def test_jwe_replaced_headers_refused(header):
    rest = jwe_of(BODY).partition(".")[2]
    replaced = {"alg": "dir", "enc": "A256CBC-HS512", **header}
    assert judge(f"{b64(to_json(replaced).encode())}.{rest}", "jwe") is UNDECODABLE


def test_jwe_has_an_empty_key_part_and_five_parts():
    head, _, iv, text, tag = jwe_of(BODY).split(".")
    for parts in (
        [head, "AA", iv, text, tag],
        [head, iv, text, tag],
        [head, "", iv, text, tag, ""],
        [head, "", "", text, tag],
        [head, "", iv, "", tag],
        [head, "", iv, text, ""],
        ["", "", iv, text, tag],
    ):
        assert judge(".".join(parts), "jwe") is UNDECODABLE


def test_jwe_parts_are_authenticated():
    head, _, iv, text, tag = jwe_of(BODY).split(".")
    for parts in (
        [head, "", iv[::-1], text, tag],
        [head, "", iv[:-4], text, tag],
        [head, "", iv, text[4:], tag],
        [head, "", iv, text, tag[:-4]],
        [head, "", iv, text, tag + "AAAA"],
        [head, "", iv, text, "A"],
    ):
        assert judge(".".join(parts), "jwe") is BAD_SIGNATURE


# --- records -------------------------------------------------------------------------------------------------------


def test_faults_are_named_after_themselves():
    assert [fault.value for fault in SessionDataFault] == [fault.name.lower() for fault in SessionDataFault]


def test_a_decoded_cookie_does_not_change():
    cookie = judge(make("compact", payload()), "compact")
    with pytest.raises(AttributeError):
        cookie.updated_at_ms = 0
