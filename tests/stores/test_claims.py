"""`stores.claims`: when a session_data cookie may stand in for the store.  Each test takes one condition away."""

from typing import Any

import pytest

from gatekeeper.core.cookies import Keys
from gatekeeper.core.model import SessionToken
from gatekeeper.core.session_data import Strategy
from gatekeeper.stores.claims import SKEW_MS, Claims, ClaimSettings
from gatekeeper.stores.feeds.feed import digest_of
from gatekeeper.stores.lease import Lease
from tests.core.test_session_data import CURRENT, NOW_MS, OLD, STRATEGIES, compact_of, iso, make, payload, to_json

NAME = "better-auth.session_data"
TOKEN = SessionToken("T" * 32)
USER = "user-1"
MAX_AGE_MS = 300_000


class Setting:
    """Claims whose lease is held, covered long enough for a cookie that was written a second ago."""

    def __init__(self, strategy: Strategy = "compact", marks: int = 100, **changes: Any) -> None:
        self.now_ms = NOW_MS
        self.set_ms = 0
        self.lease = Lease()
        self.lease.begin((NOW_MS - 1_000 - SKEW_MS - 1) / 1000)
        self.lease.renew(self.now)
        self.settings = ClaimSettings(NAME, strategy, "1", MAX_AGE_MS)
        keys = Keys([CURRENT, OLD])
        self.claims = Claims(
            self.settings, keys, self.lease, lambda: self.now, lambda: self.now_ms, marks=marks, **changes
        )
        self.strategy = strategy

    @property
    def now(self) -> float:
        return (self.now_ms - self.set_ms) / 1000

    def cookie(self, *, age_ms: int = 1_000, secret: str = CURRENT, lasts_ms: int = 250_000, **session: Any) -> str:
        ends_ms = self.now_ms - age_ms + lasts_ms
        fields = payload({"expiresAt": iso(NOW_MS + 9_000_000), **session}, updatedAt=self.now_ms - age_ms)
        if self.strategy == "compact":
            made = compact_of(to_json(fields), ends_ms, secret)
        else:
            made = make(self.strategy, {**fields, "exp": ends_ms // 1000}, secret)
        return f"a=b; {NAME}={made}"

    def read(self, cookies: str | None, token: str = TOKEN) -> bool:
        record = self.claims.read(cookies, SessionToken(token), self.now_ms)
        assert record is None or (record.session.token, record.user.id) == (token, USER)
        return record is not None

    def sets_clock(self, ms: int) -> None:
        """The wall clock is set forward by so much."""
        self.now_ms += ms
        self.set_ms += ms

    def passes(self, ms: int) -> None:
        """So long, markers come back."""
        self.now_ms += ms
        self.lease.renew(self.now)


@pytest.fixture
def s() -> Setting:
    return Setting()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_cookie_that_was_written_under_cover_decides(strategy: Strategy) -> None:
    s = Setting(strategy)
    cookies = s.cookie()
    assert s.read(cookies)
    first = s.claims.read(cookies, TOKEN, s.now_ms)
    assert s.claims.read(cookies, TOKEN, s.now_ms) is first, "what follows from one record is remembered by others"
    assert s.claims.hits == 3


@pytest.mark.parametrize("cookies", [None, "", "a=b", f"{NAME}=", f"{NAME}=junk"])
def test_none_and_junk_decide_nothing(s: Setting, cookies: str | None) -> None:
    assert not s.read(cookies)


def test_without_settings_none_decides(s: Setting) -> None:
    claims = Claims(None, Keys([CURRENT]), s.lease, lambda: s.now, lambda: s.now_ms)
    claims.user_changed(digest_of(USER))
    assert claims.read(s.cookie(), TOKEN, s.now_ms) is None
    assert not claims.is_outdated(s.cookie(), TOKEN, s.now_ms)


def test_without_a_lease_none_decides(s: Setting) -> None:
    cookies = s.cookie()
    assert s.read(cookies)
    s.now_ms += 800
    assert not s.read(cookies), "the lease ran out"
    s.passes(1)
    assert s.read(cookies)
    s.lease.lose(s.now)
    assert not s.read(cookies)
    s.lease.renew(s.now)
    assert not s.read(cookies), "held again, but covered since nobody knows when"


@pytest.mark.parametrize(("age_ms", "decides"), [(1_000, True), (1_001, False), (20_000, False)])
def test_what_was_written_before_the_coverage_began_does_not_decide(s: Setting, age_ms: int, decides: bool) -> None:
    assert s.read(s.cookie(age_ms=age_ms)) is decides


@pytest.mark.parametrize(("age_ms", "decides"), [(0, True), (-1, False), (-60_000, False)])
def test_what_comes_from_the_future_does_not_decide(s: Setting, age_ms: int, decides: bool) -> None:
    assert s.read(s.cookie(age_ms=age_ms)) is decides


def test_our_own_age_counts_whatever_the_apps_is(s: Setting) -> None:
    cookies = s.cookie(lasts_ms=3_600_000)
    s.passes(MAX_AGE_MS - 1_001)
    assert s.read(cookies)
    s.passes(1)
    assert not s.read(cookies)


def test_the_apps_age_counts_too_also_of_what_was_decoded_before(s: Setting) -> None:
    cookies = s.cookie(lasts_ms=60_000)
    assert s.read(cookies)
    s.passes(59_000)
    assert s.read(cookies)
    s.passes(1)
    assert not s.read(cookies)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_older_secret_does_not_decide(strategy: Strategy) -> None:
    s = Setting(strategy)
    assert not s.read(s.cookie(secret=OLD))


def test_another_sessions_cookie_does_not_decide(s: Setting) -> None:
    assert not s.read(s.cookie(), "U" * 32)
    assert not s.read(s.cookie(token="U" * 32))


@pytest.mark.parametrize("named", ["session", "user"])
def test_a_change_that_was_told_outlives_every_cookie_of_before_and_after(s: Setting, named: str) -> None:
    cookies = s.cookie()
    assert s.read(cookies)
    if named == "session":
        s.claims.session_changed(digest_of(TOKEN))
    else:
        s.claims.user_changed(digest_of(USER))
    assert not s.read(cookies)
    s.passes(10_000)
    assert not s.read(s.cookie()), "written after it, but by whom, and from what?"
    s.passes(MAX_AGE_MS)
    assert not s.read(cookies)


def test_changes_of_others_are_others(s: Setting) -> None:
    s.claims.session_changed(digest_of("U" * 32))
    s.claims.user_changed(digest_of("user-2"))
    assert s.read(s.cookie())


def test_marks_go_when_no_cookie_of_before_can_be_left(s: Setting) -> None:
    s.claims.session_changed(digest_of(TOKEN))
    s.passes(MAX_AGE_MS + SKEW_MS)
    s.claims.session_changed(digest_of("another"))
    assert not s.read(s.cookie())
    s.passes(1)
    s.claims.session_changed(digest_of("one more"))
    assert s.read(s.cookie())


def test_when_marks_overflow_nothing_that_was_written_before_decides() -> None:
    s = Setting(marks=3)
    cookies = s.cookie()
    for number in range(3):
        s.claims.session_changed(digest_of(f"other {number}"))
    assert s.read(cookies)
    s.claims.session_changed(digest_of("one too many"))
    assert not s.read(cookies)
    s.passes(SKEW_MS + 1_000)
    assert not s.read(s.cookie()), "it may have been written before, by a clock that is slow"
    s.passes(1)
    assert s.read(s.cookie())


def test_when_everything_changed_nothing_that_was_written_before_decides(s: Setting) -> None:
    cookies = s.cookie()
    assert s.read(cookies)
    s.claims.all_changed()
    assert not s.read(cookies)
    s.passes(SKEW_MS + 1_001)
    assert s.read(s.cookie())


HOUR_MS = 3_600_000


def test_a_clock_that_was_slow_when_the_coverage_began_covers_nothing_from_before(s: Setting) -> None:
    """As on a machine that starts without a clock, and learns the time from the network."""
    s.sets_clock(HOUR_MS)
    assert s.read(s.cookie())
    assert not s.read(s.cookie(age_ms=1_001)), "it was written before"


def test_a_clock_that_was_slow_when_everything_changed_hides_nothing(s: Setting) -> None:
    s.passes(100_000)
    s.claims.all_changed()
    s.sets_clock(HOUR_MS)
    s.passes(10_000)
    assert not s.read(s.cookie(age_ms=6_000))
    assert s.read(s.cookie(age_ms=4_000))


def test_a_clock_that_was_fast_for_a_while_takes_no_mark_away(s: Setting) -> None:
    cookies = s.cookie()
    s.claims.session_changed(digest_of(TOKEN))
    s.sets_clock(HOUR_MS)
    s.claims.session_changed(digest_of("another"))
    s.sets_clock(-HOUR_MS)
    s.passes(1_000)
    assert not s.read(cookies)
    assert s.claims.is_outdated(cookies, TOKEN, s.now_ms)


@pytest.mark.parametrize("set_ms", [HOUR_MS, -HOUR_MS])
def test_a_cookie_from_before_a_change_is_outdated_wherever_the_clock_is_set(s: Setting, set_ms: int) -> None:
    right_ms = max(set_ms, 0)  # the cookie is dated by a clock that was right all the time
    before = s.cookie(age_ms=1_000 - right_ms)
    s.claims.session_changed(digest_of(TOKEN))
    s.sets_clock(set_ms)
    s.passes(10_000)
    assert s.claims.is_outdated(before, TOKEN, s.now_ms)


@pytest.mark.parametrize("change", ["session", "user", "all"])
def test_the_session_that_a_cookie_spoke_for_last_is_known_until_a_change_of_it_is_told(
    s: Setting, change: str
) -> None:
    cookies = s.cookie()
    assert s.claims.any_token() is None
    assert s.read(cookies)
    assert s.claims.any_token() == TOKEN
    s.claims.session_changed(digest_of("another"))
    assert s.claims.any_token() == TOKEN
    match change:
        case "session":
            s.claims.session_changed(digest_of(TOKEN))
        case "user":
            s.claims.user_changed(digest_of(USER))
        case _:
            s.claims.all_changed()
    assert s.claims.any_token() is None
    assert not s.read(cookies)
    assert s.claims.any_token() is None, "who was not believed proves nothing"


# what the app should not see


@pytest.mark.parametrize("named", ["session", "user"])
def test_a_cookie_from_before_a_change_is_outdated_and_one_from_after_it_is_not(s: Setting, named: str) -> None:
    before = s.cookie()
    assert not s.claims.is_outdated(before, TOKEN, s.now_ms)
    if named == "session":
        s.claims.session_changed(digest_of(TOKEN))
    else:
        s.claims.user_changed(digest_of(USER))
    assert s.claims.is_outdated(before, TOKEN, s.now_ms)
    s.passes(SKEW_MS + 1_000)
    assert s.claims.is_outdated(s.cookie(), TOKEN, s.now_ms), "by a clock that is fast it may be from before"
    s.passes(1)
    assert not s.claims.is_outdated(s.cookie(), TOKEN, s.now_ms)


def test_what_the_app_would_not_believe_is_not_outdated(s: Setting) -> None:
    s.claims.session_changed(digest_of(TOKEN))
    for cookies in (None, f"{NAME}=junk", s.cookie(secret=OLD), s.cookie(token="U" * 32)):
        assert not s.claims.is_outdated(cookies, TOKEN, s.now_ms)
