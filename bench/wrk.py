"""wrk: as many requests as its connections can have answered, one after another on each."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bench.processes import pinned, stop
from bench.workloads import POST_BYTES, UPLOAD, Workload

_MARK = "bench-result "
_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('%s{"requests": %%d, "bytes": %%d, "duration_us": %%d, "broken": %%d, "refused": %%d}\\n',
    summary.requests, summary.bytes, summary.duration, e.connect + e.read + e.write + e.timeout, e.status))
end
""".replace("%s", _MARK, 1).replace("%%", "%")


class LoadError(Exception):
    """The load did not go as it should; the message says how."""


class WrkResult(msgspec.Struct, frozen=True):
    """What wrk counted: `bytes` received, `broken` connections and time-outs, `refused` statuses over 399."""

    requests: int
    bytes: int
    duration_us: int
    broken: int
    refused: int


def script(workload: Workload, headers: dict[str, str], sessions: list[str]) -> str:
    """The Lua script of a workload.

    `sessions` are Cookie headers: a mixed load uses them up, one after another; a varied one takes them in turn, and
    each of its requests has a path, a query and a Traceparent header that no other has.
    """
    lines = [f"wrk.method = {_lua(workload.method)}"]
    lines += [f"wrk.headers[{_lua(name)}] = {_lua(value)}" for name, value in headers.items()]
    if workload.sends:
        lines.append(f'wrk.body = string.rep("x", {workload.sends})')
    if workload.mixes:
        cookies = ", ".join(map(_lua, sessions))
        lines.append(_MIX % {"cookies": cookies, "upload": _lua(UPLOAD), "bytes": POST_BYTES})
    if workload.varies:
        lines.append(_VARIED % {"cookies": ", ".join(map(_lua, sessions)), "path": workload.path})
    return "\n".join(lines) + _DONE


def run(
    wrk: str,
    core: int,
    port: int,
    workload: Workload,
    lua: Path,
    seconds: int,
    midway: Callable[[], None] | None = None,
) -> WrkResult:
    """Load the proxy for so many seconds.  `midway` is called once in the middle of them.

    Raises LoadError when answers were other than they should be.
    """
    url = f"http://127.0.0.1:{port}{workload.path}"
    connections = ["-c", str(workload.connections)]
    command = [wrk, "-t", "1", *connections, "-d", f"{seconds}s", "--timeout", "10s", "-s", str(lua), url]
    process = subprocess.Popen(pinned(core, command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if midway is not None:
            time.sleep(seconds / 2)
            midway()
        output, errors = process.communicate(timeout=seconds + 60)
    finally:
        stop(process)
    if process.returncode != 0:
        raise LoadError(f"wrk failed: {(errors or output).strip()[-200:]}")
    return judge(parse(output), workload)


def parse(output: str) -> WrkResult:
    """The result in wrk's output.  Raises LoadError if there is none."""
    for line in output.splitlines():
        if line.startswith(_MARK):
            return msgspec.convert(json.loads(line.removeprefix(_MARK)), WrkResult)
    raise LoadError("wrk gave no result")


def judge(result: WrkResult, workload: Workload) -> WrkResult:
    """The result, if all answers have the status of the workload.  Raises LoadError."""
    expected = result.requests if min(workload.statuses) >= 400 else 0
    if result.requests == 0:
        raise LoadError("no request was answered")
    if result.broken:
        raise LoadError(f"{result.broken} connections broke")
    if result.refused != expected:
        raise LoadError(f"{result.refused} of {result.requests} answers had a status over 399")
    return result


def answers_of(result: WrkResult, workload: Workload, answer_bytes: int) -> float:
    """How many answers arrived.  Large ones are counted by bytes, since some are under way at the end.

    Raises LoadError where the answers are not as long as the one that was looked at before.
    """
    by_bytes = result.bytes / answer_bytes
    if workload.answers is not None and workload.answers > 100_000:
        return by_bytes
    if not workload.mixes and not 0.95 < by_bytes / result.requests < 1.05:
        mean = result.bytes / result.requests
        raise LoadError(f"answers had {mean:.0f} bytes on average instead of {answer_bytes}")
    return result.requests


def _lua(text: str) -> Any:
    return json.dumps(text)


_MIX = """
local cookies = {%(cookies)s}
local count, used = 0, 0
local usual, post, anew = nil, nil, {}
init = function(args)
  usual = wrk.format()
  post = wrk.format("POST", %(upload)s, nil, string.rep("x", %(bytes)d))
  local headers = {}
  for name, value in pairs(wrk.headers) do headers[name] = value end
  for i, cookie in ipairs(cookies) do
    headers["Cookie"] = cookie
    anew[i] = wrk.format(nil, nil, headers)
  end
end
request = function()
  count = count + 1
  if count %% 100 == 50 then
    used = used %% #anew + 1
    return anew[used]
  end
  if count %% 10 == 0 then return post end
  return usual
end
"""

_VARIED = """
local cookies = {%(cookies)s}
local count = 0
local tails = {}
init = function(args)
  local lines = {}
  for name, value in pairs(wrk.headers) do
    if name ~= "Cookie" then lines[#lines + 1] = name .. ": " .. value .. "\\r\\n" end
  end
  for i, cookie in ipairs(cookies) do
    tails[i] = " HTTP/1.1\\r\\n" .. table.concat(lines) .. "Cookie: " .. cookie .. "\\r\\nTraceparent: 00-"
  end
end
request = function()
  count = count + 1
  local odd = count * 2654435761 %% 4294967296
  return string.format("GET %(path)s/%%d?tab=%%x&page=%%d%%s%%08x%%08x%%08x%%08x-%%08x%%08x-01\\r\\n\\r\\n",
    count, odd, count %% 89, tails[count %% #tails + 1], odd, count, 7, odd, count, odd)
end
"""
