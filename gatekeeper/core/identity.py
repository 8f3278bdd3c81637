"""Identity headers: which names are ours, and what we write into them.

A client's header whose folded name lies in our namespace, or is one that we send or that apps of a preset read, does
not exist, whatever the rule: it is dropped before ours are set.  Values: UTF-8, percent-encoded wherever a byte is not
printable ASCII or is `%` itself, so that every server behind us can read them; `decodeURIComponent` gives the text.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote

import msgspec

from gatekeeper.core.model import AuthStatus, Identity, SessionRecord, User
from gatekeeper.core.policy import email_domain, roles_of

VALUE_LIMIT = 1024
"""Bytes of one identity header's value."""

TOTAL_LIMIT = 4096
"""Bytes of all identity header lines together, the assertion not counted."""

_MEMO_LIMIT = 4096
_NAMESPACES = ("x-auth-", "x-middleware-")
_PRINTABLE = "".join(chr(c) for c in range(0x20, 0x7F) if chr(c) != "%")
_OTHER = re.compile(r"[^a-z0-9]")


def fold_name(name: bytes) -> str:
    """A header name as lenient apps read it: lower-case, everything but a–z and 0–9 as `-`."""
    return _OTHER.sub("-", name.decode("latin-1").lower())


def is_reserved(folded: str) -> bool:
    """Whether a client may not send a header of this folded name: our namespace, and that of frameworks' internals."""
    return folded.startswith(_NAMESPACES)


class HeaderNames(msgspec.Struct, frozen=True):
    """Which header says what; "" for none.  `status` always has one."""

    status: str = "X-Auth-Status"
    user_id: str = ""
    email: str = ""
    email_verified: str = ""
    session_id: str = ""
    impersonated_by: str = ""
    organization_id: str = ""
    roles: str = ""
    name: str = ""
    assertion: str = "X-Auth-Assertion"

    def sent(self) -> dict[str, str]:
        """What each header says, by its name in lower case."""
        return {getattr(self, what).lower(): what for what in self.__struct_fields__ if getattr(self, what)}

    def renamed(self, names: Mapping[str, str]) -> "HeaderNames":
        """The same with other names for these headers, "" to leave one out.  Raises KeyError for others."""
        sent = self.sent()
        return msgspec.structs.replace(self, **{sent[name.lower()]: other for name, other in names.items()})


GATEKEEPER = HeaderNames(
    user_id="X-Auth-User-Id",
    email="X-Auth-Email",
    email_verified="X-Auth-Email-Verified",
    session_id="X-Auth-Session-Id",
    impersonated_by="X-Auth-Impersonated-By",
    organization_id="X-Auth-Organization-Id",
    roles="X-Auth-Roles",
    name="X-Auth-Name",
)

PRESETS: dict[str, HeaderNames] = {
    "gatekeeper": GATEKEEPER,
    "remote-user": HeaderNames(user_id="Remote-User", email="Remote-Email", name="Remote-Name", roles="Remote-Groups"),
    "x-forwarded": HeaderNames(
        user_id="X-Forwarded-User",
        email="X-Forwarded-Email",
        name="X-Forwarded-Preferred-Username",
        roles="X-Forwarded-Groups",
    ),
    "x-auth-request": HeaderNames(
        user_id="X-Auth-Request-User",
        email="X-Auth-Request-Email",
        name="X-Auth-Request-Preferred-Username",
        roles="X-Auth-Request-Groups",
    ),
    "pomerium": HeaderNames(assertion="X-Pomerium-Jwt-Assertion"),
}
"""Names that apps know from other proxies; beside them there is the status alone."""

_PRESET_NAMESPACES = {"remote-user": ("remote-",), "pomerium": ("x-pomerium-",)}


class ReservedNames:
    """What a client may not send because of the settings, beside our namespace."""

    def __init__(self, names: frozenset[str], prefixes: tuple[str, ...] = ()) -> None:
        self._names = names
        self._prefixes = prefixes

    def __repr__(self) -> str:
        return f"<ReservedNames {sorted(self._names)} {list(self._prefixes)}>"

    def __contains__(self, folded: str) -> bool:
        return folded in self._names or folded.startswith(self._prefixes)


def reserved_by(preset: str, names: HeaderNames) -> ReservedNames | None:
    """What nobody but us may send with this preset and these names; None where our namespace is all of it."""
    both = {*PRESETS[preset].sent(), *names.sent()}
    folded = frozenset(name for name in (fold_name(name.encode()) for name in both) if not is_reserved(name))
    return ReservedNames(folded, _PRESET_NAMESPACES.get(preset, ())) if folded else None


