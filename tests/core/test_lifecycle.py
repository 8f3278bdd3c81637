"""When sessions are extended: Better Auth's arithmetic, to the millisecond."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core.cookies import Keys, cookie_names, sign_value
from gatekeeper.core.lifecycle import Lifetimes, due_at_ms, extended, is_due, is_remembered
from tests.core.records import NOW_MS, session

KEYS = Keys(["a-secret-of-the-tests", "an-older-one"])
NAMES = cookie_names("better-auth", secure=False)
TWO_DAYS = Lifetimes(172_800_000, 86_400_000)
DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("left_ms", "due"),
    [
        pytest.param(172_800_000, False, id="just-made"),
        pytest.param(86_410_000, False, id="observed-at-the-original-no"),
        pytest.param(86_400_001, False, id="a-millisecond-too-early"),
        pytest.param(86_400_000, True, id="exactly-then"),
        pytest.param(86_390_000, True, id="observed-at-the-original-yes"),
        pytest.param(0, True, id="in-its-last-millisecond"),
        pytest.param(-1, False, id="expired"),
    ],
)
def test_due_once_a_day_of_use_has_passed(left_ms: int, due: bool) -> None:
    assert is_due(session(expires_at_ms=NOW_MS + left_ms), TWO_DAYS, NOW_MS) is due


def test_one_that_is_not_to_be_remembered_would_be_due_at_once_by_the_arithmetic_alone() -> None:
    assert is_due(session(expires_at_ms=NOW_MS + DAY_MS), TWO_DAYS, NOW_MS)


def test_extended_session_differs_in_two_dates_alone() -> None:
    before = session(expires_at_ms=NOW_MS + 5, updated_at_ms=NOW_MS - DAY_MS, created_at_ms=NOW_MS - DAY_MS)
    after = extended(before, TWO_DAYS, NOW_MS)
    assert (after.expires_at_ms, after.updated_at_ms) == (NOW_MS + 172_800_000, NOW_MS)
    assert after == session(expires_at_ms=NOW_MS + 172_800_000, updated_at_ms=NOW_MS, created_at_ms=NOW_MS - DAY_MS)


@given(st.integers(1, 10**10), st.integers(0, 10**10), st.integers(0, 2 * 10**10), st.integers(0, 2 * 10**10))
def test_not_due_again_before_update_age_has_passed(
    expires_in_ms: int, update_age_ms: int, left_ms: int, later_ms: int
) -> None:
    lifetimes = Lifetimes(expires_in_ms, update_age_ms)
    after = extended(session(expires_at_ms=NOW_MS + left_ms), lifetimes, NOW_MS)
    assert due_at_ms(after, lifetimes) == NOW_MS + update_age_ms
    assert is_due(after, lifetimes, NOW_MS + later_ms) == (update_age_ms <= later_ms <= expires_in_ms)


@pytest.mark.parametrize(
    ("cookie", "forgotten"),
    [
        pytest.param(None, False, id="no-cookies"),
        pytest.param("better-auth.session_token=x", False, id="another-cookie"),
        pytest.param(f"better-auth.dont_remember={sign_value('true', KEYS)}", True, id="signed"),
        pytest.param(f"__Secure-better-auth.dont_remember={sign_value('true', KEYS)}", False, id="of-another-name"),
        pytest.param("better-auth.dont_remember=true", False, id="unsigned"),
        pytest.param("better-auth.dont_remember=", False, id="cleared"),
        pytest.param(
            f"better-auth.dont_remember={sign_value('true', Keys(['an-older-one']))}", True, id="older-secret"
        ),
    ],
)
def test_who_asked_not_to_be_remembered(cookie: str | None, forgotten: bool) -> None:
    assert is_remembered(cookie, NAMES, KEYS) is not forgotten
