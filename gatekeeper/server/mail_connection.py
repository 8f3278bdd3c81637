"""The conversation with a mail server, on a thread that may wait: opening, handing over, and what a failure means.

Everything that can go wrong with a server is a value, `Failure`.  Its reason is for operators and quotes what the
server said, but nothing that looks like an address, a link or a token.
"""

import re
import smtplib
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from email.message import EmailMessage

import msgspec

from gatekeeper.config.smtp_url import SmtpServer

REST_S = 3.0
"""How long nobody tries to connect after that failed: a thousand mails need not each wait for a server that is away."""

_UNFIT = re.compile(r"\S*[@/\\%=?&<>]\S*|\S{20,}|[^\x20-\x7e]+")
_MOST_OF_A_REPLY = 160


class Failure(msgspec.Struct, frozen=True):
    """Why a mail was not taken.  `is_permanent`: trying again would not help.  `is_servers`: it is not this mail's."""

    reason: str
    is_permanent: bool
    is_servers: bool = False


class MailConnection:
    """At most one connection to the server, open as long as mails follow one another.  To be used by one thread."""

    def __init__(
        self, server: SmtpServer, *, context: ssl.SSLContext, timeout_s: float, clock: Callable[[], float]
    ) -> None:
        self._server = server
        self._context = context
        self._timeout_s = timeout_s
        self._clock = clock
        self._smtp: smtplib.SMTP | None = None
        self._down: tuple[float, Failure] | None = None

    def hand_over(self, mail: EmailMessage, recipient: str, *, more: Callable[[], bool]) -> Failure | None:
        """Give the mail to the server; None if it took it.  Hangs up if there are no `more` by then."""
        failure = self._hand_over(mail, recipient)
        if not more():
            self.hang_up()
        return failure

    def hang_up(self) -> None:
        """Take leave of the server, if we are connected."""
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            with suppress(smtplib.SMTPException, OSError):
                smtp.quit()
            smtp.close()

    def _hand_over(self, mail: EmailMessage, recipient: str) -> Failure | None:
        while True:
            is_used = self._smtp is not None
            smtp = self._smtp or self._open()
            if isinstance(smtp, Failure):
                return smtp
            try:
                smtp.send_message(mail, self._server.sender, [recipient])
            except (smtplib.SMTPException, OSError) as error:
                failure = self._failure(error)
            else:
                return None
            if smtp.sock is not None:  # the server has refused it, and listens for the next
                return failure
            self._smtp = None
            if not is_used:
                return failure
            # A server may end a connection after so many mails: the next may well be welcome on another.

    def _open(self) -> smtplib.SMTP | Failure:
        if self._down is not None and self._clock() < self._down[0]:
            return self._down[1]
        try:
            self._smtp = self._connected()
        except (smtplib.SMTPException, OSError) as error:
            failure = self._failure(error, is_servers=True)
            self._down = (self._clock() + REST_S, failure)
            return failure
        return self._smtp

    def _connected(self) -> smtplib.SMTP:
        server, name, timeout = self._server, _own_name(), self._timeout_s
        if server.security == "tls":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                server.host, server.port, name, timeout=timeout, context=self._context
            )
        else:
            smtp = smtplib.SMTP(server.host, server.port, name, timeout=timeout)
        try:
            if server.security == "starttls":
                smtp.starttls(context=self._context)
            smtp.ehlo_or_helo_if_needed()
            if server.user is not None and server.password is not None:
                _sign_in(smtp, server.user, server.password)
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _failure(self, error: smtplib.SMTPException | OSError, *, is_servers: bool = False) -> Failure:
        reason, is_permanent = _meaning(error)
        return Failure(f"{self._server.label} {reason}", is_permanent, is_servers)


def _meaning(error: smtplib.SMTPException | OSError) -> tuple[str, bool]:
    """What the server did, and whether it will do so again."""
    match error:
        case smtplib.SMTPRecipientsRefused():
            return _answered(*next(iter(error.recipients.values())))
        case smtplib.SMTPResponseException():
            return _answered(error.smtp_code, error.smtp_error)
        case smtplib.SMTPServerDisconnected():
            return f"broke off: {safe_reply(str(error))}", False
        case smtplib.SMTPException():  # no STARTTLS, or no way to sign in
            return f"cannot be used: {safe_reply(str(error))}", True
        case ssl.SSLCertVerificationError():
            return f"has no certificate to trust: {error.verify_message}", True
        case _:
            return f"cannot be reached: {error.strerror or error}", False


def _answered(code: int, text: bytes | str) -> tuple[str, bool]:
    if code < 0:
        return f"does not speak SMTP: {safe_reply(text)}", False
    return f"answered {code} {safe_reply(text)}".rstrip(), 500 <= code < 600


def safe_reply(text: bytes | str) -> str:
    """What a server said, as it may be logged: on one line, short, words that may be an address or a token left out."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    line = " ".join(_UNFIT.sub("…", " ".join(text.split())).split())
    return line if len(line) <= _MOST_OF_A_REPLY else f"{line[:_MOST_OF_A_REPLY]}…"


def _sign_in(smtp: smtplib.SMTP, user: str, password: str) -> None:
    if user.isascii() and password.isascii():
        smtp.login(user, password)
        return
    answer = b64encode(f"\0{user}\0{password}".encode()).decode()  # RFC 4616 §2: UTF-8, which `login` cannot
    code, text = smtp.docmd("AUTH", f"PLAIN {answer}")
    if code != 235:
        raise smtplib.SMTPAuthenticationError(code, text)


def _own_name() -> str:
    """What we call ourselves: no DNS is asked, and a name that says nothing elsewhere is left out (RFC 5321 §4.1.4)."""
    name = socket.gethostname()
    return name if "." in name and name.isascii() else "[127.0.0.1]"
