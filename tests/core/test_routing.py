"""Rules and routes, from the design's text; then a second, naive reading of the same text on a small world of paths."""

import re
import sys
from collections.abc import Callable
from functools import cache
from itertools import permutations, product
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.core.model import Access, Reason, Require, Route, Rule
from gatekeeper.core.routing import (
    Pattern,
    RouteTable,
    check_rules,
    compile_rules,
    covers,
    join_routes,
    match_route,
    parse_pattern,
)
from gatekeeper.core.urls import parse_target
from tests.core.facts import target_of


def protect(pattern: str, **changes: Any) -> Rule:
    return Rule(pattern, **({"access": Access.SESSION} | changes))


def public(pattern: str, **changes: Any) -> Rule:
    return Rule(pattern, Access.PUBLIC, **changes)


def route_at(rules: list[Rule], path: str, default: Access = Access.PUBLIC) -> Route:
    assert check_rules(rules) == []
    route = match_route(compile_rules(rules, default), target_of(path))
    assert isinstance(route, Route), (path, route)
    return route


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("/dashboard", "/dashboard", True),
        ("/dashboard", "/dashboard/", True),
        ("/dashboard", "/dashboard/x/y", True),
        ("/dashboard", "/dashboardx", False),
        ("/dashboard", "/dashboard-old", False),
        ("/dashboard", "/x/dashboard", False),
        ("/dashboard", "/", False),
        ("/dashboard/", "/dashboard", True),
        ("/dashboard*", "/dashboardx", True),
        ("/dashboard*", "/dashboard", True),
        ("/dashboard*", "/dashboardx/y", True),
        ("/dashboard*", "/xdashboard", False),
        ("/a/*/c", "/a/b/c", True),
        ("/a/*/c", "/a/b/c/d", True),
        ("/a/*/c", "/a/c", False),
        ("/a/*/c", "/a/b/d", False),
        ("/a/*", "/a", False),
        ("/a/*", "/a/", False),
        ("/*.json", "/x.json", True),
        ("/*.json", "/.json", True),
        ("/*.json", "/x.jsonx", False),
        ("/a*b*c", "/a-b-c", True),
        ("/a*b*c", "/abc", True),
        ("/a*b*c", "/acb", False),
        ("/a*b*c", "/axc", False),
        ("/ab*ba", "/aba", False),
        ("/ab*ba", "/abba", True),
        ("/a**b", "/ab", True),
        ("/", "/", True),
        ("/", "/anything/at/all", True),
        ("/caf\u00e9", "/caf%C3%A9", True),
        ("/caf\u00e9", "/caf%c3%a9/x", True),
        ("/Dashboard", "/dASHBOARD", True),
        ("/dashboard", "/dashboard;x=1", True),
        ("/dashboard", "/dashboard%3Bx", True),
        ("/dashboard", "/dashboard.%20", True),
        ("/dashboard", "/.../dashboard", True),
        ("/dashboard", "/;x/dashboard", True),
        ("/admin!", "/admin%21", True),
        ("/dashboard", "/%2564ashboard", False),
        ("/*/admin", "/;x/admin", True),
        ("/*/admin", "/.../admin", True),
        ("/*/admin", "/%20/admin", True),
        ("/*/admin", "/;x/admin;y", True),
        ("/*/admin", "/;x/.../admin", True),
        ("/*/*/admin", "/;x/.../admin", True),
        ("/*/admin", "/a/.../b/admin", False),
        ("/a/b", "/a/;x/.../b;y/c", True),
        ("/a/*", "/a/...", True),
        ("/a/*", "/a/;x", True),
        ("/*.json", "/x;y.json", True),
        ("/*.json", "/x.json;y", True),
        ("/*.json", "/x.json.", True),
        ("/*.json", "/x.JSON%20;y", True),
        ("/x*.json", "/x;y/z.json", False),
        ("/*.json", "/a%3bb.json;c", True),
        ("/*5d", "/a%5D", True),
        ("/*5d", "/a%5D;b", True),
        ("/v1.*", "/v1.", True),
        ("/v1.*", "/v1", False),
        ("/a*b", "/a;b", True),
        ("/\u00c4*", "/%c3%84;x", True),
        ("/\u00c4*", "/%c3%a4;x", False),
    ],
)
def test_what_a_protected_pattern_covers(pattern: str, path: str, covered: bool) -> None:
    assert (route_at([protect(pattern)], path).access is Access.SESSION) is covered


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("/help", "/help", True),
        ("/help", "/help/x", True),
        ("/help", "/Help", False),
        ("/help", "/help;x", False),
        ("/help", "/help.", False),
        ("/help", "/.../help", False),
        ("/help", "/helpx", False),
        ("/help*", "/helpx", True),
        ("/help", "/hel%70", True),
        ("/he!p", "/he%21p", True),
        ("/x/*", "/x/y", True),
        ("/x/*", "/x/...", False),
        ("/x/*", "/x/;y", False),
        ("/x/*", "/x/y/...", True),
        ("/x/*", "/x/y/;z", True),
        ("/*/x", "/;y/x", False),
        ("/*/x", "/y;z/x", True),
        ("/*.css", "/a.css", True),
        ("/*.css", "/admin;x.css", False),
        ("/*.css", "/a.css;admin", False),
        ("/*.css", "/a%3b.css", False),
        ("/*5D", "/a%5D", False),
        ("/a*c", "/a%20b%21c", True),
        ("/*.css", "/a.css.", False),
        ("/*.css", "/;.css", False),
        ("/a*", "/a;b", True),
        ("/a*", "/a.%20", True),
        ("/help/x", "/help", False),
        ("/*", "/a", True),
        ("/", "/", True),
        ("/", "//", True),
        ("/", "/x", False),
        ("/", "/...", False),
        ("/caf\u00e9", "/caf%C3%A9", True),
        ("/CAF\u00c9", "/caf%C3%A9", False),
    ],
)
def test_what_a_public_pattern_covers(pattern: str, path: str, covered: bool) -> None:
    assert (route_at([protect("/"), public(pattern)], path).access is Access.PUBLIC) is covered


