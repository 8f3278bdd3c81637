"""A site with pages, over services in memory, and a browser that keeps its cookies and fills in forms."""

import re
from collections.abc import Mapping
from html import unescape
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

from gatekeeper.core.model import RequestFacts, Target
from gatekeeper.core.urls import parse_target
from gatekeeper.server.account_pages.account_pages import AccountPages
from gatekeeper.server.account_pages.books import AccountBook, SessionBook
from gatekeeper.server.account_pages.visit import Frame
from gatekeeper.server.answers import Answer
from gatekeeper.server.auth_call import AuthRequest
from gatekeeper.server.pages import PageSettings
from tests.server.auth.calling import OWN, PASSWORD, Site
from tests.server.auth.replays import NAMES

FORM = "application/x-www-form-urlencoded"
EMAIL = "ada@example.test"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Mobile/15E148 Safari/604.1"
)

__all__ = ["EMAIL", "OWN", "PASSWORD", "Browser", "PagesSite", "Shown"]


class PagesSite(Site):
    """Accounts mode with its pages.

    `book` stands in for where sessions are kept.  With `has_accounts` false the pages are those of companion mode.
    """

    def __init__(
        self,
        *,
        book: SessionBook | None = None,
        has_accounts: bool = True,
        pages: PageSettings | None = None,
        extends: bool = True,
        **changes: Any,
    ) -> None:
        super().__init__(**changes)
        self.frame = Frame(
            pages=pages or PageSettings("/sign-in", public_origin=OWN),
            keys=self.settings.keys,
            names=NAMES,
            lifetimes=self.settings.lifetimes,
            extends=extends,
            sessions=self.sessions,
            clock=lambda: self.now_ms,
            random_bytes=self.ids,
            audit=lambda event, **fields: self.audited.append((event, fields)),
        )
        self.pages = AccountPages(self.frame, book or AccountBook(self.accounts), self.api if has_accounts else None)

    def browser(self, user_agent: str = FIREFOX, **headers: str) -> "Browser":
        return Browser(self, user_agent, headers)


class Shown:
    """A page as a test looks at it."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.status = answer.status
        self.html = answer.body.decode()
        fields = [(name.decode().lower(), value.decode()) for name, value in answer.headers]
        self.headers = {name: value for name, value in fields if name != "set-cookie"}
        self.cookies = [value for name, value in fields if name == "set-cookie"]
        parser = _Parser()
        parser.feed(self.html)
        self.inputs = parser.inputs
        self.text = " ".join(" ".join(parser.texts).split())

    @property
    def location(self) -> str | None:
        return self.headers.get("location")

    @property
    def title(self) -> str:
        return unescape(re.search("<title>(.*?)</title>", self.html)[1])  # type: ignore[index]

    def element(self, selector: str) -> str | None:
        """The text of the first element with this class or role."""
        found = re.search(rf'<\w+[^>]*(?:class|role)="{selector}"[^>]*>(.*?)</p>', self.html, re.DOTALL)
        return None if found is None else unescape(re.sub("<.*?>", "", found[1])).strip()

    @property
    def alert(self) -> str | None:
        return self.element("alert")

    @property
    def notice(self) -> str | None:
        return self.element("notice")

    def fault(self, field: str) -> str | None:
        found = re.search(rf'id="{field}-fault"[^>]*>(.*?)</p>', self.html, re.DOTALL)
        return None if found is None else unescape(re.sub("<.*?>", "", found[1])).strip()


class _Parser(HTMLParser):
    """Collects inputs with a value by name, and texts."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: dict[str, str] = {}
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "input" and given.get("name"):
            self.inputs.setdefault(str(given["name"]), given.get("value") or "")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


class Browser:
    """Keeps cookies by name, and sends what browsers send with a form of the page that they show."""

    def __init__(self, site: PagesSite, user_agent: str, headers: Mapping[str, str]) -> None:
        self.site = site
        self.cookies: dict[str, str] = {}
        self._user_agent = user_agent
        self._headers = dict(headers)
        self.shown: Shown | None = None

    async def get(self, path: str) -> Shown:
        return await self._ask("GET", path, b"", {})

    async def post(self, path: str, fields: Mapping[str, str], **headers: str | None) -> Shown:
        """A form that is sent there, with no more in it than these fields."""
        sent = {"origin": OWN, "sec_fetch_site": "same-origin"} | headers
        return await self._ask("POST", path, urlencode(fields).encode(), sent)

    async def send(
        self, path: str, fields: Mapping[str, str], *, at: str | None = None, **headers: str | None
    ) -> Shown:
        """Open the page, fill in its form and send it."""
        page = await self.get(path)
        hidden = {name: page.inputs[name] for name in ("token", "callbackUrl", "link") if name in page.inputs}
        return await self.post(at or path, hidden | fields, **headers)

    async def sign_in(self, password: str = PASSWORD, path: str = "/sign-in", **fields: str) -> Shown:
        return await self.send(path, {"email": EMAIL, "password": password, "rememberMe": "on"} | fields)

    async def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str | None]) -> Shown:
        target = parse_target(method, path)
        assert isinstance(target, Target)
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        facts = RequestFacts(
            method,
            target,
            "https",
            OWN.partition("://")[2],
            "192.0.2.1",
            cookie=cookie or None,
            sec_fetch_mode="navigate",
            accept="text/html",
            **{**self._headers, **headers},
        )
        request = AuthRequest(
            facts, OWN, content_type=FORM if method == "POST" else None, user_agent=self._user_agent, body=body
        )
        self.shown = Shown(await self.site.pages.answer(request))
        for line in self.shown.cookies:
            name, _, value = line.partition(";")[0].partition("=")
            if not value or "Max-Age=0" in line:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return self.shown
