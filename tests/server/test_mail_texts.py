"""`server.mail_texts`: what mails say, that links survive, and that names cannot do harm."""

from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.core.email_tokens import LIFETIME_S
from gatekeeper.core.model import User
from gatekeeper.server.auth_call import Message
from gatekeeper.server.auth_recovery import RESET_MS
from gatekeeper.server.mail_texts import clean, compose, greeted
from gatekeeper.server.texts import ENGLISH, LANGUAGES, Words

URL = "https://app.test/api/auth/reset-password/AbCdEfGhIjKlMnOpQrStUvWx?callbackURL=%2Fa%3Db%26c"
HEADERS = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version"]
HEADERS += ["Content-Type", "Content-Language"]


def composed(
    name: str = "Ada",
    *,
    kind: Any = "reset-password",
    url: str = URL,
    site: str = "Example",
    words: Words = ENGLISH,
) -> EmailMessage:
    """The mail, as its reader has it."""
    user = User("user-1", name, "ada@example.test", False, None, 0, 0)
    mail = compose(
        Message(kind, user, url, "token", words),
        site_name=site,
        sender="gate@example.test",
        message_id="<1@example.test>",
        date=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )
    parsed = message_from_bytes(mail.as_bytes(), policy=default)
    assert isinstance(parsed, EmailMessage)
    assert [part.defects for part in parsed.walk()] == [[], [], []]
    return parsed


def part(mail: EmailMessage, kind: str) -> str:
    found = mail.get_body((kind,))
    assert found is not None
    return str(found.get_content())


class _Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str | None] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


KINDS = ["reset-password", "verify-email"]
TAGS = ["html", "head", "meta", "title", "body", "p", "p", "p", "a", "p", "p"]


def test_headers() -> None:
    mail = composed()
    assert list(mail.keys()) == HEADERS
    assert mail["From"] == "Example <gate@example.test>"
    assert mail["To"] == "ada@example.test"
    assert mail["Date"] == "Fri, 02 Jan 2026 03:04:05 +0000"
    assert mail["Message-ID"] == "<1@example.test>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content_type() == "multipart/alternative"
    assert [one.get_content_type() for one in mail.iter_parts()] == ["text/plain", "text/html"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_how_long_the_link_holds_and_that_one_may_ignore_it(kind: str) -> None:
    mail = composed(kind=kind)
    assert (RESET_MS, LIFETIME_S) == (3_600_000, 3_600)
    for text in (part(mail, "plain"), part(mail, "html")):
        assert "for one hour." in text
        assert "you can ignore this mail." in text
        assert "account at Example" in text
        assert "Hello Ada," in text
    assert mail["Subject"].endswith(" for Example")


def test_the_text_of_a_mail() -> None:
    assert part(composed("Ada Łoś"), "plain").replace("\r\n", "\n") == (
        "Hello Ada Łoś,\n\n"
        "Somebody asked for a new password for your account at Example. "
        "If that was you, follow this link to choose it:\n\n"
        f"{URL}\n\n"
        "The link works once, and for one hour.\n\n"
        "If it was not you, there is nothing to do: your password stays as it is, and you can ignore this mail.\n"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tag", LANGUAGES)
def test_each_language_says_all_of_it(kind: str, tag: str) -> None:
    words = LANGUAGES[tag]
    mail, nameless = composed(kind=kind, words=words), composed("", kind=kind, words=words)
    assert mail["Content-Language"] == tag
    assert f'<html lang="{tag}">' in part(mail, "html")
    lines = [line for line in part(mail, "plain").splitlines() if line]
    assert (len(lines), lines[2]) == (5, URL)
    assert "Ada" in lines[0]
    assert "Example" in lines[1]
    assert "Example" in mail["Subject"]
    assert not set("{}") & set(part(mail, "plain") + mail["Subject"] + part(nameless, "plain"))


def test_a_mail_in_german() -> None:
    mail = composed(words=LANGUAGES["de"])
    assert mail["Subject"] == "Ein neues Passwort für Example"
    assert part(mail, "plain").startswith("Guten Tag Ada,")


@pytest.mark.parametrize("length", [1, 70, 76, 77, 500, 1_000, 5_000])
def test_the_link_survives_and_no_line_is_long(length: int) -> None:
    url = f"https://app.test/api/auth/verify-email?token={'a=.-_' * (length // 5 + 1)}&callbackURL=%2F"
    mail = composed(kind="verify-email", url=url)
    assert url in part(mail, "plain").splitlines()
    assert _Page(part(mail, "html")).links == [url]
    user = User("user-1", "Ada", "ada@example.test", False, None, 0, 0)
    raw = compose(
        Message("verify-email", user, url, "", ENGLISH),
        site_name="Example",
        sender="gate@example.test",
        message_id="<1@example.test>",
        date=datetime.now(UTC),
    ).as_bytes()
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 78
    assert b"\n" not in raw.replace(b"\r\n", b"")


def test_a_link_cannot_leave_its_attribute() -> None:
    url = "https://app.test/?a=\"><script>alert('1')</script>&b"
    page = _Page(part(composed(url=url), "html"))
    assert (page.links, page.tags) == ([url], TAGS)


@pytest.mark.parametrize(
    ("name", "greeting"),
    [
        ("Ada", "Hello Ada,"),
        ("Ada Łoś", "Hello Ada Łoś,"),
        ("日本 太郎", "Hello 日本 太郎,"),
        ("می‌خواهم", "Hello می‌خواهم,"),
        ("J. R. Tolkien, jr.", "Hello J. R. Tolkien, jr.,"),
        ("O'Brien & Söhne", "Hello O'Brien & Söhne,"),
        ("  Ada \t Lovelace ", "Hello Ada Lovelace,"),
        ("Ada\r\nBcc: all@example.test", "Hello,"),
        ("Ada\r\n\r\nHi", "Hello Ada Hi,"),
        ("Ada\u202eadA\x00\x1b[31m", "Hello Ada adA [31m,"),
        ("Ada\u2028Lovelace\x85.", "Hello Ada Lovelace .,"),
        ("\ud800Ada", "Hello Ada,"),
        ("", "Hello,"),
        ("\r\n", "Hello,"),
        ("a" * 60, f"Hello {'a' * 60},"),
        ("a" * 61, "Hello,"),
        ("win at https://evil.test", "Hello,"),
        ("win at evil.test", "Hello,"),
        ("win at evil．test", "Hello,"),
        ("win at evil。test", "Hello,"),
        ("win at evil\u200b.test", "Hello,"),
        ("win at //evil", "Hello,"),
        ("go to WWW evil", "Hello,"),
        ("ada@evil.test", "Hello,"),
        ("<b>Ada</b>", "Hello,"),
    ],
)
def test_names(name: str, greeting: str) -> None:
    mail = composed(name)
    assert part(mail, "plain").splitlines()[0] == greeting
    page = _Page(part(mail, "html"))
    assert greeting in page.texts
    assert page.tags == TAGS
    assert list(mail.keys()) == HEADERS


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=80))
def test_no_name_reaches_a_header_or_adds_a_line(name: str) -> None:
    plain, named = composed(""), composed(name)
    kept = [key for key in HEADERS if key != "Content-Type"]  # which has a random boundary
    assert [plain[key] for key in kept] == [named[key] for key in kept]
    assert len(part(named, "plain").splitlines()) == len(part(plain, "plain").splitlines())
    assert _Page(part(named, "html")).tags == TAGS


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=200))
def test_whatever_the_site_is_called_the_sender_is_the_one_configured(site: str) -> None:
    mail = composed(site=site)
    (address,) = mail["From"].addresses
    assert address.addr_spec == "gate@example.test"
    assert list(mail.keys()) == HEADERS


