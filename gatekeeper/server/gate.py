"""The one orchestrator: who is asking, and may they?  Every front end asks here.

`try_admit` is the synchronous half.  It answers whatever needs no waiting – no cookie, a bad signature, a session in
memory – and else says which session must be looked up.  `admit` is `try_admit` followed by that look-up.  The runtime
is read once for each request: a request that began with one finishes with it.
"""

import logging
from collections.abc import Callable

import msgspec

from gatekeeper.config.snapshot import Snapshot
from gatekeeper.core.cookies import VerifiedToken, find_cookie, verify_token
from gatekeeper.core.decide import decide, needs_session
from gatekeeper.core.errors import StoreError
from gatekeeper.core.model import Access, Decision, Deny, Reason, RequestFacts, Route, SessionRecord, SessionToken
from gatekeeper.core.policy import fault_of
from gatekeeper.core.routing import match_route
from gatekeeper.server.pages import PageSettings
from gatekeeper.server.upstream import UpstreamPool
from gatekeeper.stores.cache import ABSENT, SessionCache
from gatekeeper.telemetry.telemetry import Telemetry

logger = logging.getLogger("gatekeeper")

_MEMO_LIMIT = 4096
_MEMO_LENGTH = 256


class Runtime:
    """The live objects that one configuration makes: built whole, used together, replaced together."""

    def __init__(self, snapshot: Snapshot, sessions: SessionCache, upstreams: dict[str, UpstreamPool]) -> None:
        self.snapshot = snapshot
        self.sessions = sessions
        self.upstreams = upstreams
        self._routes: dict[str, Route] = {}

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


class Admission(msgspec.Struct, frozen=True):
    """A decision, and the route it was made on (None where the path has none that is clear)."""

    decision: Decision
    route: Route | None


class Lookup(msgspec.Struct, frozen=True):
    """A decision that must wait for this session to be looked up."""

    token: SessionToken
    route: Route


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
        route = runtime.route_of(facts)
        if not isinstance(route, Route):
            return Admission(Deny(400, route), None)
        if not needs_session(route):
            missing = None
            if route.access is Access.PRESENCE and not find_cookie(
                facts.cookie, runtime.snapshot.cookies.session_token
            ):
                missing = Reason.NO_COOKIE
            return self._decide(runtime, facts, route, None, missing)
        found = self._find(runtime, facts)
        if isinstance(found, VerifiedToken):
            return Lookup(found.token, route)
        if isinstance(found, Reason):
            return self._decide(runtime, facts, route, None, found)
        return self._decide(runtime, facts, route, found, None)

    async def admit(self, facts: RequestFacts) -> Admission:
        """The decision, after a session look-up where one is needed."""
        runtime = self.runtime
        admission = self.try_admit(facts)
        if isinstance(admission, Admission):
            return admission
        record, missing = await self._look_up(runtime, admission.token)
        return self._decide(runtime, facts, admission.route, record, missing)

    async def identify(self, facts: RequestFacts) -> SessionRecord | Reason:
        """The live session of a request, whatever its path, or why there is none."""
        runtime = self.runtime
        found = self._find(runtime, facts)
        if isinstance(found, VerifiedToken):
            record, missing = await self._look_up(runtime, found.token)
            found = record or missing or Reason.SESSION_UNKNOWN
        return found if isinstance(found, Reason) else fault_of(found, self.clock()) or found

    def _find(self, runtime: Runtime, facts: RequestFacts) -> SessionRecord | Reason | VerifiedToken:
        """What is known at once of a request's session: the record, why there is none, or the token to look up."""
        raw = find_cookie(facts.cookie, runtime.snapshot.cookies.session_token)
        if not raw:
            return Reason.NO_COOKIE
        verified = verify_token(raw, runtime.snapshot.keys)
        if verified is None:
            return Reason.BAD_SIGNATURE
        known = runtime.sessions.peek(verified.token)
        if known is None:
            return verified
        return Reason.SESSION_UNKNOWN if known is ABSENT else known

    async def _look_up(self, runtime: Runtime, token: SessionToken) -> tuple[SessionRecord | None, Reason | None]:
        try:
            record = await runtime.sessions.get(token)
        except StoreError as error:
            self._note_store(str(error))
            return None, Reason.STORE_UNAVAILABLE
        self._note_store(None)
        return record, None if record is not None else Reason.SESSION_UNKNOWN

    def _decide(
        self,
        runtime: Runtime,
        facts: RequestFacts,
        route: Route,
        record: SessionRecord | None,
        missing: Reason | None,
    ) -> Admission:
        policy = runtime.snapshot.policy
        return Admission(decide(facts, route, record, missing, policy, now_ms=self.clock()), route)

    def _note_store(self, trouble: str | None) -> None:
        """Log the store's trouble when it begins, changes and ends, not for each request."""
        if trouble == self._store_trouble:
            return
        self._store_trouble = trouble
        if trouble is None:
            logger.warning("session store answers again")
        else:
            logger.error("session store unavailable, protected requests get 503: %s", trouble)
