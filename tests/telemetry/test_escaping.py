"""Nothing that a terminal or a log reader acts upon is left in an escaped text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.telemetry.escaping import cut, escape

ANY_TEXT = st.text(st.characters(exclude_categories=()))
BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's categories of controls, invisible format characters, surrogates, line and paragraph ends."""


@given(ANY_TEXT)
def test_no_acting_character_is_left(text: str) -> None:
    safe = escape(text)
    assert not {character for character in safe if unicodedata.category(character) in ACTING}
    assert not BIDI & set(safe)
    safe.encode()  # no lone surrogate


@given(ANY_TEXT)
def test_escaping_twice_changes_nothing_more(text: str) -> None:
    assert escape(escape(text)) == escape(text)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain", "plain"),
        ("Ada Łoś 漢字 😀", "Ada Łoś 漢字 😀"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\x1b[31m\x9b", r"\x1b[31m\x9b"),
        ("\x85\u2028\u202e\ud800", r"\x85\u2028\u202e\ud800"),
        ("\U000e0041", r"\U000e0041"),
        (r"C:\logs", r"C:\logs"),
    ],
)
def test_how_it_looks(text: str, safe: str) -> None:
    assert escape(text) == safe


def test_cut() -> None:
    assert (cut("12345", 5), cut("123456", 5)) == ("12345", "1234…")