def test_a_public_path_within_a_protected_one_is_not_reached_by_a_dropped_segment() -> None:
    rules = [protect("/d"), public("/d/*/help")]
    assert route_at(rules, "/d/x/help").access is Access.PUBLIC
    for path in ("/d/;x/help", "/d/.../help", "/d/%20/help"):  # read as /d/help by some
        assert route_at(rules, path).access is Access.SESSION


@pytest.mark.parametrize(
    ("first", "second", "path", "upstream"),
    [
        pytest.param("/a/b", "/*/a/b", "/;x/a/b", "first", id="literal-before-star"),
        pytest.param("/java", "/*.do", "/java;x.do", "first", id="parameters-of-a-literal"),
        pytest.param("/java", "/java/*.do", "/java/;x.do", "second", id="the-longer-one"),
    ],
)
def test_upstream_of_an_odd_spelling_does_not_depend_on_the_order(
    first: str, second: str, path: str, upstream: str
) -> None:
    rules = [protect(first, upstream="first"), protect(second, upstream="second")]
    for order in permutations(rules):
        route = route_at(list(order), path)
        assert route.upstream == upstream
        assert route.access is Access.SESSION


def test_asterisk_form_belongs_to_the_whole_site_alone() -> None:
    target = target_of("*", "OPTIONS")
    whole = match_route(compile_rules([protect("/"), public("/")], Access.PUBLIC), target)
    assert isinstance(whole, Route)
    assert whole.access is Access.SESSION
    some = match_route(compile_rules([protect("/a")], Access.PUBLIC), target)
    assert isinstance(some, Route)
    assert some.access is Access.PUBLIC


