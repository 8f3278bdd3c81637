"""Every configuration is taken by the program that it is for, where that is installed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bench import configs, nginx_configs
from bench.install import BIN, VENV
from bench.places import Places
from gatekeeper.config.load import load_file, load_text
from gatekeeper.config.snapshot import terms_of

ROOT = Path(__file__).parent.parent.parent


def found(name: str) -> str | None:
    inside = sorted(VENV.glob(f"lib/python*/site-packages/envoy/_bin/{name}"))
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    return str(inside[0]) if inside else shutil.which(name, path=path) or shutil.which(name, path=str(BIN))


def checks() -> list[object]:
    """The programs that are here, each with its way to check a file; the gate always is."""
    gate = [sys.executable, "-m", "gatekeeper", "check", "-c", "FILE"]
    known: dict[str, tuple[str, Callable[[Places], str], list[str]]] = {
        "nginx": ("nginx.conf", nginx_configs.proxy, ["-t", "-p", "FOLDER", "-c", "FILE", "-e", "stderr"]),
        "haproxy": ("haproxy.cfg", configs.haproxy, ["-c", "-f", "FILE"]),
        "envoy": ("envoy.json", configs.envoy, ["--mode", "validate", "-l", "error", "-c", "FILE"]),
        "caddy": ("Caddyfile", configs.caddy, ["validate", "--adapter", "caddyfile", "--config", "FILE"]),
    }
    params = [pytest.param("gatekeeper.yaml", lambda places: configs.gate(places)[0], gate, id="gatekeeper")]
    for name, (file, text, arguments) in known.items():
        program = found(name)
        if program:
            params.append(pytest.param(file, text, [program, *arguments], id=name))
    program = found("nginx")
    if program:
        arguments = [program, *known["nginx"][2]]
        params.append(
            pytest.param("app.conf", lambda p: nginx_configs.upstream(p.app, p.folder), arguments, id="nginx-as-app")
        )
    return params


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(port=18480, app=18481, echo=18482, admin=18483, folder=tmp_path, database=tmp_path / "auth.db")


@pytest.mark.parametrize(("file", "text", "command"), checks())
def test_the_program_takes_it(file: str, text: Callable[[Places], str], command: list[str], places: Places) -> None:
    path = places.folder / file
    path.write_text(text(places))
    given = [{"FILE": str(path), "FOLDER": str(places.folder)}.get(word, word) for word in command]
    environ = {**os.environ, "XDG_DATA_HOME": str(places.folder), "XDG_CONFIG_HOME": str(places.folder)}
    done = subprocess.run(given, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_gate_runs_with_its_defaults(places: Places) -> None:
    """But for what the machine decides; what this version does not take is named."""
    text, refused = configs.gate(places)
    path = places.folder / "gatekeeper.yaml"
    path.write_text(text)
    settings = load_file(path, {})
    assert settings.listen == "127.0.0.1:18480"
    assert settings.limits == type(settings.limits)(per_address=None)
    assert settings.session == type(settings.session)()
    assert settings.log.access
    assert set(refused) <= {"public_url", "admin", "log"}
    assert not set(refused) & set(yaml.safe_load(text))


def test_two_workers_are_all_that_the_second_gate_adds(places: Places) -> None:
    """Or it is named as refused, and then not measured."""
    one, two = (yaml.safe_load(configs.gate(places, workers)[0]) for workers in (1, 2))
    refused = configs.gate(places, workers=2)[1]
    assert two == (one if "workers" in refused else one | {"workers": 2})


def test_the_gate_signs_unless_it_is_the_one_that_does_not(places: Places) -> None:
    for signs in (True, False):
        text, refused = configs.gate(places, signs=signs)
        settings = load_text(text, source="test", base_dir=places.folder, environ={})
        assert refused == []
        assert (terms_of(settings) is not None) is signs
    one, other = (yaml.safe_load(configs.gate(places, signs=signs)[0]) for signs in (True, False))
    assert other == one | {"identity": {"assertion": {"enabled": False}}}


def test_traefik_has_a_service_for_each_router(places: Places) -> None:
    routes = yaml.safe_load(configs.traefik_routes(places))["http"]
    assert {router["service"] for router in routes["routers"].values()} == set(routes["services"])
    assert yaml.safe_load(configs.traefik_static(places))["entryPoints"]["public"]["address"] == "127.0.0.1:18480"
