"""No credential survives the redactor, wherever it was written, and ordinary text does."""

import base64
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus, unquote

import jwt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatekeeper.core.cookies import Keys, sign_value
from gatekeeper.telemetry.redaction import HIDDEN, REDACTED, Redactor

SECRET = "kJ8vQ2mX5tR9wZ3bN6yC1pL4fH7gD0sA"
TOKEN = "Hi6S9rraIHeIRnN1vBUEIReA83O8vrVz"
SIGNED = sign_value(TOKEN, Keys([SECRET]))
NAME = "better-auth.session_token"
REDACTOR = Redactor([SECRET], [NAME])

URL_SAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=12, max_size=40)
# The beginning keeps hypothesis from making a token of a word that stands in the line anyway.
TOKENS = st.text(URL_SAFE, min_size=12, max_size=60).map("T~k".__add__)
ANY_TOKENS = ANY_TEXT.map("T~k".__add__)
SECRETS = ANY_TEXT.map("S~c:".__add__)

# Where a signed cookie value may turn up in a text; each gets the value as it stands in a Cookie header.
PLACES: dict[str, Callable[[str], str]] = {
    "bare": lambda value: f"cannot use {value} here",
    "alone": lambda value: value,
    "decoded": lambda value: f"value {unquote(value)}",
    "escaped again": lambda value: f"/sign-in?callbackUrl={quote('/x?y=' + value, safe='')}",
    "escaped twice again": lambda value: f"see {quote(quote(value, safe=''), safe='')}",
    "cookie header": lambda value: f"GET / HTTP/1.1\r\nCookie: a=b; {NAME}={value}; c=d\r\nHost: x",
    "set-cookie header": lambda value: f"set-cookie: {NAME}={value}; Path=/; HttpOnly",
    "bearer": lambda value: f"Authorization: Bearer {value}",
    "bearer in words": lambda value: f"sent bearer {value} to us",
    "dictionary": lambda value: str({"Host": "x", "Cookie": f"{NAME}={value}", "Accept": "*/*"}),
    "pairs of bytes": lambda value: str([(b"Cookie", f"{NAME}={value}".encode()), (b"Host", b"x")]),
    "attribute": lambda value: f"RequestFacts(method='GET', cookie='{NAME}={value}', accept=None)",
    "JSON": lambda value: json.dumps({"name": "x", NAME: value}),
    "pair": lambda value: f"{NAME}={value}",
    "pair with another prefix": lambda value: f"__Secure-app.session_token={value}",
    "chunk": lambda value: f"x.session_data.3={value}; y=1",
    "query": lambda value: f"/path?a=1&session={value}&b=2",
    "query of another name": lambda value: f"/path?a={value}&b=2",
    "fragment": lambda value: f"/path#access_token={value}",
}


def signature_of(value: str) -> str:
    return unquote(value).rpartition(".")[2]


@pytest.mark.parametrize("place", list(PLACES))
@settings(deadline=None)
@given(token=TOKENS)
@example(token="T~kGJErjPpPIAg4~")  # its MAC holds the letters with which JSON in base64 begins
def test_no_signed_value_survives(place: str, token: str) -> None:
    value = sign_value(token, Keys([SECRET]))
    safe = REDACTOR.redact(PLACES[place](value))
    assert token not in safe
    assert signature_of(value) not in safe
    assert quote(signature_of(value), safe="") not in safe


@pytest.mark.parametrize("place", ["cookie header", "set-cookie header", "pair", "JSON", "bearer", "dictionary"])
@settings(deadline=None)
@given(token=ANY_TOKENS)
def test_no_signed_value_of_an_odd_token_survives_where_its_name_stands(place: str, token: str) -> None:
    value = sign_value(token, Keys([SECRET]))
    safe = REDACTOR.redact(PLACES[place](value))
    assert value.rpartition(".")[0] not in safe
    assert signature_of(value) not in safe


@pytest.mark.parametrize("place", ["cookie header", "pair", "JSON", "query", "fragment", "bearer", "attribute"])
def test_no_unsigned_token_survives_where_its_name_stands(place: str) -> None:
    assert TOKEN not in REDACTOR.redact(PLACES[place](TOKEN))


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("/api/auth/reset-password/aB3xY9zT", "/api/auth/reset-password/[redacted]"),
        ("/api/auth/Reset-Password/aB3xY9zT", "/api/auth/Reset-Password/[redacted]"),
        ("/auth/reset-password/aB3xY9zT?callbackURL=%2Fnew", "/auth/reset-password/[redacted]?callbackURL=%2Fnew"),
        ("GET http://h/api/auth/reset-password/aB3 done", "GET http://h/api/auth/reset-password/[redacted] done"),
        ("/reset-password/aB3/more", "/reset-password/[redacted]/more"),
        ("/next?to=%2Fapi%2Fauth%2Freset-password%2FaB3xY9zT", "/next?[redacted]"),
        ("/api/auth%2freset-password%2faB3xY9zT", "[redacted]"),
        ("/reset-password", "/reset-password"),
        ("/reset-password/", "/reset-password/"),
        ("/how-to-reset-password/now", "/how-to-reset-password/now"),
    ],
)
def test_a_link_for_a_new_password_has_its_token_in_the_path(text: str, safe: str) -> None:
    assert REDACTOR.redact(text) == safe


