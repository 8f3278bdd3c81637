"""Mail to users by SMTP, sent beside everything else.

* `send` returns at once: the server is spoken to on one thread of its own, one mail after the other.
* Only so many mails wait.  When full, the newest is dropped: those who asked first are served first.
* What may pass (no connection, an answer 4xx) is tried again with growing pauses, for seven and a half minutes; an
  answer 5xx is final.  A mail that pauses does not hold up the others.
* Each mail that is not sent is one line in the log, with the user's id and the domain of the address.  A server that
  cannot be reached is told of at once, and so is its return.
* Nothing is kept on disk: what was not sent when the process ends is lost.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import make_msgid
from functools import partial

from gatekeeper.config.smtp_url import SmtpServer
from gatekeeper.core.accounts import is_email
from gatekeeper.server.auth_call import Message
from gatekeeper.server.mail_connection import Failure, MailConnection
from gatekeeper.server.mail_texts import compose
from gatekeeper.server.mail_thread import MailThread

MOST_WAITING = 1000
PAUSES_S = (5.0, 30.0, 120.0, 300.0)
"""Before the second attempt and so on.  Servers that first ask strangers to come again want five minutes."""

TIMEOUT_S = 10.0
"""How long the server may take to connect, and for each answer."""

CLOSING_S = 5.0

logger = logging.getLogger("gatekeeper")

Pause = Callable[[asyncio.Event, float], Awaitable[None]]
"""Waits so many seconds, or until the event if that is sooner."""


async def pause_until(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, so long at most."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


class SmtpMail:
    """Sends mails through one server.  One for each process; `send` and `close` belong to its event loop.

    `context` is how certificates are judged, by default as the system does.  `closing_s` is how long `close` waits.
    """

    def __init__(
        self,
        server: SmtpServer,
        site_name: str,
        *,
        context: ssl.SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
        most_waiting: int = MOST_WAITING,
        closing_s: float = CLOSING_S,
        pause: Pause = pause_until,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._site_name = site_name
        self._most_waiting = most_waiting
        self._closing_s = closing_s
        self._pause = pause
        context = context or ssl.create_default_context()
        self._connection = MailConnection(server, context=context, timeout_s=timeout_s, clock=clock)
        self._thread = MailThread("mail")
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_line = 0
        self._is_down = False
        self._closing = asyncio.Event()

    def __repr__(self) -> str:
        return f"<SmtpMail {self._server.label}, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        """How many mails are not sent yet, nor given up."""
        return len(self._tasks)

    def send(self, message: Message) -> None:
        """Send it beside everything else, if there is room."""
        if self._closing.is_set():
            _report(message, "the gate is stopping")
        elif self.waiting >= self._most_waiting:
            _report(message, f"{self.waiting} mails are waiting already")
        elif not is_email(message.user.email):
            _report(message, "this is no mail address")
        else:
            task = asyncio.get_running_loop().create_task(self._deliver(message))
            self._tasks.add(task)
            task.add_done_callback(self._was_done)

    async def close(self) -> None:
        """Try once more what waits, for a few seconds; then give it up."""
        self._closing.set()
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=self._closing_s)
            if left:
                logger.error("%s did not take all mail in time: %d not sent", self._server.label, len(left))
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            if left:
                self._thread.submit(self._connection.hang_up)  # it was kept open for these
        self._thread.shutdown(wait=False)

    async def _deliver(self, message: Message) -> None:
        message_id = make_msgid(domain=self._server.sender.rpartition("@")[2])
        attempt = partial(self._attempt, message, message_id, datetime.now(UTC))
        pauses_s = iter(PAUSES_S)
        while (failure := await self._in_thread(attempt)) is not None:
            pause_s = next(pauses_s, None)
            if failure.is_permanent or pause_s is None or self._closing.is_set():
                _report(message, failure.reason)
                return
            await self._pause(self._closing, pause_s)

    async def _in_thread(self, attempt: Callable[[], Failure | None]) -> Failure | None:
        self._in_line += 1
        try:
            failure = await asyncio.get_running_loop().run_in_executor(self._thread, attempt)
        finally:
            self._in_line -= 1
        self._note(failure)
        return failure

    def _attempt(self, message: Message, message_id: str, date: datetime) -> Failure | None:
        """One attempt, in the thread.  All of a mail have one id, by which readers know what came twice."""
        mail = compose(message, site_name=self._site_name, sender=self._server.sender, message_id=message_id, date=date)
        return self._connection.hand_over(mail, message.user.email, more=lambda: self._in_line > 1)

    def _note(self, failure: Failure | None) -> None:
        """Say when the server is away, and when it is back."""
        if failure is None:
            if self._is_down:
                logger.info("mail is sent again")
            self._is_down = False
        elif failure.is_servers and not failure.is_permanent:
            if not self._is_down:
                logger.warning("mail is not sent at the moment, and tried again for some minutes: %s", failure.reason)
            self._is_down = True

    def _was_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a mail was not sent, by a fault of the gate's own", exc_info=error)


def _report(message: Message, reason: str) -> None:
    _, at, domain = message.user.email.rpartition("@")
    whose = f"{message.user.id} (…@{domain})" if at else message.user.id
    logger.error("the %s mail to user %s was not sent: %s", message.kind, whose, reason)
