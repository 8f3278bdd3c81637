"""What assertions say, and that they stay short."""

import base64
import datetime
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core.assertion import PAYLOAD_LIMIT, Terms, assertion_payload, audience_of
from gatekeeper.core.identity import identity_headers
from gatekeeper.core.model import SessionRecord
from tests.core.records import NOW_MS, TOKEN, authenticated, record

ISSUER = "https://app.example.com"
NOW_S = NOW_MS // 1000
RANDOM = bytes(range(240, 256))


def claims_of(
    known: SessionRecord,
    user: dict[str, Any] | None = None,
    session: dict[str, Any] | None = None,
    *,
    audience: str = ISSUER,
    now_ms: int = NOW_MS,
    ttl_s: int = 120,
) -> dict[str, Any]:
    raw = assertion_payload(
        known,
        {"id": known.user.id} if user is None else user,
        {"id": known.session.id} if session is None else session,
        Terms(ISSUER, ttl_s),
        audience=audience,
        now_ms=now_ms,
        random=RANDOM,
    )
    claims: dict[str, Any] = json.loads(raw)
    return claims


def test_everything_known_of_a_session() -> None:
    known = record(
        {
            "active_organization_id": "org_1",
            "impersonated_by": "admin_1",
            "created_at_ms": NOW_MS - 10_000_999,
            "expires_at_ms": NOW_MS + 600_999,
        },
        id="user_9f2c",
        name="Ada Łoś",
        email="Ada@EXAMPLE.com",
        role="editor,admin",
    )
    assert claims_of(known, {"id": "user_9f2c", "image": None}, {"id": "s"}, audience="gatekeeper:api") == {
        "iss": "https://app.example.com",
        "aud": "gatekeeper:api",
        "sub": "user_9f2c",
        "sid": hashlib.sha256(TOKEN.encode()).digest()[:16].hex(),
        "iat": NOW_S,
        "nbf": NOW_S - 30,
        "exp": NOW_S + 120,
        "jti": "8PHy8_T19vf4-fr7_P3-_w",
        "email": "Ada@example.com",
        "email_verified": True,
        "name": "Ada Łoś",
        "roles": ["admin", "editor"],
        "org": "org_1",
        "auth_time": NOW_S - 10_001,
        "session_exp": NOW_S + 600,
        "imp": "admin_1",
        "user": {"id": "user_9f2c", "image": None},
        "session": {"id": "s"},
    }


def test_each_app_is_an_audience_of_its_own() -> None:
    terms = Terms(ISSUER, 120)
    assert [audience_of(terms, upstream) for upstream in ("", "api")] == [ISSUER, "gatekeeper:api"]


@pytest.mark.parametrize("empty", [None, ""])
def test_claims_without_a_value_are_left_out(empty: str | None) -> None:
    claims = claims_of(record({"active_organization_id": empty, "impersonated_by": empty}))
    assert not {"org", "imp"} & claims.keys()


def test_roles_are_always_a_list() -> None:
    assert claims_of(record(role=None))["roles"] == []
    assert claims_of(record(role="admin"))["roles"] == ["admin"]


def test_an_unverified_address_is_told_as_unverified() -> None:
    claims = claims_of(record(email_verified=False))
    assert (claims["email"], claims["email_verified"]) == ("ada@example.com", False)


@pytest.mark.parametrize(
    ("left_ms", "lives_s"),
    [
        pytest.param(86_400_000, 120, id="a-long-session"),
        pytest.param(120_000, 120, id="just-as-long"),
        pytest.param(119_999, 119, id="never-longer"),
        pytest.param(999, 0, id="its-last-second"),
    ],
)
def test_it_never_outlives_its_session(left_ms: int, lives_s: int) -> None:
    claims = claims_of(record({"expires_at_ms": NOW_MS + left_ms}))
    assert claims["exp"] - claims["iat"] == lives_s


@given(st.integers(0, 10**6), st.integers(10, 300), st.integers(0, 999))
def test_the_end_is_never_after_the_session_nor_after_the_ttl(left_ms: int, ttl_s: int, odd_ms: int) -> None:
    now_ms = NOW_MS + odd_ms
    claims = claims_of(record({"expires_at_ms": now_ms + left_ms}), now_ms=now_ms, ttl_s=ttl_s)
    assert claims["exp"] * 1000 <= min(now_ms + left_ms, now_ms + ttl_s * 1000)


