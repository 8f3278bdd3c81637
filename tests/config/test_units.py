"""Durations, sizes and rates as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.config.units import parse_duration, parse_rate, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("5s", 5),
        ("1.5m", 90),
        ("2h", 7200),
        ("2d", 172_800),
        ("1w", 604_800),
        (" 5 s ", 5),
        ("0", 0),
        ("0s", 0),
        ("5", None),
        ("5S", None),
        ("-5s", None),
        ("5s5", None),
        ("s", None),
        ("", None),
        ("1e3s", None),
        ("nan", None),
        ("101000000000w", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("64KiB", 65_536),
        ("10MB", 10_000_000),
        ("1 GiB", 2**30),
        ("7B", 7),
        ("1kB", 1000),
        ("0", 0),
        ("-1", None),
        ("1.5MB", None),
        ("1TB", None),
        ("", None),
        ("9" * 30, None),
        ("99999999999GiB", None),
    ],
)
def test_sizes(text: str, size: int | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("5/1m", (5, 60)),
        ("10 / 30s", (10, 30)),
        ("5", None),
        ("5/", None),
        ("5/0", None),
        ("/1m", None),
        ("x/1m", None),
        ("9999999999/1m", None),
        ("٣/1m", None),
        ("-1/1m", None),
    ],
)
def test_rates(text: str, rate: tuple[int, float] | None) -> None:
    assert parse_rate(text) == rate


@given(st.text(max_size=20))
def test_nothing_raises(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_rate):
        parse(text)


@given(st.integers(0, 10_000), st.sampled_from([("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)]))
def test_a_number_and_a_unit_multiply(number: int, unit: tuple[str, int]) -> None:
    assert parse_duration(f"{number}{unit[0]}") == number * unit[1]


@given(st.integers(0, 5_000), st.integers(0, 5_000), st.sampled_from(["ms", "s", "m", "h", "d", "w"]))
def test_law_the_longer_text_is_the_longer_time(one: int, other: int, unit: str) -> None:
    shorter, longer = (parse_duration(f"{number}{unit}") for number in sorted((one, other)))
    assert shorter is not None
    assert longer is not None
    assert shorter <= longer
    assert (shorter == longer) == (one == other)


@given(st.integers(0, 2**30), st.sampled_from([("KiB", 1024), ("kB", 1000), ("MiB", 1024**2), ("B", 1), ("", 1)]))
def test_law_sizes_multiply(number: int, unit: tuple[str, int]) -> None:
    size = number * unit[1]
    assert parse_size(f"{number}{unit[0]}") == (size if size <= 2**50 else None)
