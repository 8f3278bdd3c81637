"""`config.smtp_url`: what the URL of a mail server says, and that no message says the password."""

import re

import pytest

from gatekeeper.config.schema import Accounts, Settings
from gatekeeper.config.smtp_url import SmtpServer, check_smtp, parse_smtp_url
from gatekeeper.core.errors import GatekeeperError
from tests.config.loading import BASE, load

MARK = "hunter2"
FROM = "from=gate@example.test"


@pytest.mark.parametrize(
    ("url", "server"),
    [
        pytest.param(
            f"smtp://user:pw@mail.test?{FROM}",
            SmtpServer("mail.test", 587, "user", "pw", "starttls", "gate@example.test"),
            id="usual",
        ),
        pytest.param(
            "smtp://ada%40example.test:pw@mail.test:2525/",
            SmtpServer("mail.test", 2525, "ada@example.test", "pw", "starttls", "ada@example.test"),
            id="user-is-the-sender",
        ),
        pytest.param(
            f"smtps://ada%40example.test:pw@mail.test?{FROM}",
            SmtpServer("mail.test", 465, "ada@example.test", "pw", "tls", "gate@example.test"),
            id="tls-and-a-sender-of-its-own",
        ),
        pytest.param(
            f"smtps://MAIL.test:2465?{FROM}",
            SmtpServer("mail.test", 2465, None, None, "tls", "gate@example.test"),
            id="tls-without-user",
        ),
        pytest.param(
            f"smtp://u%3A1:p%40%2F%3F%23%25%C3%A4+@mail.test?{FROM}",
            SmtpServer("mail.test", 587, "u:1", "p@/?#%ä+", "starttls", "gate@example.test"),
            id="escaped",
        ),
        pytest.param(
            "smtp://mail.test?from=a%2Bb%40example.test",
            SmtpServer("mail.test", 587, None, None, "starttls", "a+b@example.test"),
            id="escaped-sender",
        ),
        pytest.param(
            "smtp://mail.test?from=a+b@example.test",
            SmtpServer("mail.test", 587, None, None, "starttls", "a+b@example.test"),
            id="plus-is-no-blank",
        ),
        pytest.param(
            "smtp://[::1]:25?from=gate@localhost",
            SmtpServer("::1", 25, None, None, "none", "gate@localhost"),
            id="ipv6",
        ),
    ],
)
def test_what_a_url_says(url: str, server: SmtpServer) -> None:
    assert parse_smtp_url(url) == server


@pytest.mark.parametrize(
    ("url", "security"),
    [
        ("smtp://mail.test", "starttls"),
        ("smtp://u:pw@mail.test", "starttls"),
        ("smtp://u:pw@127.0.0.1", "starttls"),
        ("smtp://u:pw@localhost", "starttls"),
        ("smtp://127.0.0.1", "none"),
        ("smtp://127.9.9.9", "none"),
        ("smtp://localhost", "none"),
        ("smtp://[::1]", "none"),
        ("smtp://192.0.2.1", "starttls"),
        ("smtp://127.0.0.1.mail.test", "starttls"),
        ("smtp://localhost.mail.test", "starttls"),
        ("smtp://mail.test?starttls=never", "none"),
        ("smtp://localhost?starttls=never", "none"),
        ("smtp://u:pw@127.0.0.1?starttls=never", "none"),
        ("smtps://localhost", "tls"),
    ],
)
def test_how_the_way_is_encrypted(url: str, security: str) -> None:
    assert parse_smtp_url(url + ("&" if "?" in url else "?") + FROM).security == security


def test_a_password_never_goes_to_another_machine_unencrypted() -> None:
    for host in ("mail.test", "192.0.2.1", "[2001:db8::1]", "127.0.0.1.mail.test"):
        with pytest.raises(GatekeeperError, match="with starttls=never user and password would go to another machine"):
            parse_smtp_url(f"smtp://u:{MARK}@{host}?{FROM}&starttls=never")


