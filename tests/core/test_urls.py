"""The canonical path and callback URLs, from the design's text; then what every backend might read."""

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.core.model import Access, Reason, Route, Rule, Target
from gatekeeper.core.routing import compile_rules, match_route
from gatekeeper.core.urls import (
    MAX_CALLBACK,
    MAX_DROPPABLE,
    callback_for,
    callback_from_referer,
    fold_segment,
    is_valid_host,
    origin_of,
    parse_path,
    parse_target,
    readings_of,
    safe_callback,
)
from tests.core.facts import target_of
from tests.core.test_callbacks import ODD_TEXT, leaves_the_origin


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/", "/"),
        ("/dashboard", "/dashboard"),
        ("/dashboard/", "/dashboard/"),
        ("//dashboard", "/dashboard"),
        ("/a///b", "/a/b"),
        ("/a//", "/a/"),
        ("//", "/"),
        ("/./dashboard", "/dashboard"),
        ("/a/.", "/a/"),
        ("/a/./", "/a/"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/b/../", "/a/"),
        ("/a/../b", "/b"),
        ("/a//../b", "/b"),
        ("/../../b", "/b"),
        ("/x/%2e%2e/dashboard", "/dashboard"),
        ("/x/.%2E/dashboard", "/dashboard"),
        ("/%64ashboar%64", "/dashboard"),
        ("/%7Eada/%41%5F%2D", "/~ada/A_-"),
        ("/a%20b", "/a%20b"),
        ("/caf%c3%a9", "/caf%c3%a9"),
        ("/%2564ashboard", "/%2564ashboard"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%3bb", "/a%3bb"),
        ("/...", "/..."),
        ("/..x/.y", "/..x/.y"),
        ("/..X/.X;", "/..X/.X;"),
        ("/%58", "/X"),
        ("/a;b=c", "/a;b=c"),
        ("/dashboard.", "/dashboard."),
        ("/a%20./b", "/a%20./b"),
        ("/X%20./b", "/X%20./b"),
        ("/%20/b", "/%20/b"),
        ("/.../..../b", "/.../..../b"),
        ("/a/../", "/"),
        ("/.", "/"),
        ("/a/.b/..c/d", "/a/.b/..c/d"),
        ("/a/%2E%2e/%2e/b/", "/b/"),
        ("/%2D%2e%5F%7e%30%39%41%5a%61%7A", "/-._~09AZaz"),
        ("/%21%24%26%27%28%29%2A%2B%2C%3A%3D%40", "/%21%24%26%27%28%29%2A%2B%2C%3A%3D%40"),
        ("/%ff%80%C0%AE", "/%ff%80%C0%AE"),
        ('/[a]{b}|^`<>"', '/[a]{b}|^`<>"'),
    ],
)
def test_canonical_path(raw: str, path: str) -> None:
    assert target_of(raw).path == path


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "dashboard",
        "*",
        "@host/x",
        "?x",
        "/a\\b",
        "/a%5cb",
        "/a%5Cb",
        "/a#b",
        "/a?b#c",
        "/a b",
        "/a\tb",
        "/a\x00b",
        "/a\x7fb",
        "/caf\u00e9",
        "/a?caf\u00e9",
        "/a\udcff",
        "/a%",
        "/a%4",
        "/a%zz",
        "/a%4X",
        "/a%4g",
        "/a% 1",
        "/%00",
        "/a%0d%0ab",
        "/a%1f",
        "/a%7f",
        "/..;/x",
        "/a/..;x=1/b",
        "/a/.;/b",
        "/a/..%3b/b",
        "/a/..%20/b",
        "/a/.%20",
        "/a/..%20;x/b",
        "/a/..%20./b",
        "/a/.%20./b",
        "/a/%20../b",
        "/a/..%20.%20;x/b",
        "http\u017f://host/x",
        "httpss://host/x",
        "xhttp://host/x",
        "http://",
        "http:///x",
        "http://user@host/x",
        "http://host:port/x",
        "http://ho st/x",
        "https://host/a#b",
        "ftp://host/x",
        "javascript:alert(1)",
    ],
)
def test_refused_targets(raw: str) -> None:
    assert parse_target("GET", raw) is Reason.BAD_TARGET


