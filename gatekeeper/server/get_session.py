"""The app's own `GET …/get-session`, answered here (`session.serve_get_session`), as Better Auth would answer it.

Whatever the app would do more than answer is passed on to it: extend a session that is due, clear the cookies of one
that is over, obey a parameter, judge a header that the gate does not know, answer another origin.  So is everything
that is uncertain: a signature that is not the current secret's, a store that does not answer.
"""

import msgspec

from gatekeeper.config.snapshot import Snapshot
from gatekeeper.core.cookies import find_session_data
from gatekeeper.core.credentials import bearer_token
from gatekeeper.core.lifecycle import due_at_ms, is_remembered
from gatekeeper.core.model import Access, RequestFacts, Route, SessionRecord
from gatekeeper.core.policy import fault_of
from gatekeeper.server.answers import NO_SNIFF, NO_STORE, Answer
from gatekeeper.server.auth_documents import record_fields
from gatekeeper.server.data_cookies import NEVER_MS, DataCookies
from gatekeeper.server.documents import get_session_document

_HEADERS = ((b"Content-Type", b"application/json"), NO_STORE, (b"Pragma", b"no-cache"), NO_SNIFF)
_NOBODY = Answer(200, _HEADERS, b"null")


class OwnAnswer(msgspec.Struct, frozen=True):
    """What the gate answers in the app's stead, and the moment from which on the app is to be asked instead."""

    answer: Answer
    until_ms: int = NEVER_MS


NOBODY = OwnAnswer(_NOBODY)
"""The answer to who has no session cookie."""


def may_answer(facts: RequestFacts, route: Route, snapshot: Snapshot) -> bool:
    """Whether this is a get-session that depends on nothing but the session; the path is taken for right."""
    return (
        facts.method == "GET"
        and facts.target.query is None
        and route.access is Access.PUBLIC
        and not facts.has_body
        and not facts.is_websocket
        and (facts.origin is None or facts.origin.lower() == snapshot.policy.own_origin(facts).lower())
        and (
            facts.authorization is None
            or (snapshot.bearer and bearer_token(facts.authorization, snapshot.keys) is not None)
        )
    )


def own_answer(facts: RequestFacts, record: SessionRecord, snapshot: Snapshot, now_ms: int) -> OwnAnswer | None:
    """What Better Auth would say of this record; None where it would do more than that."""
    if fault_of(record, now_ms) is not None:
        return None
    until_ms = NEVER_MS
    if is_remembered(facts.cookie, snapshot.cookies, snapshot.keys):
        until_ms = due_at_ms(record.session, snapshot.lifetimes)
        if until_ms <= now_ms:
            return None
    return OwnAnswer(Answer(200, _HEADERS, msgspec.json.encode(get_session_document(record))), until_ms)


def account_answer(
    facts: RequestFacts, record: SessionRecord, snapshot: Snapshot, data_cookies: DataCookies | None, now_ms: int
) -> OwnAnswer | None:
    """What the account call of accounts mode answers where it has nothing to do but that; None elsewhere.

    The browser has a session_data cookie, which is true.
    """
    raw = find_session_data(facts.cookie, snapshot.cookies.session_data)
    if not raw or data_cookies is None or fault_of(record, now_ms) is not None:
        return None
    until_ms = data_cookies.true_until_ms(raw, record, now_ms)
    if until_ms is None or until_ms <= now_ms:
        return None
    return OwnAnswer(Answer(200, _HEADERS, msgspec.json.encode(record_fields(record))), until_ms)


def is_account_call(facts: RequestFacts, snapshot: Snapshot) -> bool:
    """Whether the app may change the session or its user by this request, so that what is in memory must not stay."""
    return snapshot.account_path != "" and facts.target.path.startswith(snapshot.account_path)
