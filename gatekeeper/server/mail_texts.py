"""What mails say, as plain text and as simple HTML: the words of each kind are those of a language (`texts`).

The link stands on a line of its own.  Bodies are quoted-printable, whose line breaks every reader undoes, so that no
line is too long for a mail server (RFC 5321 §4.5.3.1.6) and none breaks the link.

Names are chosen by whoever signs up, with anybody's address: what a name says could be an advertisement sent in our
name.  So it stands in no header, and in the greeting only where it is short and nothing in it looks like a link.
"""

import re
import unicodedata
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from html import escape

from gatekeeper.server.auth_call import Message

MOST_OF_A_NAME = 60
"""Characters of a person's or the site's name; a longer name of a person is left out."""

_JOINERS = "\u200c\u200d"
"""Format characters that words of some languages have."""

_LIKE_A_LINK = re.compile(r"[/\\@:<>]|[.\u3002]\S|\bwww\b", re.IGNORECASE)
"""A dot before a blank, as of an initial, is none."""


_HTML = """\
<!doctype html>
<html lang="{lang}">
<head><meta charset="utf-8"><title>{subject}</title></head>
<body style="font-family: sans-serif; line-height: 1.5; max-width: 36em">
<p>{greeting}</p>
<p>{asked}</p>
<p><a href="{url}">{link}</a></p>
<p>{holds}</p>
<p>{not_you}</p>
</body>
</html>
"""


def compose(message: Message, *, site_name: str, sender: str, message_id: str, date: datetime) -> EmailMessage:
    """The mail.  `sender` is a bare address, `message_id` has its angle brackets, `date` knows its zone.

    The user's address must be one (`core.accounts.is_email`), and the URL have no line break.
    """
    site = clean(site_name)[:MOST_OF_A_NAME].strip() or sender.partition("@")[2]
    texts = {name: text.format(site=site) for name, text in message.words.mails[message.kind].items()}
    name, greetings = greeted(message.user.name), message.words.mails["greeting"]
    greeting = greetings["named"].format(name=name) if name else greetings["plain"]
    mail = EmailMessage(policy=SMTP)
    mail["From"] = Address(site, addr_spec=sender)
    mail["To"] = Address(addr_spec=message.user.email)
    mail["Subject"] = texts["subject"]
    mail["Date"] = date
    mail["Message-ID"] = message_id
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5: nobody's absence notice answers it
    paragraphs = (greeting, texts["asked"], message.url, texts["holds"], texts["not_you"])
    mail.set_content("\n\n".join(paragraphs) + "\n", cte="quoted-printable")
    values = texts | {"greeting": greeting, "url": message.url, "lang": message.words.tag}
    html = _HTML.format_map({name: escape(text) for name, text in values.items()})
    mail.add_alternative(html, subtype="html", cte="quoted-printable")
    mail["Content-Language"] = message.words.tag
    return mail


def clean(text: str) -> str:
    """The text on one line: without control and format characters, and with single blanks."""
    kept = (" " if _is_unfit(character) else character for character in text)
    return " ".join("".join(kept).split())


def greeted(name: str) -> str:
    """The name as it may stand in a greeting; "" where it had better not."""
    name = clean(name)
    if len(name) > MOST_OF_A_NAME or _LIKE_A_LINK.search(unicodedata.normalize("NFKC", name)):
        return ""
    return name


def _is_unfit(character: str) -> bool:
    category = unicodedata.category(character)
    return (category.startswith("C") and character not in _JOINERS) or category in ("Zl", "Zp")
