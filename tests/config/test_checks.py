"""What types cannot say: URLs, origins, secrets, and how settings fit together."""

import pytest

from gatekeeper.config.load import ConfigError, load_text
from tests.config.loading import BASE, GOOD_SECRET, ROOT, load, problems_of


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
        ("http://host?", "has no path"),
        ("http://host#", "has no path"),
        ("http://[::1", "this is no URL"),
        ("http://[x]", "this is no URL"),
        ("http://a b", "this is no URL"),
        ("http://a\\b", "this is no URL"),
        ("http://bücher", "xn-- form"),
        ("http://0.0.0.0:8080", "the gate's own address"),
        ("unix:", "like unix:/run/app.sock"),
        ("unix:app.sock", "like unix:/run/app.sock"),
        ("http://127.0.0.1:8080", "the gate's own address"),
        ("http://localhost:8080", "the gate's own address"),
    ],
)
def test_upstream_urls(url: str, message: str) -> None:
    (found,) = problems_of(BASE.replace("http://127.0.0.1:3000", f"'{url}'"))
    assert found.path == "upstream.url"
    assert message in found.message


@pytest.mark.parametrize(
    ("listen", "upstream", "is_own"),
    [
        ("127.0.0.1:3000", "http://127.0.0.1:3000", True),
        ("127.0.0.1:3000", "http://localhost:3000", True),
        ("localhost:3000", "http://0.0.0.0:3000", True),
        ("'[::]:3000'", "http://127.0.0.2:3000", True),
        ("app.test:80", "http://APP.test", True),
        ("127.0.0.1:443", "https://localhost", True),
        ("127.0.0.1:80", "https://localhost", False),
        ("127.0.0.1:443", "http://localhost", False),
        ("unix:/run/a.sock", "unix:/run/a.sock", True),
        ("unix:/run/a.sock", "unix:/run/b.sock", False),
        ("127.0.0.1:3000", "http://127.0.0.2:3000", False),
        ("127.0.0.1:3000", "http://127.0.0.1:3001", False),
        ("10.0.0.1:3000", "http://10.0.0.2:3000", False),
    ],
)
def test_own_address_as_upstream(listen: str, upstream: str, is_own: bool) -> None:
    text = f"listen: {listen}\n" + BASE.replace("http://127.0.0.1:3000", upstream)
    if is_own:
        assert "own address" in problems_of(text)[0].message
    else:
        assert load(text).upstream.url == upstream


@pytest.mark.parametrize(
    "sign_in",
    [
        "//evil",
        "/\\\\evil",
        "/sign-in#x",
        "/sign%2fin",
        "/sign\u00fcn",
        "sign-in",
        "https://sso.test/in\\r\\nX: y",
        "https://u@sso.test/in",
        "https://sso.test/in x",
        "https://sso.test/in#x",
        "https://sso.test.evil/in",
        "https://sso.test:8443/in",
        "javascript:alert(1)",
        "",
    ],
)
def test_sign_in_elsewhere(sign_in: str) -> None:
    (found,) = problems_of(BASE + f'trusted_origins: ["https://sso.test"]\nsign_in: "{sign_in}"\n')
    assert (found.path, found.line, found.column) == ("sign_in", 5, 10)


def test_sign_in_at_trusted_origins_and_at_home() -> None:
    trusted = BASE + "trusted_origins: [https://sso.test]\nsign_in: https://sso.test/in?a=b\n"
    assert load(trusted).sign_in == "https://sso.test/in?a=b"
    home = BASE + "public_url: https://app.test\nsign_in: https://app.test/in\n"
    assert load(home).sign_in == "https://app.test/in"
    assert "nobody could sign in" in problems_of(home + "protect: [/in]\n")[0].message


@pytest.mark.parametrize(
    ("url", "is_fine"),
    [
        ("sqlite:///auth.db", True),
        ("sqlite:////srv/auth.db", True),
        ("sqlite:///a b/ü%.db", True),
        ("sqlite://auth.db", False),
        ("sqlite:auth.db", False),
        ("sqlite:///", False),
        ("sqlite://", False),
        ("sqlite:///:memory:", False),
        ("sqlite:///a.db?mode=rw", False),
        ("sqlite:///a\\0b", False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_urls_of_files(url: str, is_fine: bool) -> None:
    text = BASE.replace("sqlite:///auth.db", f'"{url}"')
    if is_fine:
        assert load(text).store.url == f"sqlite:///{(ROOT / url.removeprefix('sqlite:///')).absolute()}"
    else:
        (found,) = problems_of(text)
        assert (found.path, found.line, found.column) == ("store.url", 3, 8)
        assert "sqlite:///auth.db" in found.message


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://gate:secret@127.0.0.1:5432/auth?sslmode=disable",
        "mariadb://gate:secret@127.0.0.1/auth?timezone=Europe/Berlin",
        "redis://:secret@127.0.0.1:6379/1?prefix=app%3A",
        "rediss://gate:secret@redis.internal",
        "unix:///run/redis/redis.sock",
        "http://127.0.0.1:3000/api/auth",
        "https://app.example.com/api/auth",
    ],
)
def test_other_stores(url: str) -> None:
    assert load(BASE.replace("sqlite:///auth.db", url)).store.url == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "mysql://gate:s3cr3t@127.0.0.1",
            "expected the name of a database at the end: mysql://user:password@host/name",
        ),
        ("redis://gate:s3/cr3t@127.0.0.1", "the Redis URL is not understood: its port is no number"),
        ("redis://", "the Redis URL is not understood: it names no host"),
        ("https://", "expected the base path of an app's Better Auth: http(s)://host/api/auth"),
        ("http://app/api/auth?ca=/x", "http://app/api/auth: the only parameter of this URL is ca, a file, for https"),
        ("mongodb://gate:s3cr3t@h/d", "expected a URL: sqlite:///auth.db, postgresql://…, mysql://…, redis://…, or"),
        ("redis:127.0.0.1", "expected a URL: sqlite:///auth.db, postgresql://"),
    ],
)
def test_urls_of_stores_that_are_wrong(url: str, message: str) -> None:
    (found,) = problems_of(BASE.replace("sqlite:///auth.db", url))
    assert (found.path, found.line) == ("store.url", 3)
    assert found.message.startswith(message)
    assert "s3" not in str(found).replace("s3cr3t@h/d", "")


