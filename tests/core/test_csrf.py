import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core.cookies import Keys, sign_value, verify_token
from gatekeeper.core.csrf import (
    LIFETIME_S,
    TokenFault,
    browser_line,
    find_browser,
    form_cookie_name,
    make_token,
    token_fault,
)

KEYS = Keys(["the-secret-of-the-tests"])
BROWSER = "A1b2C3d4E5f6G7h8I9j0K1"
OTHER = "Z1b2C3d4E5f6G7h8I9j0K1"
NOW_S = 1_790_000_000
TOKEN = make_token(BROWSER, "sign-in", KEYS, NOW_S)


def test_a_token_holds_for_its_browser_and_purpose() -> None:
    assert token_fault(TOKEN, BROWSER, "sign-in", KEYS, NOW_S) is None
    assert re.fullmatch(r"1790000000\.[A-Za-z0-9_-]{43}", TOKEN)


@pytest.mark.parametrize(
    ("token", "browser", "purpose"),
    [
        pytest.param(TOKEN, OTHER, "sign-in", id="another-browser"),
        pytest.param(TOKEN, None, "sign-in", id="no-cookie"),
        pytest.param(TOKEN, BROWSER, "sign-up", id="another-purpose"),
        pytest.param(TOKEN, BROWSER, "sign-in\n", id="purpose-that-goes-on"),
        pytest.param(TOKEN.replace("1790000000", "1790000001"), BROWSER, "sign-in", id="another-time"),
        pytest.param("", BROWSER, "sign-in", id="none"),
        pytest.param("1790000000." + "A" * 43, BROWSER, "sign-in", id="no-mac"),
        pytest.param(TOKEN + "=", BROWSER, "sign-in", id="padded"),
        pytest.param(" " + TOKEN, BROWSER, "sign-in", id="blank"),
        pytest.param(TOKEN.replace("1790000000", "１７90000000"), BROWSER, "sign-in", id="other-digits"),
    ],
)
def test_a_token_holds_for_nothing_else(token: str, browser: str | None, purpose: str) -> None:
    assert token_fault(token, browser, purpose, KEYS, NOW_S) is TokenFault.FOREIGN


@pytest.mark.parametrize(
    ("later_s", "fault"),
    [
        (-61, TokenFault.STALE),
        (-60, None),
        (0, None),
        (LIFETIME_S - 1, None),
        (LIFETIME_S, TokenFault.STALE),
    ],
)
def test_a_token_ends(later_s: int, fault: TokenFault | None) -> None:
    assert token_fault(TOKEN, BROWSER, "sign-in", KEYS, NOW_S + later_s) is fault


def test_a_shorter_life_can_be_asked_for() -> None:
    assert token_fault(TOKEN, BROWSER, "sign-in", KEYS, NOW_S + 60, lifetime_s=60) is TokenFault.STALE


def test_an_older_secret_signs_no_form() -> None:
    rotated = Keys(["a-newer-secret-of-the-tests", "the-secret-of-the-tests"])
    assert token_fault(TOKEN, BROWSER, "sign-in", rotated, NOW_S) is TokenFault.FOREIGN


def test_a_form_token_is_no_session_and_no_session_a_form_token() -> None:
    mac = TOKEN.partition(".")[2].replace("-", "+").replace("_", "/") + "="
    assert verify_token(f"{BROWSER}.{mac}", KEYS) is None
    session = sign_value(BROWSER, KEYS)
    assert token_fault(session, BROWSER, "sign-in", KEYS, NOW_S) is TokenFault.FOREIGN


@given(st.integers(0, 43 + 10), st.sampled_from("ABcd09-_."))
def test_any_other_character_breaks_it(place: int, letter: str) -> None:
    changed = TOKEN[:place] + letter + TOKEN[place + 1 :]
    is_same = changed == TOKEN
    # The last digit of 43 has two bits that say nothing.
    is_same = is_same or (place == len(TOKEN) - 1 and _value(letter) >> 2 == _value(TOKEN[-1]) >> 2)
    assert (token_fault(changed, BROWSER, "sign-in", KEYS, NOW_S) is None) is is_same


def _value(digit: str) -> int:
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".find(digit)


@given(st.text(), st.text())
def test_purposes_are_told_apart(one: str, other: str) -> None:
    token = make_token(BROWSER, one, KEYS, NOW_S)
    assert (token_fault(token, BROWSER, other, KEYS, NOW_S) is None) is (one == other)


@pytest.mark.parametrize(
    ("header", "secure", "found"),
    [
        (f"a=b; gatekeeper.form={BROWSER}", False, BROWSER),
        (f"__Host-gatekeeper.form={BROWSER}", True, BROWSER),
        pytest.param(f"gatekeeper.form={BROWSER}", True, None, id="a-name-that-others-may-set"),
        (f"gatekeeper.form={BROWSER}x", False, None),
        ("gatekeeper.form=", False, None),
        (None, False, None),
    ],
)
def test_finds_the_browsers_value(header: str | None, secure: bool, found: str | None) -> None:
    assert find_browser(header, secure=secure) == found


@pytest.mark.parametrize("blank", ["\xa0", "\x0b", "\x0c", "\xc2\xa0"])
def test_what_another_host_can_set_is_not_its_value(blank: str) -> None:
    """Chromium takes `<no-break space>__Host-…` from a sibling with a Domain, and sends it to this host."""
    tossed = f"{blank}__Host-gatekeeper.form={OTHER}"
    assert find_browser(tossed, secure=True) is None
    assert find_browser(f"{tossed};\t__Host-gatekeeper.form={BROWSER}", secure=True) == BROWSER


def test_the_cookie_is_for_this_host_and_no_script() -> None:
    assert browser_line(BROWSER, secure=True) == (
        f"__Host-gatekeeper.form={BROWSER}; Path=/; HttpOnly; Secure; SameSite=Lax"
    )
    assert browser_line(BROWSER, secure=False).startswith(f"{form_cookie_name(secure=False)}={BROWSER}; Path=/")