def test_such_a_link_in_a_query() -> None:
    for value in ("/api/auth/reset-password/aB3xY9zT", "%2Fapi%2Fauth%2Freset-password%2FaB3xY9zT"):
        assert "aB3xY9zT" not in REDACTOR.redact_query(f"tab=1&next={value}")


WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": lambda secret: f"the secret is {secret}",
    "between letters": lambda secret: f"x{secret}x",
    "repr": lambda secret: f"Secret(version=1, value={secret!r})",
    "ascii": lambda secret: f"Secret({secret!a})",
    "JSON": lambda secret: json.dumps({"value": secret}),
    "JSON with letters": lambda secret: json.dumps({"value": secret}, ensure_ascii=False),
    "escaped": lambda secret: f"/x/{quote(secret, safe='')}",
    "form": lambda secret: f"/x?a={quote_plus(secret)}",
    "escaped twice": lambda secret: quote(quote(secret)),
    "read as latin-1": lambda secret: secret.encode().decode("latin-1"),
}


@pytest.mark.parametrize("how", list(WRITTEN))
@settings(deadline=None)
@given(secret=SECRETS)
def test_no_secret_survives(how: str, secret: str) -> None:
    text = WRITTEN[how](secret)
    written = text.removeprefix("the secret is ") if how == "as it is" else text
    safe = Redactor([secret]).redact(text)
    assert secret not in safe
    assert written not in safe


@pytest.mark.parametrize("how", ["escaped", "form"])
@settings(deadline=None)
@given(secret=SECRETS)
@example(secret="S~c:000000000%00")
@example(secret="an%20escaped%2520one")
def test_no_secret_survives_in_a_query(how: str, secret: str) -> None:
    value = (quote if how == "escaped" else quote_plus)(secret)
    safe = Redactor([secret]).redact_query(f"a={value}&tab=1")
    assert secret not in safe
    assert value not in safe or value == ""


def test_an_older_secret_that_holds_the_newer_one_goes_as_a_whole() -> None:
    assert Redactor([SECRET, SECRET + "older"]).redact(SECRET + "older") == REDACTED


def test_what_is_json_in_base64_goes() -> None:
    signed = jwt.encode({"sub": "ada"}, SECRET, algorithm="HS256")
    compact = base64.urlsafe_b64encode(json.dumps({"session": {"token": TOKEN}}).encode()).decode()
    for text in (signed, compact):
        for written in (f"got {text} there", f"/app/{text}/x", f"/app?x={text}", quote(text)):
            safe = REDACTOR.redact(written)
            assert not any(part in safe for part in text.rstrip("=").split("."))


@pytest.mark.parametrize(
    ("query", "safe"),
    [
        ("tab=1&page=2", "tab=1&page=2"),
        ("q=hello%20world", "q=hello%20world"),
        ("q=a+b&flag", "q=a+b&flag"),
        ("", ""),
        ("token=abc&tab=1", "token=***&tab=1"),
        ("TOKEN=abc", "TOKEN=***"),
        ("%74oken=abc", "***=***"),
        ("%2574oken=abc", "***=***"),
        ("user[password]=abc", "user[password]=***"),
        ("apiKey=abc&x=1", "apiKey=***&x=1"),
        ("code=1&state=2", "code=***&state=***"),
        ("X-Amz-Signature=ab&sig=cd&SID=ef", "X-Amz-Signature=***&sig=***&SID=***"),
        ("a=1;token=abc;b=2", "a=1;token=***;b=2"),
        ("callbackUrl=%2Fdashboard%3Ftab%3D1", "callbackUrl=%2Fdashboard%3Ftab%3D1"),
        ("callbackUrl=%2Freset%3Ftoken%3Dabc", "callbackUrl=***"),
        ("next=%252Freset%253Ftoken%253Dabc", "next=***"),
        ("token=", "token="),
        ("token", "token"),
        ("b=%3D&" * 8 + "b=%3D&c=1&d=%3D", "b=%3D&" * 8 + "b=***&c=1&d=***"),
    ],
)
def test_queries(query: str, safe: str) -> None:
    assert REDACTOR.redact_query(query) == safe


@pytest.mark.parametrize(
    "name",
    [
        *("token", "access_token", "code", "secret", "client_secret", "key", "api_key", "password", "passwd", "pwd"),
        *("signature", "state", "session", "sessionId", "auth", "authorization_code", "credential", "ticket", "jwt"),
    ],
)
def test_telling_names_in_any_case_and_in_any_text(name: str) -> None:
    for written in (name, name.upper(), name.capitalize()):
        assert REDACTOR.redact_query(f"{written}=abcdef") == f"{written}={HIDDEN}"
        assert "abcdef" not in REDACTOR.redact(f"GET https://app.test/x?a=1&{written}=abcdef HTTP/1.1")


@pytest.mark.parametrize(
    "text",
    [
        "listening on http://127.0.0.1:8080 in front of http://127.0.0.1:3000",
        "session store unavailable: auth.db: no table 'session' (setting store.tables.session)",
        "/dashboard/users/42",
        "/assets/main.0f3b2a6c9d.js",
        "/assets/chunk.9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08.js",
        "/dashboard?tab=1",
        "GET protect /dashboard, request 0123456789abcdef: the upstream did not answer in time",
        "100% of 3 = a lot; see <this> (or that)",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert REDACTOR.redact(text) == text


def test_words_are_no_secrets() -> None:
    assert Redactor(["", "abc"]).redact("abc of it") == "abc of it"
