"""`server.mail` against a real mail server on the loopback: what arrives, what is tried again, and what is logged.

Pauses cost nothing here: a clock that is only moved by them stands for the time.
"""

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.config.smtp_url import SmtpServer
from gatekeeper.core.model import User
from gatekeeper.server.auth_call import Message
from gatekeeper.server.mail import PAUSES_S, SmtpMail, pause_until
from gatekeeper.server.mail_connection import REST_S, safe_reply
from gatekeeper.server.texts import ENGLISH
from tests.certificates import Authority
from tests.servers.processes import free_port
from tests.servers.smtp import BREAKS_OFF, HANGS, MailServer, mail_server

TOKEN = "AbCdEfGhIjKlMnOpQrStUvWx"
URL = f"https://app.test/api/auth/reset-password/{TOKEN}?callbackURL=%2Freset"
PASSWORD = "hunter2"


class Hours:
    """A clock, and the pauses that moved it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def pause(self, event: asyncio.Event, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class Held(Hours):
    """Pauses that last until the mail is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.has_begun = asyncio.Event()

    async def pause(self, event: asyncio.Event, seconds: float) -> None:
        self.has_begun.set()
        await event.wait()


def message_to(email: str = "ada@example.test", name: str = "Ada", *, kind: Any = "reset-password") -> Message:
    return Message(kind, User("user-1", name, email, False, None, 0, 0), URL, TOKEN, ENGLISH)


def address_of(server: MailServer, security: Any = "none", *, signs_in: bool = False) -> SmtpServer:
    user, password = ("gate", PASSWORD) if signs_in else (None, None)
    return SmtpServer("127.0.0.1", server.port, user, password, security, "gate@example.test")


@asynccontextmanager
async def mailing(address: SmtpServer, **options: Any) -> AsyncIterator[SmtpMail]:
    hours = options.pop("hours", None) or Hours()
    mail = SmtpMail(address, "Example", **({"timeout_s": 20.0, "pause": hours.pause, "clock": hours} | options))
    try:
        yield mail
    finally:
        await mail.close()


