"""Class 9: a redirect that leads away, and headers split by what is written into them."""

import re
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

from tests.attacks.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = """\
listen: 127.0.0.1:0
upstream: {upstream}
secret: {secret}
store: sqlite:///{database}
protect: [/]
public: [/sign-in]
"""
FOREIGN = [
    *("//evil.test", "//evil.test/", "///evil.test", "////evil.test", "/\\evil.test", "\\\\evil.test", "\\/evil.test"),
    *(
        "/\\/evil.test",
        "/\t/evil.test",
        "/\n/evil.test",
        "/\r/evil.test",
        "/\r\n/evil.test",
        "\t//evil.test",
        " //evil.test",
    ),
    *("/ /evil.test", "/\x0b/evil.test", "/\x00/evil.test", "/\x1f/evil.test", "/\x7f/evil.test", "\x01//evil.test"),
    *(
        "https://evil.test",
        "https:evil.test",
        "https:/evil.test",
        "http:\\\\evil.test",
        "hTTps://evil.test",
        "ftp://evil.test",
    ),
    *("javascript:alert(1)", "java\tscript:alert(1)", "data:text/html,x", "vbscript:x", "blob:x", "file:///etc/passwd"),
    *(
        "/%2fevil.test",
        "/%2Fevil.test",
        "/%5cevil.test",
        "/%5Cevil.test",
        "/%09/evil.test",
        "/%0a/evil.test",
        "/%0d%0aX:y",
    ),
    *("%2f%2fevil.test", "/%2f%2fevil.test", "/.//evil.test", "/..//evil.test", "/./%2fevil.test", "/x/..//evil.test"),
    *("/%2e//evil.test", "/%2e%2e//evil.test", "/x/%2e%2e//evil.test", "/x/../%2fevil.test", "/.%2f/evil.test"),
    *("/a/../..//evil.test", "/a/b/../..//evil.test", "/%20/evil.test", "/%00/evil.test"),
    *(
        "evil.test",
        "@evil.test",
        ".evil.test",
        "?//evil.test",
        "#//evil.test",
        "",
        " ",
        "/\u2044evil.test",
        "/\uff0fevil.test",
    ),
    *(
        "//evil.test@{host}",
        "http://{host}@evil.test/",
        "http://{host}.evil.test/",
        "http://evil.test/{host}",
        "//{host}",
    ),
    *("http://{host}", "https://{host}/", "//{host}/dashboard", "http://{host}\\@evil.test/", "/" + "a" * 5_000),
]
LOCAL = [
    *(
        "/",
        "/dashboard",
        "/dashboard?tab=1",
        "/a/b?c=d&e=f",
        "/a%20b",
        "/caf%C3%A9",
        "/a?next=//evil.test",
        "/a?u=https://evil.test",
    ),
    *(
        "/a#//evil.test",
        "/a//b",
        "/a/../b",
        "/.well-known/x",
        "/a:b",
        "/a@evil.test",
        "/sign-in?callbackUrl=%2F",
        "/a;b=c",
    ),
]


def where_a_browser_goes(location: str, origin: str) -> str:
    """The origin of a URL reference as the WHATWG URL standard resolves it against an http page; "" for no such URL."""
    text = re.sub(r"[\t\n\r]", "", location.strip("".join(map(chr, range(0x21)))))
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", text)
    if scheme is not None:
        kind, rest = scheme[1].lower(), text[scheme.end() :]
        if kind not in ("http", "https"):
            return ""
        if kind == "http" and not re.match(r"[/\\]{2}", rest):
            return origin  # a special scheme like the page's own and no authority: relative to it
        authority = re.sub(r"^[/\\]+", "", rest)
        return f"{kind}://" + re.split(r"[/\\?#]", authority)[0].rpartition("@")[2]
    if re.match(r"[/\\]{2}", text):
        return "http://" + re.split(r"[/\\?#]", re.sub(r"^[/\\]+", "", text))[0].rpartition("@")[2]
    return origin