@pytest.mark.parametrize("url", ["sqlite:///auth.db", "postgresql://h/d", "mysql://h/d"])
def test_a_redis_in_front_of_a_database(url: str) -> None:
    loaded = load(BASE.replace("store: sqlite:///auth.db", f"store: {{url: '{url}', secondary: 'redis://h'}}"))
    assert loaded.store.secondary == "redis://h"


@pytest.mark.parametrize(
    ("store", "path", "message"),
    [
        ("{url: 'redis://h', secondary: 'redis://h'}", "store.secondary", "this stands in front of a database"),
        ("{url: 'sqlite:///a.db', secondary: 'http://h'}", "store.secondary", "expected a Redis: redis://host:6379"),
        ("{url: 'sqlite:///a.db', secondary: 'redis://h/x'}", "store.secondary", "the Redis URL is not understood"),
        ("{url: 'redis://h', tables: {user: users}}", "store", "tables and columns are those of a database"),
        ("{url: 'http://h', columns: {user: {name: n}}}", "store", "tables and columns are those of a database"),
    ],
)
def test_settings_of_stores_that_do_not_fit_together(store: str, path: str, message: str) -> None:
    (found,) = problems_of(BASE.replace("store: sqlite:///auth.db", f"store: {store}"))
    assert found.path == path
    assert found.message.startswith(message)


@pytest.mark.parametrize(
    ("store", "is_fine"),
    [
        ("sqlite:///auth.db", True),
        ("redis://h", True),
        ("http://127.0.0.1:3000/api/auth", False),
        ("https://h/api/auth", False),
    ],
)
def test_the_gate_extends_sessions_that_it_can_write(store: str, is_fine: bool) -> None:
    text = BASE.replace("store: sqlite:///auth.db", f"store: {store}") + "session: {extend: gate}\n"
    if is_fine:
        assert load(text).session.extend == "gate"
    else:
        (found,) = problems_of(text)
        assert (found.path, found.message[:33]) == ("session.extend", "the app is asked for its sessions")


@pytest.mark.parametrize(
    ("store", "is_fine"),
    [
        ("postgresql://h/d", True),
        ("redis://h", False),
        ("https://h/api/auth", False),
        ("{url: 'sqlite:///a.db', secondary: 'redis://h'}", False),
    ],
)
def test_organizations_are_read_from_a_database(store: str, is_fine: bool) -> None:
    text = BASE.replace("store: sqlite:///auth.db", f"store: {store}")
    text += "protect: [{path: /a, require: {organizations: [acme]}}]\n"
    if is_fine:
        assert load(text).protect[0].require.organizations == ("acme",)
    else:
        (found,) = problems_of(text)
        assert found.path == "protect[0].require.organizations"
        assert found.message.startswith("memberships are read with sessions from a database")


