"""Whatever happens, in whatever order: what was revoked a second ago opens nothing, and what is live is not refused.

Hypothesis makes up runs: several workers over one store, each with a feed of its own that lags, is lost and comes back,
while sessions and users change, reads take long, and browsers send session_data cookies of before.

A run is a list of numbers, one for each step, since several times as many are drawn so as with a rule for each step.  A
run that fails is shown as the calls that it makes.  Clocks differ: an app's cookie bears a time that is off by up to
`SKEW_MS`, the time that it took to write it included.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.server.revocation_run import ALL, Run, taken
from tests.server.revocation_worker import PATHS, Feeds

WHICH = [0, 1, 2, ALL, ALL]
RECENT = [0, 0, 0, 1, 2]
SOME = [1, 1, 2, 4]
USERS = ["ada", "bob"]
MOMENTS_S = [0.125, 0.25, 0.5, 0.875, 1.125, 1.5, 2.5, 4.5, 6.0, 21.0, 27.0]
SKEWS_MS = [-5_000, -1_000, 0, 0, 3_000, 4_875, 5_000]


class Step(msgspec.Struct, frozen=True):
    """Something that can happen, how often it does, and with what."""

    does: Callable[..., None]
    weight: int
    arguments: tuple[Sequence[Any], ...] = ()

    def take(self, run: Run, number: int) -> None:
        chosen = []
        for values in self.arguments:
            number, place = divmod(number, len(values))
            chosen.append(values[place])
        note(f"{self.does.__name__}({', '.join(map(repr, chosen))})")
        self.does(run, *chosen)


BOTH = [False, True]
STORES = ["eager", "eager", "lazy", "fast"]
APP = [
    Step(Run.sign_in, 1, (USERS, [3, 30, 120])),
    Step(Run.revoke, 6, (RECENT,)),
    Step(Run.revoke_all_of, 1, (USERS,)),
    Step(Run.empty_the_store, 2),
    Step(Run.extend, 2, (RECENT, [2, 60])),
    Step(Run.change_user, 4, (RECENT, ["user", "admin"], BOTH)),
]
COOKIES = [
    Step(Run.others_change, 2, ([1, 3],)),
    Step(Run.others_change_later, 3, ([21.0, 24.0, 27.0],)),
    Step(Run.app_reads, 3, (RECENT,)),
    Step(Run.app_writes_cookies, 3, (SKEWS_MS,)),
    Step(Run.all_get_cookies, 3, (SKEWS_MS,)),
    Step(Run.sign_in_and_get_cookie, 8, (USERS, SKEWS_MS)),
]
VISITORS = [
    Step(Run.ask, 4, ([0, 1, 2], RECENT, PATHS, BOTH)),
    Step(Run.all_ask, 2),
    Step(Run.all_look, 2),
]
TIME = [
    Step(Run.wait, 5, (MOMENTS_S,)),
    Step(Run.wait_and_look, 10, (MOMENTS_S,)),
    Step(Run.all_is_well_again, 2),
]
LAG = [
    Step(Run.feeds_lag, 4, (WHICH, [0.0, 0.25])),
    Step(Run.feeds_tell, 6, ([0.0, 0.5, 1.125, 1.5, 2.5], SOME)),
    Step(Run.feeds_catch_up, 1, (WHICH,)),
]
LOSS = [
    Step(Run.feeds_are_lost, 4, (WHICH, BOTH, ["at once", "at once", "slowly", "not"])),
    Step(Run.feeds_open, 4, (WHICH, ["at once", "at once", "slowly", "not"], [0.0, 1.125])),
    Step(Run.worker_starts_again, 1, ([0, 1, 2],)),
]
READS = [
    Step(Run.sign_in_and_ask, 7, (USERS, STORES)),
    Step(Run.all_ask, 3),
    Step(Run.store_takes_its_time, 1, (STORES,)),
    Step(Run.store_looks, 2, (SOME,)),
    Step(Run.store_answers, 6, (SOME, [0.0, 0.25, 1.125, 1.5])),
    Step(Run.store_answers_all, 3, ([0.0, 1.125, 1.5],)),
]
FAULTS = [Step(Run.store_fails, 1, (BOTH,))]


def course(*groups: list[Step]) -> list[Step]:
    """The steps of a kind of runs, each as often as it weighs."""
    return [step for group in groups for step in group for _ in range(step.weight)]


COURSES = {
    "calm": course(APP, VISITORS, TIME, COOKIES, COOKIES),
    "cookies": course(APP, VISITORS, TIME, LAG, LOSS, COOKIES, COOKIES),
    "lag": course(APP, VISITORS, TIME, LAG, LAG),
    "loss": course(APP, VISITORS, TIME, LOSS, FAULTS),
    "reads": course(APP, TIME, READS),
    "reads and feeds": course(APP, TIME, READS, LAG, LOSS),
    "all": course(APP, VISITORS, TIME, LAG, LOSS, COOKIES, READS, FAULTS),
}
"""Runs in which everything may happen get nowhere in particular."""


def new_run(workers: int, feed: Feeds, small: bool) -> Run:
    """One with little room, or enough, for sessions and marks."""
    return Run(workers, feed=feed, entries=2 if small else 10, marks=2 if small else 9)


Call = tuple[Any, ...]
"""A step and its arguments."""

LATER = (Run.wait_and_look, 1.125)
LOSE = (Run.feeds_are_lost, ALL, False, "slowly")
FALL_SILENT = (Run.feeds_are_lost, ALL, True, "at once")
COME_BACK = (Run.feeds_open, ALL, "at once", 1.125)
GET_COOKIE = (Run.sign_in_and_get_cookie, "ada", 0)
GET_FAST_COOKIE = (Run.sign_in_and_get_cookie, "ada", 4_875)
BEGIN_READ = (Run.sign_in_and_ask, "ada", "eager")
END_READ = (Run.store_answers, 4, 1.125)
REVOKE = (Run.revoke, 0)
CHANGE_USER = (Run.change_user, 0, "user", True)
DANGERS: list[tuple[str, Feeds, list[Call]]] = [
    ("revoked", "names", [REVOKE, LATER]),
    ("revoked-unfed", "none", [REVOKE, LATER]),
    ("revoked-without-a-name", "looks", [REVOKE, LATER]),
    ("user-changed", "names", [CHANGE_USER, LATER]),
    ("user-changed-without-a-name", "looks", [CHANGE_USER, LATER]),
    ("feed-silent", "names", [FALL_SILENT, REVOKE, LATER]),
    ("marker-late", "names", [(Run.feeds_lag, ALL, 0.25), REVOKE, (Run.feeds_tell, 1.5, 1), (Run.wait_and_look, 0.25)]),
    ("revoked-while-lost", "names", [LOSE, REVOKE, (Run.wait, 0.25), COME_BACK]),
    (
        "read-and-revoked-while-lost",
        "names",
        [(Run.sign_in, "ada", 120), LOSE, (Run.wait, 0.875), (Run.all_ask,), REVOKE, COME_BACK],
    ),
    ("revoked-while-read", "names", [BEGIN_READ, REVOKE, END_READ]),
    ("user-changed-while-read", "names", [BEGIN_READ, CHANGE_USER, END_READ]),
    ("all-changed-while-read", "names", [BEGIN_READ, (Run.empty_the_store,), END_READ]),
    ("revoked-and-lost-while-read", "names", [BEGIN_READ, LOSE, REVOKE, (Run.wait, 0.5), COME_BACK, END_READ]),
    (
        "revoked-while-read-without-a-name",
        "looks",
        [BEGIN_READ, REVOKE, (Run.wait, 0.5), (Run.store_answers_all, 1.125)],
    ),
    ("read-answered-late", "none", [BEGIN_READ, REVOKE, (Run.wait, 1.5), (Run.store_answers, 4, 0.25)]),
    ("read-joined-late", "none", [BEGIN_READ, REVOKE, (Run.wait, 1.5), (Run.all_ask,), (Run.store_answers, 4)]),
    ("cookie-revoked", "names", [GET_COOKIE, REVOKE, LATER]),
    ("cookie-of-changed-user", "names", [GET_COOKIE, CHANGE_USER, LATER]),
    ("cookie-when-all-changed", "names", [GET_COOKIE, (Run.empty_the_store,), LATER]),
    ("cookie-and-feed-silent", "names", [GET_COOKIE, FALL_SILENT, REVOKE, (Run.wait_and_look, 1.5)]),
    ("cookie-of-before", "names", [GET_COOKIE, LOSE, REVOKE, (Run.wait, 0.25), COME_BACK]),
    (
        "cookie-of-before-from-a-fast-clock",
        "names",
        [GET_FAST_COOKIE, LOSE, REVOKE, (Run.wait, 0.25), COME_BACK, (Run.wait_and_look, 6.0)],
    ),
    ("cookie-when-marks-go", "names", [GET_COOKIE, REVOKE, (Run.others_change_later, 27.0)]),
    ("cookie-from-a-fast-clock-when-marks-go", "names", [GET_FAST_COOKIE, REVOKE, (Run.others_change_later, 21.0)]),
    ("cookie-when-marks-overflow", "names", [GET_COOKIE, REVOKE, (Run.others_change, 3), LATER]),
    ("cookie-of-another-session", "names", [GET_COOKIE, GET_COOKIE, (Run.all_look,)]),
    ("cookie-unfed", "looks", [GET_COOKIE, REVOKE, LATER]),
]
"""The shortest runs that would show what each safeguard is for: one taken away makes at least one of them fail."""


@pytest.mark.parametrize(("feed", "calls"), [pytest.param(*danger, id=name) for name, *danger in DANGERS])
@pytest.mark.parametrize("small", BOTH, ids=["roomy", "small"])
def test_what_is_dangerous_is_not_believed(feed: Feeds, calls: list[Call], small: bool) -> None:
    run = new_run(2, feed, small)
    for step, *arguments in calls:
        step(run, *arguments)
        run.judge()
    run.end()


@given(
    kind=st.sampled_from(sorted(COURSES)),
    workers=st.integers(2, 3),
    feed=st.sampled_from(["names", "names", "looks", "none"]),
    small=st.booleans(),
    numbers=st.lists(st.integers(0, 2**20 - 1), min_size=25, max_size=60),
)
@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_nothing_is_believed_for_more_than_a_second_and_nobody_is_refused(
    kind: str, workers: int, feed: Feeds, small: bool, numbers: list[int]
) -> None:
    steps = COURSES[kind]
    run = new_run(workers, feed, small)
    try:
        for number in numbers:
            steps[number % len(steps)].take(run, number // len(steps))
            run.judge()
    except BaseException:
        run.close()
        raise
    run.end()


def test_the_runs_went_everywhere() -> None:
    assert taken["looks"] > 500
    assert taken["looks"] * 0.1 < taken["fed"] < taken["looks"] * 0.95
    assert taken["cookies"] > 20
    assert taken["reads"] > 500
