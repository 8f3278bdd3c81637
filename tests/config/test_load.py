"""Reading configurations: every problem at once, at its place, with what to do about it; never a secret."""

import contextlib
import random
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.config.load import ConfigError, load_file
from gatekeeper.config.problems import Problem
from gatekeeper.config.rules import rules_of
from gatekeeper.config.schema import Rate, Secret
from gatekeeper.core.model import Access
from tests.config.loading import BASE, EXAMPLE, GOOD_SECRET, ROOT, load, problems_of


def test_the_four_lines() -> None:
    loaded = load(BASE + "protect: [/dashboard, /settings]\n")
    assert loaded.upstream.url == "http://127.0.0.1:3000"
    assert loaded.secrets == (Secret(1, GOOD_SECRET),)
    assert loaded.store.url == f"sqlite:///{ROOT / 'auth.db'}"
    assert [rule.path for rule in loaded.protect] == ["/dashboard", "/settings"]
    assert loaded.listen == "0.0.0.0:8080"
    assert (loaded.session.expires_in, loaded.session.update_age, loaded.session.fresh_age) == (172_800, 86_400, 86_400)
    assert (loaded.limits.header_bytes, loaded.limits.sign_in_attempts) == (65_536, Rate(5, 60))  # type: ignore[arg-type]
    assert repr(loaded.secrets[0]) == "Secret(version=1)"


def test_short_and_long_forms_are_equal() -> None:
    long = """
upstream: {url: http://127.0.0.1:3000}
secrets: [{version: 1, value: "${BETTER_AUTH_SECRET}"}]
store: {url: sqlite:///auth.db}
protect: [{path: /a}]
public: [{path: /a/b}]
upstreams: {api: {url: http://127.0.0.1:4000}}
"""
    short = BASE + "protect: [/a]\npublic: [/a/b]\nupstreams: {api: http://127.0.0.1:4000}\n"
    assert load(long) == load(short)


def test_rules_become_those_of_the_core() -> None:
    loaded = load(
        BASE
        + "upstreams: {api: http://127.0.0.1:4000}\n"
        + "protect: [{path: /a, access: fresh, methods: [GET], preflight: answer, encoded_slash: pass, upstream: api,"
        + " require: {email_verified: yes, two_factor: on, roles: [x, y], email_domains: [Ex.COM]}}]\n"
        + "public: [{path: /b, identity: optional}]\n"
    )
    first, second = rules_of(loaded)
    assert (first.pattern, first.access, first.methods, first.upstream) == ("/a", Access.FRESH, {"GET"}, "api")
    assert (first.preflight, first.encoded_slash) == ("answer", "pass")
    assert first.require.email_verified
    assert first.require.two_factor
    assert (first.require.roles, first.require.email_domains) == (({"x", "y"},), ({"ex.com"},))
    assert (second.access, second.identity) == (Access.PUBLIC, "optional")


