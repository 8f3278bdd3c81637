"""What wrk is told, and what is believed of what it says."""

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from bench.session import cookie_of
from bench.workloads import WORKLOADS
from bench.wrk import LoadError, WrkResult, answers_of, judge, parse, run, script
from tests.server.upstreams import recording_upstream

OUTPUT = """\
Running 2s test @ http://127.0.0.1:8080/dashboard/page
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.00ms  100.00us   3.00ms   90.00%
  2000 requests in 2.00s, 2.34MB read
bench-result {"requests": 2000, "bytes": 2456000, "duration_us": 2000123, "broken": 0, "refused": 0}
"""
FINE = WrkResult(requests=2000, bytes=2_456_000, duration_us=2_000_123, broken=0, refused=0)


def test_result_line() -> None:
    assert parse(OUTPUT) == FINE


def test_output_without_result() -> None:
    with pytest.raises(LoadError):
        parse("unable to connect to 127.0.0.1:8080 Connection refused\n")


@pytest.mark.parametrize(
    ("workload", "result"),
    [
        pytest.param("verified", WrkResult(0, 0, 1, 0, 0), id="nothing-answered"),
        pytest.param("verified", WrkResult(10, 100, 1, 1, 0), id="a-connection-broke"),
        pytest.param("verified", WrkResult(10, 100, 1, 0, 1), id="an-error-among-the-answers"),
        pytest.param("denied", WrkResult(10, 100, 1, 0, 9), id="not-all-were-denied"),
    ],
)
def test_wrong_results_are_refused(workload: str, result: WrkResult) -> None:
    with pytest.raises(LoadError):
        judge(result, WORKLOADS[workload])


def test_right_results_are_believed() -> None:
    assert judge(FINE, WORKLOADS["verified"]) is FINE
    denied = WrkResult(10, 100, 1, 0, 10)
    assert judge(denied, WORKLOADS["denied"]) is denied


def test_answers_of_another_length_are_refused() -> None:
    assert answers_of(FINE, WORKLOADS["verified"], 1228) == 2000
    with pytest.raises(LoadError, match="1228 bytes on average instead of 1400"):
        answers_of(FINE, WORKLOADS["verified"], 1400)


def test_large_answers_are_counted_by_their_bytes() -> None:
    result = WrkResult(requests=9, bytes=10_500_000, duration_us=1, broken=0, refused=0)
    assert answers_of(result, WORKLOADS["down"], 1_050_000) == 10


def test_script_quotes_headers() -> None:
    text = script(WORKLOADS["post"], {"User-Agent": 'a "b" \\c'}, [])
    assert 'wrk.headers["User-Agent"] = "a \\"b\\" \\\\c"' in text
    assert 'wrk.method = "POST"' in text
    assert 'string.rep("x", 10240)' in text


def test_mixed_script_has_every_session() -> None:
    cookies = [cookie_of(number) for number in range(3)]
    text = script(WORKLOADS["mixed"], {"Cookie": cookies[0]}, cookies)
    assert all(text.count(cookie) >= 1 for cookie in cookies)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
async def test_no_two_varied_requests_are_alike(tmp_path: Path) -> None:
    workload, cookies = WORKLOADS["varied"], [cookie_of(number) for number in range(50)]
    lua = tmp_path / "varied.lua"
    lua.write_text(script(workload, {"Accept": "*/*", "Cookie": cookie_of(99)}, cookies))
    looked: list[bool] = []
    async with recording_upstream() as app:
        port = int(app.url.rpartition(":")[2])
        wrk = str(shutil.which("wrk"))
        await asyncio.to_thread(run, wrk, 0, port, workload, lua, 1, lambda: looked.append(True))
    asked = app.requests[:1000]
    assert len(asked) > 100
    assert len({request.target for request in asked}) == len(asked)
    assert len({request.values("Traceparent")[0] for request in asked}) == len(asked)
    assert {request.values("Cookie")[0] for request in asked} == set(cookies)
    assert all(re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", request.values("Traceparent")[0]) for request in asked)
    assert {tuple(request.values("Accept")) for request in asked} == {("*/*",)}
    assert looked == [True]
