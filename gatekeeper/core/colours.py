"""Colours that can be read: an accent of any kind, made dark or light enough for what it stands on.

Contrast is WCAG 2.2's (success criterion 1.4.3): 4.5 at least for text.  Colours are `#rrggbb`.
"""

import re
from typing import NamedTuple

READABLE = 4.5

_COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_STEPS = 100

_Rgb = tuple[int, int, int]


class Shades(NamedTuple):
    """An accent on a ground: for text and buttons, for what is pointed at, for text on it, and a faint ground of it.

    `tint_ink` is text on `tint`.
    """

    accent: str
    strong: str
    on_accent: str
    tint: str
    tint_ink: str


def is_colour(text: str) -> bool:
    """Whether it is a colour as it is written here."""
    return _COLOUR.fullmatch(text) is not None


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, 1 to 21."""
    lighter, darker = sorted((_luminance(_rgb(one)), _luminance(_rgb(other))), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def shades_of(accent: str, paper: str, ground: str) -> Shades:
    """The accent's shades on `paper` and `ground`, which are both light or both dark.

    Each text is readable on what it stands on: the accent on both and on its own tint, too.
    """
    towards, away = (_BLACK, _WHITE) if _luminance(_rgb(paper)) > 0.2 else (_WHITE, _BLACK)
    grounds = _rgb(paper), _rgb(ground)
    candidates = (_mixed(_rgb(accent), towards, step / _STEPS) for step in range(_STEPS + 1))
    colour = next(one for one in candidates if _can_be_read(one, *grounds))
    strong, tint_ink = (_mixed(colour, towards, share) for share in (0.25, 0.35))
    return Shades(*map(_text, (colour, strong, away, _tint(grounds[0], colour), tint_ink)))


def _can_be_read(colour: _Rgb, paper: _Rgb, ground: _Rgb) -> bool:
    return all(contrast(_text(colour), _text(back)) >= READABLE for back in (paper, ground, _tint(paper, colour)))


def _tint(paper: _Rgb, colour: _Rgb) -> _Rgb:
    return _mixed(paper, colour, 0.1)


def _rgb(colour: str) -> _Rgb:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _text(colour: _Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _mixed(one: _Rgb, other: _Rgb, share: float) -> _Rgb:
    """One colour with so much of the other, 0 to 1."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _luminance(colour: _Rgb) -> float:
    """Relative luminance, 0 for black to 1 for white."""
    red, green, blue = (_linear(channel / 255) for channel in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
