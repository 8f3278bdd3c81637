"""What every session store must do: one suite for all of them.

A store's test module subclasses `StoreContract` and implements the five abstract methods on the real thing; the tests
come by inheritance.  Values are given as Better Auth's fields, by its names, dates as milliseconds since the epoch:
each store writes them the way Better Auth does there.
"""

from abc import abstractmethod
from typing import Any

import pytest

from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.core.model import SessionRecord, SessionToken
from gatekeeper.stores.cache import SessionCache
from gatekeeper.stores.protocol import SessionStore

CREATED_MS = 1_790_000_000_123
EXPIRES_MS = CREATED_MS + 172_800_000
TOKEN = SessionToken("Hi6S9rraIHeIRnN1vBUEIReA83O8vrVz")
OTHER = SessionToken("hi6s9rraiheirnn1vbueirea83o8vrvz")  # the same but for case


class StoreContract:
    """The tests.  `user_id` and `other_user_id` are ids as this kind of database gives them."""

    user_id: Any = "Pk2mWn8QxDs4vTzLbR7yAcEfGhJ1oU3i"
    other_user_id: Any = "Zx9cVb7NmAs2dFgH4jKlQw6eRt8yUi0o"

    @pytest.fixture
    def store(self) -> SessionStore:
        raise NotImplementedError

    @abstractmethod
    async def insert_user(self, **fields: Any) -> None:
        """Write a user: `id`, and whatever differs from a verified user created at CREATED_MS."""

    @abstractmethod
    async def insert_session(self, **fields: Any) -> None:
        """Write a session: `token`, `userId`, and whatever differs from CREATED_MS to EXPIRES_MS."""

    @abstractmethod
    async def delete_session(self, token: str) -> None:
        """Revoke a session as the app does."""

    @abstractmethod
    async def break_store(self) -> None:
        """Make the store unable to answer."""

    @abstractmethod
    async def repair_store(self) -> None:
        """Undo `break_store`; what was written before is there again."""

    async def sign_in(self, token: str = TOKEN, **session: Any) -> None:
        await self.insert_user(id=self.user_id)
        await self.insert_session(token=token, userId=self.user_id, **session)

    async def test_a_session_comes_with_its_user(self, store: SessionStore) -> None:
        await self.sign_in()
        record = await store.read_session(TOKEN)
        assert record is not None
        session, user = record.session, record.user
        assert (session.token, session.user_id, user.id) == (TOKEN, str(self.user_id), str(self.user_id))
        assert (session.created_at_ms, session.updated_at_ms) == (CREATED_MS, CREATED_MS)
        assert session.expires_at_ms == EXPIRES_MS
        assert (session.ip_address, session.user_agent) == ("", "")
        assert (user.name, user.email, user.email_verified) == ("Ada Lovelace", "ada@example.test", True)
        assert (user.image, user.created_at_ms, user.updated_at_ms) == (None, CREATED_MS, CREATED_MS)

    async def test_a_token_that_nobody_has_is_none(self, store: SessionStore) -> None:
        await self.sign_in()
        assert await store.read_session(SessionToken("unknown")) is None
        assert await store.read_session(SessionToken("")) is None

    @pytest.mark.parametrize(
        "token", ["' or '1'='1", '"', "%", "_" * 32, "*", "a\x00b", "ü", "\ud800", "x" * 100_000], ids=ascii
    )
    async def test_odd_tokens_are_none(self, store: SessionStore, token: str) -> None:
        await self.sign_in()
        assert await store.read_session(SessionToken(token)) is None

    async def test_tokens_are_matched_exactly(self, store: SessionStore) -> None:
        await self.sign_in(TOKEN)
        for near in (OTHER, TOKEN + " ", " " + TOKEN, TOKEN[:-1], TOKEN + "\x00"):
            assert await store.read_session(SessionToken(near)) is None
        await self.insert_user(id=self.other_user_id, email="grace@example.test")
        await self.insert_session(token=OTHER, userId=self.other_user_id)
        assert await user_of(store, OTHER) == str(self.other_user_id)
        assert await user_of(store, TOKEN) == str(self.user_id)

    async def test_a_revoked_session_is_none_at_once(self, store: SessionStore) -> None:
        await self.sign_in()
        assert await store.read_session(TOKEN) is not None
        await self.delete_session(TOKEN)
        assert await store.read_session(TOKEN) is None

    async def test_a_session_written_after_the_first_read_is_there_at_once(self, store: SessionStore) -> None:
        assert await store.read_session(TOKEN) is None
        await self.sign_in()
        assert await store.read_session(TOKEN) is not None

    async def test_an_expired_session_is_returned_as_it_is(self, store: SessionStore) -> None:
        await self.sign_in(expiresAt=CREATED_MS - 1)
        record = await store.read_session(TOKEN)
        assert record is not None
        assert record.session.expires_at_ms == CREATED_MS - 1

    async def test_texts_keep_every_character(self, store: SessionStore) -> None:
        await self.insert_user(id=self.user_id, name="Zoë 🦉 O'Brien\n", emailVerified=False, image="https://x.test/a")
        await self.insert_session(token=TOKEN, userId=self.user_id, userAgent="Mozilla/5.0 (ü)", ipAddress="::1")
        record = await store.read_session(TOKEN)
        assert record is not None
        assert (record.user.name, record.user.image) == ("Zoë 🦉 O'Brien\n", "https://x.test/a")
        assert record.user.email_verified is False
        assert (record.session.user_agent, record.session.ip_address) == ("Mozilla/5.0 (ü)", "::1")

    async def test_several_sessions_are_read_at_once(self, store: SessionStore) -> None:
        await self.sign_in(TOKEN)
        await self.insert_user(id=self.other_user_id, email="grace@example.test")
        await self.insert_session(token=OTHER, userId=self.other_user_id)
        unknown = [SessionToken(f"unknown-{number}") for number in range(120)]
        odd = [SessionToken(token) for token in ("", "a\x00b", "\ud800", "' or '1'='1")]
        found = await store.read_sessions([*unknown, TOKEN, *odd, OTHER, TOKEN])
        assert set(found) == {TOKEN, OTHER}
        assert [found[TOKEN], found[OTHER]] == [await store.read_session(TOKEN), await store.read_session(OTHER)]
        assert await store.read_sessions([]) == {}
        await self.delete_session(TOKEN)
        assert set(await store.read_sessions([TOKEN, OTHER])) == {OTHER}

    async def test_check_passes_while_reading_works(self, store: SessionStore) -> None:
        await store.check()

    async def test_a_broken_store_says_so_without_the_token_and_recovers(self, store: SessionStore) -> None:
        await self.sign_in()
        assert await store.read_session(TOKEN) is not None
        await self.break_store()
        for _ in range(2):
            with pytest.raises(StoreUnavailable) as caught:
                await store.read_session(TOKEN)
            assert TOKEN not in messages_of(caught.value)
            with pytest.raises(StoreUnavailable):
                await store.read_sessions([TOKEN])
        with pytest.raises(StoreUnavailable):
            await store.check()
        await self.repair_store()
        await store.check()
        assert await store.read_session(TOKEN) is not None

    async def test_a_store_broken_from_the_start_recovers(self, store: SessionStore) -> None:
        await self.sign_in()
        await self.break_store()
        with pytest.raises(StoreUnavailable):
            await store.check()
        await self.repair_store()
        assert await store.read_session(TOKEN) is not None

    async def test_a_closed_store_is_unavailable_and_closes_twice(self, store: SessionStore) -> None:
        await self.sign_in()
        await store.read_session(TOKEN)
        await store.close()
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.read_session(TOKEN)

    async def test_a_store_that_was_never_asked_closes(self, store: SessionStore) -> None:
        await store.close()

    async def test_the_cache_in_front_gives_the_same(self, store: SessionStore) -> None:
        await self.sign_in()
        now = 0.0
        cache = SessionCache(store, max_age_s=1, entries=10, negative_age_s=1, negative_entries=10, clock=lambda: now)
        direct: SessionRecord | None = await store.read_session(TOKEN)
        assert await cache.get(TOKEN) == direct
        await self.delete_session(TOKEN)
        assert await cache.get(TOKEN) == direct
        now = 1.0
        assert await cache.get(TOKEN) is None
        await cache.close()


async def user_of(store: SessionStore, token: str) -> str | None:
    """Whose session a store has under this token."""
    record = await store.read_session(SessionToken(token))
    return None if record is None else record.user.id


def messages_of(error: BaseException) -> str:
    """An error's message with those of its causes, as a log shows them."""
    lines = []
    cause: BaseException | None = error
    while cause is not None:
        lines.append(f"{cause!r} {cause}")
        cause = cause.__cause__ or cause.__context__
    return "\n".join(lines)
