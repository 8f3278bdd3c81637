"""What the app gets: who is asking, or why nobody is.

Plain frozen dataclasses, so that an app needs no further library to read them.  Moments are aware datetimes in UTC.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class Reason(StrEnum):
    """Why a request has no user.  Each is counted in `Verifier.reasons`."""

    MISSING = "MISSING"
    """No assertion: a signed-out visitor, or a request that did not come through the gate."""
    DUPLICATE = "DUPLICATE"
    """More than one assertion or identity header of a name."""
    OVERSIZED = "OVERSIZED"
    MALFORMED = "MALFORMED"
    """No JWT, or claims that are not those of an assertion."""
    BAD_TYPE = "BAD_TYPE"
    """A JWT of another kind, or with header parameters that the gate never sets (`jwk`, `jku`, `crit` …)."""
    BAD_ALGORITHM = "BAD_ALGORITHM"
    UNKNOWN_KEY = "UNKNOWN_KEY"
    KEYS_UNAVAILABLE = "KEYS_UNAVAILABLE"
    """The gate's keys cannot be read, so nothing can be said of the assertion."""
    BAD_SIGNATURE = "BAD_SIGNATURE"
    EXPIRED = "EXPIRED"
    NOT_YET = "NOT_YET"
    WRONG_ISSUER = "WRONG_ISSUER"
    WRONG_AUDIENCE = "WRONG_AUDIENCE"
    UNTRUSTED_PEER = "UNTRUSTED_PEER"
    """Plain identity headers from an address that `trust_headers_from` does not name."""


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class User:
    """Who is asking, with the fields of the gate's `whoami` document.

    What plain headers do not tell (see `trust_headers_from`), nor an assertion whose documents would be too long, is
    None: `image`, both moments and `two_factor_enabled`; by plain headers `email`, too, where it is not verified.
    `extra` has all further fields of the document.
    """

    id: str
    name: str
    email: str | None
    email_verified: bool
    image: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    two_factor_enabled: bool | None = None
    roles: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=_nothing, hash=False)

    def to_document(self) -> dict[str, Any]:
        """The user as JSON, as the gate's `whoami` tells it.  `twoFactorEnabled` is left out where it is None."""
        document: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "email": self.email,
            "emailVerified": self.email_verified,
            "image": self.image,
            "createdAt": _iso_date(self.created_at),
            "updatedAt": _iso_date(self.updated_at),
            **self.extra,
        }
        return (
            document if self.two_factor_enabled is None else {**document, "twoFactorEnabled": self.two_factor_enabled}
        )


@dataclass(frozen=True, slots=True)
class Session:
    """The session behind the request; its token is never told.  `extra` has all further fields of the document."""

    id: str
    user_id: str
    expires_at: datetime
    created_at: datetime
    updated_at: datetime
    ip_address: str | None
    user_agent: str | None
    extra: Mapping[str, Any] = field(default_factory=_nothing, hash=False)

    def to_document(self) -> dict[str, Any]:
        """The session as JSON, as the gate's `whoami` tells it."""
        return {
            "id": self.id,
            "userId": self.user_id,
            "expiresAt": _iso_date(self.expires_at),
            "createdAt": _iso_date(self.created_at),
            "updatedAt": _iso_date(self.updated_at),
            "ipAddress": self.ip_address,
            "userAgent": self.user_agent,
            **self.extra,
        }


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and session of a request; or neither, and the reason.  Plain headers tell of no session."""

    user: User | None
    session: Session | None
    reason: Reason | None = None

    def to_document(self) -> dict[str, Any] | None:
        """`{"user": …, "session": …}` as JSON, as the gate's `whoami` tells it; None without a user."""
        if self.user is None:
            return None
        session = None if self.session is None else self.session.to_document()
        return {"user": self.user.to_document(), "session": session}


@dataclass(frozen=True, slots=True)
class Request:
    """What the verifier and the guard look at.

    `target` is path and query as they stand in the URL, percent-encoded.  `lines` gives the values of a header by its
    lower-case name, one for each line of it, as far as the framework still tells them apart.  `peer` is the address
    that the connection came from, or None where it has none.
    """

    method: str
    target: str
    lines: Callable[[str], Sequence[str]]
    peer: str | None = None

    def header(self, name: str) -> str | None:
        """The first value of a header, by its lower-case name."""
        return next(iter(self.lines(name)), None)


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer, instead of the app's own."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def _iso_date(moment: datetime | None) -> str | None:
    """A moment in UTC as JavaScript's toISOString writes it."""
    return None if moment is None else moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