@pytest.mark.parametrize(
    ("raw", "path", "query"),
    [
        ("/a?", "/a", ""),
        ("/a?b=c?d", "/a", "b=c?d"),
        ("/a?/../../b", "/a", "/../../b"),
        ("/a?%00&%5c\\", "/a", "%00&%5c\\"),
        ("http://evil.test/dashboard?x", "/dashboard", "x"),
        ("HTTPS://h:8443/a/../b", "/b", None),
        ("http://h", "/", None),
        ("http://h?x", "/", "x"),
        ("http://[::1]:80/a", "/a", None),
    ],
)
def test_query_is_untouched_and_authority_dropped(raw: str, path: str, query: str | None) -> None:
    target = target_of(raw)
    assert (target.path, target.query) == (path, query)
    assert target.path_and_query == (path if query is None else f"{path}?{query}")


def test_asterisk_form_is_for_options_alone() -> None:
    assert parse_target("OPTIONS", "*") == Target("*", None, (), ())
    assert parse_target("GET", "*") is Reason.BAD_TARGET


@pytest.mark.parametrize(
    ("raw", "segments", "folded"),
    [
        ("/Dashboard", ("Dashboard",), ("dashboard",)),
        ("/dashboard;x=1/a", ("dashboard;x=1", "a"), ("dashboard", "a")),
        ("/dashboard%3Bx", ("dashboard;x",), ("dashboard",)),
        ("/dashboard.%20.", ("dashboard. .",), ("dashboard",)),
        ("/%C3%89", ("\u00c3\u0089",), ("\u00c3\u0089",)),
        ("/a!%21%2541", ("a!!%41",), ("a!!%41",)),
        ("/.../x", ("...", "x"), ("x",)),
        ("/;x/y", (";x", "y"), ("y",)),
        ("/", (), ()),
        ("/Xa/aX", ("Xa", "aX"), ("xa", "ax")),
        ("/!X", ("!X",), ("!x",)),
    ],
)
def test_readings_of_segments(raw: str, segments: tuple[str, ...], folded: tuple[str, ...]) -> None:
    target = target_of(raw)
    assert target.segments == segments
    assert target.folded == folded


def test_encoded_slash_gives_a_second_reading() -> None:
    target = target_of("/api%2f%2Fdashboard%2f?q")
    assert target.path == "/api%2f%2Fdashboard%2f"
    assert target.slash_reading is not None
    assert target.slash_reading.path_and_query == "/api/dashboard/?q"
    assert target.slash_reading.slash_reading is None
    assert target_of("/api").slash_reading is None
    for ambiguous in ("/a%2f..;%2fb", "/a%2f..", "/a%2F.", "/..%2fa", "/.%2fa/b", "/a/b%2f%2e%2E/c", "/a%2f..%2fb"):
        assert parse_path(ambiguous) is Reason.BAD_TARGET
    assert target_of("/a%2f...%2f.b%2fc..").slash_reading is not None


def test_parse_path_has_no_query_unless_it_is_given_one() -> None:
    assert parse_path("/a.b") == Target("/a.b", None, ("a.b",), ("a.b",))
    assert parse_path("/%61%20b", "q") == Target("/a%20b", "q", ("a b",), ("a b",))


@pytest.mark.parametrize(
    ("segment", "folded"),
    [("A", "a"), ("a;b", "a"), ("a. .\t", "a"), ("..", ""), ("\u00c4YZ", "\u00c4yz"), ("a.b", "a.b")],
)
def test_fold_segment(segment: str, folded: str) -> None:
    assert fold_segment(segment) == folded


@pytest.mark.parametrize(
    ("segment", "readings"),
    [
        pytest.param("a", ("a",), id="plain"),
        pytest.param("AX", ("AX",), id="letters-stay"),
        pytest.param("a;b", ("a;b", "a"), id="parameters"),
        pytest.param("a. ", ("a. ", "a"), id="dots-and-blanks"),
        pytest.param("a.;b.", ("a.;b.", "a.;b", "a.", "a"), id="both"),
        pytest.param(";b", (";b", ""), id="parameters-alone"),
        pytest.param("...", ("...", ""), id="dots-alone"),
        pytest.param("%20;.", (" ;.", " ;", " ", ""), id="nothing-left"),
        pytest.param("a%3bb", ("a;b", "a"), id="escaped-parameters"),
        pytest.param("a%3bb;c", ("a;b;c", "a;b", "a"), id="parameters-before-and-after-decoding"),
        pytest.param("%C3%84%2541", ("\u00c3\u0084%41",), id="decoded-once"),
    ],
)
def test_readings_of_a_segment(segment: str, readings: tuple[str, ...]) -> None:
    assert readings_of(segment) == readings


