"""`config.server_url`: what a URL of a database says, and what is wrong with others."""

import re
import ssl
from pathlib import Path

import pytest

from gatekeeper.config.server_url import KINDS, parse_server_url
from gatekeeper.core.errors import GatekeeperError
from tests.certificates import Authority

SECRET = "s3cr3t-mark"


def test_all_parts() -> None:
    url = parse_server_url("postgresql://ga%40te:p%2Fw%3A%25@db.internal:6543/the%20name?application_name=x+y&a=%26")
    assert (url.kind, url.host, url.port, url.database) == ("postgresql", "db.internal", 6543, "the name")
    assert (url.user, url.password) == ("ga@te", "p/w:%")
    assert url.query == {"application_name": "x+y", "a": "&"}
    assert (url.ssl_mode, url.ssl_root, url.timezone) == (None, None, "UTC")
    assert url.label == "postgresql://db.internal:6543/the name"


@pytest.mark.parametrize(("scheme", "kind"), list(KINDS.items()))
def test_schemes(scheme: str, kind: str) -> None:
    url = parse_server_url(f"{scheme}://h/d")
    assert (url.kind, url.user, url.password, url.port, url.label) == (kind, None, None, None, f"{scheme}://h/d")


def test_an_address_of_version_6() -> None:
    url = parse_server_url("mysql://[::1]:3306/d")
    assert (url.host, url.label) == ("::1", "mysql://[::1]:3306/d")


@pytest.mark.parametrize("url", ["postgresql://u@/d?host=/run/postgresql", "mysql://u@/d?unix_socket=/run/m.sock"])
def test_unix_sockets(url: str) -> None:
    assert parse_server_url(url).host is None


def test_nothing_that_is_shown_has_the_password() -> None:
    url = parse_server_url(f"postgresql://user:{SECRET}@h/d")
    assert SECRET not in f"{url!r} {url} {url.label}"


def test_how_certificates_are_judged(tmp_path: Path) -> None:
    root = Authority().write_certificate(tmp_path / "ca.pem")
    assert parse_server_url("mysql://h/d?sslmode=disable").ssl_context() is None
    for query, verify, names in (
        ("sslmode=require", ssl.CERT_NONE, False),
        ("sslmode=verify-ca", ssl.CERT_REQUIRED, False),
        ("sslmode=verify-full", ssl.CERT_REQUIRED, True),
        (f"sslmode=require&sslrootcert={root}", ssl.CERT_REQUIRED, False),
        (f"sslrootcert={root}", ssl.CERT_REQUIRED, True),
    ):
        context = parse_server_url(f"mysql://h/d?{query}").ssl_context()
        assert context is not None
        assert (context.verify_mode, context.check_hostname) == (verify, names)
    context = parse_server_url(f"mysql://h/d?sslrootcert={root}").ssl_context()
    assert context is not None
    assert len(context.get_ca_certs()) == 1, "no other authority than the given one"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"postgresql://u:{SECRET}@h", "expected the name of a database at the end: postgresql://user:password@host/"),
        (f"postgresql://u:{SECRET}@h/", "expected the name of a database"),
        (f"postgresql://u:{SECRET}@h/a/b", "expected the name of a database"),
        (f"postgresql://u:{SECRET}#x@h/a", "this is no URL: escape"),
        (f"postgresql://u:{SECRET}/x@h/a", "this is no URL: escape"),
        (f"postgresql://u:{SECRET}@h:port/a", "this is no URL: escape"),
        (f"postgresql://u:{SECRET}@h:99999/a", "this is no URL: escape"),
        (f"mysql://u:{SECRET}@[::1/a", "this is no URL: escape"),
        (f"mysql://u:{SECRET}@/a", "expected a host: mysql://user:password@host/name"),
        (f"mongodb://u:{SECRET}@h/a", "expected one of postgresql, postgres, mysql, mariadb"),
        (f"mysql://u:{SECRET}@h/a?timezone=Berlin", "timezone: expected a time zone, like Europe/Berlin"),
        (f"mysql://u:{SECRET}@h/a?timezone=../../etc/passwd", "timezone: expected a time zone"),
        (f"mysql://u:{SECRET}@h/a?timezone=", "timezone: expected a time zone"),
        (
            f"mysql://u:{SECRET}@h/a?sslmode=perhaps",
            "sslmode: expected one of disable, require, verify-ca, verify-full",
        ),
        (f"mysql://u:{SECRET}@h/a?sslrootcert=ca.pem", "sslrootcert: expected the absolute path of a file"),
        (f"mysql://u:{SECRET}@h/a?sslrootcert=/no/such/file", "sslrootcert: No such file or directory"),
        (f"mysql://u:{SECRET}@h/a?sslrootcert=/etc/passwd", "sslrootcert: "),
    ],
)
def test_what_is_wrong_is_said_without_the_password(url: str, message: str) -> None:
    with pytest.raises(GatekeeperError, match=re.escape(message)) as caught:
        parse_server_url(url)
    assert SECRET not in str(caught.value)
