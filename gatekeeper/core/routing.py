"""Rules and the route of a path: which of `protect` and `public` hold there.

A pattern is a list of segments.  A segment is literal, `*` (any one segment), or has stars inside (each stands for
any characters).  A pattern covers its path and everything below it; `/` under `public` is the root page alone.

* Many apps route leniently: they cut off `;…`, trailing dots and blanks, and drop a segment of which nothing is left
  (`urls.readings_of`).  A `protect` pattern holds if any of these readings falls under it, letter case aside; a
  `public` one only if every reading does, byte for byte.  Over-protecting an odd spelling costs nothing.
* A rule is more specific than another when all it covers lies within the other.  Of the rules that match, those that
  have a more specific one among them fall away.  What is left: if there is a protected one, the protected ones hold
  together; else the public ones.
* `upstream` is inherited: it comes from the most specific matching rule that names one; if a protected and a public
  rule name one and neither is more specific, from the protected one.

Patterns live in a tree of folded segments, so a lookup costs the same with ten rules and with ten thousand; only
patterns with a star inside a segment are tried one by one.  Which rules win among those that matched is worked out
once for each combination and kept.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce

import msgspec

from gatekeeper.core.model import NO_CONDITION, Access, Preflight, Reason, Require, Route, Rule, Target
from gatekeeper.core.urls import ascii_lower, fold_segment, readings_of

_STRICTNESS = (Access.PUBLIC, Access.PRESENCE, Access.SESSION, Access.FRESH)
_PREFLIGHT_STRICTNESS: tuple[Preflight, ...] = ("pass", "answer", "deny")
_MEMO_LIMIT = 10_000
_ODD = re.compile("[;.%]")


class RuleProblem(msgspec.Struct, frozen=True):
    """What is wrong with the rule at `index` of the sequence that was checked."""

    index: int
    message: str


class Pattern(msgspec.Struct, frozen=True):
    """A parsed path pattern.  `folded` is how `protect` compares it, `exact` how `public` does."""

    folded: tuple[str, ...]
    exact: tuple[str, ...]
    protects: bool

    @property
    def is_root_page(self) -> bool:
        """Whether this is `/` under `public`: the root page alone."""
        return not self.protects and not self.folded


class RouteTable:
    """The compiled rules.  Immutable but for a bounded memo of resolved combinations."""

    def __init__(self, rules: Sequence[Rule], default: Access) -> None:
        self.rules = tuple(rules)
        self.patterns = tuple(_parsed(rule) for rule in rules)
        self.default = _default_route(default)
        self.root = _Node()
        self.resolved: dict[tuple[int, ...], Route] = {(): self.default}
        for index, pattern in enumerate(self.patterns):
            self.root.insert(pattern.folded, index)

    def matching(self, target: Target) -> tuple[int, ...]:
        """Indices of the rules that hold for the target, an encoded slash being no slash; in ascending order."""
        readings: Iterable[tuple[str, ...]]
        raw = target.segments
        if _ODD.search(target.path) is None:  # nothing to decode and one reading only: the common case
            readings = ((segment,) for segment in target.folded)
        else:
            raw = tuple([segment for segment in target.path.split("/") if segment])
            readings = (tuple(map(ascii_lower, _lenient_readings(segment))) for segment in raw)
        found = self.root.rules_along(readings)
        return tuple(sorted({i for i in found if self.patterns[i].protects or self._is_public(i, target, raw)}))

    def resolve(self, indices: tuple[int, ...]) -> Route:
        """The route where exactly these rules match."""
        route = self.resolved.get(indices)
        if route is None:
            route = self._fold_rules(indices)
            if len(self.resolved) < _MEMO_LIMIT:
                self.resolved[indices] = route
        return route

    def _is_public(self, index: int, target: Target, raw: Sequence[str]) -> bool:
        """Whether every reading of the target, of undecoded segments `raw`, falls under this `public` pattern."""
        pattern = self.patterns[index]
        if pattern.is_root_page:
            return target.path == "/"
        return len(pattern.exact) <= len(raw) and all(
            reading and _matches(part, reading)
            for part, segment in zip(pattern.exact, raw, strict=False)
            for reading in readings_of(segment)
        )

    def _fold_rules(self, indices: tuple[int, ...]) -> Route:
        winners = self._most_specific(indices)
        protected = [i for i in winners if self.patterns[i].protects]
        rules = tuple(self.rules[i] for i in protected or winners)
        named = self._most_specific(tuple(i for i in indices if self.rules[i].upstream is not None))
        # Where an odd spelling falls under patterns that no plain path has in common, the more literal one decides.
        chosen = max(named, key=lambda i: (self.patterns[i].protects, self.patterns[i].folded), default=None)
        upstream = (None if chosen is None else self.rules[chosen].upstream) or ""
        return reduce(join_routes, (_route_of(rule, upstream) for rule in rules))

    def _most_specific(self, indices: tuple[int, ...]) -> tuple[int, ...]:
        def is_outdone(i: int) -> bool:
            return any(j != i and covers(self.patterns[i], self.patterns[j]) for j in indices)

        return tuple(i for i in indices if not is_outdone(i))


def compile_rules(rules: Sequence[Rule], default: Access) -> RouteTable:
    """The table for these rules, which `check_rules` has found without problems."""
    return RouteTable(rules, default)


def match_route(table: RouteTable, target: Target) -> Route | Reason:
    """What holds for this target; ENCODED_SLASH where an encoded slash is not let pass.

    With an encoded slash both readings count: the rule of the path as it stands must say `encoded_slash: pass`, no
    rule of the other reading may reject it, and whatever either reading asks for is asked.
    """
    route = table.resolve(table.matching(target))
    reading = target.slash_reading
    if reading is None:
        return route
    other = table.resolve(table.matching(reading))
    if route.encoded_slash == "reject" or (other.rules and other.encoded_slash == "reject"):
        return Reason.ENCODED_SLASH
    if other.upstream != route.upstream:
        return Reason.ENCODED_SLASH
    if other.access is Access.PUBLIC:
        return route
    return other if route.access is Access.PUBLIC else join_routes(route, other)


def check_rules(rules: Sequence[Rule]) -> list[RuleProblem]:
    """Everything wrong with these rules: bad patterns, the same pattern twice, upstreams that contradict."""
    problems: list[RuleProblem] = []
    patterns: dict[int, Pattern] = {}
    seen: dict[tuple[str, ...], list[int]] = {}
    for index, rule in enumerate(rules):
        pattern = parse_pattern(rule.pattern, protects=rule.access is not Access.PUBLIC)
        if isinstance(pattern, str):
            problems.append(RuleProblem(index, pattern))
            continue
        alike = seen.setdefault(pattern.folded, [])
        twin = next((i for i in alike if _is_same(pattern, patterns[i])), None)
        if twin is not None:
            message = f"{rule.pattern} is the same pattern as {rules[twin].pattern}, which is there already"
            problems.append(RuleProblem(index, message))
            continue
        alike.append(index)
        patterns[index] = pattern
    return problems + _upstream_conflicts(rules, patterns)


def parse_pattern(text: str, *, protects: bool) -> Pattern | str:
    """The pattern, or what is wrong with it."""
    if not text.startswith("/"):
        return f"{text!r} must start with a slash"
    segments = text[1:].split("/") if text != "/" else []
    if segments and segments[-1] == "":
        segments.pop()
    for segment in segments:
        wrong = _segment_problem(segment)
        if wrong:
            return f"{text!r} {wrong}"
    exact = tuple(re.sub(r"\*+", "*", segment).encode().decode("latin-1") for segment in segments)
    return Pattern(tuple(map(fold_segment, exact)), exact, protects)


def covers(outer: Pattern, inner: Pattern) -> bool:
    """Whether all that `inner` covers lies within what `outer` covers."""
    if inner.is_root_page:
        return not outer.folded
    if outer.is_root_page or (inner.protects and not outer.protects):
        return False
    theirs = inner.folded if outer.protects else inner.exact
    ours = outer.folded if outer.protects else outer.exact
    return len(ours) <= len(theirs) and all(map(_segment_covers, ours, theirs))


def join_routes(a: Route, b: Route) -> Route:
    """Both must hold: what either asks for is asked."""
    return Route(
        name=f"{a.name} & {b.name}",
        access=max(a.access, b.access, key=_STRICTNESS.index),
        identity="optional" if "optional" in (a.identity, b.identity) else "none",
        require=Require(
            email_verified=a.require.email_verified or b.require.email_verified,
            two_factor=a.require.two_factor or b.require.two_factor,
            roles=a.require.roles + b.require.roles,
            email_domains=a.require.email_domains + b.require.email_domains,
            organizations=a.require.organizations + b.require.organizations,
        ),
        methods=_common_methods(a.methods, b.methods),
        preflight=_PREFLIGHT_STRICTNESS[max(map(_PREFLIGHT_STRICTNESS.index, (a.preflight, b.preflight)))],
        encoded_slash="reject" if "reject" in (a.encoded_slash, b.encoded_slash) else "pass",
        upstream=a.upstream,
        rules=a.rules + b.rules,
    )


class _Node:
    """One level of the pattern tree; `rules` are the patterns that end here."""

    __slots__ = ("globs", "literals", "rules", "star")

    def __init__(self) -> None:
        self.rules: list[int] = []
        self.literals: dict[str, _Node] = {}
        self.star: _Node | None = None
        self.globs: dict[str, _Node] = {}

    def insert(self, segments: Sequence[str], index: int) -> None:
        node = self
        for segment in segments:
            if segment == "*":
                node.star = node.star or _Node()
                node = node.star
            else:
                kind = node.globs if "*" in segment else node.literals
                node = kind.setdefault(segment, _Node())
        node.rules.append(index)

    def rules_along(self, segments: Iterable[Sequence[str]]) -> list[int]:
        """Every rule whose pattern matches a leading part of these segments in any of their readings.

        A segment with an empty reading may be left out.  Each node is visited once a segment, however it is reached.
        """
        found = list(self.rules)
        level: dict[_Node, None] = {self: None}
        for readings in segments:
            below = {child: None for node in level for text in readings for child in node.children_for(text)}
            for node in below:
                found += node.rules
            level = below | level if "" in readings else below
            if not level:
                break
        return found

    def children_for(self, segment: str) -> Iterator["_Node"]:
        literal = self.literals.get(segment)
        if literal is not None:
            yield literal
        if self.star is not None:
            yield self.star
        for pattern, node in self.globs.items():
            if _matches(pattern, segment):
                yield node

    def children_overlapping(self, pattern: str) -> Iterator["_Node"]:
        """Children whose segment can match a text that `pattern` matches as well."""
        if "*" not in pattern:
            yield from self.children_for(pattern)
            return
        for segment, node in (*self.literals.items(), *self.globs.items()):
            if _segments_overlap(pattern, segment):
                yield node
        if self.star is not None:
            yield self.star


def _lenient_readings(segment: str) -> tuple[str, ...]:
    """The readings of an undecoded segment, those of a backend that never decodes included."""
    literally = readings_of(segment.replace("%", "%25")) if "%" in segment else ()
    return (*literally, *readings_of(segment))


def _common_methods(a: frozenset[str] | None, b: frozenset[str] | None) -> frozenset[str] | None:
    if a is None or b is None:
        return b if a is None else a
    return a & b


def _is_same(a: Pattern, b: Pattern) -> bool:
    """Whether two patterns whose folded segments are equal are one pattern written twice."""
    if a.is_root_page or b.is_root_page:
        return a.is_root_page and b.is_root_page
    return a.protects or b.protects or a.exact == b.exact


def _parsed(rule: Rule) -> Pattern:
    pattern = parse_pattern(rule.pattern, protects=rule.access is not Access.PUBLIC)
    if isinstance(pattern, str):
        raise ValueError(pattern)
    return pattern


def _default_route(access: Access) -> Route:
    return Route("default", access, "none", NO_CONDITION, None, "deny", "reject", "")


def _route_of(rule: Rule, upstream: str) -> Route:
    kind = "public" if rule.access is Access.PUBLIC else "protect"
    name = f"{kind} {rule.pattern}"
    return Route(
        name,
        rule.access,
        rule.identity,
        rule.require,
        rule.methods,
        rule.preflight,
        rule.encoded_slash,
        upstream,
        (rule,),
    )


def _segment_problem(segment: str) -> str | None:
    if segment == "":
        return "has an empty segment"
    if segment in (".", ".."):
        return "has a dot segment"
    odd = sorted(set(segment) & set("%\\?#;"))
    if odd:
        return f"contains {' '.join(odd)}: write the path plainly, decoded and without query or parameters"
    if any(c <= " " or c == "\x7f" for c in segment):
        return "contains a blank or a control character"
    if not fold_segment(segment):
        return "has a segment of dots alone, which many apps drop"
    return None


def _upstream_conflicts(rules: Sequence[Rule], patterns: dict[int, Pattern]) -> list[RuleProblem]:
    """Pairs of one kind that name different upstreams, can match the same path, and neither is more specific."""
    root = _Node()
    named = {i: pattern for i, pattern in patterns.items() if rules[i].upstream is not None}
    for index, pattern in named.items():
        root.insert(pattern.folded, index)
    problems: list[RuleProblem] = []
    for index, pattern in named.items():
        for other in _overlapping(root, pattern):
            if rules[other].upstream == rules[index].upstream or named[other].protects != pattern.protects:
                continue
            if not covers(pattern, named[other]) and not covers(named[other], pattern):
                later, earlier = max(index, other), min(index, other)
                message = (
                    f"{rules[later].pattern} and {rules[earlier].pattern} can match the same path but name different "
                    f"upstreams, {rules[later].upstream} and {rules[earlier].upstream}"
                )
                problems.append(RuleProblem(later, message))
    return list(dict.fromkeys(problems))


def _overlapping(root: _Node, pattern: Pattern) -> list[int]:
    found = list(root.rules)
    level = [root]
    for segment in pattern.folded:
        level = [child for node in level for child in node.children_overlapping(segment)]
        for node in level:
            found += node.rules
    return found


def _matches(pattern: str, segment: str) -> bool:
    """Whether a pattern segment matches a concrete segment, in time linear in the segment."""
    if "*" not in pattern:
        return pattern == segment
    head, *middle, tail = pattern.split("*")
    if not segment.startswith(head) or not segment.endswith(tail) or len(segment) < len(head) + len(tail):
        return False
    at, end = len(head), len(segment) - len(tail)
    for part in middle:
        found = segment.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _segment_covers(outer: str, inner: str) -> bool:
    """Whether every segment that `inner` matches is matched by `outer`.

    A star of `inner` is replaced by a character that no pattern contains: only a star of `outer` can match it, and
    then matches whatever stands there instead.
    """
    return _matches(outer, inner.replace("*", "\x00"))


def _segments_overlap(a: str, b: str) -> bool:
    """Whether some segment is matched by both, where `a` has a star."""
    if "*" not in b:
        return _matches(a, b)
    a_head, b_head = a.partition("*")[0], b.partition("*")[0]
    a_tail, b_tail = a.rpartition("*")[2], b.rpartition("*")[2]
    heads_agree = a_head.startswith(b_head) or b_head.startswith(a_head)
    return heads_agree and (a_tail.endswith(b_tail) or b_tail.endswith(a_tail))