@pytest.mark.parametrize(
    ("rules", "path", "access", "name"),
    [
        pytest.param([], "/x", Access.PUBLIC, "default", id="nothing"),
        pytest.param(
            [protect("/d"), public("/d/help")], "/d/help", Access.PUBLIC, "public /d/help", id="public-inside"
        ),
        pytest.param([protect("/d"), public("/d/help")], "/d/x", Access.SESSION, "protect /d", id="beside-it"),
        pytest.param(
            [public("/d"), protect("/d/admin")], "/d/admin", Access.SESSION, "protect /d/admin", id="protected-inside"
        ),
        pytest.param(
            [protect("/d"), public("/d/h"), protect("/d/h/s")],
            "/d/h/s",
            Access.SESSION,
            "protect /d/h/s",
            id="three-deep",
        ),
        pytest.param(
            [protect("/*/x"), public("/a/*")], "/a/x", Access.SESSION, "protect /*/x", id="neither-is-more-specific"
        ),
        pytest.param(
            [protect("/a/*", access=Access.PRESENCE), protect("/*/x", access=Access.FRESH)],
            "/a/x",
            Access.FRESH,
            "protect /a/* & protect /*/x",
            id="both-must-hold",
        ),
        pytest.param(
            [protect("/a*"), protect("/ab*", access=Access.PRESENCE)],
            "/abc",
            Access.PRESENCE,
            "protect /ab*",
            id="star-inside-is-more-specific",
        ),
        pytest.param([protect("/*"), public("/a*")], "/abc", Access.PUBLIC, "public /a*", id="star-in-star"),
        pytest.param([public("/*"), protect("/a*")], "/abc", Access.SESSION, "protect /a*", id="protect-in-public"),
        pytest.param([public("/*"), protect("/*/x")], "/a/x", Access.SESSION, "protect /*/x", id="longer"),
        pytest.param([protect("/"), public("/")], "/", Access.PUBLIC, "public /", id="root-page"),
    ],
)
def test_the_more_specific_rule_wins_whatever_the_order(
    rules: list[Rule], path: str, access: Access, name: str
) -> None:
    for order in permutations(rules):
        route = route_at(list(order), path)
        assert route.access is access
        assert sorted(route.name.split(" & ")) == sorted(name.split(" & "))


def test_two_protected_rules_hold_together() -> None:
    first = protect(
        "/a/*",
        methods=frozenset({"GET", "POST"}),
        preflight="pass",
        encoded_slash="pass",
        require=Require(email_verified=True, roles=(frozenset({"a"}),)),
    )
    second = protect(
        "/*/x",
        methods=frozenset({"POST", "PUT"}),
        preflight="answer",
        encoded_slash="reject",
        require=Require(two_factor=True, roles=(frozenset({"b"}),), email_domains=(frozenset({"c.d"}),)),
    )
    route = route_at([first, second], "/a/x")
    assert route.methods == {"POST"}
    assert route.preflight == "answer"
    assert route.encoded_slash == "reject"
    assert route.require == Require(
        email_verified=True,
        two_factor=True,
        roles=(frozenset({"a"}), frozenset({"b"})),
        email_domains=(frozenset({"c.d"}),),
    )
    assert route.rules == (first, second)


@pytest.mark.parametrize(
    ("a", "b", "both"),
    [
        (None, None, None),
        ({"GET"}, None, {"GET"}),
        (None, {"GET"}, {"GET"}),
        ({"GET"}, {"POST"}, set()),
    ],
)
def test_methods_intersect(a: set[str] | None, b: set[str] | None, both: set[str] | None) -> None:
    rules = [
        protect("/a/*", methods=None if a is None else frozenset(a)),
        protect("/*/x", methods=None if b is None else frozenset(b)),
    ]
    assert route_at(rules, "/a/x").methods == both


def test_joined_identity_is_optional_where_either_is() -> None:
    rules = [public("/a/*", identity="optional"), public("/*/x")]
    assert route_at(rules, "/a/x").identity == "optional"
    assert route_at(list(reversed(rules)), "/a/x").identity == "optional"
    assert route_at([public("/a/*"), public("/*/x")], "/a/x").identity == "none"


def test_preflight_deny_is_the_strictest() -> None:
    for order in permutations([protect("/a/*", preflight="pass"), protect("/*/x", preflight="deny")]):
        assert route_at(list(order), "/a/x").preflight == "deny"