@given(st.lists(st.sampled_from(["a", "A", ";", "%3b", ".", "%20", "%C3%84"]), max_size=8).map("".join))
def test_law_the_last_reading_is_the_folded_one_but_for_case(segment: str) -> None:
    first, *_ = *_, last = readings_of(segment)
    assert first == unquote_to_bytes(segment).decode("latin-1")
    assert fold_segment(first) == "".join(c.lower() if c.isascii() else c for c in last)


@pytest.mark.parametrize("odd", [";x", "...", "%20"])
def test_few_segments_may_be_droppable(odd: str) -> None:
    few = "/a" + f"/{odd}" * MAX_DROPPABLE
    assert target_of(few).folded == ("a",)
    assert parse_target("GET", f"{few}/b/{odd}") is Reason.BAD_TARGET
    in_other_reading = "/a" + f"%2f{odd}" * MAX_DROPPABLE
    assert target_of(in_other_reading).slash_reading == target_of(few)
    assert parse_target("GET", f"{in_other_reading}%2F{odd}") is Reason.BAD_TARGET


UNRESERVED = "abzABZ059-._~"


@given(st.text(alphabet=UNRESERVED + "/", max_size=20), st.data())
def test_law_escaping_what_needs_no_escape_changes_nothing(text: str, data: st.DataObject) -> None:
    plain = "/" + text
    escaped = "".join(
        f"%{ord(c):02{data.draw(st.sampled_from('xX'))}}" if c != "/" and data.draw(st.booleans()) else c for c in plain
    )
    assert parse_target("GET", escaped) == parse_target("GET", plain)


@given(st.text(alphabet=UNRESERVED, min_size=1, max_size=20).filter(lambda text: text.strip(".")))
def test_law_a_plain_path_is_what_it_says(name: str) -> None:
    target = target_of(f"/{name}/x?q")
    assert target == Target(f"/{name}/x", "q", (name, "x"), (name.rstrip(".").lower(), "x"))


CHARACTERS = st.text(alphabet="/.%25efc;\\?#dDaA0 ", max_size=24).map(lambda text: "/" + text)


@given(CHARACTERS)
def test_law_normalising_twice_changes_nothing(raw: str) -> None:
    target = parse_target("GET", raw)
    if isinstance(target, Target):
        again = target_of(target.path_and_query)
        assert again == target


PREFIXES = ("/d", "/a/d")
TABLE = compile_rules([Rule(prefix, Access.SESSION) for prefix in PREFIXES], Access.PUBLIC)
PASSING = compile_rules(
    [Rule(prefix, Access.SESSION, encoded_slash="pass") for prefix in PREFIXES]
    + [Rule("/*", Access.PUBLIC, encoded_slash="pass")],
    Access.PUBLIC,
)


def readings(path: bytes) -> set[bytes]:
    """What backends may make of a path that reaches them: each step taken or not, in any order."""
    steps = (
        unquote_to_bytes,
        lambda text: re.sub(rb";[^/]*", b"", text),
        lambda text: re.sub(rb"[. ]+(?=/|$)", b"", text),
        lambda text: re.sub(rb"/+", b"/", text),
        lambda text: text.lower(),
        resolve,
    )
    found = {path}
    decoded_once = False
    for _ in range(3):
        for step in steps:
            if step is unquote_to_bytes:
                if decoded_once:
                    continue
                decoded_once = True
            found |= {step(text) for text in found}
    return found


def resolve(path: bytes) -> bytes:
    kept: list[bytes] = []
    for segment in path.split(b"/")[1:]:
        if segment == b"..":
            kept = kept[:-1]
        elif segment != b".":
            kept.append(segment)
    return b"/" + b"/".join(kept)


