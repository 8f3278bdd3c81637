"""Percentiles by nearest rank, and medians over records."""

import pytest

from bench.stats import median_of, percentile
from tests.bench.records import samples


@pytest.mark.parametrize(
    ("percent", "expected"),
    [(0, 1), (1, 1), (50, 50), (50.1, 51), (90, 90), (99, 99), (99.9, 100), (100, 100)],
)
def test_percentile_of_one_to_a_hundred(percent: float, expected: int) -> None:
    assert percentile(list(range(1, 101)), percent) == expected


def test_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 99.9) == 7.0


def test_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_median_of_a_field() -> None:
    assert median_of(samples(3, 100, 4), "cpu_us") == 4
