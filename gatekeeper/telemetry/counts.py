"""Plain counters of the hot path, and the small vocabulary that metrics speak.

Counting is one dictionary entry and two list cells for each request; what Prometheus wants to know is worked out when
it asks (`exposition`).
"""

from bisect import bisect_left

from gatekeeper.core.model import Reason

BOUNDS = (*(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),)
"""Upper bounds of the latency buckets in seconds; a last bucket takes what is longer."""

_ALLOWED = frozenset({Reason.PUBLIC, Reason.PRESENCE, Reason.SESSION, Reason.PREFLIGHT})
_MALFORMED = frozenset(
    {
        *(Reason.BAD_TARGET, Reason.BAD_METHOD, Reason.BAD_VERSION, Reason.BAD_HOST, Reason.BAD_HEADER),
        *(Reason.BAD_FRAMING, Reason.HEAD_TOO_LARGE, Reason.BODY_TOO_LARGE, Reason.ENCODED_SLASH, Reason.BAD_UPGRADE),
    }
)
_LIMITED = frozenset({Reason.HEAD_TIMEOUT, Reason.BODY_TIMEOUT, Reason.TOO_MANY_CONNECTIONS})
_CUT = frozenset({Reason.CLIENT_LEFT, Reason.CLIENT_STALLED, Reason.SESSION_ENDED, Reason.GATE_STOPS})
_UNAVAILABLE = frozenset(
    {Reason.STORE_UNAVAILABLE, Reason.UPSTREAM_REFUSED, Reason.UPSTREAM_TIMEOUT, Reason.UPSTREAM_PROTOCOL}
)


class Histogram:
    """Durations in buckets: `counts[i]` of those up to `BOUNDS[i]`, and `total` seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class Tally:
    """A counter for rare events, by label values that the gate chooses, never a client."""

    def __init__(self, name: str, help: str, labels: tuple[str, ...]) -> None:
        self.name = name
        self.help = help
        self.labels = labels
        self.values: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}

    def add(self, *values: str, by: float = 1.0) -> None:
        """Count an event with these label values, in the order of `labels`."""
        self.values[values] = self.values.get(values, 0.0) + by


def decision_of(reason: Reason, status: int) -> str:
    """allow, sign_in, deny, malformed, limit, cut, unavailable or error: what a reason and a status mean together."""
    if reason in _ALLOWED:
        return "allow"
    if reason in _MALFORMED:
        return "malformed"
    if reason in _LIMITED:
        return "limit"
    if reason in _CUT:
        return "cut"
    if reason in _UNAVAILABLE:
        return "unavailable"
    if reason is Reason.INTERNAL_ERROR:
        return "error"
    return "sign_in" if 300 <= status < 400 else "deny"
