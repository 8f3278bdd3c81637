import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core.loop import COOKIE, WINDOW_S, read_redirects, redirects_cookie

NOW_S = 1_790_000_000
NOW_MS = NOW_S * 1000 + 500
MARK = hashlib.sha256(b"/dashboard").hexdigest()[:8]


def crumb(set_cookie: str) -> str:
    """What a browser sends back for a Set-Cookie value."""
    return set_cookie.partition(";")[0]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(None, 0, id="no-cookie-header"),
        pytest.param("", 0, id="empty-header"),
        pytest.param("theme=dark", 0, id="other-cookies"),
        pytest.param(f"{COOKIE}={MARK}.1.{NOW_S}", 1, id="one"),
        pytest.param(f"{COOKIE}={MARK}.2.{NOW_S - 3}", 2, id="two"),
        pytest.param(f'p={{"a":1}}; {COOKIE} = {MARK}.2.{NOW_S} ; z', 2, id="among-odd-neighbours"),
        pytest.param(f"{COOKIE}={MARK}.2.{NOW_S}; {COOKIE}={MARK}.7.{NOW_S}", 2, id="first-duplicate-counts"),
        pytest.param(f"{COOKIE}=junk; {COOKIE}={MARK}.7.{NOW_S}", 0, id="malformed-first-duplicate"),
        pytest.param(f"x-{COOKIE}={MARK}.2.{NOW_S}", 0, id="name-that-ends-alike"),
        pytest.param(f"a={COOKIE}", 0, id="name-as-a-value"),
        pytest.param(COOKIE, 0, id="name-without-equals"),
        pytest.param(f"{COOKIE}=", 0, id="empty-value"),
        pytest.param(f"{COOKIE}=00000000.2.{NOW_S}", 0, id="another-path"),
        pytest.param(f"{COOKIE}={MARK.upper()}x.2.{NOW_S}", 0, id="mark-not-hex"),
        pytest.param(f"{COOKIE}={MARK}.0.{NOW_S}", 0, id="count-zero"),
        pytest.param(f"{COOKIE}={MARK}.-1.{NOW_S}", 0, id="count-negative"),
        pytest.param(f"{COOKIE}={MARK}.99999.{NOW_S}", 0, id="count-too-long"),
        pytest.param(f"{COOKIE}={MARK}.٢.{NOW_S}", 0, id="count-not-ascii"),
        pytest.param(f"{COOKIE}={MARK}.2", 0, id="no-time"),
        pytest.param(f"{COOKIE}={MARK}.2.{NOW_S}.1", 0, id="too-many-parts"),
        pytest.param(f"{COOKIE}={MARK}.2.{NOW_S - WINDOW_S}", 2, id="just-within-the-window"),
        pytest.param(f"{COOKIE}={MARK}.2.{NOW_S - WINDOW_S - 1}", 0, id="too-old"),
        pytest.param(f"{COOKIE}={MARK}.2.{NOW_S + 1}", 0, id="from-the-future"),
    ],
)
def test_read_redirects(header: str | None, expected: int) -> None:
    assert read_redirects(header, "/dashboard", NOW_MS) == expected


def test_the_cookie_has_the_attributes_of_a_hint() -> None:
    plain = redirects_cookie(None, "/dashboard", 1, NOW_MS, secure=False)
    assert plain == f"{COOKIE}={MARK}.1.{NOW_S}; Max-Age=30; Path=/; HttpOnly; SameSite=Lax"
    secure = redirects_cookie(None, "/dashboard", 1, NOW_MS, secure=True)
    assert secure == f"{COOKIE}={MARK}.1.{NOW_S}; Max-Age=30; Path=/; HttpOnly; Secure; SameSite=Lax"


def test_the_window_counts_from_the_first_redirect() -> None:
    header = None
    for count, moment in enumerate((0, 12_000, 24_000), start=1):
        now_ms = NOW_MS + moment
        assert read_redirects(header, "/dashboard", now_ms) == count - 1
        header = crumb(redirects_cookie(header, "/dashboard", count, now_ms, secure=False))
        assert header == f"{COOKIE}={MARK}.{count}.{NOW_S}"
    assert read_redirects(header, "/dashboard", NOW_MS + 31_000) == 0
    assert crumb(redirects_cookie(header, "/dashboard", 1, NOW_MS + 31_000, secure=False)).endswith(f".1.{NOW_S + 31}")


def test_another_path_begins_anew() -> None:
    header = crumb(redirects_cookie(None, "/dashboard", 2, NOW_MS - 5000, secure=False))
    assert read_redirects(header, "/settings", NOW_MS) == 0
    assert crumb(redirects_cookie(header, "/settings", 1, NOW_MS, secure=False)).endswith(f".1.{NOW_S}")


@given(st.text(max_size=200), st.text(max_size=50), st.integers(0, 10**14))
def test_any_header_gives_a_count(header: str, path: str, now_ms: int) -> None:
    assert 0 <= read_redirects(header, path, now_ms) <= 9999


@given(st.text(max_size=200), st.integers(1, 10**6), st.integers(0, 10**14), st.booleans())
def test_what_is_written_is_read_back(path: str, count: int, now_ms: int, secure: bool) -> None:
    written = redirects_cookie(None, path, count, now_ms, secure=secure)
    assert written.isascii()
    assert written.isprintable()
    assert read_redirects(f"a=b; {crumb(written)}; c=d", path, now_ms) == min(count, 9999)
