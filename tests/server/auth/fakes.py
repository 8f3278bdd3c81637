"""What account calls ask for, in memory: a store, passwords that cost nothing, mail that is kept, ids to order."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from gatekeeper.core.cookies import Keys
from gatekeeper.core.model import RequestFacts, Session, SessionRecord, SessionToken, User
from gatekeeper.server.auth_call import Message
from gatekeeper.server.passwords import Busy, Line
from gatekeeper.server.throttle import Admitted, Wait
from gatekeeper.stores.accounts import (
    RESET_LINK,
    AccountStore,
    Credential,
    Disabled,
    EmailTaken,
    NewSession,
    NewUser,
    NewVerification,
    PasswordChanged,
    PasswordReset,
    SignedUp,
    Verification,
)

_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


class FakeAccounts:
    """An AccountStore in memory, rows in the order in which they were made."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self.passwords: dict[str, str | None] = {}
        self.sessions: dict[str, Session] = {}
        self.verifications: list[Verification] = []
        self.error: Exception | None = None
        """Raised by every call, if set."""
        self.calls: list[str] = []

    def _begin(self, name: str) -> None:
        self.calls.append(name)
        if self.error is not None:
            raise self.error

    async def read_session(self, token: SessionToken) -> SessionRecord | None:
        self._begin("read_session")
        session = self.sessions.get(token)
        return None if session is None else SessionRecord(session, self.users[session.user_id])

    async def find_by_email(self, email: str) -> Credential | None:
        self._begin("find_by_email")
        found = [user for user in self.users.values() if user.email == email.lower()]
        return Credential(found[0], self.passwords[found[0].id]) if found else None

    async def find_by_id(self, user_id: str) -> Credential | None:
        self._begin("find_by_id")
        user = self.users.get(user_id)
        return None if user is None else Credential(user, self.passwords[user_id])

    async def list_users(self, *, limit: int) -> Sequence[Credential]:
        raise NotImplementedError  # no call does that

    async def create_user(self, user: NewUser, session: NewSession | None, *, now_ms: int) -> SignedUp | EmailTaken:
        self._begin("create_user")
        if any(known.email == user.email for known in self.users.values()):
            return EmailTaken()
        made = User(user.id, user.name, user.email, user.email_verified, user.image, now_ms, now_ms)
        self.users[user.id], self.passwords[user.id] = made, user.password
        return SignedUp(made, None if session is None else self._make(session, now_ms))

    async def create_session(self, session: NewSession, *, now_ms: int) -> Session | None:
        self._begin("create_session")
        return self._make(session, now_ms) if session.user_id in self.users else None

    async def list_live(self, user_id: str, *, now_ms: int) -> Sequence[Session]:
        self._begin("list_live")
        return [one for one in self.sessions.values() if one.user_id == user_id and one.expires_at_ms > now_ms]

    async def extend(self, session: Session, *, expires_at_ms: int, now_ms: int) -> bool:
        self._begin("extend")
        stored = self.sessions.get(session.token)
        if stored is None or stored.expires_at_ms != session.expires_at_ms:
            return False
        self.sessions[session.token] = replace(stored, expires_at_ms=expires_at_ms, updated_at_ms=now_ms)
        return True

    async def delete_session(self, token: str) -> bool:
        self._begin("delete_session")
        return self.sessions.pop(token, None) is not None

    async def revoke_session(self, user_id: str, token_or_id: str) -> Session | None:
        self._begin("revoke_session")
        own = [session for session in self.sessions.values() if session.user_id == user_id]
        for session in [*(s for s in own if s.token == token_or_id), *(s for s in own if s.id == token_or_id)]:
            return self.sessions.pop(session.token)
        return None

    async def revoke_sessions(self, user_id: str, *, but_token: str | None = None) -> Sequence[str]:
        self._begin("revoke_sessions")
        return self._revoke(user_id, but_token)

    async def update_user(self, user_id: str, changes: Mapping[str, object], *, now_ms: int) -> User | None:
        self._begin("update_user")
        user = self.users.get(user_id)
        if user is None:
            return None
        self.users[user_id] = _changed(user, changes, now_ms, {"emailVerified": "email_verified"})
        return self.users[user_id]

    async def update_session(self, token: str, changes: Mapping[str, object], *, now_ms: int) -> Session | None:
        self._begin("update_session")
        session = self.sessions.get(token)
        if session is None:
            return None
        self.sessions[token] = _changed(session, changes, now_ms, {})
        return self.sessions[token]

    async def change_password(
        self,
        user_id: str,
        password: str,
        *,
        account_id: str,
        now_ms: int,
        old: str | None = None,
        revoke: bool = False,
        session: NewSession | None = None,
    ) -> PasswordChanged | None:
        self._begin("change_password")
        if user_id not in self.users or (old is not None and self.passwords[user_id] != old):
            return None
        self._set_password(user_id, password)
        revoked = self._revoke(user_id, None) if revoke else []
        return PasswordChanged(revoked, None if session is None else self._make(session, now_ms))

    async def create_verification(self, verification: NewVerification, *, now_ms: int) -> None:
        self._begin("create_verification")
        kept = Verification(verification.identifier, verification.value, verification.expires_at_ms)
        self.verifications.append(kept)

    async def find_verification(self, identifier: str, *, now_ms: int) -> Verification | None:
        self._begin("find_verification")
        found = [one for one in self.verifications if one.identifier == identifier and one.expires_at_ms >= now_ms]
        return found[-1] if found else None

    async def reset_password(
        self, identifier: str, password: str, *, account_id: str, now_ms: int, revoke: bool = False
    ) -> PasswordReset | None:
        self._begin("reset_password")
        found = await self.find_verification(identifier, now_ms=now_ms)
        self.verifications = [one for one in self.verifications if one.identifier != identifier]
        if found is None or found.value not in self.users:
            return None
        self._set_password(found.value, password)
        return PasswordReset(self.users[found.value], self._revoke(found.value, None) if revoke else [])

    async def disable_user(self, user_id: str, *, now_ms: int) -> Disabled | None:
        raise NotImplementedError

    async def enable_user(self, user_id: str, *, now_ms: int) -> Credential | None:
        raise NotImplementedError

    async def check(self) -> None:
        self._begin("check")

    async def close(self) -> None:
        return None

    def _set_password(self, user_id: str, password: str) -> None:
        self.passwords[user_id] = password
        self.verifications = [
            one for one in self.verifications if one.value != user_id or not one.identifier.startswith(RESET_LINK)
        ]

    def _make(self, session: NewSession, now_ms: int) -> Session:
        made = Session(
            id=session.id,
            token=session.token,
            user_id=session.user_id,
            expires_at_ms=session.expires_at_ms,
            created_at_ms=now_ms,
            updated_at_ms=now_ms,
            ip_address=session.ip_address,
            user_agent=session.user_agent,
        )
        self.sessions[made.token] = made
        return made

    def _revoke(self, user_id: str, but_token: str | None) -> list[str]:
        gone = [one.token for one in self.sessions.values() if one.user_id == user_id and one.token != but_token]
        for token in gone:
            del self.sessions[token]
        return gone