def test_upstream_is_inherited_unless_named_anew() -> None:
    rules = [protect("/a", upstream="one"), public("/a/b"), protect("/a/c", upstream="two"), protect("/a/b/c")]
    assert route_at(rules, "/a").upstream == "one"
    assert route_at(rules, "/a/b").upstream == "one"
    assert route_at(rules, "/a/b/c").upstream == "one"
    assert route_at(rules, "/a/c/d").upstream == "two"
    assert route_at(rules, "/x").upstream == ""


def test_upstream_of_a_protected_place_within_a_public_one() -> None:
    rules = [public("/shop", upstream="shop"), protect("/shop/admin", upstream="admin")]
    for order in permutations(rules):
        assert route_at(list(order), "/shop/x").upstream == "shop"
        assert route_at(list(order), "/shop/admin").upstream == "admin"
    crossing = [public("/a/*", upstream="shop"), protect("/*/x", upstream="admin")]
    for order in permutations(crossing):
        assert route_at(list(order), "/a/x").upstream == "admin"


def test_public_rules_with_different_upstreams_contradict_as_well() -> None:
    rules = [public("/a/*", upstream="one"), public("/*/x", upstream="two")]
    assert [problem.index for problem in check_rules(rules)] == [1]


def test_default_session_protects_the_rest() -> None:
    assert route_at([public("/open")], "/x", Access.SESSION).access is Access.SESSION
    assert route_at([public("/open")], "/open", Access.SESSION).access is Access.PUBLIC


@pytest.mark.parametrize(
    ("rules", "path", "default", "expected"),
    [
        pytest.param([], "/a%2fb", Access.PUBLIC, Reason.ENCODED_SLASH, id="default-rejects"),
        pytest.param([protect("/f")], "/f/a%2fb", Access.PUBLIC, Reason.ENCODED_SLASH, id="rule-rejects"),
        pytest.param(
            [protect("/f", encoded_slash="pass")], "/f/a%2fb", Access.PUBLIC, Access.SESSION, id="rule-lets-pass"
        ),
        pytest.param(
            [public("/f", encoded_slash="pass")], "/f/a%2fb", Access.PUBLIC, Access.PUBLIC, id="public-lets-pass"
        ),
        pytest.param(
            [public("/f*", encoded_slash="pass"), protect("/f/d")],
            "/f%2fd",
            Access.PUBLIC,
            Reason.ENCODED_SLASH,
            id="other-reading-rejects",
        ),
        pytest.param(
            [public("/f*", encoded_slash="pass"), protect("/f/d", encoded_slash="pass")],
            "/f%2fd",
            Access.PUBLIC,
            Access.SESSION,
            id="either-reading-protects",
        ),
        pytest.param(
            [protect("/f*", encoded_slash="pass"), protect("/f/d", encoded_slash="pass", access=Access.FRESH)],
            "/f%2fd",
            Access.PUBLIC,
            Access.FRESH,
            id="both-readings-hold",
        ),
        pytest.param(
            [protect("/f*d", encoded_slash="pass")], "/f%2fd", Access.PUBLIC, Access.SESSION, id="other-is-open"
        ),
        pytest.param(
            [public("/f*d", encoded_slash="pass")],
            "/f%2fd",
            Access.SESSION,
            Access.SESSION,
            id="default",
        ),
        pytest.param(
            [public("/f*d", encoded_slash="pass", upstream="u"), public("/f/d", encoded_slash="pass")],
            "/f%2fd",
            Access.PUBLIC,
            Reason.ENCODED_SLASH,
            id="upstreams-differ",
        ),
    ],
)
def test_encoded_slash(rules: list[Rule], path: str, default: Access, expected: Access | Reason) -> None:
    found = match_route(compile_rules(rules, default), target_of(path))
    assert (found if isinstance(found, Reason) else found.access) is expected


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("dashboard", "must start with a slash"),
        ("", "must start with a slash"),
        ("//a", "has an empty segment"),
        ("/a//b", "has an empty segment"),
        ("/a/../b", "has a dot segment"),
        ("/./a", "has a dot segment"),
        ("/a%20b", "contains %"),
        ("/a?b", "contains ?"),
        ("/a#b", "contains #"),
        ("/a\\b", "contains \\"),
        ("/a;b", "contains ;"),
        ("/a b", "contains a blank or a control character"),
        ("/a\x7fb", "contains a blank or a control character"),
        ("/a/...", "has a segment of dots alone"),
    ],
)
def test_bad_patterns(pattern: str, complaint: str) -> None:
    found = check_rules([protect("/fine"), protect(pattern)])
    assert [problem.index for problem in found] == [1]
    assert complaint in found[0].message
    with pytest.raises(ValueError, match="'"):
        compile_rules([protect(pattern)], Access.PUBLIC)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (protect("/a"), protect("/a"), True),
        (protect("/a"), protect("/A/"), True),
        (protect("/a"), public("/a"), True),
        (public("/a"), public("/a"), True),
        (public("/a"), public("/A"), False),
        (protect("/a*"), protect("/a**"), True),
        (protect("/"), public("/"), False),
        (public("/"), public("/"), True),
        (protect("/"), protect("/"), True),
        (protect("/a"), protect("/a/b"), False),
    ],
)
def test_same_pattern_twice(first: Rule, second: Rule, same: bool) -> None:
    for rules in ([first, second], [second, first]):
        problems = check_rules(rules)
        assert [problem.index for problem in problems] == ([1] if same else [])
        assert all("is the same pattern as" in problem.message for problem in problems)


