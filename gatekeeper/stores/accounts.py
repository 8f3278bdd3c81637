"""What accounts mode asks of its store: users with passwords, sessions and one-time values, in Better Auth's tables.

Passwords are hashes here, made and compared elsewhere; ids and tokens are made by the caller, and so is the time.  Each
call that changes something does so in one transaction: all of it, or nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from gatekeeper.core.model import Session, SessionRecord, SessionToken, User

CREDENTIAL = "credential"
"""The `providerId` of the account that has a user's password; its `accountId` is the user's id."""

RESET_LINK = "reset-password:"
"""How the identifiers of links for a new password begin; a token follows."""


class NewUser(msgspec.Struct, frozen=True):
    """A user to be made, with the account that has the password.  `email` is in lower case; `password` a hash."""

    id: str
    account_id: str
    name: str
    email: str
    password: str
    image: str | None = None
    email_verified: bool = False


class NewSession(msgspec.Struct, frozen=True):
    """A session to be made.  Address and program are empty where they are unknown, as Better Auth has them."""

    id: str
    token: str
    user_id: str
    expires_at_ms: int
    ip_address: str = ""
    user_agent: str = ""


class Credential(msgspec.Struct, frozen=True):
    """A user and the hash of the password; None where the user has none, as who only ever came by another provider."""

    user: User
    password: str | None


class SignedUp(msgspec.Struct, frozen=True):
    """A user that was made, and the session where one was asked for."""

    user: User
    session: Session | None


class EmailTaken(msgspec.Struct, frozen=True):
    """There is a user with this address already: nothing was written."""


class PasswordChanged(msgspec.Struct, frozen=True):
    """The tokens of the sessions that ended with the old password, and the session that was made."""

    revoked: Sequence[str]
    session: Session | None


class PasswordReset(msgspec.Struct, frozen=True):
    """Whose password was reset, and the tokens of the sessions that ended with the old one."""

    user: User
    revoked: Sequence[str]


class NewVerification(msgspec.Struct, frozen=True):
    """A value that is found once, by whoever knows the identifier: `reset-password:<token>` has a user's id."""

    id: str
    identifier: str
    value: str
    expires_at_ms: int


class Verification(msgspec.Struct, frozen=True):
    """Such a value as it is stored."""

    identifier: str
    value: str
    expires_at_ms: int


class Disabled(msgspec.Struct, frozen=True):
    """A user who can sign in no more, and the tokens of the sessions that ended.

    `is_banned` says that the table has Better Auth's `banned`; where it has not, the password was taken away.
    """

    user: User
    revoked: Sequence[str]
    is_banned: bool


class AccountStore(Protocol):
    """Users, passwords, sessions and one-time values.

    Every call raises StoreUnavailable when the store cannot answer or cannot be written to: nothing was written then,
    but for a call that took too long, which may have been carried out as a whole.  Texts that no database can hold
    (a NUL, half of a surrogate pair) are found nowhere; what would write them raises StoreError.
    """

    async def read_session(self, token: SessionToken) -> SessionRecord | None:
        """The session with this token and its user, as `SessionStore.read_session` gives them; expired ones too."""
        ...

    async def find_by_email(self, email: str) -> Credential | None:
        """The user with this address, in any case, and the hash of the password."""
        ...

    async def find_by_id(self, user_id: str) -> Credential | None:
        """The user with this id, and the hash of the password."""
        ...

    async def list_users(self, *, limit: int) -> Sequence[Credential]:
        """Users, newest first, at most so many."""
        ...

    async def create_user(self, user: NewUser, session: NewSession | None, *, now_ms: int) -> SignedUp | EmailTaken:
        """Make the user with a password and, unless None, a session of this user."""
        ...

    async def create_session(self, session: NewSession, *, now_ms: int) -> Session | None:
        """Make the session; None where there is no such user any more.  Other sessions are left alone, expired too."""
        ...

    async def list_live(self, user_id: str, *, now_ms: int) -> Sequence[Session]:
        """The user's sessions that end after `now_ms`, in the order of the database."""
        ...

    async def extend(self, session: Session, *, expires_at_ms: int, now_ms: int) -> bool:
        """As `SessionWriter.extend`: False, and nothing written, where the session is not as it was."""
        ...

    async def delete_session(self, token: str) -> bool:
        """Remove the session with this token, whoever's it is; whether it was there."""
        ...

    async def revoke_session(self, user_id: str, token_or_id: str) -> Session | None:
        """Remove the session of this user that has this token, else the one with this id, and return what it was."""
        ...

    async def revoke_sessions(self, user_id: str, *, but_token: str | None = None) -> Sequence[str]:
        """Remove all sessions of this user, expired too, but the one with this token; the tokens of those removed."""
        ...

    async def update_user(self, user_id: str, changes: Mapping[str, object], *, now_ms: int) -> User | None:
        """Change fields of the user, and say that it was updated `now_ms`; the user as it then is, None for nobody.

        `changes` has Better Auth's names of fields: `name`, `image`, `emailVerified`, and declared further ones.
        """
        ...

    async def update_session(self, token: str, changes: Mapping[str, object], *, now_ms: int) -> Session | None:
        """Change declared further fields of the session, and say that it was updated `now_ms`; as it then is."""
        ...

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
        """Give the user this password, a hash; None, and nothing written, where there is no such user.

        With `old`, also None where the stored hash is another one meanwhile.  `account_id` is for the account that is
        made where the user has none.  `revoke` removes all sessions of the user; `session` is made after that.  Links
        for a new password hold no longer.
        """
        ...

    async def create_verification(self, verification: NewVerification, *, now_ms: int) -> None:
        """Store the value.  Values that have expired are removed at the same time."""
        ...

    async def find_verification(self, identifier: str, *, now_ms: int) -> Verification | None:
        """The newest value with this identifier, or None where there is none or it has expired."""
        ...

    async def reset_password(
        self, identifier: str, password: str, *, account_id: str, now_ms: int, revoke: bool = False
    ) -> PasswordReset | None:
        """Give the user whose id is this value the password, a hash; all values with this identifier and other such
        links are removed.  Of several who ask at once, one succeeds.

        None where there is no such value, or no such user, or one who was disabled: nothing but the value is removed
        then.
        """
        ...

    async def disable_user(self, user_id: str, *, now_ms: int) -> Disabled | None:
        """Keep the user from signing in, and remove all sessions; None for nobody.

        `banned` is set where the table has it; else UNUSABLE_HASH replaces the hash.
        """
        ...

    async def enable_user(self, user_id: str, *, now_ms: int) -> Credential | None:
        """Take `banned` away again, as far as the table has it; None for nobody.  A password that was taken away stays
        away: a new one is to be set.
        """
        ...

    async def check(self) -> None:
        """Raise StoreUnavailable as a read would, without a question."""
        ...

    async def close(self) -> None:
        """Close every connection.  Safe to call twice."""
        ...
