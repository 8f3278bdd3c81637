"""From samples to microseconds: what perf prints, and which function a signal found."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from bench.install import Tools
from bench.places import Places
from bench.profile import LOOP, Profile, by_function, by_module, call_of, module_of, parse_perf, place_of
from bench.profile import _launch as launch
from bench.sampler import Sampled, Sampler

PERF = """\
\tffffffff82082f97 tcp_tso_segs ([kernel.kallsyms])
\tffffffff82087a47 tcp_write_xmit ([kernel.kallsyms])
\tffffffff816d6bc3 ksys_write ([kernel.kallsyms])
\tffffffff8225a6c1 do_syscall_64 ([kernel.kallsyms])
\tffffffff81000130 entry_SYSCALL_64_after_hwframe ([kernel.kallsyms])
\t           f838f __GI___libc_write (/usr/lib/x86_64-linux-gnu/libc.so.6)

\t          1bba6e super_init (with blanks) (/usr/lib/libpython3.11.so.1.0)
\t    7f40d69a92c0 [unknown] ([unknown])

\tffffffff81600000 handle_mm_fault ([kernel.kallsyms])
\tffffffff82260286 asm_exc_page_fault ([kernel.kallsyms])
\t            7ec1 malloc (/usr/lib/x86_64-linux-gnu/libc.so.6)

\t           6deb2 on_headers_complete (/v/site-packages/aiohttp/_http_parser.cpython-311-x86_64-linux-gnu.so)

"""


def test_samples_of_perf_are_counted_by_their_innermost_frame() -> None:
    places, calls = parse_perf(PERF)
    assert places == {"kernel": 2, "the interpreter": 1, "aiohttp's parser": 1}
    assert calls == {"write": 1, "page faults": 1}


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("/usr/bin/python3.11", "the interpreter"),
        ("/opt/lib/libpython3.11.so.1.0", "the interpreter"),
        ("/v/site-packages/uvloop/loop.cpython-311-x86_64-linux-gnu.so", "uvloop"),
        ("/v/site-packages/multidict/_multidict.cpython-311-x86_64-linux-gnu.so", "aiohttp's other C code"),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", "the C library"),
        ("/usr/lib/x86_64-linux-gnu/libc-2.31.so", "the C library"),
        ("/usr/lib/x86_64-linux-gnu/libcrypto.so.3", "hashes"),
        ("/usr/lib/x86_64-linux-gnu/libsqlite3.so.0", "others"),
        ("[vdso]", "the clock"),
        ("[unknown]", "others"),
    ],
)
def test_libraries_have_names(file: str, place: str) -> None:
    assert place_of(file) == place


@pytest.mark.parametrize(
    ("symbols", "call"),
    [
        (["tcp_recvmsg", "__sys_recvfrom", "do_syscall_64"], "recvfrom"),
        (["ep_poll", "__x64_sys_epoll_pwait", "do_syscall_64"], "epoll_pwait"),
        (["tcp_sendmsg", "__arm64_sys_sendto", "invoke_syscall"], "sendto"),
        (["do_syscall_64", "entry_SYSCALL_64_after_hwframe"], "others"),
        (["tick", "asm_sysvec_apic_timer_interrupt", "__x64_sys_read", "do_syscall_64"], "interrupts"),
        (["schedule"], "others"),
    ],
)
def test_what_the_kernel_was_asked_for(symbols: list[str], call: str) -> None:
    assert call_of(symbols) == call


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("/srv/gatekeeper/gatekeeper/server/proxy.py", "server.proxy"),
        ("/v/lib/python3.11/site-packages/aiohttp/web_protocol.py", "aiohttp"),
        ("/usr/lib/python3.11/asyncio/runners.py", LOOP),
        ("/v/lib/python3.11/site-packages/uvloop/__init__.py", LOOP),
        ("/usr/lib/python3.11/json/encoder.py", "standard library"),
    ],
)
def test_modules_of_files(file: str, module: str) -> None:
    assert module_of(file) == module


def test_functions_and_modules_add_up() -> None:
    proxy, loop = "/x/gatekeeper/server/proxy.py", "/usr/lib/python3.11/asyncio/runners.py"
    sampled = [Sampled(proxy, "run", 5), Sampled(proxy, "stop", 2), Sampled(loop, "Runner.run", 3)]
    assert by_module(sampled) == {"server.proxy": 7, LOOP: 3}
    assert by_function(sampled) == {"`server.proxy: run`": 5, "`server.proxy: stop`": 2, LOOP: 3}


def test_shares_become_microseconds_and_the_rest_is_put_together() -> None:
    profile = Profile(200.0, {"a": 5, "b": 70, "c": 20, "d": 5})
    assert profile.rows() == [
        ["b", "140.0", "70.0%"],
        ["c", "40.0", "20.0%"],
        ["a", "10.0", "5.0%"],
        ["d", "10.0", "5.0%"],
        ["all", "200.0", "100.0%"],
    ]
    assert profile.rows(2) == [*profile.rows()[:2], ["2 more", "20.0", "10.0%"], ["all", "200.0", "100.0%"]]


@pytest.fixture
def sampler(tmp_path: Path) -> Iterator[Sampler]:
    sampler = Sampler(tmp_path / "samples.json")
    before = signal.signal(signal.SIGPROF, sampler.sample)
    yield sampler
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


def works() -> None:
    signal.raise_signal(signal.SIGPROF)


def test_a_signal_counts_for_the_function_that_it_finds(sampler: Sampler) -> None:
    works()
    works()
    assert [(found.function, found.samples) for found in sampler.results()] == [("works", 2)]
    assert os.path.samefile(sampler.results()[0].file, __file__)


def test_what_was_used_until_a_function_begins_is_its_callers(sampler: Sampler) -> None:
    found: dict[str, CodeType] = {}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code is called.__code__:
            found.setdefault(event, sampler.running_in(frame))
        return trace

    def called() -> int:
        return 1

    def calls() -> int:
        return called()

    before = sys.gettrace()
    sys.settrace(trace)
    calls()
    sys.settrace(before)
    assert found["call"] is calls.__code__
    assert found["line"] is called.__code__


def test_samples_are_written_when_it_is_switched_off(sampler: Sampler, tmp_path: Path) -> None:
    sampler.toggle(0, None)
    assert not (tmp_path / "samples.json").exists()
    works()
    sampler.toggle(0, None)
    assert b'"function":"works"' in (tmp_path / "samples.json").read_bytes()
    assert sampler.results() == []
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_the_sampler_is_put_before_the_same_command(tmp_path: Path) -> None:
    command = launch(Tools({}, {}), Places(1, 2, 3, 4, tmp_path, tmp_path / "auth.db")).command
    config = str(tmp_path / "gatekeeper.yaml")
    assert command[1:] == ["-m", "bench.sampler", str(tmp_path / "samples.json"), "run", "-c", config]