@pytest.mark.parametrize(
    ("first", "second", "conflict"),
    [
        ("/a/*", "/*/b", True),
        ("/a*", "/*b", True),
        ("/a*x", "/b*", False),
        ("/a*x", "/*y", False),
        ("/a*", "/ab/c", False),
        ("/a*/c", "/ab/*", True),
        ("/a", "/b", False),
        ("/a", "/a/b", False),
        ("/*", "/a", False),
        ("/*/x", "/a/*/c", True),
        ("/a/b*", "/*/bc", True),
    ],
)
def test_upstreams_that_contradict(first: str, second: str, conflict: bool) -> None:
    rules = [protect(first, upstream="one"), protect(second, upstream="two")]
    for order in (rules, list(reversed(rules))):
        problems = check_rules(order)
        assert [problem.index for problem in problems] == ([1] if conflict else [])
        assert all("different upstreams" in problem.message for problem in problems)
    alike = [protect(first, upstream="one"), protect(second, upstream="one")]
    assert check_rules(alike) == []


def test_memo_of_combinations_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekeeper.core.routing._MEMO_LIMIT", 2)
    table = compile_rules([protect("/a"), protect("/b")], Access.PUBLIC)
    for path in ("/a", "/b", "/a"):
        route = match_route(table, target_of(path))
        assert isinstance(route, Route)
        assert route.access is Access.SESSION
    assert len(table.resolved) == 2


# A small world: every path of up to three segments, rich enough that one pattern of `SEGMENTS` covers less of it than
# another exactly where it covers less of all paths.  What rules mean is spelled out again here, the naive way.

NAMES = ("a", "A", "b", "d", "D", "ab", "aB", "ad", "aD", "bd", "abd", "bad")
SEGMENTS = ("a", "A", "d", "ad", "*", "a*", "*d", "a*d", "*a*")
WORLD = [()] + [path for size in (1, 2, 3) for path in product(NAMES, repeat=size)]
STRICTNESS = [Access.PUBLIC, Access.PRESENCE, Access.SESSION, Access.FRESH]
RULES = st.builds(
    lambda parts, access, slash, upstream: Rule(
        "/" + "/".join(parts), access, encoded_slash="pass" if slash else "reject", upstream=upstream
    ),
    st.lists(st.sampled_from(SEGMENTS), max_size=3),
    st.sampled_from([Access.PUBLIC, Access.PUBLIC, Access.PRESENCE, Access.SESSION, Access.FRESH]),
    st.booleans(),
    st.none(),
)
PLAIN_PATHS = st.lists(st.sampled_from(NAMES), max_size=4).map(tuple)


