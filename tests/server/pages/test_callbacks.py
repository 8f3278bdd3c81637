"""Where the pages lead to: always our own origin, whatever the callback says (class 9 of the attacks)."""

import re
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.attacks.test_09_callbacks import FOREIGN, LOCAL, where_a_browser_goes
from tests.server.pages.browsing import EMAIL, OWN, PASSWORD, PagesSite
from tests.server.test_people_pages import Browser, accounts_gate
from tests.server.upstreams import RecordingUpstream

HOST = OWN.partition("://")[2]
MORE = [
    *("https://evil.test/%2f..", "//evil.test/%2f..", "///evil.test/%2e%2e", "/%5c%5cevil.test", "/\\\\evil.test"),
    *(
        "https://app.example.test.evil.test/",
        "https://app.example.test@evil.test/",
        "https://app.example.testevil.test",
    ),
    *(
        "https://app.example.test:443@evil.test/",
        "https://app.example.test\\.evil.test",
        "//app.example.test@evil.test",
    ),
    *(
        "http:evil.test",
        "https:\\evil.test",
        "https:///evil.test",
        "https://evil.test#app.example.test",
        "//evil.test?",
    ),
    *("/%2F%2Fevil.test", "/%5C/evil.test", "/%2f%5cevil.test", "%09//evil.test", "/%0b/evil.test", "/%7f/evil.test"),
    *("\u3002evil.test", "//evil\u3002test", "/\u200b/evil.test", "\ufeff//evil.test", "/\u2028/evil.test"),
    *(
        "mailto:a@evil.test",
        "about:blank",
        "ws://evil.test",
        "JaVaScRiPt:alert(1)",
        "javascript://app.example.test/%0aalert(1)",
    ),
    *(
        "/x/../..//evil.test",
        "/.%2e//evil.test",
        "/%2e./%2fevil.test",
        "/a/%2e%2e/%2e%2e//evil.test",
        "/;//../..//evil.test",
    ),
    *(
        "https://app.example.test//evil.test",
        "https://app.example.test/\\evil.test",
        "https://app.example.test/%2fevil.test",
    ),
    *("https://[::1]/", "https://2130706433/", "//0x7f.1/", "https://evil.test:80/", "https://user:pw@evil.test/"),
]
CORPUS = list(dict.fromkeys(text.replace("{host}", HOST) for text in [*FOREIGN, *MORE]))


def goes(location: str | None) -> str:
    assert location is not None
    return where_a_browser_goes(location, OWN.replace("https", "http"))  # its pages are of http


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) >= 100


@pytest.mark.parametrize("callback", CORPUS, ids=lambda text: ascii(text)[:60])
async def test_no_page_leads_away(callback: str) -> None:
    site = PagesSite()
    query = f"callbackUrl={quote(callback, safe='', errors='surrogatepass')}"
    new = await site.browser().send(f"/sign-up?{query}", {"name": "Ada", "email": EMAIL, "password": PASSWORD})
    form = site.browser()
    page = await form.get(f"/sign-in?{query}")
    by_query = await form.sign_in(path=f"/sign-in?{query}")
    again = await form.get(f"/sign-in?{query}")
    typed = await site.browser().sign_in(callbackUrl=callback)
    for shown in (new, by_query, again, typed):
        assert (shown.status, shown.location) == (303, "/"), callback
    assert page.inputs["callbackUrl"] == "/"
    assert 'href="/sign-up"' in page.html  # nothing of it goes on to the other form either


PATHS = [
    *("/sign-in", "/sign-up", "/.gatekeeper/signed-out", "/.gatekeeper/sessions", "/.gatekeeper/change-password"),
    *("/.gatekeeper/forgot-password", "/.gatekeeper/reset-password", "/.gatekeeper/verify-email"),
]
NAMES = ("callbackUrl", "callbackURL", "redirectTo", "return_to", "next", "rd", "url", "error", "token")


@pytest.mark.parametrize("callback", CORPUS, ids=lambda text: ascii(text)[:60])
async def test_nothing_on_any_page_leads_away(callback: str) -> None:
    """Whatever a link to the page may call it, who is signed in or not."""
    site = PagesSite()
    await site.sign_up()
    signed_in, stranger = site.browser(), site.browser()
    await signed_in.sign_in()
    value = quote(callback, safe="", errors="surrogatepass")
    query = "&".join(f"{name}={value}" for name in NAMES)
    for path in PATHS:
        for browser, more in ((signed_in, "&reauth=1"), (signed_in, ""), (stranger, "")):
            shown = await browser.get(f"{path}?{query}{more}")
            leads = re.findall(r'(?:href|action|formaction|content|src)="(.*?)"', shown.html)
            leads += [] if shown.location is None else [shown.location]
            leads = [unescape(lead) for lead in leads if not lead.startswith("data:image/svg+xml,%3Csvg ")]
            assert [lead for lead in leads if "evil" in lead or goes(lead) != "http://" + HOST] == [], path
            assert "http-equiv" not in shown.html


async def test_signing_out_and_clearing_cookies_lead_nowhere_else(tmp_path: Path, upstream: RecordingUpstream) -> None:
    async with accounts_gate(tmp_path, upstream) as gate:
        browser = Browser(gate)
        for callback in [text.replace("{host}", gate.host) for text in [*FOREIGN, *MORE]]:
            fields = {"callbackUrl": callback}
            browser.page = ""
            out = await browser.send("/.gatekeeper/sign-out", fields)
            assert (out.status, out.values("location")) == (303, ["/"]), callback
            cleared = await browser.send("/.gatekeeper/clear-cookies", fields)
            assert (cleared.status, cleared.values("location")) == (303, ["/sign-in?callbackUrl=%2F"]), callback
        for callback in LOCAL:
            out = await browser.send("/.gatekeeper/sign-out", {"callbackUrl": callback})
            assert out.values("location") == [callback]


@pytest.mark.parametrize("callback", LOCAL)
async def test_what_stays_is_kept_and_stays(callback: str) -> None:
    site = PagesSite()
    await site.sign_up()
    done = await site.browser().sign_in(path=f"/sign-in?callbackUrl={quote(callback, safe='')}")
    assert done.location == callback
    assert goes(done.location) == "http://" + HOST


@pytest.mark.parametrize(
    ("callback", "path"), [(OWN, "/"), (OWN + "/a?b=c", "/a?b=c"), (OWN.upper() + "/a", "/a"), (OWN + "?x", "/?x")]
)
async def test_our_own_absolute_address_is_cut_to_its_path(callback: str, path: str) -> None:
    site = PagesSite()
    await site.sign_up()
    assert (await site.browser().sign_in(path=f"/sign-in?callbackUrl={quote(callback, safe='')}")).location == path
