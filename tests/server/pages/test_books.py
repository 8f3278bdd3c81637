"""Where sessions are kept: the same page over accounts mode's store, a store of an app, and an app's own calls."""

from collections.abc import Sequence

import pytest

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import RequestFacts, Session, SessionRecord, SessionToken
from gatekeeper.server.account_pages.books import AccountBook, AppBook, SessionBook, Visitor, WriterBook
from gatekeeper.stores.app_sessions import NotFresh
from tests.core.records import NOW_MS, session, user
from tests.server.auth.fakes import FakeAccounts
from tests.server.test_pages import facts

ADA, EVE = user(id="ada"), user(id="eve", email="ada")


def own(name: str, **changes: object) -> Session:
    return session(**({"id": name, "token": f"token-{name}", "user_id": "ada"} | changes))


STORED = [
    own("this"),
    own("phone"),
    own("tablet", created_at_ms=NOW_MS - 1),
    own("expired", expires_at_ms=NOW_MS - 1),
    own("theirs", user_id="eve"),
]


class FakeWriter:
    """A store whose look-up by user also finds who has this for an address, as the real ones do."""

    def __init__(self) -> None:
        self.rows = {one.token: one for one in STORED}

    async def list_sessions(self, user: str | None, *, limit: int) -> Sequence[SessionRecord]:
        return [SessionRecord(one, ADA if one.user_id == "ada" else EVE) for one in self.rows.values()]

    async def revoke(self, sessions: Sequence[Session]) -> int:
        return sum(self.rows.pop(one.token, None) is not None for one in sessions)


class FakeApp:
    """An app's calls.  `is_stale`: it asks for a recent sign-in."""

    def __init__(self) -> None:
        self.rows = {one.token: one for one in STORED}
        self.is_stale = False

    async def list_sessions(self, token: SessionToken, facts: RequestFacts, own_origin: str) -> Sequence[Session]:
        if self.is_stale:
            raise NotFresh
        assert own_origin == "https://app.example.com"
        return list(self.rows.values())

    async def revoke(self, ended: str, token: SessionToken, facts: RequestFacts, own_origin: str) -> None:
        del self.rows[ended]

    async def revoke_others(self, token: SessionToken, facts: RequestFacts, own_origin: str) -> None:
        self.rows = {key: one for key, one in self.rows.items() if key == token or one.user_id != "ada"}


def account_book() -> tuple[SessionBook, FakeAccounts]:
    accounts = FakeAccounts()
    accounts.users = {"ada": ADA, "eve": EVE}
    accounts.sessions = {one.token: one for one in STORED}
    return AccountBook(accounts), accounts


@pytest.fixture(params=["accounts", "writer", "app"])
def book(request: pytest.FixtureRequest) -> SessionBook:
    if request.param == "accounts":
        return account_book()[0]
    # The fakes have of their protocols what a book asks for.
    return WriterBook(FakeWriter()) if request.param == "writer" else AppBook(FakeApp())  # type: ignore[arg-type]


VISITOR = Visitor(SessionRecord(STORED[0], ADA), facts(), "https://app.example.com", NOW_MS)


async def names(book: SessionBook) -> list[str]:
    return sorted(one.id for one in await book.live(VISITOR))


async def test_lists_the_visitors_live_sessions(book: SessionBook) -> None:
    assert await names(book) == ["phone", "tablet", "this"]


async def test_ends_one(book: SessionBook) -> None:
    ended = await book.end(VISITOR, "phone")
    assert (list(ended.tokens), ended.count) == (["token-phone"], 1)
    assert await names(book) == ["tablet", "this"]
    again = await book.end(VISITOR, "phone")
    assert (list(again.tokens), again.count) == ([], 0)


@pytest.mark.parametrize("name", ["theirs", "nobody's", ""])
async def test_ends_nobody_elses(book: SessionBook, name: str) -> None:
    assert (await book.end(VISITOR, name)).count == 0
    eve = Visitor(SessionRecord(STORED[4], EVE), facts(), "https://app.example.com", NOW_MS)
    assert [one.id for one in await book.live(eve)] == ["theirs"]


async def test_ends_the_others_and_counts_the_live_ones(book: SessionBook) -> None:
    ended = await book.end_others(VISITOR)
    assert ended.count == 2
    assert {"token-phone", "token-tablet"} <= set(ended.tokens)
    assert "token-this" not in ended.tokens
    assert await names(book) == ["this"]
    assert (await book.end_others(VISITOR)).count == 0


async def test_a_place_that_cannot_be_reached_is_said() -> None:
    book, accounts = account_book()
    accounts.error = StoreUnavailable("away")
    for call in (book.live(VISITOR), book.end(VISITOR, "phone"), book.end_others(VISITOR)):
        with pytest.raises(StoreUnavailable):
            await call


async def test_an_app_that_asks_for_a_recent_sign_in_ends_nothing() -> None:
    app = FakeApp()
    app.is_stale = True
    book = AppBook(app)  # type: ignore[arg-type]
    for call in (book.live(VISITOR), book.end(VISITOR, "phone"), book.end_others(VISITOR)):
        with pytest.raises(NotFresh):
            await call
    assert len(app.rows) == len(STORED)
