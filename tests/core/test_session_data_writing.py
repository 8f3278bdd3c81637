"""Session_data cookies that the gate writes: byte for byte what Better Auth wrote, or none at all."""

import json
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import OctKey

from gatekeeper.core.cookies import Keys
from gatekeeper.core.model import SessionRecord
from gatekeeper.core.session_data import SessionDataCookie, Strategy, decode
from gatekeeper.core.session_data_writing import SessionDataFormat, encode
from tests.core.records import NOW_MS, record

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "session-data.json").read_text(encoding="utf-8"))
STRATEGIES: list[Strategy] = ["compact", "jwt", "jwe"]
KEYS = Keys(["a-secret-of-the-tests", "an-older-one"])
COOKIE_ID = "6a63f656-7523-428d-ba56-0c065210e3ac"


def form(strategy: Strategy, version: str = "1", max_age_s: int = 300) -> SessionDataFormat:
    return SessionDataFormat(strategy, version, max_age_s)


def write(found: SessionRecord, strategy: Strategy = "compact", **more: Any) -> str | None:
    return encode(found, KEYS, form(strategy), now_ms=NOW_MS, cookie_id=COOKIE_ID, **more)


def read(raw: str | None, strategy: Strategy = "compact", keys: Keys = KEYS) -> SessionDataCookie:
    assert raw is not None
    found = decode(raw, keys, strategy=strategy, version="1", now_ms=NOW_MS)
    assert isinstance(found, SessionDataCookie)
    return found


def jwe_plaintext(raw: str, keys: Keys) -> bytes:
    registry = jwe.JWERegistry(algorithms=["dir", "A256CBC-HS512"])
    return jwe.decrypt_compact(raw, OctKey.import_key(keys.data_keys[0][1]), registry=registry).plaintext or b""


def captured(strategy: Strategy) -> tuple[dict[str, Any], Keys, SessionDataCookie]:
    """What Better Auth wrote, its key, and what it says."""
    sample = VECTORS["cookieCache"][strategy]
    payload = sample["decoded"]["session"] if strategy == "compact" else sample["decoded"]
    keys = Keys([sample["secret"]])
    cookie = decode(sample["sessionDataCookie"], keys, strategy=strategy, version="1", now_ms=payload["updatedAt"])
    assert isinstance(cookie, SessionDataCookie)
    return sample, keys, cookie


@pytest.mark.parametrize("strategy", ["compact", "jwt"])
def test_same_bytes_as_better_auth(strategy: Strategy) -> None:
    sample, keys, cookie = captured(strategy)
    now_ms = cookie.updated_at_ms
    assert encode(cookie.record, keys, form(strategy), now_ms=now_ms, cookie_id="") == sample["sessionDataCookie"]


