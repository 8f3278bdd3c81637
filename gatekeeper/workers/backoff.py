"""When a worker that ended is started again: at once at first, later and later while it keeps ending soon."""

import msgspec

STEADY_S = 10.0
"""A worker that lived so long had not failed at what it was started for."""

FIRST_S = 0.25
MOST_S = 5.0


class Backoff(msgspec.Struct, frozen=True):
    """How often in a row a worker ended soon after its start."""

    short_lives: int = 0

    def after(self, lived_s: float) -> "Backoff":
        """What holds after a worker that lived for so many seconds."""
        return Backoff(1 if lived_s >= STEADY_S else self.short_lives + 1)

    @property
    def delay_s(self) -> float:
        """How many seconds to wait before the next start."""
        if self.short_lives <= 1:
            return 0.0
        return min(MOST_S, FIRST_S * 2.0 ** min(self.short_lives - 2, 16))
