"""`config.redis_url`: what a Redis URL says, and that no message says the password."""

import pytest

from gatekeeper.config.redis_url import RedisAddress, parse_redis_url
from gatekeeper.core.errors import GatekeeperError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        pytest.param("redis://h", RedisAddress("redis://h:6379/0", host="h"), id="host"),
        pytest.param("redis://h/", RedisAddress("redis://h:6379/0", host="h"), id="no-database"),
        pytest.param(
            "redis://10.0.0.1:7000/5", RedisAddress("redis://10.0.0.1:7000/5", "10.0.0.1", 7000, database=5), id="all"
        ),
        pytest.param("redis://[::1]:1/0", RedisAddress("redis://[::1]:1/0", "::1", 1), id="ipv6"),
        pytest.param(
            "redis://gate:p%40ss%2Fword@h",
            RedisAddress("redis://h:6379/0", "h", username="gate", password="p@ss/word"),
            id="user-and-escaped-password",
        ),
        pytest.param("redis://:pw@h", RedisAddress("redis://h:6379/0", "h", password="pw"), id="password-alone"),
        pytest.param("redis://:a%2Bb+c@h", RedisAddress("redis://h:6379/0", "h", password="a+b+c"), id="plus-stays"),
        pytest.param("redis://h?prefix=", RedisAddress("redis://h:6379/0", "h", prefix=""), id="no-prefix"),
        pytest.param(
            "redis://h/1?prefix=a%3Ab:", RedisAddress("redis://h:6379/1", "h", database=1, prefix="a:b:"), id="prefix"
        ),
        pytest.param(
            "rediss://h?ssl_ca_certs=/etc/ca.pem&prefix=x",
            RedisAddress("rediss://h:6379/0", "h", tls=True, ca_file="/etc/ca.pem", prefix="x"),
            id="tls",
        ),
        pytest.param(
            "unix:///run/redis.sock", RedisAddress("unix:///run/redis.sock", socket="/run/redis.sock"), id="socket"
        ),
        pytest.param(
            "unix://u:pw@/run/a%20b?db=3&prefix=",
            RedisAddress("unix:///run/a b?db=3", socket="/run/a b", database=3, username="u", password="pw", prefix=""),
            id="socket-with-all",
        ),
    ],
)
def test_what_a_url_says(url: str, address: RedisAddress) -> None:
    assert parse_redis_url(url) == address


def test_keys_begin_as_better_auth_has_them() -> None:
    assert parse_redis_url("redis://h").prefix == "better-auth:"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param("http://h", "it does not begin with redis://, rediss:// or unix://", id="scheme"),
        pytest.param("redis:///0", "it names no host", id="no-host"),
        pytest.param("redis://:hunter2@/0", "it names no host", id="password-without-host"),
        pytest.param("redis://h/zero", "its database is no number", id="database"),
        pytest.param("redis://h/-1", "its database is no number", id="negative-database"),
        pytest.param("redis://h/٣", "its database is no number", id="other-digits"),
        pytest.param("redis://h:port", "its port is no number", id="port"),
        pytest.param("redis://h:70000", "its port is no number", id="large-port"),
        pytest.param("redis://:hunter/2@h", "its port is no number", id="slash-in-a-password"),
        pytest.param("redis://u:1/hunter2@h", "its database is no number", id="slash-after-digits"),
        pytest.param("redis://:hunter#2@h", "its port is no number", id="hash-in-a-password"),
        pytest.param("redis://h?#", "it has a '#'", id="empty-fragment"),
        pytest.param("redis://:1?hunter2@h", "has prefix, each once", id="question-mark-in-a-password"),
        pytest.param("redis://hunter2@h", "its user has no password", id="user-alone"),
        pytest.param("redis://h?ssl_ca_certs=x", "after '?' a redis:// URL has prefix, each once", id="tls-option"),
        pytest.param("rediss://h?hunter2", "has prefix and ssl_ca_certs, each once", id="unknown-option"),
        pytest.param("redis://h?prefix=a&prefix=b", "has prefix, each once", id="twice"),
        pytest.param("unix://run/redis.sock", "with three slashes", id="socket-with-two-slashes"),
        pytest.param("unix://", "with three slashes", id="no-socket"),
        pytest.param("unix:///run/s?db=x", "its database is no number", id="socket-database"),
    ],
)
def test_what_is_not_understood_is_said_without_quoting_it(url: str, message: str) -> None:
    with pytest.raises(GatekeeperError) as caught:
        parse_redis_url(url)
    assert message in str(caught.value)
    assert "hunter" not in str(caught.value)
