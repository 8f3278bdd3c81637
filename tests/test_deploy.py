"""What stands in deploy/ agrees with the image, with the configuration in it, and with itself."""

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from click.testing import CliRunner

from gatekeeper import __version__
from gatekeeper.cli import main
from gatekeeper.config.load import load_text
from gatekeeper.config.schema import Admin, Settings
from gatekeeper.demo.run import find_free_port
from gatekeeper.migrate_command import migrate_accounts
from gatekeeper.server.app import serve

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
SECRET = "kJ8vQ2mX5tR9wZ3bN6yC1pL4fH7gD0sA"
TAG = f"gatekeeper:{__version__}"
CONFIG = "/etc/gatekeeper/config.yaml"


def load(text: str, source: str) -> Settings:
    return load_text(text, source=source, base_dir=ROOT, environ={"BETTER_AUTH_SECRET": SECRET})


def dockerfile() -> dict[str, list[str]]:
    """The arguments of each instruction of the last stage."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _, arguments = line.partition(" ")
        if name == "FROM":
            found = {}
        if name.isupper():
            found.setdefault(name, []).append(" ".join(arguments.split()))
    return found


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return document


def kubernetes() -> dict[str, Any]:
    """The objects by their kind."""
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes/sidecar.yaml").read_text()))
    objects = {document["kind"]: document for document in documents}
    assert len(objects) == len(documents)
    return objects


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = kubernetes()["Deployment"]["spec"]["template"]["spec"]
    return spec


def container(name: str) -> dict[str, Any]:
    return next(found for found in pod()["containers"] if found["name"] == name)


def container_environ(name: str) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container(name)["env"]}


def kubernetes_config() -> str:
    text: str = kubernetes()["ConfigMap"]["data"]["config.yaml"]
    return text


def kubernetes_settings() -> Settings:
    return load(kubernetes_config(), "sidecar.yaml")


def admin_port() -> int:
    """The port of `admin.listen` in the ConfigMap, available yet or not."""
    listen: str = yaml.safe_load(kubernetes_config())["admin"]["listen"]
    assert listen.startswith("0.0.0.0:")
    return int(listen.rpartition(":")[2])


def compose_settings() -> Settings:
    return load((DEPLOY / "config.yaml").read_text(), "config.yaml")


def port_of(listen: str) -> int:
    return int(listen.rpartition(":")[2])


def longest_end(settings: Settings) -> float:
    """Seconds that a gate may take to end."""
    return settings.timeouts.drain_delay + settings.timeouts.drain


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.yaml")), ids=lambda path: path.relative_to(DEPLOY).as_posix())
def test_yaml_parses(path: Path) -> None:
    assert all(isinstance(document, dict) for document in yaml.safe_load_all(path.read_text()))


# The image


def test_image_is_labelled_with_the_version() -> None:
    assert dockerfile()["ARG"] == [f"VERSION={__version__}"]
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', dockerfile()["LABEL"][0]))
    assert labels.keys() == {"title", "description", "licenses", "version"}
    assert labels["version"] == "${VERSION}"
    assert f'"{labels["description"]}"' in (ROOT / "pyproject.toml").read_text()


def test_image_runs_what_the_commands_know() -> None:
    found = dockerfile()
    assert found["ENTRYPOINT"] == ['["gatekeeper"]']
    assert (found["USER"], found["STOPSIGNAL"]) == (["65532:65532"], ["SIGTERM"])
    assert found["EXPOSE"] == [str(port_of(compose_settings().listen))]
    health = json.loads(found["HEALTHCHECK"][0].partition("CMD ")[2])
    for words in (["gatekeeper", *json.loads(found["CMD"][0])], health):
        command = main.commands[words[1]]
        with command.make_context(words[1], words[2:], resilient_parsing=False) as context:
            assert context.params["config"] == Path(CONFIG)
    assert (words[0], words[1]) == ("gatekeeper", "health")


def test_everything_that_is_copied_reaches_the_build() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {name for line in copied for name in line.split()} == kept
    assert all((ROOT / name).exists() for name in kept)


# Compose


def test_compose_services_have_no_rights() -> None:
    for service in compose()["services"].values():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["tmpfs"] == ["/tmp"]
        assert "user" not in service
        assert service["image"] == TAG


def test_compose_app_is_reached_through_the_gate_only() -> None:
    document, settings = compose(), compose_settings()
    app, gate = document["services"]["app"], document["services"]["gate"]
    assert "ports" not in app
    assert app["networks"] == ["inside"]
    assert document["networks"]["inside"] == {"internal": True}
    assert set(gate["networks"]) == {"outside", "inside"}
    assert settings.upstream.url == f"http://app:{app['environment']['PORT']}"
    assert [port.split(":")[1] for port in gate["ports"]] == [str(port_of(settings.listen))]


def test_compose_mounts_what_the_gate_and_migrate_need() -> None:
    services, settings = compose()["services"], compose_settings()
    folder = str(Path(settings.store.url.removeprefix("sqlite:///")).parent)
    for name in ("gate", "migrate"):
        assert services[name]["volumes"] == [f"./config.yaml:{CONFIG}:ro", f"data:{folder}"]
    assert f"install -d -o 65532 -g 65532 {folder}" in (ROOT / "Dockerfile").read_text()
    script = services["app"]["entrypoint"][1]
    assert f"./sample-app:{Path(script).parent}:ro" in services["app"]["volumes"]
    assert (DEPLOY / "sample-app" / Path(script).name).is_file()


def test_compose_makes_the_tables_before_the_gate_starts() -> None:
    services = compose()["services"]
    name, *options = services["migrate"]["command"]
    with main.commands[name].make_context(name, options) as context:
        assert context.params["config"] == Path(CONFIG)
    assert services["migrate"]["restart"] == "no"
    assert services["gate"]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert compose_settings().accounts.enabled


def test_compose_asks_for_the_secret_and_has_none() -> None:
    services = compose()["services"]
    for name in ("gate", "migrate"):
        assert services[name]["environment"]["BETTER_AUTH_SECRET"].startswith("${BETTER_AUTH_SECRET:?")
    assert "BETTER_AUTH_SECRET" not in services["app"]["environment"]


def test_compose_gate_uses_the_image_s_health_check_and_may_drain() -> None:
    gate, settings = compose()["services"]["gate"], compose_settings()
    assert "healthcheck" not in gate
    assert settings.admin == Admin()
    assert int(gate["stop_grace_period"].removesuffix("s")) > longest_end(settings)


# Kubernetes


def test_kubernetes_ports_agree() -> None:
    objects, settings = kubernetes(), kubernetes_settings()
    ports = {port["name"]: port["containerPort"] for port in container("gatekeeper")["ports"]}
    assert ports == {"http": port_of(settings.listen), "admin": admin_port()}
    assert "ports" not in container("app")
    service = objects["Service"]["spec"]
    assert [port["targetPort"] for port in service["ports"]] == ["http"]
    allowed = [port["port"] for rule in objects["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]]
    assert allowed == [ports["http"]]


def test_kubernetes_selectors_find_the_pod() -> None:
    objects = kubernetes()
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert objects["NetworkPolicy"]["spec"]["policyTypes"] == ["Ingress"]


def test_kubernetes_probes_ask_the_admin_listener() -> None:
    gate = container("gatekeeper")
    assert gate["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}
    assert gate["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "admin"}
    assert kubernetes_settings().timeouts.drain_delay >= (
        gate["readinessProbe"]["periodSeconds"] * gate["readinessProbe"]["failureThreshold"]
    )


def test_kubernetes_app_listens_on_loopback_where_the_gate_looks() -> None:
    environ = container_environ("app")
    assert environ["HOST"] == "127.0.0.1"
    assert kubernetes_settings().upstream.url == f"http://127.0.0.1:{environ['PORT']}"
    assert kubernetes_settings().store.url == f"sqlite:///{environ['DATABASE']}"


def test_kubernetes_containers_have_no_rights() -> None:
    user, _, group = dockerfile()["USER"][0].partition(":")
    context = pod()["securityContext"]
    assert context["runAsNonRoot"] is True
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (int(user), int(group), int(group))
    assert pod()["automountServiceAccountToken"] is False
    for name in ("gatekeeper", "app"):
        strict = container(name)["securityContext"]
        assert (strict["allowPrivilegeEscalation"], strict["readOnlyRootFilesystem"]) == (False, True)
        assert strict["capabilities"] == {"drop": ["ALL"]}
    assert container("gatekeeper")["image"] == TAG


def test_kubernetes_mounts_and_secret_are_there() -> None:
    objects, gate = kubernetes(), container("gatekeeper")
    mounts = {mount["mountPath"]: mount for mount in gate["volumeMounts"]}
    database = Path(kubernetes_settings().store.url.removeprefix("sqlite:///"))
    assert mounts.keys() == {str(Path(CONFIG).parent), str(database.parent)}
    assert all(mount["readOnly"] for mount in mounts.values())
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    assert volumes[mounts["/etc/gatekeeper"]["name"]]["configMap"] == {"name": objects["ConfigMap"]["metadata"]["name"]}
    claim = objects["PersistentVolumeClaim"]["metadata"]["name"]
    assert volumes[mounts["/var/lib/gatekeeper"]["name"]]["persistentVolumeClaim"] == {"claimName": claim}
    for name in ("gatekeeper", "app"):
        assert {mount["name"] for mount in container(name)["volumeMounts"]} <= volumes.keys()
        secrets = [entry["valueFrom"] for entry in container(name)["env"] if entry["name"] == "BETTER_AUTH_SECRET"]
        assert secrets == [{"secretKeyRef": {"name": "better-auth", "key": "secret"}}]
    assert (
        "create secret generic better-auth --from-literal=secret=" in (DEPLOY / "kubernetes/sidecar.yaml").read_text()
    )


def test_kubernetes_gives_time_to_drain() -> None:
    settings, grace = kubernetes_settings(), pod()["terminationGracePeriodSeconds"]
    assert grace > longest_end(settings)
    assert "lifecycle" not in container("gatekeeper")
    assert settings.timeouts.drain_delay < container("app")["lifecycle"]["preStop"]["sleep"]["seconds"] < grace


# systemd


def unit() -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False, delimiters="=", comment_prefixes="#")
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names as they are written
    parser.read(DEPLOY / "gatekeeper.service")
    return parser["Service"]


def test_unit_checks_and_runs_the_same_configuration() -> None:
    for name, wanted in (("ExecStartPre", "check"), ("ExecStart", "run")):
        program, command, *options = shlex.split(unit()[name])
        assert (Path(program).name, command, options) == ("gatekeeper", wanted, ["-c", CONFIG])
        assert command in main.commands


def test_unit_gives_time_to_drain() -> None:
    assert int(unit()["TimeoutStopSec"]) > longest_end(compose_settings())


def test_unit_is_not_root_and_cannot_write() -> None:
    service = unit()
    assert service["User"] == "gatekeeper"
    assert service["CapabilityBoundingSet"] == ""
    assert (service["NoNewPrivileges"], service["ProtectSystem"]) == ("yes", "strict")
    assert not [name for name in service if name.startswith("ReadWrite")]


# The sample app


@pytest.fixture
def sample_app() -> Generator[int, None, None]:
    """The sample app as compose starts it, on a free port."""
    port = find_free_port("127.0.0.1", 0)
    environ = {
        **os.environ,
        **{"HOST": "127.0.0.1", "PORT": str(port), "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)},
    }
    command = [sys.executable, str(DEPLOY / "sample-app/app.py")]
    with subprocess.Popen(command, cwd=tempfile.gettempdir(), env=environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert b"Running on" in process.stdout.readline()
            yield port
        finally:
            process.terminate()
            process.communicate(timeout=20)
        assert process.returncode == 0


async def test_people_make_accounts_in_front_of_the_sample_app(sample_app: int, tmp_path: Path) -> None:
    text = (DEPLOY / "config.yaml").read_text()
    text = text.replace("0.0.0.0:8080", "127.0.0.1:0").replace("http://app:3000", f"http://127.0.0.1:{sample_app}")
    settings = load(text.replace("/var/lib/gatekeeper/auth.db", str(tmp_path / "auth.db")), "config.yaml")
    async for _ in migrate_accounts(settings):
        pass
    browser = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True), headers={"Accept": "text/html"})
    async with serve(settings) as gate, browser:
        home = gate.addresses[0]
        async with browser.get(f"{home}/dashboard", allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (307, "/sign-in?callbackUrl=%2Fdashboard")
        account = {"name": "Ada Lovelace", "email": "ada@example.com", "password": "correct horse battery"}
        async with browser.post(f"{home}/api/auth/sign-up/email", json=account, headers={"Origin": home}) as response:
            assert response.status == 200
        async with browser.get(f"{home}/dashboard") as response:
            assert (response.status, response.url.path) == (200, "/dashboard")
            assert "Ada Lovelace" in await response.text()


def test_check_accepts_the_compose_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BETTER_AUTH_SECRET", SECRET)
    result = CliRunner().invoke(main, ["check", "-c", str(DEPLOY / "config.yaml")])
    assert result.exit_code == 0, result.output