@pytest.mark.parametrize(
    ("more", "path", "value"),
    [
        ("log: {level: '${LEVEL:-debug}'}", "log.level", "debug"),
        ("log: {file: logs/gate.log}", "log.file", str(ROOT / "logs" / "gate.log")),
        ("log: {file: /var/log/gate.log}", "log.file", "/var/log/gate.log"),
        ("log: {format: json}", "log.format", "json"),
        ("admin: {listen: null}", "admin.listen", None),
        ("log: {level: '${EMPTY:-error}'}", "log.level", "error"),
        ("limits: {body_bytes: 10MB}", "limits.body_bytes", 10_000_000),
        ("limits: {body_bytes: '${SIZE:-1KiB}'}", "limits.body_bytes", 1024),
        ("timeouts: {keep_alive: 1h}", "timeouts.keep_alive", 3600),
        ("session: {fresh_age: 0}", "session.fresh_age", 0),
        ("session: {cookie: {secure: yes}}", "session.cookie.secure", True),
        ("session: {cookie: {secure: auto}}", "session.cookie.secure", "auto"),
        ("session: {cookie_cache: {version: 7}}", "session.cookie_cache.version", "7"),
        ("public_url: null", "public_url", None),
        ("protect:", "protect", ()),
        ("upstreams:", "upstreams", {}),
        ("listen: '[::1]:80'", "listen", "[::1]:80"),
        ("session:", "session.extend", "app"),
        ("branding: {}", "branding.name", None),
        ("tls: {}", "tls", None),
        ("tls: ''", "tls", None),
        ("admin: {token: ''}", "admin.token", None),
        ("websocket: {origins: }", "websocket.origins", ()),
        ("limits: {per_address: null}", "limits.per_address", None),
        ("sign_in: /sign-in?from=gate", "sign_in", "/sign-in?from=gate"),
        ("accounts: {base_path: /auth}", "accounts.base_path", "/auth"),
        ("trusted_proxies: [10.0.0.0/8, '::1', unix]", "trusted_proxies", ("10.0.0.0/8", "::1", "unix")),
    ],
)
def test_values(more: str, path: str, value: object) -> None:
    found: Any = load(BASE + more + "\n")
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value


def test_values_from_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(GOOD_SECRET + "\n")
    text = BASE.replace("secret: ${BETTER_AUTH_SECRET}", "secret: {file: secret}")
    assert load(text, tmp_path).secrets[0].value == GOOD_SECRET
    assert load(BASE + "workers: {file: one}\n", _folder_with(tmp_path, "one", "1\r\n")).workers == 1
    assert load(BASE + "workers: {file: two}\n", _folder_with(tmp_path, "two", "auto\n")).workers == "auto"
    assert load(BASE + "session: {cookie: {secure: {file: no}}}\n", _folder_with(tmp_path, "no", "false")) is not None
    (found,) = problems_of(text.replace("file: secret", "file: other"), tmp_path)
    assert (found.path, found.line, found.message) == ("secret", 2, "cannot read other: No such file or directory")


def _folder_with(folder: Path, name: str, content: str) -> Path:
    (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".", "cannot read .: Is a directory"),
        ("long", "cannot read long: it is longer than 64 KiB"),
        ("odd", "cannot read odd: it is not UTF-8 text"),
        ('"a\\0b"', "cannot read 'a\\x00b': no path holds a NUL"),
        ("", "expected the path of a file"),
        ("[a]", "expected the path of a file"),
        ("/dev/zero", "cannot read /dev/zero: it is longer than 64 KiB"),
    ],
)
def test_files_that_hold_no_value(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "long").write_text("x" * 65_537)
    (tmp_path / "odd").write_bytes(b"\xff")
    (found,) = problems_of(BASE.replace("${BETTER_AUTH_SECRET}", f"{{file: {name}}}"), tmp_path)
    assert (found.path, found.line, found.message) == ("secret", 2, reason)


FIVE = """\
upstrem: http://127.0.0.1:3000
secret: ${BETTER_AUTH_SECRET}
store: sqlite:///auth.db
session:
  update_age: 5
protect:
  - /dashboard
  - {path: /admin, acces: fresh}
  - dashboard
default: pubic
"""


