"""Counting tries: windows of a passed-in time, and the cookies of devices that have signed in before."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core.attempts import (
    DEVICE_AGE_S,
    Limit,
    Tally,
    account_key,
    address_key,
    counted,
    device_cookie,
    device_key,
    device_line,
    known_device,
    taken_back,
    wait_after_s,
    wait_before_s,
)
from gatekeeper.core.cookies import Keys, sign_value, verify_token, verify_value
from tests.core.records import NOW_MS

LIMIT = Limit(5, 60_000)
NOW_S = NOW_MS // 1000
KEYS = Keys(["a-secret-of-the-tests", "an-older-one"])
ADA = account_key("ada@example.test")
BOB = account_key("bob@example.test")


def random_bytes(size: int) -> bytes:
    return bytes(range(size))


def other_bytes(size: int) -> bytes:
    return bytes(range(1, size + 1))


def cookie_of(account: str, cookie: str | None = None, at_s: int = NOW_S, keys: Keys = KEYS) -> str:
    return device_cookie(cookie, account, keys, at_s, random_bytes)


def test_first_try_begins_a_window() -> None:
    assert counted(None, LIMIT, NOW_MS) == Tally(1, NOW_MS + 60_000)


def test_later_tries_do_not_move_its_end() -> None:
    assert counted(Tally(1, NOW_MS + 9), LIMIT, NOW_MS) == Tally(2, NOW_MS + 9)
    assert counted(Tally(99, NOW_MS + 1), LIMIT, NOW_MS) == Tally(100, NOW_MS + 1)


def test_a_window_that_has_ended_counts_for_nothing() -> None:
    assert counted(Tally(99, NOW_MS), LIMIT, NOW_MS) == Tally(1, NOW_MS + 60_000)


@pytest.mark.parametrize(
    ("tally", "before_s", "after_s"),
    [
        pytest.param(None, 0, None, id="no-try-yet"),
        pytest.param(Tally(4, NOW_MS + 60_000), 0, 0, id="one-left"),
        pytest.param(Tally(5, NOW_MS + 60_000), 60, 0, id="the-last-one"),
        pytest.param(Tally(6, NOW_MS + 60_000), 60, 60, id="one-too-many"),
        pytest.param(Tally(6, NOW_MS + 59_001), 60, 60, id="seconds-are-rounded-up"),
        pytest.param(Tally(6, NOW_MS + 1), 1, 1, id="in-the-window's-last-millisecond"),
        pytest.param(Tally(6, NOW_MS), 0, 0, id="the-window-has-ended"),
        pytest.param(Tally(6, NOW_MS + 3_600_000), 60, 60, id="another's-clock-is-ahead"),
    ],
)
def test_seconds_to_wait(tally: Tally | None, before_s: int, after_s: int | None) -> None:
    assert wait_before_s(tally, LIMIT, NOW_MS) == before_s
    if tally is not None:
        assert wait_after_s(tally, LIMIT, NOW_MS) == after_s


def test_a_try_is_taken_back_once() -> None:
    assert taken_back(Tally(2, 9)) == Tally(1, 9)
    assert taken_back(Tally(0, 9)) == Tally(0, 9)


@given(st.integers(1, 9), st.lists(st.integers(0, 2_000), max_size=60))
def test_in_no_window_are_more_tries_let_in_than_the_limit_allows(most: int, gaps_ms: list[int]) -> None:
    limit, now_ms, tally = Limit(most, 5_000), NOW_MS, None
    let_in: dict[int, int] = {}
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        wait_s = wait_before_s(tally, limit, now_ms)
        before, tally = tally, counted(tally, limit, now_ms)
        assert (wait_s == 0) is (wait_after_s(tally, limit, now_ms) == 0)
        if wait_s == 0:
            let_in[tally.ends_ms] = let_in.get(tally.ends_ms, 0) + 1
        else:
            assert before is not None
            assert now_ms + wait_s * 1000 >= before.ends_ms
    assert max(let_in.values(), default=0) <= most


def test_accounts_count_alike_in_any_case_and_do_not_show_themselves() -> None:
    assert account_key("Ada@Example.TEST") == ADA
    assert ADA != BOB
    assert re.fullmatch("account:[0-9a-f]{40}", ADA)
    assert account_key("half \ud83d").startswith("account:")


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.9", "address:203.0.113.9"),
        ("::ffff:203.0.113.9", "address:203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "address:2001:db8:1:2::/64"),
        ("2001:DB8:1:2::1", "address:2001:db8:1:2::/64"),
        ("fe80::1%eth0", "address:fe80::/64"),
    ],
)
def test_what_an_address_counts_under(address: str, key: str) -> None:
    assert address_key(address) == key


def test_what_is_no_address_counts_as_one() -> None:
    assert address_key("unix") != address_key("another")
    assert re.fullmatch("address:[0-9a-f]{40}", address_key("x" * 1000))


def test_keys_of_different_kinds_never_meet() -> None:
    assert len({key.partition(":")[0] for key in (ADA, address_key("unix"), device_key("x"))}) == 3


def test_a_device_is_known_to_the_account_it_signed_in_to_alone() -> None:
    cookie = cookie_of(ADA)
    device = known_device(cookie, ADA, KEYS, NOW_S)
    assert device is not None
    assert re.fullmatch("[A-Za-z0-9]{22}", device)
    assert known_device(cookie, BOB, KEYS, NOW_S) is None
    assert known_device(None, ADA, KEYS, NOW_S) is None
    assert known_device("", ADA, KEYS, NOW_S) is None


@pytest.mark.parametrize(
    ("age_s", "known"),
    [(DEVICE_AGE_S - 1, True), (DEVICE_AGE_S, False), (0, True), (-60, True), (-61, False)],
)
def test_for_how_long(age_s: int, known: bool) -> None:
    assert (known_device(cookie_of(ADA), ADA, KEYS, NOW_S + age_s) is not None) is known


def test_older_secrets_vouch_for_no_device() -> None:
    cookie = cookie_of(ADA, keys=Keys(["an-older-one"]))
    assert known_device(cookie, ADA, KEYS, NOW_S) is None


@given(st.data())
def test_no_other_text_passes(data: st.DataObject) -> None:
    cookie = cookie_of(ADA)
    place = data.draw(st.integers(0, len(cookie) - 1))
    character = data.draw(st.sampled_from([c for c in "019azAZ-_.~ =" if c != cookie[place]]))
    changed = cookie[:place] + character + cookie[place + 1 :]
    if place == len(cookie) - 1:  # the last character of base64 has bits that stand for nothing
        assert known_device(changed, ADA, KEYS, NOW_S) in (None, known_device(cookie, ADA, KEYS, NOW_S))
    else:
        assert known_device(changed, ADA, KEYS, NOW_S) is None


def test_signatures_of_one_purpose_do_not_serve_another() -> None:
    cookie = cookie_of(ADA)
    issued_s, device, mac = cookie.split(".")
    assert verify_token(cookie, KEYS) is None
    as_token = f"{issued_s}.{device}.{mac.replace('-', '+').replace('_', '/')}="
    assert verify_token(as_token, KEYS) is None
    assert verify_value(as_token, KEYS) is None
    signed = sign_value(f"{issued_s}.{device}", KEYS).replace("%3D", "").replace("%2B", "-").replace("%2F", "_")
    assert re.fullmatch(r"[0-9]+\.[A-Za-z0-9]{22}\.[A-Za-z0-9_-]{43}", signed)  # well-formed, and yet nobody's
    assert known_device(signed, ADA, KEYS, NOW_S) is None


def test_a_browser_holds_three_accounts_the_latest_first() -> None:
    accounts = [account_key(f"user{number}@example.test") for number in range(4)]
    cookie = None
    for account in accounts:
        cookie = device_cookie(cookie, account, KEYS, NOW_S, random_bytes)
    known = [known_device(cookie, account, KEYS, NOW_S) is not None for account in accounts]
    assert known == [False, True, True, True]


def test_a_new_entry_replaces_the_account_s_old_one() -> None:
    first = cookie_of(ADA)
    second = device_cookie(cookie_of(BOB, first), ADA, KEYS, NOW_S + 5, other_bytes)
    assert second.count("~") == 1
    assert known_device(second, ADA, KEYS, NOW_S) != known_device(first, ADA, KEYS, NOW_S)
    assert known_device(second, BOB, KEYS, NOW_S) is not None


def test_what_is_malformed_is_not_handed_on() -> None:
    cookie = cookie_of(ADA, "x~1.2.3~" + cookie_of(BOB))
    assert known_device(cookie, BOB, KEYS, NOW_S) is not None
    assert cookie.count("~") == 1
    assert known_device("~".join(["x"] * 3 + [cookie_of(ADA)]), ADA, KEYS, NOW_S) is None


def test_the_cookie_s_line() -> None:
    line = device_line(cookie_of(ADA), secure=True)
    assert line.startswith("gatekeeper.device=")
    assert line.endswith("; Max-Age=15552000; Path=/; HttpOnly; Secure; SameSite=Lax")
    assert len(line) < 200