def identity_headers(identity: Identity, names: HeaderNames = GATEKEEPER) -> dict[str, str]:
    """The identity headers that have a value, by name, the status always; limits kept.  Without the assertion."""
    headers = {names.status: identity.status.value}
    if identity.status is not AuthStatus.AUTHENTICATED or identity.record is None:
        return headers
    size = sum(len(name) + len(value) + 4 for name, value in headers.items())
    for what, value in _values(identity.record):
        name: str = getattr(names, what)
        if not name or not value or len(value) > VALUE_LIMIT:
            continue
        size += len(name) + len(value) + 4
        if size <= TOTAL_LIMIT:
            headers[name] = value
    return headers


def identity_lines(identity: Identity, names: HeaderNames = GATEKEEPER) -> bytes:
    """The identity header lines for the upstream, remembered for each record: one session asks again and again."""
    record = identity.record
    if record is None or identity.status is not AuthStatus.AUTHENTICATED:
        return _status_line(names.status, identity.status)
    known = _known_lines.get(id(record))
    if known is not None and known[1] is names:
        return known[2]
    if len(_known_lines) >= _MEMO_LIMIT:
        _known_lines.clear()
    lines = _make_lines(identity, names)
    _known_lines[id(record)] = (record, names, lines)  # both are held, so that their ids stay their own
    return lines


_known_lines: dict[int, tuple[SessionRecord, HeaderNames, bytes]] = {}


@lru_cache(maxsize=16)
def _status_line(name: str, status: AuthStatus) -> bytes:
    return f"{name}: {status.value}\r\n".encode()


def _make_lines(identity: Identity, names: HeaderNames) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in identity_headers(identity, names).items()).encode("ascii")


def session_digest(token: str) -> str:
    """The public name of a session: the first 16 bytes of the SHA-256 of its token, in hex.  Never the token."""
    return sha256(token.encode()).hexdigest()[:32]


def told_email(user: User) -> str:
    """The user's address with its domain in lower case."""
    domain = email_domain(user.email)
    return user.email if domain is None else f"{user.email.partition('@')[0]}@{domain}"


def told_roles(user: User) -> list[str]:
    """The roles in alphabetical order, as many as fit into one value; one with a control character is left out."""
    told: list[str] = []
    size = 0
    for role in sorted(roles_of(user)):
        longer = size + len(encode_value(role)) + (1 if told else 0)
        if role.isprintable() and longer <= VALUE_LIMIT:
            told.append(role)
            size = longer
    return told


def encode_value(text: str) -> str:
    """A header value for any text: printable ASCII as it is, everything else percent-encoded UTF-8, and blanks at the
    ends too, which readers take off.
    """
    encoded = quote(text, safe=_PRINTABLE, errors="replace")
    stripped = encoded.strip(" ")
    leading = len(encoded) - len(encoded.lstrip(" "))
    return "%20" * leading + stripped + "%20" * (len(encoded) - leading - len(stripped))


def _values(record: SessionRecord) -> list[tuple[str, str]]:
    """What is said, and its value, in the order of importance: at the total limit, the later ones are left out."""
    user, session = record.user, record.session
    return [
        ("user_id", encode_value(user.id)),
        ("email", encode_value(told_email(user)) if user.email_verified else ""),
        ("email_verified", "true" if user.email_verified else "false"),
        ("session_id", session_digest(session.token)),
        ("impersonated_by", encode_value(session.impersonated_by or "")),
        ("organization_id", encode_value(session.active_organization_id or "")),
        ("roles", ",".join(map(encode_value, told_roles(user)))),
        ("name", _cut(encode_value(user.name))),
    ]


def _cut(encoded: str) -> str:
    """A percent-encoded text cut to the limit, never inside an escape or a character."""
    if len(encoded) <= VALUE_LIMIT:
        return encoded
    end = VALUE_LIMIT
    while _splits_character(encoded, end):
        end -= 1
    return encoded[:end].rstrip(" ")


def _splits_character(encoded: str, end: int) -> bool:
    if "%" in encoded[end - 2 : end]:
        return True
    # a continuation byte (%80–%BF) right after the cut belongs to the character before it
    return encoded[end] == "%" and encoded[end + 1] in "89AB"
