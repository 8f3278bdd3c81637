"""Places where sessions are kept, each a real one, for tests of what is written: users and sessions are put there as
Better Auth does, and looked at behind the gate's back.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from gatekeeper.config.schema import Settings
from gatekeeper.core.model import Session, SessionToken
from gatekeeper.stores.protocol import SessionStore
from tests.better_auth_db import add_session, add_user, create_database
from tests.better_auth_redis import Storage, session_fields, user_fields
from tests.servers.labs import Lab
from tests.stores.contract import CREATED_MS, EXPIRES_MS
from tests.stores.opening import open_on, settings_on


class Place(ABC):
    """Ids are as this kind of store gives them: `user_ids` of two users, and of sessions by number."""

    user_ids: tuple[Any, Any] = ("Pk2mWn8QxDs4vTzLbR7yAcEfGhJ1oU3i", "Zx9cVb7NmAs2dFgH4jKlQw6eRt8yUi0o")
    emails = ("ada@example.test", "grace@example.test")

    def __init__(self, url: str, **store: Any) -> None:
        self.store = {"url": url, **store}

    async def create(self) -> None:
        """Make tables and users."""
        for number in (0, 1):
            await self.add_user(self.user_ids[number], self.emails[number])

    async def sign_in(self, number: int, user: int = 0, **fields: Any) -> str:
        """Write session `number` of this user, that many seconds younger than the first one, and return its token."""
        token = f"token-{number}-" + "x" * 24
        dates = {"createdAt": CREATED_MS + 1000 * number, "expiresAt": EXPIRES_MS, **fields}
        await self.add_session(
            id=self.session_id(number), token=token, userId=self.user_ids[user], updatedAt=CREATED_MS, **dates
        )
        return token

    def session_id(self, number: int) -> Any:
        return f"session-{number}"

    def settings(self) -> Settings:
        return settings_on(**self.store)

    async def read(self, token: str) -> Session | None:
        """What a gate reads there."""
        store: SessionStore = open_on(**self.store)
        try:
            record = await store.read_session(SessionToken(token))
        finally:
            await store.close()
        return None if record is None else record.session

    @abstractmethod
    async def add_user(self, id: Any, email: str) -> None: ...

    @abstractmethod
    async def add_session(self, **fields: Any) -> None: ...


class SqlitePlace(Place):
    def __init__(self, path: Path, variant: str = "core", **store: Any) -> None:
        super().__init__(f"sqlite:///{path}", **store)
        self.path = path
        create_database(path, variant)

    async def add_user(self, id: Any, email: str) -> None:
        add_user(self.path, id=id, email=email, created_at_ms=CREATED_MS)

    async def add_session(self, **fields: Any) -> None:
        add_session(
            self.path,
            id=fields["id"],
            user_id=fields["userId"],
            token=fields["token"],
            expires_at_ms=fields["expiresAt"],
            created_at_ms=fields["createdAt"],
            userAgent=fields.get("userAgent", ""),
        )


class ServerPlace(Place):
    def __init__(self, lab: Lab, variant: str = "core") -> None:
        super().__init__(lab.url)
        self.lab = lab
        self.variant = variant

    async def create(self) -> None:
        await self.lab.create(self.variant)
        await super().create()

    async def add_user(self, id: Any, email: str) -> None:
        dates = {"createdAt": CREATED_MS, "updatedAt": CREATED_MS}
        await self.lab.insert("user", id=id, name="Ada", email=email, emailVerified=True, **dates)

    async def add_session(self, **fields: Any) -> None:
        await self.lab.insert("session", **{"ipAddress": "", "userAgent": "", **fields})


class UuidPlace(ServerPlace):
    user_ids = ("0b5d9f5e-55cf-4b7e-9f0e-1c3f5a9d7b21", "f3c1a7d2-6e3b-4e0b-8a42-9d1c5b7e0f64")

    def session_id(self, number: int) -> Any:
        return f"5f0c2a9b-0d1e-4f3a-8b7c-6d5e4f3a2b{number:02d}"


class SerialPlace(ServerPlace):
    user_ids = (1, 2)

    def session_id(self, number: int) -> Any:
        return 40 + number


class RedisPlace(Place):
    def __init__(self, url: str, **store: Any) -> None:
        super().__init__(url, **store)
        self.storage = Storage(url)
        self.users: dict[Any, dict[str, Any]] = {}

    async def add_user(self, id: Any, email: str) -> None:
        self.users[id] = user_fields(id=id, email=email)

    async def add_session(self, **fields: Any) -> None:
        self.storage.sign_in(session_fields(**fields), self.users[fields["userId"]])


class BothPlace(SqlitePlace):
    """Redis in front of a SQLite file: sessions are in both."""

    def __init__(self, path: Path, redis_url: str, variant: str = "core") -> None:
        super().__init__(path, variant, secondary=redis_url)
        self.front = RedisPlace(redis_url)

    async def add_user(self, id: Any, email: str) -> None:
        await super().add_user(id, email)
        await self.front.add_user(id, email)

    async def add_session(self, **fields: Any) -> None:
        await self.front.add_session(**fields)
        await super().add_session(**fields)


class FrontOnlyPlace(BothPlace):
    """The same without `storeSessionInDatabase`: Better Auth makes no table for sessions."""

    def __init__(self, path: Path, redis_url: str) -> None:
        super().__init__(path, redis_url, "core+secondaryStorage")

    async def add_session(self, **fields: Any) -> None:
        await self.front.add_session(**fields)


class BehindOnlyPlace(BothPlace):
    """The same after Redis has lost what it had."""

    async def add_session(self, **fields: Any) -> None:
        await SqlitePlace.add_session(self, **fields)
