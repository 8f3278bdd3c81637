"""The Set-Cookie lines of a session: Better Auth's attributes, order, chunks and clears."""

import json
from pathlib import Path

import pytest

from gatekeeper.core.cookies import cookie_names
from gatekeeper.core.session_cookies import CookieScope, clearing_lines, data_lines, dont_remember_line, token_line

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "session-data.json").read_text(encoding="utf-8"))
NAMES = cookie_names("better-auth", secure=False)
SCOPE = CookieScope(None, False, "lax")
PLAIN = "; Path=/; HttpOnly; SameSite=Lax"
CLEARED = "; Max-Age=0" + PLAIN
DATA = "better-auth.session_data"


def value_of(lines: list[str]) -> str:
    return "".join(line.partition(";")[0].partition("=")[2] for line in lines)


@pytest.mark.parametrize("case", VECTORS["chunking"], ids=lambda case: case["case"])
def test_chunks_are_cut_as_better_auth_cuts_them(case: dict[str, list[str]]) -> None:
    lines = [line for line in case["signUpSetCookie"] if line.startswith(DATA)]
    assert len(lines) == 4
    assert data_lines(NAMES, value_of(lines), None, SCOPE, 300) == lines


def test_session_token_line() -> None:
    assert token_line(NAMES, "T.sig%3D", SCOPE, 172_800) == "better-auth.session_token=T.sig%3D; Max-Age=172800" + PLAIN
    assert token_line(NAMES, "T", SCOPE, None) == "better-auth.session_token=T" + PLAIN


def test_attributes_are_as_configured() -> None:
    names = cookie_names("app", secure=True)
    line = token_line(names, "T", CookieScope(".example.test", True, "none"), 60)
    assert line == (
        "__Secure-app.session_token=T; Max-Age=60; Domain=.example.test; Path=/; HttpOnly; Secure; SameSite=None"
    )


@pytest.mark.parametrize(
    ("size", "parts"),
    [pytest.param(3977, 1, id="just-fits"), pytest.param(3978, 2, id="one-too-many"), pytest.param(397_700, 100)],
)
def test_as_few_cookies_as_it_takes(size: int, parts: int) -> None:
    lines = data_lines(NAMES, "x" * size, None, SCOPE, 300)
    assert len(lines) == parts
    assert value_of(lines) == "x" * size
    assert all(len(line) < 4096 for line in lines)


def test_too_long_for_any_cookie() -> None:
    assert data_lines(NAMES, "x" * 397_701, None, SCOPE, 300) == []
    assert data_lines(NAMES, "x" * 397_701, f"{DATA}=old", SCOPE, 300) == [f"{DATA}={CLEARED}"]


def test_from_chunks_to_one_clears_the_chunks() -> None:
    lines = data_lines(NAMES, "new", f"a=b; {DATA}.0=x; {DATA}.1=y; {DATA}.01=no; {DATA}x=no", SCOPE, 300)
    assert lines == [f"{DATA}.0={CLEARED}", f"{DATA}.1={CLEARED}", f"{DATA}=new; Max-Age=300{PLAIN}"]


def test_from_one_to_chunks_clears_the_one() -> None:
    lines = data_lines(NAMES, "x" * 4000, f"{DATA}=old; {DATA}.7=old", SCOPE, 300)
    names = [line.partition("=")[0] for line in lines]
    assert names == [DATA, f"{DATA}.7", f"{DATA}.0", f"{DATA}.1"]
    assert lines[:2] == [f"{DATA}={CLEARED}", f"{DATA}.7={CLEARED}"]


def test_what_is_written_anew_is_not_cleared() -> None:
    assert data_lines(NAMES, "new", f"{DATA}=old", SCOPE, 300) == [f"{DATA}=new; Max-Age=300{PLAIN}"]
    assert data_lines(NAMES, "new", None, SCOPE, None) == [f"{DATA}=new{PLAIN}"]


def test_without_a_value_leftovers_are_cleared() -> None:
    assert data_lines(NAMES, None, f"{DATA}=old", SCOPE, None) == [f"{DATA}={CLEARED}"]
    assert data_lines(NAMES, None, None, SCOPE, 300) == []


def test_clearing_everything_in_better_auths_order() -> None:
    token, forget = NAMES.session_token, NAMES.dont_remember
    assert clearing_lines(NAMES, None, SCOPE) == [f"{name}={CLEARED}" for name in (token, DATA, forget)]
    header = f"{DATA}.1=y; {token}=T; {DATA}.0=x; {DATA}=z"
    wanted = [token, DATA, f"{DATA}.1", f"{DATA}.0", forget]
    assert clearing_lines(NAMES, header, SCOPE) == [f"{name}={CLEARED}" for name in wanted]


def test_dont_remember_ends_with_the_browser_and_can_be_cleared() -> None:
    line = "better-auth.dont_remember=true.sig%3D" + PLAIN
    assert dont_remember_line(NAMES, "true.sig%3D", SCOPE) == line
    assert dont_remember_line(NAMES, "", SCOPE) == "better-auth.dont_remember=" + CLEARED