def is_at_home(callback: str, origin: str) -> bool:
    """Whether a browser stays on the origin, with this text as it is, and decoded once more."""
    return all(where_a_browser_goes(text, origin) == origin for text in (callback, unquote(callback)))


async def cleared(site: Site, callback: str) -> str:
    """The callbackUrl that the loop page's form leads on to."""
    body = b"callbackUrl=" + quote(callback.replace("{host}", site.gate.host), safe="").encode()
    answer = await site.ask("POST", "/.gatekeeper/clear-cookies", f"Origin: {site.gate.url}", body=body)
    assert answer.status == 303
    (location,) = answer.values(b"location")
    path, _, query = location.decode().partition("?")
    assert path == "/sign-in"
    (found,) = parse_qs(query, strict_parsing=True, keep_blank_values=True)["callbackUrl"]
    return found


@pytest.mark.parametrize("callback", FOREIGN, ids=lambda text: ascii(text)[:60])
async def test_what_could_lead_away_leads_to_the_root(site: Site, callback: str) -> None:
    found = await cleared(site, callback)
    assert found == "/"


@pytest.mark.parametrize("callback", LOCAL)
async def test_what_stays_is_kept(site: Site, callback: str) -> None:
    assert await cleared(site, callback) == callback
    assert is_at_home(callback, site.gate.url)


async def test_the_corpus_is_large_and_its_judge_can_tell() -> None:
    assert len(set(FOREIGN)) >= 60
    assert where_a_browser_goes("/\t/evil.test/x", "http://h") == "http://evil.test"
    assert where_a_browser_goes("\\\\evil.test", "http://h") == "http://evil.test"
    assert where_a_browser_goes("http:x", "http://h") == "http://h"
    assert where_a_browser_goes("https:evil.test", "http://h") == "https://evil.test"
    assert where_a_browser_goes("/x//y", "http://h") == "http://h"
    assert where_a_browser_goes("javascript:x", "http://h") == ""


async def test_only_the_first_of_several_callbacks_counts_and_other_fields_do_not(site: Site) -> None:
    for body, expected in (
        (b"callbackUrl=%2Fa&callbackUrl=%2F%2Fevil.test", "/a"),
        (b"callbackUrl=%2F%2Fevil.test&callbackUrl=%2Fa", "/"),
        (b"callbackurl=%2Fa", "/"),
        (b"callbackUrl[]=%2Fa", "/"),
        (b"x=y;callbackUrl=%2Fa", "/"),
        (b"callbackUrl=%FF%FE%2Fa", "/"),
        (b"callbackUrl=%2F%FF", "/"),
        (b"\xff=\xfe&callbackUrl=%2Fa", "/a"),
        (b"", "/"),
    ):
        answer = await site.ask(
            "POST", "/.gatekeeper/clear-cookies?callbackUrl=/b", f"Origin: {site.gate.url}", body=body
        )
        assert answer.values(b"location") == [b"/sign-in?callbackUrl=" + quote(expected, safe="").encode()], body


@pytest.mark.parametrize(
    ("target", "callback"),
    [
        ("//evil.test/x", "/evil.test/x"),
        ("///evil.test", "/evil.test"),
        ("/.//evil.test", "/evil.test"),
        ("/x/..//evil.test", "/evil.test"),
        ("/%2e%2e//evil.test", "/evil.test"),
        ("/?x=//evil.test", "/?x=//evil.test"),
        ("http://evil.test//evil.test/", "/evil.test/"),
        ("/a?b&callbackUrl=//evil.test", "/a?b&callbackUrl=//evil.test"),
        ("/a?b%23c", "/a?b%23c"),
        ("/a?x=%0d%0aSet-Cookie:%20y", "/a"),
        ("/a?x=%5c", "/a"),
        ("/a?x=\\", "/a"),
        ("/a?x=%zz", "/a?x=%zz"),
        ("/a?'\"<script>", "/a?'\"<script>"),
        ("/a%0d%0ab", None),
        ("/%5cevil.test", None),
        ("/%2fevil.test", None),
        ("/%20/evil.test", "/"),
        ("/%25252fevil.test", "/%25252fevil.test"),
        ("/@evil.test", "/@evil.test"),
        ("/a?" + "x" * 3_000, "/a"),
        ("/" + "x" * 3_000, "/"),
    ],
)
async def test_the_redirect_of_a_page_is_on_this_origin_and_has_one_parameter(
    site: Site, target: str, callback: str | None
) -> None:
    for method, status in (("GET", 307), ("POST", 303)):
        answer = await site.ask(method, target, "Sec-Fetch-Mode: navigate")
        if callback is None:
            assert answer.status == 400
            continue
        assert answer.status == status
        (location,) = answer.values(b"location")
        parts = urlsplit(location.decode())
        assert (parts.scheme, parts.netloc, parts.path, parts.fragment) == ("", "", "/sign-in", "")
        assert parse_qs(parts.query, strict_parsing=True) == {"callbackUrl": [callback]}
        assert where_a_browser_goes(callback, site.gate.url) == site.gate.url
        assert b"<script>" not in answer.body
        assert answer.values(b"cache-control") == [b"no-store"]
    assert site.reached == []