class FakeSessions:
    """What the gate believes: the store's word, or `remembered` until it is asked for the store's.

    Keeps what it was told.
    """

    def __init__(self, accounts: AccountStore) -> None:
        self.accounts = accounts
        self.told: list[tuple[str, tuple[str, ...]]] = []
        self.from_store: list[bool] = []
        self.remembered: SessionRecord | None = None

    async def read(self, token: SessionToken, facts: RequestFacts, *, from_store: bool) -> SessionRecord | None:
        self.from_store.append(from_store)
        if self.remembered is not None and not from_store:
            return self.remembered
        return await self.accounts.read_session(token)

    def changed(self, token: str) -> None:
        self.told.append(("changed", (token,)))

    def ended(self, tokens: Iterable[str]) -> None:
        self.told.append(("ended", tuple(tokens)))

    def user_changed(self, user_id: str) -> None:
        self.told.append(("user_changed", (user_id,)))


class FakePasswords:
    """A hash is the password behind a mark.  `is_busy`: too many wait."""

    def __init__(self) -> None:
        self.is_busy = False
        self.looked_at: list[str | None] = []

    async def hash(self, password: str, line: Line) -> str | Busy:
        return Busy() if self.is_busy else f"hash:{password}"

    async def verify(self, password: str, stored: str | None, line: Line) -> bool | Busy:
        self.looked_at.append(stored)
        return Busy() if self.is_busy else stored == f"hash:{password}"


class FakeThrottle:
    """Admits everybody, unless `wait_s` is set.  Keeps what it was asked and told."""

    def __init__(self) -> None:
        self.wait_s = 0
        self.admitted: list[str | None] = []
        self.told: list[str] = []

    async def admit(
        self, address: str, email: str | None, *, device_cookie: str | None, keys: Keys, now_ms: int
    ) -> Admitted | Wait:
        if self.wait_s:
            return Wait(self.wait_s)
        self.admitted.append(email)
        return Admitted(Line(address, email or "", is_known=device_cookie is not None), {})

    async def succeeded(self, admitted: Admitted) -> None:
        self.told.append("succeeded")

    async def withdrawn(self, admitted: Admitted) -> None:
        self.told.append("withdrawn")


class FakeMail:
    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, message: Message) -> None:
        self.sent.append(message)


class OrderedIds:
    """Random bytes of which `core.accounts.make_id` makes the texts that were ordered, in turn; then numbers."""

    def __init__(self) -> None:
        self.ordered: deque[str | None] = deque()
        self._made = 0

    def __call__(self, count: int) -> bytes:
        text = self.ordered.popleft() if self.ordered else None
        if text is None:
            self._made += 1
            text = f"{self._made}".ljust(count, "x")
        return bytes(_ALPHABET.index(character) for character in text).ljust(count, b"\0")


def _changed(record: Any, changes: Mapping[str, object], now_ms: int, names: Mapping[str, str]) -> Any:
    """The user or session with these fields: those that it has, the others among `extra`."""
    known = {names.get(name, name): value for name, value in changes.items() if hasattr(record, names.get(name, name))}
    extra = {name: value for name, value in changes.items() if not hasattr(record, names.get(name, name))}
    return replace(record, **known, updated_at_ms=now_ms, extra=record.extra | extra)
