"""The commands of `gatekeeper users`.  A password is asked for at a terminal, else read from standard input."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatekeeper.command_line import CONFIG, load, run_to_end, set_up_logging
from gatekeeper.config.schema import Settings

if TYPE_CHECKING:
    from gatekeeper.users_command import Done

_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_USER = click.argument("user", metavar="ID_OR_EMAIL")


@click.group()
def users() -> None:
    """Make, list and change the accounts that the gate keeps."""


@users.command("add")
@click.argument("email")
@CONFIG
@click.option("--name", help="The user's name; the part before the @ unless said.")
@click.option("--verified", is_flag=True, help="Count the e-mail address as verified.")
@_JSON
def add(email: str, config: Path, name: str | None, verified: bool, as_json: bool) -> None:
    """Make a user.  The password is asked for, or one line of standard input."""
    from gatekeeper import users_command
    from gatekeeper.server.documents import user_document

    settings = _settings(config)
    password = _read_password()
    called = email.partition("@")[0] if name is None else name
    user = run_to_end(users_command.add_user(settings, email, called, password, verified=verified, now_ms=_now_ms()))
    if as_json:
        click.echo(json.dumps({"user": user_document(user)}, indent=2))
    else:
        click.echo(f"{user.email} was added: {user.id}", err=True)


@users.command("list")
@CONFIG
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many at most.")
@_JSON
def list_users(config: Path, limit: int, as_json: bool) -> None:
    """List users, newest first.  Exit status 1 where there is none."""
    from gatekeeper import users_command

    found, has_more = run_to_end(users_command.list_users(_settings(config), limit))
    if as_json:
        click.echo(json.dumps(users_command.documents_of(found), indent=2))
    elif found:
        click.echo("\n".join(users_command.table_of(found)))
    else:
        click.echo("no users", err=True)
    if has_more:
        click.echo(f"these are the newest {limit}; --limit shows more", err=True)
    sys.exit(0 if found else 1)


@users.command("disable")
@_USER
@CONFIG
@click.option("--undo", is_flag=True, help="Let the user sign in again.")
@_JSON
def disable(user: str, config: Path, undo: bool, as_json: bool) -> None:
    """Keep a user from signing in, and end all sessions."""
    from gatekeeper import users_command

    change = users_command.enable_user if undo else users_command.disable_user
    done = run_to_end(change(_settings(config), user, _now_ms()))
    _tell(done, "is enabled" if undo else "is disabled", as_json)


@users.command("verify")
@_USER
@CONFIG
@_JSON
def verify(user: str, config: Path, as_json: bool) -> None:
    """Count a user's e-mail address as verified."""
    from gatekeeper import users_command

    _tell(run_to_end(users_command.verify_user(_settings(config), user, _now_ms())), "is verified", as_json)


@users.command("set-password")
@_USER
@CONFIG
@_JSON
def set_password(user: str, config: Path, as_json: bool) -> None:
    """Give a user another password, and end all sessions.  It is asked for, or one line of standard input."""
    from gatekeeper import users_command

    settings = _settings(config)
    password = _read_password()
    done = run_to_end(users_command.set_password(settings, user, password, _now_ms()))
    _tell(done, "has another password", as_json)


@users.command("reset-link")
@_USER
@CONFIG
@_JSON
def reset_link(user: str, config: Path, as_json: bool) -> None:
    """Print a link by which a user sets a new password, once, within an hour."""
    from gatekeeper import users_command
    from gatekeeper.stores.records import iso_text

    link = run_to_end(users_command.reset_link(_settings(config), user, _now_ms()))
    expires = iso_text(link.expires_at_ms)
    if as_json:
        click.echo(json.dumps({"email": link.user.email, "url": link.url, "expiresAt": expires}, indent=2))
    else:
        click.echo(link.url)
        click.echo(f"for {link.user.email}, once, until {expires}", err=True)


def _settings(config: Path) -> Settings:
    settings = load(config)
    set_up_logging("error")
    return settings


def _read_password() -> str:
    """What a person types, twice and unseen, or the first line of standard input."""
    if sys.stdin.isatty():
        typed: Any = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return str(typed)
    return sys.stdin.readline().rstrip("\r\n")


def _tell(done: "Done", what: str, as_json: bool) -> None:
    from gatekeeper.server.documents import user_document

    if as_json:
        click.echo(json.dumps({"user": user_document(done.user), "revoked": done.revoked, "hint": done.hint}, indent=2))
        return
    ended = f"; {done.revoked} session{'' if done.revoked == 1 else 's'} ended" if done.revoked else ""
    click.echo(f"{done.user.email} {what}{ended}", err=True)
    if done.hint is not None:
        click.echo(done.hint, err=True)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