def test_five_mistakes_are_five_problems_at_their_places() -> None:
    assert [(found.line, found.column, found.path) for found in problems_of(FIVE)] == [
        (1, 1, "upstrem"),
        (5, 15, "session.update_age"),
        (8, 20, "protect[1].acces"),
        (9, 5, "protect[2].path"),
        (10, 10, "default"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "path", "message"),
    [
        pytest.param("", 1, "", "the file is empty", id="empty"),
        pytest.param("# nothing\n", 1, "", "the file is empty", id="comment-alone"),
        pytest.param("[a, b]", 1, "", "expected settings, one a line", id="list"),
        pytest.param("just text", 1, "", "expected settings, one a line", id="text"),
        pytest.param("a: [\n", 2, "", "this is no YAML", id="syntax"),
        pytest.param("a:\n\t- b\n", 2, "", "this is no YAML", id="tab"),
        pytest.param(BASE + "---\na: b\n", 5, "", "there is a second YAML document", id="two-documents"),
        pytest.param(BASE + "listen: a:1\nlisten: b:1\n", 5, "listen", "this key is there already", id="twice"),
        pytest.param(BASE + "? [a]\n: b\n", 4, "", "a key must be a plain name", id="odd-key"),
        pytest.param("secret: x\nstore: sqlite:///a\n", 1, "", "upstream is missing", id="no-upstream"),
        pytest.param("upstream: http://127.0.0.1:1\nsecret: x\n", 1, "", "store is missing", id="no-store"),
        pytest.param("upstream: http://127.0.0.1:1\nstore: sqlite:///a\n", 1, "", "there is no secret", id="no-secret"),
        pytest.param(BASE + "secrets: []\n", 2, "secret", "there are both secret and secrets", id="both-secrets"),
        pytest.param(BASE + "listen: ${NOPE}\n", 4, "listen", "the environment variable NOPE is not set", id="unset"),
        pytest.param(BASE + "listen: ${no-name}\n", 4, "listen", "names no environment variable", id="odd-variable"),
        pytest.param(BASE + "protect: [${X}]\n", 4, "", "this is no YAML", id="unquoted-in-a-list"),
        pytest.param(BASE + "log: {level: ${X}}\n", 4, "", "this is no YAML", id="unquoted-in-a-mapping"),
        pytest.param(BASE + "a: \x01\n", 4, "", "an unprintable character, U+0001", id="control"),
        pytest.param(BASE + "a: \udc80\n", 4, "", "an unprintable character, U+DC80", id="surrogate"),
        pytest.param(BASE + "log: {level: {X}}\n", 4, "log.level", "YAML reads {…} here as a mapping", id="no-dollar"),
        pytest.param(BASE + "listen: !x y\n", 4, "listen", "as a tag", id="tag"),
        pytest.param(BASE + "accounts: {base_path: x}\n", 4, "accounts.base_path", "expected a path", id="base-path"),
        pytest.param(BASE + "accounts: {base_path: //x}\n", 4, "accounts.base_path", "one slash", id="base-path-2"),
        pytest.param(
            BASE + "trusted_proxies: ['::ffff:0:0/96']\n", 4, "trusted_proxies[0]", "trusts everybody", id="all-mapped"
        ),
        pytest.param(
            BASE + "trusted_origins: ['https://*.a.test']\n", 4, "trusted_origins[0]", "exact origin", id="star-origin"
        ),
        pytest.param(
            BASE + "default: session\npublic: [/sign-in, /api/auth/get-session]\n",
            4,
            "default",
            "must be listed under public",
            id="api-in-part",
        ),
        pytest.param(BASE + "workers: two\n", 4, "workers", "expected a whole number or auto", id="number"),
        pytest.param(BASE + "workers: -1\n", 4, "workers", "expected a whole number or auto", id="negative"),
        pytest.param(BASE + "workers: 0\n", 4, "workers", "at least one worker", id="no-worker"),
        pytest.param(BASE + "workers: 257\n", 4, "workers", "at most 256 workers are possible", id="workers"),
        pytest.param(BASE + "keep_fragment: maybe\n", 4, "keep_fragment", "expected true or false", id="boolean"),
        pytest.param(
            BASE + "timeouts: {keep_alive: 5}\n", 4, "timeouts.keep_alive", "expected a duration", id="duration"
        ),
        pytest.param(BASE + "timeouts: {keep_alive: 0}\n", 4, "timeouts.keep_alive", "longer than nothing", id="zero"),
        pytest.param(BASE + "limits: {body_bytes: 5 bananas}\n", 4, "limits.body_bytes", "expected a size", id="size"),
        pytest.param(
            BASE + "limits: {sign_in_attempts: 5}\n", 4, "limits.sign_in_attempts", "expected a rate", id="rate"
        ),
        pytest.param(BASE + "log: {level: inof}\n", 4, "log.level", "expected one of debug, info", id="enum"),
        pytest.param(BASE + "log: loud\n", 4, "log", "expected a mapping, not 'loud'", id="mapping"),
        pytest.param(BASE + "protect: /a\n", 4, "protect", "expected a list, not '/a'", id="list-of-rules"),
        pytest.param(BASE + "upstreams: [a]\n", 4, "upstreams", "expected a mapping, not a list", id="names"),
        pytest.param(BASE + "listen: [a]\n", 4, "listen", "expected a text, not a list", id="text-is-a-list"),
        pytest.param(BASE + "listen:\n", 4, "listen", "expected a text, not nothing", id="nothing"),
        pytest.param(BASE + "listen: 8080\n", 4, "listen", "expected host:port", id="port-alone"),
        pytest.param(BASE + "listen: a:99999\n", 4, "listen", "expected host:port", id="port-too-large"),
        pytest.param(BASE + "protect: [{access: fresh}]\n", 4, "protect[0]", "path is missing", id="rule-without-path"),
        pytest.param(
            BASE + "protect: [{path: /a, access: public}]\n", 4, "protect[0].access", "expected one of", id="public"
        ),
        pytest.param(BASE + "protect: [/a, /a/]\n", 4, "protect[1].path", "is the same pattern as /a", id="same-twice"),
        pytest.param(
            BASE + "protect: [/a]\npublic: [/a]\n", 5, "public[0].path", "is the same pattern", id="same-in-both"
        ),
        pytest.param(BASE + "protect: [/..]\n", 4, "protect[0].path", "has a dot segment", id="dots"),
        pytest.param(BASE + "protect: [/%61]\n", 4, "protect[0].path", "contains %", id="escape"),
        pytest.param(
            BASE + "protect: [{path: /a, upstream: nope}]\n",
            4,
            "protect[0].upstream",
            "no upstream 'nope'",
            id="upstream",
        ),
        pytest.param(
            BASE + "protect: [{path: /a, methods: [get]}]\n", 4, "protect[0].methods[0]", "in capitals", id="method"
        ),
        pytest.param(
            BASE + "protect: [{path: /a, methods: []}]\n", 4, "protect[0].methods", "no method at all", id="none"
        ),
        pytest.param(
            BASE + "protect: [{path: /a, require: {email_domains: ['@x.y']}}]\n",
            4,
            "protect[0].require.email_domains[0]",
            "is no domain",
            id="domain",
        ),
        pytest.param(BASE + "protect: [/sign-in]\n", 4, "protect[0].path", "nobody could sign in", id="sign-in"),
        pytest.param(BASE + "protect: [/]\n", 4, "protect[0].path", "nobody could sign in", id="whole-site"),
        pytest.param(
            BASE + "sign_in: //evil\n", 4, "sign_in", "expected a path with one slash", id="sign-in-elsewhere"
        ),
        pytest.param(BASE + "sign_in: https://sso.test/in\n", 4, "sign_in", "one of the trusted_origins", id="foreign"),
        pytest.param(
            BASE + "default: session\npublic: [/sign-in]\n", 4, "default", "must be listed under public", id="no-api"
        ),
        pytest.param(
            BASE + "default: session\npublic: [/api/auth]\n",
            4,
            "default",
            "nobody could sign in",
            id="no-sign-in",
        ),
        pytest.param(
            BASE + "trusted_proxies: [0.0.0.0/0]\n", 4, "trusted_proxies[0]", "trusts everybody", id="trusts-everybody"
        ),
        pytest.param(
            BASE + "trusted_proxies: ['::/0']\n", 4, "trusted_proxies[0]", "trusts everybody", id="trusts-all-v6"
        ),
        pytest.param(
            *(BASE + "trusted_proxies: [0.0.0.0/1, 10.0.0.1, 128.0.0.0/1]\n", 4, "trusted_proxies"),
            "together these trust everybody",
            id="trusts-everybody-in-halves",
        ),
        pytest.param(
            BASE + "trusted_proxies: [proxy]\n", 4, "trusted_proxies[0]", "expected an address", id="proxy-name"
        ),
        pytest.param(
            BASE + "trusted_origins: ['https://a.test/']\n", 4, "trusted_origins[0]", "like https://a.test", id="origin"
        ),
        pytest.param(
            BASE + "websocket: {origins: ['*']}\n", 4, "websocket.origins[0]", "expected an exact origin", id="wildcard"
        ),
        pytest.param(BASE + "public_url: app.test\n", 4, "public_url", "expected an origin", id="public-url"),
        pytest.param(BASE + "public_url: https://a.test/x\n", 4, "public_url", "expected an origin", id="public-path"),
        pytest.param(
            BASE + "public_url: https://a.test\nsession: {cookie: {secure: false}}\n",
            5,
            "session.cookie.secure",
            "must be Secure",
            id="insecure",
        ),
        pytest.param(
            BASE + "session: {cookie: {same_site: none}}\n",
            4,
            "session.cookie.same_site",
            "needs Secure",
            id="same-site",
        ),
        pytest.param(
            BASE + "session: {cookie: {prefix: 'a b'}}\n", 4, "session.cookie.prefix", "cookie name", id="prefix"
        ),
        pytest.param(
            BASE + "session: {cookie: {domain: a/b}}\n", 4, "session.cookie.domain", "a domain", id="domain-name"
        ),
        pytest.param(BASE + "session: {expires_in: 0}\n", 4, "session.expires_in", "longer than nothing", id="no-life"),
        pytest.param(
            BASE + "session: {update_age: 3d}\n", 4, "session.update_age", "never be extended", id="update-age"
        ),
        pytest.param(
            BASE + "session: {extend: gate, expires_in: 401d}\n",
            4,
            "session.expires_in",
            "400 days",
            id="too-long-life",
        ),
        pytest.param(
            BASE + "session: {extend: gate, cookie_cache: {max_age: 0}}\n",
            4,
            "session.cookie_cache.max_age",
            "a second at least",
            id="no-cookie-age",
        ),
        pytest.param(BASE + "limits: {header_bytes: 10}\n", 4, "limits.header_bytes", "no browser", id="header-bytes"),
        pytest.param(
            BASE + "session: {memory_cache: {entries: 0}}\n",
            4,
            "session.memory_cache.entries",
            "at least one entry",
            id="entries",
        ),
        pytest.param(
            BASE + "upstreams: {'a b': http://h}\n", 4, "upstreams.a b", "letters, digits", id="upstream-name"
        ),
    ],
)
def test_single_mistakes(text: str, line: int, path: str, message: str) -> None:
    found = problems_of(text)
    assert message in "\n".join(problem.message for problem in found)
    first = next(problem for problem in found if message in problem.message)
    assert (first.line, first.path) == (line, path)


