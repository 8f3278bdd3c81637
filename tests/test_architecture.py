"""The layout's rules, read from the source: who may import whom, who sees keys, what stays out of the core."""

import ast
import gc
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gatekeeper"

CORE_ORDER = (
    *(
        "errors",
        "callbacks",
        "negotiation",
        "model",
        "languages",
        "colours",
        "urls",
        "websocket",
        "routing",
        "cookies",
        "loop",
        "csrf",
        "session_data",
        "session_data_writing",
        "session_cookies",
        "email_tokens",
        "lifecycle",
        "credentials",
        "assertion_keys",
        "policy",
        "decide",
    ),
    *("forwarding", "identity", "assertion", "headers", "response_headers", "responses", "accounts", "attempts"),
)
RANKS = {
    "core": 0,
    "telemetry": 1,
    "integrations": 1,
    "config": 2,
    "stores": 3,
    "migrations": 3,
    "server": 4,
    "workers": 5,
    "demo": 6,
    "explain": 6,
    "health": 6,
    "sessions_command": 6,
    "users_command": 6,
    "migrate_command": 6,
    "users_cli": 6,
    "keys_command": 6,
    "keys_cli": 6,
    "command_line": 6,
    "cli": 6,
    "__main__": 6,
}
TOP = 6
"""The commands and what stands beside them: one another's package, as it were."""

KEY_MODULES = {
    *("core/cookies.py", "core/session_data.py", "core/session_data_writing.py", "core/assertion_keys.py"),
    *("integrations/assertion.py", "integrations/jwks.py"),
}
KEY_LIBRARIES = {"hmac", "itsdangerous", "jwt", "joserfc", "cryptography"}
IO_LIBRARIES = {
    *("asyncio", "socket", "os", "time", "logging", "pathlib", "random", "secrets", "threading", "subprocess"),
    *("aiohttp", "sqlalchemy", "uvloop", "yaml", "io", "shutil", "tempfile"),
}
CONNECTING_MODULES = {"server/upstream.py", "server/mail_connection.py", "health.py"}
BROAD_EXCEPT_ALLOWED = {
    *("server/proxy.py", "server/fastlane.py", "server/recheck.py", "stores/sql.py", "stores/feeds/feed.py"),
    *("workers/admin.py", "server/mail_thread.py"),
}


@pytest.fixture(autouse=True)
def _nothing_is_collected() -> Iterator[None]:
    """CPython 3.11 counts its recursion wrongly where a collection within `ast.parse` ends what other tests left."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def violations(source: str, name: str) -> list[str]:
    """What is wrong with a module of this name, relative to the package."""
    tree = ast.parse(source)
    found = [*_import_violations(tree, name), *_except_violations(tree, name)]
    if name.startswith("core/"):
        found += [f"{name}:{node.lineno} awaits" for node in ast.walk(tree) if isinstance(node, ast.Await)]
    return found


def imported(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and dotted name of everything that is imported."""
    names: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append((node.lineno, node.module))
            if node.module in ("gatekeeper", "gatekeeper.core"):
                names += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return names


def _import_violations(tree: ast.AST, name: str) -> list[str]:
    found: list[str] = []
    own = _part_of(name)
    for line, module in imported(tree):
        library = module.partition(".")[0]
        if library in KEY_LIBRARIES and name not in KEY_MODULES:
            found.append(f"{name}:{line} imports {library}, which only {sorted(KEY_MODULES)} may")
        if name.startswith("core/") and library in IO_LIBRARIES:
            found.append(f"{name}:{line} imports {library} into the core")
        if library != "gatekeeper" or module == "gatekeeper":
            continue
        theirs = module.split(".")[1]
        is_beside = theirs == own or RANKS.get(theirs) == RANKS[own] == TOP
        if not is_beside and theirs in RANKS and RANKS[theirs] >= RANKS[own]:
            found.append(f"{name}:{line} imports {module}, which is not of a lower rank")
        if own == "core" and theirs == "core" and module.count(".") == 2:
            here, there = name.removeprefix("core/").removesuffix(".py"), module.split(".")[2]
            if here != "__init__" and CORE_ORDER.index(there) >= CORE_ORDER.index(here):
                found.append(f"{name}:{line} imports {there}, which comes after {here}")
    return found


def _except_violations(tree: ast.AST, name: str) -> list[str]:
    broad = ("Exception", "BaseException")
    found: list[str] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = {part.id for part in ast.walk(node.type) if isinstance(part, ast.Name)} if node.type else set(broad)
        reraises = any(isinstance(part, ast.Raise) and part.exc is None for part in ast.walk(node))
        if caught & set(broad) and name not in BROAD_EXCEPT_ALLOWED and not reraises:
            found.append(f"{name}:{node.lineno} catches everything")
    return found


def _part_of(name: str) -> str:
    return name.partition("/")[0].removesuffix(".py")


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).as_posix() != "__init__.py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_module_keeps_the_rules(path: Path) -> None:
    assert violations(path.read_text(), path.relative_to(PACKAGE).as_posix()) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        pytest.param("core/urls.py", "from gatekeeper.server.gate import Gate", id="core-imports-server"),
        pytest.param("core/urls.py", "from gatekeeper.core.decide import decide", id="core-out-of-order"),
        pytest.param("core/urls.py", "import time", id="core-reads-a-clock"),
        pytest.param("core/urls.py", "async def f():\n    await g()", id="core-awaits"),
        pytest.param("stores/cache.py", "import hmac", id="store-sees-keys"),
        pytest.param("stores/cache.py", "from gatekeeper.server import gate", id="store-imports-server"),
        pytest.param("stores/cache.py", "try:\n    pass\nexcept Exception:\n    pass", id="catches-everything"),
        pytest.param("stores/cache.py", "try:\n    pass\nexcept:\n    pass", id="catches-all-and-sundry"),
    ],
)
def test_the_rules_can_be_broken(name: str, source: str) -> None:
    assert violations(source, name) != []


def test_only_named_modules_open_connections() -> None:
    opening = ("create_connection", "open_connection", "create_unix_connection")
    for path in modules():
        name = path.relative_to(PACKAGE).as_posix()
        calls = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        if calls & set(opening):
            assert name in CONNECTING_MODULES


def test_every_module_says_what_it_is() -> None:
    for path in [PACKAGE / "__init__.py", *modules()]:
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_nothing_of_a_machine_stands_in_the_project() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    forbidden = [
        "/" + "work/",
        "../" + "shared",
        "/" + "root/",
        "registry." + "npmjs",
        "pypi." + "org",
        "python" + "hosted",
    ]
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if not path.is_file() or path.suffix in (".png", ".db"):
            continue
        text = path.read_text(encoding="utf-8")
        assert not [word for word in forbidden if word in text], name
