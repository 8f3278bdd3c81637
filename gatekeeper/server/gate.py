"""The one orchestrator: who is asking, and may they?  Every front end asks here.

`try_admit` is the synchronous half.  It answers whatever needs no waiting – no cookie, a bad signature, a session in
memory – and else says which session must be looked up.  `admit` is `try_admit` followed by that look-up.  The runtime
is read once for each request: a request that began with one finishes with it.
"""

import logging
from collections.abc import Callable
from functools import cached_property
from uuid import uuid4

import msgspec

from gatekeeper.config.snapshot import Snapshot
from gatekeeper.core.cookies import VerifiedToken, find_cookie
from gatekeeper.core.credentials import presented_token
from gatekeeper.core.decide import decide, needs_session
from gatekeeper.core.errors import StoreError, StoreLimited
from gatekeeper.core.model import (
    NO_CONDITION,
    Access,
    Allow,
    Decision,
    Deny,
    Reason,
    RequestFacts,
    Route,
    SessionRecord,
    SessionToken,
)
from gatekeeper.core.policy import fault_of
from gatekeeper.core.routing import match_route
from gatekeeper.server.assertions import Assertions
from gatekeeper.server.data_cookies import DataCookies
from gatekeeper.server.extension import Extender
from gatekeeper.server.get_session import NOBODY, OwnAnswer, account_answer, may_answer, own_answer
from gatekeeper.server.pages import PageSettings
from gatekeeper.server.upstream import UpstreamPool
from gatekeeper.stores.app_sign_out import AppSignOut
from gatekeeper.stores.cache import ABSENT, Absent, SessionCache
from gatekeeper.stores.claims import Claims
from gatekeeper.stores.feeds.feed import digest_of
from gatekeeper.stores.writing import SessionWriter
from gatekeeper.telemetry.telemetry import Telemetry

logger = logging.getLogger("gatekeeper")

OWN_ROUTE = Route("own", Access.PUBLIC, "none", NO_CONDITION, None, "deny", "reject", "")
"""That of the gate's own paths, which are open whatever the rules say, and never forwarded."""

_MEMO_LIMIT = 4096
_MEMO_LENGTH = 256


