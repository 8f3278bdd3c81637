"""Reading configurations: every problem at once, at its place, with what to do about it; never a secret."""

import contextlib
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.config.available import unavailable_paths
from gatekeeper.config.load import ConfigError, load_file, load_text
from gatekeeper.config.problems import Problem
from gatekeeper.config.rules import rules_of
from gatekeeper.config.schema import Rate, Secret, Settings
from gatekeeper.core.model import Access
from scripts.settings_table import leaves

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = (ROOT / "config.example.yaml").read_text()
GOOD_SECRET = "kJ8vQ2mX5tR9wZ3bN6yC1pL4fH7gD0sA"
ENVIRON = {"BETTER_AUTH_SECRET": GOOD_SECRET, "EMPTY": ""}
BASE = "upstream: http://127.0.0.1:3000\nsecret: ${BETTER_AUTH_SECRET}\nstore: sqlite:///auth.db\n"


def load(text: str, folder: Path = ROOT) -> Settings:
    return load_text(text, source="c.yaml", base_dir=folder, environ=ENVIRON)


def problems_of(text: str, folder: Path = ROOT) -> list[Problem]:
    with pytest.raises(ConfigError) as raised:
        load(text, folder)
    return list(raised.value.problems)


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


def test_example_loads_and_says_the_defaults() -> None:
    loaded = load(EXAMPLE)
    plain = load(BASE)
    same = ("listen", "session", "sign_in", "identity", "limits", "timeouts", "log", "admin", "websocket", "default")
    for name in same:
        assert getattr(loaded, name) == getattr(plain, name), name


def test_every_setting_stands_in_the_example() -> None:
    for path, *_ in leaves(Settings):
        if path.startswith("upstreams.*"):
            continue
        name = path.rpartition(".")[2]
        assert f"{name}:" in EXAMPLE, path


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
    (found,) = problems_of(text.replace("file: secret", "file: other"), tmp_path)
    assert (found.path, found.line, found.message) == ("secret", 2, "cannot read other: No such file or directory")


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
        pytest.param(BASE + "workers: two\n", 4, "workers", "expected a whole number or auto", id="number"),
        pytest.param(BASE + "workers: -1\n", 4, "workers", "expected a whole number or auto", id="negative"),
        pytest.param(BASE + "workers: 0\n", 4, "workers", "at least one worker", id="no-worker"),
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
            BASE + "protect: [{path: /a, methods: [get]}]\n", 4, "protect[0].methods", "in capitals", id="method"
        ),
        pytest.param(
            BASE + "protect: [{path: /a, methods: []}]\n", 4, "protect[0].methods", "no method at all", id="none"
        ),
        pytest.param(
            BASE + "protect: [{path: /a, require: {email_domains: ['@x.y']}}]\n",
            4,
            "protect[0].require.email_domains",
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


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("127.0.0.1:3000", "expected scheme, host and port"),
        ("ftp://host", "expected scheme, host and port"),
        ("http://", "expected scheme, host and port"),
        ("http://user:pw@host", "user and password"),
        ("http://host/path", "has no path"),
        ("http://host?x", "has no path"),
        ("http://host:x", "this is no URL"),
        ("http://host:0", "port 0 is none"),
        ("http://127.0.0.1:8080", "the gate's own address"),
        ("http://localhost:8080", "the gate's own address"),
        ("https://host", "only http:// upstreams are available yet"),
    ],
)
def test_upstream_urls(url: str, message: str) -> None:
    (found,) = problems_of(BASE.replace("http://127.0.0.1:3000", f"'{url}'"))
    assert found.path == "upstream.url"
    assert message in found.message


@pytest.mark.parametrize(
    ("secret", "weak"),
    [
        (GOOD_SECRET, False),
        ("tiny", True),
        ("a" * 40, True),
        ("better-auth-secret-12345678901234567890", True),
        ("change-me-change-me-change-me-change-me", True),
        ("x" * 31, True),
    ],
)
@pytest.mark.parametrize(
    ("listen", "loopback"), [("127.0.0.1:8080", True), ("[::1]:8080", True), ("0.0.0.0:8080", False)]
)
def test_weak_secrets_are_for_loopback_alone(secret: str, weak: bool, listen: str, loopback: bool) -> None:
    text = f"listen: '{listen}'\nupstream: http://localhost:3000\nsecret: {secret}\nstore: sqlite:///a.db\n"
    if weak and not loopback:
        (found,) = problems_of(text)
        assert found.path == "secret"
        assert secret not in str(found)
        assert "openssl rand" in found.message
    else:
        assert load(text).secrets[0].value == secret


def test_empty_secret_is_refused_even_on_loopback() -> None:
    text = "listen: 127.0.0.1:1\nupstream: http://localhost:3000\nsecret: ''\nstore: sqlite:///a.db\n"
    assert "the secret is empty" in problems_of(text)[0].message


