"""What became of a request: filled in while it is served, reported when it is over."""

from gatekeeper.core.model import Reason, RequestFacts, SessionRecord
from gatekeeper.server.connection import ClientConnection
from gatekeeper.server.extension import Claim
from gatekeeper.server.gate import Admission
from gatekeeper.server.relay import Relay
from gatekeeper.telemetry.telemetry import Telemetry


class Exchanged:
    """One request and its answer.  Times are the loop's clock, in seconds; `status` is 0 while nothing was written.

    `facts` stays None for a request too malformed to have any; `route_name` is that of the rules that held, or "own".
    """

    __slots__ = (
        "_now",
        "_upstream_began",
        "began",
        "claim",
        "facts",
        "peer",
        "reason",
        "record",
        "request_id",
        "route_name",
        "sent_bytes",
        "status",
        "upstream_s",
    )

    def __init__(self, client: ClientConnection) -> None:
        self._now = client.server.now
        self.began = self._now()
        self.peer = client.peer
        self.facts: RequestFacts | None = None
        self.reason = Reason.INTERNAL_ERROR
        self.record: SessionRecord | None = None
        self.claim: Claim | None = None
        self.request_id = ""
        self.route_name = ""
        self.status = 0
        self.sent_bytes = 0
        self.upstream_s: float | None = None
        self._upstream_began = 0.0

    def decided(self, admission: Admission) -> None:
        """What was decided, by which rules, and for whom, where somebody was let through."""
        self.reason = admission.decision.reason
        if admission.route is not None:
            self.route_name = admission.route.name
        self.record = admission.record

    def upstream_began(self, at: float | None = None) -> None:
        """The request was sent to the upstream now, or at this time."""
        self._upstream_began = self._now() if at is None else at

    def took(self, status: int, sent_bytes: int, cut_for: Reason | None) -> None:
        """This is what was written; an answer that was cut says why."""
        self.status = status
        self.sent_bytes = sent_bytes
        if cut_for is not None:
            self.reason = cut_for

    def took_from(self, relay: Relay) -> None:
        """This is what an upstream's answer came to."""
        self.took(relay.status, relay.sent_bytes, relay.cut_for)
        if relay.answered_at:
            self.upstream_s = relay.answered_at - self._upstream_began

    def report(self, telemetry: Telemetry) -> None:
        """Tell those who count and log."""
        telemetry.record(
            self.facts,
            self.route_name,
            self.reason,
            self.record,
            self.status,
            self.request_id,
            self._now() - self.began,
            self.upstream_s,
            self.sent_bytes,
            self.peer,
        )
