"""The page "Active sessions": which devices are signed in, and signing them out.

Where somebody goes who fears that an account was stolen: what it says is what is stored at this moment, and what it
says of activity is no more than is known.
"""

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from gatekeeper.core.decide import RETRY_AFTER_S
from gatekeeper.core.errors import StoreError
from gatekeeper.core.model import Session
from gatekeeper.server.account_pages.books import Ended, SessionBook, Visitor
from gatekeeper.server.account_pages.visit import (
    CHANGE,
    SESSIONS,
    SIGNED_OUT,
    Fault,
    Notice,
    Visit,
)
from gatekeeper.server.answers import Answer, Headers
from gatekeeper.server.auth_signing import FORGOTTEN_MS
from gatekeeper.server.devices import device_name
from gatekeeper.server.documents import iso_date
from gatekeeper.server.pages import SIGN_OUT, sign_in_url
from gatekeeper.server.texts import Words
from gatekeeper.server.troubles import Troubles
from gatekeeper.stores.app_sessions import NotFresh

LISTED = 100
"""How many sessions are shown at most: one that signs in by itself every minute must not make the page unusable."""

_SLACK_MS = 1000


class SessionsPage:
    """`has_accounts`: passwords are changed here, and not in the app.  `reading` is the trouble of
    reading sessions."""

    needs_session = True

    def __init__(self, book: SessionBook, reading: Troubles, *, has_accounts: bool) -> None:
        self._book = book
        self._reading = reading
        self._ending = Troubles("sessions cannot be ended for certain", "sessions can be ended again")
        self._has_accounts = has_accounts

    async def show(self, visit: Visit) -> Answer:
        try:
            live = await self._book.live(Visitor.of(visit))
        except NotFresh:
            return _ask_anew(visit)
        self._reading.ended()
        others = [session for session in live if not _is_this(visit, session)]
        is_asking = visit.query.get("confirm") == "others"
        if is_asking and others:
            return await self._confirm(visit, others)
        none_left = visit.words.pages["sessions"]["none_left"]
        return await self._list(visit, live, notice=none_left if is_asking else _said(visit))

    async def send(self, visit: Visit) -> Answer:
        visitor = Visitor.of(visit)
        try:
            if "others" in visit.form:
                ended = await self._book.end_others(visitor)
                self._ending.ended()
                visit.note(Notice("others", ended.count))
            else:
                ended = await self._end(visitor, visit.form.get("revoke", ""))
                visit.note(Notice("revoked" if ended.count else "gone"))
        except NotFresh:
            return _ask_anew(visit)
        except StoreError as error:
            self._ending.began(error)
            return _unsure(visit)
        visit.frame.sessions.ended(ended.tokens)
        if ended.count:
            client, user = visit.facts.client_address, visitor.record.user.id
            visit.frame.audit("sessions_revoked", user=user, count=ended.count, client=client)
        return visit.redirect(SESSIONS)

    async def again(self, visit: Visit, status: int, fault: Fault, headers: Headers = ()) -> Answer:
        try:
            live = await self._book.live(Visitor.of(visit))
        except NotFresh:
            return _ask_anew(visit)
        return await self._list(visit, live, status=status, fault=fault, headers=headers)

    async def _end(self, visitor: Visitor, session_id: str) -> Ended:
        """End one of the others: this device is signed out by the call for that."""
        if not session_id or session_id == visitor.record.session.id:
            return Ended((), 0)
        ended = await self._book.end(visitor, session_id)
        self._ending.ended()
        return ended

    async def _list(
        self,
        visit: Visit,
        live: Sequence[Session],
        *,
        status: int = 200,
        notice: str | None = None,
        fault: Fault | None = None,
        headers: Headers = (),
    ) -> Answer:
        shown = _in_order(visit, live)[:LISTED]
        names = await _names(shown, visit.words)
        others = sum(not _is_this(visit, session) for session in live)
        return visit.page(
            status,
            "sessions.html",
            visit.words.pages["sessions"]["title"],
            notice=notice,
            fault=fault,
            headers=headers,
            token=visit.token(visit.own_purpose(SESSIONS)),
            sessions=[_row(visit, session, name) for session, name in zip(shown, names, strict=True)],
            more=_more(visit, len(live) - len(shown)),
            others=others,
            other_devices=visit.words.counts["other_devices"].of(others),
            sessions_url=SESSIONS,
            sign_out_url=SIGN_OUT,
            signed_out_url=SIGNED_OUT if self._has_accounts else "/",
            change_url=CHANGE if self._has_accounts else None,
        )

    async def _confirm(self, visit: Visit, others: Sequence[Session]) -> Answer:
        counts, n = visit.words.counts, len(others)
        shown = _in_order(visit, others)[:LISTED]
        return visit.page(
            200,
            "confirm.html",
            counts["confirm_title"].of(n),
            token=visit.token(visit.own_purpose(SESSIONS)),
            devices=await _names(shown, visit.words),
            more=_more(visit, n - len(shown)),
            button=counts["confirm_button"].of(n),
            sessions_url=SESSIONS,
        )


