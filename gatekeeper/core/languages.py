"""Which of the languages that we have a visitor reads best.

The header is read as RFC 9110 §12.5.4 has it and looked up as in RFC 4647 §3.4: `de-AT` is served by `de`, not the
other way round.  What is malformed is passed over, and so is what stands behind the first few dozen entries.
"""

import re
from collections.abc import Iterator, Sequence

_RANGE = re.compile(
    r"[ \t]*([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*|\*)[ \t]*(?:;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?[ \t]*"
)
_MAX_CHARS = 1000
_MAX_RANGES = 50


def choose_language(header: str | None, offered: Sequence[str]) -> str:
    """The offered language that this Accept-Language header prefers; the first one where it names none of them.

    `offered` are tags in lower case.  Of equal preference the one named first counts.  A weight of 0 refuses a
    language, but for the first offered: something must be shown.
    """
    best, best_weight = offered[0], 0.0
    named: set[str] = set()
    for tag, weight in _ranges(header):
        found = _look_up(tag, offered, named)
        if found is None:
            continue
        named.add(found)
        if weight > best_weight:
            best, best_weight = found, weight
    return best


def _ranges(header: str | None) -> Iterator[tuple[str, float]]:
    """Tags in lower case with their weights, exact ones before `*`, which stands for what no other names."""
    if header is None or len(header) > _MAX_CHARS:
        return
    matches = (_RANGE.fullmatch(part) for part in header.split(",", _MAX_RANGES)[:_MAX_RANGES])
    found = [(match[1].lower(), float(match[2] or 1)) for match in matches if match is not None]
    yield from sorted(found, key=lambda one: one[0] == "*")


def _look_up(tag: str, offered: Sequence[str], named: set[str]) -> str | None:
    """The offered language that serves this tag: itself, or it without its last parts."""
    if tag == "*":
        return next((language for language in offered if language not in named), None)
    while tag not in offered and "-" in tag:
        tag = tag.rpartition("-")[0]
    return tag if tag in offered else None