def test_index_behind_an_item_whose_variable_is_not_set() -> None:
    found = problems_of(BASE + "protect:\n  - ${NOPE}\n  - bad\n  - {path: /b, methods: [GET, [], get]}\n")
    assert [(problem.line, problem.path) for problem in found] == [
        (5, "protect[0]"),
        (6, "protect[1].path"),
        (7, "protect[2].methods[1]"),
        (7, "protect[2].methods[2]"),
    ]


def test_index_of_a_rule_is_that_of_the_file_behind_a_broken_one() -> None:
    found = problems_of(BASE + "protect:\n  - {access: fresh}\n  - bad\n")
    assert [(problem.line, problem.path) for problem in found] == [(5, "protect[0]"), (6, "protect[1].path")]


def test_what_unfolds_without_end_is_refused() -> None:
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    laughs += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    for text in (laughs, "a: " + "[" * 50 + "]" * 50, "a: &a [*a]", "a: &a {b: *a}"):
        (found,) = problems_of(text)
        assert "too large or too deep" in found.message
    # Deep enough to overflow the stack of a composer in C, were it asked.
    for piece in ("[", "{a: ", "- "):
        assert [found.line for found in problems_of(piece * 200_000)] == [1]


def test_relative_paths_count_from_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "c.yaml").write_text(BASE)
    loaded = load_file(Path("etc/c.yaml"), {"BETTER_AUTH_SECRET": GOOD_SECRET})
    assert loaded.store.url == f"sqlite:///{tmp_path}/etc/auth.db"