def last_active(session: Session, visit: Visit, *, is_this: bool) -> str:
    """What is known of when a session was used last.

    A store is told of it only when it extends the session, once in `update_age`: so a session that the gate would have
    extended and did not has not been used since that was due.  An app may never ask for a session that the gate lets
    in, and then extends none; nor is one extended that was not to be remembered.
    """
    t, lifetimes = visit.words.pages["sessions"], visit.frame.lifetimes
    if is_this:
        return t["now"]
    since_ms = max(visit.now_ms - session.updated_at_ms, 0)
    unused_ms = since_ms - lifetimes.update_age_ms
    life_ms = session.expires_at_ms - session.updated_at_ms
    is_usual = abs(life_ms - lifetimes.expires_in_ms) <= _SLACK_MS < abs(life_ms - FORGOTTEN_MS)
    if visit.frame.extends and is_usual and unused_ms >= 3_600_000:
        hours = unused_ms // 3_600_000
        return t["not_within"].format(
            duration=visit.words.duration(hours * 3600 if hours < 48 else hours // 24 * 86_400)
        )
    return t["within"].format(duration=visit.words.duration(max(since_ms // 1000, 60)))


def _row(visit: Visit, session: Session, name: str) -> dict[str, Any]:
    """A session as the list shows it."""
    is_this = _is_this(visit, session)
    return {
        "id": session.id,
        "is_this": is_this,
        "device": name,
        "address": _address(session.ip_address),
        "last_active": last_active(session, visit, is_this=is_this),
        "signed_in": visit.words.date_of(session.created_at_ms),
        "signed_in_iso": iso_date(session.created_at_ms),
        "expires": visit.words.date_of(session.expires_at_ms),
        "expires_iso": iso_date(session.expires_at_ms),
        "is_impersonated": session.impersonated_by is not None,
        "revoke_label": visit.words.pages["sessions"]["revoke_label"].format(device=name),
    }


async def _names(sessions: Sequence[Session], words: Words) -> list[str]:
    """What to call the devices.  In a thread: the rules take a while to read, and an odd name milliseconds."""
    agents = [session.user_agent for session in sessions]
    return await asyncio.to_thread(lambda: [device_name(agent, words) for agent in agents])


def _in_order(visit: Visit, sessions: Sequence[Session]) -> list[Session]:
    """This device first, then those that were used last."""
    return sorted(sessions, key=lambda one: (not _is_this(visit, one), -one.updated_at_ms, -one.created_at_ms))


def _more(visit: Visit, left_out: int) -> str | None:
    return visit.words.counts["more_devices"].of(left_out) if left_out else None


def _said(visit: Visit) -> str | None:
    """What was done before the page was opened."""
    notice, words = visit.take_notice(), visit.words
    if notice is None:
        return None
    t, done = words.pages["sessions"], words.counts["others_done"]
    match notice.code:
        case "others":
            return done.of(notice.count) if notice.count else t["none_left"]
        case "revoked":
            return t["revoked"]
        case "gone":
            return t["gone"]
        case "password-changed":
            return f"{t['password_changed']} {done.of(notice.count)}" if notice.count else t["password_changed"]
        case _:
            return None


def _ask_anew(visit: Visit) -> Answer:
    """The app lists sessions only to who signed in lately; its sign-in page may not let in who is signed in."""
    t = visit.words.pages
    place = sign_in_url(visit.frame.pages, SESSIONS)
    links = [(place, t["shared"]["sign_in"]), ("/", t["shared"]["home"])]
    paragraphs = [t["sessions"]["not_fresh"], t["sessions"]["not_fresh_advice"]]
    leave = {"sign_out_url": SIGN_OUT, "signed_out_url": SESSIONS, "sign_out": t["shared"]["sign_in_again"]}
    return visit.message(403, t["sessions"]["not_fresh_title"], paragraphs, links, **leave)


def _unsure(visit: Visit) -> Answer:
    """A store that did not answer may have done it all the same."""
    t = visit.words.pages
    headers = ((b"Retry-After", b"%d" % RETRY_AFTER_S),)
    links = [(SESSIONS, t["sessions"]["title"])]
    return visit.message(503, t["sessions"]["failed_title"], [t["sessions"]["failed"]], links, headers=headers)


def _is_this(visit: Visit, session: Session) -> bool:
    return visit.record is not None and session.token == visit.record.session.token


def _address(text: str | None) -> str:
    """An address in its usual short form; "" for none."""
    try:
        return str(ip_address(text or ""))
    except ValueError:
        return ""