def naive_segment(pattern: str, segment: str) -> bool:
    text = ".*".join(map(re.escape, pattern.split("*"))) if pattern != "*" else ".+"
    return re.fullmatch(text, segment, re.DOTALL) is not None


def naive_covers(pattern: str, protects: bool, path: tuple[str, ...]) -> bool:
    parts = [part for part in pattern.split("/") if part]
    if protects:
        parts, path = [part.lower() for part in parts], tuple(name.lower() for name in path)
    elif not parts:
        return path == ()
    return len(parts) <= len(path) and all(map(naive_segment, parts, path))


@cache
def naive_coverage(pattern: str, protects: bool) -> frozenset[tuple[str, ...]]:
    return frozenset(path for path in WORLD if naive_covers(pattern, protects, path))


def protects(rule: Rule) -> bool:
    return rule.access is not Access.PUBLIC


def coverage(rule: Rule) -> frozenset[tuple[str, ...]]:
    return naive_coverage(rule.pattern, protects(rule))


def naive_winners(rules: list[Rule], path: tuple[str, ...]) -> list[Rule]:
    """The design's text, word by word."""
    matching = [rule for rule in rules if naive_covers(rule.pattern, protects(rule), path)]
    left = [rule for rule in matching if not any(coverage(other) < coverage(rule) for other in matching)]
    return [rule for rule in left if protects(rule)] or left


def naive_access(rules: list[Rule], path: tuple[str, ...], default: Access = Access.PUBLIC) -> Access:
    winners = naive_winners(rules, path)
    return max((rule.access for rule in winners), key=STRICTNESS.index) if winners else default


def without_problems(rules: list[Rule]) -> list[Rule]:
    bad = {problem.index for problem in check_rules(rules)}
    return [rule for i, rule in enumerate(rules) if i not in bad]


RULE_SETS = st.lists(RULES, min_size=1, max_size=6).map(without_problems)


@settings(max_examples=300, deadline=None)
@given(RULE_SETS, PLAIN_PATHS, st.sampled_from([Access.PUBLIC, Access.SESSION]))
def test_law_the_tree_agrees_with_the_text(rules: list[Rule], path: tuple[str, ...], default: Access) -> None:
    route = route_at(rules, "/" + "/".join(path), default)
    winners = naive_winners(rules, path)
    assert sorted(rule.pattern for rule in route.rules) == sorted(rule.pattern for rule in winners)
    assert route.access is naive_access(rules, path, default)
    rejected = not winners or any(rule.encoded_slash == "reject" for rule in winners)
    assert route.encoded_slash == ("reject" if rejected else "pass")


@settings(max_examples=300, deadline=None)
@given(RULES, RULES)
def test_law_more_specific_means_that_less_is_covered(outer: Rule, inner: Rule) -> None:
    first, second = _pattern(outer), _pattern(inner)
    assert coverage(inner) <= coverage(outer) or not covers(first, second)
    if protects(outer) or not protects(inner):  # else it is never asked: the protected one wins anyway
        assert covers(first, second) or not coverage(inner) <= coverage(outer)


@settings(deadline=None)
@given(RULES, RULES)
def test_law_the_same_pattern_is_one_that_covers_the_same(first: Rule, second: Rule) -> None:
    found = check_rules([first, second])
    if coverage(first) == coverage(second):
        assert found
    elif protects(first) == protects(second):
        assert not found


@settings(max_examples=300, deadline=None)
@given(RULES, RULES)
def test_law_upstreams_conflict_where_paths_are_shared_and_neither_is_more_specific(first: Rule, second: Rule) -> None:
    one, two = (msgspec.structs.replace(rule, upstream=name) for rule, name in ((first, "one"), (second, "two")))
    if check_rules([first, second]):
        return
    ours, theirs = coverage(first), coverage(second)
    conflict = bool(ours & theirs) and not ours <= theirs and not theirs <= ours
    found = check_rules([one, two])
    if protects(first) and protects(second):
        assert bool(found) == conflict
    elif protects(first) or protects(second):
        assert not found  # the more specific one, else the protected one
    else:
        assert found or not conflict


