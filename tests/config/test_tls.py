"""Certificates in settings: each way that a file cannot be used is a problem at the setting that names it."""

import ssl
from pathlib import Path

import pytest

from gatekeeper.config.schema import Tls, UpstreamTls
from gatekeeper.config.tls import listener_context, upstream_context
from tests.certificates import Authority
from tests.config.loading import BASE, load, problems_of

HTTPS = BASE.replace("upstream: http://127.0.0.1:3000", "upstream: {url: https://app.test, tls: TLS}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of certificates: `ca.crt`, `a.crt` with `a.key`, `b.crt` with `b.key`, and files that are none."""
    authority = Authority()
    authority.write_certificate(tmp_path / "ca.crt")
    for name in "ab":
        authority.issue(f"{name}.test").write(tmp_path / f"{name}.crt", tmp_path / f"{name}.key")
    authority.issue("c.test").write(tmp_path / "c.crt", tmp_path / "locked.key", password=b"a password")
    both = (tmp_path / "a.crt").read_bytes() + (tmp_path / "a.key").read_bytes()
    (tmp_path / "both.pem").write_bytes(both)
    (tmp_path / "no.pem").write_text("nothing of the kind\n")
    return tmp_path


def test_files_are_relative_to_the_configuration(folder: Path) -> None:
    loaded = load(
        HTTPS.replace("TLS", "{ca: ca.crt, cert: a.crt, key: a.key}") + "tls: {cert: b.crt, key: b.key}\n", folder
    )
    assert loaded.tls == Tls(str(folder / "b.crt"), str(folder / "b.key"))
    assert loaded.upstream.tls == UpstreamTls(*(str(folder / name) for name in ("ca.crt", "a.crt", "a.key")))
    named = load(BASE + "upstreams: {x: {url: https://h, tls: {ca: ca.crt}}}\n", folder).upstreams["x"]
    assert named.tls == UpstreamTls(str(folder / "ca.crt"))


@pytest.mark.parametrize(
    ("tls", "path", "message"),
    [
        ("{cert: none.crt, key: a.key}", "tls.cert", "cannot read {folder}/none.crt: No such file or directory"),
        ("{cert: a.crt, key: none.key}", "tls.key", "cannot read {folder}/none.key: No such file or directory"),
        ("{cert: a.crt, key: .}", "tls.key", "cannot read {folder}: Is a directory"),
        ("{cert: a.crt, key: b.key}", "tls.cert", "cannot use {folder}/a.crt with its key: KEY_VALUES_MISMATCH"),
        ("{cert: no.pem, key: a.key}", "tls.cert", "cannot use {folder}/no.pem with its key: no PEM certificate"),
        ("{cert: c.crt, key: locked.key}", "tls.cert", "cannot use {folder}/c.crt with its key: "),
    ],
)
def test_listener_certificates(folder: Path, tls: str, path: str, message: str) -> None:
    (found,) = problems_of(BASE + f"tls: {tls}\n", folder)
    assert (found.path, found.line) == (path, 4)
    assert found.message.startswith(message.format(folder=folder))


@pytest.mark.parametrize(
    ("tls", "path", "message"),
    [
        ("{ca: none.crt}", "upstream.tls.ca", "cannot use {folder}/none.crt: No such file or directory"),
        ("{ca: no.pem}", "upstream.tls.ca", "cannot use {folder}/no.pem: NO_CERTIFICATE_OR_CRL_FOUND"),
        ("{key: a.key}", "upstream.tls.key", "a key without its certificate: set cert, too"),
        ("{cert: a.crt}", "upstream.tls.cert", "cannot use {folder}/a.crt with its key: "),
        ("{cert: a.crt, key: b.key}", "upstream.tls.cert", "cannot use {folder}/a.crt with its key: KEY_VALUES_MISM"),
    ],
)
def test_upstream_certificates(folder: Path, tls: str, path: str, message: str) -> None:
    (found,) = problems_of(HTTPS.replace("TLS", tls), folder)
    assert (found.path, found.line) == (path, 1)
    assert found.message.startswith(message.format(folder=folder))


@pytest.mark.parametrize("url", ["http://app.test", "unix:/run/app.sock"])
def test_certificates_are_for_https_upstreams(folder: Path, url: str) -> None:
    (found,) = problems_of(HTTPS.replace("TLS", "{ca: ca.crt}").replace("https://app.test", url), folder)
    assert (found.path, found.message) == ("upstream.tls", "certificates are for an https:// upstream")


def test_a_key_may_stand_in_its_certificates_file(folder: Path) -> None:
    assert load(HTTPS.replace("TLS", "{cert: both.pem}"), folder).upstream.tls == UpstreamTls(
        cert=str(folder / "both.pem")
    )


def test_what_the_contexts_insist_on(folder: Path) -> None:
    ours = listener_context(Tls(str(folder / "a.crt"), str(folder / "a.key")))
    assert ours.minimum_version is ssl.TLSVersion.TLSv1_2
    assert ours.verify_mode is ssl.CERT_NONE
    theirs = upstream_context(None)
    assert theirs.minimum_version is ssl.TLSVersion.TLSv1_2
    assert theirs.verify_mode is ssl.CERT_REQUIRED
    assert theirs.check_hostname
