"""Checks that each module of `gatekeeper/core` is covered in full, branches too, by its own test file.

Two at a time; prints what is missing and exits 1 when anything is.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CORE = Path("gatekeeper/core")
NOT_RULES = {"__init__", "errors", "model"}
"""Modules of declarations alone: every test uses them."""


def uncovered(module: str) -> str | None:
    """What of this module its own tests leave out, or None."""
    test = Path("tests/core") / f"test_{module}.py"
    if not test.exists():
        return f"{module}: {test} is missing"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
        command += [
            f"--cov=gatekeeper.core.{module}",
            "--cov-branch",
            "--cov-report=term-missing",
            "--cov-fail-under=100",
        ]
        environ = {**os.environ, "COVERAGE_FILE": str(Path(folder) / "coverage")}
        done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)  # noqa: S603
    if done.returncode == 0:
        return None
    tail = "\n".join(done.stdout.splitlines()[-25:])
    return f"{module}: not covered in full by {test}\n{tail}"


def main() -> None:
    modules = sorted(path.stem for path in CORE.glob("*.py") if path.stem not in NOT_RULES)
    with ThreadPoolExecutor(max_workers=2) as pool:
        missing = [problem for problem in pool.map(uncovered, modules) if problem]
    for problem in missing:
        print(problem)
    print(f"core coverage: {len(modules) - len(missing)} of {len(modules)} modules in full by their own tests")
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()