@settings(deadline=None)
@given(st.lists(RULES, max_size=5), PLAIN_PATHS)
def test_law_upstream_comes_from_the_most_specific_rule_that_names_one(
    rules: list[Rule], path: tuple[str, ...]
) -> None:
    named = without_problems([msgspec.structs.replace(rule, upstream=f"u{i % 2}") for i, rule in enumerate(rules)])
    matching = [rule for rule in named if naive_covers(rule.pattern, protects(rule), path)]
    left = [rule for rule in matching if not any(coverage(other) < coverage(rule) for other in matching)]
    wanted = {rule.upstream for rule in left if protects(rule)} or {rule.upstream for rule in left}
    assert {route_at(named, "/" + "/".join(path)).upstream} == (wanted or {""})


def _pattern(rule: Rule) -> Pattern:
    pattern = parse_pattern(rule.pattern, protects=protects(rule))
    assert isinstance(pattern, Pattern)
    return pattern


TOKENS = ["/"] * 6 + [
    "a",
    "a",
    "d",
    "d",
    "A",
    "D",
    "b",
    "ad",
    ".",
    "..",
    "...",
    "%2e",
    ";",
    ";x",
    "%3b",
    "%20",
    "%2f",
    "//",
]
ODD_PATHS = st.lists(st.sampled_from(TOKENS), min_size=1, max_size=9).map(lambda some: "/" + "".join(some)) | st.text(
    alphabet="/.%25efc;\\?#dDa", max_size=14
).map("/".__add__)


@settings(deadline=None)
@given(RULE_SETS, ODD_PATHS, st.randoms())
def test_law_order_does_not_matter(rules: list[Rule], path: str, random: Any) -> None:
    target = parse_target("GET", path)
    if isinstance(target, Reason):
        return
    shuffled = list(rules)
    random.shuffle(shuffled)
    first, second = (match_route(compile_rules(some, Access.PUBLIC), target) for some in (rules, shuffled))
    if isinstance(first, Reason) or isinstance(second, Reason):
        assert first is second
    else:
        assert (first.access, set(first.rules)) == (second.access, set(second.rules))


def plausible_readings(path: str) -> set[bytes]:
    """What backends may make of a path: each of these done or left out, in any order, but decoded once only."""

    def every(pattern: bytes, text: bytes) -> bytes:
        return re.sub(pattern, b"", text)

    # Dots are taken off names: what still has dot segments, or slashes to be decoded, is not yet a list of names.
    still = re.compile(rb"/\.{1,2}(/|$)|%2f", re.IGNORECASE)
    steps: list[Callable[[bytes], bytes]] = [
        lambda text: every(rb";[^/]*", text),
        lambda text: every(rb"\.+(?=/|$)", text) if not still.search(text) else text,
        lambda text: every(rb"[ \t]+(?=/|$)", text),
        lambda text: every(rb"[. \t]+(?=/|$)", text) if not still.search(text) else text,
        lambda text: re.sub(rb"/+", b"/", text),
        lambda text: text.lower(),
        resolve_dots,
    ]
    seen = {(path.encode(), False)}
    fresh = list(seen)
    while fresh:
        text, decoded = fresh.pop()
        found = {(step(text), decoded) for step in steps}
        if not decoded:
            found |= {(unquote_to_bytes(text), True), (re.sub(rb"%2[fF]", b"/", text), decoded)}
        fresh += found - seen
        seen |= found
    return {text for text, _ in seen}


def resolve_dots(path: bytes) -> bytes:
    """RFC 3986 §5.2.4: empty segments count."""
    kept: list[bytes] = []
    for segment in path.split(b"/")[1:]:
        if segment == b"..":
            kept = kept[:-1]
        elif segment != b".":
            kept.append(segment)
    return b"/" + b"/".join(kept)


def is_routed_public(rules: list[Rule], path: str, default: Access) -> str | None:
    """The path as it goes to the backend, if nobody is asked for a session there."""
    target = parse_target("GET", path)
    if isinstance(target, Reason):
        return None
    route = match_route(compile_rules(rules, default), target)
    return target.path if isinstance(route, Route) and route.access is Access.PUBLIC else None


