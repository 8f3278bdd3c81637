"""Percentiles and medians."""

import math
from collections.abc import Sequence
from statistics import median


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that at least this percentage of the values does not exceed (nearest rank).

    `ordered` is sorted.  Raises ValueError when it is empty.
    """
    if not ordered:
        raise ValueError("there are no values")
    rank = math.ceil(len(ordered) * percent / 100)
    return ordered[max(rank, 1) - 1]


def median_of(records: Sequence[object], field: str) -> float:
    """The median of one field of these records."""
    return median(getattr(record, field) for record in records)