def test_anchors_and_aliases() -> None:
    text = BASE + "protect: [{path: /a, methods: &some [GET]}, {path: /b, methods: *some}]\n"
    assert [rule.methods for rule in load(text).protect] == [("GET",), ("GET",)]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_file(tmp_path / "none.yaml", {})
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="it is not UTF-8 text"):
        load_file(path, {})


def test_a_problem_as_text_and_for_json() -> None:
    found = Problem("c.yaml", "a.b", 3, 5, "is wrong", "do better")
    assert str(found) == "c.yaml:3:5: a.b: is wrong; do better"
    assert str(msgspec.structs.replace(found, path="", hint=None)) == "c.yaml:3:5: is wrong"
    assert found.as_dict()["line"] == 3


@given(st.text(max_size=200))
def test_law_any_text_loads_or_is_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        load(text)


@settings(max_examples=150)
@given(
    st.randoms(), st.sampled_from(["", "x", "[", "{", "}", ":", "-", "\n", "\t", "${X}", "&a", "*a", "'", "0", "null"])
)
def test_law_a_mutated_example_loads_or_is_refused(chance: random.Random, piece: str) -> None:
    at = chance.randrange(len(EXAMPLE))
    text = EXAMPLE[:at] + piece + EXAMPLE[at + chance.randrange(4) :]
    lines = text.split("\n")
    for problem in _problems_or_none(text):
        assert 1 <= problem.line <= len(lines) + 1
        assert problem.line > len(lines) or problem.column <= len(lines[problem.line - 1]) + 1