async def settle(mail: SmtpMail) -> None:
    """Each mail is sent, or given up."""
    while mail.waiting:
        await asyncio.wait(mail._tasks)
        await asyncio.sleep(0)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged; nothing of it is secret."""
    lines = [record.getMessage() for record in caplog.records if record.name == "gatekeeper"]
    for line in lines:
        for secret in (TOKEN, "reset-password/", "https://", "ada@", PASSWORD, "Ada"):
            assert secret not in line
    return lines


def not_sent(reason: str) -> str:
    return f"the reset-password mail to user user-1 (…@example.test) was not sent: {reason}"


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gatekeeper")


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def trusting(authority: Authority, tmp_path: Path) -> ssl.SSLContext:
    """Trusts the authority of the test, and no other."""
    return ssl.create_default_context(cafile=str(authority.write_certificate(tmp_path / "ca.pem")))


def certified(authority: Authority, folder: Path, host: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue(host).write(folder / "server.pem", folder / "server.key"))
    return context


async def test_a_mail_arrives(caplog: pytest.LogCaptureFixture) -> None:
    async with mail_server() as server, mailing(address_of(server)) as mail:
        mail.send(message_to(name="Ada Łoś"))
        assert mail.waiting == 1
        assert repr(mail) == f"<SmtpMail 127.0.0.1:{server.port}, 1 waiting>"
        await settle(mail)
        (taken,) = server.taken
        assert (taken.sender, taken.recipient) == ("gate@example.test", "ada@example.test")
        received = taken.mail
        assert received["Subject"] == "Choose a new password for Example"
        assert re.fullmatch(r"<[^<>@\s]+@example\.test>", received["Message-ID"])
        assert parsedate_to_datetime(received["Date"]).tzinfo is not None
        plain = received.get_body(("plain",))
        assert plain is not None
        assert URL in plain.get_content().splitlines()
        assert plain.get_content().startswith("Hello Ada Łoś,")
        assert server.commands[-1] == "QUIT"
    assert logged(caplog) == []


async def test_a_line_of_a_dot_is_part_of_the_text() -> None:
    async with mail_server() as server, mailing(address_of(server), timeout_s=20.0) as mail:
        mail.send(Message("verify-email", User("u", "Ada", "ada@example.test", False, None, 0, 0), ".", TOKEN, ENGLISH))
        await settle(mail)
        plain = server.taken[0].mail.get_body(("plain",))
        assert plain is not None
        assert "." in plain.get_content().splitlines()


async def test_line_breaks_in_a_name_add_no_header_and_no_recipient() -> None:
    async with mail_server() as server, mailing(address_of(server)) as mail:
        mail.send(message_to(name="Ada\r\nBcc: eve@example.test\r\n.\r\nRCPT TO:<eve@example.test>"))
        await settle(mail)
        (taken,) = server.taken
        assert taken.mail["Bcc"] is None
        assert b"eve@" not in taken.data
        assert [command for command in server.commands if "eve" in command] == []


async def test_one_connection_for_mails_that_follow_each_other() -> None:
    async with mail_server() as server, mailing(address_of(server)) as mail:
        for number in range(3):
            mail.send(message_to(f"user{number}@example.test"))
        await settle(mail)
        assert [taken.recipient for taken in server.taken] == [f"user{number}@example.test" for number in range(3)]
        assert (server.connections, server.commands.count("QUIT")) == (1, 1)
        mail.send(message_to())
        await settle(mail)
        assert (server.connections, server.commands.count("QUIT")) == (2, 2)


@pytest.mark.parametrize("goodbye", [BREAKS_OFF, "421 4.7.0 so many and no more"])
async def test_the_next_mail_goes_through_another_connection(goodbye: str) -> None:
    hours = Hours()
    async with mail_server() as server, mailing(address_of(server), hours=hours) as mail:
        server.script["MAIL"] = ["250 ok", goodbye]
        mail.send(message_to("one@example.test"))
        mail.send(message_to("two@example.test"))
        await settle(mail)
        assert [(taken.recipient, taken.connection) for taken in server.taken] == [
            ("one@example.test", 1),
            ("two@example.test", 2),
        ]
    assert hours.pauses == []


async def test_a_refused_recipient_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    hours = Hours()
    async with mail_server() as server, mailing(address_of(server), hours=hours) as mail:
        server.script["RCPT"] = [f"550 5.1.1 <ada@example.test>: no such user, see https://mail.test/{TOKEN} {TOKEN}"]
        mail.send(message_to())
        mail.send(message_to("bob@example.test"))
        await settle(mail)
        assert [taken.recipient for taken in server.taken] == ["bob@example.test"]
        assert server.connections == 1
        assert logged(caplog) == [not_sent(f"127.0.0.1:{server.port} answered 550 5.1.1 … no such user, see … …")]
    assert hours.pauses == []


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA", "."])
async def test_what_may_pass_is_tried_again(command: str, caplog: pytest.LogCaptureFixture) -> None:
    hours = Hours()
    async with mail_server() as server, mailing(address_of(server), hours=hours) as mail:
        server.script[command] = ["451 4.7.1 come again"] * 3
        mail.send(message_to())
        await settle(mail)
        assert len(server.taken) == 1
    assert hours.pauses == [5.0, 30.0, 120.0]
    assert logged(caplog) == []


@pytest.mark.parametrize("command", ["MAIL", "DATA", "."])
async def test_what_is_final_is_not(command: str, caplog: pytest.LogCaptureFixture) -> None:
    hours = Hours()
    async with mail_server() as server, mailing(address_of(server), hours=hours) as mail:
        server.script[command] = ["554 5.7.1 not from you"]
        mail.send(message_to())
        await settle(mail)
        assert server.taken == []
        assert logged(caplog) == [not_sent(f"127.0.0.1:{server.port} answered 554 5.7.1 not from you")]
    assert hours.pauses == []


async def test_it_is_given_up_in_the_end(caplog: pytest.LogCaptureFixture) -> None:
    hours = Hours()
    async with mail_server() as server, mailing(address_of(server), hours=hours) as mail:
        server.script["RCPT"] = ["451 4.2.1 mailbox busy"] * 9
        mail.send(message_to())
        await settle(mail)
        assert server.taken == []
        assert len(server.script["RCPT"]) == 4, "five attempts"
        assert logged(caplog) == [not_sent(f"127.0.0.1:{server.port} answered 451 4.2.1 mailbox busy")]
    assert hours.pauses == list(PAUSES_S)


async def test_each_attempt_has_the_same_id_and_date() -> None:
    async with mail_server() as server, mailing(address_of(server)) as mail:
        server.script["."] = [BREAKS_OFF]
        seen: list[bytes] = []
        mail.send(message_to())
        await settle(mail)
        seen = [line for line in server.in_clear if line.startswith((b"Message-ID:", b"Date:"))]
        assert len(seen) == 4
        assert set(seen[:2]) == set(seen[2:])


async def test_a_mail_that_waits_does_not_hold_up_others() -> None:
    hours = Held()
    async with mail_server() as server, mailing(address_of(server), hours=hours) as mail:
        server.script["RCPT"] = ["451 4.7.1 come again"]
        mail.send(message_to("one@example.test"))
        await hours.has_begun.wait()
        for number in range(2):
            mail.send(message_to(f"user{number}@example.test"))
        while mail.waiting > 1:
            await asyncio.wait(mail._tasks, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)
        assert [taken.recipient for taken in server.taken] == ["user0@example.test", "user1@example.test"]
        await mail.close()
        assert server.taken[-1].recipient == "one@example.test", "closing tries once more"


async def test_a_server_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    hours = Hours()
    address = SmtpServer("127.0.0.1", free_port(), None, None, "none", "gate@example.test")
    async with mailing(address, hours=hours) as mail:
        mail.send(message_to())
        await settle(mail)
    refused = f"{address.label} cannot be reached: Connection refused"
    assert logged(caplog) == [
        f"mail is not sent at the moment, and tried again for some minutes: {refused}",
        not_sent(refused),
    ]
    assert hours.pauses == list(PAUSES_S)


async def test_a_server_that_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    server = MailServer()
    server.port = free_port()

    class Until(Hours):
        async def pause(self, event: asyncio.Event, seconds: float) -> None:
            await super().pause(event, seconds)
            if self.now > 100:
                await server.start()

    hours = Until()
    async with mailing(address_of(server), hours=hours) as mail:
        for _ in range(2):
            mail.send(message_to())
            await settle(mail)
    await server.stop()
    assert len(server.taken) == 2
    assert hours.pauses == [5.0, 30.0, 120.0]
    assert [line.partition(",")[0] for line in logged(caplog)] == [
        "mail is not sent at the moment",
        "mail is sent again",
    ]


async def test_a_host_that_there_is_not(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def look_up(*_: object) -> list[Any]:  # no test asks the network for names
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    address = SmtpServer("nowhere.test", 25, None, None, "none", "gate@example.test")
    hours = Hours()
    async with mailing(address, hours=hours) as mail:
        mail.send(message_to())
        await settle(mail)
    assert logged(caplog)[-1] == not_sent("nowhere.test:25 cannot be reached: Name or service not known")
    assert hours.pauses == list(PAUSES_S)


async def test_mails_do_not_wait_each_for_a_server_that_is_away() -> None:
    class UntilClosed(Hours):
        async def pause(self, event: asyncio.Event, seconds: float) -> None:
            self.pauses.append(seconds)
            if len(self.pauses) == 5:
                all_pause.set()
            await event.wait()

    all_pause, hours = asyncio.Event(), UntilClosed()
    async with mail_server() as server, mailing(address_of(server), hours=hours) as mail:
        server.script["CONNECT"] = ["421 4.3.2 busy"] * 9
        for number in range(5):
            mail.send(message_to(f"user{number}@example.test"))
        await all_pause.wait()
        assert server.connections == 1, "the failure of the first is that of all"
        hours.now += REST_S
        await mail.close()
        assert server.connections == 2


@pytest.mark.parametrize("where", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."])
async def test_a_server_that_hangs(where: str, caplog: pytest.LogCaptureFixture) -> None:
    hours = Hours()
    async with mail_server() as server, mailing(address_of(server), hours=hours, timeout_s=0.2) as mail:
        server.script[where] = [HANGS] * (len(PAUSES_S) + 1)
        mail.send(message_to())
        await settle(mail)
        assert server.taken == []
        line = logged(caplog)[-1]
        assert line.startswith(not_sent(f"127.0.0.1:{server.port} broke off: "))
        assert "timed out" in line
    assert hours.pauses == list(PAUSES_S)


async def test_what_hangs_at_the_end_was_sent() -> None:
    async with mail_server() as server, mailing(address_of(server), timeout_s=0.2) as mail:
        server.script["QUIT"] = [HANGS]
        mail.send(message_to())
        await settle(mail)
        assert len(server.taken) == 1


@pytest.mark.parametrize(
    ("answer", "reason", "attempts"),
    [
        ("554 5.3.2 not for you", "answered 554 5.3.2 not for you", 1),
        ("421 4.3.2 busy", "answered 421 4.3.2 busy", 5),
        ("hello, this is ftp", "does not speak SMTP: o, this is ftp", 5),
    ],
)
async def test_a_server_that_greets_otherwise(
    answer: str, reason: str, attempts: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with mail_server() as server, mailing(address_of(server)) as mail:
        server.script["CONNECT"] = [answer] * 9
        mail.send(message_to())
        await settle(mail)
        assert logged(caplog)[-1] == not_sent(f"127.0.0.1:{server.port} {reason}")
        assert server.connections == attempts


async def test_starttls_and_signing_in(
    authority: Authority, trusting: ssl.SSLContext, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = certified(authority, tmp_path)
    async with (
        mail_server(tls=context, passwords={"gate": PASSWORD}) as server,
        mailing(address_of(server, "starttls", signs_in=True), context=trusting) as mail,
    ):
        mail.send(message_to())
        mail.send(message_to())
        await settle(mail)
        assert [(taken.user, taken.is_encrypted) for taken in server.taken] == [("gate", True)] * 2
        assert server.verbs_in_clear == [b"EHLO", b"STARTTLS"]
    assert logged(caplog) == []


async def test_tls_from_the_first_byte(authority: Authority, trusting: ssl.SSLContext, tmp_path: Path) -> None:
    context = certified(authority, tmp_path)
    async with (
        mail_server(tls=context, encrypts_at_once=True, passwords={"gate": PASSWORD}) as server,
        mailing(address_of(server, "tls", signs_in=True), context=trusting) as mail,
    ):
        mail.send(message_to())
        await settle(mail)
        assert [(taken.user, taken.is_encrypted) for taken in server.taken] == [("gate", True)]
        assert server.in_clear == []


async def test_authorities_of_the_environment_are_trusted(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.write_certificate(tmp_path / "ca.pem")))
    async with (
        mail_server(tls=certified(authority, tmp_path)) as server,
        mailing(address_of(server, "starttls")) as mail,
    ):
        mail.send(message_to())
        await settle(mail)
        assert [taken.is_encrypted for taken in server.taken] == [True]


@pytest.mark.parametrize(("mechanisms", "password"), [("PLAIN", "pass wörd"), ("LOGIN", PASSWORD)])
async def test_ways_to_sign_in(mechanisms: str, password: str) -> None:
    async with mail_server(passwords={"gate": password}, mechanisms=mechanisms) as server:
        address = SmtpServer("127.0.0.1", server.port, "gate", password, "none", "gate@example.test")
        async with mailing(address) as mail:
            mail.send(message_to())
            await settle(mail)
            assert [taken.user for taken in server.taken] == ["gate"]


@pytest.mark.parametrize("password", ["wrong", "wröng"])
async def test_a_wrong_password_is_final(password: str, caplog: pytest.LogCaptureFixture) -> None:
    async with mail_server(passwords={"gate": PASSWORD}, mechanisms="PLAIN") as server:
        address = SmtpServer("127.0.0.1", server.port, "gate", password, "none", "gate@example.test")
        async with mailing(address) as mail:
            mail.send(message_to())
            mail.send(message_to())
            await settle(mail)
            assert server.taken == []
            refused = f"{address.label} answered 535 5.7.8 no such user or password"
            assert logged(caplog) == [not_sent(refused)] * 2
            assert server.connections == 1, "an account is not locked by trying for each mail"


async def test_a_server_that_knows_no_passwords(caplog: pytest.LogCaptureFixture) -> None:
    async with mail_server() as server, mailing(address_of(server, signs_in=True)) as mail:
        mail.send(message_to())
        await settle(mail)
        assert server.taken == []
        reason = "cannot be used: SMTP AUTH extension not supported by server."
        assert logged(caplog) == [not_sent(f"127.0.0.1:{server.port} {reason}")]


@pytest.mark.parametrize("signs_in", [False, True])
async def test_without_starttls_nothing_is_sent_in_clear(
    signs_in: bool, trusting: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    hours = Hours()
    async with mail_server(passwords={"gate": PASSWORD}) as server:
        address = address_of(server, "starttls", signs_in=signs_in)
        async with mailing(address, context=trusting, hours=hours) as mail:
            mail.send(message_to())
            await settle(mail)
        assert server.taken == []
        assert server.verbs_in_clear == [b"EHLO"]
        reason = "cannot be used: STARTTLS extension not supported by server."
        assert logged(caplog) == [not_sent(f"{address.label} {reason}")]
    assert hours.pauses == []


@pytest.mark.parametrize(("answer", "attempts"), [("454 4.7.0 not now", 5), ("501 5.5.4 what", 1)])
async def test_starttls_that_is_refused(
    answer: str, attempts: int, authority: Authority, trusting: ssl.SSLContext, tmp_path: Path
) -> None:
    async with mail_server(tls=certified(authority, tmp_path), passwords={"gate": PASSWORD}) as server:
        server.script["STARTTLS"] = [answer] * 9
        async with mailing(address_of(server, "starttls", signs_in=True), context=trusting) as mail:
            mail.send(message_to())
            await settle(mail)
        assert server.taken == []
        assert server.connections == attempts
        assert set(server.verbs_in_clear) == {b"EHLO", b"STARTTLS"}


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize(
    ("trusted", "host", "reason"),
    [
        (False, "127.0.0.1", "unable to get local issuer certificate"),
        (True, "127.0.0.2", "IP address mismatch, certificate is not valid for '127.0.0.1'."),
    ],
)
async def test_a_certificate_that_is_not_good(
    security: str,
    trusted: bool,
    host: str,
    reason: str,
    authority: Authority,
    trusting: ssl.SSLContext,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    issuer = authority if trusted else Authority("another")
    at_once = security == "tls"
    async with mail_server(tls=certified(issuer, tmp_path, host), encrypts_at_once=at_once) as server:
        async with mailing(address_of(server, security), context=trusting) as mail:
            mail.send(message_to())
            await settle(mail)
        assert server.taken == []
        (line,) = logged(caplog)
        assert line.startswith(not_sent(f"127.0.0.1:{server.port} has no certificate to trust: {reason}"[:60]))
        assert reason in line


async def test_when_full_the_newest_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async with mail_server() as server, mailing(address_of(server), most_waiting=2) as mail:
        for number in range(3):
            mail.send(message_to(f"user{number}@example.test"))
        assert logged(caplog) == [not_sent("2 mails are waiting already")]
        await settle(mail)
        assert [taken.recipient for taken in server.taken] == ["user0@example.test", "user1@example.test"]
        mail.send(message_to("user3@example.test"))
        await settle(mail)
        assert server.taken[-1].recipient == "user3@example.test"


async def test_closing_waits_for_what_is_to_be_sent(caplog: pytest.LogCaptureFixture) -> None:
    async with mail_server() as server, mailing(address_of(server)) as mail:
        for number in range(5):
            mail.send(message_to(f"user{number}@example.test"))
        await mail.close()
        assert len(server.taken) == 5
        assert mail.waiting == 0
        mail.send(message_to())
        assert logged(caplog) == [not_sent("the gate is stopping")]


async def test_closing_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    async with mail_server() as server, mailing(address_of(server), closing_s=0.05) as mail:
        server.script["RCPT"] = [HANGS]
        for number in range(3):
            mail.send(message_to(f"user{number}@example.test"))
        await server.asked.wait()
        await mail.close()
        assert logged(caplog) == [f"127.0.0.1:{server.port} did not take all mail in time: 3 not sent"]
        assert mail.waiting == 0
        await server.stop()
        await asyncio.to_thread(mail._thread.shutdown)
        assert server.taken == []


async def test_closing_tries_once_more_what_pauses(caplog: pytest.LogCaptureFixture) -> None:
    hours = Held()
    async with mail_server() as server, mailing(address_of(server), hours=hours) as mail:
        server.script["RCPT"] = ["451 4.2.1 mailbox busy"] * 9
        mail.send(message_to())
        await hours.has_begun.wait()
        await mail.close()
        assert len(server.script["RCPT"]) == 7
        assert logged(caplog) == [not_sent(f"127.0.0.1:{server.port} answered 451 4.2.1 mailbox busy")]


async def test_closing_what_was_never_used() -> None:
    mail = SmtpMail(SmtpServer("127.0.0.1", 9, None, None, "none", "gate@example.test"), "Example")
    await mail.close()
    await mail.close()


async def test_what_is_no_address_is_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    async with mail_server() as server, mailing(address_of(server)) as mail:
        for email in ("nobody", "a@b.test>\r\nRCPT TO:<c@d.test", "ä@example.test", ""):
            mail.send(message_to(email))
        assert mail.waiting == 0
        assert len(logged(caplog)) == 4
        assert logged(caplog)[0] == "the reset-password mail to user user-1 was not sent: this is no mail address"
        assert server.connections == 0


async def test_a_fault_of_our_own_stops_one_mail_only(caplog: pytest.LogCaptureFixture) -> None:
    async with mail_server() as server, mailing(address_of(server)) as mail:
        broken = Message("reset-password", message_to().user, "\ud800", TOKEN, ENGLISH)  # which UTF-8 has no bytes for
        mail.send(broken)
        mail.send(message_to())
        await settle(mail)
        assert logged(caplog) == ["a mail was not sent, by a fault of the gate's own"]
        assert len(server.taken) == 1


async def test_pausing_ends_with_the_event() -> None:
    event = asyncio.Event()
    await pause_until(event, 0.0)
    assert not event.is_set()
    pausing = asyncio.ensure_future(pause_until(event, 3600.0))
    event.set()
    await pausing


@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        (b"5.1.1 User unknown", "5.1.1 User unknown"),
        (b"5.1.1 <ada@example.test>: unknown\nsee /help", "5.1.1 … unknown see …"),
        (f"token {TOKEN} in {URL}".encode(), "token … in …"),
        (b"a\x1b[31m\xff\r\nb", "a…[31m… b"),
        (b"ab " * 100, "ab " * 53 + "a…"),
        ("", ""),
    ],
)
def test_what_of_a_reply_is_logged(reply: bytes | str, shown: str) -> None:
    assert safe_reply(reply) == shown