def readings_in_protected_places(rules: list[Rule], path: str, default: Access) -> list[bytes]:
    def names(text: bytes) -> tuple[str, ...]:
        return tuple(name for name in text.decode("latin-1").split("/") if name)

    return [text for text in plausible_readings(path) if naive_access(rules, names(text), default) is not Access.PUBLIC]


@settings(max_examples=500, deadline=None)
@given(RULE_SETS, ODD_PATHS, st.sampled_from([Access.PUBLIC, Access.SESSION]))
def test_law_what_any_backend_reads_as_protected_is_not_public(rules: list[Rule], path: str, default: Access) -> None:
    forwarded = is_routed_public(rules, path, default)
    if forwarded is not None:
        assert readings_in_protected_places(rules, forwarded, default) == []


@settings(max_examples=500, deadline=None)
@given(ODD_PATHS, st.sampled_from(["/d", "/a/d", "/*/d", "/a*d", "/*d", "/d/*"]), st.sampled_from(["reject", "pass"]))
def test_law_one_protected_prefix_under_every_spelling(path: str, prefix: str, slash: Any) -> None:
    rules = [protect(prefix, encoded_slash=slash), public("/*", encoded_slash="pass")]
    forwarded = is_routed_public(rules, path, Access.PUBLIC)
    if forwarded is not None:
        assert readings_in_protected_places(rules, forwarded, Access.PUBLIC) == []


@pytest.mark.parametrize(
    ("path", "reading"),
    [
        ("/;x/d", b"/d"),
        ("/a/..%2fd", b"/d"),
        ("/x;y/../d", b"/d"),
        ("/.../d", b"/d"),
        ("/%44%20;x", b"/d"),
        ("/a%3bx/d", b"/a/d"),
        ("/a/..%20./d", b"/d"),
    ],
)
def test_the_readings_of_this_test_are_lenient_indeed(path: str, reading: bytes) -> None:
    assert reading in plausible_readings(path)


@given(st.text(max_size=20))
def test_law_no_pattern_text_raises(text: str) -> None:
    for protects in (True, False):
        assert isinstance(parse_pattern(text, protects=protects), (str, Pattern))
    check_rules([Rule(text, Access.SESSION)])


@given(
    st.lists(
        st.builds(
            Rule,
            (st.text(max_size=8) | st.text(alphabet="a*./A", max_size=8)).map("/".__add__),
            st.sampled_from(list(Access)),
            upstream=st.sampled_from([None, "one", "two"]),
        ),
        max_size=6,
    )
)
def test_law_what_is_checked_compiles_and_what_is_not_is_named(rules: list[Rule]) -> None:
    problems = check_rules(rules)
    assert all(0 <= problem.index < len(rules) and problem.message for problem in problems)
    good = without_problems(rules)
    if not check_rules(good):
        route = match_route(compile_rules(good, Access.PUBLIC), target_of("/a/b.c/D"))
        assert isinstance(route, Route)


def test_joining_keeps_both_rules() -> None:
    first, second = route_at([protect("/a")], "/a"), route_at([protect("/b")], "/b")
    assert join_routes(first, second).rules == first.rules + second.rules


def _calls_of_a_lookup(table: RouteTable, path: str) -> int:
    target = target_of(path)
    match_route(table, target)  # the memo of the combination
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        match_route(table, target)
    finally:
        sys.setprofile(None)
    return calls


def test_lookup_costs_the_same_with_ten_thousand_rules() -> None:
    def rules(count: int) -> list[Rule]:
        return [protect(f"/app/{i}/admin") for i in range(count)] + [
            public(f"/app/{i}/admin/help") for i in range(count)
        ]

    small, large = rules(5), rules(5_000)
    assert check_rules(large) == []
    for path in ("/app/3/admin/x", "/app/3/admin/help", "/app/3", "/nothing"):
        costs = {_calls_of_a_lookup(compile_rules(some, Access.PUBLIC), path) for some in (small, large)}
        assert len(costs) == 1
