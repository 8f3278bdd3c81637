"""`gatekeeper keys` as a person calls it, on a real folder."""

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from gatekeeper.cli import main
from gatekeeper.config.key_folder import NAME, KeyFolder
from gatekeeper.core.assertion_keys import MIN_ROTATION_MS
from gatekeeper.core.errors import GatekeeperError
from gatekeeper.keys_command import folder_of
from tests.config.loading import BASE, load
from tests.server.gates import SECRET
from tests.test_cli import FINE

CREATED_MS = 1_700_000_000_000
CHANCE = "kJ8vR2mQzX5tW9nB4hL7cF3yD6gP1sZa0uEi"
SIGNING = FINE.replace(SECRET, CHANCE) + "public_url: https://app.example.com\n"


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(SIGNING)
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    return KeyFolder(tmp_path / "gatekeeper-keys")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def current(folder: KeyFolder) -> str:
    ring = folder.read()
    assert ring is not None
    return ring.current.kid


def test_the_first_keys(config: str, folder: KeyFolder) -> None:
    result = call("keys", "rotate", "-c", config)
    assert result.exit_code == 0, result.output
    ring = folder.read()
    assert ring is not None
    assert result.stderr == f"{ring.current.kid} signs from now on; {ring.next.kid} is next\n"
    assert result.stdout == ""


def test_a_rotation(config: str, folder: KeyFolder) -> None:
    first = folder.open("ES256", CREATED_MS)
    result = call("keys", "rotate", "-c", config, "--json")
    assert result.exit_code == 0, result.output
    keys = json.loads(result.stdout)["keys"]
    assert [key["state"] for key in keys] == ["previous", "current", "next"]
    assert [key["kid"] for key in keys[:2]] == [first.current.kid, first.next.kid]
    assert keys[0]["created"] == "2023-11-14T22:13:20.000Z"


def test_too_soon(config: str, folder: KeyFolder) -> None:
    call("keys", "rotate", "-c", config)
    ring = folder.read()
    result = call("keys", "rotate", "-c", config)
    assert result.exit_code == 1
    assert "wait" in result.stderr
    assert "--force" in result.stderr
    assert ring is not None
    assert current(folder) == ring.current.kid
    assert call("keys", "rotate", "-c", config, "--force").exit_code == 0
    assert current(folder) == ring.next.kid


def test_no_private_key_is_printed(config: str, folder: KeyFolder) -> None:
    call("keys", "rotate", "-c", config)
    secret = (folder.path / NAME).read_text().split("-----")[2].strip("\\n")[:40]
    for arguments in (
        ("list",),
        ("list", "--json"),
        ("check",),
        ("rotate", "--force"),
        ("rotate", "--force", "--json"),
    ):
        output = call("keys", *arguments, "-c", config).output
        assert "PRIVATE" not in output
        assert secret not in output


def test_listing(config: str, folder: KeyFolder) -> None:
    ring = folder.open("ES256", CREATED_MS)
    result = call("keys", "list", "-c", config)
    assert result.exit_code == 0
    heading, current, following = result.stdout.splitlines()
    assert heading.split() == ["state", "kid", "algorithm", "created"]
    assert current.split() == ["current", ring.current.kid, "ES256", "2023-11-14T22:13:20.000Z"]
    assert following.split()[:2] == ["next", ring.next.kid]
    document = json.loads(call("keys", "list", "-c", config, "--json").stdout)
    assert document["may_rotate_from"] == "2023-11-14T22:18:30.000Z"
    assert [key["kid"] for key in document["keys"]] == [ring.current.kid, ring.next.kid]


def test_nothing_to_list(config: str, folder: KeyFolder) -> None:
    result = call("keys", "list", "-c", config)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "no keys\n")
    result = call("keys", "list", "-c", config, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (1, {"keys": []})
    assert not folder.path.exists()


def checked(config: str) -> list[str]:
    """The problems, for people and for programs alike."""
    told, document = call("keys", "check", "-c", config), call("keys", "check", "-c", config, "--json")
    found = json.loads(document.stdout)
    assert told.exit_code == document.exit_code == (0 if found["ok"] else 1)
    assert told.stderr.splitlines() == found["problems"]
    return list(found["problems"])


def test_all_is_well(config: str, folder: KeyFolder) -> None:
    folder.open("ES256", CREATED_MS)
    assert checked(config) == []
    assert call("keys", "check", "-c", config).stdout == f"the keys in {folder.path} are fine\n"


def test_no_keys_yet(config: str, folder: KeyFolder) -> None:
    (problem,) = checked(config)
    assert problem == f"{folder.path}: there are no keys; a gate makes them when it starts"


def test_keys_for_everybody(config: str, folder: KeyFolder) -> None:
    folder.open("ES256", CREATED_MS)
    (folder.path / NAME).chmod(0o644)
    (problem,) = checked(config)
    assert "others can get at it" in problem
    for command in ("list", "rotate"):
        result = call("keys", command, "-c", config)
        assert result.exit_code == 1
        assert "others can get at it" in result.stderr


@pytest.mark.parametrize(
    ("more", "says"),
    [
        pytest.param("identity: {assertion: {enabled: false}}\n", "identity turns them off", id="off"),
        pytest.param("identity: {assertion: {algorithm: EdDSA}}\n", "ES256 signs, not EdDSA: rotate twice", id="other"),
    ],
)
def test_what_the_settings_say_otherwise(config: str, folder: KeyFolder, more: str, says: str) -> None:
    folder.open("ES256", CREATED_MS)
    Path(config).write_text(SIGNING + more)
    (problem,) = checked(config)
    assert says in problem


def test_one_rotation_is_left(config: str, folder: KeyFolder) -> None:
    folder.open("ES256", CREATED_MS)
    folder.rotate("EdDSA", CREATED_MS + MIN_ROTATION_MS)
    Path(config).write_text(SIGNING + "identity: {assertion: {algorithm: EdDSA}}\n")
    assert checked(config) == ["ES256 signs, not EdDSA: rotate once more"]


def test_without_public_url(config: str) -> None:
    Path(config).write_text(SIGNING.replace("public_url", "# public_url"))
    assert checked(config) == ["no assertions are sent: public_url is not set"]


def test_a_folder_is_needed() -> None:
    loaded = load(BASE)
    replace = msgspec.structs.replace
    assertion = replace(loaded.identity.assertion, keys=None)
    with pytest.raises(GatekeeperError, match="names no folder"):
        folder_of(replace(loaded, identity=replace(loaded.identity, assertion=assertion)))
