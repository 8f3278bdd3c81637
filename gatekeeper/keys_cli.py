"""The commands of `gatekeeper keys`.  No private key is ever printed."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from gatekeeper.command_line import CONFIG, fail, load, set_up_logging
from gatekeeper.config.key_folder import TooSoon
from gatekeeper.config.schema import Settings
from gatekeeper.core.errors import GatekeeperError

_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_Result = TypeVar("_Result")


@click.group()
def keys() -> None:
    """Rotate, list and check the keys that sign assertions."""


@keys.command("rotate")
@CONFIG
@click.option("--force", is_flag=True, help="Do it even if apps may not know the next key yet, and refuse requests.")
@_JSON
def rotate(config: Path, force: bool, as_json: bool) -> None:
    """Let the next key sign from now on, and publish a new one.  Running gates notice within a second."""
    from gatekeeper import keys_command

    settings = _settings(config)
    ring = _result(lambda: keys_command.rotate_keys(settings, time.time_ns() // 1_000_000, force=force))
    if as_json:
        click.echo(json.dumps(keys_command.documents_of(ring), indent=2))
    else:
        click.echo(f"{ring.current.kid} signs from now on; {ring.next.kid} is next", err=True)


@keys.command("list")
@CONFIG
@_JSON
def list_keys(config: Path, as_json: bool) -> None:
    """List the keys, without their private halves.  Exit status 1 where there are none."""
    from gatekeeper import keys_command

    settings = _settings(config)
    ring = _result(lambda: keys_command.read_keys(settings))
    if ring is None:
        click.echo('{"keys": []}' if as_json else "no keys", err=not as_json)
    elif as_json:
        click.echo(json.dumps(keys_command.documents_of(ring), indent=2))
    else:
        click.echo("\n".join(keys_command.table_of(ring)))
    sys.exit(0 if ring is not None else 1)


@keys.command("check")
@CONFIG
@_JSON
def check(config: Path, as_json: bool) -> None:
    """Check that there are keys which apps can rely on.  Exit status 0 when all is well, else 1."""
    from gatekeeper import keys_command

    settings = _settings(config)
    problems = _result(lambda: keys_command.problems_of(settings))
    if as_json:
        click.echo(json.dumps({"ok": not problems, "problems": problems}))
    elif problems:
        click.echo("\n".join(problems), err=True)
    else:
        click.secho(f"the keys in {keys_command.folder_of(settings).path} are fine", fg="green")
    sys.exit(1 if problems else 0)


def _settings(config: Path) -> Settings:
    settings = load(config)
    set_up_logging("error")
    return settings


def _result(work: Callable[[], _Result]) -> _Result:
    """What this gives.  Ends the program with the message of a GatekeeperError."""
    try:
        return work()
    except TooSoon as error:
        fail(f"{error}; --force does it now, and apps that remember the published keys may refuse requests")
    except GatekeeperError as error:
        fail(str(error))