@pytest.mark.parametrize(
    ("referer", "callback"),
    [
        ("{url}/form?a=b", "/form?a=b"),
        ("{url}", "/"),
        ("{url}//evil.test/", "/evil.test/"),
        ("{url}/%2e%2e//evil.test", "/evil.test"),
        ("{url}.evil.test/form", "/send"),
        ("{url}@evil.test/form", "/send"),
        ("https://evil.test/{url}/form", "/send"),
        ("//evil.test/form", "/send"),
        ("/form", "/send"),
        ("{url}/form#//evil.test", "/form"),
        ("{url}/\\evil.test", "/"),
        ("{url}/a%0d%0ab", "/"),
        ("javascript:x", "/send"),
    ],
)
async def test_the_page_that_a_form_came_from(site: Site, referer: str, callback: str) -> None:
    lines = ("Sec-Fetch-Mode: navigate", f"Referer: {referer.replace('{url}', site.gate.url)}")
    answer = await site.ask("POST", "/send", *lines, body=b"x=y")
    assert answer.values(b"location") == [b"/sign-in?callbackUrl=" + quote(callback, safe="").encode()]


async def test_nothing_of_a_request_splits_a_header_of_ours(site: Site) -> None:
    """Everything that is repeated somewhere: path, query, method, cookie, origin, request id."""
    for target in (
        "/a?%0d%0aX-Split:y",
        "/a?\u0085X-Split:y",
        "/a;%E5%98%8A%E5%98%8DX-Split:y",
        "/a%C4%8D%C4%8AX-Split:y",
    ):
        raw = f"GET {target} HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\n"
        raw += "Cookie: gatekeeper.redirects=a%0d%0aX-Split:y\r\n"
        raw += "Origin: http://h%0d%0aX-Split:y\r\nX-Request-Id: a%0d%0aX-Split:y\r\nConnection: close\r\n\r\n"
        for answer in await site.say(raw.encode("latin-1", "replace")):
            assert not any(name.lower() == b"x-split" for name, _ in answer.fields)
            assert answer.status in (307, 400)


async def test_a_loop_ends_with_a_page_and_a_forged_count_harms_nobody_else(site: Site) -> None:
    cookie, statuses = "", []
    for _ in range(4):
        answer = await site.ask("GET", "/a", "Accept: text/html", f"Cookie: {cookie}")
        statuses.append(answer.status)
        cookie = (answer.values(b"set-cookie") or [cookie.encode()])[0].decode().partition(";")[0]
    assert statuses == [307, 307, 401, 401]
    assert (await site.ask("GET", "/b", "Accept: text/html", f"Cookie: {cookie}")).status == 307
    for forged in (
        "x",
        "0.0.0",
        "00000000.9999.0",
        cookie.partition("=")[2].replace(".2.", ".-2."),
        "\xff",
        "a" * 5_000,
    ):
        answer = await site.ask("GET", "/a", "Accept: text/html", f"Cookie: gatekeeper.redirects={forged}")
        assert answer.status == 307
