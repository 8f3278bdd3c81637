"""The languages of our pages."""

import re

import pytest

from gatekeeper.core.model import Reason
from gatekeeper.server.texts import ENGLISH, LANGUAGES, Words, cause_for, keys_of, read_language, text_for, words_for

FILLED = re.compile(r"\{(\w+)\}")


def texts_of(value: object, path: str = "") -> dict[str, str]:
    if isinstance(value, str):
        return {path: value}
    if isinstance(value, dict):
        return {at: text for key, item in value.items() for at, text in texts_of(item, f"{path}.{key}").items()}
    return {}


def all_texts(words: Words) -> dict[str, str]:
    found: dict[str, str] = {}
    for section in ("pages", "faults", "statuses", "reasons", "causes"):
        found |= texts_of(getattr(words, section), section)
    return found | {f"counts.{name}": count.other for name, count in words.counts.items()}


@pytest.mark.parametrize("tag", sorted(LANGUAGES))
def test_each_language_says_all_of_it_and_fills_in_the_same(tag: str) -> None:
    words = LANGUAGES[tag]
    assert keys_of(words) == keys_of(ENGLISH)
    assert len(words.months) == 12
    english, theirs = all_texts(ENGLISH), all_texts(words)
    for path, text in english.items():
        assert theirs[path].strip() == theirs[path] != "", path
        assert sorted(FILLED.findall(theirs[path])) == sorted(FILLED.findall(text)), path


def test_there_are_two_languages_and_they_differ() -> None:
    assert sorted(LANGUAGES) == ["de", "en"]
    same = [path for path, text in all_texts(ENGLISH).items() if all_texts(LANGUAGES["de"])[path] == text]
    assert same == ["pages.shared.code"]


@pytest.mark.parametrize(("header", "tag"), [(None, "en"), ("de", "de"), ("de-CH,en;q=0.5", "de"), ("fr", "en")])
def test_the_header_decides(header: str | None, tag: str) -> None:
    assert words_for(header).tag == tag


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "1 second"),
        (89, "89 seconds"),
        (90, "2 minutes"),
        (3600, "60 minutes"),
        (5400, "2 hours"),
        (86_400, "24 hours"),
        (172_800, "2 days"),
        (172_801, "3 days"),
    ],
)
def test_durations_are_never_too_short(seconds: int, words: str) -> None:
    assert ENGLISH.duration(seconds) == words


def test_reasons_and_causes_are_said_in_the_language_that_is_asked_for() -> None:
    german = LANGUAGES["de"]
    assert text_for(404, Reason.NOT_FOUND, german).title == "Seite nicht gefunden"
    assert text_for(404, Reason.NOT_FOUND).title == "Page not found"
    assert "Cookie" in cause_for(Reason.NO_COOKIE, secure_over_http=False, words=german).visitor
    assert "https" in cause_for(Reason.NO_COOKIE, secure_over_http=True, words=german).visitor


def test_a_file_with_something_else_in_it_is_refused() -> None:
    import msgspec

    with pytest.raises(msgspec.ValidationError):
        read_language("fr", b'name = "Francais"\nother = 1')
