"""A clock in hand."""


class Clock:
    """Gives the time that it is set to; in whatever unit the test counts."""

    def __init__(self, at: float = 1_000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at
