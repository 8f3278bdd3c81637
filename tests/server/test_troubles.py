"""`server.troubles`: a line when it begins, one when it ends, and none for each request between."""

import pytest

from gatekeeper.core.errors import StoreLimited, StoreUnavailable
from gatekeeper.server.troubles import REPEAT_S, Troubles


class Told:
    """Trouble with a clock that stands, and what was logged of it since it was last asked."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", logger="gatekeeper")
        self.now_s = 1000.0
        self.troubles = Troubles("nothing works", "all works again", lambda: self.now_s)
        self._caplog = caplog

    def lines(self) -> list[tuple[str, str]]:
        found = [(one.levelname, one.getMessage()) for one in self._caplog.records if one.name == "gatekeeper"]
        self._caplog.clear()
        return found


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    return Told(caplog)


AWAY, BACK = ("ERROR", "nothing works: away"), ("WARNING", "all works again")


def test_a_line_each_way(told: Told) -> None:
    told.troubles.ended()
    for _ in range(3):
        told.troubles.began(StoreUnavailable("away"))
    assert told.lines() == [AWAY]
    told.troubles.ended()
    told.troubles.ended()
    assert told.lines() == [BACK]
    told.troubles.began(StoreUnavailable("away"))
    assert told.lines() == [AWAY]


def test_each_way_in_which_it_shows_is_told_and_no_more_than_a_few(told: Told) -> None:
    for number in (1, 2, 1, 2):
        told.troubles.began(StoreUnavailable(f"way {number}"), "; do this")
    assert told.lines() == [("ERROR", f"nothing works: way {number}; do this") for number in (1, 2)]
    for number in range(100):
        told.troubles.began(StoreUnavailable(f"way {number}"))
    assert len(told.lines()) == 6


def test_what_lasts_or_ended_unseen_is_told_again(told: Told) -> None:
    told.troubles.began(StoreUnavailable("away"))
    told.now_s += REPEAT_S - 1
    told.troubles.began(StoreUnavailable("away"))
    assert told.lines() == [AWAY]
    told.now_s += 1
    told.troubles.began(StoreUnavailable("away"))
    assert told.lines() == [AWAY]


def test_one_visitor_alone_is_not_the_stores_trouble(told: Told) -> None:
    told.troubles.began(StoreLimited("answered 429"))
    told.troubles.ended()
    assert told.lines() == [("INFO", "nothing works for one visitor: answered 429")]
