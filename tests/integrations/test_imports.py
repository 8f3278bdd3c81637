"""What an app has to install: PyJWT, cryptography, and its own framework."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

BLOCKADE = """
import sys

ALLOWED = {"gatekeeper", "jwt", "cryptography", "cffi", "_cffi_backend", "pycparser", *sys.stdlib_module_names}

class OnlyThese:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in ALLOWED:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)

sys.meta_path.insert(0, OnlyThese())
"""
"""Nothing can be imported but these."""

LOOK = """
import sys
__import__(sys.argv[1])
print(*sorted({".".join(name.split(".")[:2]) for name in sys.modules}))
"""
"""What there is once a module is imported: packages, the gate's own by their parts."""

HEAVY = {"aiohttp", "sqlalchemy", "redis", "asyncpg", "asyncmy", "msgspec", "yaml", "uvloop", "click", "jinja2"}


def run(script: str, module: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, module]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("name", ["", ".asgi", ".wsgi"])
def test_nothing_is_needed_beside_pyjwt(name: str) -> None:
    done = run(BLOCKADE + LOOK, "gatekeeper.integrations" + name)
    assert done.returncode == 0, done.stderr


def test_the_blockade_holds() -> None:
    done = run(BLOCKADE + LOOK, "gatekeeper.core.urls")
    assert "msgspec is not installed" in done.stderr


@pytest.mark.parametrize("name", ["asgi", "wsgi", "aiohttp", "fastapi", "django"])
def test_nothing_of_the_gate_is_imported_beside_its_core(name: str) -> None:
    done = run(LOOK, f"gatekeeper.integrations.{name}")
    assert done.returncode == 0, done.stderr
    modules = done.stdout.split()
    ours = {module.partition(".")[2] for module in modules if module.startswith("gatekeeper.")}
    assert ours == {"core", "integrations"}
    assert {module.partition(".")[0] for module in modules} & (HEAVY - {name}) == set()
