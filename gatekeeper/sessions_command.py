"""`gatekeeper sessions`: what is stored, in words, and which of it a person wants gone.

Sessions are named by token or id.  No token is printed.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import msgspec

from gatekeeper.config.schema import Settings
from gatekeeper.core.errors import GatekeeperError
from gatekeeper.core.model import Reason, Session, SessionRecord
from gatekeeper.core.policy import fault_of
from gatekeeper.server.devices import UNKNOWN, device_name, device_of
from gatekeeper.server.documents import session_document, user_document
from gatekeeper.server.texts import ENGLISH
from gatekeeper.stores.writing import SessionWriter, open_writer

EVERY = 1_000_000
"""More sessions than a user has."""

_MAX_PROGRAM = 24
HEADINGS = ("id", "user", "device", "address", "created", "updated", "expires", "state")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLOURS = {"live": "green", "expired": "yellow", "banned": "red"}


class Listing(msgspec.Struct, frozen=True):
    """Sessions, newest first, as of `now_ms`.  `has_more` says that there are others, which are older."""

    records: Sequence[SessionRecord]
    now_ms: int
    has_more: bool


class Revoked(msgspec.Struct, frozen=True):
    """How many sessions were revoked, and how many were named that there are not."""

    revoked: int
    not_found: int


class Refused(Exception):
    """The person was asked, and does not want it."""


class _Choice(msgspec.Struct, frozen=True):
    """What is to go: these sessions, or whatever these users have, `count` that can be read."""

    count: int
    sessions: Sequence[Session] = ()
    users: frozenset[str] = frozenset()
    not_found: int = 0


async def list_sessions(settings: Settings, user: str | None, limit: int, now_ms: int) -> Listing:
    """The sessions of this user, by id or e-mail address, or of everybody; at most so many."""
    async with _writer(settings) as writer:
        records = await writer.list_sessions(user, limit=limit + 1)
    return Listing(records[:limit], now_ms, len(records) > limit)


async def revoke_sessions(
    settings: Settings,
    names: Sequence[str],
    user: str | None,
    all_but: str | None,
    now_ms: int,
    confirm: Callable[[int], bool],
) -> Revoked:
    """Revoke the sessions with these tokens or ids; or all of a user; or all of a user but one.

    `confirm` is asked for more than one, with their number.  Raises Refused where it says no, and GatekeeperError
    where `all_but` is no session, or none of this user.  Nothing is revoked then.
    """
    async with _writer(settings) as writer:
        if all_but is not None:
            choice = await _all_but(writer, all_but, user)
        elif user is not None:
            choice = await _all_of(writer, user)
        else:
            choice = await _named(writer, names)
        if choice.count > 1 and not confirm(choice.count):
            raise Refused
        revoked = await writer.revoke(choice.sessions)
        expires_in_s = int(settings.session.expires_in)
        for user_id in sorted(choice.users):
            revoked += await writer.revoke_all(user_id, now_ms=now_ms, expires_in_s=expires_in_s)
    return Revoked(revoked, choice.not_found)


def documents_of(listing: Listing) -> list[dict[str, Any]]:
    """For programs: each session with its user and its state, without the token."""
    return [
        {
            "session": session_document(record.session),
            "user": user_document(record.user),
            "state": state_of(record, listing.now_ms),
        }
        for record in listing.records
    ]


def table_of(listing: Listing) -> list[str]:
    """For people: a line of headings and one for each session, the state in colour."""
    rows = [HEADINGS, *(_row(record, listing.now_ms) for record in listing.records)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for number, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        state = row[-1] if number == 0 else click.style(row[-1], fg=_COLOURS[row[-1]])
        lines.append("  ".join([*cells, state]))
    return [click.style(lines[0], bold=True), *lines[1:]]


def state_of(record: SessionRecord, now_ms: int) -> str:
    """`live`, `expired`, or `banned` where its user is."""
    fault = fault_of(record, now_ms)
    if fault is None:
        return "live"
    return "banned" if fault is Reason.USER_BANNED else "expired"


def device(user_agent: str | None) -> str:
    """Browser and system, as the page of sessions has them; of another program, what it calls itself; `-` for none."""
    if not user_agent:
        return "-"
    if device_of(user_agent) == UNKNOWN:
        return printable(user_agent.partition(" ")[0])[:_MAX_PROGRAM]
    return device_name(user_agent, ENGLISH)


@asynccontextmanager
async def _writer(settings: Settings) -> AsyncGenerator[SessionWriter, None]:
    writer = open_writer(settings)
    try:
        yield writer
    finally:
        await writer.close()


async def _named(writer: SessionWriter, names: Sequence[str]) -> _Choice:
    found: dict[str, Session] = {}
    not_found = 0
    for name in dict.fromkeys(names):
        session = await writer.find(name)
        if session is None:
            not_found += 1
        else:
            found[session.token] = session
    return _Choice(len(found), list(found.values()), not_found=not_found)


async def _all_of(writer: SessionWriter, user: str) -> _Choice:
    records = await writer.list_sessions(user, limit=EVERY)
    users = {record.user.id for record in records}
    if "@" not in user:  # sessions that cannot be read go, too
        users.add(user)
    return _Choice(len(records), users=frozenset(users))


async def _all_but(writer: SessionWriter, name: str, user: str | None) -> _Choice:
    kept = await writer.find(name)
    if kept is None:
        raise GatekeeperError("--all-but: there is no such session; nothing was revoked")
    records = await writer.list_sessions(kept.user_id if user is None else user, limit=EVERY)
    if all(record.session.token != kept.token for record in records):
        raise GatekeeperError("--all-but: that session is none of this user's; nothing was revoked")
    others = [record.session for record in records if record.session.user_id == kept.user_id]
    others = [session for session in others if session.token != kept.token]
    return _Choice(len(others), others)


def _row(record: SessionRecord, now_ms: int) -> tuple[str, ...]:
    session, user = record.session, record.user
    return (
        printable(session.id),
        printable(user.email),
        device(session.user_agent),
        printable(session.ip_address or "-"),
        *(minute(ms) for ms in (session.created_at_ms, session.updated_at_ms, session.expires_at_ms)),
        state_of(record, now_ms),
    )


def minute(ms: int) -> str:
    """A time as people read it, UTC, to the minute."""
    return f"{(_EPOCH + timedelta(milliseconds=ms)).replace(tzinfo=None).isoformat(' ', 'minutes')}Z"


def printable(text: str) -> str:
    """The text without what would steer a terminal: a stranger chose these texts."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
