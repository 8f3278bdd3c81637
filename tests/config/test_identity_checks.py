"""What is wrong with `identity`, and what its settings become."""

import os
from pathlib import Path

import pytest

from gatekeeper.config.key_folder import NAME, KeyFolder
from gatekeeper.config.schema import Settings
from gatekeeper.config.snapshot import OWN_PATHS, POMERIUM_JWKS, Snapshot, compile_settings
from gatekeeper.core.assertion import Terms
from tests.config.loading import BASE, load, problems_of

PUBLIC = "public_url: https://App.example.com:443/\n"


def assertion(text: str) -> str:
    return f"{BASE}{PUBLIC}identity: {{assertion: {{{text}}}}}\n"


def snapshot(text: str) -> Snapshot:
    return compile_settings(load(BASE + text))


@pytest.mark.parametrize(
    ("identity", "name", "says"),
    [
        pytest.param(
            "rename: {X-Auth-Emial: X-Mail}", "X-Auth-Emial", "did you mean X-Auth-Email?", id="misspelled"
        ),
        pytest.param("rename: {Foo: X-Mail}", "Foo", "there are X-Auth-Status, X-Auth-User-Id", id="unknown"),
        pytest.param(
            "headers: remote-user, rename: {X-Auth-Email: X-Mail}", "X-Auth-Email", "with headers: remote-user",
            id="of-another-preset",
        ),
        pytest.param("rename: {X-Auth-Status: ''}", "X-Auth-Status", "always sent", id="the-status-left-out"),
        pytest.param("rename: {X-Auth-Email: Cookie}", "X-Auth-Email", "means something else", id="means-something"),
        pytest.param("rename: {X-Auth-Email: 'X Mail'}", "X-Auth-Email", "means something else", id="no-token"),
        pytest.param("rename: {X-Auth-Email: X-Forwarded-For}", "X-Auth-Email", "means something", id="of-proxies"),
        pytest.param("rename: {X-Auth-Email: X_Auth-Name}", "X-Auth-Email", "two headers", id="another-one-of-ours"),
        pytest.param("rename: {X-Auth-Email: x-auth-assertion}", "X-Auth-Email", "two headers", id="the-assertion"),
    ],
)  # fmt: skip
def test_names_that_are_no_use(identity: str, name: str, says: str) -> None:
    (found,) = problems_of(f"{BASE}identity: {{{identity}}}\n")
    assert found.path == f"identity.rename.{name}"
    assert says in found.message


def test_one_header_under_two_spellings() -> None:
    found = problems_of(BASE + "identity: {rename: {X-Auth-Email: X-A, x-auth-email: X-B}}\n")
    assert [problem.message for problem in found] == ["this header is there twice"] * 2


def test_two_headers_with_one_name() -> None:
    found = problems_of(BASE + "identity: {rename: {X-Auth-Email: X-Who, X-Auth-Name: x_who}}\n")
    assert [problem.path for problem in found] == ["identity.rename.X-Auth-Email", "identity.rename.X-Auth-Name"]


def test_headers_may_change_names_and_several_may_be_left_out() -> None:
    swap = "identity: {rename: {X-Auth-Email: X-Auth-Name, X-Auth-Name: X-Auth-Email, X-Auth-Roles: '', X-Auth-Session-Id: ''}}\n"  # noqa: E501
    names = snapshot(swap).names
    assert (names.email, names.name, names.roles, names.session_id) == ("X-Auth-Name", "X-Auth-Email", "", "")


@pytest.mark.parametrize(
    ("ttl", "fits"), [("9s", False), ("10s", True), ("5m", True), ("301s", False), ("0s", False), ("1d", False)]
)
def test_how_long_an_assertion_may_be_valid(ttl: str, fits: bool) -> None:
    if fits:
        load(assertion(f"ttl: {ttl}"))
    else:
        (found,) = problems_of(assertion(f"ttl: {ttl}"))
        assert found.path == "identity.assertion.ttl"
        assert "10 seconds at least" in found.message


# --- the folder of keys --------------------------------------------------------------------------------------------


def keys_of(settings: Settings) -> str | None:
    return settings.identity.assertion.keys


def test_the_folder_is_beside_the_configuration(tmp_path: Path) -> None:
    assert keys_of(load(BASE, tmp_path)) == f"{tmp_path}/gatekeeper-keys"
    assert keys_of(load(assertion("keys: here/it/is"), tmp_path)) == f"{tmp_path}/here/it/is"
    assert keys_of(load(assertion("keys: /srv/keys"), tmp_path)) == "/srv/keys"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_named_must_be_writable_or_have_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    KeyFolder(tmp_path / "with").open("ES256", 1)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    load(assertion("keys: with"), tmp_path)
    (found,) = problems_of(assertion("keys: without"), tmp_path)
    assert (found.path, found.line) == ("identity.assertion.keys", 5)
    assert "none can be made" in found.message


def test_a_folder_that_is_named_must_be_safe(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    folder.open("ES256", 1)
    load(assertion("keys: keys"), tmp_path)
    (folder.path / NAME).chmod(0o640)
    (found,) = problems_of(assertion("keys: keys"), tmp_path)
    assert "others can get at it, mode 0640; set it to 0600" in found.message


def test_a_folder_that_is_not_named_need_not_be(tmp_path: Path) -> None:
    assert keys_of(load(BASE, Path("/proc"))) == "/proc/gatekeeper-keys"


# --- what follows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        pytest.param(PUBLIC, Terms("https://app.example.com", 120), id="as-shipped"),
        pytest.param(PUBLIC + "identity: {assertion: {ttl: 90s}}\n", Terms("https://app.example.com", 90), id="ttl"),
        pytest.param("", None, id="without-public-url"),
        pytest.param(PUBLIC + "identity: {assertion: {enabled: false}}\n", None, id="off"),
        pytest.param(PUBLIC + "identity: {rename: {X-Auth-Assertion: ''}}\n", None, id="left-out"),
    ],
)
def test_when_assertions_are_made(text: str, terms: Terms | None) -> None:
    assert snapshot(text).terms == terms


def test_own_paths_and_names_follow_the_preset() -> None:
    assert snapshot("").own_paths == OWN_PATHS
    assert snapshot("").own_names is None
    pomerium = snapshot("identity: {headers: pomerium}\n")
    assert pomerium.own_paths == (*OWN_PATHS, POMERIUM_JWKS)
    assert pomerium.own_names is not None
    assert "x-pomerium-claim-email" in pomerium.own_names.reserved