def reads_as_protected(path: str) -> bool:
    prefixes = [prefix.encode() for prefix in PREFIXES]
    return any(
        text == prefix or text.startswith(prefix + b"/") for text in readings(path.encode()) for prefix in prefixes
    )


@settings(max_examples=400)
@given(CHARACTERS, st.sampled_from([TABLE, PASSING]))
def test_law_no_reading_of_a_public_path_is_protected(raw: str, table: object) -> None:
    target = parse_target("GET", raw)
    if isinstance(target, Target):
        route = match_route(table, target)  # type: ignore[arg-type]
        if isinstance(route, Route) and route.access is Access.PUBLIC:
            assert not reads_as_protected(target.path)


@given(CHARACTERS | ODD_TEXT.map("/".__add__))
def test_law_what_the_gate_writes_is_read_back(raw: str) -> None:
    target = parse_target("GET", raw)
    if isinstance(target, Target):
        written = callback_for(target)
        assert safe_callback(written) == written
        assert safe_callback("https://app.test" + written, "https://app.test") == written
        assert not leaves_the_origin(written)


@pytest.mark.parametrize(
    ("raw", "callback"),
    [
        ("/a?b=c", "/a?b=c"),
        ("/a?", "/a?"),
        ("/a", "/a"),
        ("/a?b\\c", "/a"),
        ("/a?b=%0a", "/a"),
        ("/a?" + "x" * MAX_CALLBACK, "/a"),
        ("/" + "a" * MAX_CALLBACK, "/"),
        ("/" + "a" * (MAX_CALLBACK - 1), "/" + "a" * (MAX_CALLBACK - 1)),
        ("/%20x", "/"),
    ],
)
def test_callback_for(raw: str, callback: str) -> None:
    assert callback_for(target_of(raw)) == callback


def test_callback_just_within_the_limit_keeps_its_query() -> None:
    query = "x" * (MAX_CALLBACK - len("/a") - 1)
    assert callback_for(target_of(f"/a?{query}")) == f"/a?{query}"
    assert callback_for(target_of(f"/a?{query}x")) == "/a"


@pytest.mark.parametrize(
    ("referer", "callback"),
    [
        (None, "/"),
        ("https://app.test/form?x=1#y", "/form?x=1"),
        ("https://app.test/a/../b", "/b"),
        ("https://app.test", "/"),
        ("https://app.test.evil/x", "/"),
        ("https://evil.test/x", "/"),
        ("https://app.tes/x/y", "/"),
        ("https://apq.test/x", "/"),
        ("/form", "/"),
        ("https://app.test/a\\b", "/"),
    ],
)
def test_callback_from_referer(referer: str | None, callback: str) -> None:
    assert callback_from_referer(referer, "https://app.test") == callback


@pytest.mark.parametrize(
    ("host", "valid"),
    [
        ("app.test", True),
        ("app.test:8080", True),
        ("app.test:", True),
        ("127.0.0.1:1", True),
        ("[::1]", True),
        ("[::1]:80", True),
        ("a_b-c", True),
        ("a%20b", False),
        ("a,b", False),
        ("a;b", False),
        ("a=b", False),
        ("", False),
        (":80", False),
        ("a:b", False),
        ("a:123456", False),
        ("a:1:2", False),
        ("[::1", False),
        ("[::1]x", False),
        ("[x]", False),
        ("a b", False),
        ("a/b", False),
        ("a@b", False),
        ("a%2", False),
        ("a\x00", False),
        ("\u00e9", False),
    ],
)
def test_is_valid_host(host: str, valid: bool) -> None:
    assert is_valid_host(host) is valid


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://App.Test", "https://app.test"),
        ("https://app.test:443/x?y", "https://app.test"),
        ("http://app.test:80", "http://app.test"),
        ("http://app.test:443", "http://app.test:443"),
        ("https://[::1]:8443/", "https://[::1]:8443"),
        ("ftp://app.test", None),
        ("app.test", None),
        ("https://", None),
        ("https://app.test:x", None),
        ("https://[::1", None),
    ],
)
def test_origin_of(url: str, origin: str | None) -> None:
    assert origin_of(url) == origin
