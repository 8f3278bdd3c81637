"""Durations, sizes and rates as people write them."""

import re

DURATION_PATTERN = r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w)"
SIZE_PATTERN = r"([0-9]+)\s*(B|kB|KB|KiB|MB|MiB|GB|GiB)?"

_DURATION = re.compile(DURATION_PATTERN)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_SIZE = re.compile(SIZE_PATTERN)
_BYTES = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "KiB": 1024,
    "MB": 1000**2,
    "MiB": 1024**2,
    "GB": 1000**3,
    "GiB": 1024**3,
}
_LONGEST_S = 100 * 365 * 86_400.0
_LARGEST = 2**50


def parse_duration(text: str) -> float | None:
    """Seconds of `250ms`, `5s`, `5m`, `1h`, `2d`, `1w`, or `0`; None for anything else, and beyond 100 years."""
    if text.strip() == "0":
        return 0.0
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        return None
    seconds = float(match[1]) * _SECONDS[match[2]]
    return seconds if seconds <= _LONGEST_S else None


def parse_size(text: str) -> int | None:
    """Bytes of `4096`, `64KiB`, `10MB`; None for anything else, and beyond 1 PiB."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or len(match[1]) > 18:
        return None
    size = int(match[1]) * _BYTES[match[2] or "B"]
    return size if size <= _LARGEST else None


def parse_rate(text: str) -> tuple[int, float] | None:
    """Count and seconds of `5/1m`; None for anything else."""
    count, slash, per = text.partition("/")
    seconds = parse_duration(per)
    if not slash or not re.fullmatch(r"[0-9]{1,9}", count.strip()) or not seconds:
        return None
    return int(count), seconds
