"""Which header carries a session, and what an older secret signed is signed anew."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core.attempts import account_key
from gatekeeper.core.cookies import (
    Keys,
    cookie_names,
    find_cookie,
    replace_cookies,
    sign_value,
    verify_token,
)
from gatekeeper.core.credentials import (
    bearer_header,
    bearer_token,
    presented_token,
    presented_tokens,
    resigned_cookies,
    resigned_set_cookies,
)
from gatekeeper.core.lifecycle import is_remembered
from gatekeeper.core.model import Reason
from gatekeeper.core.session_cookies import CookieScope

NEW, OLD = "the-new-secret-of-more-than-32-bytes-1a2b", "the-old-secret-of-more-than-32-bytes-3c4d"
KEYS, OLD_KEYS = Keys([NEW, OLD]), Keys([OLD])
NAMES = cookie_names("better-auth", secure=False)
TOKEN, DATA, FORGET = NAMES.session_token, NAMES.session_data, NAMES.dont_remember
OURS, THEIRS = sign_value("ada", KEYS), sign_value("ada", OLD_KEYS)
OTHERS = sign_value("bob", KEYS)
FORGOTTEN, FORGOTTEN_THEN = sign_value("true", KEYS), sign_value("true", OLD_KEYS)
SCOPE = CookieScope(None, secure=False, same_site="lax")


@pytest.mark.parametrize(
    ("text", "index"),
    [
        pytest.param(f"Bearer {OURS}", 0, id="encoded"),
        pytest.param(f"bEaReR {unquote(OURS)}", 0, id="plain"),
        pytest.param(f"Bearer {THEIRS}", 1, id="older"),
        pytest.param(f"Bearer  {OURS} ", 0, id="blanks-around"),
        pytest.param(f'Bearer "{OURS}"', None, id="quotes"),
        pytest.param("Bearer ada", None, id="raw"),
        pytest.param("Bearer ", None, id="empty"),
        pytest.param(f"Bearer{OURS}", None, id="no-blank"),
        pytest.param(f"Basic {OURS}", None, id="basic"),
        pytest.param("", None, id="nothing"),
        pytest.param(None, None, id="none"),
    ],
)
def test_bearer(text: str | None, index: int | None) -> None:
    found = bearer_token(text, KEYS)
    assert (found and (found.token, found.key_index)) == (None if index is None else ("ada", index))


def test_a_bearer_header_is_read_as_it_was_made() -> None:
    old = bearer_token(f"Bearer {THEIRS}", KEYS)
    assert old is not None
    again = bearer_token(bearer_header(old, KEYS).decode(), Keys([NEW]))
    assert again is not None
    assert again.token == "ada"


@pytest.mark.parametrize(
    ("header", "resigned"),
    [
        pytest.param(f"{TOKEN}={THEIRS}", {TOKEN: OURS}, id="older"),
        pytest.param(f"{TOKEN}={OURS}", {}, id="current"),
        pytest.param(f"{TOKEN}={THEIRS}x", {}, id="bad"),
        pytest.param(f"{TOKEN}={OURS}; {TOKEN}={THEIRS}", {}, id="the-first-counts"),
        pytest.param(f"{TOKEN}={THEIRS}; {FORGET}={FORGOTTEN_THEN}", {TOKEN: OURS, FORGET: FORGOTTEN}, id="both"),
        pytest.param(f"{DATA}={THEIRS}", {}, id="another-cookie"),
        pytest.param("", {}, id="empty"),
        pytest.param(None, {}, id="none"),
    ],
)
def test_what_an_older_secret_signed(header: str | None, resigned: dict[str, str]) -> None:
    assert resigned_cookies(header, NAMES, KEYS) == resigned
    assert resigned_cookies(header, NAMES, Keys([NEW])) == {}


@pytest.mark.parametrize(
    ("header", "lines"),
    [
        pytest.param(
            f"{TOKEN}={THEIRS}", [f"{TOKEN}={OURS}; Max-Age=172800; Path=/; HttpOnly; SameSite=Lax"], id="remembered"
        ),
        pytest.param(
            f"{TOKEN}={THEIRS}; {FORGET}={FORGOTTEN_THEN}",
            [
                f"{TOKEN}={OURS}; Path=/; HttpOnly; SameSite=Lax",
                f"{FORGET}={FORGOTTEN}; Path=/; HttpOnly; SameSite=Lax",
            ],
            id="not-remembered",
        ),
        pytest.param(
            f"{TOKEN}={THEIRS}; {FORGET}={FORGOTTEN}",
            [f"{TOKEN}={OURS}; Path=/; HttpOnly; SameSite=Lax"],
            id="not-remembered-by-the-current-secret",
        ),
        pytest.param(
            f"{TOKEN}={THEIRS}; {FORGET}=true",
            [f"{TOKEN}={OURS}; Max-Age=172800; Path=/; HttpOnly; SameSite=Lax"],
            id="a-forged-wish",
        ),
    ],
)
def test_what_the_browser_gets(header: str, lines: list[str]) -> None:
    resigned = resigned_cookies(header, NAMES, KEYS)
    found = resigned_set_cookies(resigned, header, NAMES, SCOPE, 172_800, KEYS)
    assert [line.decode() for line in found] == lines
    assert is_remembered(header, NAMES, KEYS) == ("Max-Age" in lines[0])


def test_attributes_are_those_configured() -> None:
    scope = CookieScope(".example.test", secure=True, same_site="none")
    lines = resigned_set_cookies({TOKEN: OURS}, None, NAMES, scope, 60, KEYS)
    assert lines == (
        f"{TOKEN}={OURS}; Max-Age=60; Domain=.example.test; Path=/; HttpOnly; Secure; SameSite=None".encode(),
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"session":{},"user":{},"updatedAt":1,"version":"1","expiresAt":2}', id="session-data"),
        pytest.param("eyJhbGciOiJIUzI1NiJ9.eyJlbWFpbCI6ImFAYi50ZXN0In0", id="jwt"),
        pytest.param(f"gatekeeper.device\n{account_key('ada@example.test')}\n1.x", id="device"),
        pytest.param("tokenOfAda:", id="the-admin-behind-an-impersonation"),
        pytest.param("2fa-tokenOfAda", id="second-factor"),
        pytest.param("adą", id="no-letter-of-tokens"),
    ],
)
@pytest.mark.parametrize("name", [TOKEN, FORGET])
def test_who_has_an_older_secret_gets_nothing_else_signed(text: str, name: str) -> None:
    assert resigned_cookies(f"{name}={sign_value(text, OLD_KEYS)}", NAMES, KEYS) == {}


@given(value=st.text("abcXYZ0189", min_size=1, max_size=40))
def test_whatever_token_was_signed_verifies_anew(value: str) -> None:
    header = f"a=b; {TOKEN}={sign_value(value, OLD_KEYS)};c"
    (resigned,) = resigned_cookies(header, NAMES, KEYS).values()
    replaced = find_cookie(replace_cookies(header, {TOKEN: resigned}), TOKEN)
    assert replaced is not None
    found = verify_token(replaced, Keys([NEW]))
    assert found is not None
    assert found.token == value


@pytest.mark.parametrize(
    ("header", "replaced"),
    [
        pytest.param("a=1;  s=2 ;b=3", "a=1;  s=X;b=3", id="in-the-middle"),
        pytest.param("s=2; s=3", "s=X; s=3", id="the-first"),
        pytest.param(" s =2;", " s =X;", id="blanks-around-the-name"),
        pytest.param("s; =s; ss=1", "s; =s; ss=1", id="none"),
        pytest.param("s=a=b", "s=X", id="an-equals-sign"),
    ],
)
def test_replaced_cookies(header: str, replaced: str) -> None:
    assert replace_cookies(header, {"s": "X", "t": "Y"}) == replaced


@pytest.mark.parametrize(
    ("cookie", "authorization", "bearer", "expected"),
    [
        pytest.param(f"{TOKEN}={OURS}", None, True, ["ada"], id="cookie"),
        pytest.param(f"{TOKEN}={OURS}", f"Bearer {sign_value('bob', KEYS)}", True, ["bob", "ada"], id="both"),
        pytest.param(f"{TOKEN}={OURS}", f"Bearer {THEIRS}", True, ["ada"], id="one-session-twice"),
        pytest.param(f"{TOKEN}={OURS}", f"Bearer {sign_value('bob', KEYS)}", False, ["ada"], id="header-not-asked-for"),
        pytest.param(f"{TOKEN}=ada.x", "Bearer bob", True, [], id="unsigned"),
        pytest.param(f"{TOKEN}=", None, True, [], id="empty"),
        pytest.param(None, None, True, [], id="nothing"),
    ],
)
def test_all_that_a_request_carries(
    cookie: str | None, authorization: str | None, bearer: bool, expected: list[str]
) -> None:
    found = presented_tokens(cookie, authorization, TOKEN, KEYS, bearer=bearer)
    assert [one.token for one in found] == expected


@pytest.mark.parametrize(
    ("cookie", "authorization", "bearer", "expected"),
    [
        pytest.param(f"{TOKEN}={OURS}", None, True, ("ada", 0), id="cookie"),
        pytest.param(f"{TOKEN}={THEIRS}", None, False, ("ada", 1), id="older"),
        pytest.param(f"{TOKEN}={OTHERS}", f"Bearer {OURS}", True, ("ada", 0), id="the-header-wins"),
        pytest.param(f"{TOKEN}={OTHERS}", f"Bearer {OURS}", False, ("bob", 0), id="unless-it-may-carry-none"),
        pytest.param(f"{TOKEN}={OTHERS}", f"Bearer {OURS}x", True, ("bob", 0), id="a-bad-header-says-nothing"),
        pytest.param(f"{TOKEN}={OURS}x", None, True, Reason.BAD_SIGNATURE, id="bad"),
        pytest.param(f"{TOKEN}=", None, True, Reason.NO_COOKIE, id="empty"),
        pytest.param(None, f"Bearer {OURS}x", True, Reason.NO_COOKIE, id="nothing-that-counts"),
    ],
)
def test_which_token_counts(
    cookie: str | None, authorization: str | None, bearer: bool, expected: tuple[str, int] | Reason
) -> None:
    found = presented_token(cookie, authorization, TOKEN, KEYS, bearer=bearer)
    assert (found if isinstance(found, Reason) else (found.token, found.key_index)) == expected
