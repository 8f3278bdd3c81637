"""Callback URLs: a hundred ways to leave the origin, what is kept, and the law behind both."""

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.core.callbacks import (
    MAX_CALLBACK,
    encode_uri_component,
    is_on_origin,
    safe_callback,
)

OPEN_REDIRECTS = [
    *("https://app.testXevil", "https://app.test.XX"),
    *("//evil.test", "///evil.test", "////evil.test", "/\\evil.test", "\\/evil.test", "\\\\evil.test", "/\\/evil.test"),
    *("/\t/evil.test", "/\n/evil.test", "/\r/evil.test", "/\x00/evil.test", "\t//evil.test", " //evil.test", "/ /evil"),
    *("/%09/evil.test", "/%0a/evil.test", "/%0d/evil.test", "/%00/evil.test", "/%20/evil.test", "/%2f/evil.test"),
    *("/%2fevil.test", "/%2Fevil.test", "/%5cevil.test", "/%5Cevil.test", "/%5c/evil.test", "%2f%2fevil.test"),
    *("%2fevil.test", "%5cevil.test", "/%2e%2e%5cevil", "/x%5cy", "/x\\y", "/x%0dy", "/x%7f", "/x\x7fy", "/x y"),
    *("http://evil.test", "https://evil.test", "HTTPS://EVIL.TEST", "http:evil.test", "https:evil.test", "https:/evil"),
    *(
        "https:///evil.test",
        "http:\\\\evil.test",
        "https:\\evil.test",
        "//evil.test:443",
        "//user@evil.test",
        "//1.2.3.4",
    ),
    *(
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "java\tscript:alert(1)",
        "javascript://%0aalert(1)",
        "data:text/html,x",
    ),
    *("vbscript:x", "file:///etc/passwd", "ftp://evil.test", "mailto:a@b", "blob:x", "about:blank", "ws://evil.test"),
    *("evil.test", "www.evil.test", "@evil.test", ".evil.test", "?x", "#x", "?//evil.test", ";//evil.test", "..//evil"),
    *(
        "https://app.test@evil.test",
        "https://app.test.evil.test",
        "https://app.test:evil@evil.test",
        "https://app.testx",
    ),
    *(
        "https://app.test\\@evil.test",
        "https://app.test\\.evil.test",
        "https://app.test//evil.test",
        "https://app.test:1/x",
    ),
    *(
        "https://app.test/\\evil.test",
        "https://app.test/%2fevil.test",
        "https://app.test/%5cevil.test",
        "http://app.test/x",
    ),
    *("https://evil.test/https://app.test", "https://evil.test?https://app.test", "https://evil.test#https://app.test"),
    *("//app.test/x", "\uff0f\uff0fevil.test", "/\u2028/evil.test", "/\u00a0/evil", "\u202e//evil", "/caf\u00e9"),
    *(
        "/.//evil.test",
        "/..//evil.test",
        "/a/..//evil.test",
        "/a/b/../..//evil.test",
        "/a/.././/evil",
        "/././/evil.test",
    ),
    *("/%2e//evil.test", "/%2E//evil.test", "/a/%2e%2e//evil.test", "/a/.%2E//evil.test", "/%2e%2f/evil.test"),
    *(
        "/a%3f/../..//evil",
        "/a%3f/%2e%2e//evil",
        "/a%23/%2E%2E//evil",
        "/.//",
        "https://app.test/.//evil.test",
        "/./ x",
    ),
    *(
        "/x/../%20evil",
        "/.//?x",
        "/.//#x",
        "//.",
        "//..",
        "//../evil",
        "//./evil",
        "///../..",
        "/ /..",
        "/%20/..",
        "//%2e",
    ),
    *("/?a=\r\nSet-Cookie: a=b", "/?a=%0d%0aSet-Cookie:a", "/?a=b c", "/?\\evil", "/?%5cevil", "/?a=%00"),
    *(
        "/" + "a" * (2 * MAX_CALLBACK),
        "",
        " ",
        "\t",
        "/\x1b[0m",
        "/\x0b/evil",
        "/\x0c/evil.test",
        "/%0b/evil",
        "/%0c/evil",
    ),
]


@pytest.mark.parametrize("text", OPEN_REDIRECTS, ids=lambda text: repr(text[:40]))
def test_open_redirects_lead_home(text: str) -> None:
    assert safe_callback(text, "https://app.test") == "/"


