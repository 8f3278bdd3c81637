"""What `python -m bench` takes, and that an earlier run can be shown without measuring."""

from pathlib import Path

import pytest

from bench.__main__ import main
from bench.install import Tools, go_version, install
from bench.proxies import PEERS, QUICK
from bench.results import write_run
from bench.stand import find_version
from bench.workloads import WORKLOADS
from tests.bench.records import a_run


def test_an_earlier_run_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run.json", a_run())
    assert main(["--from", str(tmp_path / "run.json")]) == 0
    output = capsys.readouterr().out
    assert "× nginx" in output
    assert "Caddy: not measured" in output


def test_unknown_proxies_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--peers", "gate,apache"])
    assert "unknown: apache" in capsys.readouterr().err


def test_quick_ones_and_skipped_workloads_exist() -> None:
    assert set(QUICK) <= PEERS.keys()
    for peer in PEERS.values():
        assert peer.skips.keys() <= WORKLOADS.keys()


def test_what_cannot_be_had_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("bench.install.DEBIAN", ("no-such-program",))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    said: list[str] = []
    tools = install(["no-such-program"], said.append)
    assert tools == Tools({}, {"no-such-program": "not installed; as root on Debian: apt-get install no-such-program"})
    assert said == [f"no-such-program is missing: {tools.missing['no-such-program']}"]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("nginx version: nginx/1.22.1\n", "1.22.1"),
        ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/", "2.6.12"),
        ("/v/lib/python3.11/envoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE", "1.40.0"),
        ("Version:      3.7.15\nCodename:     langres", "3.7.15"),
        ("v2.11.7 h1:yj0Y4fYZGPkSvibBJ1sTWE33xC0fxztVyXEW5iIdUT4=", "2.11.7"),
        ("none", ""),
    ],
)
def test_version_in_what_a_program_says(text: str, version: str) -> None:
    assert find_version(text) == version


def test_go_is_pinned() -> None:
    assert find_version(go_version()) == go_version()
