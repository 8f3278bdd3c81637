"""What can befall a database: another process holds it, its disk is full, nobody may write, it goes away."""

import asyncio
import ctypes
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")

_HOLDER = """\
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""
_OVERRIDE = 1 << 1  # CAP_DAC_OVERRIDE: what lets root write where nobody may
_VERSION = 0x20080522  # of the kernel's interface, see capget(2)


@asynccontextmanager
async def held_by_another_process(path: Path) -> AsyncIterator[None]:
    """The file is locked for the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", _HOLDER, str(path)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"held\n"
        yield
    finally:
        await process.communicate(b"")  # its input ends, and so does it


@contextmanager
def nobody_above_the_law() -> Iterator[None]:
    """This thread, and those that it starts in the block, obey the modes of files, root's as well."""
    effective, permitted, inheritable = before = _capabilities()
    _set_capabilities(effective & ~_OVERRIDE, permitted, inheritable)
    try:
        yield
    finally:
        _set_capabilities(*before)


async def until(ask: Callable[[], Awaitable[_T]], wanted: _T) -> None:
    """Ask until this is the answer; the gate's own patience bounds it."""
    while await ask() != wanted:
        pass


def _capabilities() -> tuple[int, int, int]:
    """Effective, permitted and inheritable ones of this thread, the first 32 of each."""
    data = (ctypes.c_uint32 * 6)()
    _call("capget", data)
    return data[0], data[1], data[2]


def _set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    data = (ctypes.c_uint32 * 6)()
    _call("capget", data)
    data[0], data[1], data[2] = effective, permitted, inheritable
    _call("capset", data)


def _call(name: str, data: "ctypes.Array[ctypes.c_uint32]") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)((ctypes.c_uint32 * 2)(_VERSION, 0), data) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