def test_there_are_a_hundred_of_them() -> None:
    assert len(set(OPEN_REDIRECTS)) >= 100
    assert safe_callback(None) == "/"


@pytest.mark.parametrize(
    ("text", "to"),
    [
        ("/", "/"),
        ("/dashboard", "/dashboard"),
        ("/dashboard?tab=1&x=%20y", "/dashboard?tab=1&x=%20y"),
        ("/my%20files/a", "/my%20files/a"),
        ("/a//b", "/a//b"),
        ("/a?u=//evil.test", "/a?u=//evil.test"),
        ("/a?u=https%3A%2F%2Fevil.test", "/a?u=https%3A%2F%2Fevil.test"),
        ("/a#b", "/a#b"),
        ("/a?/..//x", "/a?/..//x"),
        ("/a#/..//x", "/a#/..//x"),
        ("/a?b#/..//x?", "/a?b#/..//x?"),
        ("/a/../b", "/a/../b"),
        ("/a/b/..//c", "/a/b/..//c"),
        ("/../a", "/../a"),
        ("/.../a", "/.../a"),
        ("/%2e/a", "/%2e/a"),
        ("/a%252f%252fb", "/a%252f%252fb"),
        ("/x~", "/x~"),
        ("/!", "/!"),
        ("https://app.test/a?b", "/a?b"),
        ("HTTPS://APP.test/a", "/a"),
        ("https://app.test", "/"),
        ("/" + "a" * (2 * MAX_CALLBACK - 1), "/" + "a" * (2 * MAX_CALLBACK - 1)),
        ("https://app.test?x", "/?x"),
        ("https://app.test#x", "/#x"),
    ],
)
def test_safe_callback_keeps_what_is_here(text: str, to: str) -> None:
    assert safe_callback(text, "https://app.test") == to


def test_absolute_urls_are_refused_without_an_own_origin() -> None:
    assert safe_callback("https://app.test/a") == "/"


def leaves_the_origin(text: str) -> bool:
    """A browser's reading (WHATWG URL): blanks at the ends and tabs and line ends inside vanish, `\\` is `/`.

    Twice: a script that reads `pathname` of the result and goes there has the dot segments resolved already.
    """
    read = re.sub(r"[\t\n\r]", "", text.strip("".join(map(chr, range(0x21))))).replace("\\", "/")
    path = re.split("[?#]", read, maxsplit=1)[0]
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        name = re.sub("%2e", ".", segment, flags=re.IGNORECASE)
        if name == "..":
            kept = kept[:-1]
        elif name != ".":
            kept.append(segment)
    pathname = "/" + "/".join(kept)
    return not read.startswith("/") or read.startswith("//") or pathname.startswith("//")


PIECES = [
    "/",
    "//",
    "\\",
    ".",
    "..",
    "%2e",
    "%2E",
    "%2f",
    "%5c",
    "%09",
    "\t",
    "\n",
    " ",
    "%20",
    "x",
    "?",
    "#",
    "%3f",
    "@",
    ":",
]
ODD_TEXT = st.lists(st.sampled_from(PIECES), max_size=9).map("".join)


@settings(max_examples=600)
@given(ODD_TEXT | ODD_TEXT.map("/".__add__) | ODD_TEXT.map("https://app.test".__add__) | st.text(max_size=20))
def test_law_a_safe_callback_stays_here(text: str) -> None:
    found = safe_callback(text, "https://app.test")
    assert not leaves_the_origin(found)
    assert not leaves_the_origin(unquote_to_bytes(found).decode("latin-1"))


@pytest.mark.parametrize(
    ("url", "on"),
    [
        ("https://app.test", True),
        ("https://app.test/", True),
        ("HTTPS://App.Test/x", True),
        ("https://app.test:1/", False),
        ("https://app.testx", False),
        ("https://app.test.evil/", False),
        ("https://app.test@evil/", False),
        ("http://app.test/", False),
        ("/https://app.test/", False),
        ("", False),
    ],
)
def test_is_on_origin(url: str, on: bool) -> None:
    assert is_on_origin(url, "https://app.TEST") is on


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("/dashboard?tab=1", "%2Fdashboard%3Ftab%3D1"),
        ("AZaz09-_.!~*'()", "AZaz09-_.!~*'()"),
        (" +&=#\u00e9", "%20%2B%26%3D%23%C3%A9"),
    ],
)
def test_encode_uri_component(text: str, encoded: str) -> None:
    assert encode_uri_component(text) == encoded
