"""Identity headers: which names are ours, and what we write into them.

A client's header whose folded name lies in our namespace does not exist, whatever the rule: it is dropped before ours
are set.  Values: UTF-8, percent-encoded wherever a byte is not printable ASCII or is `%` itself, so that every server
behind us can read them; `decodeURIComponent` gives the true text.
"""

import re
from hashlib import sha256
from urllib.parse import quote

from gatekeeper.core.model import AuthStatus, Identity, SessionRecord
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


def identity_headers(identity: Identity) -> dict[str, str]:
    """The identity headers that have a value, by name, `X-Auth-Status` always; limits kept."""
    headers = {"X-Auth-Status": identity.status.value}
    if identity.status is not AuthStatus.AUTHENTICATED or identity.record is None:
        return headers
    size = sum(len(name) + len(value) + 4 for name, value in headers.items())
    for name, value in _values(identity.record):
        if not value or len(value) > VALUE_LIMIT:
            continue
        size += len(name) + len(value) + 4
        if size <= TOTAL_LIMIT:
            headers[name] = value
    return headers


def identity_lines(identity: Identity) -> bytes:
    """The identity header lines for the upstream, remembered for each record: one session asks again and again."""
    record = identity.record
    if record is None or identity.status is not AuthStatus.AUTHENTICATED:
        return _STATUS_LINES[identity.status]
    known = _known_lines.get(id(record))
    if known is not None:
        return known[1]
    if len(_known_lines) >= _MEMO_LIMIT:
        _known_lines.clear()
    lines = _make_lines(identity)
    _known_lines[id(record)] = (record, lines)  # the record is held, so that its id stays its own
    return lines


_STATUS_LINES = {status: f"X-Auth-Status: {status.value}\r\n".encode() for status in AuthStatus}
_known_lines: dict[int, tuple[SessionRecord, bytes]] = {}


def _make_lines(identity: Identity) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in identity_headers(identity).items()).encode("ascii")


def session_digest(token: str) -> str:
    """The public name of a session: the first 16 bytes of the SHA-256 of its token, in hex.  Never the token."""
    return sha256(token.encode()).hexdigest()[:32]


def encode_value(text: str) -> str:
    """A header value for any text: printable ASCII as it is, everything else percent-encoded UTF-8, and blanks at the
    ends too, which readers take off.
    """
    encoded = quote(text, safe=_PRINTABLE, errors="replace")
    stripped = encoded.strip(" ")
    leading = len(encoded) - len(encoded.lstrip(" "))
    return "%20" * leading + stripped + "%20" * (len(encoded) - leading - len(stripped))


def _values(record: SessionRecord) -> list[tuple[str, str]]:
    """Name and value in the order of importance: when the total limit is reached, the later ones are left out."""
    user, session = record.user, record.session
    return [
        ("X-Auth-User-Id", encode_value(user.id)),
        ("X-Auth-Email", encode_value(_email(user.email)) if user.email_verified else ""),
        ("X-Auth-Email-Verified", "true" if user.email_verified else "false"),
        ("X-Auth-Session-Id", session_digest(session.token)),
        ("X-Auth-Impersonated-By", encode_value(session.impersonated_by or "")),
        ("X-Auth-Organization-Id", encode_value(session.active_organization_id or "")),
        ("X-Auth-Roles", _roles(record)),
        ("X-Auth-Name", _cut(encode_value(user.name))),
    ]


def _email(email: str) -> str:
    domain = email_domain(email)
    return email if domain is None else f"{email.partition('@')[0]}@{domain}"


def _roles(record: SessionRecord) -> str:
    """The roles in alphabetical order, as many as fit; one with a control character is left out."""
    text = ""
    for role in sorted(roles_of(record.user)):
        longer = f"{text},{encode_value(role)}" if text else encode_value(role)
        if role.isprintable() and len(longer) <= VALUE_LIMIT:
            text = longer
    return text


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