@pytest.mark.parametrize("site", ["Example", "Müller, Söhne & Co.", 'The "{site}" {0}', "例え", "a <b@evil.test>, c"])
def test_the_site_is_named(site: str) -> None:
    mail = composed(site=site)
    assert mail["From"].addresses[0].display_name == site
    assert mail["Subject"] == f"Choose a new password for {site}"
    assert f"your account at {site}. If" in part(mail, "plain")


@pytest.mark.parametrize(("site", "shown"), [("", "example.test"), (" \r\n", "example.test"), ("ab\r\nc", "ab c")])
def test_a_site_without_a_name_is_called_like_the_senders_domain(site: str, shown: str) -> None:
    assert composed(site=site)["From"].addresses[0].display_name == shown


def test_a_long_name_of_the_site_is_cut() -> None:
    assert composed(site="a" * 61)["From"].addresses[0].display_name == "a" * 60


@pytest.mark.parametrize("mailbox", ["a.b", "a!#$&'*+/=^_`{|}~-b", "o'brien+tag"])
def test_senders_are_as_they_are_written(mailbox: str) -> None:
    user = User("user-1", "Ada", "o'brien+tag@example.test", False, None, 0, 0)
    mail = compose(
        Message("verify-email", user, URL, "", ENGLISH),
        site_name="Example",
        sender=f"{mailbox}@example.test",
        message_id="<1@example.test>",
        date=datetime.now(UTC),
    )
    parsed = message_from_bytes(mail.as_bytes(), policy=default)
    assert parsed["From"].addresses[0].addr_spec == f"{mailbox}@example.test"
    assert parsed["To"].addresses[0].addr_spec == "o'brien+tag@example.test"


def test_cleaning() -> None:
    assert clean("a\x00b\r\nc\u202ed  e\t") == "a b c d e"
    assert greeted("a\u200db") == "a\u200db"
