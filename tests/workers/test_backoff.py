"""When a worker that ended is started again."""

from gatekeeper.workers.backoff import STEADY_S, Backoff


def delays(*lives_s: float) -> list[float]:
    """How long is waited after each of these lives."""
    backoff, found = Backoff(), []
    for lived_s in lives_s:
        backoff = backoff.after(lived_s)
        found.append(backoff.delay_s)
    return found


def test_at_once_then_twice_as_long_each_time_up_to_five_seconds() -> None:
    assert delays(*[1.0] * 8) == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_long_life_begins_anew() -> None:
    assert delays(0.1, 0.1, 0.1, STEADY_S, 0.1, 0.1) == [0.0, 0.25, 0.5, 0.0, 0.25, 0.5]


def test_one_that_always_lives_long_is_always_started_at_once() -> None:
    assert delays(60.0, 60.0, 60.0) == [0.0, 0.0, 0.0]


def test_a_thousand_short_lives_do_not_overflow() -> None:
    assert delays(*[0.0] * 2_000)[-1] == 5.0
