"""Longer turns on the processor for workers that share a core.

Linux gives each of several busy processes 1 to 3 ms before another one's turn.  A turn begins with a processor cache
full of the others' data: two workers on one core paid 5 to 26% of a request for that.  From Linux 6.12 on a process
may ask for longer turns (sched_setattr(2), `sched_runtime` of the usual policy); it is then picked later by as much, so
that nobody else's share of the core becomes smaller.
"""

import ctypes
import platform
import sys

TURN_MS = 10
"""How long a worker may keep a core that others want, in milliseconds.  The kernel takes 0.1 to 100."""

_SYSCALLS = {"x86_64": (315, 314), "aarch64": (275, 274)}
"""sched_getattr and sched_setattr, for which Python has no functions; by the names of `uname -m`."""

_USUAL_POLICIES = (0, 3)  # SCHED_OTHER, SCHED_BATCH: for others the field says something else


class _Attributes(ctypes.Structure):
    """`struct sched_attr` in its first version, which every kernel takes."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime_ns", ctypes.c_uint64),
        ("deadline_ns", ctypes.c_uint64),
        ("period_ns", ctypes.c_uint64),
    )


def ask_for_longer_turns() -> bool:
    """Ask for them, for this thread and those that it starts from now on; whether the kernel took it.

    All else that the scheduler was told of this thread stays as it is, its nice value above all, and a turn that is
    longer already.  Kernels before 6.12 take it and do nothing.  Nothing is asked where another policy than the usual
    ones is set, and on other systems.
    """
    numbers = _SYSCALLS.get(platform.machine()) if sys.platform == "linux" else None
    if numbers is None:
        return False
    get, set_ = numbers
    attributes = _Attributes()
    size = ctypes.sizeof(attributes)
    libc = ctypes.CDLL(None)
    if libc.syscall(get, 0, ctypes.byref(attributes), size, 0) != 0 or attributes.policy not in _USUAL_POLICIES:
        return False
    attributes.runtime_ns = max(attributes.runtime_ns, TURN_MS * 1_000_000)
    return bool(libc.syscall(set_, 0, ctypes.byref(attributes), 0) == 0)
