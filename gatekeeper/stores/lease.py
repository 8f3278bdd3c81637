"""How far a worker may believe what it remembers: a lease that a feed renews.

A feed tells of revocations and user changes in the order in which they happened.  A marker that goes round through the
same channel proves that everything before it was told.  So, a short time after a marker was *sent* that came back,
nothing that is remembered can be older than that.  No timer ends a lease: who asks compares the time, and a worker that
was held up, or whose feed has died, finds it gone.

Times are monotonic seconds: a wall clock that is set right later has called another moment by the same name.
"""

MARKER_S = 0.25
"""How often a marker is sent."""

LOST_S = 0.75
"""How long after it was sent a marker that came back is relied on."""


class Lease:
    """Held from the first marker that came back until one does not; at first not held."""

    __slots__ = ("covered_since", "held_until", "proven_at")

    def __init__(self) -> None:
        self.held_until = 0.0
        """Until when everything that happened before `proven_at` is known to be told."""
        self.proven_at = 0.0
        """When the last marker that came back was sent."""
        self.covered_since: float | None = None
        """Since when nothing was missed; None while something may have been."""

    def __repr__(self) -> str:
        return f"<Lease until {self.held_until:.2f}, covered since {self.covered_since}>"

    def is_held(self, now: float) -> bool:
        return now < self.held_until

    def begin(self, now: float | None) -> None:
        """From now on nothing is missed: what was remembered before has been forgotten.  None for a feed that only
        tells of what is remembered.
        """
        self.covered_since = now

    def renew(self, sent_at: float) -> None:
        """A marker that was sent at this time has come back, and so has all that was before it."""
        self.proven_at = max(self.proven_at, sent_at)
        self.held_until = max(self.held_until, sent_at + LOST_S)

    def lose(self, now: float) -> None:
        """The channel is gone: what happens from now on is not told."""
        self.held_until = min(self.held_until, now)
        self.covered_since = None
