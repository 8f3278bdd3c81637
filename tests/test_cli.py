"""The commands as a person calls them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from gatekeeper.cli import main
from tests.better_auth_db import add_session, add_user, create_database
from tests.server.gates import COOKIE, SECRET, cookie_value

FIVE_MISTAKES = """\
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
FINE = f"""\
listen: 127.0.0.1:0
admin: {{listen: null}}
upstream: http://127.0.0.1:9
secret: {SECRET}
store: sqlite:///auth.db
protect: [/dashboard, {{path: /admin, require: {{roles: [admin], email_domains: [example.test]}}, methods: [GET]}}]
public: [/dashboard/help]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(FINE)
    database = tmp_path / "auth.db"
    create_database(database)
    now = time.time_ns() // 1_000_000
    add_user(database, id="ada")
    add_session(database, user_id="ada", token="t" * 32, expires_at_ms=now + 60_000, created_at_ms=now)
    return path


def call(*arguments: str, stdin: str = "") -> tuple[int, str]:
    handler = signal.getsignal(signal.SIGTERM)
    try:
        result = CliRunner().invoke(main, arguments, input=stdin)
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def address_of(process: subprocess.Popen[str]) -> str:
    """Where a gate that was just started listens, as its log says."""
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(r"listening on (http://127\.0\.0\.1:\d+) ", json.loads(line).get("message", ""))
        if found is not None:
            return found[1]
    raise AssertionError("it ended without listening")


def test_check_lists_every_mistake_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BETTER_AUTH_SECRET", "kJ8vQ2mX5tR9wZ3bN6yC1pL4fH7gD0sA")
    path = tmp_path / "bad.yaml"
    path.write_text(FIVE_MISTAKES)
    code, output = call("check", "-c", str(path))
    assert code == 1
    places = re.findall(r"bad\.yaml:(\d+):(\d+): ([^:]+): ", output)
    assert places == [
        ("1", "1", "upstrem"),
        ("5", "15", "session.update_age"),
        ("8", "20", "protect[1].acces"),
        ("9", "5", "protect[2].path"),
        ("10", "10", "default"),
    ]
    assert "did you mean upstream?" in output
    assert "5 problems" in output


def test_check_as_json(tmp_path: Path, config: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(FIVE_MISTAKES.replace("${BETTER_AUTH_SECRET}", "x"))
    code, output = call("check", "--json", "-c", str(bad))
    problems = json.loads(output)["problems"]
    assert (code, json.loads(output)["ok"], problems[0]["line"]) == (1, False, 1)
    code, output = call("check", "--json", "-c", str(config))
    assert (code, json.loads(output)) == (0, {"ok": True, "problems": []})


def test_check_of_a_fine_and_of_a_missing_file(config: Path, tmp_path: Path) -> None:
    code, output = call("check", "-c", str(config))
    assert (code, "is fine: 3 rules" in output) == (0, True)
    code, output = call("check", "-c", str(tmp_path / "none.yaml"))
    assert (code, "cannot read it: No such file" in output) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        pytest.param(["GET", "/dashboard/x"], ["rule      protect /dashboard", "sign in: 307", "NO_COOKIE"], id="page"),
        pytest.param(["GET", "/dashboard", "--header", "Accept: */*"], ["refused: 401"], id="program"),
        pytest.param(["GET", "/dashboard/help"], ["public /dashboard/help", "allowed as anonymous"], id="public"),
        pytest.param(["GET", "/x"], ["none: the default holds", "allowed as anonymous", "PUBLIC"], id="default"),
        pytest.param(["GET", "/a\\b"], ["refused: 400", "BAD_TARGET"], id="malformed"),
        pytest.param(["GET", "/.gatekeeper/whoami"], ["the gate's own path"], id="own"),
        pytest.param(["GET", "/admin"], ["roles admin and e-mail domain example.test", "methods   GET"], id="all"),
        pytest.param(["GET", "http://other.test/DASHBOARD;x"], ["/dashboard (by rules", "307"], id="absolute"),
        pytest.param(["GET", "/x%2fdashboard"], ["or as     /x/dashboard", "ENCODED_SLASH"], id="encoded-slash"),
    ],
)
def test_explain(config: Path, arguments: list[str], lines: list[str]) -> None:
    code, output = call("explain", *arguments, "-c", str(config))
    assert code == 0
    for line in lines:
        assert line in output


def test_explain_with_a_cookie_looks_the_session_up(config: Path) -> None:
    header = f"{COOKIE}={cookie_value('t' * 32)}"
    code, output = call("explain", "GET", "/dashboard", "--cookie", "-", "-c", str(config), stdin=header)
    assert code == 0
    assert "signed with the current secret" in output
    assert "allowed as authenticated" in output
    assert "X-Auth-User-Id: ada" in output
    assert "t" * 32 not in output
    code, output = call("explain", "GET", "/admin", "--cookie", "-", "--json", "-c", str(config), stdin=header)
    assert json.loads(output)["reason"].startswith("ROLE_REQUIRED")


def test_explain_names_the_assertion_and_makes_no_keys(config: Path) -> None:
    config.write_text(config.read_text() + "public_url: http://127.0.0.1:8080/\nidentity: {headers: remote-user}\n")
    header = f"{COOKIE}={cookie_value('t' * 32)}"
    code, output = call("explain", "GET", "/dashboard", "--cookie", "-", "-c", str(config), stdin=header)
    assert code == 0
    assert "X-Auth-Assertion: signed for http://127.0.0.1:8080, 120 s" in output
    assert "Remote-User: ada" in output
    assert "X-Auth-User-Id" not in output
    assert not config.with_name("gatekeeper-keys").exists()


def test_explain_never_takes_a_cookie_as_an_argument(config: Path) -> None:
    code, output = call("explain", "GET", "/x", "--cookie", "secret", "-c", str(config))
    assert (code, "standard input" in output) == (2, True)
    code, output = call("explain", "GET", "/x", "--header", "Cookie: a=b", "-c", str(config))
    assert (code, "standard input" in output) == (2, True)
    code, output = call("explain", "GET", "/x", "--header", "nonsense", "-c", str(config))
    assert code == 2


def test_schema_is_json() -> None:
    code, output = call("schema")
    assert code == 0
    assert "upstream" in json.loads(output)["properties"]


def test_run_with_a_bad_configuration_starts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(FIVE_MISTAKES.replace("${BETTER_AUTH_SECRET}", "x"))
    code, output = call("run", "-c", str(path))
    assert code == 1
    assert "nothing was started" in output


def test_run_serves_until_it_is_told_to_stop(config: Path) -> None:
    command = [sys.executable, "-m", "gatekeeper", "run", "-c", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        url = address_of(process)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{url}/dashboard", timeout=20)  # noqa: S310 - loopback
        assert refused.value.code == 401
        refused.value.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_run_may_be_told_to_stop_while_it_starts(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    os.mkfifo(path)
    command = [sys.executable, "-m", "gatekeeper", "run", "-c", str(path)]
    with subprocess.Popen(command) as process, path.open("w"):  # opens once the gate reads it, and holds it there
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_run_on_a_taken_port_says_so(config: Path) -> None:
    command = [sys.executable, "-m", "gatekeeper", "run", "-c", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        config.write_text(FINE.replace("127.0.0.1:0", address_of(process).removeprefix("http://")))
        second = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert second.returncode == 1
    assert "cannot listen on" in second.stderr
    assert "Traceback" not in second.stderr


def test_run_writes_its_log_to_the_file(config: Path) -> None:
    config.write_text(FINE + "log: {file: gate.log, format: human}\ntimeouts: {drain_delay: 0s}\n")
    log = config.with_name("gate.log")
    os.mkfifo(log)  # a file that can be waited for
    command = [sys.executable, "-m", "gatekeeper", "run", "-c", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process, log.open() as reader:
        text = ""
        while "listening on" not in text:
            text += reader.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        text += reader.read()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    warnings = ("migrate --feed", "public_url")
    lines = [line for line in text.splitlines() if not any(part in line for part in warnings)]
    began, listening, stopping, ended = lines
    assert "SIGTERM: finishing what is in flight" in stopping
    assert re.match(r"[0-9:.]+Z AUDIT +started listen=\['http://127\.0\.0\.1:[0-9]+'\]", began)
    assert re.match(r"[0-9:.]+Z INFO +listening on http", listening)
    assert re.match(r"[0-9:.]+Z AUDIT +drain_started$", ended)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("log: {file: none/gate.log}\n", "cannot write the log to .*none/gate.log (setting log.file): No such file"),
        ("admin: {listen: 'unix:/dev/null/x'}\n", "cannot listen on unix:/dev/null/x (setting admin.listen): "),
    ],
)
def test_run_says_what_it_cannot_have(config: Path, more: str, message: str) -> None:
    config.write_text((FINE.replace("admin: {listen: null}\n", "") if "admin" in more else FINE) + more)
    command = [sys.executable, "-m", "gatekeeper", "run", "-c", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert re.search(message.replace("(", r"\(").replace(")", r"\)"), done.stderr)
    assert "Traceback" not in done.stderr
