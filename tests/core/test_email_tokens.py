"""Tokens of verification mails: the real server's own are read, ours are the same, and nothing else is one."""

import base64
import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core.cookies import Keys
from gatekeeper.core.email_tokens import EmailToken, EmailTokenFault, make_email_token, read_email_token
from gatekeeper.core.session_data_writing import SessionDataFormat, encode
from tests.core.records import NOW_MS, record

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "auth-api-more.json").read_text(encoding="utf-8"))
KEYS = Keys([VECTORS["config"]["secret"]])
OWN = Keys(["a-secret-of-the-tests", "an-older-one"])
SENT = [mail for call in VECTORS["transcripts"] for mail in call["mails"] if mail["kind"] == "verify"]


def signed(header: object, claims: object, keys: Keys = OWN) -> str:
    """A token of any header and claims, by the current secret."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    message = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    mac = base64.b64decode(keys.sign(message).rpartition(b".")[2])
    return (message + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def test_there_are_captured_tokens() -> None:
    assert len(SENT) == 2


@pytest.mark.parametrize("mail", SENT)
def test_captured_tokens_are_read_and_made_the_same(mail: dict[str, str]) -> None:
    part = mail["token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    now_ms = claims["iat"] * 1000 + 999
    assert read_email_token(mail["token"], KEYS, now_ms=now_ms) == EmailToken(mail["to"], claims["userId"])
    assert make_email_token(mail["to"].upper(), claims["userId"], KEYS, now_ms=now_ms) == mail["token"]
    assert parse_qs(urlsplit(mail["url"]).query)["token"] == [mail["token"]]


@pytest.mark.parametrize(
    ("later_ms", "expected"),
    [
        pytest.param(0, EmailToken("ada@example.test", "u"), id="at-once"),
        pytest.param(3_599_999, EmailToken("ada@example.test", "u"), id="in-its-last-millisecond"),
        pytest.param(3_600_000, EmailTokenFault.EXPIRED, id="when-it-ends"),
    ],
)
def test_a_token_holds_for_an_hour(later_ms: int, expected: EmailToken | EmailTokenFault) -> None:
    token = make_email_token("Ada@example.test", "u", OWN, now_ms=NOW_MS)
    assert read_email_token(token, OWN, now_ms=NOW_MS + later_ms) == expected


NOW_S = NOW_MS // 1000


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        pytest.param("", EmailTokenFault.INVALID, id="empty"),
        pytest.param("a.b", EmailTokenFault.INVALID, id="two-parts"),
        pytest.param(signed({"alg": "HS256"}, {"email": "a@b.test"}), EmailToken("a@b.test", None), id="no-end"),
        pytest.param(
            signed({"alg": "HS256", "typ": "JWT"}, {"email": "a@b.test"}), EmailToken("a@b.test", None), id="with-typ"
        ),
        pytest.param(signed({"alg": "none"}, {"email": "a@b.test"}), EmailTokenFault.INVALID, id="alg-none"),
        pytest.param(signed({"alg": "HS512"}, {"email": "a@b.test"}), EmailTokenFault.INVALID, id="other-alg"),
        pytest.param(
            signed({"alg": "HS256", "crit": ["x"]}, {"email": "a@b.test"}), EmailTokenFault.INVALID, id="critical"
        ),
        pytest.param(signed(b"no JSON", {"email": "a@b.test"}), EmailTokenFault.INVALID, id="header-no-json"),
        pytest.param(signed({"alg": "HS256"}, b"\xff"), EmailTokenFault.INVALID, id="claims-no-text"),
        pytest.param(signed({"alg": "HS256"}, {"userId": "u"}), EmailTokenFault.INVALID, id="no-email"),
        pytest.param(
            signed({"alg": "HS256"}, {"email": "a@b.test", "updateTo": "c@d.test", "userId": "u"}),
            EmailTokenFault.INVALID,
            id="changes-the-address",
        ),
        pytest.param(
            signed({"alg": "HS256"}, {"email": "a@b.test", "nbf": NOW_S + 1}), EmailTokenFault.INVALID, id="not-yet"
        ),
        pytest.param(
            signed({"alg": "HS256"}, {"email": "a@b.test", "nbf": NOW_S}),
            EmailToken("a@b.test", None),
            id="from-now-on",
        ),
        pytest.param(
            signed({"alg": "HS256"}, {"email": "a@b.test"}, Keys(["an-older-one"])),
            EmailTokenFault.INVALID,
            id="older-secret",
        ),
        pytest.param("eyJhbGciOiJIUzI1NiJ9.A." + "A" * 43, EmailTokenFault.INVALID, id="one-digit-of-base64"),
    ],
)
def test_what_is_a_token(token: str, expected: EmailToken | EmailTokenFault) -> None:
    assert read_email_token(token, OWN, now_ms=NOW_MS) == expected


def test_a_session_data_cookie_verifies_no_address() -> None:
    form = SessionDataFormat("jwt", "1", 300)
    cookie = encode(record(), OWN, form, now_ms=NOW_MS, cookie_id="")
    assert cookie is not None
    assert read_email_token(cookie, OWN, now_ms=NOW_MS) == EmailTokenFault.INVALID


@given(st.text(), st.text())
def test_what_is_made_is_read(email: str, user_id: str) -> None:
    token = make_email_token("a@example.test", user_id.encode("utf-8", "replace").decode(), OWN, now_ms=NOW_MS)
    assert isinstance(read_email_token(token, OWN, now_ms=NOW_MS), EmailToken)
    assert read_email_token(email, OWN, now_ms=NOW_MS) is EmailTokenFault.INVALID


@given(st.data())
def test_any_character_changed_makes_it_invalid(data: st.DataObject) -> None:
    token = make_email_token("ada@example.test", "u", OWN, now_ms=NOW_MS)
    at = data.draw(st.integers(0, len(token) - 2))  # the last one's low bits say nothing
    other = data.draw(st.sampled_from("ABZabz019-_"))
    changed = token[:at] + other + token[at + 1 :]
    if changed != token:
        assert read_email_token(changed, OWN, now_ms=NOW_MS) is EmailTokenFault.INVALID