def test_nothing_that_is_shown_has_the_password() -> None:
    server = parse_smtp_url(f"smtp://user:{MARK}@mail.test?{FROM}")
    assert f"{server!r} {server} {server.label}" == (
        "SmtpServer(mail.test:587) SmtpServer(mail.test:587) mail.test:587"
    )
    assert parse_smtp_url(f"smtp://[::1]:25?{FROM}").label == "[::1]:25"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param(MARK, "does not begin with smtp:// or smtps://", id="no-url"),
        pytest.param(f"http://u:{MARK}@h?{FROM}", "does not begin with smtp:// or smtps://", id="scheme"),
        pytest.param(f"smtp:u:{MARK}@h?{FROM}", "after the host and the port there is only", id="no-slashes"),
        pytest.param(f"smtp://u:{MARK}@/?{FROM}", "names no host", id="no-host"),
        pytest.param(f"smtp://u:{MARK}@h:0?{FROM}", "port 0 is none", id="port-0"),
        pytest.param(f"smtp://u:{MARK}@h:99999?{FROM}", "this is no URL", id="large-port"),
        pytest.param(f"smtp://u:{MARK}@h:mail?{FROM}", "this is no URL", id="no-port"),
        pytest.param(f"smtp://u:x {MARK}@h?{FROM}", "this is no URL", id="blank"),
        pytest.param(f"smtp://u:x\\{MARK}@h?{FROM}", "this is no URL", id="backslash"),
        pytest.param(f"smtp://u:{MARK}@[::1?{FROM}", "this is no URL", id="half-a-bracket"),
        pytest.param(f"smtp://u:x/{MARK}@h?{FROM}", "this is no URL", id="slash-in-a-password"),
        pytest.param(
            f"smtp://u:1/{MARK}@h?{FROM}", "after the host and the port there is only", id="slash-after-digits"
        ),
        pytest.param(f"smtp://u:1#{MARK}@h?{FROM}", "after the host and the port there is only", id="hash"),
        pytest.param(f"smtp://u:1?{MARK}@h?{FROM}", "after '?' there are from and starttls", id="question-mark"),
        pytest.param(f"smtp://u:{MARK}@h/path?{FROM}", "after the host and the port there is only", id="path"),
        pytest.param(f"smtp://u:{MARK}@h?{FROM}#", "after the host and the port there is only", id="fragment"),
        pytest.param(f"smtp://u:{MARK}@h?{FROM}&tls=1", "after '?' there are from and starttls", id="unknown-option"),
        pytest.param(f"smtp://u:{MARK}@h?{FROM}&{FROM}", "each once", id="twice"),
        pytest.param(f"smtp://u:{MARK}@bücher.test?{FROM}", "xn-- form", id="other-letters"),
        pytest.param(f"smtp://u:{MARK}@a..b?{FROM}", "its host is no name", id="empty-label"),
        pytest.param(f"smtp://u:{MARK}@{'a' * 64}.test?{FROM}", "its host is no name", id="long-label"),
        pytest.param(f"smtp://u:{MARK}@a,b?{FROM}", "its host is no name", id="two-hosts"),
        pytest.param(f"smtp://{MARK}@h?{FROM}", "user and password come together", id="user-alone"),
        pytest.param(f"smtp://:{MARK}@h?{FROM}", "user and password come together", id="password-alone"),
        pytest.param(f"smtp://u:{MARK}%ff@h?{FROM}", "is no UTF-8", id="no-utf-8"),
        pytest.param(f"smtp://u:{MARK}%00@h?{FROM}", "it has control characters", id="nul-in-a-password"),
        pytest.param(f"smtp://u%0d%0a:{MARK}@h?{FROM}", "it has control characters", id="line-break-in-a-user"),
        pytest.param(f"smtp://u:{MARK}@h?from=a@b.test%0d%0aBcc:", "it has control characters", id="header-injection"),
        pytest.param(f"smtp://u:{MARK}@h?{FROM}&starttls=", "starttls is never, or left out", id="empty-starttls"),
        pytest.param(f"smtp://u:{MARK}@h?{FROM}&starttls=always", "starttls is never, or left out", id="starttls"),
        pytest.param(f"smtps://u:{MARK}@h?{FROM}&starttls=never", "encrypted from the first byte", id="smtps-starttls"),
        pytest.param(f"smtp://u:{MARK}@h", "say whom mails are from", id="no-sender"),
        pytest.param("smtp://h", "say whom mails are from", id="neither-user-nor-sender"),
        pytest.param(f"smtp://u:{MARK}@h?from=", "from: expected a mail address alone", id="empty-sender"),
        pytest.param(f"smtp://u:{MARK}@h?from=gate", "from: expected a mail address alone", id="no-domain"),
        pytest.param(f"smtp://u:{MARK}@h?from=a%20<a@b.test>", "from: expected", id="sender-with-a-name"),
        pytest.param(f"smtp://u:{MARK}@h?from=a@b.test,c@d.test", "from: expected", id="two-senders"),
        pytest.param(f"smtp://u:{MARK}@h?from=ä@b.test", "from: expected", id="sender-of-other-letters"),
        pytest.param(f"smtp://u:{MARK}@h?from={'a' * 250}@b.test", "from: expected", id="long-sender"),
    ],
)
def test_what_is_wrong_is_said_without_the_password(url: str, message: str) -> None:
    with pytest.raises(GatekeeperError, match=re.escape(message)) as caught:
        parse_smtp_url(url)
    assert MARK not in str(caught.value)


def settings_with(smtp: str | None, *, enabled: bool = True, public_url: str | None = "https://app.test") -> Settings:
    loaded = load(BASE)
    return Settings(
        upstream=loaded.upstream,
        secrets=loaded.secrets,
        store=loaded.store,
        public_url=public_url,
        accounts=Accounts(enabled=enabled, smtp=smtp),
    )


def test_findings_are_those_of_the_setting() -> None:
    (found,) = check_smtp(settings_with(f"smtp://u:{MARK}@mail.test"))
    assert found == ("accounts.smtp", "say whom mails are from: smtp://…?from=no-reply@example.com")


def test_links_need_an_address_that_no_client_chooses() -> None:
    url = f"smtp://u:pw@mail.test?{FROM}"
    ((path, message),) = check_smtp(settings_with(url, public_url=None))
    assert path == "accounts.smtp"
    assert message.startswith("links in mails need public_url")
    assert list(check_smtp(settings_with(url, public_url=None, enabled=False))) == []


@pytest.mark.parametrize("smtp", [None, f"smtp://u:pw@mail.test?{FROM}"])
def test_nothing_is_found_where_nothing_is_wrong(smtp: str | None) -> None:
    assert list(check_smtp(settings_with(smtp))) == []