def test_random_bytes_make_the_id() -> None:
    assert base64.urlsafe_b64decode(claims_of(record())["jti"] + "==") == RANDOM


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_it_says_what_the_headers_say(role: str, email: str) -> None:
    who = authenticated(role=role, email=email)
    assert who.record is not None
    claims, headers = claims_of(who.record), identity_headers(who)
    assert (claims["sub"], claims["sid"]) == (headers["X-Auth-User-Id"], headers["X-Auth-Session-Id"])
    assert len(claims["roles"]) == (headers["X-Auth-Roles"].count(",") + 1 if "X-Auth-Roles" in headers else 0)


# --- limits --------------------------------------------------------------------------------------------------------


def size_of(claims: dict[str, Any]) -> int:
    return len(json.dumps(claims, ensure_ascii=False, separators=(",", ":")).encode())


def test_the_limit() -> None:
    assert PAYLOAD_LIMIT == 4096


def test_the_picture_goes_first() -> None:
    claims = claims_of(record(), {"id": "u", "image": "i" * 5000}, {"id": "s", "userAgent": "a" * 500})
    assert claims["user"] == {"id": "u", "image": None}
    assert claims["session"] == {"id": "s", "userAgent": "a" * 500}


def test_what_just_fits_stays() -> None:
    spare = PAYLOAD_LIMIT - size_of(claims_of(record(), {"image": ""}))
    assert claims_of(record(), {"image": "i" * spare})["user"]["image"] == "i" * spare
    assert claims_of(record(), {"image": "i" * (spare + 1)})["user"]["image"] is None


@pytest.mark.parametrize("letter", ["a", "é", "😀", '"', "\n"])
def test_then_the_user_agent_is_cut(letter: str) -> None:
    device = letter * 5000
    claims = claims_of(record(), {"id": "u", "image": "i" * 5000}, {"id": "s", "userAgent": device})
    assert device.startswith(claims["session"]["userAgent"])
    assert size_of(claims) <= PAYLOAD_LIMIT
    assert claims["user"] == {"id": "u", "image": None}


def test_no_more_of_the_user_agent_is_cut_than_must_be() -> None:
    claims = claims_of(record(), {"id": "u", "image": None}, {"id": "s", "userAgent": "a" * 5000})
    assert size_of(claims) == PAYLOAD_LIMIT


@pytest.mark.parametrize("session", [{"id": "s"}, {"id": "s", "userAgent": None}, {"id": "s", "userAgent": "a" * 99}])
def test_then_both_documents_go(session: dict[str, Any]) -> None:
    claims = claims_of(record(), {"id": "u", "bio": "b" * 5000}, session)
    assert not {"user", "session"} & claims.keys()
    assert claims["sub"] == "user_1"


@pytest.mark.parametrize(("letter", "some_is_left"), [("n", True), ("ł", True), ("\x01", False)])
def test_then_the_name_is_cut(letter: str, some_is_left: bool) -> None:
    name = letter * 9000
    claims = claims_of(record(name=name), {"name": name})
    assert bool(claims["name"]) is some_is_left  # a control takes six bytes in JSON
    assert name.startswith(claims["name"])
    assert size_of(claims) <= PAYLOAD_LIMIT


def test_what_json_does_not_know_is_text() -> None:
    day = datetime.date(2026, 1, 2)
    assert claims_of(record(), {"odd": complex(1, 2), "day": day})["user"] == {"odd": "(1+2j)", "day": "2026-01-02"}


def test_half_of_a_surrogate_pair_does_no_harm() -> None:
    claims = claims_of(record(name="a\ud800b"), {"odd": complex(1, 2)})
    assert claims["name"] == "a\ud800b"
    assert claims["user"] == {"odd": "(1+2j)"}
    long = assertion_payload(
        record(name="\ud800" * 9000), {}, {}, Terms(ISSUER, 120), audience="a", now_ms=NOW_MS, random=RANDOM
    )
    assert len(long) <= PAYLOAD_LIMIT
