"""The words of our pages: what happened, and what to do, in the visitor's language.

Each language is a file of `languages/`, named after its tag; a further one is a further file.  English says what there
is to say: a file that lacks any of it, or has more, is refused at import.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, NamedTuple, cast

import msgspec

from gatekeeper.core.languages import choose_language
from gatekeeper.core.model import Reason

DEFAULT = "en"


class Text(NamedTuple):
    """A page's heading, and its paragraphs: what happened, what to do."""

    title: str
    happened: str
    advice: str


class Cause(NamedTuple):
    """Why signing in did not hold: for the visitor, and for whoever runs the site."""

    visitor: str
    operator: str


class Count(msgspec.Struct, frozen=True):
    """What is said of one, and of any other number, which stands in for `{n}`."""

    one: str
    other: str

    def of(self, n: int) -> str:
        return self.one if n == 1 else self.other.format(n=n)


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A language: `pages` are the texts of pages by page and name, `faults` what is wrong with a form, `mails` the
    texts of mails by kind and name.
    """

    name: str
    date: str
    months: tuple[str, ...]
    counts: Mapping[str, Count]
    pages: Mapping[str, Mapping[str, str]]
    faults: Mapping[str, str]
    statuses: Mapping[str, Mapping[str, str]]
    reasons: Mapping[str, Mapping[str, str]]
    causes: Mapping[str, Mapping[str, str]]
    mails: Mapping[str, Mapping[str, str]]
    tag: str = ""

    def duration(self, seconds: int) -> str:
        """A span of time in its largest unit, rounded up, so that who waits so long has waited long enough."""
        for unit, size, limit in (("seconds", 1, 90), ("minutes", 60, 90 * 60), ("hours", 3600, 172_800)):
            if seconds < limit:
                return self.counts[unit].of(-(-seconds // size))
        return self.counts["days"].of(-(-seconds // 86_400))

    def date_of(self, ms: int) -> str:
        """A moment, in milliseconds since the epoch, to the minute; UTC."""
        moment = datetime.fromtimestamp(ms // 1000, UTC)
        month = self.months[moment.month - 1]
        return self.date.format(day=moment.day, month=month, year=moment.year, time=f"{moment:%H:%M}")


def words_for(accept_language: str | None) -> Words:
    """The language that this header prefers, of those that there are; else English."""
    return LANGUAGES[choose_language(accept_language, _TAGS)]


def text_for(status: int, reason: Reason, words: Words | None = None) -> Text:
    """The words for this answer: the reason's own, else the status's; in English unless others are given."""
    words = words or ENGLISH
    by_status = words.statuses.get(str(status)) or words.statuses["server_fault" if status >= 500 else "bad_request"]
    return Text(**words.reasons.get(reason.value, by_status))


def cause_for(cause: Reason, *, secure_over_http: bool, words: Words | None = None) -> Cause:
    """Why the third redirect in a row was about to happen."""
    causes = (words or ENGLISH).causes
    if cause is Reason.NO_COOKIE and secure_over_http:
        return Cause(**causes["SECURE_OVER_HTTP"])
    return Cause(**causes.get(cause.value, causes["UNKNOWN"]))


def read_language(tag: str, text: bytes) -> Words:
    """The language of a file.  Raises msgspec.ValidationError or DecodeError for one of another form."""
    return msgspec.structs.replace(msgspec.toml.decode(text, type=Words), tag=tag)


def keys_of(words: Words) -> set[str]:
    """What a language says, as dotted paths."""
    return set(_paths(msgspec.to_builtins(words), ""))


def _paths(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in cast(dict[str, Any], value).items():
            yield from _paths(item, f"{path}.{key}")
    else:
        yield path if isinstance(value, str) else f"{path} ({len(value)})"


def _read_languages() -> dict[str, Words]:
    entries = (entry for entry in (files("gatekeeper.server") / "languages").iterdir() if entry.name.endswith(".toml"))
    found = {tag: read_language(tag, entry.read_bytes()) for entry in entries for tag in [entry.name[: -len(".toml")]]}
    known = keys_of(found[DEFAULT])
    for tag, words in found.items():
        if odd := keys_of(words) ^ known:
            raise ValueError(f"languages/{tag}.toml: {', '.join(sorted(odd))} is missing, or is not in {DEFAULT}.toml")
    return found


LANGUAGES = _read_languages()
ENGLISH = LANGUAGES[DEFAULT]
_TAGS = (DEFAULT, *sorted(LANGUAGES.keys() - {DEFAULT}))
