"""An answer that waits for cookies, a moment at most: the session is being extended while the app answers.

What comes from the app meanwhile is kept as it came, which is one piece: reading stops.  Then it goes its usual way.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from gatekeeper.core.errors import UpstreamError
from gatekeeper.core.model import SessionRecord
from gatekeeper.core.response_headers import sets_cookie
from gatekeeper.core.responses import ResponseHead
from gatekeeper.server.connection import ClientConnection
from gatekeeper.server.exchange import UpstreamConnection
from gatekeeper.server.extension import Claim
from gatekeeper.server.outbound import Outbound
from gatekeeper.server.relay import AwaitedRelay
from gatekeeper.server.streams import Streams

HOLD_S = 0.05
"""How long an answer waits."""


class HeldRelay(AwaitedRelay):
    """A relay whose answer carries what `claim` gives by then.

    An app that sets or clears the cookie named `session_token` itself has the last word: then nothing is added.
    """

    def __init__(
        self,
        client: ClientConnection,
        upstream: UpstreamConnection,
        outbound: Outbound,
        streams: Streams,
        record: SessionRecord | None,
        *,
        claim: Claim,
        session_token: str,
        http_1_0: bool,
        keep_alive: bool,
    ) -> None:
        super().__init__(client, upstream, outbound, streams, record, http_1_0=http_1_0, keep_alive=keep_alive)
        self._claim = claim
        self._session_token = session_token
        self._held: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._has_upstream = True
        self._is_detached = False

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        if self._must_wait(head):
            self._has_upstream = False  # it serves the next one as soon as this returns
            self._hold(partial(self._pass_whole, head, body))
        else:
            self._pass_whole(head, body)

    def on_head(self, head: ResponseHead) -> None:
        if self._must_wait(head):
            self.upstream.hold_reading()
            self._hold(partial(self._pass_head, head))
        else:
            self._pass_head(head)

    def on_body(self, data: bytes) -> None:
        if self._held:
            self._held.append(partial(super().on_body, data))
        else:
            super().on_body(data)

    def flush(self) -> None:
        if self._held:
            self._held.append(super().flush)
        else:
            super().flush()

    def on_end(self) -> None:
        if self._held:
            self._held.append(super().on_end)
        else:
            super().on_end()

    def on_error(self, error: UpstreamError) -> None:
        if self._held:
            self._held.append(partial(super().on_error, error))
        else:
            super().on_error(error)

    def client_is_full(self) -> None:
        if self._has_upstream:
            super().client_is_full()

    def client_has_drained(self) -> None:
        if self._has_upstream and not self._held:
            super().client_has_drained()

    def detach(self) -> None:
        self._is_detached = True
        if self._timer is not None:
            self._timer.cancel()
        self._held.clear()
        super().detach()

    def _must_wait(self, head: ResponseHead) -> bool:
        return head.status != 101 and not self._claim.is_settled

    def _hold(self, call: Callable[[], None]) -> None:
        self._held.append(call)
        self._timer = self.upstream.pool.loop.call_later(HOLD_S, self._let_go)
        self._claim.when_settled(self._let_go)

    def _let_go(self) -> None:
        """The cookies are there, or are not waited for any longer."""
        if self._is_detached or not self._held:
            return
        if self._timer is not None:
            self._timer.cancel()
        if self._has_upstream:
            self.upstream.resume_reading()
        held, self._held = self._held, []
        for call in held:
            call()

    def _pass_whole(self, head: ResponseHead, body: bytes) -> None:
        self._take_cookies(head)
        super().on_whole(head, body)

    def _pass_head(self, head: ResponseHead) -> None:
        self._take_cookies(head)
        super().on_head(head)

    def _take_cookies(self, head: ResponseHead) -> None:
        if not sets_cookie(head.fields, self._session_token):
            self.cookies = self._claim.cookies()
