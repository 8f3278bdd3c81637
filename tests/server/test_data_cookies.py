"""Which session_data cookies are true, and that this is found out once."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from gatekeeper.core.cookies import Keys
from gatekeeper.core.model import SessionRecord
from gatekeeper.core.session_data_writing import SessionDataFormat, encode
from gatekeeper.server import data_cookies
from gatekeeper.server.data_cookies import DataCookies
from tests.core.records import NOW_MS, record

OLD, NEW = "an-older-secret-of-the-tests", "a-secret-of-the-tests"
AGE_S = 300
RECORD = record({"expires_at_ms": NOW_MS + 3_600_000})
ENDS_MS = {"compact": NOW_MS + AGE_S * 1000, "jwt": NOW_MS // 1000 * 1000 + AGE_S * 1000}
ENDS_MS["jwe"] = ENDS_MS["jwt"]


class Judge:
    """Judges cookies of one form; `asked` is how often it had to find out."""

    def __init__(self, strategy: str) -> None:
        self.form = SessionDataFormat(strategy, "1", AGE_S)
        self.asked = 0
        self.cookies = DataCookies(self.form, Keys([NEW, OLD]), self._uuid)

    def _uuid(self) -> str:
        self.asked += 1
        return "0a4e3b1c-6f0e-4e2f-9a53-9d9e1d1f2b11"

    def make(self, said: SessionRecord = RECORD, secrets: tuple[str, ...] = (NEW, OLD)) -> str:
        made = encode(said, Keys(list(secrets)), self.form, now_ms=NOW_MS, cookie_id=self._uuid())
        self.asked -= 1
        assert made is not None
        return made


@pytest.fixture(params=["compact", "jwt", "jwe"])
def judge(request: pytest.FixtureRequest) -> Judge:
    return Judge(request.param)


def test_a_true_cookie_holds_until_it_ends_and_is_looked_at_once(judge: Judge) -> None:
    raw, ends_ms = judge.make(), ENDS_MS[judge.form.strategy]
    for now_ms in (NOW_MS, NOW_MS + 1, ends_ms - 1):
        assert judge.cookies.true_until_ms(raw, RECORD, now_ms) == ends_ms
    assert judge.asked == 1
    assert judge.cookies.true_until_ms(raw, RECORD, ends_ms + 1) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda known: SessionRecord(known.session, replace(known.user, name="Other")),
        lambda known: SessionRecord(replace(known.session, expires_at_ms=known.session.expires_at_ms + 1), known.user),
        lambda known: SessionRecord(replace(known.session, token="another-token"), known.user),
    ],
    ids=["name", "end", "token"],
)
def test_what_has_changed_makes_it_untrue(judge: Judge, change: Callable[[SessionRecord], SessionRecord]) -> None:
    raw = judge.make()
    assert judge.cookies.true_until_ms(raw, RECORD, NOW_MS) is not None
    assert judge.cookies.true_until_ms(raw, change(RECORD), NOW_MS) is None
    assert judge.cookies.true_until_ms(raw, RECORD, NOW_MS) is not None


def test_an_equal_record_that_was_read_anew_is_as_good(judge: Judge) -> None:
    raw = judge.make()
    again = SessionRecord(replace(RECORD.session), replace(RECORD.user))
    assert judge.cookies.true_until_ms(raw, RECORD, NOW_MS) == judge.cookies.true_until_ms(raw, again, NOW_MS)
    assert judge.asked == 2


def test_neither_forged_ones_nor_those_of_an_older_secret_count(judge: Judge) -> None:
    for raw in ("", "x", judge.make()[:-2], judge.make(secrets=("nobody's-secret",)), judge.make(secrets=(OLD,))):
        assert judge.cookies.true_until_ms(raw, RECORD, NOW_MS) is None


def test_what_is_remembered_is_bounded(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_cookies, "MOST_KNOWN", 2)
    raws = [judge.make(record({"token": f"token-{n}", "expires_at_ms": NOW_MS + 3_600_000})) for n in range(5)]
    for n, raw in enumerate(raws):
        said = record({"token": f"token-{n}", "expires_at_ms": NOW_MS + 3_600_000})
        assert judge.cookies.true_until_ms(raw, said, NOW_MS) is not None
    assert repr(judge.cookies) == f"<DataCookies {judge.form.strategy}, 1 known>"


@pytest.mark.parametrize("name", ["x" * 40, "x" * 40_000])
def test_long_ones_that_can_be_spelled_in_many_ways_take_no_memory(name: str) -> None:
    judge = Judge("compact")
    said = SessionRecord(RECORD.session, replace(RECORD.user, name=name))
    raw = judge.make(said)
    spellings = [f"{raw[:at]}%{ord(raw[at]):02X}{raw[at + 1 :]}" for at in range(100)]
    for spelling in spellings:
        assert judge.cookies.true_until_ms(spelling, said, NOW_MS) == ENDS_MS["compact"]
    kept = [spelling for spelling in spellings if len(spelling) <= data_cookies.MAX_KNOWN_CHARS]
    assert repr(judge.cookies) == f"<DataCookies compact, {len(kept)} known>"
    assert len(kept) in (0, 100)
