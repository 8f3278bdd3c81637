"""How a drill that gathers what went wrong ends: the first of it, a word, and the exit code."""

from collections.abc import Sequence

SHOWN = 20


def verdict(failures: Sequence[str]) -> int:
    """Print what went wrong, and whether the drill passed; the exit code."""
    for failure in failures[:SHOWN]:
        print(f"FAILED: {failure}")
    print("passed" if not failures else f"failed, {len(failures)} times")
    return 1 if failures else 0