@pytest.mark.parametrize(
    ("secret", "weak"),
    [
        (GOOD_SECRET, False),
        ("tiny", True),
        ("a" * 40, True),
        ("better-auth-secret-12345678901234567890", True),
        ("change-me-change-me-change-me-change-me", True),
        ("x" * 31, True),
        ("kJ8vQ2mX5tR9wZ3bN6yC1pL4fH7gD0s", True),
        ("kJ8vQ2mX5t" * 4, True),
        ("kJ8vQ2mX5tR9wZ3bN" * 2, True),
        ("aabbccddeeffgg" * 3, True),
        ("83610452970183659482016374529018", False),
        ("4b1d4e2b1f4d2a1b4e1f2d4a1b2e4f1d", False),
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
    assert found.path == "secrets[1].version"
    assert "version 1 is there already" in found.message
    assert "there is no secret" in problems_of(BASE.replace("secret: ${BETTER_AUTH_SECRET}", "secrets: []"))[0].message


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ("store: {url: sqlite:///a, pool: 0}", "store.pool"),
        ("upstreams: {a: {url: http://h, max_connections: 0}}", "upstreams.a.max_connections"),
        ("upstreams: {a: {url: http://h, connect_timeout: 0}}", "upstreams.a.connect_timeout"),
        ("upstreams: {a: {url: http://h, idle_timeout: 0s}}", "upstreams.a.idle_timeout"),
        ("limits: {connections: 0}", "limits.connections"),
        ("limits: {per_address: 0}", "limits.per_address"),
        ("timeouts: {headers: 0s}", "timeouts.headers"),
        ("timeouts: {keep_alive: 0s}", "timeouts.keep_alive"),
        ("timeouts: {body_idle: 0s}", "timeouts.body_idle"),
    ],
)
def test_numbers_that_leave_nothing(more: str, path: str) -> None:
    text = BASE.replace("store: sqlite:///auth.db\n", "") if more.startswith("store") else BASE
    assert [found.path for found in problems_of(text + more + "\n")] == [path]


def test_no_limit_and_no_time_to_drain() -> None:
    loaded = load(BASE + "limits: {connections: null, per_address: null}\ntimeouts: {drain: 0s, drain_delay: 0s}\n")
    assert (loaded.limits.connections, loaded.limits.per_address) == (None, None)
    assert (loaded.timeouts.drain, loaded.timeouts.drain_delay) == (0, 0)


def test_a_secret_that_is_no_text() -> None:
    with pytest.raises(ConfigError) as raised:
        load_text(BASE, source="c", base_dir=ROOT, environ={"BETTER_AUTH_SECRET": GOOD_SECRET + "\udc80"})
    assert [found.message for found in raised.value.problems] == ["the secret is not UTF-8 text"]


def test_a_rule_that_covers_sign_in_is_looked_for_beside_other_problems() -> None:
    found = problems_of(BASE + "protect: [/]\nlisten: x\nlog: {level: x}\n")
    assert [problem.path for problem in found] == ["protect[0].path", "listen", "log.level"]


@pytest.mark.parametrize(
    ("listen", "admin", "message"),
    [
        ("127.0.0.1:8080", "127.0.0.1:9091", None),
        ("127.0.0.1:8080", "'[::1]:8080'", None),
        ("0.0.0.0:8080", "'[::1]:8080'", None),
        ("'[::]:8080'", "'[::1]:8080'", "needs one of its own"),
        ("0.0.0.0:8080", "localhost:8080", "needs one of its own"),
        ("192.0.2.1:8080", "localhost:8080", None),
        ("127.0.0.1:8080", "127.0.0.2:8080", None),
        ("127.0.0.1:8080", "127.0.0.1:8080", "needs one of its own"),
        ("0.0.0.0:8080", "127.0.0.1:8080", "needs one of its own"),
        ("192.0.2.1:8080", "0.0.0.0:8080", "needs one of its own"),
        ("localhost:8080", "127.0.0.1:8080", "needs one of its own"),
        ("127.0.0.1:0", "127.0.0.1:0", None),
        ("127.0.0.1:8080", "unix:/run/admin.sock", None),
        ("127.0.0.1:8080", "null", None),
        ("127.0.0.1:8080", "'unix:'", "expected host:port"),
        ("127.0.0.1:8080", "9091", "expected host:port"),
        ("127.0.0.1:8080", "''", None),
        ("127.0.0.1:8080", "host", "expected host:port"),
    ],
)
def test_admin_listener(listen: str, admin: str, message: str | None) -> None:
    text = BASE + f"listen: {listen}\nadmin: {{listen: {admin}}}\n"
    if message is None:
        load(text)
    else:
        (found,) = problems_of(text)
        assert (found.path, found.line) == ("admin.listen", 5)
        assert message in found.message


def test_log_file_is_the_name_of_one() -> None:
    (found,) = problems_of(BASE + 'log: {file: "a\\0b"}\n')
    assert found.path == "log.file"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(("protect: [", "protect: [/api, "), "/api/auth/get-session is a protected path", id="protected"),
        pytest.param(
            ("protect: [", "protect: [{path: /API/auth, access: presence}, "), "is a protected path", id="presence"
        ),
        pytest.param(("sqlite:///auth.db", "http://127.0.0.1:3000/api/auth"), "this store asks the app's", id="http"),
        pytest.param(("protect: [", "public: [/api/auth]\nprotect: [/api, "), None, id="public-again"),
        pytest.param(("sqlite:///auth.db", "redis://127.0.0.1:6379"), None, id="redis"),
    ],
)
def test_get_session_needs_a_public_path_and_a_store_of_its_own(change: tuple[str, str], message: str | None) -> None:
    text = (BASE + "protect: [/dashboard]\n").replace(*change)
    load(text)
    if message is None:
        assert load(text + "session: {serve_get_session: true}\n").session.serve_get_session
        return
    (found,) = problems_of(text + "session: {serve_get_session: true}\n")
    assert found.path == "session.serve_get_session"
    assert message in found.message
