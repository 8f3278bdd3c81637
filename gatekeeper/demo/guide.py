"""What the demo prints: where it is, who can sign in, and what to try."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

import msgspec

from gatekeeper.demo.people import PASSWORD, PEOPLE, ZOE


class Demo(msgspec.Struct, frozen=True):
    """A demo that serves: its URL, a cookie jar for curl with Ada's session, and the gate's configuration.

    `is_signed` says whether the app gets assertions.
    """

    address: str
    jar: Path
    config: Path
    is_signed: bool


class Paint(msgspec.Struct, frozen=True):
    """Terminal styles, or none of them."""

    enabled: bool

    def bold(self, text: str) -> str:
        return self._paint("1", text)

    def soft(self, text: str) -> str:
        return self._paint("2", text)

    def address(self, text: str) -> str:
        return self._paint("1;4;36", text)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.enabled else text


def wants_color(output: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether to style what is printed: on a capable terminal, unless NO_COLOR is set."""
    return output.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def guide(demo: Demo, paint: Paint) -> str:
    """What the demo prints: where it is, who can sign in, what to try, how to stop."""
    page = f"{demo.address}/dashboard"
    people = "\n".join(f"  {person.email:<18} {paint.soft(person.name)}" for person in PEOPLE)
    commands = "\n".join(f"  {paint.soft('# ' + what)}\n  curl {arguments}\n" for what, arguments in _tries(demo))
    return f"""
{paint.bold("gatekeeper demo")}

  {paint.address(demo.address)}

{paint.bold("Who can sign in")}

{people}
  Password: {paint.bold(PASSWORD)}

{paint.bold("In the browser")}

  Open {page}
  You are sent to sign in, and come back to the page you asked for. Or make an account of your own.
  Active sessions: {demo.address}/.gatekeeper/sessions

{paint.bold("On the command line")}

{commands}
{paint.bold("Behind it")}

  configuration  {demo.config}
  accounts       {demo.config.with_name("auth.db")} (SQLite, Better Auth's schema)
  Both are temporary and go when you stop.

Press Ctrl-C to stop.
"""


def _tries(demo: Demo) -> tuple[tuple[str, str], ...]:
    """What to try with curl: what it shows, and the arguments."""
    page, jar, other = f"{demo.address}/dashboard", demo.jar, demo.jar.with_name("zoe.cookies")
    forged = "-H 'X-Auth-User-Id: root' -H 'x_auth.user_id: root'"
    body = json.dumps({"email": ZOE.email, "password": PASSWORD}, separators=(",", ":"))
    sign_in = f"-c {other} -H 'Content-Type: application/json' -d '{body}' {demo.address}/api/auth/sign-in/email"
    signed = ", verified by the gate's signature" if demo.is_signed else ""
    return (
        ("Signed out, as a browser: a redirect to /sign-in", f"-i -H 'Accept: text/html' {page}"),
        ("Signed out, as a program: 401 as JSON", f"-i {page}"),
        (f"Signed in as Ada: the user{signed}, and every header that reached the app", f"-b {jar} {page}"),
        ("Ada claims to be root: the forged headers never arrive", f"-b {jar} {forged} {page}"),
        ("Who am I? The gate itself answers", f"-b {jar} {demo.address}/.gatekeeper/whoami"),
        ("Sign in as Zoë, by Better Auth's call", sign_in),
        ("Once Ada has signed out all other devices, under Active sessions: 401 within a second", f"-b {jar} {page}"),
    )
