"""Scripts of pages, with the npm packages of tests/real in them."""

import asyncio
import os
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parent.parent / "real" / "node_modules"
ESBUILD = PACKAGES / ".bin" / "esbuild"


def needs_packages() -> None:
    """Skip the test where they are not installed."""
    if not ESBUILD.exists():
        pytest.skip("the npm packages of tests/real are missing: run `make test`, with Node.js and npm at hand")


async def bundle(source: Path, folder: Path) -> bytes:
    """One script made of this file and all that it imports, React as it is while one develops: it warns of more."""
    needs_packages()
    made = folder / f"{source.stem}.js"
    process = await asyncio.create_subprocess_exec(
        *(ESBUILD, source, f"--outfile={made}", "--bundle", "--jsx=automatic"),
        *('--define:process.env.NODE_ENV="development"', "--log-level=warning"),
        env={**os.environ, "NODE_PATH": str(PACKAGES)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert (process.returncode, said.decode()) == (0, "")
    return made.read_bytes()