class Runtime:
    """The live objects that one configuration makes: built whole, used together, replaced together."""

    def __init__(
        self,
        snapshot: Snapshot,
        sessions: SessionCache,
        claims: Claims,
        upstreams: dict[str, UpstreamPool],
        extender: Extender | None = None,
        revoker: SessionWriter | AppSignOut | None = None,
        assertions: Assertions | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.sessions = sessions
        self.claims = claims
        self.upstreams = upstreams
        self.extender = extender
        """What extends sessions, where the gate does that."""
        self.revoker = revoker
        """What ends sessions where they are kept."""
        self.assertions = assertions
        """What tells the app, signed, who asks; None where nothing is signed."""
        self._routes: dict[str, Route] = {}

    @cached_property
    def data_cookies(self) -> DataCookies | None:
        """Which session_data cookies are true; None where none are written."""
        form, keys = self.snapshot.data_format, self.snapshot.keys
        return None if form is None else DataCookies(form, keys, new_uuid)

    async def close(self) -> None:
        """Close every connection to apps and stores."""
        for pool in self.upstreams.values():
            pool.close()
        if self.extender is not None:
            await self.extender.close()
        await self.sessions.close()
        if self.revoker is not None:
            await self.revoker.close()

    def session_ended(self, token: SessionToken) -> None:
        """Believe nothing of this session any more, not even its session_data cookie: no feed has to say so."""
        self.sessions.forget(token)
        self.claims.session_changed(digest_of(token))
        if self.extender is not None:
            self.extender.session_ended(token)

    def route_of(self, facts: RequestFacts) -> Route | Reason:
        """The route of a request's path, remembered: routes depend on nothing else."""
        target = facts.target
        route = self._routes.get(target.path)
        if route is not None:
            return route
        found = match_route(self.snapshot.table, target)
        if isinstance(found, Route) and target.slash_reading is None and len(target.path) <= _MEMO_LENGTH:
            if len(self._routes) >= _MEMO_LIMIT:
                self._routes.clear()
            self._routes[target.path] = found
        return found

    def known(self, case: "Case", token: SessionToken, clock: Callable[[], int]) -> SessionRecord | Absent | None:
        """What can be said of this session without asking the store: from memory, or by a session_data cookie."""
        known = self.sessions.peek(token)
        if known is None and case.may_claim:
            return self.claims.read(case.facts.cookie, token, clock())
        return known


class Admission(msgspec.Struct, frozen=True):
    """A decision, and the route it was made on (None where the path has none that is clear).

    `own` is what the gate answers in the app's stead to a request that is let through, if it does.
    """

    decision: Decision
    route: Route | None
    own: OwnAnswer | None = None

    @property
    def record(self) -> SessionRecord | None:
        """For whom it lets a request through, if it does."""
        return self.decision.identity.record if isinstance(self.decision, Allow) else None


class Case(msgspec.Struct, frozen=True):
    """What a decision follows from, but for the session itself and the time: nothing here ever changes.

    `token` is that of the session to judge by; None where none is needed, or there is none, which `missing` says.
    `may_claim` is whether a session_data cookie may decide.  `is_get_session`: the gate answers in the app's stead, if
    it can.
    """

    facts: RequestFacts
    route: Route
    token: SessionToken | None
    missing: Reason | None
    may_claim: bool = False
    is_get_session: bool = False


class Lookup(msgspec.Struct, frozen=True):
    """A decision that must wait for this session to be looked up."""

    token: SessionToken
    case: Case


class Gate:
    """Admits requests.  `pages` is how refusals are shown; `clock` gives milliseconds since the epoch.

    `telemetry` is told of what happens; one of its own, which only counts, where none is given.
    """

    def __init__(
        self,
        runtime: Runtime,
        pages: PageSettings,
        clock: Callable[[], int],
        telemetry: Telemetry | None = None,
    ) -> None:
        self.runtime = runtime
        self.pages = pages
        self.clock = clock
        self.telemetry = telemetry or Telemetry()
        self._store_trouble: str | None = None

    def try_admit(self, facts: RequestFacts) -> Admission | Lookup:
        """The decision where nothing must be waited for, else the look-up that it needs."""
        runtime = self.runtime
        case = self.prepare(runtime, facts)
        if isinstance(case, Admission):
            return case
        if case.token is None:
            return self.decide(runtime, case, None, self.clock())
        known = runtime.known(case, case.token, self.clock)
        return Lookup(case.token, case) if known is None else self.decide(runtime, case, known, self.clock())

    def prepare(self, runtime: Runtime, facts: RequestFacts) -> Case | Admission:
        """As far as a request can be judged without its session and the time; or the decision, if it is clear."""
        route = runtime.route_of(facts)
        if not isinstance(route, Route):
            return Admission(Deny(400, route), None)
        snapshot = runtime.snapshot
        if facts.target.path == snapshot.get_session_path:
            answered = OWN_ROUTE if snapshot.has_accounts else route
            found = token_of(runtime, facts) if may_answer(facts, answered, snapshot) else None
            if found is Reason.NO_COOKIE:
                return Case(facts, answered, None, found, is_get_session=True)
            if isinstance(found, VerifiedToken) and found.key_index == 0:
                may_claim = snapshot.has_accounts
                return Case(facts, answered, found.token, None, may_claim=may_claim, is_get_session=True)
        if needs_session(route):
            found = token_of(runtime, facts)
            if isinstance(found, VerifiedToken):
                return Case(facts, route, found.token, None, may_claim=_may_claim(route))
            return Case(facts, route, None, found)
        missing = None
        if route.access is Access.PRESENCE and not find_cookie(facts.cookie, snapshot.cookies.session_token):
            missing = Reason.NO_COOKIE
        return Case(facts, route, None, missing)

    def decide(self, runtime: Runtime, case: Case, known: SessionRecord | Absent | None, now_ms: int) -> Admission:
        """The decision, with what is known of the session that the case names."""
        if known is ABSENT:
            return _decide(runtime, case, None, Reason.SESSION_UNKNOWN, now_ms)
        return _decide(runtime, case, known, case.missing, now_ms)

    async def admit(self, facts: RequestFacts) -> Admission:
        """The decision, after a session look-up where one is needed."""
        runtime = self.runtime
        admission = self.try_admit(facts)
        if isinstance(admission, Admission):
            return admission
        record, missing = await self._look_up(runtime, admission.token, facts.client_address)
        return _decide(runtime, admission.case, record, missing, self.clock())

    async def identify(self, facts: RequestFacts) -> SessionRecord | Reason:
        """The live session of a request, whatever its path, or why there is none."""
        runtime = self.runtime
        token = token_of(runtime, facts)
        if isinstance(token, Reason):
            return token
        known = runtime.sessions.peek(token.token)
        missing: Reason | None = None
        if known is None:
            known, missing = await self._look_up(runtime, token.token, facts.client_address)
        if known is None or known is ABSENT:
            return missing or Reason.SESSION_UNKNOWN
        return fault_of(known, self.clock()) or known

    async def _look_up(
        self, runtime: Runtime, token: SessionToken, client_address: str
    ) -> tuple[SessionRecord | None, Reason | None]:
        try:
            record = await runtime.sessions.get(token, client_address)
        except StoreLimited as error:  # of one visitor: the store is well
            logger.info("session store refuses to answer for one visitor: %s", error)
            return None, Reason.STORE_UNAVAILABLE
        except StoreError as error:
            self._note_store(str(error))
            return None, Reason.STORE_UNAVAILABLE
        self._note_store(None)
        return record, None if record is not None else Reason.SESSION_UNKNOWN

    def _note_store(self, trouble: str | None) -> None:
        """Log the store's trouble when it begins, changes and ends, not for each request."""
        if trouble == self._store_trouble:
            return
        self._store_trouble = trouble
        if trouble is None:
            logger.warning("session store answers again")
        else:
            logger.error("session store unavailable, protected requests get 503: %s", trouble)


def new_uuid() -> str:
    """An id that nothing else has."""
    return str(uuid4())


def _may_claim(route: Route) -> bool:
    """Whether a session_data cookie may decide here: not where a rule asks for more than a live session."""
    return route.access in (Access.SESSION, Access.PUBLIC) and route.require == NO_CONDITION


def token_of(runtime: Runtime, facts: RequestFacts) -> VerifiedToken | Reason:
    """The token that a request carries, or why there is none."""
    snapshot = runtime.snapshot
    return presented_token(
        facts.cookie, facts.authorization, snapshot.cookies.session_token, snapshot.keys, bearer=snapshot.bearer
    )


def _decide(
    runtime: Runtime, case: Case, record: SessionRecord | None, missing: Reason | None, now_ms: int
) -> Admission:
    policy = runtime.snapshot.policy
    decision = decide(case.facts, case.route, record, missing, policy, now_ms=now_ms)
    own = _own_answer(runtime, case, record, now_ms) if case.is_get_session else None
    return Admission(decision, case.route, own)


def _own_answer(runtime: Runtime, case: Case, record: SessionRecord | None, now_ms: int) -> OwnAnswer | None:
    if case.token is None:
        return NOBODY
    if record is None:
        return None
    if runtime.snapshot.has_accounts:
        return account_answer(case.facts, record, runtime.snapshot, runtime.data_cookies, now_ms)
    return own_answer(case.facts, record, runtime.snapshot, now_ms)