_ODD_VALUES = (
    *("", "null", "[]", "{}", "[x]", "{x: y}", "{file: nope}", "${NOPE}", "-1", "0", "1e9", "yes", "!x y", '"a\\0b"'),
)
_SETTING = re.compile(r"( *[a-z_]+: )(\S.*)")


@settings(max_examples=300)
@given(st.data())
def test_law_an_odd_value_anywhere_loads_or_is_refused_at_its_line(data: st.DataObject) -> None:
    """One setting of the example gets a value that it was not made for: the problems stand in that line."""
    lines = EXAMPLE.split("\n")
    number = data.draw(st.sampled_from([i for i, line in enumerate(lines) if _SETTING.fullmatch(line)]))
    value = data.draw(st.sampled_from(_ODD_VALUES) | st.text(st.characters(codec="utf-8", exclude_categories=["C"])))
    lines[number] = _SETTING.sub(lambda match: f"{match[1]}{value}", lines[number])
    found = _problems_or_none("\n".join(lines))
    others = ("api:", "default:", "expires_in:", "path:", "listen:", "upstream:")  # have to fit something elsewhere
    others_depend_on_it = any(name in lines[number] for name in others)
    if found and not others_depend_on_it and not found[0].message.startswith("this is no YAML"):
        assert {problem.line for problem in found} == {number + 1}


def _problems_or_none(text: str) -> tuple[Problem, ...]:
    try:
        load(text)
    except ConfigError as error:
        return error.problems
    return ()