def test_same_plaintext_and_key_as_better_auth() -> None:
    sample, keys, cookie = captured("jwe")
    written = encode(cookie.record, keys, form("jwe"), now_ms=cookie.updated_at_ms, cookie_id=sample["decoded"]["jti"])
    assert written is not None
    assert jwe_plaintext(written, keys) == jwe_plaintext(sample["sessionDataCookie"], keys)
    assert written.partition(".")[0] == sample["sessionDataCookie"].partition(".")[0]
    assert written != sample["sessionDataCookie"]  # each has an initialisation vector of its own


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_reads_back_as_the_same_record(strategy: Strategy) -> None:
    full = record(
        {
            "ip_address": "203.0.113.7",
            "user_agent": 'a\tb "é\u2028\\',
            "impersonated_by": "u9",
            "active_organization_id": "o",
        },
        name="Zoë\n\x7f <b>",
        image="https://x.test/a?b",
        two_factor_enabled=False,
        role="user,admin",
        banned=True,
        ban_expires_ms=NOW_MS - 1,
    )
    found = read(write(full, strategy), strategy)
    assert found.record == full
    assert (found.updated_at_ms, found.version, found.key_index) == (NOW_MS, "1", 0)
    assert found.expires_at_ms == (NOW_MS + 300_000 if strategy == "compact" else NOW_MS // 1000 * 1000 + 300_000)


@pytest.mark.parametrize(("strategy", "lifetime_s"), [("compact", 60), ("jwt", 300), ("jwe", 300)])
def test_lifetime_of_one_that_is_not_remembered(strategy: Strategy, lifetime_s: int) -> None:
    raw = encode(record(), KEYS, form(strategy, max_age_s=900), now_ms=NOW_MS, cookie_id="", remembered=False)
    assert read(raw, strategy).expires_at_ms == NOW_MS + lifetime_s * 1000


def test_lifetime_and_version_are_as_configured() -> None:
    raw = encode(record(), KEYS, form("compact", version="7", max_age_s=900), now_ms=NOW_MS, cookie_id="")
    assert raw is not None
    found = decode(raw, KEYS, strategy="compact", version="7", now_ms=NOW_MS)
    assert isinstance(found, SessionDataCookie)
    assert (found.version, found.expires_at_ms) == ("7", NOW_MS + 900_000)


def further(session: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the payload says of a record with these declared fields."""
    raw = write(record({"extra": session or {}}, extra=user or {}), "jwt")
    assert raw is not None
    return msgspec.json.decode(urlsafe_b64decode(raw.split(".")[1] + "=="))


def test_declared_fields_go_in_by_their_names_before_the_id() -> None:
    payload = further({"deviceId": "d1"}, {"plan": None, "age": 41, "score": 2.5, "half": 3.0, "ok": True})
    assert list(payload["session"])[-2:] == ["deviceId", "id"]
    assert list(payload["user"])[-6:] == ["plan", "age", "score", "half", "ok", "id"]
    assert payload["user"]["half"] == 3
    assert isinstance(payload["user"]["half"], int)
    assert (payload["user"]["plan"], payload["user"]["ok"]) == (None, True)


def test_declared_field_never_replaces_what_the_gate_knows() -> None:
    payload = further({"token": "other", "id": "other"}, {"email": "other", "role": "admin", "id": "other"})
    assert payload["session"]["token"] != "other"
    assert (payload["session"]["id"], payload["user"]["id"]) == ("session_1", "user_1")
    assert payload["user"]["email"] == "ada@example.com"
    assert "role" not in payload["user"]


def test_plugin_fields_without_a_value_are_left_out() -> None:
    payload = further()
    assert list(payload["session"]) == [
        *("expiresAt", "token", "createdAt", "updatedAt", "ipAddress", "userAgent", "userId", "id"),
    ]
    assert list(payload["user"]) == ["name", "email", "emailVerified", "image", "createdAt", "updatedAt", "id"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "found",
    [
        pytest.param(record(name="2026-11-24T03:12:15Z"), id="name-that-is-read-as-a-date"),
        pytest.param(record({"user_agent": "2026-11-24T03:12:15.577Z"}), id="printed-date-where-a-text-is-due"),
        pytest.param(record(extra={"7": "x"}), id="key-like-an-integer"),
        pytest.param(record({"extra": {"0": "x"}}), id="zero-as-key"),
        pytest.param(record(name="half \ud83d"), id="half-of-a-pair"),
        pytest.param(record(extra={"n": 2**53}), id="integer-that-javascript-rounds"),
        pytest.param(record(extra={"n": 1e21}), id="large-float"),
        pytest.param(record(extra={"n": 1.5e-7}), id="small-float"),
        pytest.param(record(extra={"n": float("nan")}), id="no-number"),
        pytest.param(record(created_at_ms=-1), id="date-before-1970"),
        pytest.param(record({"expires_at_ms": 253_402_300_800_000}), id="year-10000"),
        pytest.param(record({"expires_at_ms": NOW_MS - 1}), id="expired-session"),
    ],
)
def test_none_where_it_would_not_read_the_same(found: SessionRecord, strategy: Strategy) -> None:
    assert write(found, strategy) is None


def test_declared_text_that_is_read_as_a_date_must_print_the_same() -> None:
    assert write(record(extra={"until": "2026-11-24T03:12:15.577Z"})) is not None
    assert write(record(extra={"until": "2026-11-24T03:12:15Z"})) is None
    assert write(record(extra={"until": "2026-02-31T03:12:15.577Z"})) is None


@given(st.sampled_from(STRATEGIES), st.text(), st.text(), st.integers(0, 4_000_000_000_000))
def test_what_is_written_reads_back(strategy: Strategy, name: str, agent: str, created_at_ms: int) -> None:
    whole = record({"user_agent": agent}, name=name, created_at_ms=created_at_ms)
    raw = write(whole, strategy)
    if raw is not None:
        assert read(raw, strategy).record == whole