def test_weak_secret_with_a_public_url_or_upstream_elsewhere_is_refused() -> None:
    text = "listen: 127.0.0.1:1\nupstream: {url}\nsecret: weak\nstore: sqlite:///a.db\n"
    assert problems_of(text.format(url="http://10.0.0.5:3000"))[0].path == "secret"
    public = text.format(url="http://localhost:3000") + "public_url: https://app.test\n"
    assert problems_of(public)[0].path == "secret"


def test_secret_versions_are_unique() -> None:
    listed = f"secrets: [{{version: 1, value: {GOOD_SECRET}}}, {{version: 1, value: {GOOD_SECRET[::-1]}}}]"
    (found,) = problems_of(BASE.replace("secret: ${BETTER_AUTH_SECRET}", listed))
    assert (found.path, found.message) == ("secrets", "version 1 is there 2 times")
    assert "there is no secret" in problems_of(BASE.replace("secret: ${BETTER_AUTH_SECRET}", "secrets: []"))[0].message


ASKING = {
    "tls": "{cert: a, key: b}",
    "workers": "2",
    "accounts.enabled": "true",
    "accounts.sign_up": "true",
    "accounts.smtp": "smtp://h",
    "branding.name": "x",
    "branding.logo": "x",
    "branding.accent": "x",
    "session.extend": "gate",
    "session.serve_get_session": "true",
    "session.bearer": "signed",
    "session.stale_if_error": "5s",
    "store.secondary": "redis://h",
    "keep_fragment": "true",
    "identity.headers": "remote-user",
    "identity.rename": "{a: b}",
    "identity.assertion.keys": "x",
    "identity.assertion.algorithm": "EdDSA",
    "identity.assertion.ttl": "5m",
    "forward_auth.envoy_grpc": "127.0.0.1:1",
    "limits.connections": "5",
    "limits.per_address": "5",
    "limits.sign_in_attempts": "9/1m",
    "timeouts.headers": "5s",
    "timeouts.body_idle": "5s",
    "timeouts.drain": "5s",
    "timeouts.drain_delay": "1s",
    "admin.listen": "127.0.0.1:1",
    "admin.token": "x",
    "log.format": "json",
    "log.file": "x",
}


@pytest.mark.parametrize("path", list(ASKING))
def test_what_is_not_available_yet_is_refused(path: str) -> None:
    base = BASE.replace("store: sqlite:///auth.db", "store: {url: sqlite:///auth.db}")
    tree = yaml.safe_load(base.replace("${BETTER_AUTH_SECRET}", GOOD_SECRET))
    *parents, name = path.split(".")
    inner = tree
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[name] = yaml.safe_load(ASKING[path])
    found = problems_of(yaml.safe_dump(tree))
    assert [(problem.path, problem.message) for problem in found] == [(path, "this is not available yet")]


def test_every_row_of_what_is_not_available_is_tried() -> None:
    tried = set(ASKING) | {"tls.cert", "tls.key"}
    assert {path for path in unavailable_paths() if "upstream" not in path and "[]" not in path} == tried


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ("upstreams: {a: {url: http://h, tls: {ca: x}}}\n", "upstreams.a.tls"),
        ("protect: [{path: /a, require: {organizations: [x]}}]\n", "protect[0].require.organizations"),
        ("listen: unix:/run/x.sock\n", "listen"),
    ],
)
def test_other_things_not_available_yet(more: str, path: str) -> None:
    (found,) = problems_of(BASE + more)
    assert found.path == path
    assert "not available yet" in found.message


@pytest.mark.parametrize("url", ["postgresql://h/d", "mysql://h/d", "redis://h", "https://app/api/auth", "nonsense"])
def test_other_stores_are_not_available_yet(url: str) -> None:
    (found,) = problems_of(BASE.replace("sqlite:///auth.db", url))
    assert (found.path, found.line) == ("store.url", 3)
    assert "not available yet" in found.message


def test_index_of_a_rule_is_that_of_the_file_behind_a_broken_one() -> None:
    found = problems_of(BASE + "protect:\n  - {access: fresh}\n  - bad\n")
    assert [(problem.line, problem.path) for problem in found] == [(5, "protect[0]"), (6, "protect[1].path")]


def test_what_unfolds_without_end_is_refused() -> None:
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    laughs += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    assert any("too large or too deep" in found.message for found in problems_of(laughs))
    assert any("too large or too deep" in found.message for found in problems_of("a: " + "[" * 50 + "]" * 50))


def test_no_message_shows_a_secret() -> None:
    text = FIVE.replace("${BETTER_AUTH_SECRET}", "hunter2hunter2") + "admin: {token: [hunter2]}\nsecrets: hunter2x\n"
    text += "accounts: {smtp: 'smtp://u:hunter2@h'}\n"
    assert "hunter2" not in "\n".join(str(found) for found in problems_of(text)).replace("not 'hunter2x'", "")


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
    found: tuple[Problem, ...] = ()
    try:
        load(text)
    except ConfigError as error:
        found = error.problems
    assert all(1 <= problem.line <= text.count("\n") + 2 for problem in found)
