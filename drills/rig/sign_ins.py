"""Accounts of a gate in accounts mode: their table, sign-up and sign-in, and what answers set."""

import asyncio
import itertools
import json
import re
import sys
import tempfile
from pathlib import Path

from rig.client import Answer, ask_once, request
from rig.gate import CONFIG, SECRET

BASE = "/api/auth"
PASSWORD = "a right password"  # noqa: S105 - of accounts that live as long as a drill

_SET_COOKIE = re.compile(rb"\r\nset-cookie: *([^=;\r]+)=([^;\r]*)", re.IGNORECASE)
_numbers = itertools.count(1)


def new_address() -> str:
    """An address that no request has come from yet, as a trusted proxy tells it."""
    number = next(_numbers)
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def account_call(name: str, address: str, document: object, cookies: str = "") -> bytes:
    """A POST of this call from this address, with this value of `Cookie`."""
    lines = [f"X-Forwarded-For: {address}", "Origin: http://drill", "Content-Type: application/json"]
    lines += [f"Cookie: {cookies}"] if cookies else []
    return request("POST", f"{BASE}/{name}", *lines, body=json.dumps(document).encode())


def sign_in(email: str, password: str, address: str, cookies: str = "") -> bytes:
    return account_call("sign-in/email", address, {"email": email, "password": password}, cookies)


async def sign_up(port: int, email: str) -> dict[str, str]:
    """Make an account; the cookies that a browser then has.  Raises RuntimeError where it is not made."""
    document = {"name": "Ada", "email": email, "password": PASSWORD}
    answer = await ask_once(port, account_call("sign-up/email", new_address(), document))
    if answer.status != 200:
        raise RuntimeError(f"sign-up was answered {answer.status} {answer.body[:200]!r}")
    return cookies_of(answer)


def cookies_of(answer: Answer) -> dict[str, str]:
    """The cookies that this answer sets, by name."""
    return {name.decode(): value.decode() for name, value in _SET_COOKIE.findall(answer.head)}


async def migrate(store: str, more: str) -> None:
    """Make the tables of accounts in the store at this URL.  Raises RuntimeError where that fails."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(CONFIG.format(port=8080, upstream=3000, secret=SECRET, store=store) + more)
        command = [sys.executable, "-m", "gatekeeper", "migrate", "-c", str(config)]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
        output, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"`gatekeeper migrate` ended with {process.returncode}: {output.decode()}")
