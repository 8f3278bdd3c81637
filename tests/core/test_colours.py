import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.core.colours import READABLE, contrast, is_colour, shades_of

LIGHT = ("#ffffff", "#f4f5f2")
DARK = ("#1b211e", "#121614")
COLOURS = st.integers(0, 0xFFFFFF).map("#{:06x}".format)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        pytest.param("#000000", "#ffffff", 21.0, id="most"),
        pytest.param("#ffffff", "#ffffff", 1.0, id="least"),
        pytest.param("#777777", "#ffffff", 4.48, id="grey-that-just-fails"),  # WebAIM's example of a near miss
        pytest.param("#767676", "#ffffff", 4.54, id="grey-that-just-passes"),
        pytest.param("#0000ff", "#ffffff", 8.59, id="blue"),
        pytest.param("#ff0000", "#ffffff", 4.0, id="red"),
    ],
)
def test_contrast_is_that_of_wcag(one: str, other: str, expected: float) -> None:
    assert contrast(one, other) == pytest.approx(expected, abs=0.01)
    assert contrast(other, one) == contrast(one, other)


@pytest.mark.parametrize(("text", "is_one"), [("#1d5c47", True), ("#1D5C47", True), ("#fff", False), ("red", False)])
def test_colours_are_written_in_one_way(text: str, is_one: bool) -> None:
    assert is_colour(text) is is_one
    assert not is_colour(text + "\n")


@given(COLOURS, st.sampled_from([LIGHT, DARK]))
def test_every_text_can_be_read(accent: str, scheme: tuple[str, str]) -> None:
    paper, ground = scheme
    shades = shades_of(accent, paper, ground)
    for ink, back in (
        (shades.accent, paper),
        (shades.accent, ground),
        (shades.accent, shades.tint),
        (shades.strong, paper),
        (shades.on_accent, shades.accent),
        (shades.on_accent, shades.strong),
        (shades.tint_ink, shades.tint),
    ):
        assert contrast(ink, back) >= READABLE, (ink, back)


def test_a_readable_accent_stays_as_it_is() -> None:
    assert shades_of("#1d5c47", *LIGHT).accent == "#1d5c47"
    assert shades_of("#8fd3b8", *DARK).accent == "#8fd3b8"


def test_another_keeps_its_hue() -> None:
    shades = shades_of("#ffcc00", *LIGHT)
    red, green, blue = (int(shades.accent[at : at + 2], 16) for at in (1, 3, 5))
    assert red > green > blue == 0
